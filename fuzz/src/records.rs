//! What the saga topic says, and the file that a restart begins with.

use std::sync::Arc;
use std::time::Duration;

use outboxd::logic::push::partition::{Filter, Keep, Partition};
use outboxd::logic::rights::Rights;
use outboxd::logic::saga::{Record, SagaKey};
use serde_json::{Value, json};

use super::client::Client;

const KEEP: Keep = Keep {
    history: Duration::from_secs(1_000),
    finished: Duration::from_secs(100),
};
const RING_BYTES: usize = 2_000;
/// The queue of the slow one takes one frame.
const ROOMS: [usize; 2] = [usize::MAX, 1];

/// A partition by lines: `+N` lets N seconds of the log pass; `watch ID` has both clients watch a saga of type `t`, `all` the whole
/// type, `leave` lets them go and come back, `read` has the slow one read; any other line is a record's value.
///
/// No client may see a gap, and at the end both have to know what the partition knows.
pub fn records(bytes: &[u8]) {
    let mut watched = Watched::new();
    let lines = bytes.split(|byte| *byte == b'\n').take(1_000);
    for (offset, line) in (0..).zip(lines) {
        watched.line(offset, line);
    }
    for session in [0, 1] {
        watched.read(session);
    }
    watched.compare();
}

struct Watched {
    partition: Partition<Client>,
    clients: [Client; 2],
    /// Sessions have other names each time.
    came: u64,
    sagas: Vec<String>,
    all: bool,
    log_ms: i64,
}

impl Watched {
    fn new() -> Self {
        let mut watched = Self {
            partition: Partition::new(0, KEEP, RING_BYTES, true),
            clients: ROOMS.map(Client::with),
            came: 0,
            sagas: Vec::new(),
            all: false,
            log_ms: 0,
        };
        watched.come();
        watched
    }

    fn session(&self, client: usize) -> u64 {
        self.came * 2 + client as u64
    }

    /// Both come back, to what they watched and with what they know.
    fn come(&mut self) {
        for client in [0, 1] {
            self.partition.leave(self.session(client));
        }
        self.came += 1;
        for client in [0, 1] {
            let sink = self.clients[client].clone();
            self.partition.admit(self.session(client), &sink, &rights());
        }
        for id in self.sagas.clone() {
            self.watch(&id);
        }
        if self.all {
            self.watch_all();
        }
    }

    fn watch(&mut self, id: &str) {
        for client in [0, 1] {
            // What is in its queue is older than what it says it has.
            self.read(client);
            let has = self.clients[client].version(id);
            let session = self.session(client);
            self.partition
                .subscribe(session, None, &SagaKey::new("t", id), has);
        }
    }

    fn watch_all(&mut self) {
        for client in [0, 1] {
            // All snapshots come again, and what has none then is gone.
            self.read(client);
            self.clients[client].keep(&self.sagas);
            let session = self.session(client);
            self.partition.subscribe_type(session, "t", 1);
        }
    }

    fn line(&mut self, offset: i64, line: &[u8]) {
        let text = std::str::from_utf8(line).unwrap_or_default();
        if let Some(id) = text.strip_prefix("watch ").filter(|id| !id.is_empty()) {
            if self.sagas.len() < 8 {
                self.sagas.push(id.to_owned());
                self.watch(id);
            }
        } else if text == "all" {
            self.all = true;
            self.watch_all();
        } else if text == "leave" {
            self.come();
        } else if text == "read" {
            self.read(1);
        } else if let Some(Ok(seconds)) = text.strip_prefix('+').map(str::parse::<u16>) {
            self.log_ms += 1_000 * i64::from(seconds);
        } else {
            // A field that nobody reads may hold what no text holds, such as half of a surrogate pair.
            let value = serde_json::from_slice::<Value>(line);
            if let (Ok(_), Ok(value)) = (Record::read(line), value) {
                assert!(value.is_object(), "{value}");
            }
            self.partition.apply(offset, self.log_ms, line, |_| ());
        }
        self.read(0);
    }

    /// A client reads until it has missed nothing.
    fn read(&mut self, client: usize) {
        while self.clients[client].read() {
            self.partition.drained(self.session(client));
        }
    }

    fn compare(&self) {
        for saga in listed(&self.partition) {
            let id = saga["saga_id"].as_str().expect("a saga has an id");
            let is_watched =
                saga["saga_type"] == "t" && (self.all || self.sagas.iter().any(|it| it == id));
            for client in self.clients.iter().filter(|_| is_watched) {
                let known = Some((
                    saga["version"].as_i64().expect("a number"),
                    saga["state"].clone(),
                ));
                assert_eq!(client.saga(id), known, "{id}");
            }
        }
    }
}

/// Everything.
fn rights() -> Arc<Rights> {
    Arc::new(Rights::new(None, Some(&json!([{"saga_type": "*"}]))))
}

fn listed(partition: &Partition<Client>) -> Vec<Value> {
    let filter = Filter {
        limit: usize::MAX,
        ..Filter::default()
    };
    let listed = partition.list(&filter, &rights());
    let read = |snapshot: &str| serde_json::from_str(snapshot).expect("a snapshot is JSON");
    listed.iter().map(|listed| read(&listed.snapshot)).collect()
}

/// The sagas of a file: they are refused, or what is made of them writes the same again.
pub fn image(bytes: &[u8]) {
    let empty = Partition::<Client>::new(0, KEEP, RING_BYTES, true);
    let again = || Partition::again(0, KEEP, RING_BYTES, empty.base());
    let mut partition: Partition<Client> = again();
    if partition.take_in(bytes).is_err() {
        return;
    }
    let mut twice: Partition<Client> = again();
    let mut after = None;
    loop {
        let part = partition.part(after.as_ref());
        assert_eq!(twice.take_in(&part.sagas), Ok(part.count));
        after = part.after;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(listed(&twice), listed(&partition));
}
