//! Which rows are new: snapshots of the database, and the position between two of them.
//!
//! A row is new when its transaction is visible now and was not visible at the position's snapshot. Every committed
//! transaction becomes visible exactly once, so none is missed and none comes twice, however long it was open. Ids
//! order the rows of one such *window*; a window too large for one read is paged by id while its end stays pinned.

use std::fmt;
use std::str::FromStr;

/// What transactions a moment of the database sees: PostgreSQL's `pg_snapshot`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Snapshot {
    xmin: u64,
    xmax: u64,
    in_progress: Vec<u64>,
}

/// A text that is no `pg_snapshot`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a pg_snapshot: {0:?}")]
pub struct NoSnapshot(String);

impl Snapshot {
    /// Sees nothing: whatever is in the table is new.
    pub fn nothing() -> Self {
        Self {
            xmin: 3,
            xmax: 3,
            in_progress: Vec::new(),
        }
    }

    /// Whether a transaction had committed or rolled back by then.
    pub fn sees(&self, txid: u64) -> bool {
        txid < self.xmin || (txid < self.xmax && self.in_progress.binary_search(&txid).is_err())
    }

    /// The first transaction that had not begun.
    pub fn xmax(&self) -> u64 {
        self.xmax
    }

    /// The transactions that were open, rising.
    pub fn in_progress(&self) -> &[u64] {
        &self.in_progress
    }
}

impl FromStr for Snapshot {
    type Err = NoSnapshot;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let mut parts = text.splitn(3, ':');
            let xmin = parts.next()?.parse().ok()?;
            let xmax = parts.next()?.parse().ok()?;
            let open = parts.next()?;
            let open = open
                .split(',')
                .filter(|xid| !xid.is_empty())
                .map(str::parse);
            let in_progress: Vec<u64> = open.collect::<Result<_, _>>().ok()?;
            let rising = in_progress
                .windows(2)
                .all(|pair| matches!(pair, [a, b] if a < b));
            let inside = in_progress.iter().all(|xid| (xmin..xmax).contains(xid));
            (xmin <= xmax && rising && inside).then_some(Self {
                xmin,
                xmax,
                in_progress,
            })
        };
        parse().ok_or_else(|| NoSnapshot(text.to_owned()))
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:", self.xmin, self.xmax)?;
        for (index, xid) in self.in_progress.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{xid}")?;
        }
        Ok(())
    }
}

/// How far a source has been read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// Everything that this snapshot sees has been read.
    pub seen: Snapshot,
    /// A window that has been read in part.
    pub page: Option<Page>,
}

/// A window that has been read in part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The window's end, pinned so that the rows between do not move.
    pub upto: Snapshot,
    /// Rows of the window up to this id have been read.
    pub after: i64,
}

impl Position {
    /// Whether the row `id` of transaction `txid` has been read.
    pub fn has_read(&self, txid: u64, id: i64) -> bool {
        let in_page = |page: &Page| id <= page.after && page.upto.sees(txid);
        self.seen.sees(txid) || self.page.as_ref().is_some_and(in_page)
    }

    /// The position after a read that began here.
    ///
    /// `now` is the snapshot of the statement that read, `last` the highest id it gave, and `more` whether the read
    /// ended at a limit instead of at the end of the window.
    pub fn after(&self, now: Snapshot, last: Option<i64>, more: bool) -> Self {
        let upto = match &self.page {
            Some(page) => page.upto.clone(),
            None => now,
        };
        match last {
            Some(after) if more => Self {
                seen: self.seen.clone(),
                page: Some(Page { upto, after }),
            },
            _ => Self {
                seen: upto,
                page: None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn snapshot(text: &str) -> Snapshot {
        text.parse().unwrap()
    }

    #[test]
    fn a_snapshot_sees_what_had_ended() {
        let at = snapshot("10:20:12,15");
        let seen: Vec<u64> = (8..23).filter(|xid| at.sees(*xid)).collect();
        assert_eq!(seen, [8, 9, 10, 11, 13, 14, 16, 17, 18, 19]);
    }

    #[test]
    fn what_is_no_snapshot_is_refused() {
        for text in [
            "", "1", "1:2", "2:1:", "1:5:7", "1:5:3,2", "1:5:x", "1:5:3,", "a:b:",
        ] {
            let parsed = text.parse::<Snapshot>();
            assert_eq!(parsed.is_ok(), text == "1:5:3,", "{text:?} gave {parsed:?}");
        }
    }

    #[test]
    fn a_full_read_pins_the_window_and_a_short_one_ends_it() {
        let start = Position {
            seen: snapshot("5:5:"),
            page: None,
        };
        let pinned = start.after(snapshot("9:9:"), Some(40), true);
        assert_eq!(
            pinned.page,
            Some(Page {
                upto: snapshot("9:9:"),
                after: 40
            })
        );
        assert_eq!(pinned.seen, start.seen);
        let further = pinned.after(snapshot("30:30:"), Some(80), true);
        assert_eq!(
            further.page,
            Some(Page {
                upto: snapshot("9:9:"),
                after: 80
            })
        );
        let ended = further.after(snapshot("31:31:"), Some(99), false);
        assert_eq!(
            ended,
            Position {
                seen: snapshot("9:9:"),
                page: None
            }
        );
    }

    /// A tiny database: transactions that draw ids and end, in an order that the input decides.
    #[derive(Debug, Clone)]
    struct Tx {
        begins: u32,
        ends: u32,
        ids: Vec<i64>,
    }

    fn transactions() -> impl Strategy<Value = Vec<Tx>> {
        let tx = (
            0u32..60,
            1u32..60,
            proptest::collection::vec(0i64..1000, 0..4),
        );
        let tx = tx.prop_map(|(begins, long, ids)| Tx {
            begins,
            ends: begins + long,
            ids,
        });
        proptest::collection::vec(tx, 1..20).prop_map(|mut all| {
            all.sort_by_key(|tx| tx.begins);
            let mut next = 0;
            for id in all.iter_mut().flat_map(|tx| tx.ids.iter_mut()) {
                next += 1;
                *id = next;
            }
            all
        })
    }

    fn snapshot_at(all: &[Tx], at: u32) -> Snapshot {
        let begun = all.iter().filter(|tx| tx.begins <= at).count() as u64;
        let open: Vec<u64> = (0..begun)
            .filter(|xid| all[usize::try_from(*xid).unwrap()].ends > at)
            .map(|xid| xid + 3)
            .collect();
        let xmin = open.first().copied().unwrap_or(begun + 3);
        Snapshot {
            xmin,
            xmax: begun + 3,
            in_progress: open,
        }
    }

    fn rows(all: &[Tx]) -> impl Iterator<Item = (u64, i64)> {
        let of =
            |(xid, tx): (u64, &Tx)| tx.ids.iter().map(move |id| (xid, *id)).collect::<Vec<_>>();
        (3u64..).zip(all).flat_map(of)
    }

    /// The rows that a statement sees behind an id, lowest first, each with its transaction.
    fn visible(all: &[Tx], now: &Snapshot, after: i64) -> Vec<(i64, u64)> {
        let mut visible: Vec<(i64, u64)> = rows(all)
            .filter(|(xid, id)| now.sees(*xid) && *id > after)
            .map(|(xid, id)| (id, xid))
            .collect();
        visible.sort_unstable();
        visible
    }

    proptest! {
        /// As `outbox::read` does it: a window of more than `sorted` rows is found among all rows, `passed` at a time, and
        /// how far those reached is asked a moment later.
        #[test]
        fn every_committed_row_is_read_exactly_once(
            all in transactions(), limit in 1usize..5, sorted in 1usize..20, passed in 1usize..9
        ) {
            let mut position = Position { seen: Snapshot::nothing(), page: None };
            let mut read = Vec::new();
            for at in 0..400 {
                let now = snapshot_at(&all, at);
                let upto = position.page.as_ref().map_or(&now, |page| &page.upto);
                let after = position.page.as_ref().map_or(i64::MIN, |page| page.after);
                let is_new = |xid: u64| upto.sees(xid) && !position.seen.sees(xid);
                let mut looked_at = visible(&all, &now, after);
                if position.page.is_some() {
                    looked_at.truncate(passed);
                }
                let mut window: Vec<i64> = looked_at
                    .into_iter()
                    .filter_map(|(id, xid)| is_new(xid).then_some(id))
                    .collect();
                let large = position.page.is_none() && window.len() > sorted;
                let full = window.len() >= limit;
                window.truncate(if large { 0 } else { limit });
                let (last, more) = if large {
                    (Some(i64::MIN), true)
                } else if full || position.page.is_none() {
                    (window.last().copied(), full)
                } else {
                    let later = visible(&all, &snapshot_at(&all, at + 1), after);
                    let scanned = later.get(passed - 1).map(|(id, _)| *id);
                    (window.last().copied().max(scanned), scanned.is_some())
                };
                let before = position.clone();
                position = before.after(now, last, more);
                for (xid, id) in rows(&all) {
                    let is_new = window.contains(&id);
                    let has_read = position.has_read(xid, id);
                    prop_assert_eq!(before.has_read(xid, id) || is_new, has_read, "{}", id);
                    prop_assert!(!is_new || !before.has_read(xid, id));
                }
                read.extend(window);
            }
            let mut expected: Vec<i64> = all.iter().flat_map(|tx| tx.ids.iter().copied()).collect();
            expected.sort_unstable();
            read.sort_unstable();
            prop_assert_eq!(read, expected);
        }

        #[test]
        fn a_snapshot_is_written_as_it_was_read(all in transactions(), at in 0u32..130) {
            let snapshot = snapshot_at(&all, at);
            prop_assert_eq!(snapshot.to_string().parse::<Snapshot>().unwrap(), snapshot);
        }
    }
}
