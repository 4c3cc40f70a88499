//! How long a daemon takes until it serves clients, with a log to read and with a file that knows it already. Never counts what the
//! log's last records take that come meanwhile: there are none.

use std::time::Instant;

use super::feed::Feed;
use super::site::Site;
use crate::Bench;
use crate::options::Options;
use crate::support::unique;
use crate::table::{Row, Table};

/// Changes of each saga.
const CHANGES: usize = 10;

pub(super) fn measure(bench: &Bench, options: &Options, table: &mut Table) {
    eprintln!("push-start");
    let sagas = options.rows / CHANGES;
    let records = sagas * CHANGES;
    let prefix = unique("bench");
    let lines = "drain = \"0s\"\nstate_directory = \"state\"\n";
    let site = Site::start(&bench.kafka, &prefix, &[], lines);
    site.daemon.wait_ready();
    site.daemon.kill();
    let feed = Feed::new(bench, &prefix);
    for change in 0..CHANGES {
        for saga in 0..sagas {
            feed.send(&format!("order-{saga}"));
            if saga % 10_000 == 0 {
                feed.flush();
            }
        }
        feed.flush();
        eprintln!("  {} of {CHANGES} changes of {sagas} sagas", change + 1);
    }
    let start = || {
        let began = Instant::now();
        site.daemon.start_again();
        site.daemon.wait_ready();
        let took = began.elapsed().as_secs_f64();
        let known = site.daemon.metrics().sum("outboxd_sagas");
        let expected = f64::from(u32::try_from(sagas).expect("it fits"));
        assert!(known == expected, "it knows {known} of {sagas} sagas");
        took
    };
    // What it wrote when there was nothing to know is of no use.
    let cold = start();
    assert!(site.daemon.terminate() == 0, "{}", site.daemon.log());
    let warm = start();
    assert!(site.daemon.terminate() == 0, "{}", site.daemon.log());

    table.section(
        &format!("Start with {records} records of {sagas} sagas in the log"),
        ["from the log", "from a file", ""],
    );
    let mut row = |figure: &str, decimals, cold, warm| {
        table.row(Row::new(figure, decimals, [Some(cold), Some(warm), None]));
    };
    row("seconds until clients are served", 2, cold, warm);
    let per_second = |took: f64| f64::from(u32::try_from(records).expect("it fits")) / took;
    row(
        "records per s that this comes to",
        0,
        per_second(cold),
        per_second(warm),
    );
}
