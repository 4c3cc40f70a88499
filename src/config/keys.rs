//! Reads one key of a table: its type, its default, and where its text comes from. What is wrong goes to the reader.
//!
//! A key's default is said at the read and nowhere else.

use std::ffi::OsString;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use toml::de::DeValue;

use super::Secret;
use super::section::{Form, Need, Section, Value};
use super::value::{self, Fault};
use super::words::quoted;

/// The largest whole number that TOML promises to hold.
pub(super) const NUMBER_MAX: u64 = i64::MAX.unsigned_abs();

impl Section<'_> {
    /// A text. Without a default the key must be given; `None` means that it has been complained of.
    pub(super) fn text<T>(
        &self,
        key: &'static str,
        default: Option<&str>,
        read: impl Fn(&str) -> Result<T, Fault>,
    ) -> Option<T> {
        self.formed(key, default, Form::Text, read)
    }

    fn formed<T>(
        &self,
        key: &'static str,
        default: Option<&str>,
        form: Form,
        read: impl Fn(&str) -> Result<T, Fault>,
    ) -> Option<T> {
        let shown = default.map(quoted);
        let need = shown.as_deref().map_or(Need::Must, Need::Default);
        match (self.given(key, need, form), default) {
            (Some(value), _) => self.text_of(key, default.unwrap_or("…"), value, read),
            (None, Some(default)) => self.proven(key, self.span.clone(), "", read(default)),
            (None, None) => self.missing(key),
        }
    }

    /// A text that may be left out.
    pub(super) fn optional_text<T>(
        &self,
        key: &'static str,
        read: impl Fn(&str) -> Result<T, Fault>,
    ) -> Option<T> {
        self.given(key, Need::May, Form::Text)
            .and_then(|value| self.text_of(key, "…", value, read))
    }

    /// A duration of this range, in milliseconds.
    pub(super) fn duration(
        &self,
        key: &'static str,
        default: &str,
        range_ms: RangeInclusive<u64>,
    ) -> Option<Duration> {
        let read = value::duration_within(range_ms);
        self.formed(key, Some(default), Form::Duration, read)
    }

    /// A size of this range, in bytes.
    pub(super) fn size(
        &self,
        key: &'static str,
        default: &str,
        range: RangeInclusive<usize>,
    ) -> Option<usize> {
        self.formed(key, Some(default), Form::Size, value::size_within(range))
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(
        &self,
        key: &'static str,
        default: Option<&str>,
        choices: &[(&'static str, T)],
    ) -> Option<T> {
        let read = |text: &str| chosen(text, choices);
        self.formed(key, default, Form::Word(words(choices)), read)
    }

    /// One of a few words that may be left out.
    pub(super) fn optional_choice<T: Copy>(
        &self,
        key: &'static str,
        choices: &[(&'static str, T)],
    ) -> Option<T> {
        self.given(key, Need::May, Form::Word(words(choices)))
            .and_then(|value| self.text_of(key, "…", value, |text| chosen(text, choices)))
    }

    /// A list of texts.
    pub(super) fn texts<T>(
        &self,
        key: &'static str,
        default: &[&str],
        read: impl Fn(&str) -> Result<T, Fault>,
    ) -> Option<Vec<T>> {
        let texts = self.placed_texts(key, default, Form::Text, read)?;
        Some(texts.into_iter().map(|(text, _)| text).collect())
    }

    /// A list of texts of a form, each with its place.
    pub(super) fn placed_texts<T>(
        &self,
        key: &'static str,
        default: &[&str],
        form: Form,
        read: impl Fn(&str) -> Result<T, Fault>,
    ) -> Option<Vec<(T, Range<usize>)>> {
        let shown: Vec<String> = default.iter().map(|text| quoted(text)).collect();
        let shown = format!("[{}]", shown.join(", "));
        let form = Form::List(Box::new(form));
        let Some(value) = self.given(key, Need::Default(&shown), form) else {
            let span = self.span.clone();
            return default
                .iter()
                .map(|text| self.proven(key, span.clone(), "", read(text)))
                .map(|text| Some((text?, span.clone())))
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
            .map(|value| Some((self.text_of(key, "…", value, &read)?, value.span())))
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
        let shown = default.to_string();
        let form = Form::Number(range.clone());
        let Some(value) = self.given(key, Need::Default(&shown), form) else {
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
        let shown = default.to_string();
        let Some(value) = self.given(key, Need::Default(&shown), Form::Flag) else {
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
        self.given(key, Need::May, Form::Secret)
            .and_then(|value| self.secret_at(key, value))
    }

    /// Where a secret is kept that there must be.
    pub(super) fn required_secret(&self, key: &'static str) -> Option<Secret> {
        match self.given(key, Need::Must, Form::Secret) {
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
                Some(name) => self.proven("env", inner.span(), "", Secret::env(name)),
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

    /// One text, of a key or inside its value.
    pub(super) fn text_of<T>(
        &self,
        key: &str,
        example: &str,
        value: &Value<'_>,
        read: impl Fn(&str) -> Result<T, Fault>,
    ) -> Option<T> {
        if let Some(text) = value.get_ref().as_str() {
            return self.proven(key, value.span(), "", read(text));
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
            Some(Err(fault)) => return self.proven("env", value.span(), "", Err(fault)),
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
                key,
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

    fn proven<T>(
        &self,
        key: &str,
        span: Range<usize>,
        origin: &str,
        result: Result<T, Fault>,
    ) -> Option<T> {
        let named =
            |fault: Fault| Fault::new(format!("`{key}`: {}{origin}", fault.what), fault.remedy);
        result.map_err(|fault| self.refuse(span, named(fault))).ok()
    }
}

fn words<T>(choices: &[(&'static str, T)]) -> Vec<&'static str> {
    choices.iter().map(|(word, _)| *word).collect()
}

fn chosen<T: Copy>(text: &str, choices: &[(&'static str, T)]) -> Result<T, Fault> {
    let found = choices.iter().find(|(word, _)| *word == text);
    found.map(|(_, choice)| *choice).ok_or_else(|| {
        let words: Vec<_> = words(choices).into_iter().map(quoted).collect();
        Fault::new(
            "this is not a word that is known here",
            format!("write {}", words.join(" or ")),
        )
    })
}
