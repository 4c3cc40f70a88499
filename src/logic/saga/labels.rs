//! Which names of sagas may be labels of metrics: those of definitions, without one the first of each kind, and `other` for
//! the rest. Never forgets one, so that what was counted under a label is taken off the same.

use std::collections::{HashMap, HashSet};

use super::definition::Definition;

/// Names of one kind that keep theirs without a definition.
const NAMES: usize = 50;
/// What the rest is called.
const OTHER: &str = "other";
/// A saga that no home service has set a state of yet.
const NO_STATE: &str = "none";

/// The names that were seen first.
#[derive(Debug, Default)]
pub struct Labels {
    types: HashMap<String, OfType>,
}

#[derive(Debug, Default)]
struct OfType {
    states: HashSet<String>,
    steps: HashSet<String>,
}

impl Labels {
    /// The labels of a type and one of its states, for a saga with this definition.
    pub fn state<'a>(
        &mut self,
        saga_type: &'a str,
        definition: Option<&Definition>,
        state: Option<&'a str>,
    ) -> (&'a str, &'a str) {
        let state = state.unwrap_or(NO_STATE);
        if let Some(definition) = definition {
            let known = state == NO_STATE || definition.state(state).is_some();
            return (saga_type, if known { state } else { OTHER });
        }
        match self.of_type(saga_type) {
            Some(of_type) => (saga_type, first(&mut of_type.states, state)),
            None => (OTHER, OTHER),
        }
    }

    /// The labels of a type and one of its steps.
    pub fn step<'a>(
        &mut self,
        saga_type: &'a str,
        definition: Option<&Definition>,
        step: &'a str,
    ) -> (&'a str, &'a str) {
        if let Some(definition) = definition {
            let known = definition.has_step(step);
            return (saga_type, if known { step } else { OTHER });
        }
        match self.of_type(saga_type) {
            Some(of_type) => (saga_type, first(&mut of_type.steps, step)),
            None => (OTHER, OTHER),
        }
    }

    /// A type's label.
    pub fn saga_type<'a>(
        &mut self,
        saga_type: &'a str,
        definition: Option<&Definition>,
    ) -> &'a str {
        let named = definition.is_some() || self.of_type(saga_type).is_some();
        if named { saga_type } else { OTHER }
    }

    fn of_type(&mut self, saga_type: &str) -> Option<&mut OfType> {
        if !self.types.contains_key(saga_type) && self.types.len() >= NAMES {
            return None;
        }
        Some(self.types.entry(saga_type.to_owned()).or_default())
    }
}

fn first<'a>(names: &mut HashSet<String>, name: &'a str) -> &'a str {
    if names.contains(name) {
        return name;
    }
    if names.len() >= NAMES {
        return OTHER;
    }
    names.insert(name.to_owned());
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state<'a>(labels: &mut Labels, saga_type: &'a str, state: &'a str) -> (&'a str, &'a str) {
        labels.state(saga_type, None, Some(state))
    }

    #[test]
    fn without_a_definition_the_first_fifty_keep_their_names() {
        let mut labels = Labels::default();
        for number in 0..50 {
            let name = format!("t{number}");
            assert_eq!(labels.saga_type(&name, None), name);
            let of_type = format!("s{number}");
            assert_eq!(state(&mut labels, "t0", &of_type), ("t0", of_type.as_str()));
            assert_eq!(labels.step("t0", None, &of_type).1, of_type);
        }
        assert_eq!(labels.saga_type("t50", None), "other");
        assert_eq!(state(&mut labels, "t50", "s0"), ("other", "other"));
        assert_eq!(state(&mut labels, "t0", "s50"), ("t0", "other"));
        assert_eq!(labels.step("t0", None, "s50"), ("t0", "other"));
        assert_eq!(state(&mut labels, "t49", "s50"), ("t49", "s50"));
        assert_eq!(state(&mut labels, "t0", "s0"), ("t0", "s0"));
        assert_eq!(labels.state("t1", None, None), ("t1", "none"));
    }

    #[test]
    fn a_definition_names_all_and_takes_nobodys_place() {
        let defined = crate::logic::saga::definition::tests::create_order();
        let mut labels = Labels::default();
        for saga_type in ["defined", "t0"] {
            let defined = Some(&defined);
            let label =
                |labels: &mut Labels, state| labels.state(saga_type, defined, state).1.to_owned();
            assert_eq!(label(&mut labels, Some("APPROVED")), "APPROVED");
            assert_eq!(label(&mut labels, Some("SHIPPED")), "other");
            assert_eq!(label(&mut labels, None), "none");
            assert_eq!(
                labels.step(saga_type, defined, "create-ticket").1,
                "create-ticket"
            );
            assert_eq!(
                labels.step(saga_type, defined, "deliver"),
                (saga_type, "other")
            );
        }
        for number in 0..50 {
            let name = format!("t{number}");
            assert_eq!(labels.saga_type(&name, None), name);
        }
        assert_eq!(labels.saga_type("t50", None), "other");
        assert_eq!(labels.saga_type("t50", Some(&defined)), "t50");
    }
}
