//! Keys that an issuer publishes: has them, and renews them. Never believes a key that the last set no longer had, and never asks
//! the issuer more often than a few times a minute, whatever clients show.

use std::convert::Infallible;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

use super::fetch::{self, FetchError};
use super::jwks;
use super::key::Key;
use crate::clock;
use crate::config::push::Algorithm;
use crate::logic::backoff::Backoff;
use crate::metrics::KeyMetrics;

/// When an issuer is asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Without another reason; a tenth more or less, so that daemons do not ask in step.
    pub(super) usual: Duration,
    /// After a failure, while older keys go on.
    pub(super) again: Duration,
    /// Between two times because of tokens whose key is not known.
    pub(super) apart: Duration,
    /// For one answer.
    pub(super) patience: Duration,
    /// A token whose key is not known waits no longer.
    pub(super) wait: Duration,
}

impl Pace {
    pub(super) const USUAL: Self = Self {
        usual: Duration::from_secs(3600),
        again: Duration::from_secs(30),
        apart: Duration::from_secs(30),
        patience: Duration::from_secs(10),
        // Less than a client has for its token, or for its answer to a ping.
        wait: Duration::from_secs(3),
    };
}

/// Keys that are fetched.
pub(super) struct Fetched {
    url: String,
    algorithms: Vec<Algorithm>,
    pace: Pace,
    state: watch::Sender<State>,
}

#[derive(Default)]
struct State {
    /// Those of the last set that came; none before the first, or if none would do.
    keys: Option<Arc<[Key]>>,
    fetching: bool,
    /// Fetches that have ended, and whether the last one was good.
    ended: u64,
    good: bool,
    /// A token's key is not known: fetch as soon as may be.
    wanted: bool,
    /// When that was last the reason.
    wanted_at: Option<Instant>,
}

impl Fetched {
    pub(super) fn new(url: &str, algorithms: &[Algorithm], pace: Pace) -> Self {
        Self {
            url: url.to_owned(),
            algorithms: algorithms.to_vec(),
            pace,
            state: watch::Sender::default(),
        }
    }

    /// The keys to check with, if there are any.
    pub(super) fn keys(&self) -> Option<Arc<[Key]>> {
        self.state.borrow().keys.clone()
    }

    /// Fetches the keys now and then, and when [`Fetched::anew`] wants them; one fetch at a time.
    pub(super) async fn keep(&self, metrics: &KeyMetrics) -> Infallible {
        let mut backoff = Backoff::default();
        let mut told = String::new();
        let mut because_wanted = false;
        loop {
            self.state.send_modify(|state| {
                state.fetching = true;
                state.wanted = false;
                if because_wanted {
                    state.wanted_at = Some(Instant::now());
                }
            });
            let fetched = self.fetch().await;
            metrics.fetched(fetched.is_ok(), clock::now().as_seconds());
            let pause = match fetched {
                Ok(0) => {
                    warn!(url = %self.url, "push.auth.keys: the issuer has no key that fits push.auth.algorithms: no token can be believed");
                    self.pace.again
                }
                Ok(keys) => {
                    info!(keys, "the issuer's keys are there");
                    backoff.reset();
                    told.clear();
                    self.pace.usual.mul_f64(0.9 + chance() / 5.0)
                }
                Err(error) => {
                    let error = error.to_string();
                    if error != told {
                        warn!(url = %self.url, "push.auth.keys: {error}");
                        told = error;
                    }
                    match self.keys() {
                        Some(_) => self.pace.again,
                        None => backoff.pause(chance()),
                    }
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => because_wanted = false,
                () = self.wanted() => because_wanted = true,
            }
        }
    }

    /// Fetches the keys once; how many there are.
    pub(super) async fn fetch(&self) -> Result<usize, FetchError> {
        let fetched = fetch::get(&self.url, self.pace.patience)
            .await
            .and_then(|body| Ok(jwks::read(&body, &self.algorithms)?));
        let (count, keys) = match fetched {
            Ok(keys) => (Ok(keys.len()), Some(keys)),
            Err(error) => (Err(error), None),
        };
        self.state.send_modify(|state| {
            state.fetching = false;
            state.ended += 1;
            state.good = keys.is_some();
            // When a fetch fails, what was there before goes on.
            if let Some(keys) = keys {
                state.keys = (!keys.is_empty()).then(|| keys.into());
            }
        });
        count
    }

    /// Returns when the keys are wanted and may be fetched.
    async fn wanted(&self) {
        let mut state = self.state.subscribe();
        // The sender is ours.
        let at = state.wait_for(|state| state.wanted).await;
        let at = at.ok().and_then(|state| state.wanted_at);
        if let Some(at) = at {
            tokio::time::sleep_until(at + self.pace.apart).await;
        }
    }

    /// Waits for the keys as they are now at the issuer's. False if they could not be had, or not yet: then they will be
    /// fetched a little later.
    pub(super) async fn anew(&self) -> bool {
        let mut state = self.state.subscribe();
        let (mut before, mut soon) = (0, false);
        self.state.send_if_modified(|state| {
            before = state.ended;
            let since = state.wanted_at.map(|at| at.elapsed());
            soon = state.fetching || since.is_none_or(|since| since >= self.pace.apart);
            let changes = !state.fetching && !state.wanted;
            state.wanted |= changes;
            changes
        });
        if !soon {
            return false;
        }
        let ended = state.wait_for(|state| state.ended > before);
        let ended = tokio::time::timeout(self.pace.wait, ended).await;
        ended.is_ok_and(|ended| ended.is_ok_and(|state| state.good))
    }
}

/// A number from 0 to 1 that differs each time.
fn chance() -> f64 {
    let random = RandomState::new().build_hasher().finish();
    #[expect(clippy::cast_precision_loss, reason = "any fraction will do")]
    let fraction = random as f64 / u64::MAX as f64;
    fraction
}
