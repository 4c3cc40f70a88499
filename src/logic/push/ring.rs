//! The recent changes of one partition, for clients that come back. Never holds more bytes than it may.

use std::collections::VecDeque;
use std::sync::Arc;

use super::frames::Frame;

/// Changes in the order of their versions, bounded in bytes. One record can change several sagas, which then share a version.
#[derive(Debug)]
pub struct Ring {
    changes: VecDeque<Kept>,
    bytes: usize,
    limit_bytes: usize,
}

#[derive(Debug)]
struct Kept {
    version: i64,
    /// The number of its saga.
    saga: u64,
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

    /// Keeps a change of the saga of this number, and forgets the oldest that no longer fit.
    pub fn keep(&mut self, saga: u64, version: i64, previous: Option<i64>, frame: Arc<Frame>) {
        self.bytes += frame.text().len() + OVERHEAD;
        self.changes.push_back(Kept {
            version,
            saga,
            previous,
            frame,
        });
        while self.bytes > self.limit_bytes
            && let Some(oldest) = self.changes.pop_front()
        {
            self.bytes -= oldest.frame.text().len() + OVERHEAD;
        }
    }

    /// The changes of a saga whose latest version is `latest`, from the one after `have` on, oldest first.
    ///
    /// None when the chain does not lead to `have`: it is too old, or no version of that saga.
    pub fn since(&self, saga: u64, have: i64, latest: i64) -> Option<Vec<Arc<Frame>>> {
        let mut found = Vec::new();
        let mut version = latest;
        while version > have {
            let from = self.changes.partition_point(|kept| kept.version < version);
            let mut of_version = self.changes.range(from..);
            let kept = of_version
                .by_ref()
                .take_while(|kept| kept.version == version)
                .find(|kept| kept.saga == saga)?;
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

    type Made = (u64, i64, Option<i64>);

    fn ring(limit_bytes: usize, changes: &[Made]) -> Ring {
        let mut ring = Ring::new(limit_bytes);
        for (saga, version, previous) in changes {
            ring.keep(*saga, *version, *previous, Frame::of(&version.to_string()));
        }
        ring
    }

    fn since(ring: &Ring, saga: u64, have: i64, latest: i64) -> Option<Vec<String>> {
        let found = ring.since(saga, have, latest)?;
        Some(found.iter().map(|frame| frame.text().to_owned()).collect())
    }

    /// Two sagas, one at 1, 4, 5, the other at 2, 7.
    const TWO: [Made; 5] = [
        (1, 1, None),
        (2, 2, None),
        (1, 4, Some(1)),
        (1, 5, Some(4)),
        (2, 7, Some(2)),
    ];

    #[test]
    fn one_sagas_changes_are_found_among_the_others() {
        let ring = ring(10_000, &TWO);
        assert_eq!(since(&ring, 1, 1, 5).unwrap(), ["4", "5"]);
        assert_eq!(since(&ring, 1, 4, 5).unwrap(), ["5"]);
        assert_eq!(since(&ring, 2, 2, 7).unwrap(), ["7"]);
        assert_eq!(since(&ring, 1, 5, 5).unwrap(), [""; 0]);
    }

    #[test]
    fn a_version_that_is_not_the_sagas_is_not_resumed() {
        let ring = ring(10_000, &TWO);
        assert_eq!(since(&ring, 1, 2, 5), None, "another saga's");
        assert_eq!(since(&ring, 1, 3, 5), None, "a hole in the log");
        assert_eq!(since(&ring, 1, 0, 5), None, "before the beginning");
        assert_eq!(since(&ring, 1, 9, 5), None, "ahead");
    }

    #[test]
    fn sagas_that_share_a_version_are_told_apart() {
        let shared = [
            (1, 1, None),
            (2, 2, None),
            (3, 3, None),
            (3, 9, Some(3)),
            (1, 9, Some(1)),
            (2, 9, Some(2)),
            (2, 11, Some(9)),
        ];
        let ring = ring(10_000, &shared);
        for (saga, first) in [(1, 1), (3, 3)] {
            assert_eq!(since(&ring, saga, first, 9).unwrap(), ["9"]);
        }
        assert_eq!(since(&ring, 2, 2, 11).unwrap(), ["9", "11"]);
        assert_eq!(since(&ring, 1, 3, 9), None, "another saga's version");
        assert_eq!(since(&ring, 4, 1, 9), None, "another saga");
    }

    #[test]
    fn what_does_not_fit_is_forgotten_oldest_first() {
        let ring = ring(2 * (OVERHEAD + 1), &TWO);
        assert_eq!(ring.changes.len(), 2);
        assert_eq!(since(&ring, 1, 4, 5).unwrap(), ["5"]);
        assert_eq!(since(&ring, 1, 1, 5), None);
    }

    #[test]
    fn a_change_larger_than_the_ring_is_not_kept() {
        let ring = ring(OVERHEAD, &[(1, 1, None)]);
        assert_eq!((ring.changes.len(), ring.bytes), (0, 0));
    }
}
