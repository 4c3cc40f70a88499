//! Holds docs/patterns.md and the example's README to the example: what they name is there, and what they quote is in it.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unwrap_used,
    missing_docs,
    reason = "a test that cannot go on fails, and says where"
)]

use std::{fs, path::Path};

const PATTERNS: &str = include_str!("../docs/patterns.md");
const GUIDE: &str = include_str!("../examples/create_order/README.md");
const TESTS: &str = include_str!("create_order/main.rs");

/// A place in the example, and what is quoted of it.
struct Quote<'a> {
    file: &'a str,
    item: &'a str,
    lines: Vec<&'a str>,
}

/// All quotes of a page: a block, and before it the last link to a file with the name of an item in it.
fn quotes(page: &str) -> Vec<Quote<'_>> {
    let parts: Vec<_> = page.split("```").collect();
    let quotes = parts.chunks_exact(2).map(|pair| {
        let (_, place) = pair[0]
            .rsplit_once("](../examples/create_order/")
            .expect(pair[0]);
        let (file, rest) = place.split_once("),").expect(place);
        let item = rest.split('`').nth(1).expect(rest);
        let lines = pair[1].strip_prefix("rust\n").expect(pair[1]).lines();
        Quote {
            file,
            item,
            lines: lines.collect(),
        }
    });
    quotes.collect()
}

fn example(file: &str) -> String {
    let path = Path::new("examples/create_order").join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The items of this name in a file, from their attributes on.
fn items<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let starts = ["fn ", "const ", "struct ", "enum "];
    let lines = text.match_indices('\n').map(|(at, _)| at + 1);
    let found = lines.filter_map(|at| {
        let rest = &text[at..];
        let line = rest.lines().next()?;
        let declares = |start| {
            let declared = line.split_once(start).map(|(_, declared)| declared);
            let declared = declared.and_then(|it| it.strip_prefix(name));
            declared.is_some_and(|it| it.starts_with(['(', '<', ':', ' ']))
        };
        if line.trim_start().starts_with("//") || !starts.into_iter().any(declares) {
            return None;
        }
        // The last line of an item stands as far out as its first.
        let indent = &line[..line.len() - line.trim_start().len()];
        let end = match line.ends_with(';') {
            true => line.len(),
            false => rest.find(&format!("\n{indent}}}"))?,
        };
        Some(&rest[..end])
    });
    found.collect()
}

/// Whether these lines are in this text, one after the other, however they are indented.
fn quoted(lines: &[&str], text: &str) -> Result<(), String> {
    let mut rest = text.lines().map(str::trim);
    for line in lines {
        if !rest.any(|it| it == line.trim()) {
            return Err((*line).to_owned());
        }
    }
    Ok(())
}

#[test]
fn what_the_patterns_quote_is_in_the_example() {
    let quotes = quotes(PATTERNS);
    assert!(quotes.len() > 25, "{}", quotes.len());
    for Quote { file, item, lines } in quotes {
        let text = example(file);
        let items = items(&text, item);
        assert!(!items.is_empty(), "{file} has no {item}");
        let found = items.iter().any(|item| quoted(&lines, item).is_ok());
        assert!(
            found,
            "{item} in {file}: {:?}",
            items.iter().map(|it| quoted(&lines, it))
        );
    }
}

#[test]
fn every_rule_has_a_place_in_the_example() {
    // A rule opens its paragraph in bold; another rule or heading ends it.
    let rules = PATTERNS.split("\n**").skip(1);
    let rules = rules.map(|rule| rule.split("\n## ").next().unwrap());
    let mut count = 0;
    for rule in rules {
        let is_kept = rule.contains("](../examples/create_order/") || rule.contains("_twice`");
        assert!(is_kept, "nothing keeps this rule: {rule}");
        count += 1;
    }
    assert!(count > 20, "{count}");
}

#[test]
fn the_tests_that_the_patterns_name_are_there() {
    let words = PATTERNS.split('`').skip(1).step_by(2);
    let tests: Vec<_> = words
        .filter(|word| !word.contains(char::is_whitespace) && word.matches('_').count() > 4)
        .collect();
    assert!(tests.len() > 6, "{tests:?}");
    for test in tests {
        assert!(
            TESTS.contains(&format!("\nfn {test}() {{")),
            "there is no test {test}"
        );
    }
}

#[test]
fn what_the_guide_names_is_in_the_example() {
    let table = GUIDE
        .split("\n## ")
        .find(|part| part.starts_with("Where to find what"));
    let rows = table.unwrap().lines().filter(|line| line.starts_with("| "));
    let mut count = 0;
    for row in rows.skip(1) {
        let mut text = String::new();
        let place = row.split(" | ").nth(1).unwrap();
        for word in place.split('`').skip(1).step_by(2) {
            match word {
                file if file.ends_with(".rs") => text = example(file),
                "reply_to" => assert!(text.contains(word), "{row}"),
                item => {
                    let variant = text.contains(&format!("    {item},\n"));
                    assert!(variant || !items(&text, item).is_empty(), "{item}: {row}");
                }
            }
            count += 1;
        }
    }
    assert!(count > 30, "{count}");
}

#[test]
fn a_quote_that_is_not_there_is_seen() {
    let text = "\nfn one() {\n    first();\n    second();\n}\n\nfn two() {\n    third();\n}\n";
    let one = items(text, "one")[0];
    assert!(quoted(&["first();", "second();"], one).is_ok());
    assert!(quoted(&["second();", "first();"], one).is_err());
    assert!(quoted(&["third();"], one).is_err());
    assert!(items(text, "three").is_empty());
}
