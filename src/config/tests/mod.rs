//! What the configuration promises, rule by rule.

#![allow(clippy::string_slice, reason = "the texts are the tests' own")]

use std::ffi::OsString;
use std::path::Path;

use super::read;
use super::section::{Key, Outside};
use super::{Config, ConfigErrors};

mod canary;
mod database;
mod definitions;
mod documented;
mod properties;
mod reference;
mod relations;
mod reload;
mod schema;
mod values;

/// The commented file that the repository ships.
const REFERENCE: &str = include_str!("../../../config/outboxd.toml");

/// That file with everything switched on.
fn everything() -> String {
    let on = |line: &str| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase() || "[\"".contains(c)) => {
            rest.to_owned()
        }
        _ => line.to_owned(),
    };
    REFERENCE.lines().map(on).collect::<Vec<_>>().join("\n")
}

fn read(text: &str) -> (Result<Config, ConfigErrors>, Vec<Key>) {
    let variable = |name: &str| -> Option<OsString> {
        match name {
            "LEASE" => Some("20s".into()),
            "ORIGIN" => Some("https://a.example".into()),
            "BAD" => Some("CANARY".into()),
            "BYTES" => {
                use std::os::unix::ffi::OsStringExt;
                Some(OsString::from_vec(vec![0xff]))
            }
            _ => None,
        }
    };
    let outside = Outside {
        variable: &variable,
        host: "host".to_owned(),
    };
    let (config, asked) = read::config(Path::new("/etc/outboxd/outboxd.toml"), text, &outside);
    (config, asked.keys)
}

fn good(text: &str) -> Config {
    match read(text).0 {
        Ok(config) => config,
        Err(errors) => panic!("{text}\n{errors}"),
    }
}

fn bad(text: &str) -> String {
    match read(text).0 {
        Ok(_) => panic!("was accepted:\n{text}"),
        Err(errors) => errors.to_string(),
    }
}

/// Each pair: a text, and what must be said of it; that and nothing else.
fn each_is_refused(cases: &[(&str, &str)]) {
    for (text, say) in cases {
        let errors = bad(text);
        assert!(
            errors.contains(say),
            "{text}\nshould say {say:?} but says\n{errors}"
        );
        assert!(errors.contains("\n1 error in "), "{text}\n{errors}");
    }
}
