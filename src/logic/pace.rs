//! When a source is read next. Never reads a clock: each question brings the time along.

use std::time::{Duration, Instant};

/// When to read next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// At once.
    Now,
    /// Not before this moment.
    At(Instant),
    /// Nothing has come for a while: sleep until the doorbell rings, but no longer than this.
    Sleep(Instant),
}

/// The rhythm of one source.
#[derive(Debug, Clone)]
pub struct Pace {
    linger: Duration,
    doorbell: bool,
    began: Instant,
    last_event: Instant,
    full: bool,
    committed: Instant,
    respite: Duration,
}

/// A broker that is asked for a transaction while it still ends the one before refuses, and the library tries again after 20 ms:
/// what takes so long to send was probably refused.
const REFUSED: Duration = Duration::from_millis(18);
/// The broker is given at least and at most so long after a commit, once it has refused.
const RESPITE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(10));
/// As long as it does not refuse, it is given a little less each time.
const LESS: u32 = 64;

/// Idle for so long, a source is read less and less often; at last the doorbell takes over.
const STEPS: [(Duration, Duration); 3] = [
    (Duration::from_millis(50), Duration::from_millis(5)),
    (Duration::from_millis(250), Duration::from_millis(10)),
    (Duration::from_secs(1), Duration::from_millis(20)),
];
/// Without a doorbell an idle source is read this often.
const UNRUNG: Duration = Duration::from_millis(50);
/// With one, this often all the same.
const SAFETY: Duration = Duration::from_secs(1);

impl Pace {
    /// A source that is read at once; `doorbell` says whether its database can ring.
    pub fn new(linger: Duration, doorbell: bool, now: Instant) -> Self {
        Self {
            linger,
            doorbell,
            began: now,
            last_event: now,
            full: true,
            committed: now,
            respite: Duration::ZERO,
        }
    }

    /// Notes a read that began at `now`; `full` if it ended at a limit instead of at the window's end.
    pub fn read(&mut self, now: Instant, events: usize, full: bool) {
        self.full = full;
        self.began = now;
        if events > 0 {
            self.last_event = now;
        }
    }

    /// Notes a commit at `now`, of a transaction whose records took so long to be acknowledged.
    pub fn committed(&mut self, now: Instant, sent_in: Duration) {
        self.committed = now;
        self.respite = if sent_in < REFUSED {
            self.respite - self.respite / LESS
        } else {
            (self.respite * 2).clamp(RESPITE.0, RESPITE.1)
        };
    }

    /// Whether more is there than was read.
    pub fn is_behind(&self) -> bool {
        self.full
    }

    /// When to read next.
    pub fn next(&self, now: Instant) -> Next {
        if self.full {
            return Next::Now;
        }
        let idle = now.saturating_duration_since(self.last_event);
        let rested = self.committed + self.respite;
        let due = match STEPS.iter().find(|(until, _)| idle < *until) {
            Some(_) if self.last_event == self.began => self.began + self.linger,
            Some((_, every)) => self.began + self.linger.max(*every),
            None if self.doorbell => return Next::Sleep(now + SAFETY),
            None => self.began + self.linger.max(UNRUNG),
        };
        let due = due.max(rested);
        if due <= now { Next::Now } else { Next::At(due) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINGER: Duration = Duration::from_millis(2);

    fn after(idle_ms: u64, doorbell: bool) -> (Instant, Next) {
        let start = Instant::now();
        let mut pace = Pace::new(LINGER, doorbell, start);
        let now = start + Duration::from_millis(idle_ms);
        pace.read(now, 0, false);
        (now, pace.next(now))
    }

    #[test]
    fn a_backlog_is_read_without_a_pause() {
        let start = Instant::now();
        let mut pace = Pace::new(LINGER, true, start);
        assert_eq!(
            pace.next(start),
            Next::Now,
            "who knows what has come meanwhile"
        );
        pace.read(start, 1000, true);
        assert_eq!(pace.next(start), Next::Now);
    }

    #[test]
    fn flowing_events_are_read_every_linger() {
        let start = Instant::now();
        let mut pace = Pace::new(LINGER, true, start);
        pace.read(start, 3, false);
        assert_eq!(pace.next(start), Next::At(start + LINGER));
        assert_eq!(pace.next(start + LINGER), Next::Now);
    }

    #[test]
    fn a_broker_that_refuses_is_given_time_and_a_little_less_each_time_that_it_does_not() {
        let start = Instant::now();
        let mut pace = Pace::new(LINGER, true, start);
        let commits = |pace: &mut Pace, sent_in| {
            pace.read(start, 3, false);
            pace.committed(start + LINGER, sent_in);
            match pace.next(start + LINGER) {
                Next::At(due) => due - (start + LINGER),
                Next::Now | Next::Sleep(_) => Duration::ZERO,
            }
        };
        assert_eq!(commits(&mut pace, REFUSED / 2), Duration::ZERO);
        assert_eq!(commits(&mut pace, REFUSED), RESPITE.0);
        assert_eq!(commits(&mut pace, REFUSED), RESPITE.0 * 2);
        for _ in 0..5 {
            commits(&mut pace, REFUSED);
        }
        assert_eq!(commits(&mut pace, REFUSED), RESPITE.1);
        let less = commits(&mut pace, REFUSED / 2);
        assert!(less < RESPITE.1 && less > RESPITE.1 / 2, "{less:?}");
        // Who is behind is kept back by nothing.
        pace.read(start, 1000, true);
        assert_eq!(pace.next(start + LINGER), Next::Now);
        assert!(pace.is_behind());
    }

    #[test]
    fn an_idle_source_is_read_less_and_less_and_then_sleeps() {
        for (idle, every) in [(10, 5), (100, 10), (500, 20)] {
            let (now, next) = after(idle, true);
            assert_eq!(
                next,
                Next::At(now + Duration::from_millis(every)),
                "idle {idle} ms"
            );
        }
        let (now, next) = after(1500, true);
        assert_eq!(next, Next::Sleep(now + SAFETY));
        let (now, next) = after(1500, false);
        assert_eq!(next, Next::At(now + UNRUNG), "nothing would wake it");
    }
}
