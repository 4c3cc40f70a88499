//! What sagas of a type should look like: states, steps and limits, as their makers wrote them down. Advisory: it never
//! keeps an event from counting.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::fold::{AnomalyKind, StepState};
use super::record::{Outcome, StepStatus};
use crate::logic::event::Timestamp;

/// States or steps that a definition may have; so many labels a metric may get of it.
pub const NAMES: usize = 128;

/// One version of the definition of a saga type. Whoever makes one has proven that its names fit together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// The type.
    pub saga_type: Box<str>,
    /// Rises when the definition changes.
    pub version: u64,
    /// Sagas that began before this have an earlier version, if there is one.
    pub since: Option<Timestamp>,
    /// In the order in which they were written.
    pub states: Vec<State>,
    /// In the order in which they are taken.
    pub steps: Vec<Step>,
}

/// Where a saga may stand, by the word of its home service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Its name.
    pub name: Box<str>,
    /// What it is to the saga.
    pub kind: StateKind,
    /// A saga that stays longer is stuck; none for a terminal one.
    pub limit: Option<Duration>,
    /// Where the saga may go from it.
    pub next: Vec<Box<str>>,
    /// How a saga ends that ends here.
    pub outcome: Option<Outcome>,
}

/// What a state is to the saga.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StateKind {
    /// Sagas begin here.
    Initial,
    /// On the way to the goal.
    Forward,
    /// On the way back.
    Compensating,
    /// The end.
    Terminal,
}

impl StateKind {
    /// Every kind with its word in a file.
    pub const ALL: [(&'static str, Self); 4] = [
        ("initial", Self::Initial),
        ("forward", Self::Forward),
        ("compensating", Self::Compensating),
        ("terminal", Self::Terminal),
    ];
}

/// What a participant does for the saga.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Its name.
    pub name: Box<str>,
    /// The source of the service that takes it.
    pub service: Box<str>,
    /// Whether it can fail, and be undone.
    pub kind: StepKind,
    /// What undoes it, in the makers' words: a command or an event.
    pub compensation: Option<Box<str>>,
}

/// Whether a step can fail, and be undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StepKind {
    /// Changes nothing, so there is nothing to undo.
    ReadOnly,
    /// Can fail, and can be undone.
    Compensatable,
    /// Decides: once it is done, the saga goes on to its goal.
    Pivot,
    /// Comes after the decision and is tried until it is done.
    Retriable,
}

impl StepKind {
    /// Every kind with its word in a file.
    pub const ALL: [(&'static str, Self); 4] = [
        ("read_only", Self::ReadOnly),
        ("compensatable", Self::Compensatable),
        ("pivot", Self::Pivot),
        ("retriable", Self::Retriable),
    ];

    /// Its word in a file.
    pub fn as_str(self) -> &'static str {
        let found = Self::ALL.iter().find(|(_, kind)| *kind == self);
        found.map_or("", |(word, _)| word)
    }
}

/// What a saga still has before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Steps that are not done yet, in their order; none on the way back.
    pub remaining: Vec<Box<str>>,
    /// Steps that are done and have to be undone, in the order of undoing, each with what undoes it.
    pub compensations: Vec<(Box<str>, Box<str>)>,
}

impl Definition {
    /// The state of this name.
    pub fn state(&self, name: &str) -> Option<&State> {
        self.states.iter().find(|state| *state.name == *name)
    }

    /// Whether there is a step of this name.
    pub fn has_step(&self, name: &str) -> bool {
        self.steps.iter().any(|step| *step.name == *name)
    }

    /// What is wrong with a move from one state to another, or with how the saga ended in it.
    ///
    /// A state that is said again is no move. From a state that is not known here any move may be right.
    pub(super) fn judge(
        &self,
        from: Option<&str>,
        to: &str,
        outcome: Option<Outcome>,
    ) -> Option<AnomalyKind> {
        let Some(state) = self.state(to) else {
            return Some(AnomalyKind::UnknownState);
        };
        let legal = match from {
            None => state.kind == StateKind::Initial,
            Some(from) if from == to => true,
            Some(from) => self
                .state(from)
                .is_none_or(|from| from.next.contains(&state.name)),
        };
        if !legal {
            Some(AnomalyKind::IllegalTransition)
        } else if state.outcome != outcome {
            Some(AnomalyKind::WrongOutcome)
        } else {
            None
        }
    }

    /// What a saga that stands like this still has before it.
    pub(super) fn plan(
        &self,
        state: Option<&str>,
        outcome: Option<Outcome>,
        steps: &[StepState],
    ) -> Plan {
        let status = |name: &str| {
            let reported = steps.iter().find(|step| *step.step == *name);
            reported.map(|step| step.status)
        };
        let failed = |step: &Step| {
            step.kind != StepKind::Retriable && status(&step.name) == Some(StepStatus::Failed)
        };
        let turned = state.and_then(|name| self.state(name));
        let goes_back = turned.is_some_and(|state| state.kind == StateKind::Compensating)
            || outcome.is_some_and(|outcome| outcome != Outcome::Completed)
            || self.steps.iter().any(failed);
        let is_over = |status| matches!(status, Some(StepStatus::Done | StepStatus::Skipped));
        let left = self
            .steps
            .iter()
            .filter(|step| !is_over(status(&step.name)));
        let stands = |step: &Step| {
            use StepStatus::{Compensating, CompensationFailed, Done};
            matches!(
                status(&step.name),
                Some(Done | Compensating | CompensationFailed)
            )
        };
        let undo = self.steps.iter().rev().filter(|step| stands(step));
        let undo = undo.filter_map(|step| Some((step.name.clone(), step.compensation.clone()?)));
        if goes_back {
            Plan {
                remaining: Vec::new(),
                compensations: undo.collect(),
            }
        } else {
            Plan {
                remaining: left.map(|step| step.name.clone()).collect(),
                compensations: Vec::new(),
            }
        }
    }
}

/// All definitions that a daemon was given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Definitions {
    /// By type; of each the versions in their order.
    types: HashMap<Box<str>, Vec<Arc<Definition>>>,
}

impl Definitions {
    /// The one that a saga has that began at that time.
    pub fn of(&self, saga_type: &str, began: Timestamp) -> Option<&Arc<Definition>> {
        let versions = self.types.get(saga_type)?;
        let holds = |it: &&Arc<Definition>| it.since.is_none_or(|since| since <= began);
        versions.iter().rev().find(holds)
    }

    /// All of them, by type and version.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Definition>> {
        let mut all: Vec<_> = self.types.values().flatten().collect();
        all.sort_by_key(|it| (&it.saga_type, it.version));
        all.into_iter()
    }
}

impl FromIterator<Definition> for Definitions {
    fn from_iter<T: IntoIterator<Item = Definition>>(definitions: T) -> Self {
        let mut types: HashMap<Box<str>, Vec<Arc<Definition>>> = HashMap::new();
        for definition in definitions {
            let versions = types.entry(definition.saga_type.clone()).or_default();
            versions.push(Arc::new(definition));
            versions.sort_by_key(|it| it.version);
        }
        Self { types }
    }
}

#[cfg(test)]
pub(crate) mod tests;
