//! The client-facing half: reads the saga topic and shows it to clients. Never touches a database, and shares nothing with the relay but Kafka.

mod asks;
mod feed;
mod http;
mod hub;
mod listener;
mod problem;
mod queue;
mod register;
mod socket;
mod terms;
mod tls;
mod visit;
mod warm;

pub use terms::{Control, Renewal};
pub use tls::{TlsError, examine as examine_tls};

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::feed::{Actors, MAILBOX, Mail};
use self::hub::{Hub, Log};
use self::terms::Terms;
use self::warm::{Head, Known, Warm};
use crate::auth::AuthError;
use crate::clock;
use crate::config;
use crate::kafka::{Clients, Owner, SagaLog, SagaLogError, Topics};
use crate::logic::backoff::Backoff;
use crate::logic::health::Health;
use crate::logic::push::epoch::epoch;
use crate::logic::push::kick::Kick;
use crate::logic::push::partition::{Keep, Partition};
use crate::logic::push::session::{Close, Settings};
use crate::logic::saga::Definitions;
use crate::logic::status::PushStatus;
use crate::metrics::SagaMetrics;
use crate::tasks::{Attached, attached};

/// Why the client-facing half does not start.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// Nobody could be let in.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}, `[push] listen`: {source}; is another daemon running?")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// Nobody could be spoken to in private.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The daemon ends meanwhile.
    #[error("interrupted; the daemon is ending")]
    Interrupted,
}

/// The client-facing half, bound but not serving yet.
#[derive(Debug)]
pub struct Push {
    hub: Arc<Hub>,
    listener: TcpListener,
    warm: Option<Arc<Warm>>,
    clients: Clients,
    topics: Topics,
    health: Health,
    definitions: watch::Receiver<Arc<Definitions>>,
    sagas: SagaMetrics,
    status: watch::Sender<PushStatus>,
}

/// How often streams are looked at that take nothing.
const LET_GO: Duration = Duration::from_secs(5);
/// A listener hangs when it does not turn for so long.
const BUDGET: Duration = Duration::from_secs(60);

impl Push {
    /// Binds the address, and reads certificate and keys. Sagas that begin later have the definitions of that moment.
    pub fn bind(
        config: config::Push,
        clients: Clients,
        topics: Topics,
        health: Health,
        definitions: watch::Receiver<Arc<Definitions>>,
        draining: CancellationToken,
    ) -> Result<(Self, watch::Receiver<PushStatus>), PushError> {
        let address = config.listen;
        let warm = config.state_directory.as_deref().and_then(Warm::open);
        let terms = Terms::read(config)?;
        let listen = |source| PushError::Listen { address, source };
        let listener = listener::bind(address).map_err(listen)?;
        let (status, watched) = watch::channel(PushStatus::default());
        let push = Self {
            hub: Arc::new(Hub::new(terms, draining)),
            listener,
            warm: warm.map(Arc::new),
            clients,
            topics,
            health,
            definitions,
            sagas: SagaMetrics::default(),
            status,
        };
        push.sagas.define(&push.definitions.borrow());
        Ok((push, watched))
    }

    /// For reloading it while it runs.
    pub fn control(&self) -> Control {
        let hub = Arc::clone(&self.hub);
        Control { hub }
    }

    /// Sends clients away that an operator means; gives how many connections they have.
    pub fn kicks(&self) -> impl Fn(&Kick) -> usize + Send + Sync + use<> {
        let hub = Arc::clone(&self.hub);
        move |kick| {
            let connections = hub.register.kick(kick);
            info!(connections, "an operator sent clients away");
            connections
        }
    }

    /// Serves until the daemon ends and every client has been sent away.
    pub async fn run(self) {
        let Self {
            hub,
            listener,
            warm,
            clients,
            topics,
            health,
            definitions,
            sagas,
            status,
        } = self;
        let beat = health.watch("push listener", BUDGET, Instant::now());
        let reader = Reader {
            hub: Arc::clone(&hub),
            warm: warm.clone(),
            clients,
            topics,
            health,
            definitions,
            sagas,
            status,
        };
        let router = http::router(Arc::clone(&hub));
        let serving = async {
            listener::serve(listener, Arc::clone(&hub), router, beat).await;
            if let (Some(warm), Some(log)) = (warm, hub.log()) {
                warm.save_last(&log).await;
            }
        };
        tokio::select! {
            () = serving => {}
            never = terms::keep(&hub) => match never {},
            never = let_go(&hub) => match never {},
            // Goes on while clients are sent away, so that they see changes to the end.
            never = reader.run() => match never {},
        }
    }
}

/// Lets streams go that take nothing, so that they cost nothing.
async fn let_go(hub: &Hub) -> Infallible {
    loop {
        tokio::time::sleep(LET_GO).await;
        for session in hub.register.give_up() {
            hub.metrics.closed(Close::Slow.code());
            if let Some(log) = hub.log() {
                log.send_all(|| Mail::Left(session)).await;
            }
        }
    }
}

/// Reads the log for everybody.
struct Reader {
    hub: Arc<Hub>,
    warm: Option<Arc<Warm>>,
    clients: Clients,
    topics: Topics,
    health: Health,
    definitions: watch::Receiver<Arc<Definitions>>,
    sagas: SagaMetrics,
    status: watch::Sender<PushStatus>,
}

impl Reader {
    /// Reads the log, and anew from scratch whenever it has become another one.
    async fn run(&self) -> Infallible {
        let mut backoff = Backoff::default();
        let mut before = self.warm.as_deref();
        loop {
            let began = Instant::now();
            let Err(error) = self.read(before).await else {
                continue;
            };
            if matches!(error, SagaLogError::Unknown { .. }) {
                warn!(%error, "sagas from before are of no use: the log is read instead");
                before = None;
                continue;
            }
            self.status.send_modify(|status| {
                status.is_ready = false;
                status.last_error = Some(error.to_string());
            });
            // What went well for long has been mended.
            if began.elapsed() > Duration::from_secs(60) {
                backoff = Backoff::default();
            }
            let pause = backoff.pause(fraction());
            warn!(%error, retry_in_ms = pause.as_millis(), "sagas cannot be read");
            tokio::time::sleep(pause).await;
        }
    }

    /// Reads the log, beginning with what is known from before if there is anything.
    async fn read(&self, before: Option<&Warm>) -> Result<(), SagaLogError> {
        let terms = self.hub.terms();
        let config = &terms.config;
        let log = SagaLog::open(&self.clients, &self.topics).await?;
        let epoch = epoch(
            &log.cluster_id,
            &self.clients.saga_topic(),
            log.partitions,
            config.epoch,
        );
        let keep = Keep {
            history: config.history,
            finished: config.keep_finished,
        };
        let head = Head::new(&epoch, log.partitions, keep);
        let known = match before {
            Some(warm) => warm.load(head.clone()).await,
            None => None,
        };
        let known = known.unwrap_or_default();
        let (caught_up, mut caught) = mpsc::channel(log.partitions.max(1));
        let actors = Actors {
            epoch: epoch.as_str().into(),
            keep,
            definitions: self.definitions.clone(),
            metrics: self.hub.metrics.clone(),
            sagas: self.sagas.clone(),
            health: self.health.clone(),
            caught_up,
        };
        let (owners, _running) = start(&actors, log.partitions, known);
        let mailboxes = owners.iter().map(|owner| owner.sink.clone()).collect();
        // The actors have theirs.
        drop(actors);
        let ended = CancellationToken::new();
        let _ended = Ended {
            hub: Arc::clone(&self.hub),
            token: ended.clone(),
        };
        let history_ms = i64::try_from(config.history.as_millis()).unwrap_or(i64::MAX);
        let since_ms = clock::now().as_ms().saturating_sub(history_ms);
        let never = CancellationToken::new();
        let reading = log.read(since_ms, owners, Some(self.health.clone()), &never);
        let serving = async {
            for _ in 0..log.partitions {
                caught.recv().await;
            }
            let mut terms = self.hub.follow_terms();
            let settings = |terms: &Terms| settings(&terms.config, &epoch, log.partitions);
            let begun = settings(&terms.borrow_and_update());
            let served = Arc::new(Log::new(
                epoch.clone(),
                begun,
                head,
                mailboxes,
                ended,
                log.clone(),
            ));
            self.hub.replace_log(Some(Arc::clone(&served)));
            self.status.send_modify(|status| {
                status.is_ready = true;
                status.last_error = None;
            });
            info!(
                epoch,
                partitions = log.partitions,
                "sagas are read up to now: clients are served"
            );
            let kept = async {
                match &self.warm {
                    Some(warm) => warm.keep(&served).await,
                    None => std::future::pending().await,
                }
            };
            let renewed = async {
                loop {
                    hub::changed(&mut terms).await;
                    served.replace_settings(settings(&terms.borrow_and_update()));
                }
            };
            tokio::select! {
                () = kept => {}
                () = renewed => {}
            }
        };
        tokio::select! {
            ended = reading => ended,
            () = serving => Ok(()),
        }
    }
}

/// What sessions begin with.
fn settings(config: &config::Push, epoch: &str, partitions: usize) -> Settings {
    let limits = &config.limits;
    Settings {
        epoch: epoch.to_owned(),
        partitions,
        heartbeat: config.heartbeat,
        pong: limits.pong,
        auth: limits.auth,
        subscriptions: usize::try_from(limits.subscriptions).unwrap_or(usize::MAX),
        frames_per_second: u32::try_from(limits.frames_per_second).unwrap_or(u32::MAX),
    }
}

fn start(
    actors: &Actors,
    partitions: usize,
    known: Known,
) -> (Vec<Owner<Mail>>, Vec<Attached<()>>) {
    let known = known.into_iter().map(Some);
    let known = known.chain(std::iter::repeat_with(|| None));
    let start = |(number, known): (usize, Option<Partition<_>>)| {
        let (sink, mail) = mpsc::channel(MAILBOX);
        let number = i32::try_from(number).unwrap_or(i32::MAX);
        let last = known.as_ref().and_then(|known| known.base().last);
        let running = attached(feed::run(number, known, actors.clone(), mail));
        (Owner { sink, last }, running)
    };
    (0..partitions).zip(known).map(start).unzip()
}

/// However reading ends, its log is nobody's any more.
struct Ended {
    hub: Arc<Hub>,
    token: CancellationToken,
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.hub.replace_log(None);
        self.token.cancel();
    }
}

/// A number from 0 to 1 that differs between daemons.
fn fraction() -> f64 {
    f64::from(std::process::id() % 1000) / 1000.0
}
