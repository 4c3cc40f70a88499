//! `[kafka.properties]`: which of librdkafka's properties an operator may set.
//!
//! Refuses, by name and with the reason, what would break a promise. Whether librdkafka knows a property is not asked here.

use toml::Spanned;
use toml::de::DeValue;

use super::librdkafka::{looks_secret, misspelt_secret, refusal};
use super::section::Section;
use super::value::Fault;
use super::{Property, Secret};

/// Reads the table, in the file's order.
pub(super) fn read(table: &Section<'_>) -> Vec<(String, Property)> {
    let mut properties = Vec::new();
    for (name, place, value) in table.children() {
        let legal =
            |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'.' | b'_');
        let fault = if let Some(why) = refusal(name) {
            Some(Fault::new(
                format!("the property `{name}` is not yours to set"),
                why,
            ))
        } else if !name.contains('.')
            && let Some(inner) = nested(name, value.get_ref())
        {
            Some(Fault::new(
                "the name of a property has dots and must stand in quotes",
                format!("write \"{inner}\" = …"),
            ))
        } else if name.is_empty() || !name.bytes().all(legal) {
            Some(Fault::new(
                "this is not the name of a librdkafka property",
                "names are of a-z 0-9 . and _, such as \"security.protocol\"",
            ))
        } else {
            None
        };
        match fault {
            Some(fault) => table.refuse(place, fault),
            None => properties
                .extend(property(table, name, value).map(|value| (name.to_owned(), value))),
        }
    }
    properties
}

/// The dotted name that somebody forgot to quote: TOML makes tables of it.
fn nested(name: &str, value: &DeValue<'_>) -> Option<String> {
    let table = value.as_table()?;
    if table
        .keys()
        .any(|key| Secret::KINDS.contains(&key.get_ref().as_ref()))
    {
        return None;
    }
    let (key, value) = table.iter().next()?;
    let name = format!("{name}.{}", key.get_ref());
    Some(nested(&name, value.get_ref()).unwrap_or(name))
}

fn property(table: &Section<'_>, name: &str, value: &Spanned<DeValue<'_>>) -> Option<Property> {
    let text = match value.get_ref() {
        DeValue::Table(_) => return table.secret_at(name, value).map(Property::Secret),
        DeValue::String(text) => text.clone().into_owned(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => number.to_string(),
            Err(_) => {
                return table.refuse_value(
                    value,
                    "the number is too big",
                    "librdkafka takes 64 bits",
                );
            }
        },
        DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Array(_) => {
            return table.refuse_value(
                value,
                &format!("the value of `{name}` must be a text, a whole number, true or false"),
                "put it in quotes",
            );
        }
    };
    if looks_secret(name) {
        return table.refuse_value(
            value,
            &format!("`{name}` is a secret and does not belong into this file"),
            "write { file = \"…\" }, { credential = \"…\" } or { env = \"…\" }",
        );
    }
    if let Some(secret) = misspelt_secret(name) {
        return table.refuse_value(
            value,
            &format!("librdkafka has no property `{name}`"),
            &format!("did you mean `{secret}`? It is a secret: write {{ file = \"…\" }}"),
        );
    }
    if text.contains('\0') {
        return table.refuse_value(value, "the value has a zero byte", "leave it out");
    }
    // Paths are relative to the file, as everywhere in it; `probe` is librdkafka's word for looking around.
    let path = [".location", ".file", ".keytab"]
        .iter()
        .any(|end| name.ends_with(end));
    if path && !text.is_empty() && text != "probe" {
        return Some(Property::Plain(
            table.base().join(text).display().to_string(),
        ));
    }
    Some(Property::Plain(text))
}
