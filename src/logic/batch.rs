//! What of a read goes into the next transaction, and what is refused before Kafka is even asked.
//!
//! Never drops a row: each ends as a record, as a refusal, or was published before a crash.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::event::{Event, Timestamp};
use super::record::{self, Record};
use super::refusal::{Reason, Refusal, Release};

/// A row's identity: ids can come again after a fail-over, so the event's own id is part of it.
pub type RowId = (i64, Uuid);

/// What goes into one Kafka transaction, checkpoint apart.
#[derive(Debug, Default)]
pub struct Batch {
    /// The rows that `records` came from, one each, in the same order.
    pub rows: Vec<Row>,
    /// The events.
    pub records: Vec<Record>,
    /// The saga records of all rows whose turn has come, refused ones included.
    pub sagas: Vec<Record>,
    /// The rows that go to the dead letters instead.
    pub refused: Vec<(RowId, Refusal)>,
    /// Rows that were found published already.
    pub suppressed: usize,
}

/// What is remembered of a row while its record is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Which row.
    pub id: RowId,
    /// When it was inserted.
    pub created_at: Timestamp,
}

impl Batch {
    /// Whether there is anything to say to Kafka.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.refused.is_empty()
    }
}

/// Whether records can go to a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicState {
    /// It is there.
    Usable,
    /// It is there, and compacted: it takes nothing without a key.
    Keyed,
    /// The cluster does not know it.
    Missing,
    /// The cluster does not let us see it.
    Denied,
}

/// Whose later events have to queue.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Blocked {
    /// Topics that wait for Kafka, each with its reason.
    pub topics: HashMap<String, Reason>,
    /// Keys that wait for an operator, by topic.
    pub keys: HashMap<String, HashSet<String>>,
}

impl Blocked {
    fn has_key(&self, topic: &str, key: Option<&str>) -> bool {
        key.is_some_and(|key| self.keys.get(topic).is_some_and(|keys| keys.contains(key)))
    }

    /// Makes a key wait.
    pub fn block_key(&mut self, topic: &str, key: &str) {
        self.keys
            .entry(topic.to_owned())
            .or_default()
            .insert(key.to_owned());
    }
}

impl TopicState {
    /// Whether it is there.
    pub fn is_usable(self) -> bool {
        matches!(self, Self::Usable | Self::Keyed)
    }
}

/// What a plan depends on besides the rows.
#[derive(Debug)]
pub struct Plan<'a> {
    /// The source's name.
    pub source: &'a str,
    /// First word of outboxd's own topics.
    pub prefix: &'a str,
    /// The saga topic.
    pub sagas: &'a str,
    /// Whether a refused event blocks its key.
    pub block_keys: bool,
    /// Rows published before a crash.
    pub ahead: &'a HashSet<i64>,
    /// Rows that Kafka has refused in a transaction that was then aborted.
    pub known: &'a HashMap<RowId, Refusal>,
    /// Every topic of the rows.
    pub topics: &'a HashMap<String, TopicState>,
}

impl Plan<'_> {
    /// Sorts rows into a batch; `blocked` learns of the keys and topics that wait from now on.
    pub fn batch(&self, events: Vec<Event>, blocked: &mut Blocked, now_ms: i64) -> Batch {
        let mut batch = Batch::default();
        batch.records.reserve(events.len());
        batch.rows.reserve(events.len());
        for event in events {
            if !self.ahead.is_empty() && self.ahead.contains(&event.id) {
                batch.suppressed += 1;
                continue;
            }
            let row = Row {
                id: (event.id, event.event_id),
                created_at: event.created_at,
            };
            if let Some(saga) = &event.saga {
                batch
                    .sagas
                    .extend(record::saga(self.sagas, self.source, &event, saga, now_ms));
            }
            match self.refusal(&event, row.id, blocked) {
                Some(refusal) => {
                    self.block(&event, &refusal, blocked);
                    batch.refused.push((row.id, refusal));
                }
                None => {
                    batch.rows.push(row);
                    batch
                        .records
                        .push(record::event(self.source, event, now_ms));
                }
            }
        }
        batch
    }

    /// Why an event is not sent; `None` if it is.
    ///
    /// A blocked key comes first: a row that waited for its topic must not overtake one that waits
    /// for an operator.
    fn refusal(&self, event: &Event, id: RowId, blocked: &Blocked) -> Option<Refusal> {
        if blocked.has_key(&event.topic, event.key.as_deref()) {
            return Some(Refusal::new(
                Reason::Behind,
                "an earlier event of this key was refused",
            ));
        }
        if let Some(reason) = blocked.topics.get(&event.topic) {
            return Some(Refusal::new(*reason, "waits for its topic"));
        }
        if let Some(refusal) = self.known.get(&id) {
            return Some(refusal.clone());
        }
        if is_reserved(&event.topic, self.prefix, self.sagas) {
            return Some(Refusal::new(
                Reason::Reserved,
                "the topic is outboxd's own or Kafka's",
            ));
        }
        if let Some(reason) = record::unfit(event) {
            return Some(Refusal::new(
                reason,
                "the row cannot be made a Kafka record",
            ));
        }
        match self.topics.get(&event.topic)? {
            TopicState::Keyed if event.key.is_none() => Some(Refusal::new(
                Reason::Invalid,
                "the topic is compacted, and takes no event without a key",
            )),
            TopicState::Usable | TopicState::Keyed => None,
            TopicState::Missing => Some(Refusal::new(
                Reason::TopicMissing,
                "the topic does not exist",
            )),
            TopicState::Denied => Some(Refusal::new(
                Reason::TopicDenied,
                "the topic may not be written to: grant Write and Describe on it",
            )),
        }
    }

    fn block(&self, event: &Event, refusal: &Refusal, blocked: &mut Blocked) {
        match (refusal.release, &event.key) {
            (Release::Auto, _) => {
                blocked
                    .topics
                    .entry(event.topic.clone())
                    .or_insert(refusal.reason);
            }
            (Release::Manual, Some(key)) if self.block_keys => {
                blocked.block_key(&event.topic, key);
            }
            (Release::Manual, _) => {}
        }
    }
}

/// Whether a topic belongs to outboxd or to Kafka itself.
pub fn is_reserved(topic: &str, prefix: &str, sagas: &str) -> bool {
    let checkpoint = topic
        .strip_prefix(prefix)
        .is_some_and(|rest| rest.starts_with(".checkpoints."));
    topic.starts_with("__") || topic == sagas || checkpoint
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::event::{Payload, Saga};

    struct Case {
        ahead: HashSet<i64>,
        known: HashMap<RowId, Refusal>,
        topics: HashMap<String, TopicState>,
        block_keys: bool,
        blocked: Blocked,
    }

    impl Case {
        fn new() -> Self {
            let topics = [
                ("orders", TopicState::Usable),
                ("gone", TopicState::Missing),
                ("secret", TopicState::Denied),
                ("compacted", TopicState::Keyed),
            ];
            Self {
                ahead: HashSet::new(),
                known: HashMap::new(),
                topics: topics.map(|(name, state)| (name.to_owned(), state)).into(),
                block_keys: true,
                blocked: Blocked::default(),
            }
        }

        fn batch(&mut self, events: Vec<Event>) -> Batch {
            let plan = Plan {
                source: "s",
                prefix: "outboxd",
                sagas: "outboxd.sagas",
                block_keys: self.block_keys,
                ahead: &self.ahead,
                known: &self.known,
                topics: &self.topics,
            };
            plan.batch(events, &mut self.blocked, 0)
        }
    }

    fn event(id: i64, topic: &str, key: &str) -> Event {
        Event {
            id,
            event_id: Uuid::from_u128(id.unsigned_abs().into()),
            topic: topic.into(),
            key: (!key.is_empty()).then(|| key.into()),
            event_type: "E".into(),
            kind: None,
            payload: Some(Payload::Text("{}".into())),
            content_type: None,
            headers: Ok(Vec::new()),
            correlation_id: None,
            causation_id: None,
            reply_to: None,
            reply_outcome: None,
            saga: Some(Saga {
                saga_type: "t".into(),
                saga_id: key.into(),
                ..Saga::default()
            }),
            traceparent: None,
            tracestate: None,
            created_at: Timestamp(id),
        }
    }

    fn sent(batch: &Batch) -> Vec<i64> {
        batch.rows.iter().map(|row| row.id.0).collect()
    }

    fn refused(batch: &Batch) -> Vec<(i64, Reason)> {
        batch
            .refused
            .iter()
            .map(|(id, refusal)| (id.0, refusal.reason))
            .collect()
    }

    #[test]
    fn a_compacted_topic_takes_nothing_without_a_key() {
        let mut case = Case::new();
        let batch = case.batch(vec![event(1, "compacted", ""), event(2, "compacted", "a")]);
        let refused: Vec<_> = batch
            .refused
            .iter()
            .map(|((id, _), it)| (*id, it.reason))
            .collect();
        assert_eq!(refused, [(1, Reason::Invalid)]);
        assert_eq!(
            batch.rows.iter().map(|row| row.id.0).collect::<Vec<_>>(),
            [2]
        );
    }

    #[test]
    fn rows_published_before_a_crash_are_left_out_with_their_sagas() {
        let mut case = Case::new();
        case.ahead = HashSet::from([2]);
        let batch = case.batch((1..=3).map(|id| event(id, "orders", "k")).collect());
        assert_eq!(sent(&batch), [1, 3]);
        assert_eq!((batch.suppressed, batch.sagas.len()), (1, 2));
    }

    #[test]
    fn a_key_queues_behind_its_refused_event_and_others_go_on() {
        let mut case = Case::new();
        case.known = HashMap::from([(
            (1, Uuid::from_u128(1)),
            Refusal::new(Reason::TooLarge, "2 MiB"),
        )]);
        let rows = vec![
            event(1, "orders", "a"),
            event(2, "orders", "b"),
            event(3, "orders", "a"),
        ];
        let batch = case.batch(rows);
        assert_eq!(sent(&batch), [2]);
        assert_eq!(
            refused(&batch),
            [(1, Reason::TooLarge), (3, Reason::Behind)]
        );
        assert_eq!(batch.sagas.len(), 3, "sagas go on");
        let later = case.batch(vec![event(4, "orders", "a")]);
        assert_eq!(refused(&later), [(4, Reason::Behind)]);
    }

    #[test]
    fn with_skip_and_without_a_key_nothing_queues() {
        let refusal = Refusal::new(Reason::Invalid, "no");
        let known = HashMap::from([((1, Uuid::from_u128(1)), refusal)]);
        let mut skip = Case {
            block_keys: false,
            known: known.clone(),
            ..Case::new()
        };
        assert_eq!(
            sent(&skip.batch(vec![event(1, "orders", "a"), event(2, "orders", "a")])),
            [2]
        );
        let mut keyless = Case {
            known,
            ..Case::new()
        };
        assert_eq!(
            sent(&keyless.batch(vec![event(1, "orders", ""), event(2, "orders", "")])),
            [2]
        );
    }

    #[test]
    fn a_missing_topic_queues_whole_and_others_go_on() {
        let mut case = Case::new();
        let rows = vec![
            event(1, "gone", "a"),
            event(2, "orders", "a"),
            event(3, "secret", "a"),
        ];
        let batch = case.batch(rows);
        assert_eq!(sent(&batch), [2]);
        assert_eq!(
            refused(&batch),
            [(1, Reason::TopicMissing), (3, Reason::TopicDenied)]
        );
        case.topics.insert("gone".into(), TopicState::Usable);
        let later = case.batch(vec![event(4, "gone", "b")]);
        assert_eq!(
            refused(&later),
            [(4, Reason::TopicMissing)],
            "the queue is emptied first"
        );
    }

    #[test]
    fn a_blocked_key_stays_blocked_when_its_topic_is_away_as_well() {
        let mut case = Case::new();
        case.blocked.block_key("gone", "a");
        let batch = case.batch(vec![event(1, "gone", "a")]);
        assert_eq!(refused(&batch), [(1, Reason::Behind)]);
    }

    #[test]
    fn our_own_topics_and_kafkas_are_reserved() {
        for topic in [
            "outboxd.sagas",
            "outboxd.checkpoints.orders",
            "__consumer_offsets",
        ] {
            let batch = Case::new().batch(vec![event(1, topic, "a")]);
            assert_eq!(refused(&batch), [(1, Reason::Reserved)], "{topic}");
        }
        assert!(!is_reserved("outboxd.orders", "outboxd", "outboxd.sagas"));
    }
}
