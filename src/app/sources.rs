//! The sources that a daemon runs: starts and ends each by itself. Never touches one that is not named.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;
use tracing::warn;

use crate::admin;
use crate::config::Source;
use crate::logic::status::SourceStatus;
use crate::metrics::Metrics;
use crate::relay::{Handle, Relay, RelayError, Shared};
use crate::tasks::{Alone, Tasks};

pub(super) struct Sources {
    shared: Shared,
    tasks: Tasks,
    metrics: Metrics,
    running: Mutex<Vec<Running>>,
    seen: watch::Sender<Vec<watch::Receiver<SourceStatus>>>,
}

struct Running {
    name: String,
    handle: Arc<Handle>,
    task: Alone,
}

impl Sources {
    /// Without any source yet.
    pub(super) fn new(shared: Shared, tasks: Tasks, metrics: Metrics) -> Self {
        Self {
            shared,
            tasks,
            metrics,
            running: Mutex::default(),
            seen: watch::Sender::default(),
        }
    }

    /// All of them, as operators see them.
    pub(super) fn seen(&self) -> admin::Sources {
        self.seen.subscribe()
    }

    /// Starts some more; `order` is how all of them are shown.
    pub(super) fn start(&self, sources: &[Source], order: &[Source]) {
        let start = |source: &Source| {
            self.metrics.show_source(&source.name);
            let (relay, handle) = Relay::new(self.shared.clone(), source.clone());
            let name = format!("source {}", source.name);
            Running {
                name: source.name.clone(),
                handle: Arc::new(handle),
                task: self.tasks.spawn_alone(name, |stop| relay.run(stop)),
            }
        };
        let mut running = self.running();
        running.extend(sources.iter().map(start));
        running.sort_by_key(|one| order.iter().position(|source| source.name == one.name));
        let seen = running.iter().map(|one| one.handle.status()).collect();
        self.seen.send_replace(seen);
    }

    /// Ends some; each publishes what is on its way and hands its lease back, for at most `patience`.
    pub(super) async fn end(&self, names: &[&str], patience: Duration) {
        let (ending, staying) = std::mem::take(&mut *self.running())
            .into_iter()
            .partition::<Vec<_>, _>(|one| names.contains(&one.name.as_str()));
        *self.running() = staying;
        for one in &ending {
            one.task.stop();
        }
        let ended = join_all(ending.iter().map(|one| one.task.ended()));
        if tokio::time::timeout(patience, ended).await.is_err() {
            warn!("not every source ended in time; its lease ends by itself");
        }
        for one in &ending {
            self.metrics.hide_source(&one.name);
        }
    }

    /// Whether a source could be led, before anything is changed for it.
    pub(super) async fn visit(&self, source: &Source) -> Result<(), RelayError> {
        Relay::visit(&self.shared, source).await
    }

    /// How to command a source, if it runs.
    pub(super) fn handle(&self, name: &str) -> Option<Arc<Handle>> {
        let running = self.running();
        let found = running.iter().find(|one| one.name == name);
        found.map(|one| Arc::clone(&one.handle))
    }

    /// Their names, as they are shown.
    pub(super) fn names(&self) -> Vec<String> {
        self.running().iter().map(|one| one.name.clone()).collect()
    }

    fn running(&self) -> MutexGuard<'_, Vec<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
