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

use super::record::{Outcome, Report, StepStatus};
use crate::logic::event::Timestamp;

/// Anomalies that a saga remembers.
const ANOMALIES: usize = 20;
/// Event ids that a saga remembers; a duplicate comes soon after its twin.
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
    /// The source of the first record with a state.
    home: Option<Box<str>>,
    steps: Vec<StepState>,
    anomalies: VecDeque<Anomaly>,
    seen: VecDeque<Uuid>,
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
    /// A step beyond the limit; it is ignored.
    TooManySteps,
}

impl AnomalyKind {
    /// The contract's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ForeignState => "foreign_state",
            Self::AfterEnd => "after_end",
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
    /// What happened.
    pub event_type: Box<str>,
    /// Identity of the event.
    pub event_id: Uuid,
    /// Time of the insert.
    pub at: Timestamp,
    /// From the saga's start to its end, when this is the end.
    pub duration: Option<Duration>,
    /// From the step's start to its end, when this is its end.
    pub step_took: Option<Duration>,
}

impl Saga {
    /// The saga that its first record begins; `whole` says that no earlier record can have been missed.
    pub fn begin(report: Report, offset: i64, whole: bool) -> (Self, Change) {
        let mut saga = Self {
            version: offset,
            user: None,
            state: None,
            outcome: None,
            started_at: report.at,
            at: report.at,
            partial: !whole && report.user.is_none(),
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
        if self.seen.contains(&report.event_id) {
            return None;
        }
        let previous = self.version;
        Some(self.take(report, offset, Some(previous)))
    }

    /// Where each step stands, in the order in which they were first reported.
    pub fn steps(&self) -> &[StepState] {
        &self.steps
    }

    /// The last anomalies, oldest first.
    pub fn anomalies(&self) -> impl Iterator<Item = &Anomaly> {
        self.anomalies.iter()
    }

    fn take(&mut self, report: Report, offset: i64, previous: Option<i64>) -> Change {
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
        self.seen.push_back(report.event_id);
        let ended = self.outcome.is_some();
        let speaks = report.state.is_some() || report.outcome.is_some();
        if self.home.is_none() && report.state.is_some() {
            self.home = Some(report.source.as_str().into());
        }
        let is_home = self.home.as_deref() == Some(report.source.as_str());
        let mut anomaly = match (speaks, is_home) {
            (true, false) => Some(AnomalyKind::ForeignState),
            (true, true) if ended => Some(AnomalyKind::AfterEnd),
            (true, true) | (false, _) => None,
        };
        let mut change = Change {
            version: offset,
            previous,
            state: None,
            outcome: None,
            step: None,
            after_end: ended,
            anomaly: None,
            event_type: report.event_type.into(),
            event_id: report.event_id,
            at: report.at,
            duration: None,
            step_took: None,
        };
        if is_home {
            if let Some(state) = report.state {
                let state: Box<str> = state.into();
                change.state = Some((state.clone(), self.state.replace(state)));
            }
            if let Some(outcome) = report.outcome {
                change.outcome = Some(outcome);
                if self.outcome.replace(outcome).is_none() {
                    change.duration = Some(report.at.since(self.started_at));
                }
            }
        }
        if let Some(step) = report.step {
            match self.take_step(&step, report.status, report.at) {
                Ok(took) => {
                    change.step_took = took;
                    change.step = Some((step.into(), report.status));
                }
                Err(kind) => anomaly = anomaly.or(Some(kind)),
            }
        }
        change.anomaly = anomaly;
        if let Some(kind) = anomaly {
            if self.anomalies.len() == ANOMALIES {
                self.anomalies.pop_front();
            }
            self.anomalies.push_back(Anomaly {
                kind,
                at: report.at,
                event_id: report.event_id,
            });
        }
        change
    }

    /// Gives the time that the step took if this is its end.
    fn take_step(
        &mut self,
        name: &str,
        status: Option<StepStatus>,
        at: Timestamp,
    ) -> Result<Option<Duration>, AnomalyKind> {
        // A step that nothing was said of yet is one to come.
        let status = status.unwrap_or(StepStatus::Pending);
        let is_over = !status.is_under_way();
        let known = self.steps.iter_mut().find(|step| *step.step == *name);
        let took = if let Some(step) = known {
            let was_under_way = step.status.is_under_way();
            (step.status, step.at) = (status, at);
            step.first_at = step.first_at.min(at);
            (was_under_way && is_over).then(|| at.since(step.first_at))
        } else {
            if self.steps.len() == STEPS {
                return Err(AnomalyKind::TooManySteps);
            }
            self.steps.push(StepState {
                step: name.into(),
                status,
                at,
                first_at: at,
            });
            // Its beginning was not reported: it can have begun with the saga at the earliest.
            is_over.then(|| at.since(self.started_at))
        };
        // An order that does not depend on which service's relay was faster.
        self.steps
            .sort_by(|a, b| (a.first_at, &a.step).cmp(&(b.first_at, &b.step)));
        Ok(took)
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
