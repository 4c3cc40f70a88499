//! Sagas for those who ask once: one, or a list of the stalest. Never remembers who asked.

use super::{Given, Partition, Sink, may_watch, of};
use crate::logic::push::frames;
use crate::logic::push::stalest::Place;
use crate::logic::rights::Rights;
use crate::logic::saga::{SagaKey, Trail};

/// A saga as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Where it stands among all.
    pub place: Place,
    /// Its snapshot.
    pub snapshot: String,
}

/// Which sagas a list shows: those that pass all of it, the first `limit` of them. By default none, so give a `limit`.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only this type.
    pub saga_type: Option<String>,
    /// Only this state.
    pub state: Option<String>,
    /// Only those beyond their time.
    pub stuck: bool,
    /// Only those that have ended, or that have not.
    pub finished: Option<bool>,
    /// The freshest first, instead of the stalest.
    pub newest: bool,
    /// Only those after this place in that order; none: all.
    pub after: Option<Place>,
    /// At most so many.
    pub limit: usize,
}

impl<S: Sink> Partition<S> {
    /// A saga's version and its snapshot, with the epoch; none if it is unknown to who has these rights.
    pub fn snapshot(
        &self,
        key: &SagaKey,
        rights: &Rights,
        epoch: &str,
    ) -> Result<(i64, String), Given> {
        let kept = of(&self.sagas, key).ok_or(Given::Waiting)?;
        if !may_watch(rights, key, &kept.saga) {
            return Err(Given::Hidden);
        }
        Ok((
            kept.saga.version,
            frames::snapshot_text(key, &kept.saga, Some(epoch)),
        ))
    }

    /// Where the log has a saga's events; none if it is unknown.
    pub fn trail(&self, key: &SagaKey) -> Option<Trail> {
        Some(of(&self.sagas, key)?.saga.trail())
    }

    /// The sagas that pass the filter and may be watched by grant.
    pub fn list(&self, filter: &Filter, rights: &Rights) -> Vec<Listed> {
        let (after, before);
        let places: &mut dyn Iterator<Item = _> = if filter.newest {
            let from = filter.after.unwrap_or((i64::MAX, i64::MAX));
            before = self.stalest.before(from, filter.finished);
            &mut { before }
        } else {
            let from = filter.after.unwrap_or((i64::MIN, i64::MIN));
            after = self.stalest.after(from, filter.finished);
            &mut { after }
        };
        let wanted = places.filter_map(|(place, key)| {
            let of_type = filter
                .saga_type
                .as_deref()
                .is_none_or(|wanted| *wanted == *key.saga_type);
            if !of_type || !rights.may_watch_type(&key.saga_type) {
                return None;
            }
            let saga = &of(&self.sagas, key)?.saga;
            let in_state =
                filter.state.is_none() || filter.state.as_deref() == saga.state.as_deref();
            let wanted = in_state && (!filter.stuck || saga.stuck_since.is_some());
            wanted.then(|| Listed {
                place: *place,
                snapshot: frames::snapshot_text(key, saga, None),
            })
        });
        wanted.take(filter.limit).collect()
    }
}
