//! Definitions of sagas as their makers meet them: `check` and `run` refuse what cannot be right, all of it at once.

use std::fs;

use super::{Place, Ran, outboxd};

/// The definition that the repository ships.
const GOOD: &str = include_str!("../../config/sagas/create-order.toml");

fn place(definitions: &[(&str, &str)]) -> Place {
    let place = Place::with("[sagas]\ndefinitions = \"sagas/*.toml\"\n");
    fs::create_dir(place.path("sagas")).unwrap();
    for (name, text) in definitions {
        fs::write(place.path("sagas").join(name), text).unwrap();
    }
    place
}

fn check(place: &Place) -> Ran {
    outboxd(&["check", "--config", &place.config()])
}

/// Each is the good one with this replaced by that: what must be said of it, that and nothing else, and what is pointed at.
const BROKEN: [(&str, &str, &str, &str); 32] = [
    // The file.
    (
        "saga = \"create-order\"\n",
        "",
        "`saga` is missing in the file",
        "",
    ),
    (
        "saga = \"create-order\"",
        "saga = \"create order\"",
        "has a blank",
        "\"create order\"",
    ),
    (
        "version = 1",
        "version = 0",
        "`version` is out of range",
        "0",
    ),
    (
        "version = 1",
        "since = \"yesterday\"",
        "this is not a moment",
        "\"yesterday\"",
    ),
    (
        "version = 1",
        "versoin = 1",
        "did you mean `version`?",
        "versoin",
    ),
    (
        "version = 1",
        "[on]\nOrderCreated = 1",
        "the file has no key `on`",
        "on",
    ),
    ("[steps]", "[steps", "this is not TOML", ""),
    // States.
    (
        "APPROVED = { kind = \"terminal\", outcome = \"completed\" }\n",
        "",
        "there is no state `APPROVED`",
        "\"APPROVED\"",
    ),
    (
        "[\"APPROVED\", \"REJECTED\"]",
        "[\"APROVED\", \"REJECTED\"]",
        "did you mean `APPROVED`?",
        "\"APROVED\"",
    ),
    (
        "[\"APPROVED\", \"REJECTED\"]",
        "[\"APPROVED\"]",
        "no saga can get to `REJECTED`",
        "REJECTED",
    ),
    (
        "[\"APPROVED\", \"REJECTED\"]",
        "[\"APPROVED\", \"REJECTED\", \"APPROVED\"]",
        "`APPROVED` is in this list twice",
        "\"APPROVED\"",
    ),
    (
        "next = [\"APPROVED\", \"REJECTED\"]",
        "next = [\"APPROVED\", \"REJECTED\", \"APPROVAL_PENDING\"]",
        "a state that is said again is no move",
        "\"APPROVAL_PENDING\"",
    ),
    (
        "limit = \"2m\", ",
        "",
        "`APPROVAL_PENDING` has no limit",
        "APPROVAL_PENDING",
    ),
    (
        "limit = \"2m\"",
        "limit = \"2 minutes\"",
        "this is not a duration",
        "\"2 minutes\"",
    ),
    (
        "kind = \"initial\"",
        "kind = \"first\"",
        "write \"initial\" or \"forward\"",
        "\"first\"",
    ),
    (
        "kind = \"initial\"",
        "kind = \"forward\"",
        "no state is initial",
        "states",
    ),
    (
        "outcome = \"completed\"",
        "outcome = \"completed\", next = [\"REJECTED\"]",
        "`APPROVED` is terminal and has exits",
        "[\"REJECTED\"]",
    ),
    (
        "outcome = \"completed\"",
        "outcome = \"completed\", limit = \"1m\"",
        "`APPROVED` is terminal and has a limit",
        "\"1m\"",
    ),
    (
        ", outcome = \"rejected\"",
        "",
        "`REJECTED` is terminal and has no outcome",
        "REJECTED",
    ),
    (
        "outcome = \"rejected\"",
        "outcome = \"lost\"",
        "write \"completed\" or \"rejected\"",
        "\"lost\"",
    ),
    (
        "limit = \"2m\"",
        "limit = \"2m\", outcome = \"failed\"",
        "has an outcome and is not terminal",
        "\"failed\"",
    ),
    (
        "REJECTED = { kind = \"terminal\", outcome = \"rejected\" }",
        "REJECTED = { kind = \"compensating\", limit = \"5m\" }",
        "`REJECTED` has no way on",
        "REJECTED",
    ),
    (
        "REJECTED = {",
        "APPROVED = { kind = \"initial\" }\nREJECTED = {",
        "this key was given before",
        "APPROVED",
    ),
    (
        "REJECTED = { kind = \"terminal\", outcome = \"rejected\" }",
        "REJECTED = \"terminal\"",
        "[states.REJECTED] must be a table",
        "",
    ),
    // Steps.
    (
        ", compensation = \"TicketCancelled\"",
        "",
        "`create-ticket` is compensatable and has no compensation",
        "create-ticket",
    ),
    (
        "kind = \"pivot\"",
        "kind = \"pivot\", compensation = \"CardFreed\"",
        "`authorize-card` is pivot and has a compensation",
        "\"CardFreed\"",
    ),
    (
        "service = \"accounting\", ",
        "",
        "`service` is missing in [steps.authorize-card]",
        "authorize-card",
    ),
    (
        "kind = \"read_only\"",
        "kind = \"harmless\"",
        "write \"read_only\" or \"compensatable\"",
        "\"harmless\"",
    ),
    (
        "kind = \"read_only\"",
        "kind = \"retriable\"",
        "`verify-consumer` is retriable and comes before the pivot",
        "verify-consumer",
    ),
    (
        "kind = \"retriable\"",
        "kind = \"pivot\"",
        "`confirm-ticket` is a second pivot",
        "confirm-ticket",
    ),
    (
        "kind = \"retriable\"",
        "kind = \"compensatable\", compensation = \"X\"",
        "`confirm-ticket` is compensatable and comes after the pivot",
        "confirm-ticket",
    ),
    (
        "kind = \"retriable\"",
        "kind = \"retriable\", limit = \"5m\"",
        "[steps.confirm-ticket] has no key `limit`",
        "limit",
    ),
];

#[test]
fn each_broken_definition_is_refused_with_its_place() {
    for (from, to, say, at) in BROKEN {
        assert!(GOOD.contains(from), "{from}");
        let text = GOOD.replacen(from, to, 1);
        let place = place(&[("order.toml", &text)]);
        let ran = check(&place);
        assert_eq!((ran.code, ran.out.as_str()), (78, ""), "{to}");
        let file = place.path("sagas/order.toml").display().to_string();
        assert!(
            ran.err.contains(say),
            "{to} should say {say:?} but says\n{}",
            ran.err
        );
        assert!(
            ran.err.ends_with(&format!("\n1 error in {file}\n")),
            "{to}\n{}",
            ran.err
        );
        assert!(ran.err.contains(" = help: "), "{}", ran.err);
        if at.is_empty() {
            continue;
        }
        let arrow = ran.err.lines().find(|line| line.contains("--> ")).unwrap();
        let mut numbers = arrow.rsplit(':').map_while(|it| it.parse::<usize>().ok());
        let (column, line) = (numbers.next().unwrap(), numbers.next().unwrap());
        let there = text.lines().nth(line - 1).unwrap().split_at(column - 1).1;
        assert!(there.starts_with(at), "{to} points at {there}\n{}", ran.err);
        let carets = format!(" {}\n", "^".repeat(at.len()));
        assert!(ran.err.contains(&carets), "{to}\n{}", ran.err);
    }
}

#[test]
fn everything_that_is_wrong_in_any_file_is_told_at_once() {
    let broken = GOOD
        .replace("limit = \"2m\", ", "")
        .replace(", compensation = \"TicketCancelled\"", "")
        .replace("outcome = \"rejected\"", "outcome = \"lost\"");
    let unknown = "saga = \"other\"\ncolour = 1\n[states]\nA = { kind = \"initial\", limit = \"1m\", next = [\"B\"] }\nB = { kind = \"terminal\", outcome = \"completed\" }\n";
    let place = place(&[
        ("a.toml", &broken),
        ("b.toml", unknown),
        ("c.txt", "no definition"),
    ]);
    fs::write(
        place.file(),
        "[kafka.properties]\n\"sasl.password\" = { file = \"missing\" }\n[sagas]\ndefinitions = \"sagas/*.toml\"\n",
    )
    .unwrap();
    let ran = check(&place);
    let file = |name: &str| place.path("sagas").join(name).display().to_string();
    assert_eq!(ran.code, 78);
    let count = format!("\n4 errors in {}, {}\n", file("a.toml"), file("b.toml"));
    assert!(ran.err.contains(&count), "{}", ran.err);
    assert!(
        ran.err.contains("kafka.properties.\"sasl.password\""),
        "and what the configuration names: {}",
        ran.err
    );
    let refused = outboxd(&["run", "--config", &place.config()]);
    assert_eq!(refused.code, 78, "{refused:?}");
    assert!(refused.err.contains(&count), "{}", refused.err);
}

#[test]
fn a_definition_has_a_bounded_number_of_states_and_steps() {
    let definition = |states: usize, steps: usize| {
        let mut text =
            "saga = \"a\"\n[states]\nEND = { kind = \"terminal\", outcome = \"completed\" }\n"
                .to_owned();
        for number in 1..states {
            text += &format!(
                "S{number} = {{ kind = \"initial\", limit = \"1s\", next = [\"END\"] }}\n"
            );
        }
        text += "[steps]\n";
        for number in 0..steps {
            text += &format!("s{number} = {{ service = \"a\", kind = \"read_only\" }}\n");
        }
        check(&place(&[("a.toml", &text)]))
    };
    assert_eq!(definition(128, 128).code, 0);
    for (states, steps, say) in [
        (129, 1, "more than 128 states"),
        (2, 129, "more than 128 steps"),
    ] {
        let ran = definition(states, steps);
        assert_eq!(ran.code, 78);
        assert!(
            ran.err.contains(say) && ran.err.contains("\n1 error in"),
            "{}",
            ran.err
        );
    }
}

#[test]
fn good_definitions_are_counted_and_none_need_be_there() {
    let ran = check(&place(&[("order.toml", GOOD)]));
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert!(
        ran.out
            .ends_with("ok (no sources, no push, 1 saga definition)\n"),
        "{}",
        ran.out
    );
    let ran = check(&place(&[]));
    assert!(
        ran.out
            .ends_with("ok (no sources, no push, no saga definitions)\n"),
        "{ran:?}"
    );
    // One that is named in full is not there by mistake.
    let named = Place::with("[sagas]\ndefinitions = \"order.toml\"\n");
    let ran = check(&named);
    assert_eq!(ran.code, 78, "{ran:?}");
    assert!(
        ran.err.contains("cannot read the definition: No such file"),
        "{}",
        ran.err
    );
}

#[test]
fn versions_of_a_saga_stand_side_by_side_if_it_is_clear_which_one_a_saga_has() {
    let newer = GOOD.replace(
        "version = 1",
        "version = 2\nsince = \"2026-11-21T10:00:00Z\"",
    );
    let ran = check(&place(&[("new.toml", &newer), ("old.toml", GOOD)]));
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    for (text, say) in [
        (GOOD.to_owned(), "version 1 of this saga is also in "),
        (
            GOOD.replace("version = 1", "version = 2"),
            "version 2 of this saga does not begin after version 1",
        ),
    ] {
        let ran = check(&place(&[("a.toml", GOOD), ("b.toml", &text)]));
        assert_eq!(ran.code, 78, "{ran:?}");
        assert!(ran.err.contains(say), "{}", ran.err);
        assert!(ran.err.contains("a.toml"), "{}", ran.err);
    }
}

#[test]
fn a_definition_is_drawn_for_both_tools() {
    let other = GOOD.replace("create-order", "cancel-order");
    let (one, two) = (
        place(&[("a.toml", GOOD)]),
        place(&[("a.toml", GOOD), ("b.toml", &other)]),
    );
    let graph = |place: &Place, words: &[&str]| {
        let config = place.config();
        outboxd(&[&["saga", "graph", "--config", &config], words].concat())
    };
    let drawn = graph(&one, &[]);
    assert_eq!((drawn.code, drawn.err.as_str()), (0, ""));
    assert!(
        drawn.out.contains("\nstateDiagram-v2\n") && drawn.out.contains("APPROVAL_PENDING"),
        "{}",
        drawn.out
    );
    let drawn = graph(&two, &["cancel-order", "--format", "dot"]);
    assert_eq!((drawn.code, drawn.err.as_str()), (0, ""));
    assert!(
        drawn
            .out
            .starts_with("digraph saga {\n    label=\"cancel-order, version 1\""),
        "{}",
        drawn.out
    );
    for (ran, say) in [
        (graph(&two, &[]), "name one of cancel-order, create-order"),
        (
            graph(&two, &["create"]),
            "create is not defined; defined are cancel-order, create-order",
        ),
        (graph(&place(&[]), &[]), "no saga is defined"),
        (
            graph(&one, &["--format", "svg"]),
            "possible values: mermaid, dot",
        ),
    ] {
        assert_eq!(ran.code, 64, "{ran:?}");
        assert!(ran.err.contains(say), "{}", ran.err);
    }
}

/// The TOML of the page about definitions: the configuration, and the head of a newer version.
#[test]
fn what_the_page_shows_is_right() {
    let page = include_str!("../../docs/sagas.md");
    let blocks = page.split("```toml\n").skip(1);
    let blocks: Vec<_> = blocks
        .map(|rest| rest.split("```").next().unwrap())
        .collect();
    let [configuration, newer] = blocks[..] else {
        panic!("{blocks:?}");
    };
    let rest = GOOD.split_once("version = 1\n").unwrap().1;
    let newer = format!("{newer}{rest}");
    let place = place(&[("create-order.toml", GOOD), ("create-order-2.toml", &newer)]);
    fs::write(place.file(), configuration).unwrap();
    let ran = check(&place);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert!(ran.out.contains("2 saga definitions"), "{}", ran.out);
}
