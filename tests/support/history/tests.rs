//! The verdict finds each kind of fault, and no other; the ledger decides. Needs no server.

use super::*;

fn row(key: &str, version: i64) -> Row {
    Row {
        source: "shop".into(),
        topic: "orders".into(),
        key: Some(key.into()),
        mark: format!("{key}{version}"),
        version,
    }
}

fn see(row: &Row) -> Seen {
    Seen {
        source: row.source.clone(),
        topic: row.topic.clone(),
        partition: 0,
        key: row.key.clone(),
        mark: row.mark.clone(),
    }
}

/// The faults found, with their counts.
fn faults(committed: &[Row], seen: &[Seen], open: &[String]) -> Vec<(Fault, usize)> {
    let verdict = judge(committed, seen, open);
    verdict
        .faults
        .iter()
        .map(|(fault, (count, _))| (*fault, *count))
        .collect()
}

#[test]
fn what_is_seen_once_and_in_order_is_clean() {
    let rows = [row("a", 1), row("a", 2), row("b", 1), row("a", 3)];
    let mut seen: Vec<_> = rows.iter().map(see).collect();
    assert_eq!(faults(&rows, &seen, &[]), []);
    seen.swap(1, 2);
    assert_eq!(
        faults(&rows, &seen, &[]),
        [],
        "keys have no order among each other"
    );
    assert_eq!(
        judge(&[], &[], &[]).to_string(),
        "0 lost, 0 doubled, 0 reordered, 0 ghosts, 0 left open"
    );
}

#[test]
fn each_fault_is_found_and_counted() {
    let rows = [row("a", 1), row("a", 2), row("a", 3)];
    let all: Vec<_> = rows.iter().map(see).collect();
    let of = |order: &[usize]| -> Vec<Seen> { order.iter().map(|at| all[*at].clone()).collect() };
    assert_eq!(faults(&rows, &of(&[0, 2]), &[]), [(Fault::Lost, 1)]);
    assert_eq!(
        faults(&rows, &of(&[0, 1, 2, 0, 0]), &[]),
        [(Fault::Doubled, 2)]
    );
    assert_eq!(faults(&rows, &of(&[1, 0, 2]), &[]), [(Fault::Reordered, 1)]);
    assert_eq!(faults(&rows[..2], &all, &[]), [(Fault::Ghost, 1)]);
    assert_eq!(
        faults(&rows, &all, &["orders/0".into()]),
        [(Fault::LeftOpen, 1)]
    );
    assert_eq!(
        faults(&rows, &of(&[2, 2]), &[]),
        [(Fault::Lost, 2), (Fault::Doubled, 1)]
    );
}

#[test]
fn order_holds_by_source_topic_and_key_and_in_one_partition() {
    let rows = [row("a", 1), row("a", 2)];
    let mut elsewhere: Vec<_> = rows.iter().map(see).collect();
    elsewhere[1].partition = 3;
    assert_eq!(faults(&rows, &elsewhere, &[]), [(Fault::Reordered, 1)]);

    let mut other_key: Vec<_> = rows.iter().map(see).collect();
    other_key[1].key = Some("b".into());
    assert_eq!(
        faults(&rows, &other_key, &[]),
        [(Fault::Lost, 1), (Fault::Ghost, 1)]
    );

    let other = |topic: &str, source: &str| {
        let row = Row {
            topic: topic.into(),
            source: source.into(),
            ..row("a", 1)
        };
        (row.clone(), see(&row))
    };
    let (in_topic, seen_in_topic) = other("bills", "shop");
    let (of_source, seen_of_source) = other("orders", "kitchen");
    let all = [rows[1].clone(), in_topic, of_source];
    let seen = [see(&rows[1]), seen_in_topic, seen_of_source];
    assert_eq!(faults(&all, &seen, &[]), []);

    let keyless = [1, 2].map(|version| Row {
        key: None,
        ..row("a", version)
    });
    let mut seen: Vec<_> = keyless.iter().rev().map(see).collect();
    seen[0].partition = 1;
    assert_eq!(
        faults(&keyless, &seen, &[]),
        [],
        "nothing is promised without a key"
    );
}

#[test]
fn the_ledger_decides_what_nobody_knows() {
    let log = Log::default();
    let note = |id, outcome, version| {
        let (id, rows) = (Uuid::from_u128(id), vec![row("a", version)]);
        log.note(Attempt { id, outcome, rows });
    };
    note(1, Outcome::Committed, 1);
    note(2, Outcome::RolledBack, 2);
    note(3, Outcome::Unknown, 3);
    note(4, Outcome::Unknown, 4);
    let ledger = [1, 4].map(Uuid::from_u128).into();
    assert_eq!(log.committed(&ledger), [row("a", 1), row("a", 4)]);
    assert_eq!(log.count(Outcome::Unknown), 2);
}

#[test]
#[should_panic(expected = "but the ledger says false")]
fn a_confirmed_commit_that_is_gone_is_the_databases_fault() {
    let log = Log::default();
    log.note(Attempt {
        id: Uuid::nil(),
        outcome: Outcome::Committed,
        rows: Vec::new(),
    });
    log.committed(&HashSet::new());
}
