//! The daemon is killed again and again while nasty writers are at work: nothing is lost, doubled or reordered.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::murmur;
use crate::support::consumer::{self, Message};
use crate::support::{block_on, kafka, postgres, unique, wait_until};
use crate::world::{Service, daemon, topic};

const WRITERS: u64 = 8;
const KEYS: u64 = 40;

#[test]
fn thirty_kills_lose_double_and_reorder_nothing() {
    // Of so many kills a third must come between a commit and its settlement.
    kills(16, 30, 10, Duration::from_secs(30));
}

/// Writes, kills the daemon so often, goes on writing for so long in all, and looks at what became of it.
pub(crate) fn kills(version: u16, kills: usize, unsettled_at_least: usize, lasts: Duration) {
    let (kafka, postgres) = (kafka(), postgres(version));
    let prefix = unique("kill");
    let topic = topic(kafka, "kill", 4, &[]);
    let services = ["shop", "kitchen"].map(|name| Service::install(postgres, name));
    for service in &services {
        prepare(service);
    }
    let daemon = daemon(kafka, &prefix, &services.iter().collect::<Vec<_>>());
    let stop = AtomicBool::new(false);
    let commits = AtomicU64::new(0);
    let mut unsettled = 0;
    std::thread::scope(|scope| {
        for service in &services {
            for writer in 0..WRITERS {
                let (stop, commits, topic) = (&stop, &commits, &topic);
                scope.spawn(move || block_on(write(service, topic, writer, stop, commits)));
            }
            let stop = &stop;
            scope.spawn(move || block_on(bystander(service, stop)));
        }
        let _stop = StopAtEnd(&stop);
        let began = Instant::now();
        for _ in 0..kills {
            // Killed in full flow: after some transactions, so that the last ones are rarely settled.
            daemon.wait_metrics("the daemon to publish", |metrics| {
                metrics.sum("outboxd_batches_total") > 20.0
            });
            unsettled +=
                usize::from(daemon.metrics().sum("outboxd_duplicates_suppressed_total") > 0.0);
            daemon.kill();
            daemon.start_again();
        }
        wait_until("enough of writing", Duration::from_secs(120), || {
            began.elapsed() > lasts
        });
    });
    assert!(
        commits.load(Ordering::Relaxed) > 100,
        "{commits:?} commits prove little"
    );
    assert!(
        unsettled >= unsettled_at_least,
        "only {unsettled} kills came between a commit and its settlement"
    );

    let expected: Vec<BTreeMap<String, i64>> =
        services.iter().map(|s| block_on(versions(s))).collect();
    let total: i64 = expected.iter().flat_map(BTreeMap::values).sum();
    let read = || consumer::read_all(&kafka.bootstrap(), &[&topic]);
    wait_until(
        "all events to be published",
        Duration::from_secs(60),
        || read().len() >= usize::try_from(total).unwrap(),
    );
    assert_eq!(daemon.terminate(), 0, "{}", daemon.log());
    let messages = read();
    for (service, expected) in services.iter().zip(&expected) {
        assert_eq!(verdict(service, expected, &messages), Vec::<String>::new());
    }
    assert_eq!(messages.len(), usize::try_from(total).unwrap(), "no ghosts");
}

/// Stops the writers, also when the test fails: it waits for them.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The aggregates that serialise the writers, and one that does not.
pub(crate) fn prepare(service: &Service<'_>) {
    let app = format!("{}_app", service.name);
    service.execute(&format!(
        "create table aggregate (key text primary key, version bigint not null);
         create table audit (at timestamptz default now());
         insert into aggregate select 'k-' || n, 0 from generate_series(0, {KEYS} - 1) n;
         grant select, update on aggregate to {app}; grant insert on audit to {app}"
    ));
}

/// Takes its transaction id before the aggregate's lock, waits in odd places, rolls back to savepoints and altogether,
/// and writes one to three versions of a key at once.
pub(crate) async fn write(
    service: &Service<'_>,
    topic: &str,
    writer: u64,
    stop: &AtomicBool,
    commits: &AtomicU64,
) {
    let mut client = service.connect().await;
    let mut n = writer;
    while !stop.load(Ordering::Relaxed) {
        n = n
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let die = |shift: u32, sides: u64| (n >> shift) % sides;
        let nap = |shift, most| tokio::time::sleep(Duration::from_millis(die(shift, most)));
        let key = format!("k-{}", die(33, KEYS));
        let mut transaction = client.transaction().await.unwrap();
        transaction
            .execute("insert into audit default values", &[])
            .await
            .unwrap();
        nap(20, 8).await;
        let rows = i64::try_from(1 + die(40, 3)).unwrap();
        if die(45, 4) == 0 {
            let savepoint = transaction.savepoint("oops").await.unwrap();
            bump(&savepoint, topic, &key, 1).await;
            savepoint.rollback().await.unwrap();
        }
        if die(47, 3) == 0 {
            let savepoint = transaction.savepoint("kept").await.unwrap();
            bump(&savepoint, topic, &key, rows).await;
            savepoint.commit().await.unwrap();
        } else {
            bump(&transaction, topic, &key, rows).await;
        }
        nap(25, 5).await;
        if die(50, 6) == 0 {
            transaction.rollback().await.unwrap();
        } else {
            transaction.commit().await.unwrap();
            commits.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Raises a key's version by `rows` and writes an event of each, with the time of the transaction's begin as the
/// time of the event: whoever orders by it is wrong.
async fn bump(transaction: &tokio_postgres::Transaction<'_>, topic: &str, key: &str, rows: i64) {
    transaction
        .execute(
            "with bumped as (update aggregate set version = version + $3 where key = $2 returning version)
             insert into outbox.event (topic, key, event_type, payload, created_at)
             select $1, $2, 'Bumped', version.n::text, now()
             from bumped, generate_series(bumped.version - $3 + 1, bumped.version) as version (n) order by version.n",
            &[&topic, &key, &rows],
        )
        .await
        .unwrap();
}

/// A transaction with an id that stays open all the while, over and over for ten seconds.
async fn bystander(service: &Service<'_>, stop: &AtomicBool) {
    let mut client = service.connect().await;
    while !stop.load(Ordering::Relaxed) {
        let transaction = client.transaction().await.unwrap();
        transaction
            .execute("insert into audit default values", &[])
            .await
            .unwrap();
        let until = Instant::now() + Duration::from_secs(10);
        while Instant::now() < until && !stop.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        transaction.commit().await.unwrap();
    }
}

/// How often each key was bumped by transactions that committed.
pub(crate) async fn versions(service: &Service<'_>) -> BTreeMap<String, i64> {
    let client = service.connect_as("postgres").await;
    let rows = client
        .query("select key, version from aggregate", &[])
        .await
        .unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// What is wrong with the events of a source: each key must show 1, 2, 3 … up to its version, in one partition.
pub(crate) fn verdict(
    service: &Service<'_>,
    expected: &BTreeMap<String, i64>,
    messages: &[Message],
) -> Vec<String> {
    let source = (
        String::from("ce_source"),
        Some(service.name.clone().into_bytes()),
    );
    let mut seen: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for message in messages
        .iter()
        .filter(|message| message.headers.contains(&source))
    {
        let text = |bytes: &Option<Vec<u8>>| String::from_utf8(bytes.clone().unwrap()).unwrap();
        let key = text(&message.key);
        assert_eq!(message.partition, murmur::partition(key.as_bytes(), 4));
        seen.entry(key)
            .or_default()
            .push(text(&message.value).parse().unwrap());
    }
    let mut faults = Vec::new();
    for (key, version) in expected {
        let seen = seen.remove(key).unwrap_or_default();
        let mut sorted = seen.clone();
        sorted.sort_unstable();
        sorted.dedup();
        let doubled = seen.len() - sorted.len();
        let lost = usize::try_from(*version)
            .unwrap()
            .saturating_sub(sorted.len());
        let reordered = seen.windows(2).filter(|pair| pair[0] > pair[1]).count();
        if doubled + lost + reordered > 0 || seen.len() != usize::try_from(*version).unwrap() {
            let wrong = seen
                .iter()
                .zip(1..)
                .find(|(seen, expected)| *seen != expected);
            faults.push(format!(
                "{key}: {lost} lost, {doubled} doubled, {reordered} reordered, first at {wrong:?}"
            ));
        }
    }
    faults.extend(
        seen.into_keys()
            .map(|key| format!("{key}: never committed")),
    );
    faults
}
