//! One deployment: two services, two daemons on one configuration, and writers. Never looks into a daemon: who leads is what
//! the database says.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio_postgres::Client;
use uuid::Uuid;

use crate::support::daemon::Daemon;
use crate::support::history::{self, Log, Row, Seen};
use crate::support::kafka::Kafka;
use crate::support::postgres::Postgres;
use crate::support::process::POLL;
use crate::support::{block_on, unique, wait_until};
use crate::world::{OUTBOXD, Service, kafka_block, topic};
use crate::writers::{self, Writer};

/// Sources of each deployment.
pub(crate) const SOURCES: usize = 2;
/// Daemons of each deployment.
pub(crate) const DAEMONS: usize = 2;
/// How long an effect is waited for, other faults going on.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// The shortest there is.
const LEASE: &str = "2s";

/// A deployment. All of them share the servers.
pub(crate) struct Lane<'a> {
    pub(crate) services: Vec<Service<'a>>,
    pub(crate) daemons: Vec<Daemon>,
    pub(crate) log: Log,
    topics: Vec<String>,
    prefix: String,
    sagas: String,
    sabotage: String,
}

impl<'a> Lane<'a> {
    pub(crate) fn start(kafka: &Kafka, postgres: &'a Postgres, sabotage: Option<&str>) -> Self {
        let prefix = unique("chaos");
        let topics = vec![
            topic(kafka, "orders", 3, &[]),
            topic(kafka, "bills", 1, &[]),
        ];
        let services: Vec<_> = (0..SOURCES)
            .map(|_| Service::install_with(postgres, "shop", &["--slot", "1s"]))
            .collect();
        services.iter().for_each(writers::prepare);
        let blocks: String = services
            .iter()
            .map(|service| service.block("batch = { events = 40 }"))
            .collect();
        let relay = format!("[relay]\nlease = \"{LEASE}\"\n");
        let config = kafka_block(kafka, &prefix) + &relay + &blocks;
        let lane = Self {
            services,
            daemons: (0..DAEMONS)
                .map(|_| Daemon::builder(OUTBOXD, &config).prepare())
                .collect(),
            log: Log::default(),
            topics,
            sagas: format!("{prefix}.sagas"),
            prefix,
            sabotage: sabotage.unwrap_or_default().to_owned(),
        };
        lane.daemons.iter().for_each(|daemon| lane.run(daemon));
        lane
    }

    /// Starts a daemon that does not run.
    pub(crate) fn run(&self, daemon: &Daemon) {
        daemon.start_again_with(&[("OUTBOXD_SABOTAGE", &self.sabotage)]);
    }

    /// A writer of a source. It rests, so that a long run's history fits into memory.
    pub(crate) fn writer(&self, source: usize) -> Writer<'_> {
        Writer {
            service: &self.services[source],
            topics: &self.topics,
            sagas: &self.sagas,
            log: &self.log,
            prepares: true,
            rest_ms: 300,
            large: 20_000,
        }
    }

    /// The daemon that calls itself so: by default the name ends with the port of its metrics.
    pub(crate) fn daemon(&self, instance: &str) -> Option<&Daemon> {
        let named = |daemon: &&Daemon| instance.ends_with(&format!(":{}", daemon.admin().port()));
        self.daemons.iter().find(named)
    }

    /// Where each source's transactions leave a note of what they published.
    pub(crate) fn checkpoints(&self) -> impl Iterator<Item = String> {
        let names = self.services.iter().map(|service| &service.name);
        names.map(|name| format!("{}.checkpoints.{name}", self.prefix))
    }

    /// Waits until everything that is committed is settled.
    pub(crate) fn settled(&self) {
        let waiting = "select (select count(*) from outbox.event, outbox.relay
                where not pg_visible_in_snapshot(event.txid, relay.seen))
            + (select count(*) from outbox.relay where page_upto is not null)";
        for service in &self.services {
            let what = format!("everything of {} to be settled", service.name);
            wait_until(&what, 3 * PATIENCE, || service.number(waiting) == 0);
        }
    }

    /// What is committed, as the databases know by now.
    pub(crate) fn committed(&self) -> Vec<Row> {
        let mut ledger: HashSet<Uuid> = HashSet::new();
        for service in &self.services {
            let rows = block_on(async {
                let client = service.connect_as("postgres").await;
                client.query("select id from ledger", &[]).await.unwrap()
            });
            ledger.extend(rows.iter().map(|row| row.get::<_, Uuid>(0)));
        }
        self.log.committed(&ledger)
    }

    /// How many transactions the databases know as committed.
    pub(crate) fn ledger(&self) -> usize {
        let count = |service: &Service<'_>| service.number("select count(*) from ledger");
        usize::try_from(self.services.iter().map(count).sum::<i64>()).unwrap()
    }

    /// What consumers see in all topics, outboxd's own included, and what they cannot read to its end.
    pub(crate) fn seen(&self, kafka: &Kafka) -> (Vec<Seen>, Vec<String>) {
        let checkpoints: Vec<String> = self.checkpoints().collect();
        let topics = self.topics.iter().chain([&self.sagas]).chain(&checkpoints);
        let topics: Vec<&str> = topics.map(String::as_str).collect();
        history::read(&kafka.bootstrap(), &topics, Duration::from_secs(40))
    }
}

/// Who leads a source, by its database.
#[derive(Clone, Debug)]
pub(crate) struct Seat {
    pub(crate) epoch: i64,
    /// Empty while nobody's lease runs.
    pub(crate) leader: String,
}

/// Looks at one source, again and again, through whatever happens to its server.
pub(crate) struct Eye<'a> {
    service: &'a Service<'a>,
    runtime: Runtime,
    client: Option<Client>,
}

impl<'a> Eye<'a> {
    pub(crate) fn new(service: &'a Service<'a>) -> Self {
        Self {
            service,
            runtime: Builder::new_current_thread().enable_all().build().unwrap(),
            client: None,
        }
    }

    /// Asks for one row; `None` while the server is away.
    pub(crate) fn ask(&mut self, query: &str) -> Option<tokio_postgres::Row> {
        let known = self.client.take();
        let service = self.service;
        let ask = async {
            let client = match known.filter(|client| !client.is_closed()) {
                Some(client) => client,
                None => service.try_connect_as("postgres").await.ok()?,
            };
            let row = client.query_one(query, &[]).await.ok()?;
            Some((client, row))
        };
        let answer = self
            .runtime
            .block_on(async { tokio::time::timeout(Duration::from_secs(5), ask).await });
        let (client, row) = answer.ok()??;
        self.client = Some(client);
        Some(row)
    }

    pub(crate) fn look(&mut self) -> Option<Seat> {
        let row = self.ask(
            "select epoch, case when lease_until > clock_timestamp() then instance else '' end from outbox.relay",
        )?;
        Some(Seat {
            epoch: row.get(0),
            leader: row.get(1),
        })
    }

    /// Waits for a seat as wanted.
    pub(crate) fn until(
        &mut self,
        patience: Duration,
        mut wanted: impl FnMut(&Seat) -> bool,
    ) -> Option<Seat> {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if let Some(seat) = self.look().filter(&mut wanted) {
                return Some(seat);
            }
            std::thread::sleep(3 * POLL);
        }
        None
    }
}
