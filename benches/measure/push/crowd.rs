//! Many clients on a thread of their own, each of one saga. They hold the server to the contract's rule, so that a gap ends the
//! bench. Never more than one thread: it has to leave the machine to the server.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, SystemTime},
};

use serde::Deserialize;
use serde_json::json;
use tokio::{sync::Semaphore, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::SAGA_TYPE;
use crate::pace::Latencies;
use crate::sample;
use crate::support::light::Client;
use crate::support::wait_until;

/// Clients that connect at the same time: fewer than the server lets wait without a token.
const CONNECTING: usize = 64;
const PATIENCE: Duration = Duration::from_secs(120);

/// Who a client is, and what it wants to see.
pub(super) struct Login {
    pub(super) token: String,
    pub(super) saga_id: String,
}

/// Clients that are connected until they are told to go.
pub(super) struct Crowd {
    pub(super) seen: Arc<Seen>,
    leave: CancellationToken,
    thread: JoinHandle<()>,
}

/// What the clients have seen together.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) connected: AtomicU64,
    pub(super) messages: AtomicU64,
    /// Snapshots and changes.
    pub(super) news: AtomicU64,
    /// A change as it came.
    pub(super) sample: OnceLock<Vec<u8>>,
    measured_from: OnceLock<SystemTime>,
    latencies: Mutex<Vec<f64>>,
}

/// What of a line matters here.
#[derive(Deserialize)]
struct Line<'a> {
    r#type: &'a str,
    version: Option<i64>,
    previous: Option<i64>,
    at: Option<&'a str>,
}

impl Crowd {
    /// Connects them all.
    pub(super) fn open(server: SocketAddr, logins: Vec<Login>) -> Self {
        Self::start(server, logins.into_iter().map(Some).collect())
    }

    /// Connects so many to a server that sends without being asked.
    pub(super) fn listeners(server: SocketAddr, count: usize) -> Self {
        Self::start(server, (0..count).map(|_| None).collect())
    }

    fn start(server: SocketAddr, logins: Vec<Option<Login>>) -> Self {
        let (seen, leave) = (Arc::<Seen>::default(), CancellationToken::new());
        let count = u64::try_from(logins.len()).expect("it fits");
        let thread = thread::spawn({
            let (seen, leave) = (Arc::clone(&seen), leave.clone());
            move || {
                let mut runtime = tokio::runtime::Builder::new_current_thread();
                let runtime = runtime.enable_all().build().expect("a runtime");
                runtime.block_on(async {
                    tokio::select! {
                        () = leave.cancelled() => {}
                        () = watch(server, logins, &seen) => {}
                    }
                });
            }
        });
        let crowd = Self {
            seen,
            leave,
            thread,
        };
        crowd.wait("connections", |seen| seen.connected.load(Relaxed) == count);
        crowd
    }

    /// Waits until they have seen it; fails at once when one of them was told what may not be.
    pub(super) fn wait(&self, what: &str, seen: impl Fn(&Seen) -> bool) {
        wait_until(what, PATIENCE, || {
            assert!(!self.thread.is_finished(), "a client has failed, see above");
            seen(&self.seen)
        });
    }

    /// The way of changes that happen from then on is measured; before, none is.
    pub(super) fn measure_from(&self, moment: SystemTime) {
        let first = self.seen.measured_from.set(moment);
        first.expect("said once");
    }

    pub(super) fn news(&self) -> u64 {
        self.seen.news.load(Relaxed)
    }

    /// Sends them all away; gives how long the changes took that were measured.
    pub(super) fn close(self) -> Latencies {
        self.leave.cancel();
        self.thread.join().expect("no client has failed");
        Latencies::new(std::mem::take(&mut self.seen.latencies.lock().unwrap()))
    }
}

async fn watch(server: SocketAddr, logins: Vec<Option<Login>>, seen: &Arc<Seen>) {
    let turns = Arc::new(Semaphore::new(CONNECTING));
    let mut clients = JoinSet::new();
    for (number, login) in logins.into_iter().enumerate() {
        let (seen, turns) = (Arc::clone(seen), Arc::clone(&turns));
        clients.spawn(async move {
            let turn = turns.acquire_owned().await.expect("never closed");
            let mut client = Client::connect(server, number).await.expect("a server");
            let mut saga = Saga::new(seen, login.is_some());
            if let Some(login) = login {
                let opened = open(&mut client, &login, &mut saga).await;
                opened.unwrap_or_else(|error| panic!("client {number}: {error}"));
            }
            saga.seen.connected.fetch_add(1, Relaxed);
            drop(turn);
            loop {
                let received = client.receive(|line| saga.take(line)).await;
                let messages = received.unwrap_or_else(|error| panic!("client {number}: {error}"));
                saga.seen.messages.fetch_add(messages, Relaxed);
            }
        });
    }
    // None ends but by a failure, which becomes ours.
    clients.join_all().await;
}

/// Shows the token and subscribes.
async fn open(client: &mut Client, login: &Login, saga: &mut Saga) -> std::io::Result<()> {
    let later = client.upgrade().await?;
    assert_eq!(later, None, "there is room for so many at a time");
    client.send(&json!({"type": "auth", "id": 1, "token": login.token}))?;
    client.receive(|line| saga.take(line)).await?;
    let (saga_type, saga_id) = (SAGA_TYPE, &login.saga_id);
    client
        .send(&json!({"type": "subscribe", "id": 2, "saga_type": saga_type, "saga_id": saga_id}))?;
    // The snapshot may come in the same message.
    client.receive(|line| saga.take(line)).await?;
    Ok(())
}

/// A saga as one client knows it.
struct Saga {
    seen: Arc<Seen>,
    version: Option<i64>,
}

impl Saga {
    fn new(seen: Arc<Seen>, follows: bool) -> Self {
        Self {
            seen,
            // To one that does not follow everything is old.
            version: (!follows).then_some(i64::MAX),
        }
    }

    fn take(&mut self, line: &[u8]) {
        let line_as = |line| String::from_utf8_lossy(line).into_owned();
        let Line {
            r#type,
            version,
            previous,
            at,
        } = serde_json::from_slice(line).unwrap_or_else(|_| panic!("what is {}", line_as(line)));
        match r#type {
            "snapshot" if self.version <= version => self.version = version,
            "change" if self.version == previous => {
                self.version = version;
                self.measure(at);
                if self.seen.sample.get().is_none() {
                    // Another client may have been quicker.
                    let _ = self.seen.sample.set(line.to_vec());
                }
            }
            "change" if self.version < version => {
                panic!("{} does not follow {:?}", line_as(line), self.version)
            }
            "snapshot" | "change" => {}
            "ready" | "subscribed" | "heartbeat" => return,
            _ => panic!("what is {}", line_as(line)),
        }
        self.seen.news.fetch_add(1, Relaxed);
    }

    fn measure(&self, at: Option<&str>) {
        let Some(from) = self.seen.measured_from.get() else {
            return;
        };
        let at = sample::moment(at.expect("every change has a time").as_bytes());
        if at >= *from {
            let mut latencies = self.seen.latencies.lock().unwrap();
            latencies.push(sample::ms_since(at));
        }
    }
}
