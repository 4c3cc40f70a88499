//! Events at a steady rate, and how long they take. Never waits for one event before it inserts the next.

use std::{
    thread,
    time::{Duration, Instant, SystemTime},
};

use crate::Bench;
use crate::options::Options;
use crate::sample;
use crate::support::block_on;
use crate::usage::Cpu;
use crate::world::Service;

/// Sessions that insert; more than one commit is always on its way.
const WRITERS: usize = 8;
/// Not measured: caches fill, compilers work.
pub(crate) const WARM_UP: Duration = Duration::from_secs(2);

/// When it begins, when it is measured, when it ends, and whose events they are.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) begin: Instant,
    pub(crate) measured_from: SystemTime,
    pub(crate) events: usize,
    rate: u32,
    first_key: usize,
    keys: usize,
}

impl Plan {
    /// From now on; the events go round the keys.
    pub(crate) fn new(options: &Options, rate: u32, keys: std::ops::Range<usize>) -> Self {
        let length = options.duration + WARM_UP;
        let events = length.as_secs() * u64::from(rate);
        Self {
            begin: Instant::now(),
            measured_from: SystemTime::now() + WARM_UP,
            events: usize::try_from(events).expect("it fits"),
            rate,
            first_key: keys.start,
            keys: keys.len(),
        }
    }

    fn offset(self, number: usize) -> Duration {
        Duration::from_secs(1) * u32::try_from(number).expect("it fits") / self.rate
    }

    /// When an event is due.
    pub(crate) fn moment(self, number: usize) -> Instant {
        self.begin + self.offset(number)
    }

    /// The same by the clock on the wall.
    pub(crate) fn wall(self, number: usize) -> SystemTime {
        self.measured_from - WARM_UP + self.offset(number)
    }
}

/// Inserts all events at their moments, each in a transaction of its own, by a statement that takes topic, key and payload.
/// Gives what each took.
pub(crate) fn insert(service: &Service<'_>, statement: &str, topic: &str, plan: Plan) -> Latencies {
    let took = thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                scope.spawn(move || block_on(write(service, statement, topic, writer, plan)))
            })
            .collect();
        let took = writers
            .into_iter()
            .flat_map(|writer| writer.join().unwrap());
        took.collect()
    });
    Latencies::new(took)
}

/// Inserts this writer's share.
async fn write(
    service: &Service<'_>,
    statement: &str,
    topic: &str,
    writer: usize,
    plan: Plan,
) -> Vec<f64> {
    let client = service.connect().await;
    let statement = client.prepare(statement).await.unwrap();
    let mut took = Vec::new();
    for number in (0..plan.events).skip(writer).step_by(WRITERS) {
        tokio::time::sleep_until(plan.moment(number).into()).await;
        let key = sample::key(plan.first_key + number % plan.keys);
        let payload = sample::payload(number);
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

/// Processor time while it is measured.
pub(crate) fn usage(bench: &Bench, client: u32, duration: Duration) -> Cpu {
    thread::sleep(WARM_UP);
    let before = bench.servers().cpu(client);
    thread::sleep(duration);
    bench.servers().cpu(client) - before
}

/// Milliseconds, rising.
pub(crate) struct Latencies(Vec<f64>);

impl Latencies {
    pub(crate) fn new(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    /// The value that this part of all does not exceed.
    pub(crate) fn part(&self, part: f64) -> f64 {
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
