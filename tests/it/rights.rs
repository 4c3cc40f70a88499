//! What the service's role and outboxd's role may do with the schema, and what they may not.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::SinkExt;
use tokio_postgres::error::SqlState;
use tokio_postgres::{AsyncMessage, Client, NoTls};

use crate::site::{Site, VERSIONS};
use crate::support::{block_on, postgres};

/// Each column of the contract with a value for it.
const COLUMNS: [(&str, &str); 23] = [
    ("topic", "'orders'"),
    ("key", "'o-42'"),
    ("event_type", "'OrderCreated'"),
    ("kind", "'command'"),
    ("payload", "'{}'"),
    ("payload_bytes", "null"),
    ("content_type", "'application/json'"),
    ("headers", "'{\"a\": \"b\"}'"),
    ("event_id", "gen_random_uuid()"),
    ("correlation_id", "'c'"),
    ("causation_id", "'c'"),
    ("reply_to", "'replies'"),
    ("reply_outcome", "'success'"),
    ("saga_type", "'create-order'"),
    ("saga_id", "'o-42'"),
    ("saga_user", "'u'"),
    ("saga_state", "'S'"),
    ("saga_outcome", "'completed'"),
    ("saga_step", "'s'"),
    ("saga_step_status", "'done'"),
    ("traceparent", "'t'"),
    ("tracestate", "'t'"),
    ("created_at", "now()"),
];

#[test]
fn a_service_inserts_the_columns_of_the_contract_and_nothing_else() {
    for version in VERSIONS {
        let site = Site::installed(postgres(version), "app");
        block_on(async {
            let app = site.connect("app").await;
            let (names, values): (Vec<&str>, Vec<&str>) = COLUMNS.into_iter().unzip();
            let insert = format!(
                "insert into outbox.event ({}) values ({}) returning event_id",
                names.join(", "),
                values.join(", ")
            );
            app.query_one(&insert, &[]).await.unwrap();
            let short =
                "insert into outbox.event (topic, event_type) values ('t', 'e') returning event_id";
            app.query_one(short, &[]).await.unwrap();
            for own in ["slot = 1", "txid = '3'", "id = 7"] {
                let (column, value) = own.split_once(" = ").unwrap();
                denied(
                    &app,
                    &format!(
                        "insert into outbox.event (topic, event_type, {column}) overriding system value values ('t', 'e', {value})"
                    ),
                )
                .await;
            }
            for statement in [
                "select * from outbox.event",
                "select topic from outbox.event",
                "select id from outbox.event",
                "insert into outbox.event (topic, event_type) values ('t', 'e') returning id",
                "insert into outbox.event (topic, event_type) values ('t', 'e') returning *",
                "insert into outbox.event_0 (topic, event_type) values ('t', 'e')",
                "update outbox.event set topic = 't'",
                "delete from outbox.event",
                "delete from outbox.event_0",
                "truncate outbox.event",
                "truncate outbox.event_0",
                "begin; lock table outbox.event in access exclusive mode",
                "begin; lock table outbox.event_0 in access exclusive mode",
                "select * from outbox.relay",
                "update outbox.relay set epoch = 0",
                "select * from outbox.ahead",
                "select * from outbox.dead_letter",
                "insert into outbox.ahead (id, txid) values (1, '3')",
                "insert into outbox.migration (version) values (9)",
                "select * from outbox.migration",
                "select setval(pg_get_serial_sequence('outbox.event', 'id'), 1)",
                "select nextval(pg_get_serial_sequence('outbox.event', 'id'))",
                "create table outbox.mine ()",
                "select outbox.ring_doorbell()",
            ] {
                denied(&app, statement).await;
            }
        });
    }
}

#[test]
fn outboxd_reads_empties_and_keeps_its_books_and_nothing_else() {
    for version in VERSIONS {
        let site = Site::installed(postgres(version), "relay");
        block_on(async {
            let relay = site.connect("relay").await;
            for statement in [
                "select * from outbox.event",
                "select * from outbox.migration",
                "begin; lock table only outbox.event_0 in access exclusive mode nowait; truncate only outbox.event_0; commit",
                "update outbox.relay set epoch = epoch + 1",
                "insert into outbox.ahead (id, txid) values (1, '3')",
                "delete from outbox.ahead",
                "insert into outbox.dead_letter (id, topic, event_type, event_id, created_at, reason, release, error)
                   values (1, 't', 'e', gen_random_uuid(), now(), 'invalid', 'manual', 'x')",
                "update outbox.dead_letter set wish = 'drop'",
                "delete from outbox.dead_letter",
                "select system_identifier from pg_control_system()",
                "select pg_logical_emit_message(true, 'outboxd', 'flush')",
                "select pg_current_wal_flush_lsn(), pg_walfile_name(pg_current_wal_insert_lsn())",
                "select pg_advisory_lock(1870034018, 1); listen outboxd",
            ] {
                let done = relay.batch_execute(statement).await;
                assert!(done.is_ok(), "{version}: {statement}: {done:?}");
            }
            for statement in [
                "insert into outbox.event (topic, event_type) values ('t', 'e')",
                "insert into outbox.event_0 (topic, event_type) values ('t', 'e')",
                "update outbox.event set topic = 't'",
                "update outbox.event_0 set topic = 't'",
                "delete from outbox.event",
                "delete from outbox.event_0",
                "truncate outbox.event",
                "truncate outbox.dead_letter",
                "begin; lock table only outbox.event in access exclusive mode nowait",
                "insert into outbox.relay (system_identifier) values (1)",
                "delete from outbox.relay",
                "update outbox.ahead set id = 1",
                "insert into outbox.migration (version) values (9)",
                "alter table outbox.event disable trigger ring_doorbell",
                "drop table outbox.ahead",
                "create table outbox.mine ()",
            ] {
                denied(&relay, statement).await;
            }
        });
        let owns = format!(
            "select (rolsuper or exists (select from pg_class where relowner = r.oid)
               or exists (select from pg_namespace where nspowner = r.oid)
               or exists (select from pg_proc where proowner = r.oid))::text
             from pg_roles r where rolname = '{}'",
            site.role("relay")
        );
        assert_eq!(site.text(&owns), "false");
    }
}

#[test]
fn default_privileges_neither_lock_a_service_out_nor_let_it_in() {
    for version in [14, 16, 18] {
        let site = Site::new(postgres(version), "defaults");
        let owner = site.role("owner");
        site.execute(&format!(
            "alter default privileges for role {owner} revoke execute on functions from public;
             alter default privileges for role {owner} grant all on tables to public;
             alter default privileges for role {owner} grant all on schemas to public"
        ));
        assert_eq!(site.install(&[]).code, 0);
        block_on(async {
            let app = site.connect("app").await;
            let insert =
                "insert into outbox.event (topic, event_type, payload) values ('t', 'e', '1')";
            app.batch_execute(insert).await.unwrap();
            denied(&app, "select * from outbox.event").await;
            denied(&app, "select * from outbox.dead_letter").await;
            denied(&app, "create table outbox.mine ()").await;
        });
    }
}

#[test]
fn many_rows_come_by_copy_and_by_select() {
    for version in VERSIONS {
        let site = Site::installed(postgres(version), "many");
        block_on(async {
            let app = site.connect("app").await;
            let sink = app
                .copy_in("copy outbox.event (topic, key, event_type, payload) from stdin")
                .await
                .unwrap();
            let mut sink = pin!(sink);
            for n in 0..1000 {
                let line = format!("t\tk-{n}\te\t{{\"n\": {n}}}\n");
                sink.send(Bytes::from(line)).await.unwrap();
            }
            assert_eq!(sink.finish().await.unwrap(), 1000);
            let many = "insert into outbox.event (topic, key, event_type, payload)
                select 't', 'k-' || n, 'e', to_jsonb(n)::text from generate_series(1, 5000) as n";
            assert_eq!(app.execute(many, &[]).await.unwrap(), 5000);
        });
        let query = "select format('%s %s %s', count(*), count(distinct id), count(distinct txid)) from outbox.event";
        assert_eq!(site.text(query), "6000 6000 2");
    }
}

#[test]
fn the_doorbell_rings_only_while_somebody_holds_it() {
    for version in VERSIONS {
        let site = Site::installed(postgres(version), "doorbell");
        block_on(async {
            let url = site.url("relay");
            let (relay, mut connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
            let (rang, mut rings) = tokio::sync::mpsc::unbounded_channel();
            let drive = async {
                while let Some(Ok(message)) =
                    std::future::poll_fn(|context| connection.poll_message(context)).await
                {
                    if let AsyncMessage::Notification(ring) = message {
                        let _ = rang.send(ring.channel().to_owned());
                    }
                }
            };
            let work = async {
                let app = site.connect("app").await;
                let insert =
                    "insert into outbox.event (topic, event_type) values ('t', 'e'), ('t', 'e')";
                relay.batch_execute("listen outboxd").await.unwrap();
                app.batch_execute(insert).await.unwrap();
                // Its own notification comes last, so nothing was sent before it.
                let mark = "select pg_notify('outboxd', '')";
                let hold = "select pg_advisory_lock(1870034018, 1)";
                relay.batch_execute(mark).await.unwrap();
                assert_eq!(rings.recv().await.as_deref(), Some("outboxd"));
                assert!(rings.try_recv().is_err(), "{version}: rang unheld");
                relay.batch_execute(hold).await.unwrap();
                app.batch_execute(insert).await.unwrap();
                let ring = tokio::time::timeout(Duration::from_secs(10), rings.recv());
                assert_eq!(ring.await.unwrap().as_deref(), Some("outboxd"), "{version}");
                // Writers do not keep each other out.
                let other = site.connect("app").await;
                app.batch_execute("begin").await.unwrap();
                app.batch_execute(insert).await.unwrap();
                other.batch_execute(insert).await.unwrap();
                app.batch_execute("commit").await.unwrap();
            };
            tokio::select! {
                () = drive => panic!("the connection ended"),
                () = work => {}
            }
        });
    }
}

async fn denied(client: &Client, statement: &str) {
    let error = client.batch_execute(statement).await.expect_err(statement);
    let code = error.code();
    let known = [
        &SqlState::INSUFFICIENT_PRIVILEGE,
        &SqlState::WRONG_OBJECT_TYPE,
    ];
    assert!(
        code.is_some_and(|code| known.contains(&code)),
        "{statement}: {error:?}"
    );
    let _ = client.batch_execute("rollback").await;
}
