//! Inflicts faults, and looks whether anything came of them: what has no effect proves nothing, and is tried again later.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::lane::{Eye, Lane, PATIENCE};
use crate::schedule::{Kind, Step};
use crate::support::kafka::Kafka;
use crate::support::postgres::Postgres;
use crate::support::process::POLL;
use crate::support::proxy::Proxy;
use crate::tail::{Hit, Tail};
use crate::tally::Tally;

/// How often a fault without effect is tried again.
const ATTEMPTS: usize = 6;
/// 128 and the number of SIGKILL.
const KILLED: i32 = 137;

/// What all threads that inflict faults share.
pub(crate) struct Chaos<'a> {
    pub(crate) postgres: &'a Postgres,
    pub(crate) kafka: &'a Kafka,
    pub(crate) proxy: &'a Proxy,
    pub(crate) lanes: &'a [Lane<'a>],
    pub(crate) tail: &'a Tail,
    pub(crate) tally: &'a Tally,
    /// After this nothing new begins.
    pub(crate) deadline: Instant,
    /// Whether faults of the servers still come: as long, those of daemons go on, so that all of them overlap.
    pub(crate) servers_fail: &'a AtomicBool,
}

impl Chaos<'_> {
    /// Goes through a queue; what had no effect is put at its end.
    fn work(&self, steps: VecDeque<Step>, mut inflict: impl FnMut(&Step) -> Option<Vec<Hit>>) {
        let mut steps: VecDeque<(Step, usize)> = steps.into_iter().map(|step| (step, 1)).collect();
        while let Some((step, attempt)) = steps.pop_front() {
            thread::sleep(step.rest);
            if Instant::now() >= self.deadline {
                return;
            }
            let hits = inflict(&step);
            if hits.is_none() && attempt < ATTEMPTS && Instant::now() < self.deadline {
                steps.push_back((step.clone(), attempt + 1));
            }
            self.tally.note(step.kind, hits);
        }
    }

    /// Faults of one deployment's daemons.
    pub(crate) fn daemons(&self, lane: &Lane<'_>, steps: VecDeque<Step>) {
        let mut eyes: Vec<Eye<'_>> = lane.services.iter().map(Eye::new).collect();
        let again = steps.clone();
        let mut inflict = |step: &Step| {
            self.revive(lane);
            let source = step.target % lane.services.len();
            let eye = &mut eyes[source];
            // Nobody leads while the database is away.
            let seat = eye.until(PATIENCE / 3, |seat| lane.daemon(&seat.leader).is_some())?;
            let daemon = lane.daemon(&seat.leader)?;
            let mut hit = Hit::now(&lane.services[source].name);
            hit.epoch_over = seat.epoch;
            let taken = match step.kind {
                Kind::Kill => {
                    daemon.kill();
                    thread::sleep(step.length);
                    lane.run(daemon);
                    eye.until(PATIENCE, |now| now.epoch > seat.epoch).is_some()
                }
                Kind::Freeze => {
                    daemon.signal("STOP");
                    let other = eye.until(PATIENCE, |now| {
                        now.epoch > seat.epoch && now.leader != seat.leader
                    });
                    daemon.signal("CONT");
                    other.is_some()
                }
                Kind::Stop => {
                    let status = daemon.terminate();
                    lane.run(daemon);
                    status == 0 && eye.until(PATIENCE, |now| now.epoch > seat.epoch).is_some()
                }
                Kind::BrokerKill
                | Kind::BrokerFreeze
                | Kind::Cut
                | Kind::LateCommit
                | Kind::Crash
                | Kind::Terminate => unreachable!("not a fault of daemons"),
            };
            taken.then(|| vec![hit])
        };
        self.work(steps, &mut inflict);
        let goes_on =
            || self.servers_fail.load(Ordering::Relaxed) && Instant::now() < self.deadline;
        for step in again.into_iter().cycle().take_while(|_| goes_on()) {
            self.work([step].into(), &mut inflict);
        }
        self.revive(lane);
    }

    /// Starts what ended by itself, and tells of it.
    fn revive(&self, lane: &Lane<'_>) {
        for daemon in lane.daemons.iter().filter(|daemon| daemon.pid().is_none()) {
            let status = daemon.wait();
            assert!(status != KILLED, "whoever kills a daemon starts it again");
            let log = daemon.log();
            let last = log.lines().last().unwrap_or_default();
            self.tally
                .surprise(format!("a daemon ended by itself with {status}: {last}"));
            lane.run(daemon);
        }
    }

    /// Faults of Kafka.
    pub(crate) fn kafka(&self, steps: VecDeque<Step>) {
        self.work(steps, |step| {
            let mut hits = self.hit_all();
            let effective = match step.kind {
                Kind::BrokerKill => {
                    let pid = self.kafka.pid();
                    self.kafka.kill();
                    self.kafka.start_again();
                    self.kafka.pid() != pid && self.published_again(&hits)
                }
                Kind::BrokerFreeze => {
                    self.kafka.pause();
                    // What was on its way to the reader may still arrive.
                    thread::sleep(Duration::from_secs(1));
                    let silent = Instant::now();
                    thread::sleep(step.length);
                    let silent = self.tail.is_silent_since(silent);
                    self.kafka.resume();
                    let since = Instant::now();
                    hits.iter_mut().for_each(|hit| hit.since = since);
                    silent && self.published_again(&hits)
                }
                Kind::Cut => self.proxy.cut() > 0 && self.published_again(&hits),
                Kind::LateCommit => {
                    self.proxy.hold();
                    let held = self.proxy.held_within(PATIENCE / 3);
                    if held {
                        thread::sleep(step.length);
                        self.proxy.pass();
                        // Others commit before it arrives.
                        let others = self.published_again(&self.hit_all());
                        self.proxy.release();
                        others
                    } else {
                        false
                    }
                }
                Kind::Kill | Kind::Freeze | Kind::Stop | Kind::Crash | Kind::Terminate => {
                    unreachable!("not a fault of Kafka")
                }
            };
            effective.then_some(hits)
        });
    }

    /// Faults of PostgreSQL.
    pub(crate) fn postgres(&self, steps: VecDeque<Step>) {
        let services = || self.lanes.iter().flat_map(|lane| &lane.services);
        let mut eyes: Vec<Eye<'_>> = services().map(Eye::new).collect();
        self.work(steps, |step| {
            let whom = match step.kind {
                Kind::Crash => 0..eyes.len(),
                Kind::Terminate => {
                    let one = step.target % eyes.len();
                    one..one + 1
                }
                Kind::Kill
                | Kind::Freeze
                | Kind::Stop
                | Kind::BrokerKill
                | Kind::BrokerFreeze
                | Kind::Cut
                | Kind::LateCommit => unreachable!("not a fault of PostgreSQL"),
            };
            let mut hits = Vec::new();
            for (eye, service) in eyes
                .iter_mut()
                .zip(services())
                .take(whom.end)
                .skip(whom.start)
            {
                let seat = eye.until(PATIENCE / 3, |seat| !seat.leader.is_empty())?;
                hits.push(Hit {
                    epoch_over: seat.epoch,
                    ..Hit::now(&service.name)
                });
            }
            let done = if step.kind == Kind::Crash {
                let pid = self.postgres.pid();
                self.postgres.stop_immediate();
                self.postgres.start_again();
                self.postgres.pid() != pid
            } else {
                let ended = eyes[whom.start].ask(
                    "select count(*) filter (where pg_terminate_backend(pid)) from pg_stat_activity
                    where application_name like 'outboxd %' and datname = current_database()",
                );
                ended.is_some_and(|row| row.get::<_, i64>(0) > 0)
            };
            let mut taken = eyes[whom].iter_mut().zip(&hits).map(|(eye, hit)| {
                eye.until(PATIENCE, |now| now.epoch > hit.epoch_over)
                    .is_some()
            });
            (done && taken.all(|taken| taken)).then_some(hits)
        });
    }

    fn hit_all(&self) -> Vec<Hit> {
        let services = self.lanes.iter().flat_map(|lane| &lane.services);
        services.map(|service| Hit::now(&service.name)).collect()
    }

    /// Waits until one of them publishes again.
    fn published_again(&self, hits: &[Hit]) -> bool {
        until(PATIENCE, || {
            hits.iter().any(|hit| self.tail.recovery(hit).is_some())
        })
    }
}

fn until(patience: Duration, holds: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline {
        if holds() {
            return true;
        }
        thread::sleep(5 * POLL);
    }
    false
}
