//! `outboxd status`: asks the daemon's control socket how each source is doing.

use std::io::{IsTerminal, Write};
use std::path::Path;

use unicode_width::UnicodeWidthStr;

use super::{Failure, ask, table};
use crate::admin::{Report, Request};
use crate::clock;
use crate::logic::status::{Phase, SourceStatus};

/// The columns without the last error, and which of them may be cut, to no less than so much.
const COLUMNS: usize = 8;
const LEADER: usize = 2;
const LEAST: usize = 6;

/// Arguments of `status`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  outboxd status --json | jq '.sources[] | .source'")]
pub struct Args {
    /// Print JSON instead of a table.
    #[arg(long)]
    pub json: bool,
}

pub(super) async fn execute(file: &Path, args: Args) -> Result<(), Failure> {
    let report: Report = ask(file, &Request::Status).await?;
    let mut out = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &report).map_err(std::io::Error::from)?;
        writeln!(out)?;
        return Ok(());
    }
    // Where nobody looks at lines, nothing is cut.
    let width = out
        .is_terminal()
        .then(terminal_size::terminal_size)
        .flatten()
        .map(|(width, _)| usize::from(width.0));
    write!(out, "{}", render(&report, clock::now().as_seconds(), width))?;
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
        "OLDEST",
        "RATE",
        "DEAD",
        "CIRCUIT",
        "LAST ERROR",
    ];
    if report.sources.is_empty() {
        return text + "it has no sources\n";
    }
    let rows: Vec<_> = report
        .sources
        .iter()
        .map(|source| row(source, now_seconds))
        .collect();
    let wide = table::render(&head, rows.iter().cloned());
    let fits = width.is_none_or(|width| wide.lines().all(|line| line.width() <= width));
    if fits {
        return text + &wide;
    }
    // Errors are what matters then: in full, below the rest.
    let width = width.unwrap_or(usize::MAX);
    let head = &head[..COLUMNS];
    let short = |leader: usize| {
        let cells = |row: &Vec<String>| {
            let cut = |(at, cell): (usize, &String)| match at {
                LEADER => table::cut(cell, leader),
                _ => cell.clone(),
            };
            row.iter().take(COLUMNS).enumerate().map(cut).collect()
        };
        table::render(head, rows.iter().map(cells))
    };
    let leaders = rows.iter().filter_map(|row| row.get(LEADER));
    let longest = leaders.map(|leader| leader.width()).max().unwrap_or(0);
    let whole = short(longest);
    let over = whole.lines().map(|line| line.width()).max().unwrap_or(0);
    let over = over.saturating_sub(width);
    text.push_str(&short(longest.saturating_sub(over).max(LEAST)));
    for row in &rows {
        if let (Some(source), Some(error)) = (row.first(), row.get(COLUMNS).filter(|it| *it != "-"))
        {
            let error = table::printable(&format!("{source}: {error}"));
            text.push_str(&format!("\n{}\n", table::wrapped(&error, width)));
        }
    }
    text
}

fn row(source: &SourceStatus, now_seconds: f64) -> Vec<String> {
    let word = |value: serde_json::Value| value.as_str().unwrap_or_default().replace('_', " ");
    let oldest = source
        .oldest_unpublished_at
        .map(|at| table::age((now_seconds - at).max(0.0)));
    let error = source
        .last_error
        .as_ref()
        .map(|(at, error)| format!("{} ago: {error}", table::age(now_seconds - at)));
    // Only a leader counts. From anybody else a zero means unknown; what one counted last is still worth a look.
    let leads = source.phase == Phase::Leading;
    let counted = |known: bool, text: String| if leads || known { text } else { "-".to_owned() };
    let phase = word(serde_json::json!(source.phase));
    vec![
        source.source.clone(),
        if source.paused && leads {
            "paused".to_owned()
        } else if source.paused {
            format!("{phase}, paused")
        } else {
            phase
        },
        source.leader.clone().unwrap_or_else(|| "-".to_owned()),
        counted(source.backlog_events > 0, source.backlog_events.to_string()),
        oldest.unwrap_or_else(|| "-".to_owned()),
        counted(false, format!("{:.1}/s", source.events_per_second)),
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
            "orders  leading  a:9464  0    1.5 s   0.0/s  0     closed   62 s ago: Kafka does not answer"
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
        assert_eq!(cells(&orders), "51.0 s-3");
    }

    #[test]
    fn a_draining_daemon_says_so() {
        let mut draining = report(Vec::new());
        draining.draining = true;
        let text = render(&draining, 0.0, None);
        assert!(text.starts_with("a:9464  outboxd 1, draining\n"), "{text}");
    }

    #[test]
    fn a_paused_source_says_so_whoever_leads() {
        let mut orders = SourceStatus::unknown("orders");
        orders.paused = true;
        let phase = |source: &SourceStatus| row(source, 1.0).remove(1);
        assert_eq!(phase(&orders), "connecting, paused");
        orders.phase = Phase::Leading;
        assert_eq!(phase(&orders), "paused");
    }

    #[test]
    fn an_error_too_long_for_the_terminal_stands_in_full_below() {
        let mut orders = SourceStatus::unknown("orders");
        let long = "Verbindung zu „größe“ abgelehnt\n".repeat(20);
        orders.last_error = Some((0.0, long.clone()));
        let kitchen = SourceStatus::unknown("kitchen");
        let text = render(&report(vec![orders, kitchen]), 1.0, Some(80));
        let (table, below) = text.split_once("\n\norders: 1.0 s ago: ").unwrap();
        assert!(table.lines().all(|line| line.width() <= 80), "{table}");
        assert!(below.lines().all(|line| line.width() <= 80), "{below}");
        let words = |text: &str| {
            text.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(words(below), words(&long));
        assert!(!below.contains("kitchen"), "{below}");
    }

    #[test]
    fn a_long_name_of_a_leader_gives_way_on_a_narrow_terminal() {
        let mut orders = SourceStatus::unknown("orders");
        orders.phase = Phase::Leading;
        orders.leader = Some("relay-1.shop.example:9464".into());
        let text = render(&report(vec![orders]), 1.0, Some(70));
        let line = text.lines().last().unwrap();
        assert!(
            line.contains("relay-1.shop") && line.contains('…'),
            "{line}"
        );
        assert!(line.width() <= 70 && line.ends_with("closed"), "{line}");
    }
}
