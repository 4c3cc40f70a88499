//! The files that say what sagas should look like → proven definitions, or everything that is wrong with them at once.

use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::diagnostics::Problem;
use super::section::{Asked, Reader, Section};
use super::value::{self, Fault};
use super::{ConfigErrors, keys, outside, read, read_text};
use crate::logic::event::Timestamp;
use crate::logic::saga::{Definition, Definitions};

mod states;
mod steps;

const MANUAL: &str = "docs/sagas.md";

/// Reads all files that a pattern names. A pattern that fits none defines nothing.
pub(super) fn read(pattern: &str) -> Result<Definitions, ConfigErrors> {
    let files = files(pattern)?;
    let mut errors = Vec::new();
    let mut texts = Vec::new();
    for file in files {
        match read_text(
            &file,
            "the definition",
            "mend `definitions` in [sagas], or the file",
        ) {
            Ok(text) => texts.push((file, text)),
            Err(error) => errors.push(error),
        }
    }
    let mut found: Vec<Found> = Vec::new();
    for (file, text) in &texts {
        let (mut problems, _, one) = parse(file, text);
        if let Some(one) = one {
            problems.extend(clash(&found, &one));
            found.push(one);
        }
        if !problems.is_empty() {
            // There is no secret in it; if it is the wrong file, values of unknown keys are hidden.
            errors.push(ConfigErrors::new(
                file.display().to_string(),
                text,
                problems,
                false,
            ));
        }
    }
    match ConfigErrors::all(errors) {
        Some(errors) => Err(errors),
        None => Ok(found.into_iter().map(|one| one.definition).collect()),
    }
}

/// What a pattern names, in the order of the names.
fn files(pattern: &str) -> Result<Vec<PathBuf>, ConfigErrors> {
    let whole = |what: String| {
        let remedy = "mend `definitions` in [sagas]; write it as \"sagas/*.toml\"";
        ConfigErrors::whole(pattern.to_owned(), Fault::new(what, remedy))
    };
    // One that is named in full must be there.
    if !pattern.contains(['*', '?', '[']) {
        return Ok(vec![pattern.into()]);
    }
    let paths = glob::glob(pattern)
        .map_err(|error| whole(format!("this is not a pattern of files: {}", error.msg)))?;
    paths
        .map(|path| path.map_err(|error| whole(format!("cannot look for definitions: {error}"))))
        .collect()
}

/// What a file defines; to be used only if nothing was complained of.
pub(super) struct Found {
    file: PathBuf,
    definition: Definition,
    /// Where the type is named.
    place: Range<usize>,
}

/// What is wrong with a text, what was asked for in it, and what it defines.
pub(super) fn parse(file: &Path, text: &str) -> (Vec<Problem>, Asked, Option<Found>) {
    let outside = outside();
    let (table, broken) = DeTable::parse_recoverable(text);
    let reader = Reader::new(&outside, file.parent().unwrap_or(Path::new("/")), MANUAL);
    let found = definition(file, Section::root(&reader, table.get_ref()));
    let (mut problems, asked) = reader.into_findings();
    if !broken.is_empty() {
        problems = read::syntax(text, &broken, problems);
    }
    (problems, asked, found)
}

fn definition(file: &Path, section: Section<'_>) -> Option<Found> {
    let saga_type = section.text("saga", None, value::word);
    let version = section.number("version", 1, 1..=keys::NUMBER_MAX);
    let since = section.optional_text("since", moment);
    let states = states::read(section.section("states"));
    let steps = steps::read(section.section("steps"));
    let place = section.span_of("saga");
    section.end();
    Some(Found {
        file: file.to_owned(),
        definition: Definition {
            saga_type: saga_type?.into(),
            version: version?,
            since,
            states,
            steps,
        },
        place,
    })
}

fn moment(text: &str) -> Result<Timestamp, Fault> {
    Timestamp::from_rfc3339(text).ok_or_else(|| {
        Fault::new(
            "this is not a moment",
            "write it as \"2026-11-21T10:00:00Z\"",
        )
    })
}

/// Why a definition cannot stand beside those that were read before.
fn clash(found: &[Found], one: &Found) -> Option<Problem> {
    let ours = &one.definition;
    let fault = found.iter().find_map(|other| {
        let (theirs, name) = (&other.definition, other.file.display());
        if theirs.saga_type != ours.saga_type {
            return None;
        }
        if theirs.version == ours.version {
            return Some(Fault::new(
                format!("version {} of this saga is also in {name}", ours.version),
                "give the newer one a higher `version` and a `since`, or remove one",
            ));
        }
        let (older, newer) = if theirs.version < ours.version {
            (theirs, ours)
        } else {
            (ours, theirs)
        };
        // None is the beginning of time, and comes first.
        (newer.since <= older.since).then(|| {
            let (newer, older) = (newer.version, older.version);
            Fault::new(
                format!("version {newer} of this saga does not begin after version {older}; the other is in {name}"),
                format!("give version {newer} a later `since`: sagas that began before keep version {older}"),
            )
        })
    })?;
    let span = one.place.clone();
    Some(Problem { span, fault })
}
