//! What connected clients take while nothing happens. Never counts what the kernel keeps for their sockets.

use std::{sync::atomic::Ordering::Relaxed, thread};

use super::crowd::Crowd;
use super::feed::Feed;
use super::site::Site;
use super::{clients, logins};
use crate::Bench;
use crate::options::Options;
use crate::sample;
use crate::support::unique;
use crate::table::{Row, Table};
use crate::usage::{resident_kib, seconds};

/// Often enough for each client to have had some.
const LINES: &str = "heartbeat = \"10s\"\ndrain = \"0s\"\n";

pub(super) fn measure(bench: &Bench, options: &Options, table: &mut Table) {
    eprintln!("push-memory");
    let count = clients(options.connections);
    let each = f64::from(u32::try_from(count).expect("it fits"));
    let prefix = unique("bench");
    let site = Site::start(&bench.kafka, &prefix, &[], LINES);
    site.daemon.wait_ready();
    let process = site.daemon.pid().expect("it runs");
    let logins = logins(&site, 0..count);

    let empty = resident_kib(process);
    let feed = Feed::new(bench, &prefix);
    (0..count).for_each(|number| feed.send(&sample::key(number)));
    feed.flush();
    site.daemon
        .wait_metrics("all sagas", |metrics| metrics.sum("outboxd_sagas") >= each);
    let (before, busy) = (resident_kib(process), seconds(process));

    let crowd = Crowd::open(site.address(), logins);
    let all = u64::try_from(count).expect("it fits");
    crowd.wait("a snapshot each", |seen| seen.news.load(Relaxed) >= all);
    let (connected, idle) = (resident_kib(process), seconds(process));
    thread::sleep(options.duration);
    let (settled, end) = (resident_kib(process), seconds(process));
    crowd.close();
    assert!(site.daemon.terminate() == 0, "{}", site.daemon.log());

    table.section(
        &format!("{count} idle clients, each subscribed to a saga of its own"),
        ["outboxd", "", ""],
    );
    let mut row = |figure: &str, decimals, value| {
        table.row(Row::new(figure, decimals, [Some(value), None, None]));
    };
    let length = options.duration.as_secs();
    row(
        &format!("resident KiB per client, after {length} s"),
        2,
        (settled - before) / each,
    );
    row(
        "resident KiB per client, when the last one has subscribed",
        2,
        (connected - before) / each,
    );
    row(
        "resident KiB per saga, watched or not",
        2,
        (before - empty) / each,
    );
    row("resident MiB in all", 1, settled / 1024.0);
    row(
        "CPU µs to connect, to show a token and to subscribe",
        0,
        (idle - busy) / each * 1e6,
    );
    row(
        "CPU ms per s, a heartbeat and a ping every 10 s",
        1,
        (end - idle) / options.duration.as_secs_f64() * 1000.0,
    );
}
