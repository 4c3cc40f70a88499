//! The states of a definition: each for itself, and whether a saga can get to all of them and to an end.

use std::collections::HashSet;
use std::ops::Range;

use super::super::section::{Form, Section, Value};
use super::super::value::{self, Fault, duration_within};
use super::super::words::nearest;
use crate::logic::saga::Outcome;
use crate::logic::saga::definition::{NAMES, State, StateKind};

/// The longest limit, in ms.
const LIMIT_MAX: u64 = 365 * 24 * 3_600_000;

/// A state as it was written.
struct Written {
    name: String,
    place: Range<usize>,
    kind: Option<StateKind>,
    limit: Option<std::time::Duration>,
    next: Vec<(String, Range<usize>)>,
    outcome: Option<Outcome>,
}

/// Reads all of them; what is wrong has been complained of.
pub(super) fn read(section: Section<'_>) -> Vec<State> {
    let children = section.children();
    let states: Vec<_> = children
        .into_iter()
        .map(|(name, place, value)| state(&section, name, place, value))
        .collect();
    for state in &states {
        names(&section, state, &states);
    }
    ends(&section, &states);
    ways(&section, &states);
    states.into_iter().map(State::from).collect()
}

impl From<Written> for State {
    fn from(written: Written) -> Self {
        let next = written.next.into_iter().map(|(name, _)| name.into());
        Self {
            name: written.name.into(),
            kind: written.kind.unwrap_or(StateKind::Forward),
            limit: written.limit,
            next: next.collect(),
            outcome: written.outcome,
        }
    }
}

fn state(states: &Section<'_>, name: &str, place: Range<usize>, value: &Value<'_>) -> Written {
    let section = states.named(name, place.clone(), value);
    let kind = section.choice("kind", None, &StateKind::ALL);
    let limit = section.optional_text("limit", duration_within(1..=LIMIT_MAX));
    let next = section.placed_texts("next", &[], Form::Text, value::word);
    let outcome = section.optional_choice("outcome", &Outcome::ALL.map(|it| (it.as_str(), it)));
    let refuse = |place: Range<usize>, what: &str, remedy: &str| {
        section.refuse(place, Fault::new(format!("`{name}` {what}"), remedy));
    };
    let (has_limit, has_next) = (section.has("limit"), section.has("next"));
    let has_exits = next.as_ref().is_none_or(|next| !next.is_empty());
    match kind {
        Some(StateKind::Terminal) => {
            if has_next && has_exits {
                let remedy = "remove `next`, or make the state \"forward\" or \"compensating\"";
                refuse(section.span_of("next"), "is terminal and has exits", remedy);
            }
            if has_limit {
                let remedy = "remove `limit`: in a terminal state nothing is waited for";
                refuse(
                    section.span_of("limit"),
                    "is terminal and has a limit",
                    remedy,
                );
            }
            if !section.has("outcome") {
                let remedy = "add an outcome: \"completed\", \"rejected\", \"failed\", \"cancelled\" or \"timed_out\"";
                refuse(place.clone(), "is terminal and has no outcome", remedy);
            }
        }
        Some(StateKind::Initial | StateKind::Forward | StateKind::Compensating) => {
            if !has_limit {
                let remedy =
                    "add one, such as limit = \"5m\": a saga that stays longer is shown as stuck";
                refuse(place.clone(), "has no limit", remedy);
            }
            if !has_next || !has_exits {
                let remedy = "add `next`: the states that a saga may go to from here";
                refuse(place.clone(), "has no way on", remedy);
            }
            if section.has("outcome") {
                let remedy = "remove it, or make the state \"terminal\"";
                refuse(
                    section.span_of("outcome"),
                    "has an outcome and is not terminal",
                    remedy,
                );
            }
        }
        None => {}
    }
    section.end();
    Written {
        name: name.to_owned(),
        place,
        kind,
        limit,
        next: next.unwrap_or_default(),
        outcome,
    }
}

/// The state that a name in `next` means, or is nearest to.
fn meant<'a>(name: &str, states: &'a [Written]) -> Option<&'a Written> {
    let names: Vec<_> = states.iter().map(|state| state.name.as_str()).collect();
    let exact = states.iter().find(|state| state.name == name);
    exact.or_else(|| {
        let near = nearest(name, &names)?;
        states.iter().find(|state| state.name == near)
    })
}

/// The names in one state, and its own.
fn names(section: &Section<'_>, state: &Written, states: &[Written]) {
    if let Err(fault) = value::word(&state.name) {
        section.refuse(state.place.clone(), fault);
    }
    let mut seen = HashSet::new();
    for (name, place) in &state.next {
        let fault = if *name == state.name {
            Some(Fault::new(
                "a state that is said again is no move",
                "remove it from its own `next`",
            ))
        } else if !seen.insert(name) {
            Some(Fault::new(
                format!("`{name}` is in this list twice"),
                "keep one of the two",
            ))
        } else if states.iter().any(|state| state.name == *name) {
            None
        } else {
            let remedy = match meant(name, states) {
                Some(near) => format!("did you mean `{}`?", near.name),
                None => "add it to [states], or remove it here".to_owned(),
            };
            Some(Fault::new(format!("there is no state `{name}`"), remedy))
        };
        if let Some(fault) = fault {
            section.refuse(place.clone(), fault);
        }
    }
}

/// Whether there are states at all, not too many, and one to begin with.
fn ends(section: &Section<'_>, states: &[Written]) {
    let all_known = states.iter().all(|state| state.kind.is_some());
    let has = |kind| states.iter().any(|state| state.kind == Some(kind));
    let fault = if section.is_broken() {
        None
    } else if states.is_empty() {
        Some(Fault::new(
            "there are no states",
            "add those that the home service sets, below a line [states]",
        ))
    } else if states.len() > NAMES {
        Some(Fault::new(
            format!("there are more than {NAMES} states"),
            "what differs from saga to saga belongs into the payload",
        ))
    } else if all_known && !has(StateKind::Initial) {
        Some(Fault::new(
            "no state is initial",
            "give those that a saga begins with kind = \"initial\"",
        ))
    } else {
        None
    };
    if let Some(fault) = fault {
        section.refuse(section.span.clone(), fault);
    }
}

/// Whether a saga can get to each state, and from each to an end.
fn ways(section: &Section<'_>, states: &[Written]) {
    let all_known = states.iter().all(|state| state.kind.is_some());
    let of_kind = |kind| {
        let of_kind = states.iter().filter(move |state| state.kind == Some(kind));
        of_kind.map(|state| state.name.as_str()).collect::<Vec<_>>()
    };
    let begin = of_kind(StateKind::Initial);
    if !all_known || begin.is_empty() {
        return;
    }
    // A wrong name counts as what it probably means: one mistake is complained of once.
    let moves: Vec<(&str, &str)> = states
        .iter()
        .flat_map(|from| from.next.iter().map(|(to, _)| (from.name.as_str(), to)))
        .filter_map(|(from, to)| Some((from, meant(to, states)?.name.as_str())))
        .collect();
    let back: Vec<_> = moves.iter().map(|(from, to)| (*to, *from)).collect();
    let reached = spread(begin, &moves);
    let ending = spread(of_kind(StateKind::Terminal), &back);
    for state in states {
        let name = state.name.as_str();
        let fault = if !reached.contains(name) {
            Fault::new(
                format!("no saga can get to `{name}`"),
                "add it to the `next` of a state, make it \"initial\", or remove it",
            )
        } else if !ending.contains(name) && !state.next.is_empty() {
            Fault::new(
                format!("no way leads from `{name}` to an end"),
                "add a terminal state to its `next`, or to one of those it leads to",
            )
        } else {
            continue;
        };
        section.refuse(state.place.clone(), fault);
    }
}

/// All that the moves lead to from there.
fn spread<'a>(from: Vec<&'a str>, moves: &[(&'a str, &'a str)]) -> HashSet<&'a str> {
    let mut reached: HashSet<&str> = from.iter().copied().collect();
    let mut open = from;
    while let Some(here) = open.pop() {
        let on = moves.iter().filter(|(from, _)| *from == here);
        open.extend(on.filter_map(|(_, to)| reached.insert(to).then_some(*to)));
    }
    reached
}
