//! How many connections there may be, in all and of each kind. Never opens or closes one.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

/// The bounds; 0 is none for `per_address`.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "named as in the configuration")]
pub struct Bounds {
    pub connections: u64,
    pub unauthenticated: u64,
    pub per_address: u64,
    pub per_user: u64,
}

/// The bound that was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// In all.
    Connections,
    /// Without a token yet.
    Unauthenticated,
    /// Of one address.
    Address,
    /// Of one user.
    User,
}

impl Full {
    /// Every one.
    pub const ALL: [Self; 4] = [
        Self::Connections,
        Self::Unauthenticated,
        Self::Address,
        Self::User,
    ];

    /// Its word in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Unauthenticated => "unauthenticated",
            Self::Address => "address",
            Self::User => "user",
        }
    }
}

/// The connections there are, with addresses of type `A`.
#[derive(Debug)]
pub struct Admission<A> {
    bounds: Bounds,
    connections: u64,
    unauthenticated: u64,
    addresses: HashMap<A, u64>,
    users: HashMap<Arc<str>, u64>,
}

/// One connection's place; give it back with [`Admission::leave`].
#[derive(Debug)]
pub struct Seat<A> {
    address: Option<A>,
    holder: Holder,
}

impl<A> Seat<A> {
    /// Whether a token was shown.
    pub fn is_authenticated(&self) -> bool {
        self.holder != Holder::Unauthenticated
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Holder {
    Unauthenticated,
    User(Arc<str>),
    /// A token that names nobody.
    Nobody,
}

impl<A: Hash + Eq + Clone> Admission<A> {
    /// Without any connection yet.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            connections: 0,
            unauthenticated: 0,
            addresses: HashMap::new(),
            users: HashMap::new(),
        }
    }

    /// Other bounds from now on. Whoever is in stays; addresses that were not counted before are not counted now.
    pub fn bound(&mut self, bounds: Bounds) {
        self.bounds = bounds;
    }

    /// A connection wants in. It has not shown a token yet, or not a valid one.
    pub fn enter(&mut self) -> Result<Seat<A>, Full> {
        if self.connections >= self.bounds.connections {
            return Err(Full::Connections);
        }
        if self.unauthenticated >= self.bounds.unauthenticated {
            return Err(Full::Unauthenticated);
        }
        self.connections += 1;
        self.unauthenticated += 1;
        Ok(Seat {
            address: None,
            holder: Holder::Unauthenticated,
        })
    }

    /// It shows where a connection really comes from, which a proxy tells only with a request.
    pub fn locate(&mut self, seat: &mut Seat<A>, address: A) -> Result<(), Full> {
        if self.bounds.per_address == 0 || seat.address.as_ref() == Some(&address) {
            return Ok(());
        }
        let of_address = self.addresses.entry(address.clone()).or_default();
        if *of_address >= self.bounds.per_address {
            return Err(Full::Address);
        }
        *of_address += 1;
        if let Some(before) = seat.address.replace(address) {
            decrement(&mut self.addresses, &before);
        }
        Ok(())
    }

    /// A connection has shown a token of `user`, for the first time or anew.
    pub fn authenticate(&mut self, seat: &mut Seat<A>, user: Option<&str>) -> Result<(), Full> {
        let holder = match user {
            Some(user) => Holder::User(user.into()),
            None => Holder::Nobody,
        };
        if seat.holder == holder {
            return Ok(());
        }
        if let Holder::User(user) = &holder {
            let of_user = self.users.entry(Arc::clone(user)).or_default();
            if *of_user >= self.bounds.per_user {
                return Err(Full::User);
            }
            *of_user += 1;
        }
        let before = std::mem::replace(&mut seat.holder, holder);
        self.release(&before);
        Ok(())
    }

    /// A connection has ended.
    pub fn leave(&mut self, seat: Seat<A>) {
        self.connections -= 1;
        self.release(&seat.holder);
        if let Some(address) = &seat.address {
            decrement(&mut self.addresses, address);
        }
    }

    /// How many there are.
    pub fn connections(&self) -> u64 {
        self.connections
    }

    fn release(&mut self, holder: &Holder) {
        match holder {
            Holder::Unauthenticated => self.unauthenticated -= 1,
            Holder::User(user) => decrement(&mut self.users, user),
            Holder::Nobody => {}
        }
    }
}

fn decrement<K: Hash + Eq>(counts: &mut HashMap<K, u64>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(bounds: Bounds) -> Admission<&'static str> {
        Admission::new(bounds)
    }

    const WIDE: Bounds = Bounds {
        connections: 100,
        unauthenticated: 100,
        per_address: 0,
        per_user: 100,
    };

    #[test]
    fn the_one_beyond_a_bound_is_refused_and_fits_when_another_leaves() {
        let bounds = [
            (
                Bounds {
                    connections: 2,
                    ..WIDE
                },
                Full::Connections,
            ),
            (
                Bounds {
                    unauthenticated: 2,
                    ..WIDE
                },
                Full::Unauthenticated,
            ),
        ];
        for (bounds, full) in bounds {
            let mut admission = admission(bounds);
            let first = admission.enter().unwrap();
            let _second = admission.enter().unwrap();
            assert_eq!(admission.enter().unwrap_err(), full);
            admission.leave(first);
            assert!(admission.enter().is_ok(), "{full:?}");
        }
    }

    #[test]
    fn an_address_has_so_many_and_saying_it_again_takes_no_second_place() {
        let mut admission = admission(Bounds {
            per_address: 1,
            ..WIDE
        });
        let mut first = admission.enter().unwrap();
        admission.locate(&mut first, "a").unwrap();
        admission.locate(&mut first, "a").unwrap();
        let mut second = admission.enter().unwrap();
        assert_eq!(admission.locate(&mut second, "a"), Err(Full::Address));
        admission.locate(&mut second, "b").unwrap();
        admission.leave(first);
        admission.locate(&mut second, "a").unwrap();
        admission.leave(second);
        assert!(admission.addresses.is_empty());
    }

    #[test]
    fn who_shows_a_token_makes_room_for_who_has_not() {
        let mut admission = admission(Bounds {
            unauthenticated: 1,
            ..WIDE
        });
        let mut seat = admission.enter().unwrap();
        admission.authenticate(&mut seat, None).unwrap();
        assert!(admission.enter().is_ok());
    }

    #[test]
    fn a_user_has_so_many_and_renewing_takes_no_second_place() {
        let mut admission = admission(Bounds {
            per_user: 1,
            ..WIDE
        });
        let mut first = admission.enter().unwrap();
        admission.authenticate(&mut first, Some("c-7")).unwrap();
        admission.authenticate(&mut first, Some("c-7")).unwrap();
        let mut second = admission.enter().unwrap();
        let refused = admission.authenticate(&mut second, Some("c-7"));
        assert_eq!(refused, Err(Full::User));
        admission.authenticate(&mut second, Some("c-8")).unwrap();
        admission.leave(first);
        admission.authenticate(&mut second, Some("c-7")).unwrap();
        admission.leave(second);
        assert_eq!(admission.connections(), 0);
        assert!(admission.users.is_empty());
    }
}
