//! How long an event takes from its insert to a consumer at a steady rate, beside what commit and Kafka take alone.

use std::{
    thread,
    time::{Duration, Instant, SystemTime},
};

use rdkafka::message::{BorrowedMessage, Headers, Message};

use crate::Bench;
use crate::bare::Bare;
use crate::options::Options;
use crate::sample::{self, PARTITIONS, Record};
use crate::support::{block_on, consumer, unique};
use crate::table::{Row, Table};
use crate::usage::Cpu;
use crate::world::{self, Service};

/// Sessions that insert; more than one commit is always on its way.
const WRITERS: u32 = 8;
/// How often the bare producer commits: outboxd's default `linger`.
const LINGER: Duration = Duration::from_millis(5);
/// Not measured: caches fill, compilers work.
const WARM_UP: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(30);
/// One row in a transaction of its own.
const INSERT: &str = "insert into outbox.event (topic, key, event_type, payload) values ($1, $2, 'OrderCreated', $3)";

/// When it begins, when it is measured and when it ends.
#[derive(Clone, Copy)]
struct Plan {
    begin: Instant,
    measured_from: SystemTime,
    events: usize,
    rate: u32,
}

/// Milliseconds, rising.
struct Latencies(Vec<f64>);

pub(crate) fn measure(bench: &Bench, options: &Options, table: &mut Table) {
    eprintln!("latency");
    let through = through(bench, options);
    let (bare, bare_cpu) = bare(bench, options);
    table.section(&format!(
        "Latency in ms at {} events per s, one row a transaction, for {} s",
        options.rate,
        options.duration.as_secs()
    ));
    for (name, part) in [("p50", 0.50), ("p99", 0.99), ("max", 1.0)] {
        let figure = |latencies: &Latencies| latencies.part(part);
        let (all, commit, kafka) = (figure(&through.all), figure(&through.commit), figure(&bare));
        table.row(Row {
            outboxd: Some(all),
            database: Some(commit),
            kafka: Some(kafka),
            note: match name {
                "p50" => format!("{:+.1} on top of both", all - commit - kafka),
                _ => String::new(),
            },
            ..Row::new(
                &format!("{name}: insert to consumer, to commit, send to consumer"),
                1,
            )
        });
    }
    let ms_per_s = 1000.0 / options.duration.as_secs_f64();
    table.row(Row {
        outboxd: Some(through.cpu.client * ms_per_s),
        ..Row::new("CPU ms per s: outboxd", 0)
    });
    table.row(Row {
        outboxd: Some(through.cpu.kafka * ms_per_s),
        kafka: Some(bare_cpu.kafka * ms_per_s),
        ..Row::new("CPU ms per s: broker", 0)
    });
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
    let plan = Plan::new(options);
    let (all, commit, cpu) = thread::scope(|scope| {
        let all = scope.spawn(|| consume(bench, &topic, plan));
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                scope.spawn({
                    let (service, topic) = (&service, &topic);
                    move || block_on(write(service, topic, writer, plan))
                })
            })
            .collect();
        let cpu = usage(bench, process, options.duration);
        let commits = writers
            .into_iter()
            .flat_map(|writer| writer.join().unwrap())
            .collect();
        (all.join().unwrap(), Latencies::new(commits), cpu)
    });
    assert!(daemon.terminate() == 0, "{}", daemon.log());
    Through { all, commit, cpu }
}

/// Inserts this writer's share at its moments; gives the milliseconds of each.
async fn write(service: &Service<'_>, topic: &str, writer: u32, plan: Plan) -> Vec<f64> {
    let client = service.connect().await;
    let statement = client.prepare(INSERT).await.unwrap();
    let mut took = Vec::new();
    let share = (0..plan.events)
        .skip(writer as usize)
        .step_by(WRITERS as usize);
    for number in share {
        tokio::time::sleep_until(plan.moment(number).into()).await;
        let (key, payload) = (sample::key(number), sample::payload(number));
        let began = SystemTime::now();
        client
            .execute(&statement, &[&topic, &key, &payload])
            .await
            .unwrap();
        if began >= plan.measured_from {
            took.push(sample::ms_since(began));
        }
    }
    took
}

/// The same events at the same pace straight to Kafka, in a transaction every few milliseconds.
fn bare(bench: &Bench, options: &Options) -> (Latencies, Cpu) {
    let topic = world::topic(&bench.kafka, "bare", PARTITIONS, &[]);
    let bare = Bare::new(bench);
    let plan = Plan::new(options);
    thread::scope(|scope| {
        let latencies = scope.spawn(|| consume(bench, &topic, plan));
        let cpu = scope.spawn(|| usage(bench, std::process::id(), options.duration));
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

/// Processor time while it is measured.
fn usage(bench: &Bench, client: u32, duration: Duration) -> Cpu {
    thread::sleep(WARM_UP);
    let before = bench.servers().cpu(client);
    thread::sleep(duration);
    bench.servers().cpu(client) - before
}

impl Plan {
    fn new(options: &Options) -> Self {
        let length = options.duration + WARM_UP;
        let events = length.as_secs() * u64::from(options.rate);
        Self {
            begin: Instant::now(),
            measured_from: SystemTime::now() + WARM_UP,
            events: usize::try_from(events).expect("it fits"),
            rate: options.rate,
        }
    }

    fn offset(self, number: usize) -> Duration {
        Duration::from_secs(1) * u32::try_from(number).expect("it fits") / self.rate
    }

    /// When an event is due.
    fn moment(self, number: usize) -> Instant {
        self.begin + self.offset(number)
    }

    /// The same by the clock on the wall.
    fn wall(self, number: usize) -> SystemTime {
        self.measured_from - WARM_UP + self.offset(number)
    }
}

impl Latencies {
    fn new(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    /// The value that this part of all does not exceed.
    fn part(&self, part: f64) -> f64 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            clippy::cast_sign_loss,
            reason = "an index among some thousands"
        )]
        let index = (self.0.len().saturating_sub(1) as f64 * part) as usize;
        self.0.get(index).copied().unwrap_or(f64::NAN)
    }
}
