use std::collections::HashMap;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::logic::checkpoint::{Checkpoint, RowIds, VERSION};
use crate::logic::refusal::{Reason, Refusal};

const SPAN: Span = Span {
    since: Some(Timestamp(100)),
    until: Timestamp(200),
};
const MOST: usize = 3;

/// Event n is row n; its key is the letter.
type Row = (i64, &'static str, Standing);

fn event(n: i64) -> Uuid {
    Uuid::from_u128(n.unsigned_abs().into())
}

fn published(n: i64, key: &'static str) -> Row {
    (n, key, Standing::Published)
}

fn record(n: i64, key: &str, offset: i64) -> Sighting {
    Sighting {
        topic: "t".into(),
        partition: 0,
        offset,
        key: Some(key.as_bytes().to_vec()),
        event_id: event(n),
        at: Timestamp(150),
        is_ours: true,
    }
}

fn judge(rows: &[Row], log: Vec<Sighting>) -> Judge {
    let mut taken = Rows::default();
    for (n, key, standing) in rows {
        taken.add(*n, event(*n), "t", Some(key), *standing);
    }
    let mut judge = Judge::new(taken, SPAN);
    log.into_iter().for_each(|record| judge.see(record));
    judge
}

/// Records of these events in this order.
fn log(of: &[(i64, &str)]) -> Vec<Sighting> {
    let record = |(offset, (n, key)): (i64, &(i64, &str))| record(*n, key, offset);
    (0..).zip(of).map(record).collect()
}

fn verdict(rows: &[Row], log: Vec<Sighting>) -> Verdict {
    let looked = judge(rows, log).second_look(|_| true);
    looked.verdict(&HashMap::new(), false, MOST)
}

fn counts(verdict: &Verdict) -> [u64; 4] {
    let Verdict {
        lost,
        doubled,
        reordered,
        ghosts,
        ..
    } = verdict;
    [lost.count, doubled.count, reordered.count, ghosts.count]
}

fn checkpoint(published: &[(i64, i64)], refused: &[(i64, i64)]) -> Checkpoint {
    let rows = |of: &[(i64, i64)]| RowIds(of.iter().map(|(id, n)| (*id, event(*n))).collect());
    Checkpoint {
        v: VERSION,
        incarnation: "db".into(),
        timeline: 1,
        epoch: 1,
        batch: 1,
        until: Timestamp(0),
        published: rows(published),
        refused: vec![(Refusal::new(Reason::TooLarge, "x"), rows(refused))],
        released: Vec::new(),
    }
}

fn named(of: &[(i64, i64, &str)]) -> HashMap<i64, Named> {
    let row = |(id, n, key): &(i64, i64, &str)| {
        let row = Named {
            event_id: event(*n),
            topic: "t".into(),
            key: Some((*key).to_owned()),
        };
        (*id, row)
    };
    of.iter().map(row).collect()
}

#[test]
fn what_is_where_it_should_be_is_no_fault() {
    let rows = [
        published(1, "a"),
        published(2, "b"),
        (3, "a", Standing::Waiting),
        (4, "a", Standing::Waiting),
        (5, "b", Standing::Letter),
        (6, "b", Standing::Letter),
    ];
    let found = verdict(&rows, log(&[(2, "b"), (1, "a"), (3, "a"), (6, "b")]));
    assert_eq!(found.faults(), 0, "{found:?}");
    let tally = found.tally;
    assert_eq!(
        (tally.published, tally.waiting, tally.dead_letters),
        (2, 2, 2)
    );
}

#[test]
fn a_published_row_without_a_record_is_lost() {
    let rows = [published(1, "a"), published(2, "a")];
    let looked = judge(&rows, log(&[(1, "a")])).second_look(|_| true);
    assert_eq!(looked.wanted(MOST), [2]);
    let found = looked.verdict(&named(&[(2, 2, "a")]), false, MOST);
    assert_eq!(counts(&found), [1, 0, 0, 0]);
    let example = &found.lost.examples[0];
    assert_eq!((example.row, example.event_id), (Some(2), Some(event(2))));
    assert_eq!(example.key.as_deref(), Some("a"));
}

#[test]
fn a_lost_row_that_was_refused_has_been_dropped() {
    let mut looked = judge(&[published(1, "a")], Vec::new()).second_look(|_| true);
    looked.checkpoint(&checkpoint(&[], &[(1, 1)]));
    let found = looked.verdict(&HashMap::new(), false, MOST);
    assert_eq!((found.faults(), found.tally.given_up), (0, 1));
}

#[test]
fn where_a_missing_record_proves_nothing_no_row_is_lost() {
    let looked = judge(&[published(1, "a")], Vec::new()).second_look(|_| false);
    let found = looked.verdict(&HashMap::new(), false, MOST);
    assert_eq!((found.faults(), found.tally.rows_not_judged), (0, 1));
}

#[test]
fn a_row_that_stands_under_another_name_is_not_lost() {
    let renamed = Sighting {
        is_ours: false,
        ..record(1, "a", 0)
    };
    let found = verdict(&[published(1, "a")], vec![renamed.clone()]);
    assert_eq!((found.faults(), found.tally.other_name), (0, 1));
    // Its own record is not a second one.
    let found = verdict(&[published(1, "a")], vec![renamed, record(1, "a", 1)]);
    assert_eq!((found.faults(), found.tally.other_name), (0, 0));
}

#[test]
fn a_second_record_of_a_row_is_a_double_whenever_it_was_written() {
    let mut again = record(1, "a", 7);
    again.at = Timestamp(0);
    let looked = judge(&[published(1, "a")], vec![record(1, "a", 0), again]);
    let mut looked = looked.second_look(|_| true);
    // That the row itself was published once explains nothing.
    looked.checkpoint(&checkpoint(&[(1, 1)], &[]));
    let found = looked.verdict(&named(&[(1, 1, "a")]), false, MOST);
    assert_eq!(counts(&found), [0, 1, 0, 0]);
    assert_eq!(found.doubled.examples[0].offset, Some(7));
}

#[test]
fn an_event_id_in_two_rows_is_two_events() {
    let mut taken = Rows::default();
    for id in [1, 5] {
        taken.add(id, event(9), "t", Some("a"), Standing::Published);
    }
    let mut judge = Judge::new(taken, SPAN);
    judge.see(record(9, "a", 0));
    judge.see(record(9, "a", 1));
    let found = judge.second_look(|_| true);
    let found = found.verdict(&HashMap::new(), false, MOST);
    assert_eq!(found.faults(), 0, "{found:?}");
}

#[test]
fn a_row_that_came_after_the_look_or_is_gone_explains_one_record() {
    for later in [named(&[(8, 1, "a")]), HashMap::new()] {
        let records = vec![record(1, "a", 0), record(1, "a", 1), record(1, "a", 2)];
        let mut looked = judge(&[published(1, "a")], records).second_look(|_| true);
        looked.checkpoint(&checkpoint(&[(1, 1), (8, 1)], &[]));
        let mut wanted = looked.wanted(MOST);
        wanted.sort_unstable();
        assert_eq!(wanted, [1, 8]);
        let mut table = named(&[(1, 1, "a")]);
        table.extend(later);
        let found = looked.verdict(&table, false, MOST);
        assert_eq!(counts(&found), [0, 1, 0, 0]);
        assert_eq!(found.tally.records_not_judged, 1);
    }
}

#[test]
fn a_row_of_the_same_event_with_another_key_explains_nothing() {
    let mut looked = judge(&[], log(&[(1, "a")])).second_look(|_| true);
    looked.checkpoint(&checkpoint(&[(1, 1)], &[]));
    let found = looked.verdict(&named(&[(1, 1, "b")]), false, MOST);
    assert_eq!(counts(&found), [0, 0, 0, 1]);
}

#[test]
fn a_row_whose_id_is_anothers_by_now_is_gone() {
    let mut looked = judge(&[], log(&[(1, "a")])).second_look(|_| true);
    looked.checkpoint(&checkpoint(&[(1, 1)], &[]));
    let found = looked.verdict(&named(&[(1, 2, "a")]), false, MOST);
    assert_eq!((found.faults(), found.tally.records_not_judged), (0, 1));
}

#[test]
fn a_record_without_a_row_is_a_ghost_where_the_table_is_whole() {
    for (at, ghosts) in [(99, 0), (100, 1), (200, 1), (201, 0)] {
        let mut ghost = record(1, "a", 0);
        ghost.at = Timestamp(at);
        let found = verdict(&[], vec![ghost.clone()]);
        assert_eq!(counts(&found), [0, 0, 0, ghosts], "{at}");
        assert_eq!(found.tally.records_not_judged, 1 - ghosts, "{at}");
        let nowhere = Span {
            since: None,
            ..SPAN
        };
        let mut judge = Judge::new(Rows::default(), nowhere);
        judge.see(ghost);
        assert!(judge.second_look(|_| true).is_needless());
    }
}

#[test]
fn a_key_against_the_order_of_its_rows_is_reordered() {
    let rows = [published(1, "a"), published(2, "a"), published(3, "b")];
    let found = verdict(&rows, log(&[(3, "b"), (2, "a"), (1, "a")]));
    assert_eq!(counts(&found), [0, 0, 1, 0]);
    let example = &found.reordered.examples[0];
    assert_eq!((example.row, example.offset), (Some(1), Some(2)));
    assert_eq!(example.after_offset, Some(1));
}

#[test]
fn without_a_key_or_in_another_partition_there_is_no_order() {
    let mut moved = record(1, "a", 1);
    moved.partition = 1;
    let rows = [published(1, "a"), published(2, "a")];
    let found = verdict(&rows, vec![record(2, "a", 0), moved]);
    assert_eq!(found.faults(), 0);
    let mut taken = Rows::default();
    taken.add(1, event(1), "t", None, Standing::Published);
    taken.add(2, event(2), "t", None, Standing::Published);
    let mut judge = Judge::new(taken, SPAN);
    for n in [2, 1] {
        let key = None;
        judge.see(Sighting {
            key,
            ..record(n, "", 2 - n)
        });
    }
    assert!(judge.second_look(|_| true).is_needless());
}

#[test]
fn a_released_letter_may_come_late_where_keys_go_on() {
    for (refused, skips, reordered) in [
        (1, true, 0),
        (1, false, 1),
        // The one that came early was refused, not the one that came late.
        (2, true, 1),
    ] {
        let rows = [published(1, "a"), published(2, "a")];
        let mut looked = judge(&rows, log(&[(2, "a"), (1, "a")])).second_look(|_| true);
        looked.checkpoint(&checkpoint(&[], &[(refused, refused)]));
        let found = looked.verdict(&HashMap::new(), skips, MOST);
        assert_eq!(counts(&found), [0, 0, reordered, 0], "{refused} {skips}");
    }
}

#[test]
fn doubts_have_a_limit_and_what_is_beyond_is_not_judged() {
    let most = i64::try_from(DOUBTS_MAX).unwrap();
    for beyond in [0, 1] {
        let rows: Vec<Row> = (0..most + beyond).map(|n| published(n, "a")).collect();
        let found = verdict(&rows, Vec::new());
        assert_eq!(found.lost.count, DOUBTS_MAX as u64);
        assert_eq!(found.lost.examples.len(), MOST);
        assert_eq!(found.tally.rows_not_judged, beyond.unsigned_abs());
        let ghosts = (0..most + beyond).map(|n| record(n, "a", n)).collect();
        let found = verdict(&[], ghosts);
        assert_eq!(found.ghosts.count, DOUBTS_MAX as u64);
        assert_eq!(found.tally.records_not_judged, beyond.unsigned_abs());
    }
}

#[test]
fn a_topic_that_keeps_too_little_proves_nothing() {
    let kept = |compacts, retention_ms, by_size| {
        Some(Kept {
            compacts,
            retention_ms,
            by_size,
        })
    };
    for (may_be_cut, kept, reach) in [
        (false, kept(false, Some(1), true), Reach::Whole),
        (true, kept(false, None, false), Reach::Whole),
        (true, kept(false, Some(60), false), Reach::Whole),
        (true, kept(false, Some(59), false), Reach::Cut),
        (true, kept(false, None, true), Reach::Cut),
        (false, kept(true, None, false), Reach::Compacted),
        (false, None, Reach::Hidden),
    ] {
        assert_eq!(Reach::new(may_be_cut, kept, 60), reach);
        assert_eq!(reach.proves(), reach.note().is_none());
    }
}

/// Rows of four keys, each with where it stands and whether it is in the topic, which only a waiting one decides.
fn tables() -> impl Strategy<Value = Vec<(Row, bool)>> {
    let row = (0usize..4, 0u8..4, any::<bool>()).prop_map(|(key, standing, is_seen)| {
        let standing = match standing {
            0 => Standing::Waiting,
            1 => Standing::Letter,
            _ => Standing::Published,
        };
        let is_seen = is_seen || standing == Standing::Published;
        ((0, ["a", "b", "c", "d"][key], standing), is_seen)
    });
    proptest::collection::vec(row, 1..60).prop_map(|mut rows| {
        for (n, (row, _)) in (1..).zip(&mut rows) {
            row.0 = n;
        }
        rows
    })
}

proptest! {
    #[test]
    fn one_fault_is_called_by_its_name_and_nothing_else_is(
        table in tables(), fault in 0u8..5, at in any::<prop::sample::Index>(), to in any::<prop::sample::Index>(),
    ) {
        let rows: Vec<Row> = table.iter().map(|(row, _)| *row).collect();
        let seen = table.iter().filter(|(_, is_seen)| *is_seen);
        let mut order: Vec<(i64, &str)> = seen.map(|(row, _)| (row.0, row.1)).collect();
        let mut expected = [0; 4];
        let must = |n: i64| rows.iter().any(|row| row.0 == n && row.2 == Standing::Published);
        let place = if order.is_empty() { None } else { Some(at.index(order.len())) };
        match (fault, place) {
            (1, Some(place)) if must(order[place].0) => {
                order.remove(place);
                expected[0] = 1;
            }
            (2, Some(place)) => {
                let later = place + 1 + to.index(order.len() - place);
                order.insert(later, order[place]);
                expected[1] = 1;
            }
            (3, Some(place)) => {
                // Behind the next one of its key.
                let (moved, key) = order[place];
                if let Some(next) = order.iter().position(|(n, of)| *n > moved && *of == key) {
                    let one = order.remove(place);
                    order.insert(next, one);
                    expected[2] = 1;
                }
            }
            (4, _) => {
                order.insert(to.index(order.len() + 1), (1000, "a"));
                expected[3] = 1;
            }
            _ => {}
        }
        let found = verdict(&rows, log(&order));
        prop_assert_eq!(counts(&found), expected, "{:?}", order);
    }
}
