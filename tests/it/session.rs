//! A session with a database: what its errors say, that they never quote a row, and how it is woken and ended.

use std::path::Path;
use std::time::Duration;

use outboxd::config::database;
use outboxd::outbox::{Disposition, Link, OutboxError, connect, connect_any};

use crate::site::Site;
use crate::support::postgres::Postgres;
use crate::support::{block_on, postgres};

const SECRET: &str = "4711-secret";

async fn link(site: &Site<'_>, role: &str) -> Link {
    let database = database::parse(&site.url(role), Path::new("")).unwrap();
    connect(&database, "test").await.unwrap()
}

async fn fail(link: &Link, statement: &str) -> OutboxError {
    let answer = link.client.batch_execute(statement).await;
    let error = OutboxError::from(answer.expect_err(statement));
    let text = format!("{error} {error:?}");
    assert!(!text.contains(SECRET), "{statement}: {text}");
    error
}

#[test]
fn an_error_says_what_to_do_and_never_quotes_a_row() {
    let site = Site::installed(postgres(16), "errors");
    site.execute("create table unique_key (key text primary key, n integer check (n > 0))");
    block_on(async {
        let (owner, app) = (link(&site, "postgres").await, link(&site, "app").await);
        let insert = format!("insert into public.unique_key values ('{SECRET}', 1)");
        owner.client.batch_execute(&insert).await.unwrap();
        for statement in [
            insert.as_str(),
            &format!("insert into public.unique_key values ('{SECRET}!', -1)"),
            &format!("insert into public.unique_key values (null, length('{SECRET}'))"),
            &format!("select '{SECRET}'::uuid"),
            &format!("select '{{\"a\": {SECRET}}}'::json"),
            &format!("do $$ begin raise notice '%', '{SECRET}'::integer; end $$"),
        ] {
            let error = fail(&owner, statement).await;
            assert_eq!(error.exit_code(), 70, "{statement}: {error}");
            assert_eq!(error.disposition(), Disposition::Operator);
        }
        let cases = [
            (&app, "select from outbox.relay", 77, "sql grants"),
            (
                &owner,
                "select from outbox.no_such_table",
                65,
                "sql install",
            ),
            (
                &owner,
                "select from no_such_schema.event",
                65,
                "sql install",
            ),
            (
                &owner,
                "select no_such_column from outbox.relay",
                65,
                "sql show",
            ),
            (
                &owner,
                "set statement_timeout = 1; select pg_sleep(9)",
                69,
                "timeout",
            ),
            (
                &owner,
                "set transaction read only; delete from outbox.ahead",
                69,
                "standby",
            ),
        ];
        for (link, statement, code, advice) in cases {
            let error = fail(link, statement).await;
            assert_eq!(error.exit_code(), code, "{statement}: {error}");
            assert!(error.to_string().contains(advice), "{statement}: {error}");
        }
        owner.close().await;
    });
}

#[test]
fn a_session_is_woken_by_a_notification_and_by_its_end() {
    let site = Site::installed(postgres(16), "woken");
    block_on(async {
        let (link, other) = (link(&site, "relay").await, site.connect("postgres").await);
        link.client.batch_execute("listen outboxd").await.unwrap();
        other.batch_execute("notify outboxd").await.unwrap();
        let patience = Duration::from_secs(20);
        tokio::time::timeout(patience, link.rung()).await.unwrap();

        let (sleep, cancel) =
            tokio::join!(link.client.batch_execute("select pg_sleep(60)"), async {
                let asleep =
                    "select count(*) from pg_stat_activity where query like '%pg_sleep(60)%'
                and wait_event = 'PgSleep'";
                while other.query_one(asleep, &[]).await.unwrap().get::<_, i64>(0) == 0 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                link.cancel().await
            });
        cancel.unwrap();
        let error = OutboxError::from(sleep.unwrap_err());
        assert!(
            matches!(error, OutboxError::Interrupted { .. }),
            "{error:?}"
        );

        let end = format!("select pg_terminate_backend({})", link.server.process);
        other.batch_execute(&end).await.unwrap();
        tokio::time::timeout(patience, link.rung()).await.unwrap();
        let error = fail(&link, "select 1").await;
        assert!(matches!(error, OutboxError::Lost { .. }), "{error:?}");
        assert_eq!(
            (error.exit_code(), error.disposition()),
            (69, Disposition::Retry)
        );
    });
}

#[test]
fn the_primary_is_found_among_hosts_and_a_standby_is_taken_only_when_asked_for() {
    let (primary, standby) = (postgres(16), Postgres::start(16));
    standby.stop_fast();
    std::fs::write(standby.directory().join("data/standby.signal"), "").unwrap();
    standby.start_again();
    let parse = |text: &str| database::parse(text, Path::new("")).unwrap();
    let both = parse(&format!(
        "postgres://postgres@127.0.0.1:{},127.0.0.1:{}/postgres",
        standby.port(),
        primary.port()
    ));
    let alone = parse(&standby.url("postgres", "postgres"));
    block_on(async {
        let link = connect(&both, "test").await.unwrap();
        assert!(!link.server.standby);
        let port: i32 = link
            .client
            .query_one("select inet_server_port()", &[])
            .await
            .unwrap()
            .get(0);
        assert_eq!(port, i32::from(primary.port()));
        let error = connect(&alone, "test").await.unwrap_err();
        assert!(matches!(error, OutboxError::Standby { .. }), "{error:?}");
        assert!(connect_any(&alone, "test").await.unwrap().server.standby);
    });
}

#[test]
fn a_server_that_accepts_and_says_nothing_is_given_up() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let url = format!("postgres://postgres@127.0.0.1:{port}/x?connect_timeout=1");
    let database = database::parse(&url, Path::new("")).unwrap();
    let begun = std::time::Instant::now();
    let error = block_on(connect(&database, "test")).unwrap_err();
    assert!(
        matches!(error, OutboxError::Unreachable { .. }),
        "{error:?}"
    );
    assert!(
        begun.elapsed() < Duration::from_secs(8),
        "{:?}",
        begun.elapsed()
    );
}
