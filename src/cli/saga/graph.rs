//! Draws what sagas of a type should look like, as text for Mermaid or Graphviz. Never lays anything out itself.

use std::fmt::Write;

use crate::config::show_duration;
use crate::logic::saga::Definition;
use crate::logic::saga::definition::{State, StateKind, Step};

/// What to draw for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A state diagram of Mermaid, which many wikis and forges show in Markdown.
    Mermaid,
    /// A graph for the `dot` of Graphviz.
    Dot,
}

/// The whole picture: states with their ways, and below them the steps in their order, with what undoes them.
pub(super) fn draw(definition: &Definition, format: Format) -> String {
    // Writing into a String cannot fail.
    match format {
        Format::Mermaid => mermaid(definition),
        Format::Dot => dot(definition),
    }
    .unwrap_or_default()
}

/// What a state's box says, line by line.
fn state_lines(state: &State) -> Vec<String> {
    let limit = state.limit.as_ref();
    let limit = limit.map(|limit| format!("at most {}", show_duration(limit)));
    let outcome = state.outcome.map(|outcome| outcome.as_str().to_owned());
    let lines = [Some(state.name.to_string()), limit, outcome];
    lines.into_iter().flatten().collect()
}

fn step_lines(step: &Step) -> [String; 2] {
    let about = format!("{}, {}", step.service, step.kind.as_str());
    [step.name.to_string(), about]
}

/// States and steps as numbers, since a name may be anything.
fn place(definition: &Definition, state: &str) -> Option<usize> {
    let mut states = definition.states.iter();
    states.position(|other| *other.name == *state)
}

fn mermaid(definition: &Definition) -> Result<String, std::fmt::Error> {
    let mut out = format!(
        "%% {}, version {}\nstateDiagram-v2\n",
        plain(&definition.saga_type),
        definition.version
    );
    let label = |lines: &[String]| {
        let lines: Vec<_> = lines.iter().map(|line| entities(line)).collect();
        lines.join("<br/>")
    };
    for (at, state) in definition.states.iter().enumerate() {
        writeln!(out, "    state \"{}\" as s{at}", label(&state_lines(state)))?;
    }
    for (at, state) in definition.states.iter().enumerate() {
        if state.kind == StateKind::Initial {
            writeln!(out, "    [*] --> s{at}")?;
        }
        for next in state.next.iter().filter_map(|next| place(definition, next)) {
            writeln!(out, "    s{at} --> s{next}")?;
        }
        if state.kind == StateKind::Terminal {
            writeln!(out, "    s{at} --> [*]")?;
        }
    }
    if definition.steps.is_empty() {
        return Ok(out);
    }
    out.push_str("    state \"steps\" as steps {\n");
    for (at, step) in definition.steps.iter().enumerate() {
        writeln!(
            out,
            "        state \"{}\" as t{at}",
            label(&step_lines(step))
        )?;
        if let Some(compensation) = &step.compensation {
            writeln!(out, "        state \"{}\" as c{at}", entities(compensation))?;
            writeln!(out, "        t{at} --> c{at} : is undone by")?;
        }
        if let Some(before) = at.checked_sub(1) {
            writeln!(out, "        t{before} --> t{at}")?;
        }
    }
    out.push_str("    }\n");
    Ok(out)
}

fn dot(definition: &Definition) -> Result<String, std::fmt::Error> {
    let quoted = |lines: &[String]| {
        let lines: Vec<_> = lines.iter().map(|line| escaped(line)).collect();
        format!("\"{}\"", lines.join("\\n"))
    };
    let name = [format!(
        "{}, version {}",
        definition.saga_type, definition.version
    )];
    let mut out = format!(
        "digraph saga {{\n    label={};\n    node [shape=box, style=rounded];\n    start [shape=point, label=\"\"];\n",
        quoted(&name)
    );
    for (at, state) in definition.states.iter().enumerate() {
        let more = match state.kind {
            StateKind::Initial | StateKind::Forward => "",
            StateKind::Compensating => ", style=\"rounded,dashed\"",
            StateKind::Terminal => ", peripheries=2",
        };
        writeln!(
            out,
            "    s{at} [label={}{more}];",
            quoted(&state_lines(state))
        )?;
    }
    for (at, state) in definition.states.iter().enumerate() {
        if state.kind == StateKind::Initial {
            writeln!(out, "    start -> s{at};")?;
        }
        for next in state.next.iter().filter_map(|next| place(definition, next)) {
            writeln!(out, "    s{at} -> s{next};")?;
        }
    }
    if !definition.steps.is_empty() {
        out.push_str(
            "    subgraph cluster_steps {\n        label=\"steps\";\n        node [style=solid];\n",
        );
        for (at, step) in definition.steps.iter().enumerate() {
            writeln!(out, "        t{at} [label={}];", quoted(&step_lines(step)))?;
            if let Some(compensation) = &step.compensation {
                let compensation = quoted(&[compensation.to_string()]);
                writeln!(out, "        c{at} [label={compensation}, style=dashed];")?;
                writeln!(
                    out,
                    "        t{at} -> c{at} [label=\"is undone by\", style=dashed];"
                )?;
            }
            if let Some(before) = at.checked_sub(1) {
                writeln!(out, "        t{before} -> t{at};")?;
            }
        }
        out.push_str("    }\n");
    }
    out.push_str("}\n");
    Ok(out)
}

/// A text on one line.
fn plain(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// A text inside Mermaid's quotes: whatever could mean something there is a character's number.
fn entities(text: &str) -> String {
    let mut out = String::new();
    for c in plain(text).chars() {
        if c.is_alphanumeric() || " _-.,/".contains(c) {
            out.push(c);
        } else {
            out.push_str(&format!("#{};", u32::from(c)));
        }
    }
    out
}

/// A text inside Graphviz' quotes, where names of characters count as in HTML.
fn escaped(text: &str) -> String {
    let text = plain(text).replace('&', "&amp;");
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests;
