//! A service, its topics and the daemon that relays it, for tests that cut the daemon off and judge what came of it.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use outboxd::failpoint::{Point, Sabotage};

use crate::support::daemon::Daemon;
use crate::support::history::{self, Log, Outcome, Row, Verdict};
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
    /// What the daemon was made with.
    pub(crate) config: String,
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
        let topics = vec![topic(kafka, name, 3, &[]), topic(kafka, name, 1, &[])];
        Self::with_topics(kafka, postgres, name, relay, source, topics)
    }

    /// The same with topics that may not be there.
    pub(crate) fn with_topics(
        kafka: &'a Kafka,
        postgres: &'a Postgres,
        name: &str,
        relay: &str,
        source: &str,
        topics: Vec<String>,
    ) -> Self {
        let prefix = unique(name);
        let service = Service::install_with(postgres, name, &["--slot", "1s"]);
        writers::prepare(&service);
        let config =
            kafka_block(kafka, &prefix) + "[relay]\n" + relay + "\n" + &service.block(source);
        Self {
            kafka,
            sagas: format!("{prefix}.sagas"),
            daemon: Daemon::builder(OUTBOXD, &config).prepare(),
            config,
            service,
            prefix,
            topics,
            log: Log::default(),
        }
    }

    /// Writes with these writers and a bystander while `work` goes on, lets everything be settled, ends the daemons and
    /// judges.
    pub(crate) fn while_writing(&self, daemons: &[&Daemon], work: impl FnOnce()) {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for seed in 0..2 {
                let (writer, stop) = (self.writer(false), &stop);
                scope.spawn(move || block_on(writer.run(seed, stop)));
            }
            let _stop = StopAtEnd(&stop);
            work();
        });
        self.settled();
        for daemon in daemons.iter().filter(|daemon| daemon.pid().is_some()) {
            daemon.wait_ready();
            assert_eq!(daemon.terminate(), 0, "{}", daemon.log());
        }
        let verdict = self.verdict();
        assert!(verdict.is_clean(), "{}: {verdict}", self.service.name);
        let committed = self.log.count(Outcome::Committed);
        assert!(committed > 20, "{committed} transactions prove little");
    }

    /// Waits until the batches of a leader with at least this epoch are settled: something was published.
    pub(crate) fn led_with(&self, epoch: i64) {
        wait_until(&format!("epoch {epoch} to publish"), PATIENCE, || {
            self.epoch() >= epoch
        });
        let batch = self.batch();
        wait_until("something to be published", PATIENCE, || {
            self.batch() > batch + 2
        });
    }

    /// Who leads, counted.
    pub(crate) fn epoch(&self) -> i64 {
        self.service.number("select epoch from outbox.relay")
    }

    /// How many transactions are settled.
    pub(crate) fn batch(&self) -> i64 {
        self.service.number("select batch from outbox.relay")
    }

    /// Ends the lease before its time, as a step of the database's clock does.
    pub(crate) fn expire(&self) {
        self.service
            .execute("update outbox.relay set lease_until = '-infinity'");
    }

    /// Another daemon with the same configuration, which does not run yet.
    pub(crate) fn twin(&self) -> Daemon {
        Daemon::builder(OUTBOXD, &self.config).prepare()
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
        let name = point.name();
        let armed = if point == Point::Replace {
            // A producer is replaced when a commit was slow.
            format!("after_commit={pass}:slow,{name}=1")
        } else {
            format!("{name}={pass}")
        };
        start(&self.daemon, &armed, sabotage);
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

/// Stops the writers, also when the test fails: it waits for them.
pub(crate) struct StopAtEnd<'a>(pub(crate) &'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
