//! The frames of `outboxd.push.v1`, byte for byte as the contract says. Never decides who gets one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::logic::event::Timestamp;
use crate::logic::saga::definition::Plan;
use crate::logic::saga::record::StepStatus;
use crate::logic::saga::{Change, Outcome, Saga, SagaKey};

/// A frame to one or many clients: JSON on one line, encoded once.
#[derive(Debug)]
pub struct Frame {
    kind: &'static str,
    /// Of a snapshot or a change.
    version: Option<i64>,
    text: Bytes,
    /// Of a change: when it happened, until somebody asks for it.
    happened: Option<Timestamp>,
    written: AtomicBool,
}

impl Frame {
    fn new(
        kind: &'static str,
        version: Option<i64>,
        happened: Option<Timestamp>,
        text: String,
    ) -> Arc<Self> {
        Arc::new(Self {
            kind,
            version,
            text: text.into(),
            happened,
            written: AtomicBool::new(false),
        })
    }

    /// A frame of any text, for tests of what only carries frames.
    #[cfg(test)]
    pub fn of(text: &str) -> Arc<Self> {
        Self::new("change", None, None, text.to_owned())
    }

    /// Its `type`.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// The version of its saga, if it is a snapshot or a change.
    pub fn version(&self) -> Option<i64> {
        self.version
    }

    /// Its JSON.
    pub fn text(&self) -> &str {
        // It was made of a String.
        std::str::from_utf8(&self.text).unwrap_or_default()
    }

    /// The same, shared.
    pub fn bytes(&self) -> Bytes {
        self.text.clone()
    }

    /// When the change happened that is written for the first time now; none ever after.
    pub fn first_write(&self) -> Option<Timestamp> {
        let happened = self.happened?;
        (!self.written.swap(true, Ordering::Relaxed)).then_some(happened)
    }
}

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Request {
    /// Shows a token.
    Auth {
        /// Comes back in the answer.
        id: Option<u64>,
        /// A JWT.
        token: String,
    },
    /// Wants to see a saga, or all of a type.
    Subscribe {
        /// Comes back in the answer.
        id: Option<u64>,
        /// The type.
        saga_type: String,
        /// The saga; none: the whole type.
        saga_id: Option<String>,
        /// What the version is of.
        epoch: Option<String>,
        /// What the client has.
        version: Option<i64>,
    },
    /// Has seen enough.
    Unsubscribe {
        /// Comes back in the answer.
        id: Option<u64>,
        /// The type.
        saga_type: String,
        /// The saga; none: the whole type.
        saga_id: Option<String>,
    },
}

impl Request {
    /// Reads a line.
    ///
    /// # Errors
    /// The line's `id`, if it has one, for the answer that it is no request.
    pub fn read(line: &str) -> Result<Self, Option<u64>> {
        #[derive(Deserialize)]
        struct Id {
            id: Option<u64>,
        }
        // Lists would be taken for objects whose fields come in order.
        if !line.trim_start().starts_with('{') {
            return Err(None);
        }
        serde_json::from_str(line)
            .map_err(|_| serde_json::from_str(line).ok().and_then(|Id { id }| id))
    }
}

/// How a subscription begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "mode")]
pub enum Mode {
    /// The changes after the client's version follow.
    Resumed,
    /// A snapshot follows.
    Snapshot,
    /// Unknown; a snapshot will come.
    Waiting,
    /// Of a whole type: all snapshots are in.
    Live,
}

/// A frame of the server that belongs to one connection.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Reply<'a> {
    /// A token was taken.
    Ready {
        /// The request's; none when the handshake carried the token.
        id: Option<u64>,
        /// What versions are of.
        epoch: &'a str,
        /// When the token expires.
        #[schemars(extend("format" = "date-time"))]
        expires_at: String,
        /// When to show a new one.
        refresh_in_s: u64,
        /// Something comes at least so often.
        heartbeat_s: u64,
    },
    /// A subscription begins.
    Subscribed {
        /// The request's.
        id: Option<u64>,
        /// How.
        mode: Mode,
    },
    /// A subscription has ended.
    Unsubscribed {
        /// The request's.
        id: Option<u64>,
    },
    /// Nothing else was to be said.
    Heartbeat,
    /// The token is about to expire.
    Expiring {
        /// So soon.
        in_s: u64,
    },
    /// Something was not done, or is not done any more.
    Error {
        /// The request's, if there was one.
        id: Option<u64>,
        /// A word for programs.
        code: ErrorCode,
        /// A sentence for people.
        message: &'a str,
        /// Whether the same request may work later.
        retry: bool,
        /// The subscription that ended.
        #[serde(skip_serializing_if = "Option::is_none")]
        saga_type: Option<&'a str>,
        /// The subscription that ended.
        #[serde(skip_serializing_if = "Option::is_none")]
        saga_id: Option<&'a str>,
    },
    /// The last frame.
    Bye {
        /// The close code that follows.
        code: u16,
        /// Its word.
        reason: &'a str,
        /// A reconnect should wait for a random time within; none: do not come back.
        retry_after_ms: Option<[u64; 2]>,
    },
}

/// Why something was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "error_code")]
pub enum ErrorCode {
    /// Not a request.
    BadRequest,
    /// No right to it.
    Forbidden,
    /// The connection has as many as it may.
    TooManySubscriptions,
}

impl Reply<'_> {
    /// Its line.
    pub fn frame(&self) -> Arc<Frame> {
        let kind = match self {
            Self::Ready { .. } => "ready",
            Self::Subscribed { .. } => "subscribed",
            Self::Unsubscribed { .. } => "unsubscribed",
            Self::Heartbeat => "heartbeat",
            Self::Expiring { .. } => "expiring",
            Self::Error { .. } => "error",
            Self::Bye { .. } => "bye",
        };
        Frame::new(kind, None, None, line(self))
    }
}

fn line(frame: &impl Serialize) -> String {
    // Strings and numbers only: this cannot fail.
    serde_json::to_string(frame).unwrap_or_default()
}

fn rfc3339(at: Timestamp) -> String {
    at.to_rfc3339().unwrap_or_default()
}

/// All of a saga.
#[derive(Serialize, JsonSchema)]
pub(super) struct Snapshot<'a> {
    #[schemars(extend("const" = "snapshot"))]
    r#type: &'static str,
    /// What its version is of; over HTTP only.
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<&'a str>,
    saga_type: &'a str,
    saga_id: &'a str,
    /// Take it, unless it is lower than yours.
    version: i64,
    /// The home service's word for where it stands.
    state: Option<&'a str>,
    /// How it ended; none: it has not.
    outcome: Option<Outcome>,
    /// The earliest event.
    #[schemars(extend("format" = "date-time"))]
    started_at: String,
    /// The latest event.
    #[schemars(extend("format" = "date-time"))]
    at: String,
    /// In the order in which they were first reported.
    steps: Vec<SnapshotStep<'a>>,
    /// The version of the saga's definition; without one, nothing is known of what is to come.
    #[serde(skip_serializing_if = "Option::is_none")]
    definition: Option<u64>,
    #[serde(flatten)]
    plan: Option<PlanFields<'a>>,
    /// Since when it is longer in its state than it should be.
    #[schemars(extend("format" = "date-time"))]
    stuck_since: Option<String>,
    /// The last that should not have happened, oldest first.
    anomalies: Vec<SnapshotAnomaly>,
    /// The log no longer has its beginning, and its user is not known.
    partial: bool,
}

/// Where a step stands.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "step")]
struct SnapshotStep<'a> {
    step: &'a str,
    status: StepStatus,
    /// When that was reported.
    #[schemars(extend("format" = "date-time"))]
    at: String,
}

/// What is still before a saga; only where its type is defined.
#[derive(Serialize, JsonSchema)]
struct PlanFields<'a> {
    /// Steps that are not done yet, in their order; none on the way back.
    remaining_steps: &'a [Box<str>],
    /// Steps that have to be undone, in the order of undoing; none on the way forward.
    due_compensations: Vec<DueCompensation<'a>>,
}

/// A step that is done and has to be undone.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "due_compensation")]
struct DueCompensation<'a> {
    step: &'a str,
    /// What undoes it: a command or an event.
    compensation: &'a str,
}

impl<'a> From<&'a Plan> for PlanFields<'a> {
    fn from(plan: &'a Plan) -> Self {
        let due = plan.compensations.iter();
        Self {
            remaining_steps: &plan.remaining,
            due_compensations: due
                .map(|(step, compensation)| DueCompensation { step, compensation })
                .collect(),
        }
    }
}

/// Something that should not have happened.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "anomaly")]
struct SnapshotAnomaly {
    kind: crate::logic::saga::AnomalyKind,
    /// When it was reported.
    #[schemars(extend("format" = "date-time"))]
    at: String,
    /// By which event.
    #[schemars(extend("format" = "uuid"))]
    event_id: String,
}

/// A saga's state, for a subscriber.
pub fn snapshot(key: &SagaKey, saga: &Saga) -> Arc<Frame> {
    let text = snapshot_text(key, saga, None);
    Frame::new("snapshot", Some(saga.version), None, text)
}

/// The same for an answer over HTTP, with the epoch, which a subscriber has been told before.
pub fn snapshot_text(key: &SagaKey, saga: &Saga, epoch: Option<&str>) -> String {
    let step = |step: &crate::logic::saga::StepState| -> String { rfc3339(step.at) };
    let plan = saga.plan();
    line(&Snapshot {
        r#type: "snapshot",
        epoch,
        saga_type: &key.saga_type,
        saga_id: &key.saga_id,
        version: saga.version,
        state: saga.state.as_deref(),
        outcome: saga.outcome,
        started_at: rfc3339(saga.started_at),
        at: rfc3339(saga.at),
        steps: saga
            .steps()
            .iter()
            .map(|state| SnapshotStep {
                step: &state.step,
                status: state.status,
                at: step(state),
            })
            .collect(),
        definition: saga.definition().map(|definition| definition.version),
        plan: plan.as_ref().map(PlanFields::from),
        stuck_since: saga.stuck_since.map(rfc3339),
        anomalies: saga
            .anomalies()
            .map(|anomaly| SnapshotAnomaly {
                kind: anomaly.kind,
                at: rfc3339(anomaly.at),
                event_id: anomaly.event_id.to_string(),
            })
            .collect(),
        partial: saga.partial,
    })
}

/// What one event changed.
#[derive(Serialize, JsonSchema)]
pub(super) struct ChangeFrame<'a> {
    #[schemars(extend("const" = "change"))]
    r#type: &'static str,
    saga_type: &'a str,
    saga_id: &'a str,
    /// The saga's version from now on.
    version: i64,
    /// Apply it if this is the version that you have; none: the first.
    previous: Option<i64>,
    #[serde(flatten)]
    state: Option<StateFields<'a>>,
    /// The saga has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<Outcome>,
    /// A participant reported on this step.
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<&'a str>,
    /// How that step is doing.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<StepStatus>,
    #[serde(flatten)]
    plan: Option<PlanFields<'a>>,
    /// Since when it is longer in its state than it should be; null: it is not any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    stuck_since: Option<Option<String>>,
    #[serde(flatten)]
    event: Option<EventFields<'a>>,
    /// When it was reported, or until when sources were published when the saga was found stuck.
    #[schemars(extend("format" = "date-time"))]
    at: String,
    /// The saga had ended before.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    after_end: bool,
    /// What should not have happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    anomaly: Option<crate::logic::saga::AnomalyKind>,
}

/// Where the home service says that the saga stands.
#[derive(Serialize, JsonSchema)]
struct StateFields<'a> {
    state: &'a str,
    previous_state: Option<&'a str>,
}

/// The event that made it; none if time alone did.
#[derive(Serialize, JsonSchema)]
struct EventFields<'a> {
    /// What happened.
    event_type: &'a str,
    #[schemars(extend("format" = "uuid"))]
    event_id: String,
}

/// What one record changed, the same for every subscriber.
pub fn change(key: &SagaKey, change: &Change) -> Arc<Frame> {
    let text = line(&ChangeFrame {
        r#type: "change",
        saga_type: &key.saga_type,
        saga_id: &key.saga_id,
        version: change.version,
        previous: change.previous,
        state: change.state.as_ref().map(|(state, before)| StateFields {
            state,
            previous_state: before.as_deref(),
        }),
        outcome: change.outcome,
        step: change.step.as_ref().map(|(step, _)| &**step),
        status: change.step.as_ref().and_then(|(_, status)| *status),
        plan: change.plan.as_ref().map(PlanFields::from),
        stuck_since: change.stuck_since.map(|since| since.map(rfc3339)),
        event: change.event.as_ref().map(|(kind, id)| EventFields {
            event_type: kind,
            event_id: id.to_string(),
        }),
        at: rfc3339(change.at),
        after_end: change.after_end,
        anomaly: change.anomaly,
    });
    // That time alone made it is no delay of an event.
    let happened = change.event.as_ref().map(|_| change.at);
    Frame::new("change", Some(change.version), happened, text)
}

/// A subscription has lost its right.
pub fn lost(saga_type: &str, saga_id: Option<&str>) -> Arc<Frame> {
    Reply::Error {
        id: None,
        code: ErrorCode::Forbidden,
        message: "the new token has no right to this subscription any more",
        retry: false,
        saga_type: Some(saga_type),
        saga_id,
    }
    .frame()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::logic::saga::Report;

    fn report(event: u128) -> Report {
        Report {
            saga_type: "create-order".into(),
            saga_id: "o-42".into(),
            user: None,
            state: None,
            outcome: None,
            step: None,
            status: None,
            event_type: "OrderCreated".into(),
            event_id: Uuid::from_u128(event),
            source: "orders".into(),
            at: Timestamp(1_795_255_200_000_000),
        }
    }

    #[test]
    fn snapshot_and_changes_are_as_the_contract_writes_them() {
        let key = SagaKey::new("create-order", "o-42");
        let pending = Report {
            state: Some("APPROVAL_PENDING".into()),
            ..report(1)
        };
        let (mut saga, begun) = Saga::begin(pending, 8090, true, None);
        let ticket = Report {
            step: Some("create-ticket".into()),
            status: Some(StepStatus::Done),
            event_type: "TicketCreated".into(),
            source: "kitchen".into(),
            ..report(2)
        };
        let ticket = saga.apply(ticket, 8101).unwrap();
        assert_eq!(
            snapshot(&key, &saga).text(),
            r#"{"type":"snapshot","saga_type":"create-order","saga_id":"o-42","version":8101,"state":"APPROVAL_PENDING","outcome":null,"started_at":"2026-11-21T10:00:00.000000Z","at":"2026-11-21T10:00:00.000000Z","steps":[{"step":"create-ticket","status":"done","at":"2026-11-21T10:00:00.000000Z"}],"stuck_since":null,"anomalies":[],"partial":false}"#
        );
        let approved = Report {
            state: Some("APPROVED".into()),
            outcome: Some(Outcome::Completed),
            event_type: "OrderApproved".into(),
            ..report(3)
        };
        let approved = saga.apply(approved, 8123).unwrap();
        assert_eq!(
            change(&key, &begun).text(),
            r#"{"type":"change","saga_type":"create-order","saga_id":"o-42","version":8090,"previous":null,"state":"APPROVAL_PENDING","previous_state":null,"event_type":"OrderCreated","event_id":"00000000-0000-0000-0000-000000000001","at":"2026-11-21T10:00:00.000000Z"}"#
        );
        assert_eq!(
            change(&key, &ticket).text(),
            r#"{"type":"change","saga_type":"create-order","saga_id":"o-42","version":8101,"previous":8090,"step":"create-ticket","status":"done","event_type":"TicketCreated","event_id":"00000000-0000-0000-0000-000000000002","at":"2026-11-21T10:00:00.000000Z"}"#
        );
        assert_eq!(
            change(&key, &approved).text(),
            r#"{"type":"change","saga_type":"create-order","saga_id":"o-42","version":8123,"previous":8101,"state":"APPROVED","previous_state":"APPROVAL_PENDING","outcome":"completed","event_type":"OrderApproved","event_id":"00000000-0000-0000-0000-000000000003","at":"2026-11-21T10:00:00.000000Z"}"#
        );
    }

    #[test]
    fn a_definition_adds_what_is_to_come_and_a_limit_may_be_over() {
        let key = SagaKey::new("create-order", "o-42");
        let definition = Arc::new(crate::logic::saga::definition::tests::create_order());
        let pending = Report {
            state: Some("APPROVAL_PENDING".into()),
            ..report(1)
        };
        let at = pending.at;
        let (mut saga, begun) = Saga::begin(pending, 8090, true, Some(&definition));
        assert!(change(&key, &begun).text().contains(
            r#""remaining_steps":["verify-consumer","create-ticket","authorize-card","confirm-ticket"],"due_compensations":[],"#
        ));
        let stuck = change(&key, &saga.stick(at, at, 8101));
        assert_eq!(
            stuck.text(),
            r#"{"type":"change","saga_type":"create-order","saga_id":"o-42","version":8101,"previous":8090,"stuck_since":"2026-11-21T10:00:00.000000Z","at":"2026-11-21T10:00:00.000000Z"}"#
        );
        assert_eq!(stuck.first_write(), None, "it is no event's delay");
        assert!(snapshot(&key, &saga).text().contains(
            r#""steps":[],"definition":1,"remaining_steps":["verify-consumer","create-ticket","authorize-card","confirm-ticket"],"due_compensations":[],"stuck_since":"2026-11-21T10:00:00.000000Z","#
        ));
        for (event, step, status) in [
            (2, "create-ticket", StepStatus::Done),
            (3, "authorize-card", StepStatus::Failed),
        ] {
            let step = Report {
                step: Some(step.into()),
                status: Some(status),
                ..report(event)
            };
            let told = saga
                .apply(step, 8200 + i64::try_from(event).unwrap())
                .unwrap();
            let told = change(&key, &told).text().to_owned();
            assert_eq!(
                told.contains(r#","stuck_since":null,"#),
                event == 2,
                "{told}"
            );
        }
        assert!(snapshot(&key, &saga).text().contains(
            r#""remaining_steps":[],"due_compensations":[{"step":"create-ticket","compensation":"CancelTicket"}],"stuck_since":null,"#
        ));
    }

    #[test]
    fn replies_are_as_the_contract_writes_them() {
        let shown = |reply: &Reply<'_>| reply.frame().text().to_owned();
        let ready = Reply::Ready {
            id: Some(1),
            epoch: "7f3a",
            expires_at: "…Z".into(),
            refresh_in_s: 210,
            heartbeat_s: 25,
        };
        assert_eq!(
            shown(&ready),
            r#"{"type":"ready","id":1,"epoch":"7f3a","expires_at":"…Z","refresh_in_s":210,"heartbeat_s":25}"#
        );
        let subscribed = Reply::Subscribed {
            id: Some(2),
            mode: Mode::Resumed,
        };
        assert_eq!(
            shown(&subscribed),
            r#"{"type":"subscribed","id":2,"mode":"resumed"}"#
        );
        assert_eq!(shown(&Reply::Heartbeat), r#"{"type":"heartbeat"}"#);
        let bye = Reply::Bye {
            code: 4001,
            reason: "shutdown",
            retry_after_ms: Some([0, 15000]),
        };
        assert_eq!(
            shown(&bye),
            r#"{"type":"bye","code":4001,"reason":"shutdown","retry_after_ms":[0,15000]}"#
        );
        let error = Reply::Error {
            id: Some(2),
            code: ErrorCode::Forbidden,
            message: "…",
            retry: false,
            saga_type: None,
            saga_id: None,
        };
        assert_eq!(
            shown(&error),
            r#"{"type":"error","id":2,"code":"forbidden","message":"…","retry":false}"#
        );
    }

    #[test]
    fn requests_are_read_and_anything_else_keeps_its_id() {
        let subscribe = r#"{"type":"subscribe","id":2,"saga_type":"t","saga_id":"o","epoch":"e","version":8,"later":[1]}"#;
        assert!(matches!(
            Request::read(subscribe),
            Ok(Request::Subscribe {
                id: Some(2),
                version: Some(8),
                ..
            })
        ));
        assert_eq!(Request::read(r#"{"type":"dance","id":7}"#), Err(Some(7)));
        assert_eq!(Request::read(r#"{"type":"auth","id":7}"#), Err(Some(7)));
        for broken in [
            "",
            "[]",
            "[7]",
            r#"["auth",7,"t"]"#,
            "null",
            "{",
            r#"{"type":"auth","id":"x","token":"t"}"#,
        ] {
            assert_eq!(Request::read(broken), Err(None), "{broken}");
        }
    }

    #[test]
    fn a_change_is_timed_once() {
        let key = SagaKey::new("t", "o");
        let (_, begun) = Saga::begin(report(1), 1, true, None);
        let frame = change(&key, &begun);
        assert_eq!(frame.first_write(), Some(begun.at));
        assert_eq!(frame.first_write(), None);
        assert_eq!(Frame::of("{}").first_write(), None);
    }
}
