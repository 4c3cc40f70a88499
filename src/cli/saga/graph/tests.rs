//! Reads the pictures again, by the grammars of those who draw them as far as these are used. Never draws.

use proptest::prelude::*;

use super::*;
use crate::logic::saga::definition::tests::create_order;

/// What a picture says: boxes by their labels, and the arrows between them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Picture {
    boxes: Vec<(String, String)>,
    arrows: Vec<(String, String)>,
}

/// A word of the DOT language: <https://graphviz.org/doc/info/lang.html>.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Word {
    Id(String),
    Quoted(String),
    Sign(String),
}

fn words(text: &str) -> Result<Vec<Word>, String> {
    let mut words = Vec::new();
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            c if c.is_whitespace() => {}
            '"' => {
                let mut inner = String::new();
                loop {
                    match rest.next() {
                        Some('\\') => match rest.next() {
                            Some('n') => inner.push('\n'),
                            Some(c) => inner.push(c),
                            None => return Err("ends in a backslash".into()),
                        },
                        Some('"') => break,
                        Some(c) => inner.push(c),
                        None => return Err("a string does not end".into()),
                    }
                }
                words.push(Word::Quoted(inner.replace("&amp;", "&")));
            }
            '-' if rest.next_if_eq(&'>').is_some() => words.push(Word::Sign("->".into())),
            '{' | '}' | '[' | ']' | ';' | '=' | ',' => words.push(Word::Sign(c.into())),
            c if c.is_ascii_alphanumeric() || c == '_' => {
                let mut id = String::from(c);
                while let Some(c) = rest.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
                    id.push(c);
                }
                words.push(Word::Id(id));
            }
            c => return Err(format!("{c:?} is no sign of the language")),
        }
    }
    Ok(words)
}

struct Dot {
    words: std::iter::Peekable<std::vec::IntoIter<Word>>,
    picture: Picture,
}

impl Dot {
    fn read(text: &str) -> Result<Picture, String> {
        let words = words(text)?.into_iter().peekable();
        let picture = Picture::default();
        let mut dot = Self { words, picture };
        dot.id("digraph")?;
        dot.any_id()?;
        dot.block()?;
        match dot.words.next() {
            None => Ok(dot.picture),
            Some(word) => Err(format!("{word:?} after the end")),
        }
    }

    fn id(&mut self, expected: &str) -> Result<(), String> {
        match self.any_id()? {
            id if id == expected => Ok(()),
            id => Err(format!("{id} instead of {expected}")),
        }
    }

    fn any_id(&mut self) -> Result<String, String> {
        match self.words.next() {
            Some(Word::Id(id) | Word::Quoted(id)) => Ok(id),
            other => Err(format!("{other:?} is no name")),
        }
    }

    fn sign(&mut self, sign: &str) -> bool {
        let wanted = Word::Sign(sign.into());
        self.words.next_if_eq(&wanted).is_some()
    }

    fn block(&mut self) -> Result<(), String> {
        if !self.sign("{") {
            return Err("no block".into());
        }
        while !self.sign("}") {
            self.statement()?;
            self.sign(";");
        }
        Ok(())
    }

    fn statement(&mut self) -> Result<(), String> {
        let name = self.any_id()?;
        if name == "subgraph" {
            self.any_id()?;
            return self.block();
        }
        if self.sign("=") {
            return self.any_id().map(|_| ());
        }
        if self.sign("->") {
            let to = self.any_id()?;
            self.picture.arrows.push((name, to));
            return self.attributes().map(|_| ());
        }
        let label = self.attributes()?;
        if name != "node" {
            self.picture.boxes.push((name, label.unwrap_or_default()));
        }
        Ok(())
    }

    /// The label among them.
    fn attributes(&mut self) -> Result<Option<String>, String> {
        let mut label = None;
        if !self.sign("[") {
            return Ok(label);
        }
        loop {
            let name = self.any_id()?;
            if !self.sign("=") {
                return Err(format!("{name} has no value"));
            }
            let value = self.any_id()?;
            if name == "label" {
                label = Some(value);
            }
            if self.sign("]") {
                return Ok(label);
            }
            if !self.sign(",") {
                return Err("no comma".into());
            }
        }
    }
}

/// A state diagram, by the lexer of Mermaid: a statement a line, a description in quotes, `#number;` for a character.
fn read_mermaid(text: &str) -> Result<Picture, String> {
    let mut lines = text.lines();
    let mut picture = Picture::default();
    let mut depth = 0;
    if !lines.next().is_some_and(|line| line.starts_with("%% "))
        || lines.next() != Some("stateDiagram-v2")
    {
        return Err("no head".into());
    }
    let is_id =
        |id: &str| id == "[*]" || id.chars().all(|c| c.is_ascii_alphanumeric()) && !id.is_empty();
    for line in lines {
        let line = line.trim();
        if line == "}" {
            depth -= 1;
        } else if let Some(rest) = line.strip_prefix("state \"") {
            let (label, rest) = rest.split_once('"').ok_or(line)?;
            let id = rest.strip_prefix(" as ").ok_or(line)?;
            let id = match id.strip_suffix(" {") {
                Some(id) => {
                    depth += 1;
                    id
                }
                None => id,
            };
            if !is_id(id) {
                return Err(format!("{id} is no id"));
            }
            if id != "steps" {
                picture.boxes.push((id.to_owned(), character_of(label)?));
            }
        } else {
            let (arrow, note) = line.split_once(" : ").unwrap_or((line, ""));
            let (from, to) = arrow.split_once(" --> ").ok_or(line)?;
            if !is_id(from) || !is_id(to) || note.contains(['#', ';', ':']) {
                return Err(line.to_owned());
            }
            picture.arrows.push((from.to_owned(), to.to_owned()));
        }
    }
    if depth == 0 {
        Ok(picture)
    } else {
        Err("braces".into())
    }
}

fn character_of(label: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = label;
    while let Some((before, after)) = rest.split_once('#') {
        let (number, after) = after.split_once(';').ok_or(label)?;
        let number: u32 = number.parse().map_err(|_| label.to_owned())?;
        out.push_str(&before.replace("<br/>", "\n"));
        out.push(char::from_u32(number).ok_or(label)?);
        rest = after;
    }
    if rest.contains([';', ':', '{', '}']) {
        return Err(format!("a sign of the language in {label}"));
    }
    Ok(out + &rest.replace("<br/>", "\n"))
}

fn arrows(of: &[(&str, &str)]) -> Vec<(String, String)> {
    let arrow = |(from, to): &(&str, &str)| ((*from).to_owned(), (*to).to_owned());
    let mut arrows: Vec<_> = of.iter().map(arrow).collect();
    arrows.sort();
    arrows
}

#[test]
fn both_pictures_show_states_ways_steps_and_what_undoes_them() {
    let definition = create_order();
    let dot = Dot::read(&draw(&definition, Format::Dot)).unwrap();
    let mermaid = read_mermaid(&draw(&definition, Format::Mermaid)).unwrap();
    let label = |picture: &Picture, id: &str| {
        let found = picture.boxes.iter().find(|(other, _)| other == id);
        found.map(|(_, label)| label.clone())
    };
    for picture in [&dot, &mermaid] {
        let label = |id: &str| label(picture, id).unwrap();
        assert_eq!(label("s0"), "APPROVAL_PENDING\nat most 2m");
        assert_eq!(label("s2"), "APPROVED\ncompleted");
        assert_eq!(label("t1"), "create-ticket\nkitchen, compensatable");
        assert_eq!(label("c1"), "CancelTicket");
    }
    let ways = [("s0", "s1"), ("s0", "s2"), ("s0", "s3"), ("s1", "s3")];
    let steps = [("t0", "t1"), ("t1", "t2"), ("t2", "t3"), ("t1", "c1")];
    let sorted = |mut picture: Picture| {
        picture.arrows.sort();
        picture.arrows
    };
    let begin = [("start", "s0")];
    assert_eq!(sorted(dot), arrows(&[&ways[..], &steps, &begin].concat()));
    let ends = [("[*]", "s0"), ("s2", "[*]"), ("s3", "[*]")];
    assert_eq!(
        sorted(mermaid),
        arrows(&[&ways[..], &steps, &ends].concat())
    );
}

proptest! {
    /// Whatever a name has in it, it stays a name.
    #[test]
    fn any_name_is_drawn_as_it_is(name in "\\PC{1,20}|[\"\\\\#;:{}<>&%\\[\\]*-]{1,10}", compensation in any::<String>()) {
        let mut definition = create_order();
        definition.saga_type = name.clone().into();
        definition.states[1].name = name.clone().into();
        definition.steps[1].name = name.clone().into();
        definition.steps[1].compensation = Some(compensation.clone().into());
        let said = compensation.replace(char::is_control, " ");
        for (picture, format) in [
            (Dot::read(&draw(&definition, Format::Dot)), "dot"),
            (read_mermaid(&draw(&definition, Format::Mermaid)), "mermaid"),
        ] {
            let picture = picture.map_err(|error| TestCaseError::fail(format!("{format}: {error}")))?;
            let has = |id: &str, label: &str| picture.boxes.contains(&(id.to_owned(), label.to_owned()));
            prop_assert!(has("s1", &format!("{name}\nat most 2m")), "{} {:?}", format, picture);
            prop_assert!(has("t1", &format!("{name}\nkitchen, compensatable")), "{}", format);
            prop_assert!(has("c1", &said), "{} {:?}", format, picture);
        }
    }
}
