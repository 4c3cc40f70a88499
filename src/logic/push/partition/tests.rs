//! Holds a partition to the client rule of the contract. Never looks at more than a client gets.

use std::cell::RefCell;
use std::rc::Rc;

use proptest::prelude::*;
use serde_json::Value;

use super::*;

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
        saga_type: None,
        state: None,
        stuck: false,
        after: (i64::MIN, i64::MIN),
        limit: 2,
    };
    let seen = |filter: &Filter, rights: &Rights| -> Vec<_> {
        let listed = partition.list(filter, rights);
        listed.into_iter().map(|listed| listed.place).collect()
    };
    let granted = rights(None, &["t"]);
    assert_eq!(seen(&all, &granted), [(1, 1), (3, 3)]);
    let rest = Filter {
        after: (3, 3),
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
    Read,
    Drained,
    Comeback { forgetful: bool },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..4_u8).prop_map(Step::Tell),
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
        let mut partition = partition();
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
                    tell(&mut partition, offset, 0, &Told { saga_id: id, state: Some(&state), ..TOLD });
                    last.insert(id, state);
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
