//! Holds a partition that was made again to one that has read everything.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::logic::event::Timestamp;
use crate::logic::fnv::Fnv;
use crate::logic::push::frames::Frame;
use crate::logic::push::partition::Filter;
use crate::logic::rights::Rights;
use crate::logic::saga::definition;

/// Nobody watches.
#[derive(Debug, Clone)]
struct Nobody;

impl Sink for Nobody {
    fn offer(&self, _: &Arc<Frame>) -> bool {
        true
    }

    fn answer(&self, _: Arc<Frame>) {}

    fn behind(&self, _: i32) {}
}

const KEEP: Keep = Keep {
    history: Duration::from_millis(60),
    finished: Duration::from_millis(20),
};

/// A record of the log.
#[derive(Debug, Clone)]
struct Told {
    saga: u8,
    event: u16,
    what: u8,
    /// Since the record before.
    after_ms: u8,
}

impl Told {
    fn value(&self, ms: i64) -> String {
        let (saga_type, saga_id) = (self.saga % 3, self.saga);
        let event = uuid::Uuid::from_u128(self.event.into());
        let says = match self.what % 8 {
            0 => r#""state":"A""#,
            1 => r#""state":"B","user":"c-7""#,
            2 => r#""state":"C","outcome":"completed""#,
            3 => r#""step":"one","status":"done""#,
            4 => r#""step":"two","status":"pending""#,
            5 => r#""state":"F","source":"other""#,
            6 => {
                // Clocks differ: a source may be ahead of the log.
                let until = Timestamp((ms + 20 - i64::from(self.event % 32)) * 1_000);
                let until = until.to_rfc3339().unwrap();
                let source = ["orders", "other"][usize::from(self.saga % 2)];
                return format!(r#"{{"v":1,"source":"{source}","published_until":"{until}"}}"#);
            }
            _ => return "nonsense".to_owned(),
        };
        let source = if says.contains("source") {
            ""
        } else {
            r#","source":"orders""#
        };
        format!(
            r#"{{"v":1,"saga_type":"t-{saga_type}","saga_id":"{saga_id}",{says}{source},"event_type":"E","event_id":"{event}","at":"2026-11-21T10:00:00Z"}}"#
        )
    }
}

prop_compose! {
    fn any_told()(saga in 0..12_u8, event in 0..256_u16, what in any::<u8>(), after_ms in 0..10_u8) -> Told {
        Told { saga, event, what, after_ms }
    }
}

/// A log as its reader sees it: offsets have holes, time does not go back.
fn log(told: &[Told]) -> Vec<(i64, i64, String)> {
    let (mut offset, mut ms) = (0, 1_000);
    let record = |told: &Told| {
        offset += 1 + i64::from(told.event % 2);
        ms += i64::from(told.after_ms);
        (offset, ms, told.value(ms))
    };
    told.iter().map(record).collect()
}

/// Two of three types have a definition, by which their sagas are stuck after 10 ms.
fn define(partition: &mut Partition<Nobody>) {
    let definition = |number: u8| {
        let state = |name: &str| definition::State {
            name: name.into(),
            kind: definition::StateKind::Initial,
            limit: Some(Duration::from_millis(10)),
            next: Vec::new(),
            outcome: None,
        };
        Definition {
            saga_type: format!("t-{number}").into(),
            version: 1,
            since: None,
            states: ["A", "B"].map(state).into(),
            steps: Vec::new(),
        }
    };
    partition.define(&Arc::new([0, 1].map(definition).into_iter().collect()));
}

fn apply(partition: &mut Partition<Nobody>, records: &[(i64, i64, String)]) {
    for (offset, ms, value) in records {
        partition.apply(*offset, *ms, value.as_bytes(), |_| ());
    }
}

/// All that can be seen of it, and what it will do with what comes.
fn all(partition: &Partition<Nobody>) -> (Base, Vec<(i64, String)>, Vec<u8>) {
    let everything = serde_json::json!([{"saga_type": "*"}]);
    let filter = Filter {
        limit: usize::MAX,
        ..Filter::default()
    };
    let listed = partition.list(&filter, &Rights::new(None, Some(&everything)));
    let listed = listed.into_iter().map(|it| (it.place.0, it.snapshot));
    (
        partition.base(),
        listed.collect(),
        partition.part(None).sagas,
    )
}

/// Takes all parts, and lets records come between them; none if they are of no use.
fn copy(
    partition: &mut Partition<Nobody>,
    mut between: impl FnMut(&mut Partition<Nobody>),
) -> Option<Partition<Nobody>> {
    let mut part = partition.part_within(None, 1);
    let base = part.base.clone();
    let mut again = Partition::again(0, KEEP, 0, base.clone());
    define(&mut again);
    loop {
        assert_eq!(again.take_in(&part.sagas), Ok(part.count));
        let Some(after) = part.after else {
            return (!part.is_too_late_for(&base)).then_some(again);
        };
        between(partition);
        part = partition.part_within(Some(&after), 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn it_is_as_if_it_had_read_everything(
        told in prop::collection::vec(any_told(), 1..120),
        taken_at in 0..120_usize,
        pace in 0..4_usize,
    ) {
        let records = log(&told);
        let taken_at = taken_at.min(records.len());
        let mut whole = Partition::new(0, KEEP, 0, true);
        define(&mut whole);
        apply(&mut whole, &records[..taken_at]);
        let mut came = taken_at;
        // A part is one saga here, so that much happens between them.
        let mut again = copy(&mut whole, |whole| {
            let more = (came + pace).min(records.len());
            apply(whole, &records[came..more]);
            came = more;
        });
        apply(&mut whole, &records[came..]);
        if let Some(again) = &mut again {
            apply(again, &records[taken_at..]);
            prop_assert_eq!(all(again), all(&whole));
        }
    }

    #[test]
    fn bytes_that_are_no_sagas_are_refused_or_taken_and_nothing_panics(
        told in prop::collection::vec(any_told(), 1..20),
        at in any::<prop::sample::Index>(),
        with in any::<u8>(),
    ) {
        let mut whole = Partition::<Nobody>::new(0, KEEP, 0, true);
        define(&mut whole);
        apply(&mut whole, &log(&told));
        let mut part = whole.part(None);
        if !part.sagas.is_empty() {
            let at = at.index(part.sagas.len());
            part.sagas[at] = with;
            let _ = Partition::<Nobody>::again(0, KEEP, 0, part.base).take_in(&part.sagas);
        }
    }
}

#[test]
fn what_a_saga_holds_is_not_taken_again_however_much_that_is() {
    let told = |saga, event| Told {
        saga,
        event,
        what: 0,
        after_ms: 0,
    };
    let mut records = log(&[told(1, 1), told(2, 2)]);
    let more: Vec<_> = (3..1000).map(|event| told(2, event)).collect();
    records.extend(
        log(&more)
            .into_iter()
            .map(|(offset, ms, value)| (offset + 10, ms, value)),
    );
    let mut whole = Partition::new(0, KEEP, 0, true);
    apply(&mut whole, &records[..2]);
    let mut again = copy(&mut whole, |whole| apply(whole, &records[2..])).unwrap();
    apply(&mut again, &records[2..]);
    assert_eq!(all(&again), all(&whole));
}

/// Whoever changes what is written, or what it means, raises `FORMAT` and writes the new sum here.
#[test]
fn what_is_written_has_not_changed_since_its_format_was_named() {
    let told: Vec<_> = (0..60)
        .map(|number| Told {
            saga: number % 5,
            event: number.into(),
            what: number / 5,
            after_ms: 0,
        })
        .collect();
    let mut partition = Partition::<Nobody>::new(0, KEEP, 0, true);
    define(&mut partition);
    apply(&mut partition, &log(&told));
    let mut sum = Fnv::new();
    sum.update(&partition.part(None).sagas);
    assert_eq!((FORMAT, sum.finish()), (3, 13_504_315_946_743_421_399));
}

#[test]
fn a_saga_keeps_the_definition_that_it_began_with_over_a_restart() {
    let mut whole = Partition::new(0, KEEP, 0, true);
    define(&mut whole);
    let told = |saga, event, what| Told {
        saga,
        event,
        what,
        after_ms: 1,
    };
    let records = log(&[
        told(0, 1, 0),
        told(3, 2, 0),
        told(2, 3, 0),
        told(0, 4, 6),
        told(1, 5, 6),
    ]);
    apply(&mut whole, &records);
    let part = whole.part(None);
    let mut again = Partition::<Nobody>::again(0, KEEP, 0, part.base);
    again.take_in(&part.sagas).unwrap();
    let defined = |partition: &Partition<Nobody>| -> Vec<_> {
        let mut states: Vec<_> = partition
            .states()
            .map(|it| (it.saga_type.to_string(), it.definition))
            .collect();
        states.sort_by_key(|(saga_type, _)| saga_type.clone());
        states
    };
    assert_eq!(defined(&again), defined(&whole));
    let [first, second, third] = &defined(&again)[..] else {
        panic!("three sagas");
    };
    assert!(
        Arc::ptr_eq(first.1.as_ref().unwrap(), second.1.as_ref().unwrap()),
        "said once, held once"
    );
    assert_eq!(third.1, None);
}

#[test]
fn a_deadline_that_is_younger_than_a_record_is_not_missed_by_it() {
    let told = |saga, event, what| Told {
        saga,
        event,
        what,
        after_ms: 1,
    };
    // The source says that it is far ahead of the log.
    let records = log(&[told(0, 8, 0), told(1, 2, 0), told(0, 0, 6), told(1, 4, 0)]);
    let mut whole = Partition::new(0, KEEP, 0, true);
    define(&mut whole);
    apply(&mut whole, &records[..2]);
    let mut rest = &records[2..];
    let mut again = copy(&mut whole, |whole| apply(whole, std::mem::take(&mut rest))).unwrap();
    apply(&mut again, &records[2..]);
    assert_eq!(all(&again), all(&whole));
}
