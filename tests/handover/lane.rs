//! A service, its topics and the daemon that relays it, for tests that cut the daemon off and judge what came of it.

use std::collections::HashSet;
use std::time::Duration;

use outboxd::failpoint::{Point, Sabotage};

use crate::support::daemon::Daemon;
use crate::support::history::{self, Log, Row, Verdict};
use crate::support::kafka::Kafka;
use crate::support::postgres::Postgres;
use crate::support::{block_on, unique, wait_until};
use crate::world::{OUTBOXD, Service, kafka_block, topic};
use crate::writers::{self, Writer};

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// 128 and the number of SIGKILL.
const KILLED: i32 = 137;

/// One source from end to end.
pub(crate) struct Lane<'a> {
    pub(crate) kafka: &'a Kafka,
    pub(crate) service: Service<'a>,
    pub(crate) prefix: String,
    pub(crate) topics: Vec<String>,
    pub(crate) log: Log,
    pub(crate) daemon: Daemon,
    pub(crate) sagas: String,
}

impl<'a> Lane<'a> {
    /// Makes all of it; the daemon does not run yet. `relay` and `source` are further lines of the configuration.
    pub(crate) fn new(
        kafka: &'a Kafka,
        postgres: &'a Postgres,
        name: &str,
        relay: &str,
        source: &str,
    ) -> Self {
        let prefix = unique(name);
        let topics = vec![topic(kafka, name, 3, &[]), topic(kafka, name, 1, &[])];
        let service = Service::install_with(postgres, name, &["--slot", "1s"]);
        writers::prepare(&service);
        let config =
            kafka_block(kafka, &prefix) + "[relay]\n" + relay + "\n" + &service.block(source);
        Self {
            kafka,
            sagas: format!("{prefix}.sagas"),
            daemon: Daemon::builder(OUTBOXD, &config).prepare(),
            service,
            prefix,
            topics,
            log: Log::default(),
        }
    }

    /// Another daemon with the same configuration, which does not run yet.
    pub(crate) fn twin(&self) -> Daemon {
        let config = std::fs::read_to_string(self.daemon.config()).unwrap();
        let (config, _admin) = config.split_once("[admin]").unwrap();
        Daemon::builder(OUTBOXD, config).prepare()
    }

    /// What a writer needs to know.
    pub(crate) fn writer(&self, prepares: bool) -> Writer<'_> {
        Writer {
            service: &self.service,
            topics: &self.topics,
            sagas: &self.sagas,
            log: &self.log,
            prepares,
            rest_ms: 8,
            large: 200_000,
        }
    }

    /// Starts the daemon, which kills itself at a pass of a point; fails when it has not after a long while.
    pub(crate) fn kill_at(&self, point: Point, pass: u64, sabotage: Option<Sabotage>) {
        start(&self.daemon, &format!("{}={pass}", point.name()), sabotage);
        self.killed(point);
    }

    /// Waits for the daemon to kill itself there.
    pub(crate) fn killed(&self, point: Point) {
        wait_until(
            &format!("the daemon to come to {}", point.name()),
            PATIENCE,
            || self.daemon.pid().is_none(),
        );
        assert_eq!(
            self.daemon.wait(),
            KILLED,
            "at {}: {}",
            point.name(),
            self.daemon.log()
        );
    }

    /// Where its transactions leave a note of what they published.
    pub(crate) fn checkpoints(&self) -> String {
        format!("{}.checkpoints.{}", self.prefix, self.service.name)
    }

    /// Waits until everything that is committed is settled.
    pub(crate) fn settled(&self) {
        let waiting = "select (select count(*) from outbox.event, outbox.relay
                where not pg_visible_in_snapshot(event.txid, relay.seen))
            + (select count(*) from outbox.relay where page_upto is not null)";
        wait_until("everything to be settled", PATIENCE, || {
            self.service.number(waiting) == 0
        });
    }

    /// What is committed, as the service's database knows by now.
    pub(crate) fn committed(&self) -> Vec<Row> {
        let ledger: HashSet<uuid::Uuid> = block_on(async {
            let client = self.service.connect_as("postgres").await;
            let rows = client.query("select id from ledger", &[]).await.unwrap();
            rows.iter().map(|row| row.get(0)).collect()
        });
        self.log.committed(&ledger)
    }

    /// What consumers make of it, outboxd's own topics included.
    pub(crate) fn verdict(&self) -> Verdict {
        let checkpoints = self.checkpoints();
        let topics = self.topics.iter().chain([&self.sagas, &checkpoints]);
        let topics: Vec<&str> = topics.map(String::as_str).collect();
        let (seen, open) = history::read(&self.kafka.bootstrap(), &topics, Duration::from_secs(25));
        history::judge(&self.committed(), &seen, &open)
    }
}

/// Starts a daemon with points (`read=1:stop`) armed and rules not kept.
pub(crate) fn start(daemon: &Daemon, points: &str, sabotage: Option<Sabotage>) {
    let sabotage = sabotage.map_or("", Sabotage::name);
    daemon.start_again_with(&[
        ("OUTBOXD_FAILPOINTS", points),
        ("OUTBOXD_SABOTAGE", sabotage),
    ]);
}

/// Waits until a daemon has stopped itself.
pub(crate) fn stopped(daemon: &Daemon) {
    wait_until("the daemon to stop itself", PATIENCE, || {
        assert!(daemon.pid().is_some(), "it ended: {}", daemon.log());
        daemon.is_stopped()
    });
}
