//! One scrape: what `promtool` says of it, and what it costs with fifty sources.

use std::time::Instant;

use crate::support::daemon::Daemon;
use crate::support::http;
use crate::support::process::Port;
use crate::support::prometheus::promtool;
use crate::world::OUTBOXD;

const SOURCES: usize = 50;
const SCRAPES: u32 = 20;

#[test]
fn fifty_sources_are_scraped_in_one_small_clean_page() {
    // Nobody listens there: the series are there all the same, and nothing else costs time.
    let nobody = Port::claim();
    let address = format!("127.0.0.1:{}", nobody.number());
    let sources: String = (0..SOURCES)
        .map(|n| format!("[sources.s{n}]\nurl = \"postgres://outboxd@{address}/s{n}\"\n"))
        .collect();
    let kafka = format!("[kafka]\nbootstrap_servers = \"{address}\"\n");
    let daemon = Daemon::start(OUTBOXD, &(kafka + &sources));
    daemon.wait_metrics("all sources", |metrics| {
        metrics.value("outboxd_source_up", &[("source", "s49")]) == Some(0.0)
    });
    let scrape = || http::get(daemon.admin(), "/metrics").unwrap().1;
    let text = scrape();
    let checked = promtool(&["check", "metrics"], &text);
    assert!(
        checked.status.success() && checked.stdout.is_empty() && checked.stderr.is_empty(),
        "{checked:?}"
    );
    let began = Instant::now();
    for _ in 0..SCRAPES {
        scrape();
    }
    let each = began.elapsed() / SCRAPES;
    let samples = text.lines().filter(|line| !line.starts_with('#')).count();
    println!(
        "{SOURCES} sources: {samples} samples, {} bytes, {each:?} a scrape",
        text.len()
    );
    // Of a source, not of its events: a page that grows with either would end a Prometheus.
    assert!(samples <= SOURCES * 200, "{samples} samples");
}
