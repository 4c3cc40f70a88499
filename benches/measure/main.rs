//! `make bench`: what outboxd takes and how fast it is, each figure beside what the least that could do the work takes in the
//! same run. Never judges a figure, and fails only when an event is lost or doubled, or a client sees a gap.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    missing_docs,
    reason = "a program that measures prints its table, and says where it cannot go on"
)]

#[path = "../../tests/support/mod.rs"]
#[allow(unused_imports, reason = "its own tests run elsewhere")]
mod support;
#[path = "../../tests/it/world.rs"]
#[allow(dead_code, reason = "made for the tests, which need more of it")]
mod world;

mod machine;
mod options;
mod pace;
mod push;
mod relay;
mod sample;
mod table;
mod usage;

use std::process::ExitCode;

use options::Options;
use support::kafka::Kafka;
use support::postgres::Postgres;
use table::Table;
use usage::Servers;

/// What everything is measured against.
struct Bench {
    postgres: Postgres,
    kafka: Kafka,
}

/// Unlike the cluster of the tests this one flushes, as a service's would. The rest keeps background work out of the figures.
const POSTGRES: &[(&str, &str)] = &[
    ("fsync", "on"),
    ("shared_buffers", "512MB"),
    ("max_wal_size", "8GB"),
    ("checkpoint_timeout", "30min"),
];
const POSTGRES_VERSION: u16 = 18;

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => return ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}\n{}", options::USAGE);
            return ExitCode::from(64);
        }
    };
    eprintln!("starting PostgreSQL and Kafka");
    let bench = Bench {
        postgres: Postgres::builder(POSTGRES_VERSION)
            .settings(POSTGRES)
            .start(),
        kafka: Kafka::builder().optimised().start(),
    };
    let mut table = Table::default();
    relay::measure(&bench, &options, &mut table);
    push::measure(&bench, &options, &mut table);
    let machine = machine::describe(&bench);
    print!("{table}{machine}");
    if let Some(file) = &options.json {
        let text = format!("{:#}\n", table.json(&machine));
        std::fs::write(file, text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }
    ExitCode::SUCCESS
}

impl Bench {
    /// The processes whose time is counted apart from outboxd's.
    fn servers(&self) -> Servers {
        Servers {
            postgres: self.postgres.pid().expect("it runs"),
            kafka: self.kafka.pid().expect("it runs"),
        }
    }
}
