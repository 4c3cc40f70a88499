//! Where the figures come from: without this line they say nothing.

use std::{fs, thread};

use rdkafka::util::get_rdkafka_version;

use crate::support::block_on;
use crate::{Bench, POSTGRES};

/// The machine and what ran on it, as lines.
pub(crate) fn describe(bench: &Bench) -> String {
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processors
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown processor", |(_, model)| model);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    let settings: Vec<_> = POSTGRES
        .iter()
        .map(|(name, value)| format!("{name} {value}"))
        .collect();
    format!(
        "\n{cores} cores of {model}, shared by all of it; Linux {}; load {load} at the end\n\
         outboxd {}; PostgreSQL {} ({}); Kafka 4.3.0, one broker, one replica, page cache only; librdkafka {}\n",
        kernel.trim(),
        env!("CARGO_PKG_VERSION"),
        postgres_version(bench),
        settings.join(", "),
        get_rdkafka_version().1,
    )
}

fn postgres_version(bench: &Bench) -> String {
    let url = bench.postgres.url("postgres", "postgres");
    block_on(async {
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls)
            .await
            .unwrap();
        let ask = async move { client.query_one("show server_version", &[]).await };
        let (answer, _) = tokio::join!(ask, connection);
        answer.unwrap().get(0)
    })
}
