//! Where tests end or stop the process in the middle of a hand-over, and which of its rules they may break.
//!
//! Never in what is shipped: without the feature `failpoints` its functions are empty and no variable is read. With it,
//! and only then, `run` heeds two variables that the contract does not know:
//! - `OUTBOXD_FAILPOINTS="before_commit=3,rotate=1:stop"`: SIGKILL for ourselves at the third pass of the one point, and
//!   SIGSTOP at the first of the other; `:slow` instead of `:stop` lets a pass take longer than a commit may;
//! - `OUTBOXD_SABOTAGE="no_read_back"`: does without that rule, so that a test can show that it is needed.

/// Declares an enum whose variants have names where there are failpoints.
macro_rules! named {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$doc])* $variant),+ }

        #[cfg(feature = "failpoints")]
        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Its name in the variable.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }
    };
}

named! {
    /// A step of the hand-over.
    Point {
        /// Rows are read.
        Read = "read",
        /// A record is given to the producer.
        Send = "send",
        /// All records that were sent so far are acknowledged.
        Acknowledge = "acknowledge",
        /// The saga records are given to the producer, the checkpoint is not.
        Sagas = "sagas",
        /// The commit is asked for next.
        BeforeCommit = "before_commit",
        /// The commit is acknowledged.
        AfterCommit = "after_commit",
        /// The position is written back next.
        BeforeSettle = "before_settle",
        /// The position is written back.
        AfterSettle = "after_settle",
        /// A published batch is noted in `outbox.ahead`; that is not committed.
        Ahead = "ahead",
        /// A slot of the ring is emptied; that is not committed.
        Rotate = "rotate",
        /// The lease is taken; that is not committed.
        LeaseTake = "lease_take",
        /// The lease is renewed.
        LeaseRenew = "lease_renew",
        /// The producer has fenced its predecessors.
        Init = "init",
        /// A producer that can be trusted no more gets a successor next, in the same session and with the same lease.
        Replace = "replace",
        /// A published batch was read back, and the database includes it now; others may follow.
        ReadBack = "read_back",
        /// Dead letters whose turn has come are read.
        LettersDue = "letters_due",
        /// Which dead letters came and went is written down; that is not committed.
        LettersKept = "letters_kept",
    }
}

named! {
    /// A rule that is not kept.
    Sabotage {
        /// A window's rows are sent by the time of their event.
        OrderByCreatedAt = "order_by_created_at",
        /// A window's rows are sent by the number of their transaction.
        OrderByXid = "order_by_xid",
        /// Rows below the highest id that was read are not read any more.
        CursorById = "cursor_by_id",
        /// A take-over believes the database alone.
        NoReadBack = "no_read_back",
        /// What was published is read back up to the last stable offset.
        ReadBackToStable = "read_back_to_stable",
        /// Whoever led once may write the position.
        NoEpochCheck = "no_epoch_check",
        /// Rows are sent that a crash of the database may undo.
        NoFlushGate = "no_flush_gate",
        /// A slow commit costs nothing.
        KeepAfterSlowCommit = "keep_after_slow_commit",
        /// Whoever replaces its producer believes that it leads as before.
        ReplaceBlindly = "replace_blindly",
        /// The position is written back before the transaction is committed.
        SettleBeforeCommit = "settle_before_commit",
    }
}

/// Says that a point is passed; may not come back.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub const fn pass(_: Point) {}

/// Whether a rule is not to be kept.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub const fn sabotaged(_: Sabotage) -> bool {
    false
}

#[cfg(feature = "failpoints")]
pub use armed::{pass, sabotaged};

#[cfg(feature = "failpoints")]
mod armed {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use rustix::process::{Signal, getpid, kill_process};

    use super::{Point, Sabotage};

    /// What happens at a pass.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Then {
        Signal(Signal),
        Sleep,
    }

    struct Armed {
        point: Point,
        at: u64,
        then: Then,
        passed: AtomicU64,
    }

    /// Within this time a signal to the process has stopped all of it, unless the machine is very busy.
    const STOPS: Duration = Duration::from_secs(1);

    /// More than the time in which a commit cannot have been tried twice.
    const SLOW: Duration = Duration::from_millis(400);

    static POINTS: LazyLock<Vec<Armed>> = LazyLock::new(|| words("OUTBOXD_FAILPOINTS", armed));
    static SABOTAGE: LazyLock<Vec<Sabotage>> = LazyLock::new(|| {
        words("OUTBOXD_SABOTAGE", |word| {
            Sabotage::ALL.iter().copied().find(|it| it.name() == word)
        })
    });

    /// Says that a point is passed; does not come back where the process is to be killed, and late where it is stopped.
    pub fn pass(point: Point) {
        for armed in POINTS.iter().filter(|armed| armed.point == point) {
            if armed.passed.fetch_add(1, Ordering::Relaxed) + 1 == armed.at {
                match armed.then {
                    Then::Signal(signal) => {
                        let _ = kill_process(getpid(), signal);
                        // SIGKILL ends us before this line. To be stopped, another thread of ours has to run first.
                        std::thread::sleep(STOPS);
                    }
                    Then::Sleep => std::thread::sleep(SLOW),
                }
            }
        }
    }

    /// Whether a rule is not to be kept.
    pub fn sabotaged(sabotage: Sabotage) -> bool {
        SABOTAGE.contains(&sabotage)
    }

    fn words<T>(variable: &str, meaning: impl Fn(&str) -> Option<T>) -> Vec<T> {
        let text = std::env::var(variable).unwrap_or_default();
        let words = text.split(',').filter(|word| !word.is_empty());
        let known = words.map(|word| {
            #[expect(clippy::panic, reason = "a test that arms nothing would prove nothing")]
            meaning(word).unwrap_or_else(|| panic!("{variable}: {word:?} is unknown"))
        });
        known.collect()
    }

    fn armed(word: &str) -> Option<Armed> {
        let (name, rest) = word.split_once('=')?;
        let (at, then) = match rest.split_once(':') {
            None => (rest, Then::Signal(Signal::KILL)),
            Some((at, "stop")) => (at, Then::Signal(Signal::STOP)),
            Some((at, "slow")) => (at, Then::Sleep),
            Some(_) => return None,
        };
        Some(Armed {
            point: Point::ALL.iter().copied().find(|it| it.name() == name)?,
            at: at.parse().ok().filter(|at| *at > 0)?,
            then,
            passed: AtomicU64::new(0),
        })
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_word_names_a_point_a_pass_and_what_happens() {
            let armed_as = |word| armed(word).map(|it| (it.point, it.at, it.then));
            let kill = Then::Signal(Signal::KILL);
            assert_eq!(armed_as("send=25"), Some((Point::Send, 25, kill)));
            let stop = Then::Signal(Signal::STOP);
            assert_eq!(
                armed_as("lease_take=1:stop"),
                Some((Point::LeaseTake, 1, stop))
            );
            let slow = armed_as("after_commit=2:slow");
            assert_eq!(slow, Some((Point::AfterCommit, 2, Then::Sleep)));
            for word in [
                "send",
                "send=0",
                "send=x",
                "sned=1",
                "send=1:term",
                "send=1:",
            ] {
                assert_eq!(armed_as(word), None, "{word}");
            }
        }

        #[test]
        fn no_two_have_one_name() {
            let mut names: Vec<_> = Point::ALL.iter().map(|point| point.name()).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), Point::ALL.len());
        }
    }
}
