//! A circuit breaker: after some failures in a row it lets nobody through for a while, then one. Never calls anybody, and never
//! asks for the time.

use std::time::{Duration, Instant};

/// Failures in a row that open it.
const FAILURES: u32 = 3;
/// How long it stays open.
const PAUSE: Duration = Duration::from_secs(2);

/// Whether calls may be made.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    failures: u32,
    /// Nobody before this; then one, whose success closes it.
    open_until: Option<Instant>,
}

impl Breaker {
    /// From when on a call may be made; `None`: at once.
    pub(super) fn closed_from(&self, now: Instant) -> Option<Instant> {
        self.open_until.filter(|until| now < *until)
    }

    /// A call was answered, whatever the answer.
    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// A call was not answered.
    pub(super) fn failed(&mut self, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        if self.failures >= FAILURES {
            self.open_until = Some(now + PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::{Breaker, FAILURES, PAUSE};

    #[test]
    fn it_opens_after_failures_in_a_row_and_lets_one_through_after_a_pause() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        for _ in 1..FAILURES {
            breaker.failed(now);
        }
        assert_eq!(breaker.closed_from(now), None);
        breaker.failed(now);
        assert_eq!(breaker.closed_from(now), Some(now + PAUSE));
        let later = now + PAUSE;
        assert_eq!(breaker.closed_from(later), None);
        // That one fails: it is open at once again.
        breaker.failed(later);
        assert_eq!(breaker.closed_from(later), Some(later + PAUSE));
        breaker.succeeded();
        assert_eq!(breaker.closed_from(later), None);
    }

    #[test]
    fn an_answer_makes_good_for_earlier_failures() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..10 {
            breaker.failed(now);
            breaker.succeeded();
        }
        assert_eq!(breaker.closed_from(now), None);
    }
}
