//! `make chaos`: daemons, Kafka and PostgreSQL are killed, frozen, cut off and stopped all at once, hundreds of times, while
//! services write; then the history of what they wrote judges every topic. Never trusts a fault whose effect it has not seen.
//!
//! Without the word `run`, as one of all tests, it only holds docs/correctness.md to the figures in docs/chaos.json.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    missing_docs,
    reason = "a program that cannot go on fails, and says where"
)]

#[path = "../support/mod.rs"]
#[allow(unused_imports, reason = "its own tests run elsewhere")]
mod support;
#[allow(dead_code, reason = "shared with the other tests")]
#[path = "../it/world.rs"]
mod world;
#[allow(dead_code, reason = "shared with the tests of the hand-over")]
#[path = "../handover/writers.rs"]
mod writers;

mod faults;
mod lane;
mod options;
mod report;
mod schedule;
mod tail;
mod tally;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use faults::Chaos;
use lane::{DAEMONS, Lane, SOURCES};
use options::Options;
use schedule::{Kind, Schedule};
use support::history::{Fault, Outcome, Verdict, judge};
use support::kafka::Kafka;
use support::postgres::Postgres;
use support::proxy::Proxy;
use support::{block_on, wait_until};
use tail::Tail;
use tally::Tally;

/// Deployments side by side; more would only wait for the processor.
const LANES: usize = 4;
/// Writers of each source.
const WRITERS: u64 = 2;
const POSTGRES_VERSION: u16 = 17;
/// Time between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("run") => {
            // Small enough that every reader of JSON keeps all its digits.
            let seed = RandomState::new().build_hasher().finish() >> 16;
            match Options::parse(&arguments[1..], seed) {
                Ok(options) => run(&options),
                Err(why) => {
                    eprintln!("{why}\n{}", options::USAGE);
                    ExitCode::from(64)
                }
            }
        }
        Some("document") => {
            report::write_document();
            ExitCode::SUCCESS
        }
        _ if report::document_is_true() => ExitCode::SUCCESS,
        _ => {
            eprintln!(
                "docs/correctness.md does not show docs/chaos.json: `cargo test --test chaos -- document`"
            );
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> ExitCode {
    let schedule = Schedule::draw(options.seed, options.kills, options.others, LANES);
    let digest = schedule.digest();
    eprintln!(
        "seed {}, schedule {digest}; starting PostgreSQL and Kafka",
        options.seed
    );
    let postgres = Postgres::builder(POSTGRES_VERSION)
        .settings(&[("max_prepared_transactions", "100")])
        .start();
    let kafka = Kafka::builder();
    let proxy = Proxy::listen(kafka.bootstrap());
    let advertised = format!("PLAINTEXT://{}", proxy.address());
    let kafka = kafka
        .properties(&[("advertised.listeners", &advertised)])
        .start();
    let sabotage = options.sabotage.as_deref();
    let lanes: Vec<Lane<'_>> = (0..LANES)
        .map(|_| Lane::start(&kafka, &postgres, sabotage))
        .collect();
    for daemon in lanes.iter().flat_map(|lane| &lane.daemons) {
        daemon.wait_ready();
    }
    let (tail, tally) = (Tail::default(), Tally::default());
    let began = Instant::now();
    let chaos = Chaos {
        postgres: &postgres,
        kafka: &kafka,
        proxy: &proxy,
        lanes: &lanes,
        tail: &tail,
        tally: &tally,
        deadline: began + options.limit,
        servers_fail: &AtomicBool::new(true),
    };
    let wanted = |kind| {
        if kind == Kind::Kill {
            options.kills
        } else {
            options.others
        }
    };
    inflict(&chaos, schedule, began, &wanted);
    let seconds = began.elapsed().as_secs();

    eprintln!("no more faults; judging {} deployments", lanes.len());
    let (verdict, written) = verdict(&chaos);
    let run = json!({
        "seed": options.seed, "schedule": digest, "lanes": LANES, "sources": SOURCES, "daemons": DAEMONS,
        "seconds": seconds, "faults": report::faults(&tally, &tail, wanted), "written": written,
        "verdict": verdict, "surprises": tally.surprises(), "machine": machine(&postgres),
    });
    print!("{}", report::markdown(&run));
    if let Some(file) = &options.json {
        let text = format!("{run:#}\n");
        std::fs::write(file, text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }
    conclude(&run)
}

/// Success only if nothing is wrong, and every fault that was wanted took effect at least once.
fn conclude(run: &Value) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    let mut fail = |why: String| {
        eprintln!("{why}");
        code = ExitCode::FAILURE;
    };
    for example in run["verdict"]["examples"].as_array().unwrap() {
        fail(format!(
            "{} (seed {})",
            example.as_str().unwrap(),
            run["seed"]
        ));
    }
    for surprise in run["surprises"].as_array().unwrap() {
        fail(surprise.as_str().unwrap().to_owned());
    }
    for fault in run["faults"].as_array().unwrap() {
        let (wanted, effective) = (
            fault["wanted"].as_u64().unwrap(),
            fault["effective"].as_u64().unwrap(),
        );
        let kind = fault["kind"].as_str().unwrap();
        if wanted > 0 && effective == 0 {
            fail(format!("{kind}: none had an effect, which proves nothing"));
        } else if effective < wanted {
            eprintln!("{kind}: {effective} of {wanted}, then time was up or attempts were");
        }
    }
    code
}

/// Writers write and faults happen until the schedule is through, or time is up.
fn inflict(
    chaos: &Chaos<'_>,
    schedule: Schedule,
    began: Instant,
    wanted: &(dyn Fn(Kind) -> usize + Sync),
) {
    let (done, stop_writing, stop_reading) = (
        AtomicBool::new(false),
        AtomicBool::new(false),
        AtomicBool::new(false),
    );
    thread::scope(|scope| {
        // Whatever fails in here, nobody waits for ever.
        let _stop = [
            StopAtEnd(&stop_writing),
            StopAtEnd(&stop_reading),
            StopAtEnd(&done),
        ];
        for lane in chaos.lanes {
            for source in 0..SOURCES {
                for number in 0..WRITERS {
                    let (writer, stop) = (lane.writer(source), &stop_writing);
                    scope.spawn(move || block_on(writer.run(number, stop)));
                }
            }
        }
        let topics: Vec<String> = chaos.lanes.iter().flat_map(Lane::checkpoints).collect();
        let bootstrap = chaos.kafka.bootstrap();
        // The topics are there once every source has been led.
        wait_until("all sources to be led", lane::PATIENCE, || {
            chaos
                .lanes
                .iter()
                .flat_map(|lane| &lane.services)
                .all(|service| service.number("select batch from outbox.relay") > 0)
        });
        let stop = &stop_reading;
        scope.spawn(move || chaos.tail.follow(&bootstrap, &topics, stop));
        scope.spawn(|| progress(chaos, began, &done, wanted));
        let Schedule {
            lanes,
            kafka,
            postgres,
        } = schedule;
        thread::scope(|scope| {
            for (lane, steps) in chaos.lanes.iter().zip(lanes) {
                scope.spawn(move || chaos.daemons(lane, steps));
            }
            thread::scope(|scope| {
                scope.spawn(|| chaos.kafka(kafka));
                scope.spawn(|| chaos.postgres(postgres));
            });
            chaos.servers_fail.store(false, Ordering::Relaxed);
        });
        done.store(true, Ordering::Relaxed);
        stop_writing.store(true, Ordering::Relaxed);
        chaos.lanes.iter().for_each(Lane::settled);
    });
}

/// One calm line, again and again.
fn progress(
    chaos: &Chaos<'_>,
    began: Instant,
    done: &AtomicBool,
    wanted: &(dyn Fn(Kind) -> usize + Sync),
) {
    let mut next = Instant::now() + PROGRESS;
    while !done.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(100));
        if Instant::now() < next {
            continue;
        }
        next += PROGRESS;
        let effective = |kind| chaos.tally.of(kind, |count| count.effective);
        let count = |kind| format!("{}/{}", effective(kind), wanted(kind));
        let counts = Kind::ALL.map(count).join(" ");
        let seconds = began.elapsed().as_secs();
        let batches = chaos.tail.count();
        eprintln!(
            "{:2}:{:02}  {counts}  {batches} batches",
            seconds / 60,
            seconds % 60
        );
    }
}

/// Judges everything, and counts what was written.
fn verdict(chaos: &Chaos<'_>) -> (Value, Value) {
    for daemon in chaos.lanes.iter().flat_map(|lane| &lane.daemons) {
        let status = daemon.terminate();
        if status != 0 {
            chaos
                .tally
                .surprise(format!("the last stop of a daemon ended with {status}"));
        }
    }
    let (mut records, mut kept) = (0, 0);
    let mut verdicts = Vec::new();
    for lane in chaos.lanes {
        let committed = lane.committed();
        let (seen, open) = lane.seen(chaos.kafka);
        records += committed.len();
        kept += lane.ledger();
        verdicts.push(judge(&committed, &seen, &open));
    }
    let faults = |fault| {
        verdicts
            .iter()
            .map(|verdict| verdict.count(fault))
            .sum::<usize>()
    };
    let outcomes = |outcome| {
        chaos
            .lanes
            .iter()
            .map(|lane| lane.log.count(outcome))
            .sum::<usize>()
    };
    let unclean = verdicts.iter().filter(|verdict| !verdict.is_clean());
    let verdict = json!({
        "lost": faults(Fault::Lost), "doubled": faults(Fault::Doubled), "reordered": faults(Fault::Reordered),
        "ghosts": faults(Fault::Ghost), "left_open": faults(Fault::LeftOpen),
        "examples": unclean.map(Verdict::to_string).collect::<Vec<_>>(),
    });
    let (sure, unknown) = (outcomes(Outcome::Committed), outcomes(Outcome::Unknown));
    let written = json!({
        "records": records, "committed": kept, "rolled_back": outcomes(Outcome::RolledBack),
        "unknown": unknown, "unknown_kept": kept - sure, "batches": chaos.tail.count(),
    });
    (verdict, written)
}

/// Without this line the figures say little.
fn machine(postgres: &Postgres) -> String {
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Vec<&str> = load.split(' ').take(3).collect();
    let version: String = block_on(async {
        let url = postgres.url("postgres", "postgres");
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls)
            .await
            .unwrap();
        let ask = async move { client.query_one("show server_version", &[]).await };
        let (answer, _) = tokio::join!(ask, connection);
        answer.unwrap().get(0)
    });
    format!(
        "{cores} cores, shared by all of it; load {} in the last 1, 5 and 15 minutes. outboxd {} ({} build), PostgreSQL \
         {version}, Kafka 4.3.0 (one broker).",
        load.join(", "),
        env!("CARGO_PKG_VERSION"),
        if cfg!(debug_assertions) {
            "debug"
        } else {
            "release"
        },
    )
}

/// Sets a flag that others wait for, also when something fails.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
