//! One saga as its records make it: the home service's track and one track a step. Never knows who is watching.
//!
//! Events of several services reach the log in no common order, so a single state machine would call
//! most correct runs illegal. Each track follows one source alone, whose order the log keeps.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::definition::{Definition, Plan};
use super::record::{Outcome, Report, StepStatus};
use super::trail::Trail;
use crate::logic::event::Timestamp;

/// Anomalies that a saga remembers.
const ANOMALIES: usize = 20;
/// Events that a saga remembers; a duplicate comes soon after its twin.
const SEEN: usize = 256;
/// Steps that a saga may have; a saga with more is a loop.
pub const STEPS: usize = 128;

/// One saga.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Saga {
    /// Offset of the last record that made a difference.
    pub version: i64,
    /// Who may watch it: the first that was named.
    pub user: Option<Box<str>>,
    /// The home service's word for where it stands.
    pub state: Option<Box<str>>,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// The earliest event.
    pub started_at: Timestamp,
    /// The latest event.
    pub at: Timestamp,
    /// The log's beginning is gone and no user was seen.
    pub partial: bool,
    /// Since when it is beyond the limit of its state, until the next change.
    pub stuck_since: Option<Timestamp>,
    /// What it should look like: the definition that it began with. Whoever keeps a saga elsewhere keeps it beside.
    #[serde(skip)]
    definition: Option<Arc<Definition>>,
    /// The source of the first record with a state.
    home: Option<Box<str>>,
    steps: Vec<StepState>,
    anomalies: VecDeque<Anomaly>,
    /// The latest events, and the offsets of their records.
    seen: VecDeque<(Uuid, i64)>,
}

/// Where a step stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepState {
    /// Its name.
    pub step: Box<str>,
    /// How it is doing.
    pub status: StepStatus,
    /// When that was reported.
    pub at: Timestamp,
    /// The earliest report.
    first_at: Timestamp,
}

impl StepState {
    /// One that was reported at no time in particular, for tests of what reads steps.
    #[cfg(test)]
    pub(super) fn of(step: &str, status: StepStatus) -> Self {
        Self {
            step: step.into(),
            status,
            at: Timestamp(0),
            first_at: Timestamp(0),
        }
    }
}

/// Something in a saga's records that should not be; it never stops the saga.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anomaly {
    /// What.
    pub kind: AnomalyKind,
    /// When it was reported.
    pub at: Timestamp,
    /// By which event.
    pub event_id: Uuid,
}

/// What should not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "anomaly_kind")]
pub enum AnomalyKind {
    /// Another service than the home service set a state or an outcome; it is ignored.
    ForeignState,
    /// The home service set a state or an outcome after the end; it counts.
    AfterEnd,
    /// The definition has no such state; it counts.
    UnknownState,
    /// The definition has no such way from the state before; it counts.
    IllegalTransition,
    /// The definition has another end for this state, or none; it counts.
    WrongOutcome,
    /// The definition has no such step; it counts.
    UnknownStep,
    /// A step beyond the limit; it is ignored.
    TooManySteps,
}

impl AnomalyKind {
    /// Every one.
    pub const ALL: [Self; 7] = [
        Self::ForeignState,
        Self::AfterEnd,
        Self::UnknownState,
        Self::IllegalTransition,
        Self::WrongOutcome,
        Self::UnknownStep,
        Self::TooManySteps,
    ];

    /// The contract's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ForeignState => "foreign_state",
            Self::AfterEnd => "after_end",
            Self::UnknownState => "unknown_state",
            Self::IllegalTransition => "illegal_transition",
            Self::WrongOutcome => "wrong_outcome",
            Self::UnknownStep => "unknown_step",
            Self::TooManySteps => "too_many_steps",
        }
    }
}

/// What one record changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The record's offset.
    pub version: i64,
    /// The version before it; none for the first.
    pub previous: Option<i64>,
    /// The new state, and the one before it.
    pub state: Option<(Box<str>, Option<Box<str>>)>,
    /// How the saga ended.
    pub outcome: Option<Outcome>,
    /// A step and how it is doing, if that was said.
    pub step: Option<(Box<str>, Option<StepStatus>)>,
    /// The saga had ended before.
    pub after_end: bool,
    /// What should not be.
    pub anomaly: Option<AnomalyKind>,
    /// What happened, and the event's identity; none when time alone made the change.
    pub event: Option<(Box<str>, Uuid)>,
    /// Time of the insert, or until when sources were published when the saga was found stuck.
    pub at: Timestamp,
    /// Since when the saga is stuck; none within: it is not any more.
    pub stuck_since: Option<Option<Timestamp>>,
    /// What is still before the saga, where that is another thing now.
    pub plan: Option<Plan>,
    /// From the saga's start to its end, when this is the end.
    pub duration: Option<Duration>,
    /// From the step's start to its end, when this is its end.
    pub step_took: Option<Duration>,
}

impl Saga {
    /// The saga that its first record begins; `whole` says that no earlier record can have been missed.
    pub fn begin(
        report: Report,
        offset: i64,
        whole: bool,
        definition: Option<&Arc<Definition>>,
    ) -> (Self, Change) {
        let mut saga = Self {
            version: offset,
            user: None,
            state: None,
            outcome: None,
            started_at: report.at,
            at: report.at,
            partial: !whole && report.user.is_none(),
            stuck_since: None,
            definition: definition.cloned(),
            home: None,
            steps: Vec::new(),
            anomalies: VecDeque::new(),
            seen: VecDeque::new(),
        };
        let change = saga.take(report, offset, None);
        (saga, change)
    }

    /// Takes the next record; none if its event has been seen.
    pub fn apply(&mut self, report: Report, offset: i64) -> Option<Change> {
        if self.seen.iter().any(|(event, _)| *event == report.event_id) {
            return None;
        }
        let previous = self.version;
        Some(self.take(report, offset, Some(previous)))
    }

    /// Its state's time is over: since then. It must not be stuck already.
    pub fn stick(&mut self, since: Timestamp, at: Timestamp, offset: i64) -> Change {
        debug_assert!(self.stuck_since.is_none(), "raised once");
        self.stuck_since = Some(since);
        let previous = std::mem::replace(&mut self.version, offset);
        Change {
            stuck_since: Some(self.stuck_since),
            ..Change::of(offset, Some(previous), at)
        }
    }

    /// The same with the definition that it began with, which was kept beside it.
    pub fn defined(self, definition: Option<Arc<Definition>>) -> Self {
        Self { definition, ..self }
    }

    /// What it should look like.
    pub fn definition(&self) -> Option<&Arc<Definition>> {
        self.definition.as_ref()
    }

    /// How long it may stay as it is; none: for ever.
    pub fn limit(&self) -> Option<Duration> {
        let definition = self.definition.as_ref()?;
        let state = definition.state(self.state.as_deref()?)?;
        state.limit.filter(|_| self.outcome.is_none())
    }

    /// What is still before it; none without a definition.
    pub fn plan(&self) -> Option<Plan> {
        let definition = self.definition.as_ref()?;
        Some(definition.plan(self.state.as_deref(), self.outcome, &self.steps))
    }

    /// Where each step stands, in the order in which they were first reported.
    pub fn steps(&self) -> &[StepState] {
        &self.steps
    }

    /// Where the log has its events: the last 256.
    pub fn trail(&self) -> Trail {
        Trail {
            offsets: self.seen.iter().map(|(_, offset)| *offset).collect(),
            whole: !self.partial && self.seen.len() < SEEN,
        }
    }

    /// The last anomalies, oldest first.
    pub fn anomalies(&self) -> impl Iterator<Item = &Anomaly> {
        self.anomalies.iter()
    }

    fn take(&mut self, report: Report, offset: i64, previous: Option<i64>) -> Change {
        let plan = self.plan();
        self.version = offset;
        self.started_at = self.started_at.min(report.at);
        self.at = self.at.max(report.at);
        if self.user.is_none()
            && let Some(user) = report.user
        {
            self.user = Some(user.into());
            self.partial = false;
        }
        if self.seen.len() == SEEN {
            self.seen.pop_front();
        }
        self.seen.push_back((report.event_id, offset));
        let mut change = Change {
            after_end: self.outcome.is_some(),
            event: Some((report.event_type.into(), report.event_id)),
            stuck_since: self.stuck_since.take().map(|_| None),
            ..Change::of(offset, previous, report.at)
        };
        if self.home.is_none() && report.state.is_some() {
            self.home = Some(report.source.as_str().into());
        }
        if report.state.is_some() || report.outcome.is_some() {
            change.anomaly = if self.home.as_deref() == Some(report.source.as_str()) {
                self.take_state(report.state, report.outcome, &mut change)
            } else {
                Some(AnomalyKind::ForeignState)
            };
        }
        if let Some(step) = report.step {
            let anomaly = self.take_step(&step, report.status, &mut change);
            change.anomaly = change.anomaly.or(anomaly);
        }
        if let Some(kind) = change.anomaly {
            if self.anomalies.len() == ANOMALIES {
                self.anomalies.pop_front();
            }
            self.anomalies.push_back(Anomaly {
                kind,
                at: report.at,
                event_id: report.event_id,
            });
        }
        let now = self.plan();
        change.plan = now.filter(|now| previous.is_none() || Some(now) != plan.as_ref());
        change
    }

    /// What the home service says.
    fn take_state(
        &mut self,
        state: Option<String>,
        outcome: Option<Outcome>,
        change: &mut Change,
    ) -> Option<AnomalyKind> {
        if let Some(state) = state {
            let state: Box<str> = state.into();
            change.state = Some((state.clone(), self.state.replace(state)));
        }
        if let Some(outcome) = outcome {
            change.outcome = Some(outcome);
            if self.outcome.replace(outcome).is_none() {
                change.duration = Some(change.at.since(self.started_at));
            }
        }
        if change.after_end {
            return Some(AnomalyKind::AfterEnd);
        }
        let (definition, now) = (self.definition.as_ref()?, self.state.as_deref()?);
        let before = match &change.state {
            Some((_, before)) => before.as_deref(),
            None => Some(now),
        };
        // Where the beginning is gone, nobody knows where the saga came from.
        let before = before.or(self.partial.then_some(now));
        definition.judge(before, now, self.outcome)
    }

    /// What a participant says of its step.
    fn take_step(
        &mut self,
        name: &str,
        said: Option<StepStatus>,
        change: &mut Change,
    ) -> Option<AnomalyKind> {
        // A step that nothing was said of yet is one to come.
        let status = said.unwrap_or(StepStatus::Pending);
        let (is_over, at) = (!status.is_under_way(), change.at);
        let known = self.steps.iter_mut().find(|step| *step.step == *name);
        if let Some(step) = known {
            let was_under_way = step.status.is_under_way();
            (step.status, step.at) = (status, at);
            step.first_at = step.first_at.min(at);
            change.step_took = (was_under_way && is_over).then(|| at.since(step.first_at));
        } else {
            if self.steps.len() == STEPS {
                return Some(AnomalyKind::TooManySteps);
            }
            self.steps.push(StepState {
                step: name.into(),
                status,
                at,
                first_at: at,
            });
            // Its beginning was not reported: it can have begun with the saga at the earliest.
            change.step_took = is_over.then(|| at.since(self.started_at));
        }
        change.step = Some((name.into(), said));
        // An order that does not depend on which service's relay was faster.
        self.steps
            .sort_by(|a, b| (a.first_at, &a.step).cmp(&(b.first_at, &b.step)));
        let is_unknown = |definition: &Arc<Definition>| !definition.has_step(name);
        let unknown = self.definition.as_ref().is_some_and(is_unknown);
        unknown.then_some(AnomalyKind::UnknownStep)
    }
}

impl Change {
    /// One that says nothing yet.
    fn of(version: i64, previous: Option<i64>, at: Timestamp) -> Self {
        Self {
            version,
            previous,
            state: None,
            outcome: None,
            step: None,
            after_end: false,
            anomaly: None,
            event: None,
            at,
            stuck_since: None,
            plan: None,
            duration: None,
            step_took: None,
        }
    }
}

/// A saga's name: type and id.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SagaKey {
    /// The type, shared by all sagas of it.
    pub saga_type: Arc<str>,
    /// The id.
    pub saga_id: Arc<str>,
}

impl SagaKey {
    /// Of a type and an id.
    pub fn new(saga_type: &str, saga_id: &str) -> Self {
        Self {
            saga_type: saga_type.into(),
            saga_id: saga_id.into(),
        }
    }
}

#[cfg(test)]
mod tests;
