//! What made a saga: its events one by one, as the log has them. Never judges them; that is the fold's.

use serde::Serialize;

use super::SagaKey;
use super::record::{Outcome, Record, StepStatus};

/// Where the log has a saga's events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trail {
    /// Their offsets, which grow; each is the version of the change that it made.
    pub offsets: Vec<i64>,
    /// Whether these are all that the saga ever had.
    pub whole: bool,
}

#[derive(Serialize)]
struct Told<'a> {
    saga_type: &'a str,
    saga_id: &'a str,
    events: Vec<Event>,
    whole: bool,
}

#[derive(Serialize)]
struct Event {
    version: i64,
    at: String,
    source: String,
    event_type: String,
    event_id: String,
    state: Option<String>,
    outcome: Option<Outcome>,
    step: Option<String>,
    status: Option<StepStatus>,
}

impl Trail {
    /// What is told of the records that were found at its offsets, as JSON.
    pub fn text<'a>(&self, key: &SagaKey, found: impl Iterator<Item = (i64, &'a [u8])>) -> String {
        let read = found.filter_map(|(version, value)| match Record::read(value) {
            Ok(Record::Report(report)) => Some(Event {
                version,
                at: report.at.to_rfc3339().unwrap_or_default(),
                source: report.source,
                event_type: report.event_type,
                event_id: report.event_id.to_string(),
                state: report.state,
                outcome: report.outcome,
                step: report.step,
                status: report.status,
            }),
            Ok(Record::PublishedUntil { .. }) | Err(_) => None,
        });
        let events: Vec<Event> = read.collect();
        let whole = self.whole && events.len() == self.offsets.len();
        let told = Told {
            saga_type: &key.saga_type,
            saga_id: &key.saga_id,
            events,
            whole,
        };
        // Strings and numbers only: this cannot fail.
        serde_json::to_string(&told).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREATED: &str = r#"{"v":1,"saga_type":"t","saga_id":"o","user":"c-7","state":"PENDING","outcome":null,"step":null,"status":null,"event_type":"Created","event_id":"00000000-0000-0000-0000-000000000001","source":"orders","at":"2026-11-21T10:00:00.000000Z"}"#;

    #[test]
    fn events_are_told_without_the_user_and_what_is_missing_is_said() {
        let trail = Trail {
            offsets: vec![4, 7],
            whole: true,
        };
        let key = SagaKey::new("t", "o");
        let told = |found: &[(i64, &str)]| {
            trail.text(&key, found.iter().map(|(at, text)| (*at, text.as_bytes())))
        };
        assert_eq!(
            told(&[(4, CREATED)]),
            r#"{"saga_type":"t","saga_id":"o","events":[{"version":4,"at":"2026-11-21T10:00:00.000000Z","source":"orders","event_type":"Created","event_id":"00000000-0000-0000-0000-000000000001","state":"PENDING","outcome":null,"step":null,"status":null}],"whole":false}"#
        );
        assert!(told(&[(4, CREATED), (7, CREATED)]).ends_with(r#""whole":true}"#));
        assert!(told(&[(4, CREATED), (7, "nonsense")]).ends_with(r#""whole":false}"#));
    }
}
