//! The functions of `fuzz/` over their corpora and over variations of these, on any toolchain: the short run. `make fuzz` is the long one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail"
)]

#[path = "../fuzz/src/lib.rs"]
#[allow(
    unreachable_pub,
    missing_docs,
    clippy::cast_lossless,
    clippy::wildcard_enum_match_arm,
    reason = "a crate of its own for cargo-fuzz"
)]
mod targets;

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};

/// Variations of each corpus.
const CASES: u32 = 1_500;

/// What may become of an input.
#[derive(Debug, Clone)]
enum Edit {
    /// A byte is another one.
    Byte(Index, u8),
    /// A line is gone.
    Drop(Index),
    /// A line of another input is put before this one.
    Insert(Index, Index, Index),
    /// A piece of a line is another line's.
    Splice(Index, Index),
}

fn edit() -> impl Strategy<Value = Edit> {
    let index = any::<Index>;
    prop_oneof![
        (index(), any::<u8>()).prop_map(|(at, with)| Edit::Byte(at, with)),
        index().prop_map(Edit::Drop),
        (index(), index(), index()).prop_map(|(at, input, line)| Edit::Insert(at, input, line)),
        (index(), index()).prop_map(|(at, from)| Edit::Splice(at, from)),
    ]
}

type Lines = Vec<Vec<u8>>;

fn lines(bytes: &[u8]) -> Lines {
    bytes
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::to_vec)
        .collect()
}

fn edited(mut input: Lines, edits: &[Edit], corpus: &[Lines]) -> Vec<u8> {
    for edit in edits {
        if input.is_empty() {
            input.push(Vec::new());
        }
        match edit {
            Edit::Byte(at, with) => {
                let line = at.index(input.len());
                let line = &mut input[line];
                if !line.is_empty() {
                    let at = at.index(line.len());
                    line[at] = *with;
                }
            }
            Edit::Drop(at) => {
                input.remove(at.index(input.len()));
            }
            Edit::Insert(at, other, line) => {
                let other = other.get(corpus);
                input.insert(at.index(input.len()), line.get(other).clone());
            }
            Edit::Splice(at, from) => {
                let from = from.get(&input).clone();
                let half = from.len() / 2;
                let line = at.index(input.len());
                let line = &mut input[line];
                line.truncate(line.len() / 2);
                line.extend(&from[half..]);
            }
        }
    }
    input.join(&b'\n')
}

#[test]
fn nothing_that_comes_from_outside_breaks_what_has_to_hold() {
    for (name, target) in targets::TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("fuzz/corpus")
            .join(name);
        let corpus: Vec<Lines> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| fs::read(entry.unwrap().path()).unwrap())
            .inspect(|bytes| target(bytes))
            .map(|bytes| lines(&bytes))
            .collect();
        assert!(!corpus.is_empty(), "{name} has no corpus");
        let config = Config {
            cases: CASES,
            failure_persistence: None,
            ..Config::default()
        };
        let strategy = (any::<Index>(), prop::collection::vec(edit(), 1..12));
        let tried = TestRunner::new(config).run(&strategy, |(which, edits)| {
            target(&edited(which.get(&corpus).clone(), &edits, &corpus));
            Ok(())
        });
        tried.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}
