//! `outboxd status`: asks the daemon's control socket how each source is doing.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Failure, load, table};
use crate::admin::{self, Report};
use crate::logic::status::{Phase, SourceStatus};

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
    let report = admin::status(&config.admin.socket).await?;
    let mut out = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &report).map_err(std::io::Error::from)?;
        writeln!(out)?;
        return Ok(());
    }
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    // Where nobody looks at lines, nothing is cut.
    let width = out
        .is_terminal()
        .then(terminal_size::terminal_size)
        .flatten()
        .map(|(width, _)| usize::from(width.0));
    write!(out, "{}", render(&report, since.as_secs_f64(), width))?;
    Ok(())
}

fn render(report: &Report, now_seconds: f64, width: Option<usize>) -> String {
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
    text.push_str(&table::render_within(&head, rows, width));
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
        .map(|(at, error)| format!("{} ago: {error}", table::age(now_seconds - at)));
    // Only a leader counts. From anybody else a zero means unknown; what one counted last is still worth a look.
    let leads = source.phase == Phase::Leading;
    let counted = |known: bool, text: String| if leads || known { text } else { "-".to_owned() };
    vec![
        source.source.clone(),
        word(serde_json::json!(source.phase)),
        source.leader.clone().unwrap_or_else(|| "-".to_owned()),
        counted(source.oldest_unpublished_at.is_some(), table::age(lag)),
        counted(source.backlog_events > 0, source.backlog_events.to_string()),
        counted(false, format!("{:.1}", source.events_per_second)),
        counted(source.dead_letters > 0, source.dead_letters.to_string()),
        word(serde_json::json!(source.circuit)),
        error.unwrap_or_else(|| "-".to_owned()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(sources: Vec<SourceStatus>) -> Report {
        Report {
            instance: "a:9464".into(),
            version: "1".into(),
            draining: false,
            sources,
        }
    }

    #[test]
    fn the_table_tells_how_each_source_is_doing() {
        let mut orders = SourceStatus::unknown("orders");
        orders.phase = Phase::Leading;
        orders.leader = Some("a:9464".into());
        orders.oldest_unpublished_at = Some(1000.0);
        orders.last_error = Some((940.0, "Kafka does not answer".into()));
        let text = render(&report(vec![orders]), 1001.5, None);
        let last = text.lines().last().unwrap();
        assert_eq!(
            last,
            "orders  leading  a:9464  1.5 s  0        0.0       0     closed   62 s ago: Kafka does not answer"
        );
    }

    #[test]
    fn what_nobody_counted_does_not_pass_off_as_zero() {
        let mut orders = SourceStatus::unknown("orders");
        orders.phase = Phase::Standby;
        orders.leader = Some("b:9464".into());
        orders.events_per_second = 7.0;
        let cells = |source: &SourceStatus| row(source, 1.0).get(3..7).unwrap().concat();
        assert_eq!(cells(&orders), "----");
        orders.phase = Phase::Retrying;
        orders.oldest_unpublished_at = Some(0.0);
        orders.backlog_events = 5;
        orders.dead_letters = 3;
        assert_eq!(cells(&orders), "1.0 s5-3");
    }

    #[test]
    fn a_draining_daemon_says_so() {
        let mut draining = report(Vec::new());
        draining.draining = true;
        let text = render(&draining, 0.0, None);
        assert!(text.starts_with("a:9464  outboxd 1, draining\n"), "{text}");
    }

    #[test]
    fn a_long_error_is_cut_to_the_terminal() {
        let mut orders = SourceStatus::unknown("orders");
        orders.last_error = Some((0.0, "Verbindung zu „größe“ abgelehnt\n".repeat(20)));
        let text = render(&report(vec![orders]), 1.0, Some(100));
        assert!(
            text.lines().all(|line| line.chars().count() <= 100),
            "{text}"
        );
        assert_eq!(text.lines().count(), 4, "{text}");
        assert!(text.ends_with("…\n"), "{text}");
    }
}
