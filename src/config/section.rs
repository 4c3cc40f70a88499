//! Reads one table of the file key by key, notes what is wrong and goes on; then complains of the keys nobody asked for.
//!
//! The reader keeps a list of the keys that were asked for and their defaults, so that the commented file can be
//! compared with it.

use std::cell::RefCell;
use std::ffi::OsString;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::diagnostics::Problem;
use super::value::Fault;
use super::words::nearest;

/// What there is to know about the process and its machine besides the file.
pub(super) struct Outside<'a> {
    /// Looks up an environment variable.
    pub(super) variable: &'a dyn Fn(&str) -> Option<OsString>,
    /// The host's name.
    pub(super) host: String,
}

/// A key that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    /// Its path, with `*` for a name that the operator chooses.
    pub(super) path: String,
    /// The default as TOML; `None` when there is none.
    pub(super) default: Option<String>,
    /// Whether its table is wrong without it.
    pub(super) is_needed: bool,
    /// What it takes.
    pub(super) form: Form,
}

/// Whether a key must be given.
#[derive(Debug, Clone, Copy)]
pub(super) enum Need<'a> {
    /// It must.
    Must,
    /// Without it something is off.
    May,
    /// Without it this holds, as TOML.
    Default(&'a str),
}

/// What a key takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Form {
    /// A text; here and below, the value of a variable may stand for it.
    Text,
    /// A whole number and a unit of time.
    Duration,
    /// A whole number and a unit of size.
    Size,
    /// One of these words.
    Word(Vec<&'static str>),
    /// A list of what this takes.
    List(Box<Self>),
    /// `true` or `false`.
    Flag,
    /// A whole number of this range.
    Number(RangeInclusive<u64>),
    /// Where a secret is kept.
    Secret,
    /// A table with exactly one of these keys.
    OneOf(Vec<(&'static str, Self)>),
}

/// What was asked for in a file.
pub(super) struct Asked {
    /// Every key.
    pub(super) keys: Vec<Key>,
    /// Every table, and whether it may be missing even if it has keys that may not.
    pub(super) tables: Vec<(String, bool)>,
}

/// Collects what the sections find.
pub(super) struct Reader<'a> {
    pub(super) outside: &'a Outside<'a>,
    pub(super) base: &'a Path,
    /// What explains every key.
    manual: &'static str,
    problems: RefCell<Vec<Problem>>,
    keys: RefCell<Vec<Key>>,
    tables: RefCell<Vec<(String, bool)>>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(outside: &'a Outside<'a>, base: &'a Path, manual: &'static str) -> Self {
        Self {
            outside,
            base,
            manual,
            problems: RefCell::default(),
            keys: RefCell::default(),
            tables: RefCell::default(),
        }
    }

    /// Everything that is wrong, and what was asked for.
    pub(super) fn into_findings(self) -> (Vec<Problem>, Asked) {
        let asked = Asked {
            keys: self.keys.into_inner(),
            tables: self.tables.into_inner(),
        };
        (self.problems.into_inner(), asked)
    }

    fn note(&self, span: Range<usize>, fault: Fault) {
        self.problems.borrow_mut().push(Problem { span, fault });
    }
}

pub(super) type Value<'a> = Spanned<DeValue<'a>>;

/// One table of the file, present or not.
pub(super) struct Section<'a> {
    pub(super) reader: &'a Reader<'a>,
    /// How messages call it, such as `[sources.orders.batch]`.
    title: String,
    /// Its path with `*`, for the list of keys.
    path: String,
    /// Where to point when something is missing.
    pub(super) span: Range<usize>,
    table: Option<&'a DeTable<'a>>,
    /// What should be a table is none; that has been said, so what is missing in it need not be.
    broken: bool,
    asked: RefCell<Vec<&'static str>>,
}

impl<'a> Section<'a> {
    /// The whole file.
    pub(super) fn root(reader: &'a Reader<'a>, table: &'a DeTable<'a>) -> Self {
        Self {
            reader,
            title: "the file".to_owned(),
            path: String::new(),
            span: 0..0,
            table: Some(table),
            broken: false,
            asked: RefCell::default(),
        }
    }

    /// A table in this one; an absent one has all its defaults.
    pub(super) fn section(&self, key: &'static str) -> Section<'a> {
        self.note_table(key, false);
        self.table_of(key)
    }

    fn note_table(&self, key: &str, is_optional: bool) {
        let table = (self.path_of(key), is_optional);
        self.reader.tables.borrow_mut().push(table);
    }

    fn table_of(&self, key: &'static str) -> Section<'a> {
        self.asked.borrow_mut().push(key);
        match self.table.and_then(|table| table.get_key_value(key)) {
            Some((name, value)) => self.inner(key, self.title_of(key), name.span(), value),
            None => self.child(
                key,
                self.title_of(key),
                self.span.clone(),
                None,
                self.broken,
            ),
        }
    }

    /// A table in this one, if it is there.
    pub(super) fn optional(&self, key: &'static str) -> Option<Section<'a>> {
        self.note_table(key, true);
        let section = self.table_of(key);
        (section.table.is_some() || (section.broken && !self.broken)).then_some(section)
    }

    /// What the operator named in this table, in the file's order.
    pub(super) fn children(&self) -> Vec<(&'a str, Range<usize>, &'a Value<'a>)> {
        let entry = |(key, value): (&'a Spanned<DeString<'a>>, _)| {
            (key.get_ref().as_ref(), key.span(), value)
        };
        let mut children: Vec<_> = self
            .table
            .into_iter()
            .flat_map(|table| table.iter())
            .map(entry)
            .collect();
        children.sort_by_key(|(_, span, _)| span.start);
        children
    }

    /// One of [`Section::children`] as a table.
    pub(super) fn named(
        &self,
        name: &str,
        span: Range<usize>,
        value: &'a Value<'a>,
    ) -> Section<'a> {
        self.note_table("*", true);
        self.inner("*", self.title_of(name), span, value)
    }

    fn inner(
        &self,
        key: &str,
        title: String,
        span: Range<usize>,
        value: &'a Value<'a>,
    ) -> Section<'a> {
        match value.get_ref() {
            DeValue::Table(table) => self.child(key, title, span, Some(table), false),
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_) => {
                let remedy = format!("write its keys below a line {title}");
                self.refuse(
                    value.span(),
                    Fault::new(format!("{title} must be a table"), remedy),
                );
                self.child(key, title, span, None, true)
            }
        }
    }

    fn child(
        &self,
        key: &str,
        title: String,
        span: Range<usize>,
        table: Option<&'a DeTable<'a>>,
        broken: bool,
    ) -> Section<'a> {
        let (reader, path) = (self.reader, self.path_of(key));
        Section {
            reader,
            title,
            path,
            span,
            table,
            broken,
            asked: RefCell::default(),
        }
    }

    fn title_of(&self, key: &str) -> String {
        match self.title.strip_suffix(']') {
            Some(title) => format!("{title}.{key}]"),
            None => format!("[{key}]"),
        }
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    /// The value of a key, if it is given. Whether it must be, and its form, are only noted here.
    pub(super) fn given(
        &self,
        key: &'static str,
        need: Need<'_>,
        form: Form,
    ) -> Option<&'a Value<'a>> {
        self.asked.borrow_mut().push(key);
        let path = self.path_of(key);
        self.reader.keys.borrow_mut().push(Key {
            path,
            default: match need {
                Need::Default(default) => Some(default.to_owned()),
                Need::Must | Need::May => None,
            },
            is_needed: matches!(need, Need::Must),
            form,
        });
        self.table.and_then(|table| table.get(key))
    }

    /// The directory of the configuration file.
    pub(super) fn base(&self) -> &'a Path {
        self.reader.base
    }

    /// A path, relative to the configuration file.
    pub(super) fn path(&self, text: &str) -> Result<PathBuf, Fault> {
        super::value::filled(text).map(|text| self.base().join(text))
    }

    /// Notes that a key is needed.
    pub(super) fn missing<T>(&self, key: &str) -> Option<T> {
        if !self.broken {
            let what = format!("`{key}` is missing in {}", self.title);
            let remedy = format!("add it; {} explains every key", self.reader.manual);
            let fault = Fault::new(what, remedy);
            self.reader.note(self.span.clone(), fault);
        }
        None
    }

    /// Whether a key is given, rightly or not.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    /// Whether there is something else in this table's place; that has been complained of.
    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Notes an error at a place.
    pub(super) fn refuse(&self, span: Range<usize>, fault: Fault) {
        self.reader.note(span, fault);
    }

    /// Notes an error of a value.
    pub(super) fn refuse_value<T>(&self, value: &Value<'_>, what: &str, remedy: &str) -> Option<T> {
        self.refuse(value.span(), Fault::new(what, remedy));
        None
    }

    /// Where a key's value is, or the section when the key is not given: for errors of two keys together.
    pub(super) fn span_of(&self, key: &str) -> Range<usize> {
        self.table
            .and_then(|table| table.get(key))
            .map_or(self.span.clone(), |value| value.span())
    }

    /// Complains of every key that was not asked for.
    pub(super) fn end(self) {
        let asked = self.asked.borrow();
        for (key, span, _) in self.children() {
            if asked.contains(&key) {
                continue;
            }
            let remedy = match nearest(key, &asked) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known here: {}", asked.join(", ")),
            };
            self.refuse(
                span,
                Fault::new(format!("{} has no key `{key}`", self.title), remedy),
            );
        }
    }
}
