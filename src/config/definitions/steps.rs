//! The steps of a definition, in the order in which they are taken: what can fail must be undone, and what cannot be undone comes last.

use std::ops::Range;

use super::super::section::{Section, Value};
use super::super::value::{self, Fault};
use crate::logic::saga::definition::{NAMES, Step, StepKind};

/// A step as it was written.
struct Written {
    place: Range<usize>,
    kind: Option<StepKind>,
    step: Step,
}

/// Reads all of them; what is wrong has been complained of.
pub(super) fn read(section: Section<'_>) -> Vec<Step> {
    let children = section.children();
    let steps: Vec<_> = children
        .into_iter()
        .map(|(name, place, value)| step(&section, name, place, value))
        .collect();
    if steps.len() > NAMES {
        let remedy = "a saga of so many steps is several sagas";
        let fault = Fault::new(format!("there are more than {NAMES} steps"), remedy);
        section.refuse(section.span.clone(), fault);
    }
    let pivot = steps.iter().position(|it| it.kind == Some(StepKind::Pivot));
    for (at, Written { place, kind, step }) in steps.iter().enumerate() {
        if let Some(fault) = misplaced(*kind, at, pivot, &step.name) {
            section.refuse(place.clone(), fault);
        }
    }
    steps.into_iter().map(|written| written.step).collect()
}

fn step(steps: &Section<'_>, name: &str, place: Range<usize>, value: &Value<'_>) -> Written {
    let section = steps.named(name, place.clone(), value);
    if let Err(fault) = value::word(name) {
        section.refuse(place.clone(), fault);
    }
    let service = section.text("service", None, value::word);
    let kind = section.choice("kind", None, &StepKind::ALL);
    let compensation = section.optional_text("compensation", value::filled);
    let has_one = section.has("compensation");
    match kind {
        Some(StepKind::Compensatable) if !has_one => section.refuse(
            place.clone(),
            Fault::new(
                format!("`{name}` is compensatable and has no compensation"),
                "add what undoes it, such as compensation = \"CancelTicket\"; or make it \"read_only\" or \"retriable\"",
            ),
        ),
        Some(kind @ (StepKind::ReadOnly | StepKind::Pivot | StepKind::Retriable)) if has_one => {
            let what = format!("`{name}` is {} and has a compensation", kind.as_str());
            let remedy = "remove it, or make the step \"compensatable\"";
            section.refuse(section.span_of("compensation"), Fault::new(what, remedy));
        }
        Some(_) | None => {}
    }
    section.end();
    Written {
        place,
        kind,
        step: Step {
            name: name.into(),
            service: service.unwrap_or_default().into(),
            kind: kind.unwrap_or(StepKind::ReadOnly),
            compensation: compensation.map(Into::into),
        },
    }
}

/// What is wrong with a step of this kind at its place, where the first pivot is at another.
fn misplaced(kind: Option<StepKind>, at: usize, pivot: Option<usize>, name: &str) -> Option<Fault> {
    let pivot = pivot?;
    match kind? {
        StepKind::Pivot if at > pivot => Some(Fault::new(
            format!("`{name}` is a second pivot"),
            "a saga is decided once: make it \"compensatable\" or \"retriable\"",
        )),
        StepKind::Compensatable if at > pivot => Some(Fault::new(
            format!("`{name}` is compensatable and comes after the pivot"),
            "after the pivot nothing is undone: make it \"retriable\", or move it before the pivot",
        )),
        StepKind::Retriable if at < pivot => Some(Fault::new(
            format!("`{name}` is retriable and comes before the pivot"),
            "it would stand when the pivot fails: make it \"compensatable\", or move it behind the pivot",
        )),
        StepKind::Pivot | StepKind::Compensatable | StepKind::Retriable | StepKind::ReadOnly => {
            None
        }
    }
}
