//! Holds what `make demo` promises, by the command that the README gives a newcomer: it is right about what it says, it can
//! fail, and whatever ends it, nothing of it is left.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    missing_docs,
    reason = "a test that cannot go on fails, and says where"
)]

mod support;

// The demo's judges, for their own tests.
#[path = "../examples/demo/event.rs"]
#[allow(dead_code, reason = "the demo needs all of it")]
mod event;
#[path = "../examples/demo/ledger.rs"]
#[allow(dead_code, reason = "the demo needs all of it")]
mod ledger;
#[path = "../examples/demo/sagas.rs"]
#[allow(dead_code, reason = "the demo needs all of it")]
mod sagas;

use std::{
    fs,
    io::{self, BufRead, BufReader},
    net::SocketAddr,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::Duration,
};

use serde_json::Value;
use support::{http, process::signal, wait_until};

/// In the command line of the demo itself, and of its consumer and its clients, which it starts later.
const DEMO: &str = "/examples/demo";

/// In the command line of the daemon.
const OUTBOXD: &str = "outboxd run";

/// How long it may take to start, which may include a build of the example.
const START: Duration = Duration::from_secs(300);

/// How long it may take to end, whatever happened to it: its own patience, and the end of all servers.
const END: Duration = Duration::from_secs(60);

#[test]
fn twenty_orders_end_by_themselves_and_each_event_and_saga_was_seen() {
    let mut demo = Demo::start(&["ORDERS=20"]);
    demo.wait_for("UTC");
    let (status, output) = demo.end();
    assert!(status.success(), "{status}: {output}");
    assert!(output.contains("events of 20 orders\n"), "{output}");
    for right in [
        "every committed event once, no other, in order per key",
        "every saga ended as it should, and that came over its WebSocket, without a gap",
        "20 of 20 sagas to their end, 14 completed, 6 rejected\n",
    ] {
        assert!(output.contains(right), "{output}");
    }
    let shown = output
        .lines()
        .filter(|line| line.starts_with("  ") && line.ends_with(" ms"));
    // The summary ends so, too.
    let shown = shown.filter(|line| !line.contains("p99"));
    let (states, events): (Vec<_>, Vec<_>) = shown.partition(|line| line.contains("  WebSocket  "));
    for counted in ["committed    ", "seen         "] {
        let counted = format!("\n  {counted}{} events", events.len());
        assert!(output.contains(&counted), "{counted}: {output}");
    }
    for order in 1..=20 {
        let order = format!("  o-{order} ");
        let ends = ["APPROVED, completed ", "REJECTED, rejected "];
        let of_it = states.iter().filter(|line| line.contains(&order));
        let seen = of_it.filter(|line| ends.iter().any(|end| line.contains(end)));
        assert_eq!(seen.count(), 1, "{order}: {output}");
        // Both styles: every second saga has an orchestrator, who is told what was done.
        let replies = events.iter().filter(|line| line.contains("  replies  "));
        let replies = replies.filter(|line| line.contains(&order)).count();
        assert_eq!(
            replies > 0,
            order.trim().ends_with(['0', '2', '4', '6', '8']),
            "{order}: {output}"
        );
    }
    let widest = output.lines().map(|line| line.chars().count()).max();
    assert!(widest <= Some(100), "{widest:?}: {output}");
}

#[test]
fn without_the_push_half_it_names_the_sagas_that_no_client_saw_and_fails() {
    let mut demo = Demo::start(&["ORDERS=3", "ONLY=relay"]);
    demo.wait_for("UTC");
    let (status, output) = demo.end();
    assert!(!status.success(), "{status}: {output}");
    for order in 1..=3 {
        let unseen = format!("WRONG        o-{order} completed, unseen by its client: ");
        assert!(output.contains(&unseen), "{output}");
    }
    // Nothing else is wrong.
    assert_eq!(output.matches("WRONG").count(), 3, "{output}");
    assert!(!output.contains("every saga ended"), "{output}");
}

#[test]
fn whatever_is_broken_at_the_page_every_saga_comes_to_its_right_end() {
    let mut demo = Demo::start(&[]);
    demo.wait_for("OrderApproved");
    let page = Page::of(&demo.output());
    let started = demo.process(OUTBOXD).unwrap();

    page.ask("POST", "/switches/card-refused/on", "");
    let refused = page.place_both("nobody");
    demo.wait_for_all(
        refused.iter().map(|order| format!("{order:<6}  ")),
        "REJECTED, rejected",
    );
    page.ask("POST", "/switches/card-refused/off", "");

    page.ask("POST", "/switches/kitchen-down/on", "");
    page.ask("POST", "/switches/duplicate-delivery/on", "");
    let late = page.place_both("nobody");
    for order in &late {
        demo.wait_for(&format!("{order:<6}  APPROVAL_PENDING"));
    }
    page.ask("POST", "/kill-outboxd", "");
    let state = page.ask("POST", "/switches/kitchen-down/off", "");
    let switches = serde_json::json!({
        "card-refused": false,
        "kitchen-down": false,
        "duplicate-delivery": true,
    });
    assert_eq!(state["switches"], switches);
    assert_eq!(state["orders"].as_array().map(Vec::len), Some(4));
    demo.wait_for_all(
        late.iter().map(|order| format!("{order:<6}  ")),
        "APPROVED, completed",
    );
    demo.look();
    let again = demo
        .family
        .iter()
        .filter(|it| it.command.contains(OUTBOXD) && it.id != started);
    assert!(again.count() > 0, "outboxd was not killed");
    for refusal in ["consumer", "kitchen"] {
        let refused = page.place_both(refusal);
        demo.wait_for_all(
            refused.iter().map(|order| format!("{order:<6}  ")),
            "REJECTED, rejected",
        );
    }

    // Another page in the same browser has nothing to ask here.
    let from = |origin: &str| {
        let head = format!("POST /switches/card-refused/off HTTP/1.0\r\nOrigin: {origin}\r\n\r\n");
        http::raw(page.address, &head).unwrap().0
    };
    assert_eq!(from("https://elsewhere.example"), 403);
    assert_eq!(from(&format!("http://{}", page.address)), 200);

    demo.signal("TERM", DEMO);
    let (status, output) = demo.end();
    assert!(status.success(), "{status}: {output}");
    assert!(output.contains("10 of 10 sagas to their end"), "{output}");
}

#[test]
fn the_page_shows_each_order_to_its_end_and_opens_the_console() {
    let client = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/js");
    support::npm::install(&client);
    let mut demo = Demo::start(&[]);
    demo.wait_for("OrderApproved");
    let page = format!("http://{}/", Page::of(&demo.output()).address);
    let script = ["--test", "--test-reporter=spec", "test/browser/demo.mjs"];
    support::npm::run(&client, "node", &script, &[("OUTBOXD_DEMO", &page)]);
    demo.signal("TERM", DEMO);
    let (status, output) = demo.end();
    assert!(status.success(), "{status}: {output}");
}

#[test]
fn ctrl_c_ends_an_endless_demo_and_leaves_nothing() {
    let mut demo = Demo::start(&[]);
    demo.wait_for("OrderApproved");
    // What a terminal does: to the whole process group, make and cargo included.
    demo.signal_all("INT");
    let (_, output) = demo.end();
    assert!(output.contains("every committed event once"), "{output}");
}

#[test]
fn sigterm_does_the_same() {
    let mut demo = Demo::start(&[]);
    demo.wait_for("OrderApproved");
    demo.signal("TERM", DEMO);
    let (status, output) = demo.end();
    assert!(status.success(), "{status}: {output}");
    assert!(output.contains("every committed event once"), "{output}");
}

#[test]
fn ctrl_c_while_it_starts_leaves_nothing() {
    let mut demo = Demo::start(&[]);
    demo.wait_for("starting");
    wait_until("Kafka to be started", START, || {
        demo.look();
        demo.process("kafka.Kafka").is_some()
    });
    demo.signal_all("INT");
    let (status, output) = demo.end();
    assert!(!status.success(), "{status}: {output}");
    assert!(!output.contains("ending"), "{output}");
}

#[test]
fn a_second_ctrl_c_ends_it_at_once_and_leaves_nothing() {
    let mut demo = Demo::start(&[]);
    demo.wait_for("OrderApproved");
    // Nothing more arrives, so that it would wait after the first.
    demo.signal("STOP", OUTBOXD);
    let page = Page::of(&demo.output());
    page.place_both("nobody");
    demo.signal("INT", DEMO);
    demo.wait_for("ending");
    demo.signal("INT", DEMO);
    let (status, output) = demo.end();
    assert!(!status.success(), "{status}: {output}");
    assert!(!output.contains("every committed event once"), "{output}");
}

#[test]
fn a_demo_whose_outboxd_is_killed_says_so_and_fails() {
    let mut demo = Demo::start(&[]);
    demo.wait_for("OrderApproved");
    demo.signal("KILL", OUTBOXD);
    let (status, output) = demo.end();
    assert!(!status.success(), "{status}: {output}");
    assert!(
        output.contains("outboxd ended by itself with 137"),
        "{output}"
    );
    assert!(!output.contains("every committed event once"), "{output}");
}

#[test]
fn a_demo_whose_outboxd_stands_still_says_what_is_lost_and_fails() {
    let mut demo = Demo::start(&["ORDERS=200"]);
    // So many are told as numbers.
    demo.wait_for(" ms");
    assert!(!demo.output().contains("OrderCreated"), "{}", demo.output());
    demo.signal("STOP", OUTBOXD);
    let (status, output) = demo.end();
    assert!(!status.success(), "{status}: {output}");
    assert!(
        output.contains("an event has been on its way for"),
        "{output}"
    );
    assert!(output.contains("lost: "), "{output}");
    assert!(output.contains(", unseen by its client"), "{output}");
}

#[test]
fn a_demo_whose_consumer_ends_fails() {
    let mut demo = Demo::start(&[]);
    demo.wait_for("OrderApproved");
    demo.signal("KILL", "consume --bootstrap");
    let (status, output) = demo.end();
    assert!(!status.success(), "{status}: {output}");
    assert!(output.contains("the consumer ended by itself"), "{output}");
}

#[test]
fn a_demo_whose_clients_end_fails() {
    let mut demo = Demo::start(&[]);
    demo.wait_for("completed");
    demo.signal("KILL", "watch --push");
    let (status, output) = demo.end();
    assert!(!status.success(), "{status}: {output}");
    let told = "the clients ended by themselves";
    assert!(output.contains(told), "{output}");
}

/// The page, as a browser asks it.
struct Page {
    address: SocketAddr,
}

impl Page {
    /// Where the demo says that it is.
    fn of(output: &str) -> Self {
        let (_, rest) = output
            .split_once("Place orders and break things:   http://")
            .unwrap();
        let (address, _) = rest.split_once('/').unwrap();
        let address = address.parse().unwrap();
        Self { address }
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> Value {
        let (status, said) = http::send(self.address, method, path, body).unwrap();
        assert_eq!(status, 200, "{path}: {said}");
        serde_json::from_str(&said).unwrap()
    }

    /// Places an order in each style; gives their ids.
    fn place_both(&self, refusal: &str) -> [String; 2] {
        ["choreography", "orchestration"].map(|style| {
            let order = serde_json::json!({ "style": style, "refusal": refusal });
            let placed = self.ask("POST", "/orders", &order.to_string());
            placed["order"].as_str().unwrap().to_owned()
        })
    }
}

/// `make demo`, with all the processes that come of it.
struct Demo {
    make: Child,
    output: Arc<Mutex<String>>,
    reader: JoinHandle<()>,
    /// All processes that were seen at some time.
    family: Vec<Process>,
}

impl Demo {
    /// Starts it in a process group of its own, as a shell does.
    fn start(arguments: &[&str]) -> Self {
        let (reader, writer) = io::pipe().unwrap();
        // Ctrl-C works as in a terminal, also where the tests were started in the background, which ignores it.
        let mut command = Command::new("env");
        command
            .args(["--default-signal=INT", "make", "demo"])
            .args(arguments);
        command
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .process_group(0);
        // What cargo has just built is not built again.
        let target = Path::new(env!("CARGO_BIN_EXE_outboxd"))
            .ancestors()
            .nth(2)
            .unwrap();
        command.env("CARGO_TARGET_DIR", target);
        // Nor in another way, which would take the failpoints away from the tests that run after this one.
        let features = if cfg!(feature = "failpoints") {
            "--features failpoints"
        } else {
            ""
        };
        command.env("CARGO_FLAGS", features);
        // A newcomer's make is nobody's child.
        for name in ["MAKEFLAGS", "MFLAGS", "MAKELEVEL", "ORDERS", "ONLY"] {
            command.env_remove(name);
        }
        command.stdout(writer.try_clone().unwrap()).stderr(writer);
        let make = command.spawn().unwrap();
        let output = Arc::new(Mutex::new(String::new()));
        let text = Arc::clone(&output);
        let reader = thread::spawn(move || {
            for line in BufReader::new(reader).lines().map_while(Result::ok) {
                *text.lock().unwrap() += &(line + "\n");
            }
        });
        Self {
            make,
            output,
            reader,
            family: Vec::new(),
        }
    }

    fn output(&self) -> String {
        self.output.lock().unwrap().clone()
    }

    /// Waits until it has printed something, and notes what runs by then.
    fn wait_for(&mut self, text: &str) {
        wait_until(&format!("{text:?}"), START, || {
            let output = self.output();
            assert!(
                !self.reader.is_finished(),
                "it ended before {text:?}: {output}"
            );
            output.contains(text)
        });
        self.look();
    }

    /// Waits until there is a line with each of these, and this after it.
    fn wait_for_all(&mut self, lines: impl Iterator<Item = String>, end: &str) {
        let lines: Vec<_> = lines.collect();
        wait_until(&format!("{lines:?} {end}"), END, || {
            let output = self.output();
            assert!(
                !self.reader.is_finished(),
                "it ended before {end:?}: {output}"
            );
            lines.iter().all(|begin| {
                let mut of_it = output.lines().filter(|line| line.contains(begin));
                of_it.any(|line| line.contains(end))
            })
        });
    }

    /// Notes what runs now.
    fn look(&mut self) {
        self.family
            .extend(Process::with_descendants(self.make.id()));
    }

    /// The process, noted before, with this in its command line.
    fn process(&self, command: &str) -> Option<u32> {
        let found = self
            .family
            .iter()
            .find(|process| process.command.contains(command));
        found.map(|process| process.id)
    }

    /// Signals one of those noted.
    fn signal(&self, name: &str, command: &str) {
        let process = self.process(command);
        signal(
            name,
            &[process.unwrap_or_else(|| panic!("no {command}: {:?}", self.family))],
        );
    }

    /// Signals the whole process group.
    fn signal_all(&self, name: &str) {
        let mut kill = Command::new("sh");
        kill.args([
            "-c",
            r#"kill -s "$0" -- "-$1""#,
            name,
            &self.make.id().to_string(),
        ]);
        assert!(kill.status().unwrap().success());
    }

    /// Waits for its end, and until nothing of it is left: no process of those noted, no directory of theirs, and nobody who
    /// could still write to its output.
    fn end(mut self) -> (ExitStatus, String) {
        let mut status = None;
        wait_until("the end of make demo", END, || {
            status = self.make.try_wait().unwrap();
            status.is_some()
        });
        let directories: Vec<_> = self.family.iter().flat_map(Process::directories).collect();
        wait_until("the end of all that it started", END, || {
            !self.family.iter().any(Process::runs) && !directories.iter().any(|it| it.exists())
        });
        wait_until("the end of its output", END, || self.reader.is_finished());
        (status.unwrap(), self.output())
    }
}

impl Drop for Demo {
    /// A failed test leaves nothing either.
    fn drop(&mut self) {
        if let Ok(None) = self.make.try_wait() {
            self.signal_all("KILL");
            let _ = self.make.wait();
        }
    }
}

/// A process at the time when it was looked at.
#[derive(Clone, Debug)]
struct Process {
    id: u32,
    parent: u32,
    /// Tells it from a later process with the same id.
    began: String,
    command: String,
}

impl Process {
    fn read(id: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        // State, parent and so on follow the program's name in parentheses.
        let (_, fields) = stat.rsplit_once(')')?;
        let fields: Vec<_> = fields.split_whitespace().collect();
        let command = fs::read(format!("/proc/{id}/cmdline")).ok()?;
        let alive = !matches!(fields[0], "Z" | "X");
        alive.then(|| Self {
            id,
            parent: fields[1].parse().unwrap(),
            began: fields[19].to_owned(),
            command: String::from_utf8_lossy(&command).replace('\0', " "),
        })
    }

    /// A process and all that came of it, the guardians' own shells included.
    fn with_descendants(ancestor: u32) -> Vec<Self> {
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let mut others: Vec<_> = ids.filter_map(Self::read).collect();
        let mut family: Vec<Self> = others.extract_if(.., |it| it.id == ancestor).collect();
        let mut next = 0;
        while let Some(parent) = family.get(next).map(|process| process.id) {
            family.extend(others.extract_if(.., |it| it.parent == parent));
            next += 1;
        }
        family
    }

    fn runs(&self) -> bool {
        Self::read(self.id).is_some_and(|process| process.began == self.began)
    }

    /// The directories that a server of the demo works in.
    fn directories(&self) -> Vec<PathBuf> {
        let words = self.command.split_whitespace().map(Path::new);
        let folders = words.flat_map(Path::ancestors).filter(|folder| {
            let name = folder
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            ["daemon", "kafka", "postgres", "service"]
                .iter()
                .any(|it| name.starts_with(&format!("outboxd-{it}-")))
        });
        // Not the name's pattern in the guardian's script.
        folders
            .filter(|folder| folder.is_absolute())
            .map(Path::to_owned)
            .collect()
    }
}
