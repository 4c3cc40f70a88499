//! A customer who watches an order: one WebSocket, and another whenever outboxd is gone, each going on where the last one ended.
//! Never forgives a gap.

use std::{
    net::SocketAddr,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    runtime::{Builder, Runtime},
    task::AbortHandle,
    time::sleep,
};

use crate::support::socket::{Gap, Known, SagaSeen, Socket};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let mut threads = Builder::new_multi_thread();
    threads.worker_threads(1).enable_all().build().unwrap()
});

/// One customer, who watches until dropped.
pub(crate) struct Customer {
    seen: Arc<Mutex<Seen>>,
    task: AbortHandle,
}

#[derive(Default)]
struct Seen {
    known: Known,
    gap: Option<String>,
}

impl Customer {
    /// Begins to watch.
    pub(crate) fn watch(push: SocketAddr, token: String, saga_type: &str, saga_id: &str) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let saga = (saga_type.to_owned(), saga_id.to_owned());
        let of_task = Arc::clone(&seen);
        let task = RUNTIME.spawn(async move {
            loop {
                follow(push, &token, &saga, &of_task).await;
                // outboxd may be on its way back.
                sleep(Duration::from_millis(50)).await;
            }
        });
        Self {
            seen,
            task: task.abort_handle(),
        }
    }

    /// The saga as this customer knows it.
    pub(crate) fn saga(&self) -> Option<SagaSeen> {
        let seen = locked(&self.seen);
        assert_eq!(seen.gap, None);
        seen.known.sagas.values().next().cloned()
    }

    /// How a step is doing.
    pub(crate) fn step(&self, step: &str) -> Option<String> {
        self.saga()?.steps.get(step)?.as_str().map(str::to_owned)
    }

    /// Whether the saga is told to stand still.
    pub(crate) fn is_stuck(&self) -> bool {
        self.saga().is_some_and(|saga| saga.stuck_since.is_string())
    }

    /// How many changes and snapshots it was told.
    pub(crate) fn changes(&self) -> u64 {
        let known = &locked(&self.seen).known;
        known.changes + known.snapshots
    }
}

impl Drop for Customer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One WebSocket, to its end.
async fn follow(push: SocketAddr, token: &str, saga: &(String, String), seen: &Mutex<Seen>) {
    let Ok((mut socket, ready)) = Socket::authenticated(push, token).await else {
        return;
    };
    let subscribe = {
        let known = &mut locked(seen).known;
        known.ready(&ready);
        known.subscribe(2, &saga.0, &saga.1)
    };
    if socket.send(&subscribe).await.is_err() {
        return;
    }
    while let Ok(frame) = socket.news().await {
        let mut seen = locked(seen);
        if let Err(Gap(what)) = seen.known.take(&frame) {
            seen.gap = Some(what);
        }
        if frame.get("type").and_then(Value::as_str) == Some("error") {
            seen.gap = Some(frame.to_string());
        }
    }
}

fn locked(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
