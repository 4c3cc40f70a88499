//! Wires the parts of a daemon: start order, drain order. The only file that knows every part.

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};

use crate::config::Config;
use crate::host;
use crate::kafka::{Clients, KafkaError, Topics};
use crate::logic::lease::Holder;
use crate::relay::{Relay, Shared};
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

/// What is on its way has so long to arrive.
const GRACE: Duration = Duration::from_secs(20);

/// Runs until SIGTERM or SIGINT, and drains; a second signal leaves at once.
pub async fn run(config: Config, only: Option<Half>) -> Result<(), AppError> {
    let host = |what: &str| {
        let what = what.to_owned();
        move |source| AppError::Host { what, source }
    };
    let mut terminate = signal(SignalKind::terminate()).map_err(host("listening to SIGTERM"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(host("listening to SIGINT"))?;
    let tasks = Tasks::default();
    if only != Some(Half::Push) {
        start_relay(&config, &tasks)?;
    }
    let failed = tasks.failed();
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = failed.cancelled() => {}
    }
    info!("draining");
    tokio::select! {
        left = tasks.stop(GRACE) => if !left.is_empty() {
            warn!(?left, "not everything ended in time");
        },
        _ = terminate.recv() => warn!("asked twice: leaving at once"),
        _ = interrupt.recv() => warn!("asked twice: leaving at once"),
    }
    if failed.is_cancelled() {
        error!("ended by itself");
        return Err(AppError::Failed);
    }
    info!("drained");
    Ok(())
}

fn start_relay(config: &Config, tasks: &Tasks) -> Result<(), AppError> {
    let process = host::this_process()
        .map_err(|source| AppError::Host { what: "reading /proc".to_owned(), source })?;
    let instance = config.relay.instance.clone();
    let clients = Clients::new(config.kafka.clone(), &instance);
    let shared = Shared {
        topics: Topics::new(&clients)?,
        clients,
        me: Holder { instance, process },
        lease: config.relay.lease,
        leads: Arc::default(),
    };
    for source in &config.sources {
        let name = source.name.clone();
        let (relay, _status) = Relay::new(shared.clone(), source.clone());
        tasks.spawn(format!("source {name}"), relay.run(tasks.stopping()));
    }
    Ok(())
}
