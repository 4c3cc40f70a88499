//! `config/outboxd.toml` and the code say the same.

use std::collections::BTreeSet;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::super::mask;
use super::{REFERENCE, bad, everything, good, read};

fn find<'a>(table: &'a DeTable<'a>, path: &str) -> Option<&'a Spanned<DeValue<'a>>> {
    let (head, rest) = path
        .split_once('.')
        .map_or((path, None), |(head, rest)| (head, Some(rest)));
    let value = table.get(if head == "*" { "orders" } else { head })?;
    match rest {
        Some(rest) => find(value.get_ref().as_table()?, rest),
        None => Some(value),
    }
}

/// Where a text differs from the defaults that reading it told.
fn differences(text: &str) -> Vec<String> {
    let (config, keys) = read(text);
    let mut differences: Vec<_> = config.err().iter().map(ToString::to_string).collect();
    let table = DeTable::parse(text).unwrap();
    for key in keys {
        let value = find(table.get_ref(), &key.path);
        let written = value.map(|value| &text[value.span()]);
        match (written, &key.default) {
            (None, _) => differences.push(format!("{} is not in the file", key.path)),
            (Some(written), Some(default)) if written != default => {
                differences.push(format!(
                    "{}: {written} in the file, {default} in the code",
                    key.path
                ));
            }
            (Some(_), _) => {}
        }
    }
    differences
}

#[test]
fn every_key_is_in_the_file_with_its_default() {
    assert_eq!(differences(&everything()), Vec::<String>::new());
}

#[test]
fn the_comparison_notices_every_line() {
    let text = everything();
    let property = |line: &str| line.starts_with('"');
    for (at, line) in text
        .lines()
        .enumerate()
        .filter(|(_, line)| line.contains(" = ") && !line.starts_with('#'))
    {
        let without: Vec<_> = text
            .lines()
            .enumerate()
            .filter(|(other, _)| *other != at)
            .map(|(_, line)| line)
            .collect();
        assert!(
            property(line) || !differences(&without.join("\n")).is_empty(),
            "{line}"
        );
    }
    for (from, to) in [
        ("lease = \"10s\"", "lease = \"11s\""),
        ("= 50000", "= 50_000"),
        ("events = 1000", "events = 999"),
    ] {
        assert!(
            !differences(&text.replacen(from, to, 1)).is_empty(),
            "{from}"
        );
    }
    assert!(!differences(&text.replace("\n[admin]\n", "\n[admin]\ncolour = 1\n")).is_empty());
}

#[test]
fn the_file_as_it_stands_is_the_defaults_and_shows_all_that_are_in_effect() {
    assert_eq!(good(REFERENCE).show(), good("").show());
    let table = DeTable::parse(REFERENCE).unwrap();
    for key in read(REFERENCE).1.iter().filter(|key| key.default.is_some()) {
        assert!(
            find(table.get_ref(), &key.path).is_some(),
            "{} is commented out",
            key.path
        );
    }
}

#[test]
fn what_is_shown_names_every_key_and_reads_back_to_the_same() {
    for text in ["", &everything()] {
        let shown = good(text).show();
        assert_eq!(good(&shown).show(), shown);
        let table = DeTable::parse(&shown).unwrap();
        let keys = read(text).1;
        let unset = ["sagas.definitions", "push.state_directory"];
        for key in keys
            .iter()
            .filter(|key| !text.is_empty() || !unset.contains(&key.path.as_str()))
        {
            assert!(
                find(table.get_ref(), &key.path).is_some(),
                "{} is not shown",
                key.path
            );
        }
    }
}

#[test]
fn no_table_takes_a_key_that_nobody_asked_for() {
    let text = everything();
    let headers: BTreeSet<_> = text.lines().filter(|line| line.starts_with('[')).collect();
    assert_eq!(headers.len(), 10, "{headers:?}");
    for header in headers
        .iter()
        .filter(|header| **header != "[kafka.properties]")
    {
        let errors = bad(&text.replace(
            &format!("\n{header}\n"),
            &format!("\n{header}\ncolour = 1\n"),
        ));
        assert!(errors.contains("has no key `colour`"), "{header}\n{errors}");
        assert!(errors.contains("1 error in"), "{header}\n{errors}");
    }
    assert!(bad(&format!("colour = 1\n{text}")).contains("the file has no key `colour`"));
    let errors = bad(&text.replace("linger = ", "colour = 1, linger = "));
    assert!(
        errors.contains("[sources.orders.batch] has no key `colour`"),
        "{errors}"
    );
}

#[test]
fn values_of_the_file_may_be_shown_but_for_the_secret_ones() {
    let text = everything();
    let hidden = mask::hidden(&text, false);
    let table = DeTable::parse(&text).unwrap();
    for key in read(&text).1 {
        let value = find(table.get_ref(), &key.path).unwrap();
        let veiled = hidden
            .iter()
            .any(|range| value.span().contains(&range.start));
        assert!(!veiled, "{} is hidden", key.path);
    }
    let plain = text.replace("{ file = \"/run/secrets/orders\" }", "\"tiger\"");
    let plain = plain.replace("{ file = \"/etc/outboxd/tls.key\" }", "\"tiger\"");
    let plain = plain.replace(
        "{ jwks_url = \"https://id.example/jwks.json\" }",
        "\"tiger\"",
    );
    let errors = bad(&plain);
    assert_eq!(errors.matches("***").count(), 3, "{errors}");
    assert!(!errors.contains("tiger"), "{errors}");
}
