//! The wall clock, for those who may ask for the time. Never for `logic`, which is told it.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::logic::event::Timestamp;

/// The time; 1970 on a machine whose clock stands before that.
pub fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
