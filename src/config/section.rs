//! Reads one table of the file key by key, notes what is wrong and goes on; then complains of the keys nobody asked for.
//!
//! Every read says the key and its default here and nowhere else, and the reader keeps the list of both, so that the
//! commented file can be compared with it.

use std::cell::RefCell;
use std::ffi::OsString;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::Secret;
use super::diagnostics::Problem;
use super::value::Fault;
use super::words::{nearest, quoted};

/// The largest whole number that TOML promises to hold.
pub(super) const NUMBER_MAX: u64 = i64::MAX.unsigned_abs();

/// What there is to know about the process and its machine besides the file.
pub(super) struct Outside<'a> {
    /// Looks up an environment variable.
    pub(super) variable: &'a dyn Fn(&str) -> Option<OsString>,
    /// The host's name.
    pub(super) host: String,
}

/// A key that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    /// Its path, with `*` for a name that the operator chooses.
    pub(super) path: String,
    /// The default as TOML; `None` when there is none.
    pub(super) default: Option<String>,
}

/// Collects what the sections find.
pub(super) struct Reader<'a> {
    pub(super) outside: &'a Outside<'a>,
    pub(super) base: &'a Path,
    problems: RefCell<Vec<Problem>>,
    keys: RefCell<Vec<Key>>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(outside: &'a Outside<'a>, base: &'a Path) -> Self {
        Self {
            outside,
            base,
            problems: RefCell::default(),
            keys: RefCell::default(),
        }
    }

    pub(super) fn into_findings(self) -> (Vec<Problem>, Vec<Key>) {
        (self.problems.into_inner(), self.keys.into_inner())
    }

    fn note(&self, span: Range<usize>, missing: bool, fault: Fault) {
        self.problems.borrow_mut().push(Problem {
            span,
            fault,
            missing,
        });
    }
}

type Value<'a> = Spanned<DeValue<'a>>;

/// One table of the file, present or not.
pub(super) struct Section<'a> {
    reader: &'a Reader<'a>,
    /// How messages call it, such as `[sources.orders] batch`.
    title: String,
    /// Its path with `*`, for the list of keys.
    path: String,
    /// Where to point when something is missing.
    span: Range<usize>,
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
        let section = self.section(key);
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

    /// The value of a key, if it is given. `default` is TOML and only noted here.
    pub(super) fn given(&self, key: &'static str, default: Option<&str>) -> Option<&'a Value<'a>> {
        self.asked.borrow_mut().push(key);
        let path = self.path_of(key);
        self.reader.keys.borrow_mut().push(Key {
            path,
            default: default.map(str::to_owned),
        });
        self.table.and_then(|table| table.get(key))
    }

    /// A text. Without a default the key must be given; `None` means that it has been complained of.
    pub(super) fn text<T>(
        &self,
        key: &'static str,
        default: Option<&str>,
        read: impl Fn(&str) -> Result<T, Fault>,
    ) -> Option<T> {
        let value = self.given(key, default.map(quoted).as_deref());
        match (value, default) {
            (Some(value), _) => self.text_of(key, default.unwrap_or("…"), value, read),
            (None, Some(default)) => self.proven(self.span.clone(), "", read(default)),
            (None, None) => self.missing(key),
        }
    }

    /// A text that may be left out.
    pub(super) fn optional_text<T>(
        &self,
        key: &'static str,
        read: impl Fn(&str) -> Result<T, Fault>,
    ) -> Option<T> {
        self.given(key, None)
            .and_then(|value| self.text_of(key, "…", value, read))
    }

    /// A list of texts.
    pub(super) fn texts<T>(
        &self,
        key: &'static str,
        default: &[&str],
        read: impl Fn(&str) -> Result<T, Fault>,
    ) -> Option<Vec<T>> {
        let shown: Vec<String> = default.iter().map(|text| quoted(text)).collect();
        let Some(value) = self.given(key, Some(&format!("[{}]", shown.join(", ")))) else {
            let span = self.span.clone();
            return default
                .iter()
                .map(|text| self.proven(span.clone(), "", read(text)))
                .collect();
        };
        let Some(values) = value.get_ref().as_array() else {
            let fault = Fault::new(
                format!("`{key}` must be a list"),
                format!("write {key} = [\"…\", \"…\"]"),
            );
            self.refuse(value.span(), fault);
            return None;
        };
        // All of them are read before the first failure counts, so that each is complained of.
        let read: Vec<_> = values
            .iter()
            .map(|value| self.text_of(key, "…", value, &read))
            .collect();
        read.into_iter().collect()
    }

    /// A whole number.
    pub(super) fn number(
        &self,
        key: &'static str,
        default: u64,
        range: RangeInclusive<u64>,
    ) -> Option<u64> {
        let Some(value) = self.given(key, Some(&default.to_string())) else {
            return Some(default);
        };
        let allowed = match range.clone().into_inner() {
            (least, NUMBER_MAX) => format!("allowed is {least} or more"),
            (least, most) => format!("allowed is {least} to {most}"),
        };
        let DeValue::Integer(number) = value.get_ref() else {
            let what = format!("`{key}` must be a whole number");
            return self.refuse_value(
                value,
                &what,
                &format!("write {key} = {default}, without quotes"),
            );
        };
        let number = i128::from_str_radix(number.as_str(), number.radix()).ok();
        let number = number.and_then(|number| u64::try_from(number).ok());
        match number.filter(|number| range.contains(number)) {
            Some(number) => Some(number),
            None => self.refuse_value(value, &format!("`{key}` is out of range"), &allowed),
        }
    }

    /// `true` or `false`.
    pub(super) fn flag(&self, key: &'static str, default: bool) -> Option<bool> {
        let Some(value) = self.given(key, Some(&default.to_string())) else {
            return Some(default);
        };
        match value.get_ref().as_bool() {
            Some(flag) => Some(flag),
            None => self.refuse_value(
                value,
                &format!("`{key}` must be true or false"),
                &format!("write {key} = {default}, without quotes"),
            ),
        }
    }

    /// Where a secret is kept, if the key is given.
    pub(super) fn secret(&self, key: &'static str) -> Option<Secret> {
        self.given(key, None)
            .and_then(|value| self.secret_at(key, value))
    }

    /// Where a secret is kept that there must be.
    pub(super) fn required_secret(&self, key: &'static str) -> Option<Secret> {
        match self.given(key, None) {
            Some(value) => self.secret_at(key, value),
            None => self.missing(key),
        }
    }

    /// A value of any key as a secret.
    pub(super) fn secret_at(&self, key: &str, value: &Value<'_>) -> Option<Secret> {
        let remedy = "write { file = \"…\" }, { credential = \"…\" } or { env = \"…\" }";
        let Some(table) = value.get_ref().as_table() else {
            let what = format!("`{key}` is a secret and does not belong into this file");
            return self.refuse_value(value, &what, remedy);
        };
        let (Some((kind, inner)), 1) = (table.iter().next(), table.len()) else {
            let what = format!("`{key}` must say one place where the secret is kept");
            return self.refuse_value(value, &what, remedy);
        };
        let base = self.reader.base;
        match kind.get_ref().as_ref() {
            "file" => self.text_of("file", "…", inner, |text| Secret::file(base, text)),
            "credential" => self.text_of("credential", "…", inner, Secret::credential),
            "env" => match inner.get_ref().as_str() {
                Some(name) => self.proven(inner.span(), "", Secret::env(name)),
                None => self.refuse_value(
                    inner,
                    "`env` must be the name of a variable in quotes",
                    remedy,
                ),
            },
            _ => {
                self.refuse(
                    kind.span(),
                    Fault::new("a secret cannot be kept there", remedy),
                );
                None
            }
        }
    }

    /// The directory of the configuration file.
    pub(super) fn base(&self) -> &'a Path {
        self.reader.base
    }

    /// A path, relative to the configuration file.
    pub(super) fn path(&self, text: &str) -> Result<PathBuf, Fault> {
        super::value::filled(text).map(|text| self.base().join(text))
    }

    /// One text, of a key or inside its value.
    pub(super) fn text_of<T>(
        &self,
        key: &str,
        example: &str,
        value: &Value<'_>,
        read: impl Fn(&str) -> Result<T, Fault>,
    ) -> Option<T> {
        if let Some(text) = value.get_ref().as_str() {
            return self.proven(value.span(), "", read(text));
        }
        let variable = value.get_ref().as_table().filter(|table| table.len() == 1);
        let Some(name) = variable.and_then(|table| table.get("env")) else {
            let what = format!("`{key}` must be a text in quotes");
            let remedy = format!(
                "write {key} = {}, or {key} = {{ env = \"…\" }}",
                quoted(example)
            );
            return self.refuse_value(value, &what, &remedy);
        };
        let name = match name.get_ref().as_str().map(Secret::env) {
            Some(Ok(Secret::Env(name))) => name,
            Some(Err(fault)) => return self.proven(value.span(), "", Err(fault)),
            Some(Ok(_)) | None => {
                return self.refuse_value(
                    value,
                    "`env` must be the name of a variable in quotes",
                    "mend it",
                );
            }
        };
        let remedy = "set it where the daemon is started, or write the value into the file";
        match (self.reader.outside.variable)(&name).map(OsString::into_string) {
            Some(Ok(text)) => self.proven(
                value.span(),
                &format!(" (the value of the variable {name})"),
                read(&text),
            ),
            Some(Err(_)) => {
                self.refuse_value(value, &format!("the variable {name} is not UTF-8"), remedy)
            }
            None => self.refuse_value(value, &format!("the variable {name} is not set"), remedy),
        }
    }

    fn proven<T>(&self, span: Range<usize>, origin: &str, result: Result<T, Fault>) -> Option<T> {
        result
            .map_err(|fault| {
                self.refuse(
                    span,
                    Fault {
                        what: fault.what + origin,
                        ..fault
                    },
                )
            })
            .ok()
    }

    /// Notes that a key is needed.
    pub(super) fn missing<T>(&self, key: &str) -> Option<T> {
        if !self.broken {
            let what = format!("`{key}` is missing in {}", self.title);
            let fault = Fault::new(what, "add it; config/outboxd.toml explains every key");
            self.reader.note(self.span.clone(), true, fault);
        }
        None
    }

    /// Notes an error at a place.
    pub(super) fn refuse(&self, span: Range<usize>, fault: Fault) {
        self.reader.note(span, false, fault);
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
