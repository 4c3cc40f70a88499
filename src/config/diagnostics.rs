//! How the errors of files look: all of them, each with its place, the line, a caret, and what to do.
//!
//! Keeps only what may be shown: the text of the file is masked when a report is made, not when it is printed.

use std::fmt;
use std::ops::Range;

use super::mask;
use super::value::Fault;

/// More than this of a line is not shown.
const LINE_CHARS_MAX: usize = 120;

/// Everything that is wrong with a configuration, file by file and in the order of each.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors {
    reports: Vec<Report>,
}

/// One error, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Report {
    file: String,
    fault: Fault,
    place: Option<Place>,
}

/// Where in the file, and the line with secrets masked.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    line: usize,
    column: usize,
    shown: String,
    caret_at: usize,
    carets: usize,
}

/// An error found while reading, by its place in the text.
#[derive(Debug, Clone)]
pub(super) struct Problem {
    pub(super) span: Range<usize>,
    pub(super) fault: Fault,
}

impl ConfigErrors {
    /// An error that has no place in the file, such as that there is no file.
    pub(super) fn whole(file: String, fault: Fault) -> Self {
        let place = None;
        Self {
            reports: vec![Report { file, fault, place }],
        }
    }

    /// Those of several files; none if there are none.
    pub(super) fn all(errors: impl IntoIterator<Item = Self>) -> Option<Self> {
        let reports: Vec<_> = errors.into_iter().flat_map(|it| it.reports).collect();
        (!reports.is_empty()).then_some(Self { reports })
    }

    /// `strict`: the text is not TOML, so only what is certain not to be a secret is shown.
    pub(super) fn new(file: String, text: &str, mut problems: Vec<Problem>, strict: bool) -> Self {
        problems.sort_by_key(|problem| (problem.span.start, problem.span.end));
        problems.dedup_by(|a, b| a.span == b.span && a.fault == b.fault);
        let hidden = mask::hidden(text, strict);
        let report = |problem: Problem| Report {
            file: file.clone(),
            place: Some(Place::of(text, &problem.span, &hidden)),
            // A key is repeated in it, and may hold what a terminal obeys.
            fault: Fault::new(visible(&problem.fault.what), visible(&problem.fault.remedy)),
        };
        Self {
            reports: problems.into_iter().map(report).collect(),
        }
    }

    /// How many there are; never 0.
    pub fn count(&self) -> usize {
        self.reports.len()
    }
}

fn visible(text: &str) -> String {
    text.replace(char::is_control, "\u{fffd}")
}

impl Place {
    fn of(text: &str, span: &Range<usize>, hidden: &[Range<usize>]) -> Self {
        let start = span.start.min(text.len());
        let before = text.get(..start).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let rest = text.get(line_start..).unwrap_or_default();
        let line_text = rest
            .split(['\n'])
            .next()
            .unwrap_or_default()
            .trim_end_matches('\r');
        let (mut shown, mut caret_at, mut carets) = (String::new(), None, 0_usize);
        let (mut width, mut last_hidden) = (0, None);
        for (offset, c) in line_text.char_indices() {
            let at = line_start + offset;
            let inside = span.contains(&at);
            if inside || at >= start {
                caret_at.get_or_insert(width);
            }
            let veil = hidden.iter().position(|range| range.contains(&at));
            let line_end = line_start + line_text.len();
            if c == '#'
                && hidden
                    .iter()
                    .any(|range| range.start == at && range.end >= line_end)
            {
                // A comment says nothing about the error.
                break;
            }
            // A hidden stretch is three stars however long it is, so that its length stays hidden, too.
            let piece = match (veil, last_hidden) {
                (Some(now), Some(before)) if now == before => "",
                (Some(_), _) => "***",
                (None, _) if c.is_control() => " ",
                (None, _) => rest.get(offset..offset + c.len_utf8()).unwrap_or_default(),
            };
            last_hidden = veil;
            shown.push_str(piece);
            width += piece.chars().count();
            carets += if inside { piece.chars().count() } else { 0 };
        }
        let (caret_at, carets) = (caret_at.unwrap_or(width), carets.max(1));
        let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
        let place = Self {
            line: before.matches('\n').count() + 1,
            column,
            shown,
            caret_at,
            carets,
        };
        place.clipped()
    }

    /// Cuts a long line to a window around the caret.
    fn clipped(mut self) -> Self {
        let chars = self.shown.chars().count();
        if chars > LINE_CHARS_MAX {
            let from = self
                .caret_at
                .saturating_sub(LINE_CHARS_MAX / 3)
                .min(chars - LINE_CHARS_MAX);
            self.shown = self.shown.chars().skip(from).take(LINE_CHARS_MAX).collect();
            self.caret_at -= from;
            self.carets = self.carets.min(LINE_CHARS_MAX - self.caret_at).max(1);
        }
        self.shown.truncate(self.shown.trim_end().len());
        self
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Report { file, fault, place } in &self.reports {
            writeln!(f, "error: {}", fault.what)?;
            let gutter = place
                .as_ref()
                .map_or(1, |place| place.line.to_string().len());
            match place {
                Some(Place {
                    line,
                    column,
                    shown,
                    caret_at,
                    carets,
                }) => {
                    writeln!(f, "{:gutter$}--> {file}:{line}:{column}", "")?;
                    writeln!(f, "{:gutter$} |", "")?;
                    writeln!(f, "{}", format!("{line} | {shown}").trim_end())?;
                    writeln!(
                        f,
                        "{:gutter$} | {:caret_at$}{}",
                        "",
                        "",
                        "^".repeat(*carets)
                    )?;
                }
                None => writeln!(f, "{:gutter$}--> {file}", "")?,
            }
            writeln!(f, "{:gutter$} = help: {}\n", "", fault.remedy)?;
        }
        let mut files: Vec<_> = self.reports.iter().map(|it| it.file.as_str()).collect();
        files.dedup();
        match self.reports.len() {
            1 => write!(f, "1 error in {}", files.join(", ")),
            count => write!(f, "{count} errors in {}", files.join(", ")),
        }
    }
}
