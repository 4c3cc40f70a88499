//! No secret gets out, and no text brings the reader down.

use proptest::prelude::*;

use super::{everything, read};

const CANARY: &str = "xCANARYx";

/// A file with secrets where they do not belong: all of it but the secrets themselves may be mangled.
const FILE: &str = r#"[kafka]
bootstrap_servers = "user:xCANARYx@127.0.0.1:9092" # xCANARYx
[kafka.properties]
"sasl.password" = "xCANARYx"
"ssl.key.pem" = """
-----BEGIN
xCANARYx==
-----END"""
"sasl.username" = { value = "xCANARYx" }
[relay]
lease = "10s"
passwort = 'xCANARYx'
[sources.orders]
url = "postgres://outboxd:xCANARYx@127.0.0.1:5432/orders?sslmode=disable"
password = "xCANARYx"
batch = { linger = "5ms", secret = "xCANARYx", events = 1000 }
[sources.other]
url = "postgres://u@h/d?password=xCANARYx"
password = { text = "xCANARYx" }
[push.tls]
key = [ "xCANARYx", xCANARYx ]
[push.auth]
algorithms = [
  "HS256", # xCANARYx
]
keys = { secret = "xCANARYx" }
"#;

/// Places in `FILE` that are not inside a secret or a URL.
fn free() -> Vec<usize> {
    let mut free = Vec::new();
    let mut offset = 0;
    for line in FILE.split_inclusive('\n') {
        let url = line
            .find("postgres")
            .or(line.find("user:"))
            .zip(line.rfind('"'));
        let canaries: Vec<_> = line
            .match_indices(CANARY)
            .map(|(at, _)| at..at + CANARY.len())
            .collect();
        free.extend(
            (0..line.len())
                .filter(|at| {
                    let in_url = url.is_some_and(|(from, to)| (from..=to).contains(at));
                    !in_url
                        && !canaries
                            .iter()
                            .any(|range| range.start <= *at && *at <= range.end)
                })
                .map(|at| at + offset),
        );
        offset += line.len();
    }
    free
}

fn check(text: &str) -> Result<(), TestCaseError> {
    let said = match read(text).0 {
        Ok(config) => format!("{}\n{config:?}", config.show()),
        Err(errors) => format!("{errors}\n{errors:?}"),
    };
    prop_assert!(!said.contains("CANARY"), "{text}\n-----\n{said}");
    Ok(())
}

#[test]
fn the_unmangled_file_shows_no_secret() {
    let (result, _) = read(FILE);
    let errors = result.unwrap_err();
    assert!(errors.count() >= 11, "{errors}");
    check(FILE).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_secret_is_not_shown_however_the_file_is_broken(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..24_usize), 1..4),
    ) {
        let free = free();
        let mut text = FILE.to_owned();
        let mut edits: Vec<_> = edits.iter().map(|(at, what)| (free[at.index(free.len())], *what)).collect();
        // From the back, so that the places stay true.
        edits.sort_unstable();
        edits.dedup_by_key(|(at, _)| *at);
        for (at, what) in edits.into_iter().rev() {
            match ["\"", "'", "\"\"\"", "'''", "=", "#", "[", "]", "{", "}", ",", "\n", "\\", ".", " ", "a"].get(what) {
                Some(piece) => text.insert_str(at, piece),
                None => { text.remove(at); }
            }
        }
        check(&text)?;
    }

    #[test]
    fn no_line_may_go_or_come_twice_and_tell(drop in 0..30_usize, twice in 0..30_usize) {
        let mut lines: Vec<_> = FILE.lines().collect();
        lines.insert(twice.min(lines.len()), lines[twice.min(lines.len() - 1)]);
        lines.remove(drop.min(lines.len() - 1));
        check(&lines.join("\n"))?;
    }

    #[test]
    fn no_text_panics(text in any::<String>()) {
        let _ = read(&text).0.map_err(|errors| errors.to_string());
    }

    #[test]
    fn no_change_of_a_good_file_panics(at in any::<prop::sample::Index>(), insert in any::<String>(), length in 0..40_usize) {
        let text = everything();
        let places: Vec<_> = text.char_indices().map(|(at, _)| at).collect();
        let at = places[at.index(places.len())];
        let rest: String = text[at..].chars().skip(length).collect();
        let text = format!("{}{insert}{rest}", &text[..at]);
        if let Err(errors) = read(&text).0 {
            prop_assert!(errors.count() > 0);
            prop_assert!(!errors.to_string().is_empty());
        }
    }

    #[test]
    fn every_value_may_be_anything(key in 0..60_usize, value in "\\PC{0,20}|-?[0-9]{1,30}|true|\\[\\]|\\{\\}|[0-9.]{1,9}|[0-9]{1,25}[a-zA-Z]{1,3}") {
        let text = everything();
        let keys: Vec<_> = text.lines().filter(|line| line.contains(" = ") && !line.starts_with('#')).collect();
        let line = keys[key % keys.len()];
        let name = line.split(" = ").next().unwrap();
        for value in [value.clone(), format!("{value:?}"), format!("{{ env = {value:?} }}"), format!("[{value:?}]")] {
            let _ = read(&text.replace(line, &format!("{name} = {value}"))).0.map_err(|errors| errors.to_string());
        }
    }
}
