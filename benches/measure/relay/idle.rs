//! What it costs to wait for events that do not come.

use std::{thread, time::Duration};

use super::HEADS;
use crate::Bench;
use crate::options::Options;
use crate::support::unique;
use crate::table::{Row, Table};
use crate::usage::Cpu;
use crate::world::{self, Service};

/// Until whatever went before has ebbed away, and an idle source has gone to sleep.
const SETTLE: Duration = Duration::from_secs(5);

pub(crate) fn measure(bench: &Bench, options: &Options, table: &mut Table) {
    eprintln!("idle");
    let service = Service::install(&bench.postgres, "bench");
    let alone = usage(bench, std::process::id(), options.duration);
    let daemon = world::daemon(&bench.kafka, &unique("bench"), &[&service]);
    daemon.wait_ready();
    let beside = usage(bench, daemon.pid().expect("it runs"), options.duration);
    assert!(daemon.terminate() == 0, "{}", daemon.log());
    table.section(
        &format!(
            "Idle for {} s, one source: CPU ms per s",
            options.duration.as_secs()
        ),
        HEADS,
    );
    table.row(Row::new("outboxd", 1, [Some(beside.client), None, None]));
    table.row(Row::new(
        "PostgreSQL",
        1,
        [Some(beside.postgres), Some(alone.postgres), None],
    ));
    table.row(Row::new(
        "broker",
        1,
        [Some(beside.kafka), None, Some(alone.kafka)],
    ));
}

fn usage(bench: &Bench, client: u32, duration: Duration) -> Cpu {
    thread::sleep(SETTLE);
    let before = bench.servers().cpu(client);
    thread::sleep(duration);
    (bench.servers().cpu(client) - before).per(duration.as_secs_f64() / 1000.0)
}
