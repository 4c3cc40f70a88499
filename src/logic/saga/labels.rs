//! Which names of sagas may be labels of metrics: the first of each kind, and `other` for the rest. Never forgets one.

use std::collections::{HashMap, HashSet};

/// Names of one kind that keep theirs.
const NAMES: usize = 50;
/// What the rest is called.
const OTHER: &str = "other";

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
    /// A type's label, and that of one of its states.
    pub fn state<'a>(&mut self, saga_type: &'a str, state: &'a str) -> (&'a str, &'a str) {
        match self.of_type(saga_type) {
            Some(of_type) => (saga_type, first(&mut of_type.states, state)),
            None => (OTHER, OTHER),
        }
    }

    /// A type's label, and that of one of its steps.
    pub fn step<'a>(&mut self, saga_type: &'a str, step: &'a str) -> (&'a str, &'a str) {
        match self.of_type(saga_type) {
            Some(of_type) => (saga_type, first(&mut of_type.steps, step)),
            None => (OTHER, OTHER),
        }
    }

    /// A type's label.
    pub fn saga_type<'a>(&mut self, saga_type: &'a str) -> &'a str {
        self.of_type(saga_type).map_or(OTHER, |_| saga_type)
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

    #[test]
    fn the_first_fifty_keep_their_names() {
        let mut labels = Labels::default();
        for number in 0..50 {
            let name = format!("t{number}");
            assert_eq!(labels.saga_type(&name), name);
            let state = format!("s{number}");
            assert_eq!(labels.state("t0", &state), ("t0", state.as_str()));
            assert_eq!(labels.step("t0", &state).1, state);
        }
        assert_eq!(labels.saga_type("t50"), "other");
        assert_eq!(labels.state("t50", "s0"), ("other", "other"));
        assert_eq!(labels.state("t0", "s50"), ("t0", "other"));
        assert_eq!(labels.step("t0", "s50"), ("t0", "other"));
        assert_eq!(labels.state("t49", "s50"), ("t49", "s50"));
        assert_eq!(labels.state("t0", "s0"), ("t0", "s0"));
    }
}
