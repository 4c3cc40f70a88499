//! The operators' side: metrics and health over HTTP, commands over a UNIX socket. Never touches a database or Kafka.

mod control;
mod http;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use control::{
    ControlError, ControlSocket, Done, Fault, Kicked, Order, Refusal, Report, Request, ask,
};
pub use http::HttpListener;

use crate::logic::health::{Health, Stuck};
use crate::logic::push::kick::Kick;
use crate::logic::readiness::Readiness;
use crate::logic::status::{Phase, PushStatus, SourceStatus};
use crate::metrics::Metrics;

/// A listener that does not turn for so long hangs.
const BUDGET: Duration = Duration::from_secs(60);
/// One that nobody comes to still shows that it lives.
const BEAT: Duration = Duration::from_secs(5);

/// The sources of a daemon, each as it is at the moment; a reload replaces the list.
pub type Sources = watch::Receiver<Vec<watch::Receiver<SourceStatus>>>;

/// The client-facing half, as operators see and command it.
#[derive(Clone)]
pub struct Clients {
    /// How it is doing.
    pub status: watch::Receiver<PushStatus>,
    /// Ends the connections that are meant; gives how many they are.
    pub kick: Arc<dyn Fn(&Kick) -> usize + Send + Sync>,
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clients({:?})", self.status)
    }
}

/// What the operators' side can see of the daemon.
#[derive(Debug, Clone)]
pub struct View {
    instance: String,
    sources: Sources,
    clients: Option<Clients>,
    draining: CancellationToken,
    metrics: Metrics,
    health: Health,
    readiness: Arc<Mutex<Readiness>>,
}

impl View {
    /// Of a daemon with these sources, and clients if it serves any; `draining` is cancelled when it begins to end.
    pub fn new(
        instance: &str,
        sources: Sources,
        clients: Option<Clients>,
        draining: CancellationToken,
        metrics: Metrics,
        health: Health,
    ) -> Self {
        Self {
            instance: instance.to_owned(),
            sources,
            clients,
            draining,
            metrics,
            health,
            readiness: Arc::default(),
        }
    }

    fn sources(&self) -> Vec<SourceStatus> {
        let sources = self.sources.borrow();
        sources
            .iter()
            .map(|source| source.borrow().clone())
            .collect()
    }

    fn push(&self) -> Option<PushStatus> {
        let clients = self.clients.as_ref();
        clients.map(|clients| clients.status.borrow().clone())
    }

    fn report(&self) -> Report {
        Report {
            instance: self.instance.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            draining: self.draining.is_cancelled(),
            sources: self.sources(),
        }
    }

    /// The loops of the daemon that do not turn.
    pub fn stuck(&self) -> Vec<Stuck> {
        self.health.stuck(Instant::now())
    }

    /// What keeps the daemon from being ready.
    pub fn away(&self) -> Vec<String> {
        let sources = self.sources();
        let mut readiness = self
            .readiness
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let push = self.push();
        let mut away = readiness.away(sources.iter(), push.as_ref());
        if self.draining.is_cancelled() {
            away.push("draining".to_owned());
        }
        away
    }

    /// How it goes, in one line.
    pub fn summary(&self) -> String {
        let sources = self.sources();
        let leads = sources
            .iter()
            .filter(|source| source.phase == Phase::Leading)
            .count();
        let standby = sources
            .iter()
            .filter(|source| source.phase == Phase::Standby)
            .count();
        let away = sources.len() - leads - standby;
        let paused = sources.iter().filter(|source| source.paused).count();
        let paused = match paused {
            0 => String::new(),
            paused => format!(", {paused} paused"),
        };
        let backlog: u64 = sources.iter().map(|source| source.backlog_events).sum();
        let draining = if self.draining.is_cancelled() {
            "draining: "
        } else {
            ""
        };
        let clients = match self.push().map(|push| push.is_ready) {
            None => "",
            Some(true) => "; serves clients",
            Some(false) => "; does not serve clients yet",
        };
        format!(
            "{draining}leads {leads}, stands by for {standby}, {away} away{paused}; backlog {backlog} events{clients}"
        )
    }
}
