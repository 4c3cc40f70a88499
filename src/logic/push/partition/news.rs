//! What a record did, for those who count. Never leaves this process.

use std::sync::Arc;

use crate::logic::saga::{Change, Definition, Saga, Unreadable};

/// What a record did.
#[derive(Debug)]
pub enum Applied {
    /// A saga changed.
    Changed(Box<Changed>),
    /// Its event was seen before.
    Seen,
    /// The image that this was made of held it already.
    Held,
    /// A source is published so far; these sagas are stuck by that.
    PublishedUntil(Vec<Changed>),
    /// Not a record of ours.
    Skipped(Unreadable),
}

/// A saga that changed.
#[derive(Debug)]
pub struct Changed {
    /// How it stands now.
    pub standing: Standing,
    /// Whether it is new.
    pub began: bool,
    /// How it changed.
    pub change: Change,
}

/// How a saga stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Its type.
    pub saga_type: Arc<str>,
    /// What it should look like.
    pub definition: Option<Arc<Definition>>,
    /// Its state.
    pub state: Option<Box<str>>,
    /// Whether it is beyond the limit of that.
    pub is_stuck: bool,
}

impl Standing {
    pub(super) fn of(saga_type: &Arc<str>, saga: &Saga) -> Self {
        Self {
            saga_type: Arc::clone(saga_type),
            definition: saga.definition().cloned(),
            state: saga.state.clone(),
            is_stuck: saga.stuck_since.is_some(),
        }
    }
}
