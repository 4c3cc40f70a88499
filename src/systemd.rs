//! What systemd is told: ready, how it goes, stopping, and alive. Says nothing when nobody listens.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// The daemon can be used; what waits for it may start.
pub fn ready(status: &str) {
    notify(&[
        NotifyState::Ready,
        NotifyState::Status(one_line(status).as_str()),
    ]);
}

/// How it goes, in one line for `systemctl status`.
pub fn status(status: &str) {
    notify(&[NotifyState::Status(one_line(status).as_str())]);
}

/// The daemon ends in order.
pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// Tells the watchdog that the daemon is alive, twice in its time, while `alive` says so.
pub async fn feed_watchdog(alive: impl Fn() -> bool, stop: CancellationToken) {
    let Some(timeout) = sd_notify::watchdog_enabled() else {
        stop.cancelled().await;
        return;
    };
    let mut ticks = tokio::time::interval((timeout / 2).max(Duration::from_millis(10)));
    loop {
        tokio::select! {
            _ = ticks.tick() => if alive() { notify(&[NotifyState::Watchdog]) },
            () = stop.cancelled() => return,
        }
    }
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!(%error, "systemd cannot be told");
    }
}

/// A newline would begin another assignment of the protocol.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}
