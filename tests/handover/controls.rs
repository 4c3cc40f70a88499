//! Negative controls: each rule that the hand-over rests on is left out once, and the verdict must say so.
//!
//! Each scenario is run with the rule kept as well, where nothing may be wrong: then it is the rule that makes the
//! difference. Locks, stops and the order of commits force what happens; nothing is left to luck.

use std::process::Command;

use outboxd::failpoint::{Point, Sabotage};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use tokio_postgres::Client;
use uuid::Uuid;

use crate::lane::{Lane, PATIENCE, start, stopped};
use crate::support::history::{Attempt, Fault, Outcome, Row, Verdict};
use crate::support::kafka::Kafka;
use crate::support::postgres::Postgres;
use crate::support::proxy::Proxy;
use crate::support::{block_on, kafka, postgres, process, wait_until};
use crate::world::OUTBOXD;

/// A broken rule does its harm in a race that the daemon may win on a loaded machine; kept, it never may.
const TRIES: usize = 3;

/// Runs a scenario with the rule and without it.
fn control(sabotage: Sabotage, fault: Fault, scenario: impl Fn(Option<Sabotage>) -> Verdict) {
    let kept = scenario(None);
    assert!(kept.is_clean(), "although the rule is kept: {kept}");
    let noticed = (0..TRIES).any(|_| {
        let broken = scenario(Some(sabotage));
        eprintln!("{}: {broken}", sabotage.name());
        broken.count(fault) > 0
    });
    assert!(noticed, "{} was not noticed", sabotage.name());
}

/// A transaction that is written by hand.
struct Hand<'a> {
    lane: &'a Lane<'a>,
    client: Client,
    id: Uuid,
    rows: Vec<Row>,
}

impl<'a> Hand<'a> {
    /// Begins one; it has its number at once.
    async fn begin(lane: &'a Lane<'a>) -> Self {
        let client = lane.service.connect().await;
        let id = Uuid::new_v4();
        client.batch_execute("begin").await.unwrap();
        client
            .execute("insert into ledger values ($1)", &[&id])
            .await
            .unwrap();
        Self {
            lane,
            client,
            id,
            rows: Vec::new(),
        }
    }

    /// Writes `count` events of a key, with the time of the transaction's begin.
    async fn write(mut self, key: &str, count: i64) -> Self {
        let update = "update aggregate set version = version + $2 where key = $1 returning version";
        let last: i64 = self
            .client
            .query_one(update, &[&key, &count])
            .await
            .unwrap()
            .get(0);
        let topic = &self.lane.topics[0];
        let insert = "insert into outbox.event
              (topic, key, event_type, payload, created_at, saga_type, saga_id, saga_state)
            select $1, $2, 'E', json_build_object('mark', m.mark)::text, now(), 'bump', $2, m.mark
            from (select $2::text || '/' || n as mark, n
              from generate_series($3::bigint - $4::bigint + 1, $3::bigint) n) m order by m.n";
        self.client
            .execute(insert, &[topic, &key, &last, &count])
            .await
            .unwrap();
        for version in last - count + 1..=last {
            for topic in [topic, &self.lane.sagas] {
                self.rows.push(Row {
                    source: self.lane.service.name.clone(),
                    topic: topic.clone(),
                    key: Some(key.to_owned()),
                    mark: format!("{key}/{version}"),
                    version,
                });
            }
        }
        self
    }

    async fn commit(self) {
        self.commit_as(Outcome::Committed).await;
    }

    async fn commit_as(self, outcome: Outcome) {
        self.client.batch_execute("commit").await.unwrap();
        self.lane.log.note(Attempt {
            id: self.id,
            outcome,
            rows: self.rows,
        });
    }
}

/// Lets the daemon go on to the end without further harm, and judges.
fn end(lane: &Lane<'_>) -> Verdict {
    lane.settled();
    // A daemon that has just begun does not hear a signal yet.
    lane.daemon.wait_ready();
    assert_eq!(lane.daemon.terminate(), 0, "{}", lane.daemon.log());
    lane.verdict()
}

fn published(lane: &Lane<'_>, events: f64) {
    lane.daemon
        .wait_metrics("events to be published", |metrics| {
            metrics.sum("outboxd_events_published_total") >= events
        });
}

/// A transaction that began first gets the key last.
fn late_holder(sabotage: Option<Sabotage>) -> Verdict {
    let lane = Lane::new(kafka(), postgres(16), "order", "", "");
    block_on(async {
        let first = Hand::begin(&lane).await;
        Hand::begin(&lane)
            .await
            .write("k-1", 2)
            .await
            .commit()
            .await;
        first.write("k-1", 2).await.commit().await;
    });
    start(&lane.daemon, "", sabotage);
    end(&lane)
}

#[test]
fn the_time_of_events_is_no_order() {
    control(Sabotage::OrderByCreatedAt, Fault::Reordered, late_holder);
}

#[test]
fn the_number_of_transactions_is_no_order() {
    control(Sabotage::OrderByXid, Fault::Reordered, late_holder);
}

#[test]
fn a_cursor_of_ids_loses_late_commits() {
    control(Sabotage::CursorById, Fault::Lost, |sabotage| {
        let lane = Lane::new(kafka(), postgres(16), "cursor", "", "");
        start(&lane.daemon, "", sabotage);
        block_on(async {
            let late = Hand::begin(&lane).await.write("k-1", 1).await;
            Hand::begin(&lane)
                .await
                .write("k-2", 1)
                .await
                .commit()
                .await;
            published(&lane, 1.0);
            late.commit().await;
        });
        end(&lane)
    });
}

#[test]
fn what_is_not_read_back_is_sent_again() {
    control(Sabotage::NoReadBack, Fault::Doubled, |sabotage| {
        let lane = Lane::new(kafka(), postgres(16), "readback", "", "");
        block_on(async {
            Hand::begin(&lane)
                .await
                .write("k-1", 3)
                .await
                .commit()
                .await
        });
        lane.kill_at(Point::AfterCommit, 1, sabotage);
        start(&lane.daemon, "", sabotage);
        end(&lane)
    });
}

/// A foreign producer's open transaction in the checkpoint topic holds the last stable offset back.
#[test]
fn the_last_stable_offset_is_not_the_end() {
    control(Sabotage::ReadBackToStable, Fault::Doubled, |sabotage| {
        let lane = Lane::new(kafka(), postgres(16), "stable", "", "");
        block_on(async {
            Hand::begin(&lane)
                .await
                .write("k-1", 3)
                .await
                .commit()
                .await
        });
        start(&lane.daemon, "read=1:stop,after_commit=1", sabotage);
        stopped(&lane.daemon);
        let foreign = undecided(&lane);
        lane.daemon.signal("CONT");
        lane.killed(Point::AfterCommit);
        let epoch = lane.service.number("select epoch from outbox.relay");
        start(&lane.daemon, "", sabotage);
        match sabotage {
            Some(_) => published(&lane, 3.0),
            None => wait_until("the take-over to begin", PATIENCE, || {
                lane.service.number("select epoch from outbox.relay") > epoch
            }),
        }
        foreign.abort_transaction(PATIENCE).unwrap();
        end(&lane)
    });
}

/// Writes to the checkpoint topic in a transaction that it leaves open.
fn undecided(lane: &Lane<'_>) -> BaseProducer {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", lane.kafka.bootstrap())
        .set("transactional.id", lane.prefix.clone() + "-foreign");
    let producer: BaseProducer = config.create().unwrap();
    producer.init_transactions(PATIENCE).unwrap();
    producer.begin_transaction().unwrap();
    let topic = lane.checkpoints();
    producer
        .send(BaseRecord::to(&topic).partition(0).key("x").payload("x"))
        .unwrap();
    producer.flush(PATIENCE).unwrap();
    producer
}

/// A leader is stopped before it gets another producer after a slow commit, with its next batch read already. Another one
/// takes over, as after a step of the database's clock, and publishes that batch. Then the first one goes on.
#[test]
fn whoever_replaces_its_producer_looks_whether_it_leads() {
    control(Sabotage::ReplaceBlindly, Fault::Doubled, |sabotage| {
        let (relay, source) = ("lease = \"60s\"", "batch = { events = 1 }");
        let lane = Lane::new(kafka(), postgres(16), "blindly", relay, source);
        block_on(async {
            Hand::begin(&lane)
                .await
                .write("k-1", 3)
                .await
                .commit()
                .await
        });
        start(&lane.daemon, "after_commit=1:slow,replace=1:stop", sabotage);
        stopped(&lane.daemon);
        lane.expire();
        let successor = lane.twin();
        start(&successor, "", sabotage);
        lane.settled();
        lane.daemon.signal("CONT");
        // Fenced, it stands by; blind, it publishes what it had read, and is fenced when it settles.
        lane.daemon
            .wait_metrics("the first one to stand by", |metrics| {
                metrics.sum("outboxd_lease_lost_total") >= 1.0
            });
        end(&lane)
    });
}

/// A daemon is stopped just before it settles the first page of a window, rows of which an earlier life had published;
/// another one settles all of it and forgets those rows. Then the first one goes on, and dies of the next settlement that it
/// believes in: at once, or when it leads again.
#[test]
fn without_the_epoch_a_zombie_takes_the_position_back() {
    control(Sabotage::NoEpochCheck, Fault::Doubled, |sabotage| {
        let lane = Lane::new(
            kafka(),
            postgres(16),
            "epoch",
            "lease = \"2s\"",
            "batch = { events = 20 }",
        );
        // Rows that left the ring could not be sent again.
        let url = lane.service.postgres.url("postgres", &lane.service.name);
        let install = ["sql", "install", "--url", &url, "--slot", "30m"];
        let installed = Command::new(OUTBOXD).args(install).output().unwrap();
        assert!(installed.status.success(), "{installed:?}");
        block_on(async {
            let late = Hand::begin(&lane).await.write("k-0", 1).await;
            Hand::begin(&lane)
                .await
                .write("k-1", 60)
                .await
                .commit()
                .await;
            lane.kill_at(Point::AfterCommit, 1, sabotage);
            late.commit().await;
        });
        start(
            &lane.daemon,
            "before_settle=1:stop,after_settle=1",
            sabotage,
        );
        stopped(&lane.daemon);
        let successor = lane.twin();
        start(&successor, "", sabotage);
        lane.settled();
        wait_until("nothing to be ahead", PATIENCE, || {
            lane.service.number("select count(*) from outbox.ahead") == 0
        });
        successor.kill();
        lane.daemon.signal("CONT");
        lane.killed(Point::AfterSettle);
        start(&lane.daemon, "", sabotage);
        end(&lane)
    });
}

/// The database loses a commit that nobody waited for: a crash comes before its WAL writer.
#[test]
fn what_is_not_flushed_may_be_a_ghost() {
    control(Sabotage::NoFlushGate, Fault::Ghost, |sabotage| {
        let quiet = [
            ("autovacuum", "off"),
            ("wal_level", "minimal"),
            ("max_wal_senders", "0"),
        ];
        let postgres = Postgres::builder(16).settings(&quiet).start();
        let lane = Lane::new(kafka(), &postgres, "ghost", "", "");
        start(&lane.daemon, "", sabotage);
        lane.daemon.wait_ready();
        let writer = lane
            .service
            .number("select pid::bigint from pg_stat_activity where backend_type = 'walwriter'");
        process::signal("STOP", &[u32::try_from(writer).unwrap()]);
        block_on(async {
            let hand = Hand::begin(&lane).await.write("k-1", 1).await;
            hand.client
                .batch_execute("set local synchronous_commit = off")
                .await
                .unwrap();
            hand.commit_as(Outcome::Unknown).await;
        });
        published(&lane, 1.0);
        postgres.kill();
        postgres.start_again();
        block_on(async {
            Hand::begin(&lane)
                .await
                .write("k-2", 1)
                .await
                .commit()
                .await
        });
        end(&lane)
    });
}

/// The answer to a commit is slow, because its request was held and a second one did the work. The first one arrives when
/// the next transaction has sent its events and nothing else.
#[test]
fn a_producer_kept_after_a_slow_commit_tears_the_next_transaction() {
    control(Sabotage::KeepAfterSlowCommit, Fault::Doubled, |sabotage| {
        let kafka = Kafka::builder();
        let proxy = Proxy::listen(kafka.bootstrap());
        let advertised = format!("PLAINTEXT://{}", proxy.address());
        let kafka = kafka
            .properties(&[("advertised.listeners", &advertised)])
            .start();
        let lane = Lane::new(&kafka, postgres(16), "torn", "lease = \"60s\"", "");
        block_on(async {
            Hand::begin(&lane)
                .await
                .write("k-1", 1)
                .await
                .commit()
                .await
        });
        proxy.hold();
        start(&lane.daemon, "sagas=2:stop", sabotage);
        proxy.wait_held();
        block_on(async {
            Hand::begin(&lane)
                .await
                .write("k-2", 3)
                .await
                .commit()
                .await
        });
        proxy.pass();
        stopped(&lane.daemon);
        let code = proxy.release();
        assert_eq!(
            code == 0,
            sabotage.is_some(),
            "the broker answers {code} to the old commit"
        );
        lane.daemon.kill();
        start(&lane.daemon, "", None);
        end(&lane)
    });
}

#[test]
fn what_is_settled_before_its_commit_is_lost() {
    control(Sabotage::SettleBeforeCommit, Fault::Lost, |sabotage| {
        let lane = Lane::new(kafka(), postgres(16), "early", "", "");
        block_on(async {
            Hand::begin(&lane)
                .await
                .write("k-1", 3)
                .await
                .commit()
                .await
        });
        lane.kill_at(Point::BeforeCommit, 1, sabotage);
        start(&lane.daemon, "", None);
        end(&lane)
    });
}

#[test]
fn every_rule_has_its_control_and_its_line_in_the_document() {
    let code = include_str!("controls.rs");
    let document = include_str!("../../docs/correctness.md");
    let lines = document.lines().filter(|line| line.starts_with("| "));
    let lines: Vec<&str> = lines.collect();
    for sabotage in Sabotage::ALL {
        let control = format!("control(Sabotage::{sabotage:?},");
        assert_eq!(code.matches(&control).count(), 1, "{control}");
        let (before, after) = code.split_once(&control).unwrap();
        let (_, test) = before.rsplit_once("\nfn ").unwrap();
        let (test, _) = test.split_once('(').unwrap();
        let (_, fault) = after.split_once("Fault::").unwrap();
        let fault = fault.split_once(',').unwrap().0.to_lowercase();
        let told = |line: &&str| line.contains(&format!("| {fault}")) && line.contains(test);
        assert_eq!(
            lines.iter().filter(|line| told(line)).count(),
            1,
            "{test}: {fault}"
        );
    }
}

#[test]
fn every_test_that_the_document_names_is_there() {
    let code = [
        include_str!("brokers.rs"),
        include_str!("controls.rs"),
        include_str!("daemons.rs"),
        include_str!("databases.rs"),
        include_str!("letters.rs"),
        include_str!("../it/adopt.rs"),
        include_str!("../it/denied.rs"),
        include_str!("../it/matrix.rs"),
        include_str!("../it/mistakes.rs"),
        include_str!("../it/refused.rs"),
        include_str!("../it/ring.rs"),
    ];
    let document = include_str!("../../docs/correctness.md");
    let named = document.split('`').skip(1).step_by(2);
    let is_test = |name: &&str| {
        let letters = name
            .chars()
            .all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '_');
        letters && name.matches('_').count() > 3
    };
    let mut count = 0;
    for name in named.filter(is_test) {
        let function = format!("#[test]\nfn {name}() {{");
        assert!(code.iter().any(|code| code.contains(&function)), "{name}");
        count += 1;
    }
    assert!(count > 30, "{count} tests are named");
}
