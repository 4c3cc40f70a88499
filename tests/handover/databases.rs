//! PostgreSQL, or the way to it, fails while services write: a connection is cut in every statement, a pooler hands sessions
//! about, statements time out, a dump holds its snapshot, a sequence begins anew.

use std::time::Duration;

use crate::lane::{Lane, PATIENCE, start};
use crate::support::cutter::{Cutter, Side};
use crate::support::daemon::Daemon;
use crate::support::pooler::Pooler;
use crate::support::postgres::Postgres;
use crate::support::{block_on, consumer, kafka, postgres, unique, wait_until};
use crate::world::{OUTBOXD, Service, kafka_block, topic};

/// Statements of a take-over that matter, preparations left out, and of the work after it.
const STATEMENTS: [std::ops::Range<u64>; 2] = [1..4, 30..56];

/// Lets the daemon come to the database by another port.
fn by_way_of(lane: &Lane<'_>, daemon: &Daemon, port: u16) {
    let direct = lane.service.postgres.port().to_string();
    daemon.configure(&lane.config.replace(&direct, &port.to_string()));
}

#[test]
fn a_connection_that_is_cut_in_any_statement_loses_nothing() {
    let lanes = [Side::Before, Side::After];
    std::thread::scope(|scope| {
        for side in lanes {
            scope.spawn(move || cut(side));
        }
    });
}

fn cut(side: Side) {
    let source = "batch = { events = 40 }";
    let lane = Lane::new(kafka(), postgres(16), "cut", "", source);
    let cutter = Cutter::listen(lane.service.postgres.port());
    by_way_of(&lane, &lane.daemon, cutter.port());
    lane.while_writing(&[&lane.daemon], || {
        start(&lane.daemon, "", None);
        lane.led_with(1);
        for statement in STATEMENTS.into_iter().flatten() {
            let cuts = cutter.cuts();
            cutter.arm(statement, side);
            wait_until(&format!("a cut {side:?} {statement}"), PATIENCE, || {
                cutter.cuts() > cuts
            });
            let batch = lane.batch();
            wait_until("the source to go on", PATIENCE, || lane.batch() > batch);
        }
    });
}

/// Sessions belong to outboxd. A pooler that hands each transaction to another one is named, and nothing comes of it; one
/// that keeps them together is no trouble.
#[test]
fn a_pooler_of_transactions_is_refused_and_one_of_sessions_is_not() {
    let postgres = postgres(16);
    let lane = Lane::new(kafka(), postgres, "pooled", "lease = \"2s\"", "");
    let role = format!("{}_relay", lane.service.name);
    let pooler = |mode| Pooler::start(postgres, &role, mode);
    let (transactions, sessions) = (pooler("transaction"), pooler("session"));
    let twin = lane.twin();
    lane.while_writing(&[&lane.daemon, &twin], || {
        for daemon in [&lane.daemon, &twin] {
            by_way_of(&lane, daemon, transactions.port());
            start(daemon, "", None);
        }
        let named = |daemon: &Daemon| daemon.log().contains("pool_mode = session");
        wait_until("the pooler to be named", PATIENCE, || {
            named(&lane.daemon) || named(&twin)
        });
        for daemon in [&lane.daemon, &twin] {
            daemon.kill();
            by_way_of(&lane, daemon, sessions.port());
            start(daemon, "", None);
        }
        lane.led_with(1);
        for daemon in [&lane.daemon, &twin] {
            daemon.wait_ready();
        }
    });
}

/// What an administrator sets for the database or the role does not reach outboxd's sessions; what it cannot do in time it
/// tries again.
#[test]
fn time_outs_and_read_only_defaults_cost_nothing_but_time() {
    let lane = Lane::new(kafka(), postgres(16), "patience", "lease = \"2s\"", "");
    let (name, daemon) = (&lane.service.name, &lane.daemon);
    lane.service.execute(&format!(
        "alter role {name}_relay set statement_timeout = '100ms';
         alter role {name}_relay set default_transaction_read_only = on;
         alter role {name}_relay set idle_session_timeout = '500ms';
         alter role {name}_relay set default_transaction_isolation = serializable"
    ));
    lane.while_writing(&[daemon], || {
        start(daemon, "", None);
        lane.led_with(1);
        block_on(async {
            let client = lane.service.connect_as("postgres").await;
            client
                .batch_execute("begin; select from outbox.relay for update")
                .await
                .unwrap();
            wait_until("a statement to run out of time", PATIENCE, || {
                daemon.log().contains("lock timeout")
            });
            daemon.stays_calm(Duration::from_secs(3));
            client.batch_execute("commit").await.unwrap();
        });
        lane.led_with(1);
    });
}

/// A dump holds a snapshot and its locks, and transactions stay open here and in another database, while a backlog of
/// 300,000 events is sent: none of them holds anything up but the emptying of what the dump still reads.
#[test]
fn a_held_snapshot_and_open_transactions_hold_up_no_drain() {
    const EVENTS: i64 = 300_000;
    let cluster = Postgres::start(17);
    let topic = topic(kafka(), "drain", 4, &[]);
    let service = Service::install_with(&cluster, "drain", &["--slot", "1s"]);
    cluster.create_database("elsewhere");
    cluster.execute("elsewhere", "create table t ()");
    let insert = |rows: i64| {
        service.execute(&format!(
            "insert into outbox.event (topic, key, event_type, payload)
             select '{topic}', n::text, 'E', n::text from generate_series(1, {rows}) n"
        ));
    };
    let rows = || service.number("select count(*) from outbox.event");
    block_on(async {
        let late = service.connect().await;
        late.batch_execute(&format!(
            "begin; insert into outbox.event (topic, event_type, payload) values ('{topic}', 'Late', '0')"
        ))
        .await
        .unwrap();
        let url = cluster.url("postgres", "elsewhere");
        let (elsewhere, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls)
            .await
            .unwrap();
        let open = async {
            elsewhere
                .batch_execute("begin; insert into t default values")
                .await
                .unwrap();
            insert(EVENTS);
            let dump = service.connect_as("postgres").await;
            let held = "begin isolation level repeatable read; lock table outbox.event in access share mode; select 1";
            dump.batch_execute(held).await.unwrap();
            let config = kafka_block(kafka(), &unique("drain")) + &service.block("");
            let daemon = Daemon::start(OUTBOXD, &config);
            daemon.wait_ready();
            let published = |metrics: &crate::support::metrics::Metrics| {
                metrics.sum("outboxd_events_published_total")
            };
            #[expect(clippy::cast_precision_loss, reason = "exact below 2^53")]
            let all = EVENTS as f64;
            wait_until("all of the backlog", 4 * PATIENCE, || {
                published(&daemon.metrics()) >= all
            });
            // New ones come at once, and what the dump reads stays.
            insert(100);
            daemon.wait_metrics("the new ones", |metrics| published(metrics) >= all + 100.0);
            assert!(rows() >= EVENTS, "the dump still reads them");
            dump.batch_execute("commit").await.unwrap();
            late.batch_execute("commit").await.unwrap();
            daemon.wait_metrics("the late one", |metrics| published(metrics) >= all + 101.0);
            wait_until("the ring to be emptied", 2 * PATIENCE, || rows() == 0);
            elsewhere.batch_execute("commit").await.unwrap();
            assert_eq!(daemon.terminate(), 0, "{}", daemon.log());
        };
        tokio::select! {
            () = open => {}
            _ = connection => panic!("the connection ended"),
        }
    });
    let seen = consumer::read_keeping(PATIENCE, &kafka().bootstrap(), &[&topic], |message| {
        Some(message.value)
    });
    assert_eq!(seen.messages.len(), 300_101);
}

/// A sequence that begins anew gives out ids that were published before: their rows are others all the same.
#[test]
fn ids_that_come_again_are_published_again() {
    let topic = topic(kafka(), "again", 1, &[]);
    let service = Service::install_with(postgres(16), "again", &["--slot", "1s"]);
    let config = kafka_block(kafka(), &unique("again")) + &service.block("batch = { events = 7 }");
    let daemon = Daemon::start(OUTBOXD, &config);
    let seen = || consumer::read_all(&kafka().bootstrap(), &[&topic]).len();
    for round in 1..4 {
        service.execute(&format!(
            "insert into outbox.event (topic, key, event_type, payload)
             select '{topic}', 'k', 'E', n::text from generate_series(1, 50) n"
        ));
        wait_until("all of a round", PATIENCE, || seen() == 50 * round);
        // Where a row of that id is still there, the database itself refuses its second one.
        wait_until("the ring to be emptied", PATIENCE, || {
            service.number("select count(*) from outbox.event") == 0
        });
        if round == 2 {
            daemon.kill();
            daemon.start_again();
        }
        service.execute("alter table outbox.event alter column id restart with 1");
    }
    assert_eq!(daemon.terminate(), 0, "{}", daemon.log());
}
