//! How long an event takes from its insert to a consumer at a steady rate, beside what commit and Kafka take alone.

use std::{
    thread,
    time::{Duration, Instant, SystemTime},
};

use rdkafka::message::{BorrowedMessage, Headers, Message};

use super::HEADS;
use super::bare::Bare;
use crate::Bench;
use crate::options::Options;
use crate::pace::{self, Latencies, Plan};
use crate::sample::{self, PARTITIONS, Record};
use crate::support::{consumer, unique};
use crate::table::{Row, Table};
use crate::usage::Cpu;
use crate::world::{self, Service};

/// How often the bare producer commits: outboxd's default `linger`.
const LINGER: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_secs(30);
/// One row in a transaction of its own.
const INSERT: &str = "insert into outbox.event (topic, key, event_type, payload) values ($1, $2, 'OrderCreated', $3)";

pub(crate) fn measure(bench: &Bench, options: &Options, table: &mut Table) {
    eprintln!("latency");
    let through = through(bench, options);
    let (bare, bare_cpu) = bare(bench, options);
    table.section(
        &format!(
            "Latency in ms at {} events per s, one row a transaction, for {} s",
            options.rate,
            options.duration.as_secs()
        ),
        HEADS,
    );
    for (name, part) in [("p50", 0.50), ("p99", 0.99), ("max", 1.0)] {
        let figure = |latencies: &Latencies| latencies.part(part);
        let (all, commit, kafka) = (figure(&through.all), figure(&through.commit), figure(&bare));
        table.row(
            Row::new(
                &format!("{name}: insert to consumer, to commit, send to consumer"),
                1,
                [Some(all), Some(commit), Some(kafka)],
            )
            .note(match name {
                "p50" => format!("{:+.1} on top of both", all - commit - kafka),
                _ => String::new(),
            }),
        );
    }
    let ms_per_s = 1000.0 / options.duration.as_secs_f64();
    table.row(Row::new(
        "CPU ms per s: outboxd",
        0,
        [Some(through.cpu.client * ms_per_s), None, None],
    ));
    table.row(Row::new(
        "CPU ms per s: broker",
        0,
        [
            Some(through.cpu.kafka * ms_per_s),
            None,
            Some(bare_cpu.kafka * ms_per_s),
        ],
    ));
}

struct Through {
    /// From `created_at` to the consumer.
    all: Latencies,
    /// What a writer waits for its insert and commit.
    commit: Latencies,
    cpu: Cpu,
}

fn through(bench: &Bench, options: &Options) -> Through {
    let service = Service::install(&bench.postgres, "bench");
    let topic = world::topic(&bench.kafka, "bench", PARTITIONS, &[]);
    let daemon = world::daemon(&bench.kafka, &unique("bench"), &[&service]);
    daemon.wait_ready();
    let process = daemon.pid().expect("it runs");
    let plan = Plan::new(options, options.rate, 0..sample::KEYS);
    let (all, commit, cpu) = thread::scope(|scope| {
        let all = scope.spawn(|| consume(bench, &topic, plan));
        let commit = scope.spawn(|| pace::insert(&service, INSERT, &topic, plan));
        let cpu = pace::usage(bench, process, options.duration);
        (all.join().unwrap(), commit.join().unwrap(), cpu)
    });
    assert!(daemon.terminate() == 0, "{}", daemon.log());
    Through { all, commit, cpu }
}

/// The same events at the same pace straight to Kafka, in a transaction every few milliseconds.
fn bare(bench: &Bench, options: &Options) -> (Latencies, Cpu) {
    let topic = world::topic(&bench.kafka, "bare", PARTITIONS, &[]);
    let bare = Bare::new(bench);
    let plan = Plan::new(options, options.rate, 0..sample::KEYS);
    thread::scope(|scope| {
        let latencies = scope.spawn(|| consume(bench, &topic, plan));
        let cpu = scope.spawn(|| pace::usage(bench, std::process::id(), options.duration));
        let mut next = 0;
        let mut tick = plan.begin;
        while next < plan.events {
            tick = (tick + LINGER).max(Instant::now());
            thread::sleep(tick.saturating_duration_since(Instant::now()));
            let due =
                (next..plan.events).take_while(|number| plan.moment(*number) <= Instant::now());
            let records: Vec<Record> = due
                .map(|number| Record::new(number, plan.wall(number)))
                .collect();
            next += records.len();
            if !records.is_empty() {
                bare.transaction(&topic, &records);
            }
        }
        (latencies.join().unwrap(), cpu.join().unwrap())
    })
}

/// Reads all events, and measures those that came after the warm-up.
fn consume(bench: &Bench, topic: &str, plan: Plan) -> Latencies {
    let consumer = consumer::consumer(&bench.kafka.bootstrap(), &[topic]);
    let until = plan.moment(plan.events) + PATIENCE;
    let mut latencies = Vec::with_capacity(plan.events);
    for number in 0..plan.events {
        let left = until.saturating_duration_since(Instant::now());
        let message = consumer.poll(left);
        let message = message.unwrap_or_else(|| panic!("{number} of {} events came", plan.events));
        let at = created_at(&message.expect("a broker that answers"));
        if at >= plan.measured_from {
            latencies.push(sample::ms_since(at));
        }
    }
    Latencies::new(latencies)
}

fn created_at(message: &BorrowedMessage<'_>) -> SystemTime {
    let headers = message.headers().expect("every event has headers");
    let time = headers.iter().find(|header| header.key == "ce_time");
    sample::moment(
        time.and_then(|time| time.value)
            .expect("every event has a time"),
    )
}
