//! Who may lead a source. Never trusts a clock but the database's for others, and the monotonic one for itself.

use std::time::{Duration, Instant};

/// A daemon, as it writes itself into the lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// `[relay] instance`.
    pub instance: String,
    /// Which process on which boot of which host; tells a restarted daemon from its predecessor.
    pub process: String,
}

/// The lease as the database has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Who holds it or held it last.
    pub holder: Option<Holder>,
    /// Rises with every take-over.
    pub epoch: i64,
    /// When it ends, in the database's words: tells a renewed one from the one before.
    pub until: String,
    /// How long it still lasts by the database's clock; zero when it is free.
    pub remaining: Duration,
}

/// What to do about a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// Take it, with the next epoch.
    Take,
    /// Take it back from our own predecessor, which is gone; allowed once per start.
    TakeBack,
    /// Somebody leads; look again after this long.
    Wait(Duration),
}

/// What a daemon knows of itself when it looks at a lease.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// Who it is.
    pub me: &'a Holder,
    /// `[relay] lease`, the same for all daemons of a deployment.
    pub lease: Duration,
    /// The epoch it led with, if it did and was not fenced.
    pub epoch: Option<i64>,
    /// Whether the lease's process ran on this host and is gone.
    pub predecessor_gone: bool,
    /// Whether it may still take a lease back.
    pub may_take_back: bool,
    /// How many other sources it leads, or is about to.
    pub leads: u32,
    /// An operator asked it to leave the lease to another daemon.
    pub yields: bool,
    /// For how long it has looked.
    pub watched: Watched,
}

/// A standby looks at least this often.
const LOOK: Duration = Duration::from_secs(1);

/// Decides about a lease.
pub fn claim(lease: &Lease, candidate: Candidate<'_>) -> Claim {
    if candidate.yields {
        return Claim::Wait(LOOK);
    }
    let own = lease.holder.as_ref() == Some(candidate.me);
    if own && candidate.epoch == Some(lease.epoch) {
        return Claim::Take;
    }
    if lease.remaining.is_zero() {
        let wait = head_start(candidate.leads).saturating_sub(candidate.watched.free);
        return if wait.is_zero() {
            Claim::Take
        } else {
            Claim::Wait(wait)
        };
    }
    // A leader renews three times in each of its leases. If nobody did for two of them and there is time left all the same,
    // the database's clock was set back. Should a leader be alive, the next epoch fences it.
    if candidate.watched.unchanged > candidate.lease * 2 {
        return Claim::Take;
    }
    let twin = lease.holder.as_ref().is_some_and(|holder| {
        holder.instance == candidate.me.instance && holder.process != candidate.me.process
    });
    if twin && candidate.predecessor_gone && candidate.may_take_back {
        return Claim::TakeBack;
    }
    Claim::Wait(lease.remaining.min(LOOK))
}

/// How long a daemon that leads already leaves a free source to others, which spreads them.
fn head_start(leads: u32) -> Duration {
    Duration::from_millis(100).saturating_mul(leads.min(10))
}

/// For how long a standby has seen a lease as it is, by its own monotonic clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Watched {
    /// Neither taken nor renewed.
    pub unchanged: Duration,
    /// Free.
    pub free: Duration,
}

/// Remembers when a lease was first seen as it is.
#[derive(Debug, Default)]
pub struct Watch {
    same: Option<(i64, String, Instant)>,
    free: Option<Instant>,
}

impl Watch {
    /// Looks at a lease at `now`.
    pub fn look(&mut self, lease: &Lease, now: Instant) -> Watched {
        let free = lease.remaining.is_zero();
        self.free = free.then(|| self.free.unwrap_or(now));
        let same = self.same.take();
        let same = same.filter(|(epoch, until, _)| *epoch == lease.epoch && *until == lease.until);
        let since = same.map_or(now, |(_, _, since)| since);
        self.same = Some((lease.epoch, lease.until.clone(), since));
        Watched {
            unchanged: now.saturating_duration_since(since),
            free: self
                .free
                .map_or(Duration::ZERO, |free| now.saturating_duration_since(free)),
        }
    }
}

/// A lease that this daemon holds, by its own monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// The epoch that every write carries.
    pub epoch: i64,
    /// After this moment another daemon may lead.
    pub until: Instant,
}

impl Held {
    /// A lease that was asked for at `asked`: the database counts from later, so this is never too long.
    pub fn new(epoch: i64, asked: Instant, lease: Duration) -> Self {
        Self {
            epoch,
            until: asked + lease,
        }
    }

    /// Renewed by a statement that was sent at `asked`.
    pub fn renew(&mut self, asked: Instant, lease: Duration) {
        self.until = self.until.max(asked + lease);
    }

    /// When to renew it: with two thirds of it left.
    pub fn renew_at(&self, lease: Duration) -> Instant {
        let margin = lease - lease / 3;
        self.until.checked_sub(margin).unwrap_or(self.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(instance: &str, process: &str) -> Holder {
        Holder {
            instance: instance.into(),
            process: process.into(),
        }
    }

    fn lease(holder: Option<Holder>, remaining_ms: u64) -> Lease {
        Lease {
            holder,
            epoch: 7,
            until: "then".into(),
            remaining: Duration::from_millis(remaining_ms),
        }
    }

    fn candidate(me: &Holder) -> Candidate<'_> {
        Candidate {
            me,
            lease: Duration::from_secs(10),
            epoch: None,
            predecessor_gone: false,
            may_take_back: true,
            leads: 0,
            yields: false,
            watched: Watched::default(),
        }
    }

    #[test]
    fn a_free_lease_is_taken_and_a_held_one_is_not() {
        let me = holder("a", "1");
        assert_eq!(claim(&lease(None, 0), candidate(&me)), Claim::Take);
        assert_eq!(
            claim(&lease(Some(holder("b", "2")), 0), candidate(&me)),
            Claim::Take
        );
        let held = claim(&lease(Some(holder("b", "2")), 9000), candidate(&me));
        assert_eq!(held, Claim::Wait(LOOK));
    }

    #[test]
    fn a_restarted_daemon_takes_its_own_back_at_once_and_only_once() {
        let me = holder("a", "2");
        let old = lease(Some(holder("a", "1")), 9000);
        let gone = Candidate {
            predecessor_gone: true,
            ..candidate(&me)
        };
        assert_eq!(claim(&old, gone), Claim::TakeBack);
        assert_ne!(
            claim(&old, candidate(&me)),
            Claim::TakeBack,
            "it may be alive elsewhere"
        );
        assert_ne!(
            claim(
                &old,
                Candidate {
                    may_take_back: false,
                    ..gone
                }
            ),
            Claim::TakeBack
        );
        let other = lease(Some(holder("b", "1")), 9000);
        assert_ne!(claim(&other, gone), Claim::TakeBack, "not ours");
    }

    #[test]
    fn the_leader_keeps_its_lease_over_a_new_session_unless_it_was_fenced() {
        let me = holder("a", "1");
        let own = lease(Some(me.clone()), 9000);
        assert_eq!(
            claim(
                &own,
                Candidate {
                    epoch: Some(7),
                    ..candidate(&me)
                }
            ),
            Claim::Take
        );
        assert_ne!(
            claim(
                &own,
                Candidate {
                    epoch: Some(6),
                    ..candidate(&me)
                }
            ),
            Claim::Take
        );
        let other = lease(Some(holder("a", "2")), 9000);
        assert_ne!(
            claim(
                &other,
                Candidate {
                    epoch: Some(7),
                    ..candidate(&me)
                }
            ),
            Claim::Take
        );
    }

    #[test]
    fn who_yields_takes_nothing_whoever_held_it() {
        let me = holder("a", "2");
        let yields = Candidate {
            epoch: Some(7),
            predecessor_gone: true,
            yields: true,
            ..candidate(&me)
        };
        for held in [
            lease(None, 0),
            lease(Some(me.clone()), 9000),
            lease(Some(holder("a", "1")), 9000),
            lease(Some(holder("b", "3")), 0),
        ] {
            assert_eq!(claim(&held, yields), Claim::Wait(LOOK), "{held:?}");
        }
    }

    #[test]
    fn who_leads_much_leaves_a_free_source_to_others_for_a_while() {
        let me = holder("a", "1");
        let free = lease(Some(holder("b", "2")), 0);
        let claimed = |leads, free_ms| {
            let watched = Watched {
                free: Duration::from_millis(free_ms),
                ..Watched::default()
            };
            let candidate = Candidate {
                leads,
                watched,
                ..candidate(&me)
            };
            claim(&free, candidate)
        };
        assert_eq!(claimed(0, 0), Claim::Take);
        assert_eq!(claimed(3, 0), Claim::Wait(Duration::from_millis(300)));
        assert_eq!(claimed(3, 250), Claim::Wait(Duration::from_millis(50)));
        assert_eq!(claimed(3, 300), Claim::Take);
        assert_eq!(claimed(500, 1000), Claim::Take, "a second at most");
        let led = lease(Some(holder("b", "2")), 400);
        let candidate = Candidate {
            leads: 3,
            ..candidate(&me)
        };
        assert_eq!(
            claim(&led, candidate),
            Claim::Wait(Duration::from_millis(400))
        );
    }

    #[test]
    fn a_lease_that_a_clock_set_back_made_endless_is_taken() {
        let me = holder("a", "1");
        let endless = lease(Some(holder("b", "2")), 3_600_000);
        let claimed = |unchanged_s| {
            let watched = Watched {
                unchanged: Duration::from_secs(unchanged_s),
                ..Watched::default()
            };
            claim(
                &endless,
                Candidate {
                    watched,
                    ..candidate(&me)
                },
            )
        };
        assert_eq!(
            claimed(20),
            Claim::Wait(LOOK),
            "somebody may renew it every third of its time"
        );
        assert_eq!(claimed(21), Claim::Take);
    }

    #[test]
    fn a_watch_begins_anew_with_every_renewal_and_every_leader() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut watch = Watch::default();
        let mut looked = |lease: &Lease, ms| {
            let watched = watch.look(lease, at(ms));
            (watched.unchanged.as_millis(), watched.free.as_millis())
        };
        let held = lease(Some(holder("b", "2")), 900);
        assert_eq!(looked(&held, 0), (0, 0));
        assert_eq!(looked(&held, 400), (400, 0));
        let renewed = Lease {
            until: "later".into(),
            ..held.clone()
        };
        assert_eq!(looked(&renewed, 500), (0, 0));
        let taken = Lease {
            epoch: 8,
            ..renewed.clone()
        };
        assert_eq!(looked(&taken, 600), (0, 0));
        let free = Lease {
            remaining: Duration::ZERO,
            ..taken.clone()
        };
        assert_eq!(looked(&free, 700), (100, 0));
        assert_eq!(looked(&free, 800), (200, 100));
        assert_eq!(looked(&taken, 900), (300, 0));
        assert_eq!(looked(&free, 950), (350, 0), "free again, since now");
    }

    #[test]
    fn a_lease_is_renewed_with_two_thirds_of_it_left() {
        let asked = Instant::now();
        let lease = Duration::from_secs(9);
        let held = Held::new(1, asked, lease);
        assert_eq!(held.renew_at(lease), asked + Duration::from_secs(3));
    }
}
