//! The only place that spawns: every task has a name and somebody who notices when it ends.
//!
//! Never decides what a task does; it only says *stop* and hears who ended, and how.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::error;

/// The long-lived tasks of the process, and the two words that are said to all of them.
///
/// *Stop* asks a task to end between two units of work. *Failed* says that a task ended before it
/// was asked to, so that a dead relay never hides in a healthy-looking daemon.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    failed: CancellationToken,
    running: Arc<Mutex<Vec<String>>>,
}

impl Tasks {
    /// Runs `future` until it ends, which it should do only once [`Tasks::stopping`] says so.
    pub fn spawn<F>(&self, name: impl Into<String>, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.spawn_until(self.stop.clone(), name.into(), future);
    }

    /// Runs a task that may be asked to end before the others are.
    pub fn spawn_alone<F>(
        &self,
        name: impl Into<String>,
        task: impl FnOnce(CancellationToken) -> F,
    ) -> Alone
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let alone = Alone {
            stop: self.stop.child_token(),
            ended: CancellationToken::new(),
        };
        let ended = alone.ended.clone().drop_guard();
        let future = task(alone.stop.clone());
        self.spawn_until(alone.stop.clone(), name.into(), async move {
            let _ended = ended;
            future.await;
        });
        alone
    }

    fn spawn_until<F>(&self, stop: CancellationToken, name: String, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let tasks = self.clone();
        tasks.names().push(name.clone());
        self.tracker.spawn(async move {
            match attached(future).await {
                Ok(()) if stop.is_cancelled() => {}
                Ok(()) => {
                    error!(task = %name, "a task ended without being asked to");
                    tasks.failed.cancel();
                }
                Err(error) => {
                    error!(task = %name, %error, "a task panicked");
                    tasks.failed.cancel();
                }
            }
            tasks.names().retain(|running| *running != name);
        });
    }

    /// Is cancelled when the process wants to end.
    pub fn stopping(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Is cancelled when a task ended that should have lasted.
    pub fn failed(&self) -> CancellationToken {
        self.failed.clone()
    }

    /// Asks every task to end and waits for at most `grace`; returns the names of those that did not.
    pub async fn stop(&self, grace: Duration) -> Vec<String> {
        self.stop.cancel();
        self.tracker.close();
        match tokio::time::timeout(grace, self.tracker.wait()).await {
            Ok(()) => Vec::new(),
            Err(_) => self.names().clone(),
        }
    }

    fn names(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A task that lasts until it is asked to end, or all are.
#[derive(Debug)]
pub struct Alone {
    stop: CancellationToken,
    ended: CancellationToken,
}

impl Alone {
    /// Asks it to end.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until it has ended.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }
}

/// Tasks that come and go by the thousand, such as connections; one that panics takes no other along.
#[derive(Debug, Clone, Default)]
pub struct Crowd(TaskTracker);

impl Crowd {
    /// Runs `future` until it ends by itself.
    pub fn spawn<F>(&self, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.0.spawn(future);
    }

    /// Waits until the last one has ended.
    pub async fn gone(&self) {
        self.0.close();
        self.0.wait().await;
    }
}

/// A helper task that lives no longer than its handle, such as the driver of a connection.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that spawns"
)]
pub fn attached<F>(future: F) -> Attached<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    Attached(tokio::task::spawn(future))
}

/// Awaits an attached task; dropping it aborts the task.
#[derive(Debug)]
pub struct Attached<T>(JoinHandle<T>);

impl<T> Attached<T> {
    /// Whether it has ended.
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

impl<T> Future for Attached<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context)
    }
}

impl<T> Drop for Attached<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A call that blocks, run where blocking is allowed. Dropping its handle does not end it.
pub fn attached_blocking<T, F>(call: F) -> Attached<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    Attached(tokio::task::spawn_blocking(call))
}
