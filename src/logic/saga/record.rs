//! Reads one record of the saga topic. Never trusts it: whoever may write to the topic may write nonsense.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::logic::event::Timestamp;

/// What a record of the saga topic says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A service reports on a saga.
    Report(Report),
    /// A relay says how far a source is published.
    PublishedUntil {
        /// The source.
        source: String,
        /// Everything that was committed before is in the log.
        until: Timestamp,
    },
}

/// What one event says of its saga.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The saga's type.
    pub saga_type: String,
    /// Unique within the type.
    pub saga_id: String,
    /// Who may watch it.
    pub user: Option<String>,
    /// The state that the home service set.
    pub state: Option<String>,
    /// The end that the home service set.
    pub outcome: Option<Outcome>,
    /// A participant's step.
    pub step: Option<String>,
    /// How that step is doing.
    pub status: Option<StepStatus>,
    /// What happened.
    pub event_type: String,
    /// Identity of the event.
    pub event_id: Uuid,
    /// The source that reported it.
    pub source: String,
    /// Time of the insert.
    pub at: Timestamp,
}

/// How a saga ended.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "outcome")]
#[expect(missing_docs, reason = "the contract's words")]
pub enum Outcome {
    Completed,
    Rejected,
    Failed,
    Cancelled,
    TimedOut,
}

impl Outcome {
    /// Every one.
    pub const ALL: [Self; 5] = [
        Self::Completed,
        Self::Rejected,
        Self::Failed,
        Self::Cancelled,
        Self::TimedOut,
    ];

    /// The contract's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed_out",
        }
    }
}

/// How a step is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "step_status")]
#[expect(missing_docs, reason = "the contract's words")]
pub enum StepStatus {
    Pending,
    Done,
    Failed,
    Compensating,
    Compensated,
    CompensationFailed,
    Skipped,
}

impl StepStatus {
    /// Whether the step still has work before it.
    pub fn is_under_way(self) -> bool {
        matches!(self, Self::Pending | Self::Compensating)
    }
}

/// Why a record is skipped. Each is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    /// Not what a relay writes.
    Malformed,
    /// From a later version.
    Unknown,
}

/// Every field of either kind of record; fields that are not named here are ignored.
#[derive(Deserialize)]
struct Raw<'a> {
    v: u64,
    saga_type: Option<String>,
    saga_id: Option<String>,
    user: Option<String>,
    state: Option<String>,
    outcome: Option<Outcome>,
    step: Option<String>,
    status: Option<StepStatus>,
    event_type: Option<String>,
    event_id: Option<Uuid>,
    source: Option<String>,
    #[serde(borrow)]
    at: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow)]
    published_until: Option<std::borrow::Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Version {
    v: u64,
}

impl Record {
    /// Reads the value of a record.
    ///
    /// # Errors
    /// What is not of version 1, or lacks what version 1 has.
    pub fn read(value: &[u8]) -> Result<Self, Unreadable> {
        // A list would be taken for an object whose fields come in order.
        if !value.trim_ascii_start().starts_with(b"{") {
            return Err(Unreadable::Malformed);
        }
        let raw: Raw<'_> = serde_json::from_slice(value).map_err(|_| {
            // A later version may have other types in fields of the same names.
            match serde_json::from_slice(value) {
                Ok(Version { v }) if v != 1 => Unreadable::Unknown,
                Ok(_) | Err(_) => Unreadable::Malformed,
            }
        })?;
        if raw.v != 1 {
            return Err(Unreadable::Unknown);
        }
        raw.record().ok_or(Unreadable::Malformed)
    }
}

impl Raw<'_> {
    fn record(self) -> Option<Record> {
        let source = filled(self.source)?;
        if let Some(until) = self.published_until {
            let until = Timestamp::from_rfc3339(&until)?;
            return Some(Record::PublishedUntil { source, until });
        }
        let step = filled(self.step);
        Some(Record::Report(Report {
            saga_type: filled(self.saga_type)?,
            saga_id: filled(self.saga_id)?,
            user: filled(self.user),
            state: filled(self.state),
            outcome: self.outcome,
            // A table takes a status without a step; it says nothing.
            status: self.status.filter(|_| step.is_some()),
            step,
            event_type: filled(self.event_type)?,
            event_id: self.event_id?,
            source,
            at: Timestamp::from_rfc3339(&self.at?)?,
        }))
    }
}

fn filled(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const REPORT: &str = r#"{"v":1,"saga_type":"create-order","saga_id":"o-42","user":"c-7","state":"APPROVED","outcome":"completed","step":null,"status":null,"event_type":"OrderApproved","event_id":"00000000-0000-0000-0000-000000000007","source":"orders","at":"2026-11-21T10:00:00.123456Z"}"#;

    #[test]
    fn a_report_is_read_as_the_contract_writes_it() {
        let Ok(Record::Report(report)) = Record::read(REPORT.as_bytes()) else {
            panic!("not read");
        };
        assert_eq!(report.saga_id, "o-42");
        assert_eq!(report.user.as_deref(), Some("c-7"));
        assert_eq!(report.outcome, Some(Outcome::Completed));
        assert_eq!(report.step, None);
        assert_eq!(report.at, Timestamp(1_795_255_200_123_456));
    }

    #[test]
    fn fields_of_a_later_version_are_ignored() {
        let more = REPORT.replace(r#""v":1"#, r#""v":1,"colour":["red"]"#);
        assert!(Record::read(more.as_bytes()).is_ok());
    }

    #[test]
    fn how_far_a_source_is_published_is_read() {
        let value = br#"{"v":1,"source":"orders","published_until":"1970-01-01T00:00:00.000005Z"}"#;
        let expected = Record::PublishedUntil {
            source: "orders".into(),
            until: Timestamp(5),
        };
        assert_eq!(Record::read(value), Ok(expected));
    }

    #[test]
    fn a_status_without_a_step_says_nothing() {
        let value = REPORT.replace(r#""status":null"#, r#""status":"done""#);
        let Ok(Record::Report(report)) = Record::read(value.as_bytes()) else {
            panic!("not read");
        };
        assert_eq!((report.step, report.status), (None, None));
    }

    #[test]
    fn another_version_is_unknown_and_not_malformed() {
        for other in [
            r#"{"v":2,"state":{"name":"X"}}"#.to_owned(),
            REPORT.replace(r#""v":1"#, r#""v":2"#),
        ] {
            assert_eq!(Record::read(other.as_bytes()), Err(Unreadable::Unknown));
        }
    }

    #[test]
    fn what_a_report_must_have_is_missed() {
        let broken = [
            "",
            "{}",
            "[]",
            "\u{1}",
            r#"{"v":1}"#,
            r#"{"v":1,"source":"orders"}"#,
            r#"[1,null,null,null,null,null,null,null,null,null,"orders",null,"2026-11-21T10:00:00Z"]"#,
            r#"{"v":1,"source":"orders","published_until":"yesterday"}"#,
        ];
        let less = [
            (r#""saga_id":"o-42""#, r#""saga_id":"""#),
            (r#""saga_type":"create-order","#, ""),
            (r#""outcome":"completed""#, r#""outcome":"won""#),
            (r#"000000000007"#, "7"),
            (r#"10:00:00.123456Z"#, "25:00:00Z"),
        ];
        let less = less.map(|(from, to)| REPORT.replace(from, to));
        for value in broken.iter().map(|text| (*text).to_owned()).chain(less) {
            let read = Record::read(value.as_bytes());
            assert_eq!(read, Err(Unreadable::Malformed), "{value}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(value in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Record::read(&value);
        }

        #[test]
        fn no_damage_panics(at in 0..REPORT.len(), with in any::<u8>()) {
            let mut value = REPORT.as_bytes().to_vec();
            value[at] = with;
            let _ = Record::read(&value);
        }
    }
}
