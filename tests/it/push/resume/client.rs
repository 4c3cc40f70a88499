//! A client with two sagas (or one) that comes back whenever it is cut off, over WebSocket, server-sent events or by asking again.
//! Knows the client rule and nothing else.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;

use super::Shared;
use crate::push::tls::Trust;
use crate::support::socket::{Known, Socket};

/// What a client is connected by.
#[derive(Clone)]
pub(super) enum Way {
    /// A WebSocket, perhaps under TLS.
    Socket(Option<Arc<Trust>>),
    /// Server-sent events.
    Stream,
    /// One request after the other.
    Poll,
}

impl Way {
    /// How many sagas a client watches: a stream resumes one alone, and a request asks for one.
    pub(super) fn sagas(&self) -> usize {
        match self {
            Self::Socket(_) => 2,
            Self::Stream | Self::Poll => 1,
        }
    }
}

/// What clients went through.
#[derive(Debug, Default, Clone)]
pub(super) struct Tally {
    pub(super) changes: u64,
    pub(super) snapshots: u64,
    /// Subscriptions with a version that went on from it.
    pub(super) resumed: usize,
    /// And those that were given a snapshot instead.
    pub(super) with_snapshot: usize,
}

impl Tally {
    pub(super) fn add(&mut self, known: &Known, other: &Self) {
        self.changes += known.changes;
        self.snapshots += known.snapshots;
        self.resumed += other.resumed;
        self.with_snapshot += other.with_snapshot;
    }

    /// A subscription with a version was answered.
    fn answered(&mut self, mode: &Value) {
        match mode.as_str() {
            Some("resumed") => self.resumed += 1,
            Some("snapshot") => self.with_snapshot += 1,
            _ => {}
        }
    }
}

/// One client.
struct Client {
    number: usize,
    token: String,
    ids: Vec<String>,
    shared: Arc<Shared>,
    known: Known,
    tally: Tally,
    /// Versions that were asked for and not answered yet.
    asked: usize,
}

/// Follows its sagas until everything is written and they have ended.
pub(super) async fn follow(
    number: usize,
    way: Way,
    place: SocketAddr,
    token: String,
    ids: [String; 2],
    shared: Arc<Shared>,
) -> (Known, Tally) {
    let mut client = Client {
        number,
        token,
        ids: ids.into_iter().take(way.sagas()).collect(),
        shared,
        known: Known::default(),
        tally: Tally::default(),
        asked: 0,
    };
    let mut attempt = number;
    while !client.has_all() && !client.shared.failed.load(Ordering::Acquire) {
        match &way {
            Way::Socket(trust) => client.socket(place, trust.as_deref()).await,
            Way::Stream => client.stream(place).await,
            Way::Poll => client.poll(place).await,
        };
        attempt += 1;
        client.pause(attempt).await;
    }
    (client.known, client.tally)
}

impl Client {
    fn has_all(&self) -> bool {
        let seen = &self.known.sagas;
        self.shared.written.load(Ordering::Acquire)
            && seen.len() == self.ids.len()
            && seen.values().all(|seen| !seen.outcome.is_null())
    }

    /// Most come back soon; one in five sleeps now and then through a good part of what happens.
    async fn pause(&self, attempt: usize) {
        let jitter = Duration::from_millis((attempt as u64 * 7919) % 200);
        tokio::time::sleep(jitter).await;
        let until = self.shared.step.load(Ordering::Relaxed) + 30;
        let sleeps = self.number.is_multiple_of(5) && attempt.is_multiple_of(3);
        while sleeps
            && !self.shared.written.load(Ordering::Acquire)
            && self.shared.step.load(Ordering::Relaxed) < until
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn take(&mut self, frame: &Value) {
        let before = self.known.changes + self.known.snapshots;
        if let Err(gap) = self.known.take(frame) {
            panic!("client {}: {gap:?}", self.number);
        }
        if self.known.changes + self.known.snapshots > before {
            self.shared.news.fetch_add(1, Ordering::Relaxed);
        }
        if frame["type"] == "subscribed" && self.asked > 0 {
            self.asked -= 1;
            self.tally.answered(&frame["mode"]);
        }
    }

    /// One connection's life.
    async fn socket(&mut self, place: SocketAddr, trust: Option<&Trust>) -> Option<()> {
        let tcp = TcpStream::connect(place).await.ok()?;
        let mut socket = match trust {
            Some(trust) => Socket::over(trust.connect(tcp).await?, place, &[])
                .await
                .ok()?,
            None => Socket::over(tcp, place, &[]).await.ok()?,
        };
        let ready = socket.show(&self.token).await.ok()?;
        self.known.ready(&ready);
        self.asked = self.known.sagas.len();
        // With a version or without, all are of one kind, or answers could not be told apart.
        let all = self.asked == self.ids.len();
        self.asked = if all { self.asked } else { 0 };
        for (request, id) in (2..).zip(&self.ids) {
            let subscribe = self.known.subscribe(request, "create-order", id);
            socket.send(&subscribe).await.ok()?;
        }
        while !self.has_all() {
            let frame = socket.next().await.ok()?;
            self.take(&frame);
        }
        Some(())
    }

    /// One stream's life. After a break it goes on from the id of the last event.
    async fn stream(&mut self, place: SocketAddr) -> Option<()> {
        let id = self.ids.first()?.clone();
        let key = ("create-order".to_owned(), id.clone());
        let seen = self.known.sagas.get(&key);
        self.asked = usize::from(seen.is_some());
        let last = seen.map_or_else(String::new, |seen| {
            format!("Last-Event-ID: {}:{}\r\n", self.known.epoch, seen.version)
        });
        let path = format!("/v1/stream?saga_type=create-order&saga_id={id}");
        let mut lines = self.get(place, &path, &last).await?;
        while !self.has_all() {
            let line = lines.next_line().await.ok()??;
            let Some(data) = line.strip_prefix("data: ") else {
                continue;
            };
            // A line that was cut is none.
            let frame: Value = serde_json::from_str(data).ok()?;
            if frame["type"] == "ready" {
                self.known.ready(&frame);
            }
            self.take(&frame);
        }
        Some(())
    }

    /// One request.
    async fn poll(&mut self, place: SocketAddr) -> Option<()> {
        let id = self.ids.first()?.clone();
        let key = ("create-order".to_owned(), id.clone());
        let newer = self.known.sagas.get(&key).map_or_else(String::new, |seen| {
            format!(
                "?epoch={}&version={}&wait=20",
                self.known.epoch, seen.version
            )
        });
        let path = format!("/v1/sagas/create-order/{id}{newer}");
        let mut answer = self.get(place, &path, "").await?;
        let status = answer.next_line().await.ok()??;
        let mut body = String::new();
        answer.into_inner().read_to_string(&mut body).await.ok()?;
        let (_, body) = body.split_once("\r\n\r\n")?;
        if !status.contains(" 200") {
            return None;
        }
        let frame: Value = serde_json::from_str(body).ok()?;
        let seen = self.known.sagas.get(&key).map(|seen| seen.version);
        assert!(
            seen < frame["version"].as_i64(),
            "client {}: {frame} is no newer",
            self.number
        );
        self.known.ready(&frame);
        self.take(&frame);
        Some(())
    }

    /// Asks over HTTP/1.0, so that bodies come without chunks.
    async fn get(
        &self,
        place: SocketAddr,
        path: &str,
        headers: &str,
    ) -> Option<Lines<BufReader<TcpStream>>> {
        let mut tcp = TcpStream::connect(place).await.ok()?;
        let head = format!(
            "GET {path} HTTP/1.0\r\nHost: x\r\nAuthorization: Bearer {}\r\n{headers}\r\n",
            self.token
        );
        tcp.write_all(head.as_bytes()).await.ok()?;
        Some(BufReader::new(tcp).lines())
    }
}
