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
    let many = way.measure(options.rate, 0..count);
    let one = way.measure(IDLE_RATE, count..count + 1);
    assert!(site.daemon.terminate() == 0, "{}", site.daemon.log());

    table.section(
        &format!(
            "Insert to client in ms: {count} clients and sagas, {} events per s; one client, {IDLE_RATE} per s; {} s",
            options.rate,
            options.duration.as_secs()
        ),
        ["outboxd", "one client", ""],
    );
    let mut row = |figure: &str, decimals, value: &dyn Fn(&Measured) -> f64| {
        let cells = [Some(value(&many)), Some(value(&one)), None];
        table.row(Row::new(figure, decimals, cells));
    };
    for (name, part) in [("p50", 0.50), ("p99", 0.99), ("max", 1.0)] {
        row(name, 1, &|it| it.latencies.part(part));
    }
    row("mean: insert to published", 1, &|it| it.published_ms);
    row("mean: insert to written to a client", 1, &|it| {
        it.written_ms
    });
    let ms_per_s = 1000.0 / options.duration.as_secs_f64();
    row("CPU ms per s: outboxd", 0, &|it| it.cpu.client * ms_per_s);
    row("CPU ms per s: PostgreSQL", 0, &|it| {
        it.cpu.postgres * ms_per_s
    });
    row("CPU ms per s: broker", 0, &|it| it.cpu.kafka * ms_per_s);
}

struct Measured {
    latencies: Latencies,
    cpu: Cpu,
    /// What outboxd's own metrics say, on average and with the warm-up.
    published_ms: f64,
    written_ms: f64,
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
    fn measure(&self, rate: u32, keys: std::ops::Range<usize>) -> Measured {
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
        let before = self.site.daemon.metrics();
        let cpu = thread::scope(|scope| {
            let writers = scope.spawn(|| pace::insert(self.service, &insert, self.topic, plan));
            let cpu = pace::usage(self.bench, process, self.options.duration);
            writers.join().unwrap();
            cpu
        });
        let events = u64::try_from(plan.events).expect("it fits");
        crowd.wait("all events", |seen| seen.news.load(Relaxed) >= events);
        assert!(crowd.news() == events, "an event came twice");
        let after = self.site.daemon.metrics();
        let mean_ms = |name: &str| {
            let [sum, count] = ["sum", "count"].map(|part| {
                let name = format!("outboxd_{name}_seconds_{part}");
                after.sum(&name) - before.sum(&name)
            });
            sum / count * 1000.0
        };
        Measured {
            latencies: crowd.close(),
            cpu,
            published_ms: mean_ms("insert_to_publish"),
            written_ms: mean_ms("insert_to_push"),
        }
    }
}
