//! The documents keep their word: each command is run or says why not, each limit has its test and its metric, no link is dead.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::prometheus::promtool;
use crate::support::{kafka, postgres, unique};
use crate::world::{OUTBOXD, Service, daemon};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn documents() -> Vec<(String, String)> {
    let folder = fs::read_dir(root().join("docs")).unwrap().flatten();
    let pages = folder.map(|entry| entry.path());
    let mut pages: Vec<PathBuf> = pages
        .filter(|path| path.extension().is_some_and(|it| it == "md"))
        .collect();
    pages.push(root().join("README.md"));
    pages.push(root().join("ARCHITECTURE.md"));
    pages.sort();
    let page = |path: PathBuf| {
        let name = path.strip_prefix(root()).unwrap().display().to_string();
        (name, fs::read_to_string(path).unwrap())
    };
    pages.into_iter().map(page).collect()
}

/// All code of the project, its tests included.
fn code() -> String {
    fn read(folder: &Path, code: &mut String) {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                read(&path, code);
            } else if path.extension().is_some_and(|it| it == "rs") {
                code.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }
    let mut code = String::new();
    for folder in ["src", "tests", "benches"] {
        read(&root().join(folder), &mut code);
    }
    code
}

/// A block of commands, and what the line before it says of it.
struct Commands {
    page: String,
    said: String,
    lines: Vec<String>,
}

fn commands() -> Vec<Commands> {
    let mut found = Vec::new();
    for (page, text) in documents() {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        for (at, _) in lines
            .iter()
            .enumerate()
            .filter(|(_, line)| **line == "```sh")
        {
            let before = lines[..at].iter().rev().find(|line| !line.is_empty());
            let body = lines[at + 1..].iter().take_while(|line| **line != "```");
            found.push(Commands {
                page: page.clone(),
                said: before.map_or(String::new(), |line| (*line).to_owned()),
                lines: body.map(|line| (*line).to_owned()).collect(),
            });
        }
    }
    found
}

/// Those of README.md have a test of their own, which begins without a database.
#[test]
fn every_command_in_the_documents_is_run_or_says_why_not() {
    let (code, service) = (code(), Service::install(postgres(17), "docs"));
    let daemon = daemon(kafka(), &unique("docs"), &[&service]);
    daemon.wait_ready();
    let mut ran = BTreeSet::new();
    for block in commands().iter().filter(|block| block.page != "README.md") {
        let page = &block.page;
        if let Some(test) = block.said.strip_prefix("<!-- run by `") {
            let test = test.split('`').next().unwrap();
            assert!(
                code.contains(&format!("fn {test}(")),
                "{page}: there is no test {test}"
            );
            continue;
        }
        if let Some(why) = block.said.strip_prefix("<!-- not run: ") {
            assert!(why.len() > 20, "{page}: {why}");
            continue;
        }
        for line in &block.lines {
            let words: Vec<&str> = line.split_whitespace().collect();
            let ended = match words.split_first() {
                Some((&"outboxd", words)) => {
                    let config = daemon.config().display().to_string();
                    let name = service.name.as_str();
                    let word = |word: &&str| match *word {
                        "outboxd.toml" => config.clone(),
                        "orders" => name.to_owned(),
                        other => other.to_owned(),
                    };
                    let mut command = Command::new(OUTBOXD);
                    command.env("OUTBOXD_CONFIG", &config);
                    command.args(words.iter().map(word)).output().unwrap()
                }
                Some((&"promtool", words)) => promtool(words, ""),
                _ => panic!(
                    "{page}: nothing runs `{line}`; say <!-- run by `test` --> or <!-- not run: why -->"
                ),
            };
            assert!(ended.status.success(), "{page}: {line}: {ended:?}");
            ran.insert(line.clone());
        }
    }
    assert!(ran.len() >= 4, "{ran:?}");
}

#[test]
fn every_limit_has_a_test_and_a_metric() {
    let (code, metrics) = (
        code(),
        fs::read_to_string(root().join("docs/metrics.md")).unwrap(),
    );
    let limits = fs::read_to_string(root().join("docs/limits.md")).unwrap();
    let rows = limits
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| what "));
    let mut count = 0;
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [_, _, _, metric, test] = cells[..] else {
            panic!("{row} has not five cells");
        };
        let test = test.trim_matches('`');
        assert!(
            code.contains(&format!("fn {test}(")),
            "there is no test {test}"
        );
        let known = metrics.contains(&format!("| {metric} | "));
        assert!(
            known || metric.starts_with("none: "),
            "there is no metric {metric}"
        );
        count += 1;
    }
    assert!(count >= 25, "{count}");
}

/// A heading as a link names it.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter_map(|c| match c {
        ' ' => Some('-'),
        c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c.to_ascii_lowercase()),
        _ => None,
    });
    kept.collect()
}

#[test]
fn no_link_is_dead() {
    for (page, text) in documents() {
        let folder = root().join(&page).parent().unwrap().to_owned();
        let links = text
            .split("](")
            .skip(1)
            .map(|rest| rest.split(')').next().unwrap());
        for link in links.filter(|link| !link.contains("://") && !link.contains(' ')) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let path = if file.is_empty() {
                root().join(&page)
            } else {
                folder.join(file)
            };
            assert!(path.exists(), "{page}: {link} leads nowhere");
            if heading.is_empty() || path.is_dir() {
                continue;
            }
            let target = fs::read_to_string(&path).unwrap();
            let headings = target.lines().filter(|line| line.starts_with('#'));
            let mut headings = headings.map(|line| anchor(line.trim_start_matches('#').trim()));
            assert!(
                headings.any(|it| it == heading),
                "{page}: {link} has no such heading"
            );
        }
    }
}
