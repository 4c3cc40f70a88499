//! How fast a backlog goes, what it takes, and how fast its two halves go alone. Fails when an event is lost or doubled.

use std::{
    collections::HashSet,
    thread,
    time::{Duration, Instant, SystemTime},
};

use super::HEADS;
use super::bare::{self, Bare};
use crate::Bench;
use crate::options::Options;
use crate::sample::{self, PARTITIONS, PAYLOAD_BYTES, Record};
use crate::support::consumer::{self, owned};
use crate::support::daemon::Daemon;
use crate::support::metrics::Metrics;
use crate::support::{http, unique};
use crate::table::{Row, Table, median};
use crate::usage::{Cpu, peak_memory_mib};
use crate::world::{self, Service};

/// Often enough for the figures, seldom enough not to show in them.
const GLANCE: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(120);
/// Events until the broker's compiler has done most of its work, which would take more of the machine than the broker does.
const WARM_UP: usize = 800_000;
const MILLION: f64 = 1e6;

struct Round {
    relay: Part,
    read: Part,
    produce: Part,
    memory_mib: f64,
    /// From the daemon's start to its first published event.
    first_s: f64,
}

struct Part {
    events_per_s: f64,
    /// Seconds for a million events.
    cpu: Cpu,
}

pub(crate) fn measure(bench: &Bench, options: &Options, table: &mut Table) {
    eprintln!("warming up");
    for _ in 0..WARM_UP.div_ceil(options.rows) {
        produce(bench, options.rows);
    }
    let rounds: Vec<Round> = (1..=options.rounds)
        .map(|number| {
            let round = round(bench, options.rows);
            eprintln!(
                "drain {number} of {}: {:.0} events per s",
                options.rounds, round.relay.events_per_s
            );
            round
        })
        .collect();
    let median = |figure: fn(&Round) -> f64| Some(median(rounds.iter().map(figure).collect()));
    table.section(&format!(
        "Drain of {} events, {PAYLOAD_BYTES} bytes of payload, {PARTITIONS} partitions; median of {}",
        options.rows, options.rounds
    ), HEADS);
    let slower = |round: &Round| {
        round.relay.events_per_s / round.read.events_per_s.min(round.produce.events_per_s)
    };
    table.row(
        Row::new(
            "events per s",
            0,
            [
                median(|round| round.relay.events_per_s),
                median(|round| round.read.events_per_s),
                median(|round| round.produce.events_per_s),
            ],
        )
        .note(format!(
            "{:.2} of the slower",
            median(slower).unwrap_or_default()
        )),
    );
    table.row(Row::new(
        "CPU s per million: outboxd, reader, producer",
        1,
        [
            median(|round| round.relay.cpu.client),
            median(|round| round.read.cpu.client),
            median(|round| round.produce.cpu.client),
        ],
    ));
    table.row(Row::new(
        "CPU s per million: PostgreSQL",
        1,
        [
            median(|round| round.relay.cpu.postgres),
            median(|round| round.read.cpu.postgres),
            None,
        ],
    ));
    table.row(Row::new(
        "CPU s per million: broker",
        1,
        [
            median(|round| round.relay.cpu.kafka),
            None,
            median(|round| round.produce.cpu.kafka),
        ],
    ));
    table.row(Row::new(
        "peak resident memory, MiB",
        0,
        [median(|round| round.memory_mib), None, None],
    ));
    table.row(Row::new(
        "start of the daemon to first published event, s",
        2,
        [median(|round| round.first_s), None, None],
    ));
}

fn round(bench: &Bench, rows: usize) -> Round {
    let service = Service::install(&bench.postgres, "bench");
    let topic = world::topic(&bench.kafka, "bench", PARTITIONS, &[]);
    sample::insert(&service, &topic, rows);
    bench.postgres.execute("postgres", "checkpoint");
    let started = Instant::now();
    let daemon = world::daemon(&bench.kafka, &unique("bench"), &[&service]);
    let (relay, first) = drain(bench, &daemon, rows);
    let process = daemon.pid().expect("it runs");
    let memory_mib = peak_memory_mib(process);
    assert!(daemon.terminate() == 0, "{}", daemon.log());
    check(bench, &topic, rows);
    let read = part(bench, rows, || {
        assert!(bare::read(&service) == rows, "rows are missing");
    });
    Round {
        relay,
        read,
        produce: produce(bench, rows),
        memory_mib,
        first_s: (first - started).as_secs_f64(),
    }
}

/// From the first published event that is seen to the last; gives the moment of the first, too.
fn drain(bench: &Bench, daemon: &Daemon, rows: usize) -> (Part, Instant) {
    let until = Instant::now() + PATIENCE;
    let wait = |enough: f64| {
        loop {
            let published = published(daemon);
            if published >= enough {
                let process = daemon.pid().expect("it runs");
                return (published, Instant::now(), bench.servers().cpu(process));
            }
            assert!(
                Instant::now() < until,
                "{published} events only:\n{}",
                daemon.log()
            );
            thread::sleep(GLANCE);
        }
    };
    let (first, began, before) = wait(1.0);
    let (last, ended, after) = wait(count(rows));
    let events = last - first;
    let relay = Part {
        events_per_s: events / (ended - began).as_secs_f64(),
        cpu: (after - before).per(events / MILLION),
    };
    (relay, began)
}

fn published(daemon: &Daemon) -> f64 {
    match http::get(daemon.admin(), "/metrics") {
        Ok((200, body)) => Metrics::parse(&body).sum("outboxd_events_published_total"),
        Ok(_) | Err(_) => 0.0,
    }
}

fn produce(bench: &Bench, rows: usize) -> Part {
    let topic = world::topic(&bench.kafka, "bare", PARTITIONS, &[]);
    let records: Vec<Record> = (0..rows)
        .map(|number| Record::new(number, SystemTime::now()))
        .collect();
    let bare = Bare::new(bench);
    part(bench, rows, || bare.publish(&topic, &records))
}

fn part(bench: &Bench, rows: usize, work: impl FnOnce()) -> Part {
    let usage = || bench.servers().cpu(std::process::id());
    let (before, began) = (usage(), Instant::now());
    work();
    let took = began.elapsed();
    Part {
        events_per_s: count(rows) / took.as_secs_f64(),
        cpu: (usage() - before).per(count(rows) / MILLION),
    }
}

/// Every event once and no other, as a consumer sees it that reads only what is committed.
fn check(bench: &Bench, topic: &str, rows: usize) {
    let consumer = consumer::consumer(&bench.kafka.bootstrap(), &[topic]);
    let until = Instant::now() + PATIENCE;
    let mut seen = HashSet::with_capacity(rows);
    // Whatever comes too much comes soon.
    while let Some(message) = consumer.poll(match seen.len() < rows {
        true => until.saturating_duration_since(Instant::now()),
        false => Duration::from_millis(500),
    }) {
        let message = owned(&message.expect("a broker that answers"));
        let (_, id) = message
            .headers
            .into_iter()
            .nth(1)
            .expect("ce_id is the second header");
        assert!(seen.insert(id), "an event came twice");
    }
    assert!(seen.len() == rows, "{} of {rows} events came", seen.len());
}

fn count(rows: usize) -> f64 {
    f64::from(u32::try_from(rows).expect("fewer than four thousand millions"))
}
