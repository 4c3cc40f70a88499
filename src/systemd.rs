//! What systemd is told: ready, reloading, how it goes, stopping, and alive. Says nothing when nobody listens.

use std::fmt::Display;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

/// The daemon can be used; what waits for it may start.
pub fn ready(status: &str) {
    notify(&[
        NotifyState::Ready,
        NotifyState::Status(one_line(status).as_str()),
    ]);
}

/// The configuration is being read again; [`reloaded`] ends it. The time tells systemd which of the two came first.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => warn!(%error, "systemd cannot be told"),
    }
}

/// It has been read, or refused: the daemon works in any case.
pub fn reloaded() {
    notify(&[NotifyState::Ready]);
}

/// How it goes, in one line for `systemctl status`.
pub fn status(status: &str) {
    notify(&[NotifyState::Status(one_line(status).as_str())]);
}

/// The daemon ends in order.
pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// Tells the watchdog that the daemon is alive, twice in its time, while `stuck` finds no loop that
/// does not turn: then systemd kills the process, and starts another that may take over.
pub async fn feed_watchdog<S: Display>(stuck: impl Fn() -> Vec<S>, stop: CancellationToken) {
    let Some(timeout) = sd_notify::watchdog_enabled() else {
        stop.cancelled().await;
        return;
    };
    let mut ticks = tokio::time::interval((timeout / 2).max(Duration::from_millis(10)));
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.cancelled() => return,
        }
        let stuck = stuck();
        if stuck.is_empty() {
            notify(&[NotifyState::Watchdog]);
        }
        for stuck in stuck {
            error!(%stuck, "systemd will restart the daemon");
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
