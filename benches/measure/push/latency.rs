//! How long a change takes from the insert to the client, with both halves at work, beside one client of an idle outboxd. Never
//! leaves out a change.

use std::{sync::atomic::Ordering::Relaxed, thread};

use super::crowd::Crowd;
use super::site::Site;
use super::{SAGA_TYPE, clients, logins};
use crate::Bench;
use crate::options::Options;
use crate::pace::{self, Latencies, Plan};
use crate::sample::PARTITIONS;
use crate::support::unique;
use crate::table::{Row, Table};
use crate::usage::Cpu;
use crate::world::{self, Service};

const CLIENTS: usize = 1000;
/// Events a second for the one client.
const IDLE_RATE: u32 = 20;

pub(super) fn measure(bench: &Bench, options: &Options, table: &mut Table) {
    eprintln!("push-latency");
    let count = clients(options.connections.min(CLIENTS));
    let service = Service::install(&bench.postgres, "bench");
    let topic = world::topic(&bench.kafka, "bench", PARTITIONS, &[]);
    let lines = "drain = \"0s\"\n";
    let site = Site::start(&bench.kafka, &unique("bench"), &[&service], lines);
    site.daemon.wait_ready();
    let way = Way {
        bench,
        options,
        service: &service,
        topic: &topic,
        site: &site,
    };
    let (many, cpu) = way.measure(options.rate, 0..count);
    let (one, idle_cpu) = way.measure(IDLE_RATE, count..count + 1);
    assert!(site.daemon.terminate() == 0, "{}", site.daemon.log());

    table.section(
        &format!(
            "Insert to client in ms: {count} clients and sagas, {} events per s; one client, {IDLE_RATE} per s; {} s",
            options.rate,
            options.duration.as_secs()
        ),
        ["outboxd", "one client", ""],
    );
    for (name, part) in [("p50", 0.50), ("p99", 0.99), ("max", 1.0)] {
        let [many, one] = [&many, &one].map(|latencies| Some(latencies.part(part)));
        table.row(Row::new(name, 1, [many, one, None]));
    }
    let ms_per_s = |cpu: f64| Some(cpu * 1000.0 / options.duration.as_secs_f64());
    let mut row = |figure, many, one| {
        table.row(Row::new(figure, 0, [ms_per_s(many), ms_per_s(one), None]));
    };
    row("CPU ms per s: outboxd", cpu.client, idle_cpu.client);
    row("CPU ms per s: PostgreSQL", cpu.postgres, idle_cpu.postgres);
    row("CPU ms per s: broker", cpu.kafka, idle_cpu.kafka);
}

struct Way<'a> {
    bench: &'a Bench,
    options: &'a Options,
    service: &'a Service<'a>,
    topic: &'a str,
    site: &'a Site,
}

impl Way<'_> {
    /// One client for each key; all events of a key are of one saga.
    fn measure(&self, rate: u32, keys: std::ops::Range<usize>) -> (Latencies, Cpu) {
        let insert = format!(
            "insert into outbox.event (topic, key, event_type, payload, saga_type, saga_id, saga_user, saga_state) \
             values ($1, $2, 'OrderCreated', $3, '{SAGA_TYPE}', $2, $2, 'APPROVAL_PENDING')"
        );
        let logins = logins(self.site, keys.clone());
        let process = self.site.daemon.pid().expect("it runs");
        // Connections are made before the first event is due.
        let crowd = Crowd::open(self.site.address(), logins);
        let plan = Plan::new(self.options, rate, keys);
        crowd.measure_from(plan.measured_from);
        let cpu = thread::scope(|scope| {
            let writers = scope.spawn(|| pace::insert(self.service, &insert, self.topic, plan));
            let cpu = pace::usage(self.bench, process, self.options.duration);
            writers.join().unwrap();
            cpu
        });
        let events = u64::try_from(plan.events).expect("it fits");
        crowd.wait("all events", |seen| seen.news.load(Relaxed) >= events);
        assert!(crowd.news() == events, "an event came twice");
        (crowd.close(), cpu)
    }
}
