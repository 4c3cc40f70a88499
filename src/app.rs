//! Wires the parts of a daemon: start order, drain order. The only part that knows every other.

mod orders;
mod sources;

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Mutex, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use self::orders::Orders;
use self::sources::Sources;
use crate::admin::{self, ControlSocket, HttpListener, View};
use crate::clock;
use crate::config::Config;
use crate::host;
use crate::kafka::{Clients, KafkaError, Topics};
use crate::logic::health::Health;
use crate::logic::lease::Holder;
use crate::logic::saga::Definitions;
use crate::metrics::{Metrics, MetricsError};
use crate::push::{self, Push, PushError};
use crate::relay::Shared;
use crate::systemd;
use crate::tasks::Tasks;

/// Why a daemon did not start, or ended before it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// Something it needs of this host.
    #[error("{what}: {source}")]
    Host {
        /// What was being done.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// An address that cannot be listened on.
    #[error("cannot listen on {address}: {source}; is another daemon running?")]
    Listen {
        /// The address.
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A setting that shows only now.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// Clients cannot be served as configured.
    #[error(transparent)]
    Push(#[from] PushError),
    /// The metrics cannot be collected.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// A part ended by itself.
    #[error("a part of the daemon ended by itself; see the log above")]
    Failed,
}

/// Which half runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    /// From databases to Kafka.
    Relay,
    /// From Kafka to clients.
    Push,
}

/// What is on its way has so long to arrive; clients have their drain time before it.
const GRACE: Duration = Duration::from_secs(20);
/// And then who is asking has so long to hear the answer.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// More orders of operators than this wait.
const ORDERS: usize = 16;

/// A configuration with what is to run of it.
fn halved(mut config: Config, only: Option<Half>) -> Config {
    match only {
        Some(Half::Relay) => config.push = None,
        Some(Half::Push) => config.sources.clear(),
        None => {}
    }
    config
}

/// Runs until SIGTERM or SIGINT, and drains; a second signal leaves at once.
pub async fn run(
    config: Config,
    definitions: Definitions,
    only: Option<Half>,
) -> Result<(), AppError> {
    let host = |what: &str| {
        let what = what.to_owned();
        move |source| AppError::Host { what, source }
    };
    let mut terminate = signal(SignalKind::terminate()).map_err(host("listening to SIGTERM"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(host("listening to SIGINT"))?;
    let hangup = signal(SignalKind::hangup()).map_err(host("listening to SIGHUP"))?;
    let metrics = Metrics::install(clock::now().as_seconds())?;
    // What may be taken already is tried before any work begins.
    let address = config.admin.listen;
    let listen = |source| AppError::Listen {
        address: address.to_string(),
        source,
    };
    let http = HttpListener::bind(address).await.map_err(listen)?;
    let control = ControlSocket::bind(&config.admin.socket).await;
    let tasks = Tasks::default();
    let health = Health::default();
    let clients = Clients::new(config.kafka.clone(), &config.relay.instance);
    let topics = Topics::new(&clients)?;
    let config = halved(config, only);
    let (definitions, defined) = watch::channel(Arc::new(definitions));
    let push = start_push(&config, &clients, &topics, defined, &tasks, &health)?;
    let (push, clients_half) = push.unzip();
    let shared = shared(&config, clients, topics, health.clone())?;
    let sources = Sources::new(shared, tasks.clone(), metrics.clone());
    sources.start(&config.sources, &config.sources);
    let view = View::new(
        &config.relay.instance,
        sources.seen(),
        push,
        tasks.stopping(),
        metrics.clone(),
        health,
    );
    // The operators' side outlives the work, so that a drain can be watched.
    let operators = Tasks::default();
    let (order, ordered) = mpsc::channel(ORDERS);
    operators.spawn("http", http.serve(view.clone(), operators.stopping()));
    match control {
        Ok(control) => {
            let serve = control.serve(view.clone(), order, operators.stopping());
            operators.spawn("control", serve);
        }
        Err(error) => {
            warn!(%error, "no control socket: `outboxd status` and `outboxd ctl` will not work")
        }
    }
    operators.spawn("upkeep", upkeep(metrics.clone(), operators.stopping()));
    operators.spawn("systemd", tell_systemd(view, operators.stopping()));
    info!(%address, sources = config.sources.len(), "started");
    let orders = Orders {
        file: config.file.clone(),
        lease: config.relay.lease,
        config: Mutex::new(config),
        only,
        sources,
        push: clients_half.clone(),
        definitions,
        metrics,
        draining: tasks.stopping(),
    };
    let orders = orders.serve(ordered, hangup, operators.stopping());
    operators.spawn("orders", orders);
    let (failed, operators_failed) = (tasks.failed(), operators.failed());
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = failed.cancelled() => {}
        () = operators_failed.cancelled() => {}
    }
    info!("draining");
    let drain = clients_half.map(|half| half.drain()).unwrap_or_default();
    systemd::stopping();
    tokio::select! {
        left = tasks.stop(GRACE + drain) => if !left.is_empty() {
            warn!(?left, "not everything ended in time");
        },
        _ = terminate.recv() => warn!("asked twice: leaving at once"),
        _ = interrupt.recv() => warn!("asked twice: leaving at once"),
    }
    operators.stop(LAST_WORDS).await;
    if failed.is_cancelled() || operators_failed.is_cancelled() {
        error!("ended by itself");
        return Err(AppError::Failed);
    }
    info!("drained");
    Ok(())
}

/// Starts the client-facing half, if it is configured; gives what operators need of it, and how it is reloaded.
fn start_push(
    config: &Config,
    clients: &Clients,
    topics: &Topics,
    definitions: watch::Receiver<Arc<Definitions>>,
    tasks: &Tasks,
    health: &Health,
) -> Result<Option<(admin::Clients, push::Control)>, AppError> {
    let Some(push) = config.push.clone() else {
        return Ok(None);
    };
    let (clients, topics) = (clients.clone(), topics.clone());
    let health = health.clone();
    let (push, status) = Push::bind(push, clients, topics, health, definitions, tasks.stopping())?;
    let (kick, control) = (Arc::new(push.kicks()), push.control());
    tasks.spawn("push", push.run());
    Ok(Some((admin::Clients { status, kick }, control)))
}

/// What all sources share.
fn shared(
    config: &Config,
    clients: Clients,
    topics: Topics,
    health: Health,
) -> Result<Shared, AppError> {
    let process = host::this_process().map_err(|source| AppError::Host {
        what: "reading /proc".to_owned(),
        source,
    })?;
    Ok(Shared {
        topics,
        clients,
        me: Holder {
            instance: config.relay.instance.clone(),
            process,
        },
        lease: config.relay.lease,
        leads: Arc::default(),
        health,
    })
}

async fn upkeep(metrics: Metrics, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(Duration::from_secs(5));
    loop {
        tokio::select! {
            _ = ticks.tick() => metrics.upkeep(),
            () = stop.cancelled() => return,
        }
    }
}

/// Tells systemd once that the daemon works, and from then on how it goes and that it lives.
async fn tell_systemd(view: View, stop: CancellationToken) {
    systemd::ready(&view.summary());
    let report = async {
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        let mut told = String::new();
        loop {
            ticks.tick().await;
            let summary = view.summary();
            if summary != told {
                systemd::status(&summary);
                told = summary;
            }
        }
    };
    tokio::select! {
        () = report => {}
        () = systemd::feed_watchdog(|| view.stuck(), stop) => {}
    }
}
