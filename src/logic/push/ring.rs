//! The recent changes of one partition, for clients that come back. Never holds more bytes than it may.

use std::collections::VecDeque;
use std::sync::Arc;

use super::frames::Frame;

/// Changes in the order of their versions, bounded in bytes.
#[derive(Debug)]
pub struct Ring {
    changes: VecDeque<Kept>,
    bytes: usize,
    limit_bytes: usize,
}

#[derive(Debug)]
struct Kept {
    version: i64,
    previous: Option<i64>,
    frame: Arc<Frame>,
}

/// What a kept change takes beside its text.
const OVERHEAD: usize = 96;

impl Ring {
    /// An empty one for so many bytes.
    pub fn new(limit_bytes: usize) -> Self {
        Self {
            changes: VecDeque::new(),
            bytes: 0,
            limit_bytes,
        }
    }

    /// Keeps a change, and forgets the oldest that no longer fit.
    pub fn keep(&mut self, version: i64, previous: Option<i64>, frame: Arc<Frame>) {
        self.bytes += frame.text().len() + OVERHEAD;
        self.changes.push_back(Kept {
            version,
            previous,
            frame,
        });
        while self.bytes > self.limit_bytes
            && let Some(oldest) = self.changes.pop_front()
        {
            self.bytes -= oldest.frame.text().len() + OVERHEAD;
        }
    }

    /// The changes of the saga whose latest version is `latest`, from the one after `have` on, oldest first.
    ///
    /// None when the chain does not lead to `have`: it is too old, or no version of that saga.
    pub fn since(&self, have: i64, latest: i64) -> Option<Vec<Arc<Frame>>> {
        let mut found = Vec::new();
        let mut version = latest;
        while version > have {
            let at = self
                .changes
                .binary_search_by_key(&version, |kept| kept.version);
            let kept = self.changes.get(at.ok()?)?;
            found.push(Arc::clone(&kept.frame));
            version = kept.previous?;
        }
        found.reverse();
        (version == have).then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(limit_bytes: usize, changes: &[(i64, Option<i64>)]) -> Ring {
        let mut ring = Ring::new(limit_bytes);
        for (version, previous) in changes {
            ring.keep(*version, *previous, Frame::of(&version.to_string()));
        }
        ring
    }

    fn since(ring: &Ring, have: i64, latest: i64) -> Option<Vec<String>> {
        let found = ring.since(have, latest)?;
        Some(found.iter().map(|frame| frame.text().to_owned()).collect())
    }

    /// Two sagas, one at 1, 4, 5, the other at 2, 7.
    const TWO: [(i64, Option<i64>); 5] = [
        (1, None),
        (2, None),
        (4, Some(1)),
        (5, Some(4)),
        (7, Some(2)),
    ];

    #[test]
    fn one_sagas_changes_are_found_among_the_others() {
        let ring = ring(10_000, &TWO);
        assert_eq!(since(&ring, 1, 5).unwrap(), ["4", "5"]);
        assert_eq!(since(&ring, 4, 5).unwrap(), ["5"]);
        assert_eq!(since(&ring, 2, 7).unwrap(), ["7"]);
        assert_eq!(since(&ring, 5, 5).unwrap(), [""; 0]);
    }

    #[test]
    fn a_version_that_is_not_the_sagas_is_not_resumed() {
        let ring = ring(10_000, &TWO);
        assert_eq!(since(&ring, 2, 5), None, "another saga's");
        assert_eq!(since(&ring, 3, 5), None, "a hole in the log");
        assert_eq!(since(&ring, 0, 5), None, "before the beginning");
        assert_eq!(since(&ring, 9, 5), None, "ahead");
    }

    #[test]
    fn what_does_not_fit_is_forgotten_oldest_first() {
        let ring = ring(2 * (OVERHEAD + 1), &TWO);
        assert_eq!(ring.changes.len(), 2);
        assert_eq!(since(&ring, 4, 5).unwrap(), ["5"]);
        assert_eq!(since(&ring, 1, 5), None);
    }

    #[test]
    fn a_change_larger_than_the_ring_is_not_kept() {
        let ring = ring(OVERHEAD, &[(1, None)]);
        assert_eq!((ring.changes.len(), ring.bytes), (0, 0));
    }
}
