//! What the demo runs: PostgreSQL with a database for each service, Kafka, and outboxd between them, all real. Never more than
//! for the length of the demo: each ends, and its directory goes, with this process.

use std::{
    env,
    error::Error,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Instant,
};

use tokio_postgres::NoTls;
use uuid::Uuid;

use crate::{
    event::Event,
    orders,
    screen::Screen,
    support::{self, daemon::Daemon, kafka::Kafka, postgres::Postgres, process::Port, topics},
};

/// Anything that keeps the demo from going on.
pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// The services; each has a database, a role and a source of its own by this name.
pub(crate) const SERVICES: [(&str, &str); 2] = [
    ("shop", orders::SHOP_TABLES),
    ("kitchen", orders::KITCHEN_TABLES),
];

/// The topics of their events.
pub(crate) const TOPICS: [&str; 2] = ["orders", "tickets"];

/// Who makes the customers' tokens: in this demo, the demo.
const ISSUER: &str = "https://id.demo.example";

/// How long one is good: longer than anybody looks at a demo.
const TOKEN: &str = "30d";

/// All that runs beside this process; dropping it stops it.
pub(crate) struct World {
    // In the order in which they are to end.
    pub(crate) daemon: Daemon,
    pub(crate) kafka: Kafka,
    postgres: Postgres,
    push: Port,
}

impl World {
    /// Starts everything, and tells how long each took; returns when outboxd is ready. `only` is the half of it
    /// that is to run; `None`: both.
    pub(crate) fn start(screen: &Screen, only: Option<&str>) -> Result<Self, Failure> {
        let outboxd = program()?;
        let (postgres, kafka) = thread::scope(|scope| {
            let databases = scope.spawn(|| databases(screen, &outboxd));
            let kafka = kafka(screen);
            let databases = databases.join().unwrap_or_else(|_| Err("see above".into()));
            databases.map(|databases| (databases, kafka))
        })?;
        let began = Instant::now();
        let push = Port::claim();
        let secret = format!("{}{}", Uuid::new_v4(), Uuid::new_v4());
        let daemon = Daemon::builder(outboxd, &configuration(&postgres, &kafka, &push));
        let daemon = daemon.file("secret", &secret);
        let daemon = match only {
            Some(half) => daemon.arguments(&["--only", half]).start(),
            None => daemon.start(),
        };
        daemon.wait_ready();
        let halves = match only {
            Some(half) => format!("its {half} half only"),
            None => "to Kafka, and on to clients".to_owned(),
        };
        screen.started("outboxd", &halves, began.elapsed())?;
        Ok(Self {
            daemon,
            kafka,
            postgres,
            push,
        })
    }

    /// Where clients connect.
    pub(crate) fn push(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.push.number()).into()
    }

    /// A token for a user, as the issuer would give it after a login.
    pub(crate) fn token(&self, user: &str) -> Result<String, Failure> {
        let mut create = Command::new(program()?);
        create.args(["token", "create", "--sub", user, "--ttl", TOKEN]);
        let done = create.arg("--config").arg(self.daemon.config()).output()?;
        if done.status.success() {
            return Ok(String::from_utf8(done.stdout)?.trim().to_owned());
        }
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        Err(format!("`outboxd token create` failed: {said}").into())
    }

    /// A service's URL for its own database.
    pub(crate) fn url(&self, service: &str) -> String {
        self.postgres.url(service, service)
    }

    /// Fails when something ended that should run, and says what its last words were.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        if self.daemon.pid().is_none() {
            let (status, log) = (self.daemon.wait(), self.daemon.log());
            return Err(format!(
                "outboxd ended by itself with {status}; its log ends:\n{}",
                tail(&log)
            )
            .into());
        }
        if self.kafka.pid().is_none() {
            return Err("Kafka ended by itself".into());
        }
        if self.postgres.pid().is_none() {
            let log = self.postgres.log_tail();
            return Err(format!("PostgreSQL ended by itself; its log ends:\n{log}").into());
        }
        Ok(())
    }

    /// Ends outboxd in order: what it has begun to publish is published when this returns.
    pub(crate) fn drain(&self) -> Result<(), Failure> {
        match self.daemon.terminate() {
            0 => Ok(()),
            status => Err(format!(
                "outboxd drained with {status}; its log ends:\n{}",
                tail(&self.daemon.log())
            )
            .into()),
        }
    }

    /// Every event in the outbox tables, by whomever it was inserted.
    pub(crate) fn events(&self) -> Result<Vec<Event>, Failure> {
        let mut events = Vec::new();
        for (service, _) in SERVICES {
            let url = self.postgres.url("postgres", service);
            let rows = support::block_on(async {
                let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
                let query =
                    "select event_id::text, topic, key, event_type from outbox.event order by id";
                let ask = async move { client.query(query, &[]).await };
                tokio::join!(ask, connection).0
            })?;
            events.extend(rows.iter().map(|row| Event {
                id: row.get(0),
                source: service.to_owned(),
                topic: row.get(1),
                key: row.get(2),
                event_type: row.get(3),
            }));
        }
        Ok(events)
    }
}

/// Starts PostgreSQL and makes both databases ready, as their owner would.
fn databases(screen: &Screen, outboxd: &Path) -> Result<Postgres, Failure> {
    let began = Instant::now();
    let postgres = Postgres::start(18);
    // One role for outboxd in all databases, and one for each service in its own.
    postgres.execute("postgres", "create role outboxd login");
    for (service, tables) in SERVICES {
        postgres.execute("postgres", &format!("create role {service} login"));
        postgres.execute("postgres", &format!("create database {service}"));
        let own =
            format!("grant create on schema public to {service}; set role {service}; {tables}");
        postgres.execute(service, &own);
    }
    screen.started(
        "PostgreSQL 18",
        "the databases shop and kitchen",
        began.elapsed(),
    )?;

    let began = Instant::now();
    for (service, _) in SERVICES {
        install(outboxd, &postgres.url("postgres", service), service)?;
    }
    screen.started("outboxd sql install", "the outbox in both", began.elapsed())?;
    Ok(postgres)
}

/// `outboxd sql install`, the only thing that outboxd needs in a database.
fn install(outboxd: &Path, owner: &str, service: &str) -> Result<(), Failure> {
    let mut install = Command::new(outboxd);
    install.args(["sql", "install", "--url", owner]);
    install.args(["--relay-role", "outboxd", "--app-role", service]);
    // Published rows are kept long enough for the demo to look up, at its end, what was inserted by hand.
    install.args(["--slot", "24h"]);
    let done = install.output()?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    Err(format!("`outboxd sql install` failed in {service}: {said}").into())
}

/// Starts Kafka with the topics. outboxd makes its own.
fn kafka(screen: &Screen) -> Kafka {
    let began = Instant::now();
    let kafka = Kafka::start();
    for topic in TOPICS {
        topics::create_topic(&kafka.bootstrap(), topic, 3, &[]);
    }
    // Who cannot be told does not mind.
    let _ = screen.started(
        "Kafka 4.3",
        "the topics orders and tickets",
        began.elapsed(),
    );
    kafka
}

/// outboxd's whole configuration file, but for the address of its /metrics.
fn configuration(postgres: &Postgres, kafka: &Kafka, push: &Port) -> String {
    let bootstrap = kafka.bootstrap();
    let sources = SERVICES.map(|(service, _)| {
        let url = postgres.url("outboxd", service);
        format!("\n[sources.{service}]\nurl = \"{url}\"\n")
    });
    format!(
        "[kafka]\nbootstrap_servers = \"{bootstrap}\"\n{}\n[push]\nlisten = \"127.0.0.1:{}\"\n\n\
         [push.auth]\nissuer = \"{ISSUER}\"\nalgorithms = [\"HS256\"]\nkeys = {{ secret = {{ file = \"secret\" }} }}\n",
        sources.concat(),
        push.number(),
    )
}

/// outboxd itself, which cargo builds into the folder above this example's own.
fn program() -> Result<PathBuf, Failure> {
    let own = env::current_exe()?;
    let folder = own.parent().and_then(|examples| examples.parent());
    let outboxd = folder
        .map(|folder| folder.join("outboxd"))
        .filter(|outboxd| outboxd.exists());
    outboxd.ok_or_else(|| "outboxd is not built yet; `make demo` does that first".into())
}

fn tail(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    let last = lines.get(lines.len().saturating_sub(15)..);
    last.unwrap_or_default().join("\n")
}
