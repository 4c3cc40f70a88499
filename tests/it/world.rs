//! A deployment to test: service databases with the outbox installed, topics, and the configuration that joins them.

use std::process::Command;
use std::time::Duration;

use crate::support::daemon::Daemon;
use crate::support::kafka::Kafka;
use crate::support::postgres::Postgres;
use crate::support::{block_on, topics, unique, wait_until};

pub(crate) const OUTBOXD: &str = env!("CARGO_BIN_EXE_outboxd");

/// A service's database with the outbox in it.
pub(crate) struct Service<'a> {
    /// The source's name, and the database's.
    pub(crate) name: String,
    /// Where it is.
    pub(crate) postgres: &'a Postgres,
}

impl<'a> Service<'a> {
    /// Makes a database and installs the outbox, as an operator would.
    pub(crate) fn install(postgres: &'a Postgres, name: &str) -> Self {
        Self::install_with(postgres, name, &[])
    }

    /// The same with further arguments of `sql install`.
    pub(crate) fn install_with(postgres: &'a Postgres, name: &str, arguments: &[&str]) -> Self {
        let name = unique(name);
        postgres.create_database(&name);
        postgres.execute(
            "postgres",
            &format!("create role {name}_app login; create role {name}_relay login"),
        );
        let installed = Command::new(OUTBOXD)
            .args(["sql", "install", "--url", &postgres.url("postgres", &name)])
            .args([
                "--relay-role",
                &format!("{name}_relay"),
                "--app-role",
                &format!("{name}_app"),
            ])
            .args(arguments)
            .output()
            .unwrap();
        assert!(installed.status.success(), "{installed:?}");
        Self { name, postgres }
    }

    /// Its block of the configuration, with further lines.
    pub(crate) fn block(&self, lines: &str) -> String {
        let (name, url) = (
            &self.name,
            self.postgres
                .url(&format!("{}_relay", self.name), &self.name),
        );
        format!("[sources.{name}]\nurl = \"{url}\"\n{lines}\n")
    }

    /// A session of the service.
    pub(crate) async fn connect(&self) -> tokio_postgres::Client {
        self.connect_as(&format!("{}_app", self.name)).await
    }

    /// A session of somebody else, such as `postgres`.
    pub(crate) async fn connect_as(&self, role: &str) -> tokio_postgres::Client {
        self.try_connect_as(role).await.unwrap()
    }

    /// The same while the server may be away.
    pub(crate) async fn try_connect_as(
        &self,
        role: &str,
    ) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
        let url = self.postgres.url(role, &self.name);
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await?;
        #[expect(
            clippy::disallowed_methods,
            reason = "a test's connection ends with its runtime"
        )]
        tokio::spawn(async move {
            // It ends with an error when a test stops the server.
            let _ = connection.await;
        });
        Ok(client)
    }

    /// Runs statements as the superuser.
    pub(crate) fn execute(&self, statements: &str) {
        self.postgres.execute(&self.name, statements);
    }

    /// One number, asked as the superuser.
    pub(crate) fn number(&self, query: &str) -> i64 {
        block_on(async {
            self.connect_as("postgres")
                .await
                .query_one(query, &[])
                .await
                .unwrap()
                .get(0)
        })
    }
}

/// Commits what `writer` has inserted, lets `published` wait until a daemon published it, and kills that daemon before it
/// can settle it: whatever would write down that those rows are published waits for a lock meanwhile. Everything else
/// that a daemon writes goes on, such as the settlement of what came before.
pub(crate) async fn publish_unsettled(
    service: &Service<'_>,
    daemon: &Daemon,
    writer: &tokio_postgres::Client,
    published: impl FnOnce(),
) {
    let holder = service.connect_as("postgres").await;
    let number = "select pg_current_xact_id()::text";
    let rows: String = writer.query_one(number, &[]).await.unwrap().get(0);
    holder
        .batch_execute(&HOLD.replace("$rows", &rows))
        .await
        .unwrap();
    writer.batch_execute("commit").await.unwrap();
    published();
    daemon.kill();
    end_sessions(service).await;
    holder.batch_execute(GO_ON).await.unwrap();
}

/// Ends the sessions of a daemon that was killed: one that waits for a lock would still do its work when it gets it.
pub(crate) async fn end_sessions(service: &Service<'_>) {
    let of = "from pg_stat_activity where application_name like 'outboxd %' and datname = current_database()";
    let client = service.connect_as("postgres").await;
    client
        .batch_execute(&format!("select pg_terminate_backend(pid) {of}"))
        .await
        .unwrap();
    wait_until(
        "the end of the daemon's sessions",
        Duration::from_secs(90),
        || service.number(&format!("select count(*) {of}")) == 0,
    );
}

/// The rows of transaction `$rows` are published when the position has passed them, or when a take-over found them.
const HOLD: &str = "
    select pg_advisory_lock(42);
    create function outbox.hold() returns trigger language plpgsql as $$
    begin
      if tg_table_name = 'ahead' then
        perform pg_advisory_xact_lock(42);
      elsif pg_visible_in_snapshot('$rows', coalesce(new.page_upto, new.seen)) then
        perform pg_advisory_xact_lock(42);
      end if;
      return new;
    end $$;
    create trigger hold before update on outbox.relay for each row execute function outbox.hold();
    create trigger hold before insert on outbox.ahead for each row execute function outbox.hold()";
const GO_ON: &str = "
    drop trigger hold on outbox.relay; drop trigger hold on outbox.ahead; drop function outbox.hold();
    select pg_advisory_unlock(42)";

/// The part of a configuration that names Kafka; the prefix keeps tests that share a broker apart.
pub(crate) fn kafka_block(kafka: &Kafka, prefix: &str) -> String {
    format!(
        "[kafka]\nbootstrap_servers = \"{}\"\nprefix = \"{prefix}\"\n",
        kafka.bootstrap()
    )
}

/// A daemon that relays these services with default settings.
pub(crate) fn daemon(kafka: &Kafka, prefix: &str, services: &[&Service<'_>]) -> Daemon {
    let blocks: String = services.iter().map(|service| service.block("")).collect();
    Daemon::start(OUTBOXD, &(kafka_block(kafka, prefix) + &blocks))
}

/// Makes topics with a name of their own.
pub(crate) fn topic(kafka: &Kafka, name: &str, partitions: i32, config: &[(&str, &str)]) -> String {
    let name = unique(name);
    topics::create_topic(&kafka.bootstrap(), &name, partitions, config);
    name
}
