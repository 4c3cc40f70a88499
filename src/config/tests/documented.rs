//! `docs/configuration.md` is made of the commented file and of what the code says of each key.

use std::fmt::Write;

use super::reload::FIXED;
use super::{REFERENCE, everything, read};
use crate::generated::is_fresh;

const HEAD: &str = "<!-- Made from the code and config/outboxd.toml: `make docs` writes it, a test compares it. -->\n# Configuration\n\n";

const ABOUT: &str = "
[`config/outboxd.toml`](../config/outboxd.toml) has all of this as a file to begin with.

A key without a default must be given where its table is used, or means that something is off. `outboxd check` names every error
of a file at once; `outboxd config show` prints what is in effect.

*On reload* says what `outboxd ctl reload` and SIGHUP do with a changed value: **applied**, to everything that begins after it;
**source begins anew**, that source alone, without loss; **restart**, the reload is refused as a whole and names the key.
";

/// One key as the commented file has it.
struct Written {
    name: String,
    value: String,
    has_default: bool,
    meaning: String,
}

/// A table of the file: its name, what it is for, and its keys.
struct Table {
    name: String,
    meaning: String,
    keys: Vec<Written>,
}

/// The tables of the file, and the text before the first.
fn tables() -> (String, Vec<Table>) {
    let mut tables: Vec<Table> = Vec::new();
    let (mut opening, mut comment) = (String::new(), Vec::new());
    for line in REFERENCE.lines() {
        let is_off = line.starts_with('#') && !line.starts_with("# ") && line != "#";
        let code = line.strip_prefix('#').filter(|_| is_off).unwrap_or(line);
        if line.is_empty() || line == "#" || (line.starts_with("# ") && !is_off) {
            if line.is_empty() && tables.is_empty() {
                opening = comment.join("\n");
                comment.clear();
            }
            comment.extend(
                line.strip_prefix('#')
                    .map(|text| text.trim_start().to_owned()),
            );
            continue;
        }
        let meaning = std::mem::take(&mut comment).join(" ").trim().to_owned();
        if let Some(name) = code
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            tables.push(Table {
                name: name.to_owned(),
                meaning,
                keys: Vec::new(),
            });
        } else if let (Some((name, value)), Some(table)) =
            (code.split_once(" = "), tables.last_mut())
        {
            table.keys.push(Written {
                name: name.to_owned(),
                value: value.to_owned(),
                has_default: false,
                meaning,
            });
        }
    }
    (opening, tables)
}

fn on_reload(path: &str) -> &'static str {
    let is_fixed =
        |(fixed, _): &(&str, &str)| path == *fixed || path.starts_with(&format!("{fixed}."));
    if FIXED.iter().any(is_fixed) {
        "restart"
    } else if path.starts_with("sources.") {
        "source begins anew"
    } else {
        "applied"
    }
}

/// A cell of a table; what is in angle brackets or divides cells is not meant as such.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}

fn page() -> String {
    let (opening, tables) = tables();
    let known = read(&everything()).1;
    // Its first two paragraphs say what a line of the file is.
    let opening: Vec<&str> = opening.split("\n\n").skip(2).collect();
    let mut page = format!("{HEAD}{}\n{ABOUT}", opening.join("\n\n"));
    for table in tables {
        let path = table.name.replace("orders", "*");
        write!(page, "\n## [{}]\n\n", table.name).unwrap();
        if !table.meaning.is_empty() {
            write!(page, "{}\n\n", table.meaning).unwrap();
        }
        page.push_str("| key | default | on reload | meaning |\n|---|---|---|---|\n");
        for mut key in table.keys {
            let path = format!("{path}.{}", key.name);
            let of_key =
                |it: &&super::Key| it.path == path || it.path.starts_with(&format!("{path}."));
            key.has_default = known.iter().filter(of_key).any(|it| it.default.is_some());
            let default = match key.has_default {
                true => format!("`{}`", cell(&key.value)),
                false => format!("none; such as `{}`", cell(&key.value)),
            };
            let (name, reload, meaning) = (&key.name, on_reload(&path), cell(&key.meaning));
            writeln!(page, "| `{name}` | {default} | {reload} | {meaning} |").unwrap();
        }
    }
    page
}

#[test]
fn every_key_is_documented_with_its_default_and_what_a_reload_does() {
    let page = page();
    for key in read(&everything()).1 {
        let (table, name) = key.path.rsplit_once('.').unwrap();
        let (table, name) = match table.strip_suffix(".batch") {
            Some(table) => (table, "batch"),
            None => (table, name),
        };
        let section = page.split_once(&format!("\n## [{}]\n", table.replace('*', "orders")));
        let section = section.and_then(|(_, rest)| rest.split("\n## ").next());
        let has = section.is_some_and(|section| section.contains(&format!("\n| `{name}` | ")));
        assert!(has, "{} is not in the page", key.path);
    }
    is_fresh("docs/configuration.md", &page);
}
