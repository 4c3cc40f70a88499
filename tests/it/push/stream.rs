//! Server-sent events: what a WebSocket shows, for those who cannot have one. Never over anything but plain HTTP.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use super::log::{SagaLog, TOLD, Told};
use super::site::Site;
use crate::support::socket::Known;
use crate::support::{kafka, unique};

/// One event: id, name, data.
pub(super) type Event = (String, String, Value);

pub(super) struct Stream {
    head: String,
    lines: BufReader<TcpStream>,
}

impl Stream {
    pub(super) fn open(site: &Site, query: &str, headers: &[(&str, &str)]) -> Self {
        let mut stream = TcpStream::connect(site.address()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let headers: String = headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        // HTTP/1.0, so that the body comes without chunks.
        write!(
            stream,
            "GET /v1/stream?{query} HTTP/1.0\r\nHost: x\r\n{headers}\r\n"
        )
        .unwrap();
        let mut lines = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(lines.read_line(&mut head).unwrap() > 0, "{head}");
        }
        Self { head, lines }
    }

    /// The next event; none at the end.
    pub(super) fn next(&mut self) -> Option<Event> {
        let (mut id, mut name, mut data) = (String::new(), String::new(), Value::Null);
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            match line.trim_end().split_once(": ") {
                Some(("id", value)) => value.clone_into(&mut id),
                Some(("event", value)) => value.clone_into(&mut name),
                Some(("data", value)) => data = serde_json::from_str(value).unwrap(),
                Some(("retry", _)) => {}
                Some(other) => panic!("{other:?}"),
                None if name.is_empty() => {}
                None => {
                    assert_eq!(data["type"], name, "the name is the frame's type");
                    return Some((id, name, data));
                }
            }
        }
    }

    fn names(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.next().unwrap().1).collect()
    }
}

#[test]
fn a_stream_shows_what_a_socket_would_and_resumes_where_it_broke() {
    let kafka = kafka();
    let prefix = unique("stream");
    let site = Site::start(kafka, &prefix, &[], "heartbeat = \"1s\"\ndrain = \"1s\"");
    site.daemon.wait_ready();
    let log = SagaLog::plain(kafka, &prefix);
    let told = |event, state| Told {
        event,
        state: Some(state),
        ..TOLD
    };
    log.tell(&told(1, "A"));
    site.wait_state("o-42", "A");
    let bearer = format!("Bearer {}", site.token("c-7", &[]));
    let auth = ("Authorization", bearer.as_str());
    let query = "saga_type=create-order&saga_id=o-42";
    let mut known = Known::default();
    let mut stream = Stream::open(&site, query, &[auth]);
    assert!(
        stream.head.starts_with("HTTP/1.0 200") || stream.head.starts_with("HTTP/1.1 200"),
        "{}",
        stream.head
    );
    for header in [
        "content-type: text/event-stream",
        "x-accel-buffering: no",
        "cache-control: no-store",
    ] {
        assert!(stream.head.contains(header), "{}", stream.head);
    }
    let (_, _, ready) = stream.next().unwrap();
    known.ready(&ready);
    assert_eq!(stream.next().unwrap().2["mode"], "snapshot");
    let (id, name, snapshot) = stream.next().unwrap();
    assert_eq!(name, "snapshot");
    assert_eq!(id, format!("{}:{}", known.epoch, snapshot["version"]));
    known.take(&snapshot).unwrap();
    assert_eq!(stream.names(2), ["heartbeat", "heartbeat"]);
    log.tell(&told(2, "B"));
    let (last, change) = loop {
        let (id, name, frame) = stream.next().unwrap();
        if name != "heartbeat" {
            break (id, frame);
        }
    };
    known.take(&change).unwrap();
    assert_eq!(known.changes, 1);
    drop(stream);
    site.daemon
        .wait_metrics("the stream to be gone", |metrics| {
            metrics.value("outboxd_push_connections", &[("transport", "sse")]) == Some(0.0)
                && metrics.sum("outboxd_push_subscriptions") == 0.0
        });
    log.tell(&told(3, "C"));
    site.wait_state("o-42", "C");
    let mut stream = Stream::open(&site, query, &[auth, ("Last-Event-ID", &last)]);
    stream.next().unwrap();
    assert_eq!(stream.next().unwrap().2["mode"], "resumed");
    known.take(&stream.next().unwrap().2).unwrap();
    assert_eq!(known.changes, 2);
    site.daemon.signal("TERM");
    let bye = loop {
        let (_, name, frame) = stream.next().unwrap();
        if name == "bye" {
            break frame;
        }
    };
    assert_eq!(bye["code"], 4001);
    assert_eq!(stream.next(), None, "the end is clean");
    assert_eq!(site.daemon.wait(), 0);
}

#[test]
fn a_stream_of_a_whole_type_of_several_sagas_and_of_none() {
    let kafka = kafka();
    let prefix = unique("streams");
    let site = Site::start(kafka, &prefix, &[], "");
    site.daemon.wait_ready();
    let log = SagaLog::plain(kafka, &prefix);
    for (event, id) in (1..).zip(["a", "b"]) {
        log.tell(&Told {
            saga_id: id,
            event,
            ..TOLD
        });
        site.wait_state(id, "PENDING");
    }
    let user = format!("Bearer {}", site.token("c-7", &[]));
    let ops = format!("Bearer {}", site.token("ops", &["create-order"]));
    let mut all = Stream::open(&site, "saga_type=create-order", &[("Authorization", &ops)]);
    assert_eq!(
        all.names(4),
        ["ready", "snapshot", "snapshot", "subscribed"]
    );
    let query = "saga_type=create-order&saga_id=a&saga_id=b&saga_id=unknown";
    let mut several = Stream::open(&site, query, &[("Authorization", &user)]);
    let mut names = several.names(6);
    names.sort();
    assert_eq!(
        names,
        [
            "ready",
            "snapshot",
            "snapshot",
            "subscribed",
            "subscribed",
            "subscribed"
        ]
    );
    log.tell(&Told {
        saga_id: "unknown",
        event: 9,
        ..TOLD
    });
    assert_eq!(several.next().unwrap().2["saga_id"], "unknown");
    let status = |query: &str, headers: &[(&str, &str)]| {
        let head = Stream::open(&site, query, headers).head;
        head.split(' ').nth(1).unwrap().to_owned()
    };
    assert_eq!(
        status("saga_type=create-order", &[("Authorization", &user)]),
        "403"
    );
    assert_eq!(status("", &[("Authorization", &user)]), "400");
    assert_eq!(status("saga_type=create-order&saga_id=a", &[]), "401");
}

#[test]
fn a_user_has_no_more_streams_than_connections_and_hears_when_to_come_back() {
    let lines = "[push.limits]\nconnections_per_user = 2";
    let site = Site::start(kafka(), &unique("streams_of_one"), &[], lines);
    site.daemon.wait_ready();
    let bearer = format!("Bearer {}", site.token("c-7", &[]));
    let auth = ("Authorization", bearer.as_str());
    let query = "saga_type=t&saga_id=x";
    let streams = [(); 2].map(|()| Stream::open(&site, query, &[auth]));
    assert!(streams.iter().all(|stream| stream.head.contains(" 200 ")));
    let third = Stream::open(&site, query, &[auth]).head;
    assert!(third.contains(" 429 "), "{third}");
    assert!(third.contains("retry-after: "), "{third}");
    assert!(third.contains("application/problem+json"), "{third}");
    let rejected = site.daemon.metrics();
    let rejected = rejected.value("outboxd_push_rejected_total", &[("reason", "user")]);
    assert_eq!(rejected, Some(1.0));
}

#[test]
fn a_stream_ends_cleanly_when_its_token_does() {
    let kafka = kafka();
    let site = Site::start(kafka, &unique("expiry"), &[], "");
    site.daemon.wait_ready();
    let short = format!(
        "Bearer {}",
        site.token_for("c-7", &[], Duration::from_secs(3))
    );
    let mut stream = Stream::open(&site, "saga_type=t&saga_id=x", &[("Authorization", &short)]);
    let mut names = stream.names(4);
    let last = names.pop();
    names.sort();
    assert_eq!(names, ["expiring", "ready", "subscribed"]);
    assert_eq!(last.as_deref(), Some("bye"));
    assert_eq!(stream.next(), None);
    let metrics = site.daemon.metrics();
    assert_eq!(
        metrics.value("outboxd_push_closed_total", &[("code", "4101")]),
        Some(1.0)
    );
}
