//! `outboxd status`: asks the daemon's control socket how each source is doing.

use std::io::Write;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Exit, Failure, load, table};
use crate::admin::{self, Report};
use crate::logic::status::SourceStatus;

/// Arguments of `status`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  outboxd status --json | jq '.sources[] | .source'")]
pub struct Args {
    /// Print JSON instead of a table.
    #[arg(long)]
    pub json: bool,
}

pub(super) async fn execute(file: &Path, args: Args) -> Result<(), Failure> {
    let config = load(file)?;
    let report = admin::status(&config.admin.socket).await;
    let report = report.map_err(|error| Failure::new(Exit::Unreachable, error))?;
    let mut out = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &report).map_err(std::io::Error::from)?;
        writeln!(out)?;
        return Ok(());
    }
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    write!(out, "{}", render(&report, since.as_secs_f64()))?;
    Ok(())
}

fn render(report: &Report, now_seconds: f64) -> String {
    let draining = if report.draining { ", draining" } else { "" };
    let mut text = format!(
        "{}  outboxd {}{draining}\n\n",
        report.instance, report.version
    );
    let head = [
        "SOURCE",
        "PHASE",
        "LEADER",
        "LAG",
        "BACKLOG",
        "EVENTS/S",
        "DEAD",
        "CIRCUIT",
        "LAST ERROR",
    ];
    let rows = report.sources.iter().map(|source| row(source, now_seconds));
    text.push_str(&table::render(&head, rows));
    text
}

fn row(source: &SourceStatus, now_seconds: f64) -> Vec<String> {
    let word = |value: serde_json::Value| value.as_str().unwrap_or_default().replace('_', " ");
    let lag = source
        .oldest_unpublished_at
        .map_or(0.0, |at| (now_seconds - at).max(0.0));
    let error = source
        .last_error
        .as_ref()
        .map(|(at, error)| format!("{} ago: {error}", age(now_seconds - at)));
    vec![
        source.source.clone(),
        word(serde_json::json!(source.phase)),
        source.leader.clone().unwrap_or_else(|| "-".to_owned()),
        age(lag),
        source.backlog_events.to_string(),
        format!("{:.1}", source.events_per_second),
        source.dead_letters.to_string(),
        word(serde_json::json!(source.circuit)),
        error.unwrap_or_else(|| "-".to_owned()),
    ]
}

/// `0.3 s`, `42 s`, `7 min`, `3 h`.
fn age(seconds: f64) -> String {
    match seconds {
        s if s < 10.0 => format!("{s:.1} s"),
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.0} h", s / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_tells_how_each_source_is_doing() {
        let mut orders = SourceStatus::unknown("orders");
        orders.oldest_unpublished_at = Some(1000.0);
        orders.last_error = Some((940.0, "Kafka does not answer".into()));
        let report = Report {
            instance: "a:9464".into(),
            version: "1".into(),
            draining: false,
            sources: vec![orders],
        };
        let text = render(&report, 1001.5);
        let last = text.lines().last().unwrap();
        assert_eq!(
            last,
            "orders  connecting  -       1.5 s  0        0.0       0     closed   62 s ago: Kafka does not answer"
        );
    }

    #[test]
    fn ages_are_short() {
        assert_eq!(
            [0.25, 59.0, 600.0, 86400.0].map(age),
            ["0.2 s", "59 s", "10 min", "24 h"]
        );
    }
}
