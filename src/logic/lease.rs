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
    /// The epoch it led with, if it did and was not fenced.
    pub epoch: Option<i64>,
    /// Whether the lease's process ran on this host and is gone.
    pub predecessor_gone: bool,
    /// Whether it may still take a lease back.
    pub may_take_back: bool,
    /// How many other sources it leads.
    pub leads: u32,
    /// An operator asked it to leave the lease to another daemon.
    pub yields: bool,
}

/// A standby looks at least this often.
const LOOK: Duration = Duration::from_secs(1);

/// Decides about a lease.
pub fn claim(lease: &Lease, candidate: Candidate<'_>) -> Claim {
    if candidate.yields {
        return Claim::Wait(LOOK);
    }
    let Some(holder) = &lease.holder else {
        return Claim::Take;
    };
    if candidate.epoch == Some(lease.epoch) && holder == candidate.me {
        return Claim::Take;
    }
    if lease.remaining.is_zero() {
        return Claim::Take;
    }
    let ours = holder.instance == candidate.me.instance && holder.process != candidate.me.process;
    if ours && candidate.predecessor_gone && candidate.may_take_back {
        return Claim::TakeBack;
    }
    Claim::Wait(lease.remaining.min(LOOK) + head_start(candidate.leads))
}

/// How long a daemon that leads already leaves a free source to others, which spreads them.
fn head_start(leads: u32) -> Duration {
    Duration::from_millis(200).saturating_mul(leads.min(10))
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
            remaining: Duration::from_millis(remaining_ms),
        }
    }

    fn candidate(me: &Holder) -> Candidate<'_> {
        Candidate {
            me,
            epoch: None,
            predecessor_gone: false,
            may_take_back: true,
            leads: 0,
            yields: false,
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
    fn who_leads_much_waits_longer() {
        let me = holder("a", "1");
        let held = lease(Some(holder("b", "2")), 400);
        let wait = |leads| {
            claim(
                &held,
                Candidate {
                    leads,
                    ..candidate(&me)
                },
            )
        };
        assert_eq!(wait(0), Claim::Wait(Duration::from_millis(400)));
        assert_eq!(wait(3), Claim::Wait(Duration::from_millis(1000)));
    }

    #[test]
    fn a_lease_is_renewed_with_two_thirds_of_it_left() {
        let asked = Instant::now();
        let lease = Duration::from_secs(9);
        let held = Held::new(1, asked, lease);
        assert_eq!(held.renew_at(lease), asked + Duration::from_secs(3));
    }
}
