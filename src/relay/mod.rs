//! The life of one source: connect, wait for the lease, take over, pump; and again, for as long as the daemon runs.
//!
//! Decides nothing about events; what one error means for the next step is said in [`error`].

mod adopt;
mod error;
mod pump;
mod takeover;
mod wish;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use uuid::Uuid;

pub use adopt::{Accepted, Renamed, rebase, rename};
pub use error::{Disposition, RelayError, Replace};
pub use takeover::checkpoint_topic;
pub use wish::Handle;

use wish::Wishes;

use crate::clock;
use crate::config;
use crate::host;
use crate::kafka::{Clients, KafkaError, Topics};
use crate::logic::backoff::Backoff;
use crate::logic::batch::RowId;
use crate::logic::checkpoint::Halt;
use crate::logic::event::Timestamp;
use crate::logic::health::{Beat, Health};
use crate::logic::lease::{Candidate, Claim, Holder, Watch, claim};
use crate::logic::refusal::{Refusal, Release};
use crate::logic::status::{Circuit, Phase, SourceStatus};
use crate::logic::window::Position;
use crate::metrics::{Recreated, SourceMetrics};
use crate::outbox::{DeadLetters, Ring, Seat, Session};

/// What all sources of a daemon share.
#[derive(Debug, Clone)]
pub struct Shared {
    /// Makes clients of Kafka.
    pub clients: Clients,
    /// What is known of its topics.
    pub topics: Topics,
    /// Who this daemon is.
    pub me: Holder,
    /// `[relay] lease`.
    pub lease: Duration,
    /// How many sources it leads.
    pub leads: Arc<AtomicU32>,
    /// Where sources say that they turn.
    pub health: Health,
}

/// One source of one daemon.
#[derive(Debug)]
pub struct Relay {
    shared: Shared,
    source: config::Source,
    metrics: SourceMetrics,
    status: watch::Sender<SourceStatus>,
    beat: Arc<Beat>,
    wishes: Wishes,
    /// Until then the lease is left to other daemons.
    yields_until: Option<Instant>,
    /// The epoch that we led with, while nobody fenced us.
    epoch: Option<i64>,
    may_take_back: bool,
    /// Since it last published.
    backoff: Backoff,
    /// How often Kafka failed it in a row, since it last published.
    kafka_failures: u32,
    /// What was last complained of, since it last published.
    complaint: Option<String>,
    /// Whether records are sent alone, since something in a batch was invalid and nobody said what.
    alone: bool,
    /// What Kafka refused in transactions that were aborted.
    refused: HashMap<RowId, Refusal>,
    /// When letters that were refused again are tried next.
    release_after: Instant,
    release_backoff: Backoff,
    /// Why nobody may lead, and the incarnation it holds for: `sql rebase` gives the database another.
    halted: Option<(Uuid, Halt)>,
}

/// A source turns at least this often, whatever has happened to its database.
const TURN: Duration = Duration::from_secs(60);
/// One that has not turned for so long waits for a server that is frozen, or beyond a network that swallows everything: no
/// statement may run for longer than 30 s, and no commit for longer than the lease.
const SILENCE: Duration = Duration::from_secs(40);
/// After an error that needs an operator, how often we look whether they acted.
const OPERATOR: Duration = Duration::from_secs(10);
/// So many failures of Kafka in a row open the circuit.
const CIRCUIT_FAILURES: u32 = 2;

impl Relay {
    /// A source that nothing is known of yet; it is seen and commanded through its handle.
    pub fn new(shared: Shared, source: config::Source) -> (Self, Handle) {
        let metrics = SourceMetrics::new(&source.name);
        let (status, seen) = watch::channel(SourceStatus::unknown(&source.name));
        let (wishes, handle) = Wishes::of(seen);
        let name = format!("source {}", source.name);
        let beat = Arc::new(shared.health.watch(name, TURN, Instant::now()));
        let relay = Self {
            beat,
            wishes,
            yields_until: None,
            shared,
            source,
            metrics,
            status,
            epoch: None,
            may_take_back: true,
            backoff: Backoff::default(),
            kafka_failures: 0,
            complaint: None,
            alone: false,
            refused: HashMap::new(),
            release_after: Instant::now(),
            release_backoff: Backoff::default(),
            halted: None,
        };
        (relay, handle)
    }

    /// Whether a source's database can be reached and is the one that the configuration means, without leading it.
    ///
    /// # Errors
    /// What would keep a daemon from leading it.
    pub async fn visit(shared: &Shared, source: &config::Source) -> Result<(), RelayError> {
        let session = Session::open(&source.database, &shared.me.instance).await?;
        let seat = session.seat().await?;
        is_ours(&seat, &session, &source.name)
    }

    /// Runs until `stop`, and then hands the lease back.
    pub async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            self.beat.tick(Instant::now());
            self.heed_pause();
            let beat = Arc::clone(&self.beat);
            let ended = tokio::select! {
                ended = Box::pin(self.once(&stop)) => ended,
                () = silence(&beat) => Err(RelayError::Silent),
            };
            let error = match ended {
                Ok(Left::Stopped) => break,
                Ok(Left::Released) => {
                    // It may have taken a while to get here.
                    self.yield_lease();
                    continue;
                }
                Err(error) => error,
            };
            self.metrics.leader.set(0.0);
            if error.is_away() {
                self.metrics.up.set(0.0);
            }
            if let Some(reason) = recreated(&error) {
                self.metrics.recreated(reason);
            }
            if error.is_kafka() {
                self.kafka_failures += 1;
            }
            let pause = match error.disposition() {
                Disposition::Again => {
                    warn!(source = %self.source.name, %error, "taking over again");
                    continue;
                }
                Disposition::StandBy => {
                    self.lost();
                    Duration::ZERO
                }
                Disposition::Retry => self.backoff.pause(chance()),
                Disposition::Operator => OPERATOR,
            };
            self.report(&error, pause);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.wishes.changed() => {}
                () = stop.cancelled() => {}
            }
            if self.kafka_failures >= CIRCUIT_FAILURES {
                self.circuit(Circuit::HalfOpen);
            }
        }
    }

    /// Another daemon has taken the lease over.
    fn lost(&mut self) {
        if self.epoch.take().is_some() {
            warn!(source = %self.source.name, "another daemon leads now");
            self.metrics.lease_lost.increment(1);
        }
    }

    /// Something was published: what failed before counts no more.
    fn works(&mut self) {
        self.backoff.reset();
        if self.complaint.take().is_some() {
            info!(source = %self.source.name, "publishing again");
        }
        if std::mem::take(&mut self.kafka_failures) >= CIRCUIT_FAILURES {
            self.circuit(Circuit::Closed);
        }
    }

    /// One session: from its connect to the error that ends it, or to a clean end.
    async fn once(&mut self, stop: &CancellationToken) -> Result<Left, RelayError> {
        self.metrics.up.set(0.0);
        self.phase(Phase::Connecting);
        let mut session = tokio::select! {
            session = Session::open(&self.source.database, &self.shared.me.instance) => session?,
            () = stop.cancelled() => return Ok(Left::Stopped),
        };
        self.metrics.up.set(1.0);
        let Some((seat, epoch, _leading)) = self.await_lease(&mut session, stop).await? else {
            return Ok(Left::Stopped);
        };
        self.epoch = Some(epoch);
        self.lead(session, seat, epoch, stop).await
    }

    /// Waits until this daemon leads; `None` if it is to stop.
    async fn await_lease(
        &mut self,
        session: &mut Session,
        stop: &CancellationToken,
    ) -> Result<Option<(Seat, i64, Leading)>, RelayError> {
        let mut watch = Watch::default();
        loop {
            self.beat.tick(Instant::now());
            self.heed_pause();
            if self.wishes.released() {
                self.yield_lease();
            }
            let seat = session.seat().await?;
            self.check(&seat, session)?;
            if self.epoch.is_some_and(|epoch| epoch != seat.lease.epoch) {
                self.lost();
            }
            let holder = seat.lease.holder.as_ref();
            let theirs = holder.is_some_and(|holder| *holder != self.shared.me);
            if theirs && !seat.lease.remaining.is_zero() {
                // Somebody took what was left to them.
                self.yields_until = None;
            }
            // Counted before it is decided, or all sources of a daemon would find that it leads nothing yet.
            let leading = Leading::begin(Arc::clone(&self.shared.leads));
            let candidate = Candidate {
                me: &self.shared.me,
                lease: self.shared.lease,
                epoch: self.epoch,
                predecessor_gone: holder.is_some_and(|holder| host::is_gone(&holder.process)),
                may_take_back: self.may_take_back,
                leads: leading.others,
                yields: self
                    .yields_until
                    .is_some_and(|until| Instant::now() < until),
                watched: watch.look(&seat.lease, Instant::now()),
            };
            let pause = match claim(&seat.lease, candidate) {
                Claim::Wait(pause) => pause,
                claim @ (Claim::Take | Claim::TakeBack) => {
                    self.may_take_back &= claim != Claim::TakeBack;
                    let (me, lease) = (&self.shared.me, self.shared.lease);
                    let taken = session
                        .take(seat.lease.epoch, &self.source.name, me, lease)
                        .await?;
                    match taken {
                        Some(epoch) => return Ok(Some((seat, epoch, leading))),
                        None => continue,
                    }
                }
            };
            drop(leading);
            // A free source is not waited for, it is left to others for a moment.
            if candidate.yields || !seat.lease.remaining.is_zero() {
                self.stand_by(&seat);
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.wishes.changed() => {}
                () = stop.cancelled() => return Ok(None),
            }
        }
    }

    /// From now on an operator's pause holds, or no longer.
    fn heed_pause(&self) {
        let paused = self.wishes.paused();
        self.metrics.paused.set(f64::from(u8::from(paused)));
        let changed = |status: &mut SourceStatus| std::mem::replace(&mut status.paused, paused);
        self.status
            .send_if_modified(|status| changed(status) != paused);
    }

    /// Leaves the lease to other daemons, for as long as one of them may need to look; if none takes it, it is ours again.
    fn yield_lease(&mut self) {
        self.yields_until = Some(Instant::now() + self.shared.lease);
        self.epoch = None;
    }

    /// Whether this database is one that we may lead.
    fn check(&self, seat: &Seat, session: &Session) -> Result<(), RelayError> {
        is_ours(seat, session, &self.source.name)?;
        match &self.halted {
            Some((incarnation, halt)) if *incarnation == seat.incarnation => {
                Err(halt.clone().into())
            }
            _ => Ok(()),
        }
    }

    fn stand_by(&mut self, seat: &Seat) {
        let leader = seat.lease.holder.as_ref();
        let twin = leader.filter(|leader| {
            leader.instance == self.shared.me.instance && leader.process != self.shared.me.process
        });
        let was = self.status.borrow().phase;
        if was != Phase::Standby {
            let leader = leader.map_or("nobody", |leader| leader.instance.as_str());
            info!(source = %self.source.name, leader, "standing by");
            self.metrics.stand_by();
            if twin.is_some() {
                warn!(
                    source = %self.source.name,
                    "the leader has this daemon's instance name; if it is alive, give one of them another \
                     `[relay] instance`"
                );
            }
        }
        self.status.send_modify(|status| {
            status.phase = Phase::Standby;
            status.leader = leader.map(|leader| leader.instance.clone());
            status.last_error = None;
        });
    }

    /// Looks how much waits to be published, whether or not anything can be; gives the number of dead letters.
    async fn count(&self, session: &Session, position: &Position) -> Result<u64, RelayError> {
        let backlog = session.backlog(position).await?;
        let letters = session.dead_letters().await?;
        let events = u64::try_from(backlog.events).unwrap_or(0);
        let oldest = backlog.oldest.map(Timestamp::as_seconds);
        self.metrics.backlog(events, oldest);
        self.count_letters(letters);
        self.status.send_modify(|status| {
            status.backlog_events = events;
            status.oldest_unpublished_at = oldest;
            status.dead_letters = letters.total();
        });
        Ok(letters.total())
    }

    /// Empties what is published of the ring, and notes how full it is.
    async fn rotate(&self, session: &mut Session) -> Result<Ring, RelayError> {
        let ring = session.rotate().await?;
        #[expect(clippy::cast_precision_loss, reason = "there are four")]
        self.metrics.ring_slots_used.set(ring.slots_used() as f64);
        Ok(ring)
    }

    fn count_letters(&self, letters: DeadLetters) {
        self.metrics
            .dead_letters(Release::Auto, u64::try_from(letters.auto).unwrap_or(0));
        self.metrics
            .dead_letters(Release::Manual, u64::try_from(letters.manual).unwrap_or(0));
    }

    /// Notes that released letters were refused again.
    fn released_again(&mut self) {
        self.release_after = Instant::now() + self.release_backoff.pause(chance());
    }

    fn phase(&self, phase: Phase) {
        self.status.send_modify(|status| status.phase = phase);
    }

    fn circuit(&self, circuit: Circuit) {
        self.metrics.circuit(circuit);
        self.status.send_modify(|status| status.circuit = circuit);
    }

    /// Says once what went wrong; repeats of the same are only counted in the pause.
    fn report(&mut self, error: &RelayError, pause: Duration) {
        let text = error.to_string();
        let phase = match error.disposition() {
            Disposition::Operator => Phase::Stopped,
            Disposition::Again | Disposition::Retry | Disposition::StandBy => Phase::Retrying,
        };
        if self.kafka_failures >= CIRCUIT_FAILURES {
            self.circuit(Circuit::Open);
        }
        if self.complaint.as_ref() != Some(&text) {
            let (source, pause_ms) = (&self.source.name, pause.as_millis());
            match phase {
                Phase::Stopped => {
                    error!(%source, error = %text, "source stopped until this is mended")
                }
                Phase::Connecting
                | Phase::Standby
                | Phase::TakingOver
                | Phase::Leading
                | Phase::Retrying => warn!(%source, error = %text, pause_ms, "source interrupted"),
            }
            self.complaint = Some(text.clone());
        }
        self.status.send_modify(|status| {
            status.phase = phase;
            status.last_error = Some((clock::now().as_seconds(), text));
        });
    }
}

/// Ends when a source has not turned for too long. Leaving it in the middle is safe, as a crash is.
async fn silence(beat: &Beat) {
    loop {
        let left = SILENCE.saturating_sub(beat.silent(Instant::now()));
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left).await;
    }
}

/// Why a session ended although nothing was wrong.
enum Left {
    /// The daemon or the source is to end.
    Stopped,
    /// An operator wants another daemon to lead.
    Released,
}

/// Whether a database is the one that the configuration calls `ours`.
fn is_ours(seat: &Seat, session: &Session, ours: &str) -> Result<(), RelayError> {
    if let Some(theirs) = seat.source.as_ref().filter(|theirs| *theirs != ours) {
        let (theirs, ours) = (theirs.clone(), ours.to_owned());
        return Err(RelayError::OtherSource { theirs, ours });
    }
    let found = (
        session.identity.system_identifier,
        session.identity.database_oid,
    );
    let expected = (seat.system_identifier, seat.database_oid);
    if found != expected {
        return Err(RelayError::OtherDatabase {
            source_name: ours.to_owned(),
            expected: format!("cluster {} database {}", expected.0, expected.1),
            found: format!("cluster {} database {}", found.0, found.1),
        });
    }
    Ok(())
}

/// Whether an error costs the producer, and under which name.
fn recreated(error: &RelayError) -> Option<Recreated> {
    match error {
        RelayError::Replace(Replace::Overtaken) => Some(Recreated::Fenced),
        RelayError::Replace(Replace::Refused) => Some(Recreated::Refused),
        RelayError::Kafka(KafkaError::Fenced(_)) => Some(Recreated::Fenced),
        RelayError::Kafka(_) => Some(Recreated::Error),
        RelayError::Silent
        | RelayError::Outbox(_)
        | RelayError::Halt(_)
        | RelayError::OtherSource { .. }
        | RelayError::OtherDatabase { .. }
        | RelayError::DeadLetterLimit { .. } => None,
    }
}

/// Counts a source as led for as long as it lives.
struct Leading {
    leads: Arc<AtomicU32>,
    /// How many others were counted before.
    others: u32,
}

impl Leading {
    fn begin(leads: Arc<AtomicU32>) -> Self {
        let others = leads.fetch_add(1, Ordering::Relaxed);
        Self { leads, others }
    }
}

impl Drop for Leading {
    fn drop(&mut self) {
        self.leads.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A number in 0..1 for spreading pauses; needs no quality.
fn chance() -> f64 {
    f64::from(Uuid::new_v4().as_fields().0) / f64::from(u32::MAX)
}
