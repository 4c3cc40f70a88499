//! What a run prints, as JSON and as the table of docs/correctness.md. Never computes a figure twice: the table is made of
//! the JSON.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::schedule::Kind;
use crate::tail::Tail;
use crate::tally::{Recovery, Tally, percentile};

const BEGIN: &str = "<!-- figures of docs/chaos.json: begin -->\n";
const END: &str = "<!-- figures of docs/chaos.json: end -->\n";

/// The faults, each kind with its counts and recovery times.
pub(crate) fn faults(tally: &Tally, tail: &Tail, wanted: impl Fn(Kind) -> usize) -> Value {
    let recoveries = tally.recoveries(tail);
    let kind = |kind: Kind| {
        let recoveries = recoveries.get(&kind).map_or(&[][..], Vec::as_slice);
        let times = |wanted: fn(&&Recovery) -> bool| {
            let times: Vec<Duration> = recoveries
                .iter()
                .filter(wanted)
                .map(|recovery| recovery.took)
                .collect();
            let ms = |time: Option<Duration>| time.map(|time| time.as_millis());
            json!({
                "count": times.len(), "p50_ms": ms(percentile(&times, 50)), "p99_ms": ms(percentile(&times, 99)),
                "max_ms": ms(times.last().copied()),
            })
        };
        tally.of(kind, |count| {
            json!({
                "kind": kind.name(), "sign": kind.sign(), "wanted": wanted(kind),
                "effective": count.effective, "without_effect": count.without_effect,
                "recovery": { "alone": times(|recovery| recovery.alone), "all": times(|_| true) },
            })
        })
    };
    Kind::ALL.map(kind).into()
}

/// The whole run in Markdown, which reads well on a terminal, too.
pub(crate) fn markdown(run: &Value) -> String {
    let mut text =
        String::from("| fault | had an effect | had none | by which sign |\n|---|--:|--:|---|\n");
    let faults = run["faults"].as_array().unwrap();
    let faults = || faults.iter().filter(|fault| fault["wanted"] != 0);
    let word = |fault: &Value, name: &str| fault[name].as_str().unwrap().to_owned();
    for fault in faults() {
        let (kind, sign) = (word(fault, "kind"), word(fault, "sign"));
        let (effective, none) = (&fault["effective"], &fault["without_effect"]);
        let _ = writeln!(text, "| {kind} | {effective} | {none} | {sign} |");
    }
    text += "\n| recovery of a source | alone | p50 | p99 | with others | p50 | p99 | max |\n|---|--:|--:|--:|--:|--:|--:|--:|\n";
    for fault in faults() {
        let time = |which: &str, name: &str| {
            let ms = fault["recovery"][which][name].as_f64();
            ms.map_or("-".into(), |ms| format!("{:.1} s", ms / 1000.0))
        };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {} |",
            word(fault, "kind"),
            fault["recovery"]["alone"]["count"],
            time("alone", "p50_ms"),
            time("alone", "p99_ms"),
            fault["recovery"]["all"]["count"],
            time("all", "p50_ms"),
            time("all", "p99_ms"),
            time("all", "max_ms"),
        );
    }
    let verdict = &run["verdict"];
    let written = &run["written"];
    let seconds = run["seconds"].as_u64().unwrap();
    let duration = format!("{} min {} s", seconds / 60, seconds % 60);
    let _ = write!(
        text,
        "\n**{} lost, {} doubled, {} reordered, {} ghosts, {} left open**\n\n\
         {} records judged, of {} committed transactions; besides, {} were rolled back, and of {} whose writer never learned \
         their outcome, or whose commit a crash might take back, the ledger knows {}. {} Kafka transactions with events.\n\n\
         Seed {}, schedule {}; {} deployments of {} sources and {} daemons; {} of faults. {}\n",
        verdict["lost"],
        verdict["doubled"],
        verdict["reordered"],
        verdict["ghosts"],
        verdict["left_open"],
        written["records"],
        written["committed"],
        written["rolled_back"],
        written["unknown"],
        written["unknown_kept"],
        written["batches"],
        run["seed"],
        run["schedule"].as_str().unwrap(),
        run["lanes"],
        run["sources"],
        run["daemons"],
        duration,
        run["machine"].as_str().unwrap(),
    );
    text
}

/// Writes the table of the committed figures into the document.
pub(crate) fn write_document() {
    let (path, document) = document();
    let (before, _, after) = parts(&document);
    let text = format!("{before}{BEGIN}\n{}\n{END}{after}", markdown(&figures()));
    fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// Whether the document shows the committed figures and no others.
pub(crate) fn document_is_true() -> bool {
    let (_, document) = document();
    parts(&document).1 == format!("\n{}\n", markdown(&figures()))
}

fn document() -> (PathBuf, String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/correctness.md");
    let text =
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    (path, text)
}

fn figures() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/chaos.json");
    let text =
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap()
}

fn parts(document: &str) -> (&str, &str, &str) {
    let (before, rest) = document
        .split_once(BEGIN)
        .expect("the document has the first marker");
    let (figures, after) = rest
        .split_once(END)
        .expect("the document has the second marker");
    (before, figures, after)
}
