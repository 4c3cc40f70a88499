//! Whether the loops of a daemon still turn. Each says so now and then; one that is silent for longer than it may be
//! is stuck. Says nothing about whether databases and Kafka answer: a loop that waits for them turns, too.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The loops of one process.
#[derive(Debug, Clone, Default)]
pub struct Health {
    loops: Arc<Mutex<Loops>>,
}

#[derive(Debug, Default)]
struct Loops {
    next: u64,
    watched: BTreeMap<u64, Watched>,
}

#[derive(Debug)]
struct Watched {
    name: String,
    budget: Duration,
    ticked: Instant,
}

/// A loop that has been silent for too long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stuck {
    /// Its name.
    pub name: String,
    /// How long it has been silent.
    pub silent: Duration,
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} has not turned for {} s",
            self.name,
            self.silent.as_secs()
        )
    }
}

/// By this a loop says that it turns. Dropped, the loop is no longer watched.
#[derive(Debug)]
pub struct Beat {
    health: Health,
    id: u64,
}

impl Health {
    /// Watches a loop from now on; between two ticks it may take `budget`.
    pub fn watch(&self, name: impl Into<String>, budget: Duration, now: Instant) -> Beat {
        let mut loops = self.loops();
        let id = loops.next;
        loops.next += 1;
        let watched = Watched {
            name: name.into(),
            budget,
            ticked: now,
        };
        loops.watched.insert(id, watched);
        Beat {
            health: self.clone(),
            id,
        }
    }

    /// The loops that do not turn, in the order in which they began.
    pub fn stuck(&self, now: Instant) -> Vec<Stuck> {
        let loops = self.loops();
        let stuck = loops.watched.values().filter_map(|watched| {
            let silent = now.saturating_duration_since(watched.ticked);
            (silent > watched.budget).then(|| Stuck {
                name: watched.name.clone(),
                silent,
            })
        });
        stuck.collect()
    }

    fn loops(&self) -> MutexGuard<'_, Loops> {
        self.loops.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Beat {
    /// The loop turns.
    pub fn tick(&self, now: Instant) {
        if let Some(watched) = self.health.loops().watched.get_mut(&self.id) {
            watched.ticked = now;
        }
    }

    /// How long it has not turned.
    pub fn silent(&self, now: Instant) -> Duration {
        let loops = self.health.loops();
        let watched = loops.watched.get(&self.id);
        watched.map_or(Duration::ZERO, |watched| {
            now.saturating_duration_since(watched.ticked)
        })
    }
}

impl Drop for Beat {
    fn drop(&mut self) {
        self.health.loops().watched.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Duration = Duration::from_secs(60);
    const MOMENT: Duration = Duration::from_millis(1);

    #[test]
    fn a_loop_is_stuck_once_it_is_silent_for_longer_than_its_budget() {
        let start = Instant::now();
        let health = Health::default();
        let beat = health.watch("source orders", BUDGET, start);
        assert_eq!(health.stuck(start + BUDGET), []);
        let stuck = health.stuck(start + BUDGET + MOMENT);
        assert_eq!(stuck.len(), 1);
        assert_eq!(
            stuck[0].to_string(),
            "source orders has not turned for 60 s"
        );
        beat.tick(start + BUDGET);
        assert_eq!(health.stuck(start + BUDGET + BUDGET), []);
    }

    #[test]
    fn only_the_silent_loop_is_named_even_if_another_has_its_name() {
        let start = Instant::now();
        let health = Health::default();
        let turning = health.watch("a", BUDGET, start);
        let _silent = health.watch("a", BUDGET, start);
        turning.tick(start + BUDGET);
        assert_eq!(health.stuck(start + BUDGET + MOMENT).len(), 1);
    }

    #[test]
    fn a_loop_that_ended_is_not_stuck() {
        let start = Instant::now();
        let health = Health::default();
        drop(health.watch("a", BUDGET, start));
        assert_eq!(health.stuck(start + BUDGET + BUDGET), []);
    }

    #[test]
    fn a_tick_from_later_than_the_question_does_no_harm() {
        let start = Instant::now();
        let health = Health::default();
        let _beat = health.watch("a", Duration::ZERO, start + BUDGET);
        assert_eq!(health.stuck(start), []);
    }
}
