//! Holds a partition to the client rule of the contract. Never looks at more than a client gets.

use std::cell::RefCell;
use std::rc::Rc;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::logic::saga::Unreadable;

const KEEP: Keep = Keep {
    history: Duration::from_millis(1000),
    finished: Duration::from_millis(100),
};
const RING: usize = 4000;

/// A queue for so many frames, and what was taken out of it.
#[derive(Debug, Clone)]
struct Inbox(Rc<RefCell<Queue>>);

#[derive(Debug, Default)]
struct Queue {
    room: usize,
    frames: Vec<Value>,
    behind: bool,
}

impl Inbox {
    fn with(room: usize) -> Self {
        Self(Rc::new(RefCell::new(Queue {
            room,
            ..Queue::default()
        })))
    }

    fn read(&self) -> Vec<Value> {
        std::mem::take(&mut self.0.borrow_mut().frames)
    }

    /// What came, in short.
    fn seen(&self) -> Vec<String> {
        self.read().iter().map(short).collect()
    }
}

fn short(frame: &Value) -> String {
    let text = |name: &str| frame[name].as_str().unwrap_or_default().to_owned();
    match text("type").as_str() {
        "subscribed" => text("mode"),
        "snapshot" | "change" => {
            format!("{} {}@{}", text("type"), text("saga_id"), frame["version"])
        }
        "error" => format!("error {} {}", text("code"), text("saga_id")),
        other => other.to_owned(),
    }
}

impl Sink for Inbox {
    fn offer(&self, frame: &Arc<Frame>) -> bool {
        let mut queue = self.0.borrow_mut();
        let fits = queue.frames.len() < queue.room;
        if fits {
            queue
                .frames
                .push(serde_json::from_str(frame.text()).unwrap());
        }
        fits
    }

    fn answer(&self, frame: Arc<Frame>) {
        let frame = serde_json::from_str(frame.text()).unwrap();
        self.0.borrow_mut().frames.push(frame);
    }

    fn behind(&self, _partition: i32) {
        self.0.borrow_mut().behind = true;
    }
}

fn partition() -> Partition<Inbox> {
    Partition::new(0, KEEP, RING, true)
}

fn rights(user: Option<&str>, grants: &[&str]) -> Arc<Rights> {
    let grants: Vec<_> = grants
        .iter()
        .map(|grant| serde_json::json!({"saga_type": grant}))
        .collect();
    Arc::new(Rights::new(user.map(str::to_owned), Some(&grants.into())))
}

struct Told<'a> {
    saga_id: &'a str,
    user: Option<&'a str>,
    state: Option<&'a str>,
    outcome: Option<&'a str>,
    event: u128,
}

const TOLD: Told<'_> = Told {
    saga_id: "a",
    user: Some("c-7"),
    state: Some("S"),
    outcome: None,
    event: 0,
};

fn tell(partition: &mut Partition<Inbox>, offset: i64, ms: i64, told: &Told<'_>) -> Applied {
    let event = if told.event == 0 {
        u128::try_from(offset).unwrap()
    } else {
        told.event
    };
    let value = serde_json::json!({
        "v": 1, "saga_type": "t", "saga_id": told.saga_id, "user": told.user, "state": told.state,
        "outcome": told.outcome, "event_type": "E", "event_id": uuid::Uuid::from_u128(event),
        "source": "orders", "at": "2026-11-21T10:00:00Z",
    });
    partition.apply(offset, ms, value.to_string().as_bytes(), |_| ())
}

fn key(id: &str) -> SagaKey {
    SagaKey::new("t", id)
}

fn joined(partition: &mut Partition<Inbox>, session: SessionId, room: usize) -> Inbox {
    let inbox = Inbox::with(room);
    partition.admit(session, &inbox, &rights(Some("c-7"), &[]));
    inbox
}

#[test]
fn a_snapshot_then_every_change() {
    let mut partition = partition();
    tell(&mut partition, 5, 0, &TOLD);
    let inbox = joined(&mut partition, 1, 99);
    assert_eq!(
        partition.subscribe(1, Some(2), &key("a"), None),
        Given::Snapshot
    );
    tell(&mut partition, 7, 0, &TOLD);
    tell(
        &mut partition,
        8,
        0,
        &Told {
            saga_id: "b",
            ..TOLD
        },
    );
    assert_eq!(inbox.seen(), ["snapshot", "snapshot a@5", "change a@7"]);
}

#[test]
fn who_comes_back_gets_what_it_lacks() {
    let mut partition = partition();
    for offset in 1..=3 {
        tell(&mut partition, offset, 0, &TOLD);
    }
    let inbox = joined(&mut partition, 1, 99);
    let cases = [
        (Some(3), Given::Current, vec!["resumed"]),
        (
            Some(1),
            Given::Changes,
            vec!["resumed", "change a@2", "change a@3"],
        ),
        (Some(0), Given::Snapshot, vec!["snapshot", "snapshot a@3"]),
        (Some(9), Given::Snapshot, vec!["snapshot", "snapshot a@3"]),
        (None, Given::Snapshot, vec!["snapshot", "snapshot a@3"]),
    ];
    for (has, given, seen) in cases {
        assert_eq!(
            partition.subscribe(1, None, &key("a"), has),
            given,
            "{has:?}"
        );
        assert_eq!(inbox.seen(), seen);
    }
}

#[test]
fn a_version_that_left_the_ring_is_answered_with_a_snapshot() {
    let mut partition = partition();
    for offset in 1..=100 {
        tell(&mut partition, offset, 0, &TOLD);
    }
    let _inbox = joined(&mut partition, 1, 999);
    assert_eq!(
        partition.subscribe(1, None, &key("a"), Some(1)),
        Given::Snapshot
    );
    assert_eq!(
        partition.subscribe(1, None, &key("a"), Some(97)),
        Given::Changes
    );
}

#[test]
fn an_unknown_saga_and_somebody_elses_are_answered_alike() {
    let mut partition = partition();
    tell(
        &mut partition,
        1,
        0,
        &Told {
            user: Some("c-8"),
            ..TOLD
        },
    );
    let inbox = joined(&mut partition, 1, 99);
    assert_eq!(
        partition.subscribe(1, Some(2), &key("a"), Some(1)),
        Given::Hidden
    );
    let hidden = inbox.read();
    assert_eq!(
        partition.subscribe(1, Some(2), &key("x"), Some(1)),
        Given::Waiting
    );
    assert_eq!(hidden, inbox.read());
    tell(
        &mut partition,
        2,
        0,
        &Told {
            user: Some("c-8"),
            ..TOLD
        },
    );
    tell(
        &mut partition,
        3,
        0,
        &Told {
            user: Some("c-8"),
            saga_id: "x",
            ..TOLD
        },
    );
    assert_eq!(inbox.seen(), [""; 0]);
    let rights = rights(Some("c-7"), &[]);
    assert_eq!(
        partition.snapshot(&key("a"), &rights, "e"),
        Err(Given::Hidden)
    );
    assert_eq!(
        partition.snapshot(&key("y"), &rights, "e"),
        Err(Given::Waiting)
    );
}

#[test]
fn who_waits_gets_a_snapshot_when_the_saga_is_theirs() {
    let mut partition = partition();
    let inbox = joined(&mut partition, 1, 99);
    assert_eq!(
        partition.subscribe(1, None, &key("a"), None),
        Given::Waiting
    );
    tell(&mut partition, 1, 0, &Told { user: None, ..TOLD });
    assert_eq!(inbox.seen(), ["waiting"], "nobody's yet");
    tell(&mut partition, 2, 0, &TOLD);
    tell(&mut partition, 3, 0, &TOLD);
    assert_eq!(inbox.seen(), ["snapshot a@2", "change a@3"]);
}

#[test]
fn a_duplicate_and_nonsense_reach_nobody() {
    let mut partition = partition();
    tell(&mut partition, 1, 0, &TOLD);
    let inbox = joined(&mut partition, 1, 99);
    partition.subscribe(1, None, &key("a"), Some(1));
    let again = tell(&mut partition, 2, 0, &Told { event: 1, ..TOLD });
    assert!(matches!(again, Applied::Seen));
    let nonsense = partition.apply(3, 0, b"{", |_| ());
    assert!(matches!(nonsense, Applied::Skipped(Unreadable::Malformed)));
    assert_eq!(inbox.seen(), ["resumed"]);
    assert_eq!(
        partition.subscribe(1, None, &key("a"), Some(1)),
        Given::Current
    );
}

#[test]
fn sagas_are_forgotten_by_the_logs_time_and_begin_anew_with_a_snapshot() {
    let mut partition = partition();
    tell(&mut partition, 1, 0, &TOLD);
    tell(
        &mut partition,
        2,
        0,
        &Told {
            saga_id: "b",
            outcome: Some("failed"),
            ..TOLD
        },
    );
    let inbox = joined(&mut partition, 1, 99);
    partition.subscribe(1, None, &key("b"), Some(2));
    let mut gone = Vec::new();
    partition.apply(3, 100, b"", |forgotten| gone.push(forgotten));
    assert_eq!(gone.len(), 0, "just in time");
    partition.apply(4, 101, b"", |forgotten| gone.push(forgotten));
    assert_eq!(gone.pop().unwrap().state.as_deref(), Some("S"));
    tell(
        &mut partition,
        5,
        50,
        &Told {
            saga_id: "b",
            ..TOLD
        },
    );
    assert_eq!(inbox.seen(), ["resumed", "snapshot b@5"]);
    partition.apply(6, 1001, b"", |forgotten| gone.push(forgotten));
    assert_eq!(gone.len(), 1, "the unfinished one, and b is younger");
    assert_eq!(partition.states().count(), 1);
}

#[test]
fn a_saga_that_begins_anew_is_no_gap_to_who_watches_its_type() {
    let mut partition = partition();
    let inbox = Inbox::with(99);
    partition.admit(1, &inbox, &rights(None, &["t"]));
    partition.subscribe_type(1, "t", 7);
    tell(&mut partition, 1, 0, &TOLD);
    partition.apply(2, 1001, b"", |_| ());
    tell(&mut partition, 3, 1001, &TOLD);
    tell(&mut partition, 4, 1001, &TOLD);
    let other = Told {
        saga_id: "b",
        ..TOLD
    };
    tell(&mut partition, 5, 1001, &other);
    let seen = ["change a@1", "snapshot a@3", "change a@4", "change b@5"];
    assert_eq!(inbox.seen(), seen);
}

#[test]
fn who_is_slow_gets_one_snapshot_for_all_it_missed() {
    let mut partition = partition();
    tell(&mut partition, 1, 0, &TOLD);
    let slow = joined(&mut partition, 1, 2);
    let quick = joined(&mut partition, 2, 99);
    partition.subscribe(1, None, &key("a"), None);
    partition.subscribe(2, None, &key("a"), None);
    for offset in 2..=4 {
        tell(&mut partition, offset, 0, &TOLD);
    }
    assert_eq!(partition.take_skipped(), 3);
    assert!(slow.0.borrow().behind && !quick.0.borrow().behind);
    assert_eq!(slow.seen(), ["snapshot", "snapshot a@1"]);
    partition.drained(1);
    tell(&mut partition, 5, 0, &TOLD);
    assert_eq!(slow.seen(), ["snapshot a@4", "change a@5"]);
    assert_eq!(quick.read().len(), 6);
}

#[test]
fn a_lost_right_ends_a_subscription_and_a_new_one_shows_what_was_hidden() {
    let mut partition = partition();
    tell(&mut partition, 1, 0, &TOLD);
    tell(
        &mut partition,
        2,
        0,
        &Told {
            saga_id: "b",
            user: Some("c-8"),
            ..TOLD
        },
    );
    let inbox = joined(&mut partition, 1, 99);
    partition.subscribe(1, None, &key("a"), None);
    partition.subscribe(1, None, &key("b"), None);
    inbox.read();
    assert_eq!(
        partition.admit(1, &inbox, &rights(Some("c-8"), &[])),
        [key("a")]
    );
    let mut seen = inbox.seen();
    seen.sort();
    assert_eq!(seen, ["error forbidden a", "snapshot b@2"]);
    tell(&mut partition, 3, 0, &TOLD);
    assert_eq!(inbox.seen(), [""; 0]);
    assert_eq!(partition.admit(1, &inbox, &rights(Some("c-8"), &["t"])), []);
    assert_eq!(inbox.seen(), [""; 0], "an ended subscription stays ended");
}

#[test]
fn after_leaving_nothing_is_left() {
    let mut partition = partition();
    let inbox = joined(&mut partition, 1, 99);
    partition.subscribe(1, None, &key("a"), None);
    partition.subscribe_type(1, "t", 7);
    partition.unsubscribe(1, Some(3), &key("a"));
    partition.subscribe(1, None, &key("b"), None);
    partition.leave(1);
    tell(&mut partition, 1, 0, &TOLD);
    assert_eq!(inbox.seen(), ["waiting", "unsubscribed", "waiting"]);
    assert!(partition.watchers.is_empty() && partition.type_watchers.is_empty());
    assert!(partition.sessions.is_empty());
}

#[test]
fn a_whole_type_comes_as_there_is_room_and_then_lives() {
    let mut partition = partition();
    for (offset, id) in (1..).zip(["a", "b", "c"]) {
        tell(
            &mut partition,
            offset,
            0,
            &Told {
                saga_id: id,
                ..TOLD
            },
        );
    }
    let inbox = joined(&mut partition, 1, 2);
    assert_eq!(partition.subscribe_type(1, "t", 7), None);
    assert_eq!(inbox.seen(), ["snapshot a@1", "snapshot b@2"]);
    // Visited: a change. Not visited yet: the walk comes by.
    tell(
        &mut partition,
        4,
        0,
        &Told {
            saga_id: "a",
            ..TOLD
        },
    );
    tell(
        &mut partition,
        5,
        0,
        &Told {
            saga_id: "c",
            ..TOLD
        },
    );
    assert_eq!(partition.drained(1).unwrap().1, [7]);
    assert_eq!(inbox.seen(), ["change a@4", "snapshot c@5"]);
    tell(
        &mut partition,
        6,
        0,
        &Told {
            saga_id: "d",
            ..TOLD
        },
    );
    assert_eq!(inbox.seen(), ["change d@6"]);
    partition.unsubscribe_type(1, "t");
    tell(
        &mut partition,
        7,
        0,
        &Told {
            saga_id: "d",
            ..TOLD
        },
    );
    assert_eq!(inbox.seen(), [""; 0]);
}

#[test]
fn a_list_is_stalest_first_and_goes_on_after_a_place() {
    let mut partition = partition();
    for (offset, id) in (1..).zip(["c", "a", "b", "a"]) {
        tell(
            &mut partition,
            offset,
            offset,
            &Told {
                saga_id: id,
                ..TOLD
            },
        );
    }
    let all = Filter {
        limit: 2,
        ..Filter::default()
    };
    let seen = |filter: &Filter, rights: &Rights| -> Vec<_> {
        let listed = partition.list(filter, rights);
        listed.into_iter().map(|listed| listed.place).collect()
    };
    let granted = rights(None, &["t"]);
    assert_eq!(seen(&all, &granted), [(1, 1), (3, 3)]);
    let rest = Filter {
        after: Some((3, 3)),
        ..all.clone()
    };
    assert_eq!(seen(&rest, &granted), [(4, 4)]);
    let other = Filter {
        state: Some("X".into()),
        ..all.clone()
    };
    assert_eq!(seen(&other, &granted), []);
    assert_eq!(
        seen(&all, &rights(Some("c-7"), &["u"])),
        [],
        "own sagas are no list"
    );
}

/// A partition whose sagas of type `t` have a limit of a second in each state but the last, and the client's room.
fn limited() -> Partition<Inbox> {
    let state = |name: &str, next: &[&str]| crate::logic::saga::definition::State {
        name: name.into(),
        kind: crate::logic::saga::definition::StateKind::Initial,
        limit: Some(Duration::from_secs(1)),
        next: next.iter().map(|name| (*name).into()).collect(),
        outcome: None,
    };
    let definition = crate::logic::saga::Definition {
        saga_type: "t".into(),
        version: 1,
        since: None,
        states: vec![state("S", &["T"]), state("T", &["S"])],
        steps: Vec::new(),
    };
    let keep = Keep {
        history: Duration::from_secs(3600),
        finished: Duration::from_secs(3600),
    };
    let mut partition = Partition::new(0, keep, RING, true);
    partition.define(&Arc::new([definition].into_iter().collect()));
    partition
}

/// A relay says at this time that everything is published. Which sagas are stuck by that?
fn beat(partition: &mut Partition<Inbox>, offset: i64, ms: i64) -> usize {
    let until = Timestamp(ms * 1000).to_rfc3339().unwrap();
    let value = serde_json::json!({"v": 1, "source": "orders", "published_until": until});
    let applied = partition.apply(offset, ms, value.to_string().as_bytes(), |_| ());
    let Applied::PublishedUntil(stuck) = applied else {
        panic!("{applied:?}");
    };
    stuck.len()
}

#[test]
fn sagas_that_one_record_finds_stuck_share_a_version_and_keep_their_chains() {
    let mut partition = limited();
    let told = |partition: &mut _, offset, ms, id| {
        tell(
            partition,
            offset,
            ms,
            &Told {
                saga_id: id,
                ..TOLD
            },
        );
    };
    for (offset, id) in (1..).zip(["a", "b", "c"]) {
        told(&mut partition, offset, 0, id);
    }
    let inbox = joined(&mut partition, 1, 99);
    for (id, offset) in [("a", 1), ("b", 2)] {
        partition.subscribe(1, None, &key(id), Some(offset));
    }
    inbox.read();
    assert_eq!(beat(&mut partition, 4, 1000), 0, "just in time");
    assert_eq!(beat(&mut partition, 5, 1001), 3);
    assert_eq!(beat(&mut partition, 6, 9000), 0, "raised once");
    let changes = inbox.read();
    let seen: Vec<_> = changes
        .iter()
        .map(|it| {
            (
                short(it),
                it["previous"].as_i64().unwrap(),
                it["stuck_since"].clone(),
            )
        })
        .collect();
    let since = serde_json::json!("1970-01-01T00:00:01.000000Z");
    assert_eq!(
        seen,
        [
            ("change a@5".to_owned(), 1, since.clone()),
            ("change b@5".to_owned(), 2, since)
        ]
    );
    // Whoever was away gets this change of this saga, on any instance.
    for (id, offset) in [("a", 1), ("b", 2), ("c", 3)] {
        let given = partition.subscribe(1, None, &key(id), Some(offset));
        assert_eq!(given, Given::Changes);
        assert_eq!(inbox.seen(), ["resumed", &format!("change {id}@5")]);
        assert_eq!(
            partition.subscribe(1, None, &key(id), Some(5)),
            Given::Current
        );
        inbox.read();
    }
    told(&mut partition, 7, 9000, "b");
    let cleared = inbox.read();
    assert_eq!(
        (short(&cleared[0]), &cleared[0]["previous"]),
        ("change b@7".to_owned(), &5.into())
    );
    assert!(
        cleared[0]["stuck_since"].is_null()
            && cleared[0].as_object().unwrap().contains_key("stuck_since")
    );
    // Nothing new for a limit's time: it is stuck again.
    assert_eq!(beat(&mut partition, 8, 10_000), 0);
    assert_eq!(beat(&mut partition, 9, 10_001), 1);
    assert_eq!(short(&inbox.read()[0]), "change b@9");
}

#[test]
fn the_stuck_are_listed_by_the_last_report_on_them() {
    let mut partition = limited();
    for (offset, id) in (1..).zip(["b", "a", "c", "d"]) {
        tell(
            &mut partition,
            offset,
            offset,
            &Told {
                saga_id: id,
                ..TOLD
            },
        );
    }
    assert_eq!(beat(&mut partition, 5, 2000), 4);
    tell(
        &mut partition,
        6,
        2000,
        &Told {
            saga_id: "a",
            ..TOLD
        },
    );
    let mut filter = Filter {
        stuck: true,
        limit: 2,
        ..Filter::default()
    };
    let granted = rights(None, &["*"]);
    let listed = |filter: &Filter| -> Vec<_> {
        let listed = partition.list(filter, &granted);
        listed.into_iter().map(|one| one.place).collect()
    };
    assert_eq!(listed(&filter), [(1, 1), (3, 3)]);
    filter.after = Some((3, 3));
    assert_eq!(listed(&filter), [(4, 4)]);
    filter.stuck = false;
    assert_eq!(listed(&filter), [(4, 4), (2000, 6)]);
}

#[test]
fn a_forgotten_saga_is_never_stuck() {
    let mut partition = limited();
    partition.keep.history = Duration::from_millis(500);
    tell(&mut partition, 1, 0, &TOLD);
    partition.apply(2, 501, b"", |_| ());
    assert_eq!(beat(&mut partition, 3, 2000), 0);
    assert_eq!(partition.states().count(), 0);
}

#[test]
fn a_saga_keeps_the_definition_that_it_began_with() {
    let mut partition = limited();
    tell(&mut partition, 1, 0, &TOLD);
    partition.define(&Arc::default());
    tell(
        &mut partition,
        2,
        0,
        &Told {
            saga_id: "b",
            ..TOLD
        },
    );
    assert_eq!(beat(&mut partition, 3, 1001), 1);
    let defined: Vec<_> = partition
        .states()
        .map(|it| it.definition.is_some())
        .collect();
    assert_eq!(defined, [true, false]);
}

/// The client of the contract: version and state by saga, or the complaint that there is a gap.
#[derive(Debug, Default)]
struct Client {
    sagas: HashMap<String, (i64, String)>,
}

impl Client {
    fn take(&mut self, frame: &Value) -> Result<(), String> {
        let id = frame["saga_id"].as_str().unwrap_or_default().to_owned();
        let state = frame["state"].as_str().unwrap_or_default().to_owned();
        let version = frame["version"].as_i64();
        let have = self.sagas.get(&id).map(|(version, _)| *version);
        match (frame["type"].as_str().unwrap_or_default(), version) {
            ("snapshot", Some(version)) if Some(version) >= have => {
                self.sagas.insert(id, (version, state));
            }
            ("change", Some(version)) if frame["previous"].as_i64() == have => {
                let known = self.sagas.remove(&id).unwrap_or_default().1;
                let state = if state.is_empty() { known } else { state };
                self.sagas.insert(id, (version, state));
            }
            ("change", version) if version > have => {
                return Err(format!("gap: {frame} after {have:?}"));
            }
            _ => {}
        }
        Ok(())
    }
}

#[derive(Debug, Clone)]
enum Step {
    Tell(u8),
    Beat,
    Read,
    Drained,
    Comeback { forgetful: bool },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..4_u8).prop_map(Step::Tell),
        2 => Just(Step::Beat),
        2 => Just(Step::Read),
        2 => Just(Step::Drained),
        1 => any::<bool>().prop_map(|forgetful| Step::Comeback { forgetful }),
    ];
    prop::collection::vec(step, 1..80)
}

proptest! {
    /// However small the queue, however often a client comes back: no gap, and in the end the last state.
    #[test]
    fn no_gap_and_the_last_state(steps in steps(), room in 1..5_usize, whole_type in any::<bool>()) {
        let mut partition = limited();
        let mut ms = 0;
        let ids = ["a", "b", "c", "d"];
        let mut client = Client::default();
        let granted = rights(Some("c-7"), &["t"]);
        let mut last: HashMap<&str, String> = HashMap::new();
        let mut session = 0;
        let mut inbox = Inbox::with(room);
        let come = |partition: &mut Partition<Inbox>, client: &Client, session: u64, inbox: &Inbox| {
            partition.admit(session, inbox, &granted);
            if whole_type {
                partition.subscribe_type(session, "t", session);
                return;
            }
            for id in ids {
                let has = client.sagas.get(id).map(|(version, _)| *version);
                partition.subscribe(session, None, &key(id), has);
            }
        };
        come(&mut partition, &client, session, &inbox);
        for (step, offset) in steps.iter().zip(1_i64..) {
            match step {
                Step::Tell(saga) => {
                    let id = ids[usize::from(*saga)];
                    let state = format!("S{offset}");
                    let state = if offset % 2 == 0 { "S" } else { state.as_str() };
                    tell(&mut partition, offset, ms, &Told { saga_id: id, state: Some(state), ..TOLD });
                    last.insert(id, state.to_owned());
                }
                // Those in state S are stuck then.
                Step::Beat => {
                    ms += 1500;
                    beat(&mut partition, offset, ms);
                }
                Step::Read => {
                    for frame in inbox.read() {
                        prop_assert_eq!(client.take(&frame), Ok(()));
                    }
                }
                Step::Drained => {
                    partition.drained(session);
                }
                Step::Comeback { forgetful } => {
                    partition.leave(session);
                    session += 1;
                    inbox = Inbox::with(room);
                    if *forgetful {
                        client = Client::default();
                    }
                    come(&mut partition, &client, session, &inbox);
                }
            }
        }
        loop {
            let frames = inbox.read();
            partition.drained(session);
            if frames.is_empty() && inbox.0.borrow().frames.is_empty() {
                break;
            }
            for frame in frames {
                prop_assert_eq!(client.take(&frame), Ok(()));
            }
        }
        for (id, state) in last {
            prop_assert_eq!(client.sagas.get(id).map(|(_, state)| state), Some(&state));
        }
    }
}

/// What one partition of the log says, in short.
#[derive(Debug, Clone)]
enum Written {
    Report {
        saga: u8,
        source: u8,
        state: bool,
        ends: bool,
    },
    Until {
        source: u8,
        behind_ms: i64,
    },
    Nothing,
}

fn log() -> impl Strategy<Value = Vec<(Written, i64)>> {
    let report = (0..5_u8, 0..3_u8, any::<bool>(), prop::bool::weighted(0.1));
    let written = prop_oneof![
        3 => report.prop_map(|(saga, source, state, ends)| Written::Report { saga, source, state, ends }),
        3 => (0..3_u8, 0..3000_i64).prop_map(|(source, behind_ms)| Written::Until { source, behind_ms }),
        1 => Just(Written::Nothing),
    ];
    // Now and then nobody says anything for long.
    let pause = prop_oneof![20 => 0..800_i64, 1 => 60_000..200_000_i64];
    prop::collection::vec((written, pause), 1..120)
}

fn value(written: &Written, offset: i64, ms: i64) -> Vec<u8> {
    let at = |ms: i64| Timestamp(ms * 1000).to_rfc3339().unwrap();
    match written {
        Written::Report {
            saga,
            source,
            state,
            ends,
        } => {
            let state = state.then(|| ["S", "T"][usize::from(*saga) % 2]);
            let value = serde_json::json!({
                "v": 1, "saga_type": "t", "saga_id": saga.to_string(), "user": "c-7", "state": state,
                "outcome": ends.then_some("failed"), "event_type": "E",
                "event_id": uuid::Uuid::from_u128(u128::try_from(offset).unwrap()),
                "source": format!("s{source}"), "at": at(ms),
            });
            value.to_string().into_bytes()
        }
        Written::Until { source, behind_ms } => {
            let until = at((ms - behind_ms).max(0));
            let value = serde_json::json!({"v": 1, "source": format!("s{source}"), "published_until": until});
            value.to_string().into_bytes()
        }
        Written::Nothing => b"{".to_vec(),
    }
}

/// A reader that knows nothing of this code: every saga, every source, and the rule of docs/sagas.md, the long way round.
#[derive(Default)]
struct Naive {
    sources: HashMap<String, (Option<i64>, i64)>,
    taking_part: HashSet<String>,
    until: Option<i64>,
    sagas: BTreeMap<String, NaiveSaga>,
}

#[derive(Debug, Default, Clone, PartialEq)]
struct NaiveSaga {
    version: i64,
    home: Option<String>,
    state: Option<String>,
    ended: bool,
    stuck: bool,
    /// When its time is over, and how long outages were since then, in ms.
    due: Option<(i64, i64)>,
}

impl Naive {
    fn read(&mut self, offset: i64, ms: i64, value: &[u8]) {
        let Ok(value) = serde_json::from_slice::<Value>(value) else {
            return;
        };
        let source = value["source"].as_str().unwrap().to_owned();
        if let Some(until) = value["published_until"].as_str() {
            let until = Timestamp::from_rfc3339(until).unwrap().0 / 1000;
            self.sources.insert(source, (Some(until), ms));
            return self.look(offset, ms);
        }
        self.taking_part.insert(source.clone());
        self.sources.entry(source.clone()).or_insert((None, ms));
        let saga = self
            .sagas
            .entry(value["saga_id"].as_str().unwrap().to_owned())
            .or_default();
        saga.version = offset;
        let mut anew = std::mem::take(&mut saga.stuck);
        if let Some(state) = value["state"].as_str() {
            let home = saga.home.get_or_insert(source.clone());
            if *home == source {
                anew |= saga.state.as_deref() != Some(state);
                saga.state = Some(state.to_owned());
            }
        }
        if !value["outcome"].is_null() && saga.home.as_ref() == Some(&source) {
            saga.ended = true;
        }
        if anew {
            saga.due = saga.state.is_some().then_some((ms + 1000, 0));
        }
        if saga.ended {
            saga.due = None;
        }
    }

    fn look(&mut self, offset: i64, ms: i64) {
        let counted = self.taking_part.iter().map(|source| self.sources[source]);
        let counted: Vec<_> = counted
            .filter(|(_, heard)| ms - heard <= 3_600_000)
            .collect();
        if counted.is_empty() || counted.iter().any(|(until, _)| until.is_none()) {
            return;
        }
        let until = counted
            .iter()
            .map(|(until, _)| until.unwrap())
            .min()
            .unwrap();
        let leap = until - self.until.replace(until).unwrap_or(until);
        for saga in self.sagas.values_mut() {
            if let Some((due, away)) = &mut saga.due {
                *away += if leap > 60_000 { leap } else { 0 };
                if *due + *away < until {
                    (saga.stuck, saga.version, saga.due) = (true, offset, None);
                }
            }
        }
    }
}

proptest! {
    /// Whoever reads the log, in whatever pieces and with whomever watching, comes to the same; and so does a reader of another kind.
    #[test]
    fn everybody_finds_the_same_sagas_stuck(log in log(), clients in 0..3_u64) {
        let (mut one, mut other) = (limited(), limited());
        let mut naive = Naive::default();
        let inbox = Inbox::with(1);
        let (mut ms, mut told) = (0, Vec::new());
        for ((written, pause), offset) in log.iter().zip(1..) {
            ms += pause;
            let value = value(written, offset, ms);
            // One has clients that come and go; the other has none.
            one.admit(clients, &inbox, &rights(Some("c-7"), &["t"]));
            one.subscribe(clients, None, &key("1"), Some(offset / 2));
            let here = format!("{:?}", one.apply(offset, ms, &value, |_| ()));
            one.leave(clients);
            let there = format!("{:?}", other.apply(offset, ms, &value, |_| ()));
            prop_assert_eq!(&here, &there);
            told.push(here);
            naive.read(offset, ms, &value);
        }
        for (id, expected) in &naive.sagas {
            let saga = &of(&other.sagas, &key(id)).unwrap().saga;
            prop_assert_eq!(saga.version, expected.version, "{} {:?}", id, told);
            prop_assert_eq!(saga.stuck_since.is_some(), expected.stuck, "{}", id);
            prop_assert_eq!(saga.state.as_deref(), expected.state.as_deref(), "{}", id);
        }
        let rights = rights(None, &["*"]);
        let everything = |partition: &Partition<Inbox>| -> Vec<String> {
            let ids = naive.sagas.keys();
            ids.map(|id| partition.snapshot(&key(id), &rights, "e").unwrap().1).collect()
        };
        prop_assert_eq!(everything(&one), everything(&other));
    }
}
