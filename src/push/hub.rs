//! What all connections of the client-facing half share. Never holds a connection itself.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::feed::{Ask, Mail, Who};
use super::register::Register;
use super::terms::Terms;
use super::warm::Head;
use crate::auth::Refused;
use crate::clock;
use crate::config::push::Limits;
use crate::kafka::{KafkaError, SagaLog, SagaLogRecord};
use crate::logic::event::Timestamp;
use crate::logic::push::admission::{Admission, Bounds, Full, Seat};
use crate::logic::push::frames::Frame;
use crate::logic::push::partition::{Overview, SessionId};
use crate::logic::push::placement::partition_of;
use crate::logic::push::session::{Access, NoAccess, Settings};
use crate::logic::saga::SagaKey;
use crate::metrics::PushMetrics;
use crate::tasks::Crowd;

/// Sagas whose events are looked up at the same time; each has a connection of its own to Kafka.
const LOOKUPS: usize = 4;
/// A count is good for so long.
const COUNT_PAUSE: Duration = Duration::from_secs(1);

/// Shared by the listener, the routes and the sockets.
#[derive(Debug)]
pub(super) struct Hub {
    terms: watch::Sender<Arc<Terms>>,
    pub(super) metrics: PushMetrics,
    /// The daemon ends.
    pub(super) draining: CancellationToken,
    /// Clients that are gone, and partitions that do not know yet.
    pub(super) farewells: Crowd,
    pub(super) register: Register,
    /// Turns for looking sagas up in the log once more.
    pub(super) lookups: Semaphore,
    admission: Mutex<Admission<IpAddr>>,
    log: RwLock<Option<Arc<Log>>>,
    sessions: AtomicU64,
}

/// The log as it is read now: it is replaced as a whole when its versions mean nothing any more.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) epoch: String,
    settings: RwLock<Arc<Settings>>,
    /// What sagas that are kept for the next start are of.
    pub(super) head: Head,
    pub(super) partitions: Vec<mpsc::Sender<Mail>>,
    /// It has been replaced.
    pub(super) ended: CancellationToken,
    /// To look up single records of it.
    topic: SagaLog,
    /// What was counted last, and when: many who ask at about the same time share a count.
    counted: tokio::sync::Mutex<Option<(Instant, Arc<Overview>)>>,
}

impl Hub {
    pub(super) fn new(terms: Terms, draining: CancellationToken) -> Self {
        Self {
            metrics: PushMetrics::new(),
            draining,
            farewells: Crowd::default(),
            register: Register::default(),
            lookups: Semaphore::new(LOOKUPS),
            admission: Mutex::new(Admission::new(bounds(&terms.config.limits))),
            log: RwLock::default(),
            sessions: AtomicU64::new(1),
            terms: watch::Sender::new(Arc::new(terms)),
        }
    }

    /// What is in force for whoever comes now.
    pub(super) fn terms(&self) -> Arc<Terms> {
        Arc::clone(&self.terms.borrow())
    }

    pub(super) fn follow_terms(&self) -> watch::Receiver<Arc<Terms>> {
        self.terms.subscribe()
    }

    pub(super) fn replace_terms(&self, terms: Terms) {
        self.admission().bound(bounds(&terms.config.limits));
        self.terms.send_replace(Arc::new(terms));
    }

    /// The log, once it has been read up to now.
    pub(super) fn log(&self) -> Option<Arc<Log>> {
        self.log
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn replace_log(&self, log: Option<Arc<Log>>) {
        *self.log.write().unwrap_or_else(PoisonError::into_inner) = log;
    }

    pub(super) fn next_session(&self) -> SessionId {
        self.sessions.fetch_add(1, Ordering::Relaxed)
    }

    /// Looks at a token and takes the user's place for the connection.
    pub(super) async fn access(&self, place: &Place, token: &str) -> Result<Access, NoAccess> {
        let now = SystemTime::now();
        let terms = self.terms();
        let identity = terms
            .verifier
            .verify_fresh(token, now)
            .await
            .map_err(|refused| match refused {
                Refused::Expired => NoAccess::Expired,
                Refused::Unchecked => NoAccess::Unchecked,
                Refused::Wrong(why) => {
                    debug!(%why, "a token was refused");
                    NoAccess::Wrong
                }
            })?;
        place
            .authenticate(identity.rights.user.as_deref())
            .map_err(|_| NoAccess::TooMany)?;
        let since = |at: SystemTime, from| at.duration_since(from).unwrap_or_default();
        let micros = since(identity.expires_at, UNIX_EPOCH).as_micros();
        Ok(Access {
            rights: Arc::new(identity.rights),
            token_id: identity.token_id.map(Into::into),
            expires_at: Timestamp(i64::try_from(micros).unwrap_or(i64::MAX)),
            expires_in: since(identity.expires_at, now),
            believed_for: since(identity.expires_at + terms.config.auth.leeway, now),
        })
    }

    /// Frames are handed to the network, out of so many bytes that waited.
    pub(super) fn measure(&self, waited: usize, frames: &[Arc<Frame>]) {
        let bytes: usize = frames.iter().map(|frame| frame.text().len()).sum();
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        self.metrics.frames_sent.increment(count(frames.len()));
        self.metrics.bytes_sent.increment(count(bytes));
        #[expect(clippy::cast_precision_loss, reason = "a histogram")]
        self.metrics.queue_bytes.record(waited as f64);
        for happened in frames.iter().filter_map(|frame| frame.first_write()) {
            let took = clock::now().as_seconds() - happened.as_seconds();
            self.metrics.insert_to_push.record(took.max(0.0));
        }
    }

    /// When a draining daemon sends this session away: evenly spread, without a dice.
    pub(super) fn turn(&self, session: SessionId) -> Duration {
        // Multiples of the golden ratio fill an interval evenly, however many there are.
        #[expect(clippy::cast_precision_loss, reason = "any fraction will do")]
        let fraction = (session as f64 * 0.618_033_988_749_895).fract();
        self.terms().config.drain.mul_f64(fraction * 0.9)
    }

    fn admission(&self) -> MutexGuard<'_, Admission<IpAddr>> {
        self.admission
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The numbers of connections that limits allow.
fn bounds(limits: &Limits) -> Bounds {
    Bounds {
        connections: limits.connections,
        unauthenticated: limits.unauthenticated,
        per_address: limits.connections_per_address,
        per_user: limits.connections_per_user,
    }
}

/// Waits for other terms than were seen last.
pub(super) async fn changed(terms: &mut watch::Receiver<Arc<Terms>>) {
    if terms.changed().await.is_err() {
        // The hub is gone, and nobody needs any.
        std::future::pending::<()>().await;
    }
}

impl Log {
    pub(super) fn new(
        epoch: String,
        settings: Settings,
        head: Head,
        partitions: Vec<mpsc::Sender<Mail>>,
        ended: CancellationToken,
        topic: SagaLog,
    ) -> Self {
        Self {
            epoch,
            settings: RwLock::new(Arc::new(settings)),
            head,
            partitions,
            ended,
            topic,
            counted: tokio::sync::Mutex::default(),
        }
    }

    /// What a session begins with.
    pub(super) fn settings(&self) -> Arc<Settings> {
        let settings = self.settings.read();
        Arc::clone(&settings.unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn replace_settings(&self, settings: Settings) {
        let mut now = self
            .settings
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *now = Arc::new(settings);
    }

    /// The number of a saga's partition.
    fn number(&self, key: &SagaKey) -> i32 {
        let count = i32::try_from(self.partitions.len()).unwrap_or(i32::MAX);
        partition_of(&key.saga_id, count)
    }

    fn partition(&self, key: &SagaKey) -> Option<&mpsc::Sender<Mail>> {
        self.partitions.get(usize::try_from(self.number(key)).ok()?)
    }

    /// Puts something into the mailbox of a saga's partition. If nobody reads it any more, the log has ended.
    pub(super) async fn send(&self, key: &SagaKey, mail: Mail) {
        if let Some(partition) = self.partition(key) {
            let _ = partition.send(mail).await;
        }
    }

    /// Looks up records of a saga's partition by their offsets.
    pub(super) async fn pick(
        &self,
        key: &SagaKey,
        offsets: Vec<i64>,
    ) -> Result<Vec<SagaLogRecord>, KafkaError> {
        self.topic.pick(self.number(key), offsets).await
    }

    /// What all partitions have, counted a second ago at most; none if nobody reads the log any more.
    pub(super) async fn overview(&self) -> Option<Arc<Overview>> {
        let mut counted = self.counted.lock().await;
        let now = Instant::now();
        if let Some((at, overview)) = &*counted
            && now.duration_since(*at) < COUNT_PAUSE
        {
            return Some(Arc::clone(overview));
        }
        let mut overview = Overview::default();
        for partition in &self.partitions {
            let (reply, answer) = oneshot::channel();
            // Without a reader there is no answer either.
            let _ = partition.send(Mail::Count { reply }).await;
            overview.add(answer.await.ok()?);
        }
        let overview = Arc::new(overview);
        *counted = Some((now, Arc::clone(&overview)));
        Some(overview)
    }

    /// Puts something into every mailbox.
    pub(super) async fn send_all(&self, mail: impl Fn() -> Mail) {
        for partition in &self.partitions {
            let _ = partition.send(mail()).await;
        }
    }

    /// Asks every partition the same for a session.
    pub(super) async fn ask_all(&self, who: &Who, ask: impl Fn() -> Ask) {
        self.send_all(|| Mail::Session(who.clone(), ask())).await;
    }
}

/// One connection's place among all; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    hub: Arc<Hub>,
    seat: Mutex<Option<Seat<IpAddr>>>,
    /// There was none.
    pub(super) refused: Option<Full>,
}

impl Place {
    pub(super) fn take(hub: &Arc<Hub>) -> Self {
        let (seat, refused) = match hub.admission().enter() {
            Ok(seat) => (Some(seat), None),
            Err(full) => (None, Some(full)),
        };
        Self {
            hub: Arc::clone(hub),
            seat: Mutex::new(seat),
            refused,
        }
    }

    /// The connection comes from there.
    pub(super) fn locate(&self, address: IpAddr) -> Result<(), Full> {
        self.with(|admission, seat| admission.locate(seat, address))
    }

    fn authenticate(&self, user: Option<&str>) -> Result<(), Full> {
        self.with(|admission, seat| admission.authenticate(seat, user))
    }

    /// Whether a token was shown.
    pub(super) fn is_authenticated(&self) -> bool {
        let seat = self.seat.lock().unwrap_or_else(PoisonError::into_inner);
        seat.as_ref().is_some_and(Seat::is_authenticated)
    }

    fn with(
        &self,
        act: impl FnOnce(&mut Admission<IpAddr>, &mut Seat<IpAddr>) -> Result<(), Full>,
    ) -> Result<(), Full> {
        let mut seat = self.seat.lock().unwrap_or_else(PoisonError::into_inner);
        match seat.as_mut() {
            Some(seat) => act(&mut self.hub.admission(), seat),
            None => Err(self.refused.unwrap_or(Full::Connections)),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let seat = self.seat.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(seat) = seat.take() {
            self.hub.admission().leave(seat);
        }
    }
}
