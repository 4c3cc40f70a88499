//! `sql rename` and `sql rebase`, through the whole daemon: nothing that was published comes twice, and nothing is lost.

use std::time::Duration;

use tokio_postgres::Client;

use crate::site::{Ended, outboxd};
use crate::support::consumer;
use crate::support::daemon::Daemon;
use crate::support::topics::delete_topic;
use crate::support::{block_on, kafka, postgres, unique, wait_until};
use crate::world::{self, OUTBOXD, Service, kafka_block, topic};

const PATIENCE: Duration = Duration::from_secs(90);

/// One source, its daemon and the topic of its events.
struct World<'a> {
    prefix: String,
    topic: String,
    service: Service<'a>,
    daemon: Daemon,
}

impl World<'_> {
    fn new(name: &str) -> Self {
        let (prefix, topic) = (unique(name), topic(kafka(), name, 1, &[]));
        let service = Service::install(postgres(16), name);
        let config = kafka_block(kafka(), &prefix) + LEASE + &service.block("");
        let daemon = Daemon::start(OUTBOXD, &config);
        daemon.wait_ready();
        Self {
            prefix,
            topic,
            service,
            daemon,
        }
    }

    /// Lets the daemon's configuration call the source `name` and lead it to the database of `service`.
    fn configure(&self, name: &str, service: &Service<'_>) {
        let block = service.block("");
        let block = block.replace(
            &format!("[sources.{}]", service.name),
            &format!("[sources.{name}]"),
        );
        self.daemon
            .configure(&(kafka_block(kafka(), &self.prefix) + LEASE + &block));
    }

    /// Runs `outboxd sql` with the daemon's configuration.
    fn sql(&self, arguments: &[&str]) -> Ended {
        let config = self.daemon.config();
        let config = ["sql", "--config", config.to_str().unwrap()];
        outboxd(&[&config[..], arguments].concat())
    }

    /// The same, once the lease of a daemon that was killed has run out.
    fn sql_when_free(&self, arguments: &[&str]) -> Ended {
        let mut ended = None;
        wait_until("the lease to end", PATIENCE, || {
            let now = self.sql(arguments);
            let led = now.err.contains("leads this source");
            assert!(!led || now.code == 65, "{now:?}");
            ended = (!led).then_some(now);
            !led
        });
        ended.unwrap()
    }

    /// What a consumer has seen, by value, rising.
    fn seen(&self) -> Vec<i32> {
        let mut values: Vec<i32> = self
            .messages()
            .into_iter()
            .map(|(value, _)| value)
            .collect();
        values.sort_unstable();
        values
    }

    /// Values and sources.
    fn messages(&self) -> Vec<(i32, String)> {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let messages = consumer::read_all(&kafka().bootstrap(), &[&self.topic]);
        let message = |message: consumer::Message| {
            let source = message
                .headers
                .into_iter()
                .find(|(name, _)| name == "ce_source");
            let source = text(source.unwrap().1.unwrap());
            (text(message.value.unwrap()).parse().unwrap(), source)
        };
        messages.into_iter().map(message).collect()
    }

    fn wait_seen(&self, count: usize) {
        wait_until(&format!("{count} events"), PATIENCE, || {
            self.seen().len() >= count
        });
    }

    async fn insert(&self, client: &Client, values: std::ops::Range<i32>) {
        for value in values {
            let insert = "insert into outbox.event (topic, key, event_type, payload) values ($1, 'k', 'E', $2)";
            client
                .execute(insert, &[&self.topic, &value.to_string()])
                .await
                .unwrap();
        }
    }

    /// Publishes these, and kills the daemon before it can settle them.
    async fn publish_unsettled(&self, values: std::ops::Range<i32>) {
        let writer = self.service.connect().await;
        let expected = self.seen().len() + values.len();
        writer.batch_execute("begin").await.unwrap();
        self.insert(&writer, values).await;
        world::publish_unsettled(&self.service, &self.daemon, &writer, || {
            self.wait_seen(expected);
        })
        .await;
    }
}

/// As short as may be, so that one that was killed is not waited for long.
const LEASE: &str = "[relay]\nlease = \"2s\"\n";

#[test]
fn a_renamed_source_goes_on_where_it_was() {
    let world = World::new("rename");
    let (old, new) = (world.service.name.clone(), unique("renamed"));
    block_on(async {
        world.insert(&world.service.connect().await, 0..20).await;
        world.wait_seen(20);
        let ended = world.sql(&["rename", "--source", &old]);
        assert_eq!(ended.code, 65, "it is led: {ended:?}");
        world.publish_unsettled(20..40).await;
        world.insert(&world.service.connect().await, 40..50).await;

        world.configure(&new, &world.service);
        let ended = world.sql_when_free(&["rename", "--source", &new]);
        assert_eq!(ended.code, 0, "{ended:?}");
        assert!(
            ended.out.contains(&old) && ended.out.contains(&new),
            "{ended:?}"
        );
        assert!(
            world
                .sql(&["rename", "--source", &new])
                .out
                .contains("already")
        );
        world.daemon.start_again();
        world.wait_seen(50);

        // And back, to a topic that holds checkpoints of its own.
        world.publish_unsettled(50..60).await;
        world.configure(&old, &world.service);
        assert_eq!(world.sql_when_free(&["rename", "--source", &old]).code, 0);
        world.daemon.start_again();
        world.insert(&world.service.connect().await, 60..70).await;
        world.wait_seen(70);
    });
    assert_eq!(world.daemon.terminate(), 0, "{}", world.daemon.log());
    assert_eq!(world.seen(), (0..70).collect::<Vec<_>>());
    for (value, source) in world.messages() {
        let expected = if (40..60).contains(&value) {
            &new
        } else {
            &old
        };
        assert_eq!(&source, expected, "{value}");
    }
}

#[test]
fn a_name_that_another_database_uses_is_refused() {
    let (world, other) = (World::new("taken"), World::new("taken"));
    block_on(world.insert_one());
    block_on(other.insert_one());
    assert_eq!(world.daemon.terminate(), 0);
    // Both in one deployment.
    let name = &other.service.name;
    let block = world.service.block("");
    let block = block.replace(
        &format!("[sources.{}]", world.service.name),
        &format!("[sources.{name}]"),
    );
    world
        .daemon
        .configure(&(kafka_block(kafka(), &other.prefix) + &block));
    let ended = world.sql_when_free(&["rename", "--source", name]);
    // The old name has no topic under this prefix, which is said first.
    assert_eq!(ended.code, 65, "{ended:?}");
    let before = "select count(*) from outbox.relay where source like 'taken%'";
    assert_eq!(world.service.number(before), 1);
    world
        .service
        .execute("update outbox.relay set batch = 0, checkpoint_next = 0");
    let ended = world.sql_when_free(&["rename", "--source", name]);
    assert_eq!(ended.code, 65, "{ended:?}");
    assert!(
        ended.err.contains("belongs to another database"),
        "{ended:?}"
    );
}

impl World<'_> {
    async fn insert_one(&self) {
        self.insert(&self.service.connect().await, 0..1).await;
        self.wait_seen(1);
    }
}

/// Far above the numbers that transactions of the test's cluster will have.
const OTHER_CLUSTER: &str = "1000000";

/// Makes the database of `to` what a dump of `from`, taken from another cluster, would make of it.
fn restore(from: &Service<'_>, to: &Service<'_>) {
    let tables = [
        "outbox.event",
        "outbox.relay",
        "outbox.ahead",
        "outbox.dead_letter",
    ];
    block_on(async {
        let (from, to) = (
            from.connect_as("postgres").await,
            to.connect_as("postgres").await,
        );
        to.batch_execute("set session_replication_role = replica; delete from outbox.relay")
            .await
            .unwrap();
        for table in tables {
            let dump = format!("select coalesce(jsonb_agg(row), '[]')::text from {table} as row");
            let rows: String = from.query_one(&dump, &[]).await.unwrap().get(0);
            let restore = format!(
                "insert into {table} overriding system value
                 select (jsonb_populate_record(null::{table}, row)).* from jsonb_array_elements($1::text::jsonb) as row"
            );
            to.execute(&restore, &[&rows]).await.unwrap();
        }
        let next = "select setval(pg_get_serial_sequence('outbox.event', 'id'), (select max(id) from outbox.event))";
        to.batch_execute(next).await.unwrap();
        let higher = format!("(txid::text::bigint + {OTHER_CLUSTER})::text::xid8");
        to.batch_execute(&format!(
            "update outbox.event set txid = {higher}; update outbox.ahead set txid = {higher};
             update outbox.relay set seen = format('%s:%s:', pg_snapshot_xmax(seen)::text::bigint + {OTHER_CLUSTER},
               pg_snapshot_xmax(seen)::text::bigint + {OTHER_CLUSTER})::pg_snapshot, page_upto = null, page_after = null"
        ))
        .await
        .unwrap();
    });
}

#[test]
fn a_restored_database_sends_what_was_not_published_and_nothing_else() {
    let world = World::new("restore");
    let name = world.service.name.clone();
    block_on(async {
        world.insert(&world.service.connect().await, 0..20).await;
        world.wait_seen(20);
        world.publish_unsettled(20..30).await;
        world.insert(&world.service.connect().await, 30..40).await;
    });
    let restored = Service::install(postgres(16), "restored");
    restore(&world.service, &restored);
    let row = "select count(*) from outbox.relay where seen::text like '100%'";
    assert_eq!(restored.number(row), 1);
    world.configure(&name, &restored);
    let owner = postgres(16).url("postgres", &restored.name);
    let rebase = ["rebase", "--source", &name];
    block_on(async {
        // The service goes on in the new place before outboxd does; one of its transactions is not done yet.
        let app = restored.connect().await;
        world.insert(&app, 40..45).await;
        let late = restored.connect().await;
        late.batch_execute("begin; select pg_current_xact_id()")
            .await
            .unwrap();
        world.daemon.start_again();
        wait_until("the daemon to refuse", PATIENCE, || {
            world.daemon.log().contains("outboxd sql rebase")
        });

        let ended = world.sql_when_free(&rebase);
        assert_eq!(ended.code, 0, "{ended:?}");
        assert!(ended.out.contains("another database"), "{ended:?}");
        assert!(
            ended.out.contains("15 events would be sent; 30 are known"),
            "{ended:?}"
        );
        assert!(
            ended.out.contains("--yes and, with --url, as the owner"),
            "{ended:?}"
        );
        assert_eq!(restored.number("select count(*) from outbox.ahead"), 0);
        // outboxd's own role may not rewrite rows.
        let ended = world.sql(&[&rebase[..], &["--yes"]].concat());
        assert_eq!(ended.code, 77, "{ended:?}");
        assert!(ended.err.contains("--url"), "{ended:?}");
        assert_eq!(restored.number(row), 1, "nothing was changed");

        let ended = world.sql(&[&rebase[..], &["--yes", "--url", &owner]].concat());
        assert_eq!(ended.code, 0, "{ended:?}");
        assert!(
            ended.out.contains("15 events will be sent; 30 are known"),
            "{ended:?}"
        );
        world.insert(&late, 45..46).await;
        late.batch_execute("commit").await.unwrap();
        world.wait_seen(46);
        // Once settled, nothing looks new again.
        for values in [46..47, 47..48] {
            world.insert(&app, values.clone()).await;
            world.wait_seen(usize::try_from(values.end).unwrap());
        }
    });
    assert_eq!(world.daemon.terminate(), 0, "{}", world.daemon.log());
    world.daemon.start_again();
    block_on(async { world.insert(&restored.connect().await, 48..50).await });
    world.wait_seen(50);
    assert_eq!(world.seen(), (0..50).collect::<Vec<_>>());
    assert_eq!(world.daemon.terminate(), 0, "{}", world.daemon.log());
    // By one key, so in the order of the inserts, the late one apart.
    let mut values: Vec<i32> = world
        .messages()
        .into_iter()
        .map(|(value, _)| value)
        .collect();
    values.retain(|value| *value != 45);
    assert!(values.is_sorted(), "{values:?}");
}

#[test]
fn a_source_whose_checkpoints_are_gone_goes_on_after_a_rebase() {
    let world = World::new("gone");
    let name = world.service.name.clone();
    block_on(async { world.insert(&world.service.connect().await, 0..20).await });
    world.wait_seen(20);
    let ended = world.sql(&["rebase", "--source", &name, "--yes"]);
    assert_eq!(ended.code, 65, "it is led: {ended:?}");
    assert_eq!(world.daemon.terminate(), 0);
    delete_topic(
        &kafka().bootstrap(),
        &format!("{}.checkpoints.{name}", world.prefix),
    );
    block_on(async { world.insert(&world.service.connect().await, 20..30).await });
    world.daemon.start_again();
    wait_until("the daemon to stop", PATIENCE, || {
        world.daemon.log().contains("outboxd sql rebase")
    });
    let ended = world.sql_when_free(&["rebase", "--source", &name]);
    assert!(
        ended.out.contains("10 events would be sent; 0 are known"),
        "{ended:?}"
    );
    assert!(
        ended.out.contains("the database that was relayed"),
        "{ended:?}"
    );
    // The position is good, so outboxd's own role is enough; the daemon goes on by itself.
    let ended = world.sql(&["rebase", "--source", &name, "--yes"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    world.wait_seen(30);
    assert_eq!(world.daemon.terminate(), 0, "{}", world.daemon.log());
    assert_eq!(world.seen(), (0..30).collect::<Vec<_>>());
}

/// A schema that was made anew gives out the same ids again, and a service may choose its event ids.
#[test]
fn a_schema_that_was_made_anew_is_not_taken_for_the_old_one() {
    let world = World::new("anew");
    let name = world.service.name.clone();
    let same = format!(
        "insert into outbox.event (topic, event_type, payload, event_id)
         select '{}', 'E', n::text, ('00000000-0000-0000-0000-00000000000' || n)::uuid from generate_series(0, 4) as n",
        world.topic
    );
    world.service.execute(&same);
    world.wait_seen(5);
    assert_eq!(world.daemon.terminate(), 0);
    world.service.execute("drop schema outbox cascade");
    let (relay, app) = (format!("{name}_relay"), format!("{name}_app"));
    let url = world.service.postgres.url("postgres", &name);
    let again = [
        "sql",
        "install",
        "--url",
        &url,
        "--relay-role",
        &relay,
        "--app-role",
        &app,
    ];
    assert_eq!(outboxd(&again).code, 0);
    world.service.execute(&same);
    world.daemon.start_again();
    wait_until("the daemon to stop", PATIENCE, || {
        world.daemon.log().contains("outboxd sql rebase")
    });
    let ended = world.sql_when_free(&["rebase", "--source", &name, "--yes"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(
        ended.out.contains("5 events will be sent; 0 are known"),
        "{ended:?}"
    );
    assert!(ended.out.contains("of another outbox schema"), "{ended:?}");
    world.wait_seen(10);
    assert_eq!(world.seen(), [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]);
}
