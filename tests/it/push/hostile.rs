//! Clients that mean harm: each is told what it did by the right code or status, its memory comes back, and an honest client is
//! answered throughout. Never anything that a firewall would have to keep away.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::json;

use super::site::Site;
use crate::support::socket::Socket;
use crate::support::{block_on, kafka, unique, wait_until};

const PATIENCE: Duration = Duration::from_secs(90);
const MEGABYTE: f64 = 1024.0 * 1024.0;
/// What may stay of all of it.
const KEPT: f64 = 20.0 * MEGABYTE;
/// Each attack is made so many times at once.
const AT_ONCE: usize = 16;
const FRAME: usize = 16 << 10;

/// An attack, and the code that answers it; none where the connection is to go on.
type Attack = (&'static str, fn(&mut Raw), Option<u16>);

const ATTACKS: [Attack; 17] = [
    (
        "a frame over the limit",
        |raw| raw.text(&vec![b'x'; FRAME + 1]),
        Some(4213),
    ),
    (
        "a frame that says it is endless",
        |raw| {
            raw.write(&[
                0x81, 0xff, 0x3f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0,
            ])
        },
        Some(4213),
    ),
    (
        "fragments over the limit",
        fragments_over_the_limit,
        Some(4213),
    ),
    (
        "a binary frame",
        |raw| raw.frame(0x82, b"\x01\x02"),
        Some(4200),
    ),
    (
        "binary in fragments",
        |raw| {
            raw.frame(0x02, b"\x01");
            raw.frame(0x80, b"\x02");
        },
        Some(4200),
    ),
    (
        "invalid UTF-8",
        |raw| raw.text(b"{\"type\":\"\xff\"}"),
        Some(1007),
    ),
    (
        "invalid UTF-8 in fragments",
        |raw| {
            raw.frame(0x01, b"\xe2");
            raw.frame(0x80, b"\x28");
        },
        Some(1007),
    ),
    (
        "a frame that is not masked",
        |raw| raw.write(b"\x81\x02{}"),
        Some(1002),
    ),
    (
        "a reserved bit, as if it were compressed",
        |raw| raw.frame(0xc1, b"{}"),
        Some(1002),
    ),
    (
        "a ping in fragments",
        |raw| raw.frame(0x09, b"x"),
        Some(1002),
    ),
    (
        "a ping that is too long",
        |raw| raw.frame_long(0x89, &[0; 126]),
        Some(1002),
    ),
    (
        "a fragment of nothing",
        |raw| raw.frame(0x80, b"x"),
        Some(1002),
    ),
    (
        "ten frames that are none",
        |raw| raw.text("{\n".repeat(FRAME / 2).as_bytes()),
        Some(4200),
    ),
    ("depth", |raw| raw.text(&[b'['; FRAME]), None),
    ("a thousand subscriptions", thousand_subscriptions, None),
    (
        "a flood of pings",
        |raw| raw.flood(&masked(0x89, b"x")),
        None,
    ),
    (
        "a flood of empty fragments",
        |raw| {
            raw.frame(0x01, b"{");
            raw.flood(&masked(0x00, b""));
        },
        None,
    ),
];

fn fragments_over_the_limit(raw: &mut Raw) {
    raw.frame_long(0x01, &[b'x'; 1024]);
    for _ in 0..17 {
        raw.frame_long(0x00, &[b'x'; 1024]);
    }
}

fn thousand_subscriptions(raw: &mut Raw) {
    for id in 0..1_000 {
        let frame =
            json!({"type": "subscribe", "id": id, "saga_type": "t", "saga_id": format!("s-{id}")});
        raw.text(frame.to_string().as_bytes());
    }
    let (mut begun, mut refused) = (0, 0);
    while begun + refused < 1_000 {
        let (_, payload) = raw.read().expect("an answer");
        for line in String::from_utf8(payload).unwrap().lines() {
            begun += usize::from(line.contains("\"subscribed\""));
            refused += usize::from(line.contains("too_many_subscriptions"));
        }
    }
    assert_eq!((begun, refused), (64, 936));
}

#[test]
fn who_means_harm_gets_the_right_answer_and_harms_nobody() {
    // Subscribing a thousand times takes a minute and a half at the usual rate.
    let lines = "[push.limits]\nframes_per_second = 1000\nhandshake = \"3s\"";
    let site = Site::start(kafka(), &unique("hostile"), &[], lines);
    site.daemon.wait_ready();
    let token = site.token("evil", &[]);
    let (over, answers) = (AtomicBool::new(false), AtomicU64::new(0));
    let before = site.resident();
    thread::scope(|scope| {
        let witness = scope.spawn(|| witness(&site, &over, &answers));
        let _over = Over(&over);
        let served = |what: &str| {
            let now = answers.load(Ordering::Relaxed);
            wait_until(
                &format!("an honest client to be answered after {what}"),
                PATIENCE,
                || {
                    assert!(!witness.is_finished(), "the honest client has failed");
                    answers.load(Ordering::Relaxed) > now + 1
                },
            );
        };
        served("nothing");
        for (what, attack, code) in ATTACKS {
            thread::scope(|scope| {
                for _ in 0..AT_ONCE {
                    scope.spawn(|| {
                        let mut raw = Raw::open(&site, Some(&token)).expect("let in");
                        attack(&mut raw);
                        match code {
                            Some(code) => assert_eq!(raw.closed(), code, "{what}"),
                            None => drop(raw),
                        }
                    });
                }
                served(what);
            });
        }
        bombs(&site);
        served("bombs");
        slowly(&site);
        served("slow handshakes");
        idle(&site);
        served("idle sockets");
    });
    let metrics = site.daemon.metrics();
    let closed = |code| metrics.value("outboxd_push_closed_total", &[("code", code)]);
    for code in ["1002", "1007", "4028", "4200", "4213"] {
        assert!(closed(code) >= Some(AT_ONCE as f64), "{code}");
    }
    site.daemon.wait_metrics("everybody to be gone", |metrics| {
        metrics.sum("outboxd_push_connections") == 0.0
    });
    wait_until("its memory to come back", PATIENCE, || {
        site.resident() - before < KEPT
    });
}

/// The honest client may go, also when something has failed.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// An honest client that asks and is answered, again and again.
fn witness(site: &Site, over: &AtomicBool, answers: &AtomicU64) {
    let token = site.token("honest", &[]);
    block_on(async {
        let (mut socket, _) = Socket::authenticated(site.address(), &token).await.unwrap();
        for id in 0_u64.. {
            if over.load(Ordering::Relaxed) {
                return;
            }
            let ask = json!({"type": "unsubscribe", "id": id, "saga_type": "t", "saga_id": "x"});
            socket.send(&ask).await.unwrap();
            assert_eq!(socket.news().await.unwrap()["id"], id);
            answers.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
}

/// Heads that are too much.
fn bombs(site: &Site) {
    let many = "X-Bomb: 1\r\n".repeat(5_000);
    let long = format!("X-Bomb: {}\r\n", "x".repeat(1 << 20));
    let address = format!("/v1/{}", "x".repeat(1 << 20));
    for (path, headers) in [
        ("/v1/ws", &many),
        ("/v1/ws", &long),
        (&*address, &String::new()),
    ] {
        thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.spawn(|| {
                    let mut stream = TcpStream::connect(site.address()).unwrap();
                    stream.set_read_timeout(Some(PATIENCE)).unwrap();
                    // It may be cut off before it has said everything.
                    let _ = write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
                    let mut answer = Vec::new();
                    let _ = stream.read_to_end(&mut answer);
                    let answer = String::from_utf8_lossy(&answer);
                    let refused = ["HTTP/1.1 431", "HTTP/1.1 414", "HTTP/1.1 400"];
                    assert!(
                        answer.is_empty() || refused.iter().any(|it| answer.starts_with(it)),
                        "{answer}"
                    );
                });
            }
        });
    }
}

/// Handshakes of which a byte comes now and then.
fn slowly(site: &Site) {
    let mut streams: Vec<TcpStream> = (0..200)
        .map(|_| TcpStream::connect(site.address()).unwrap())
        .collect();
    let begun = b"GET /v1/ws HTTP/1.1\r\nHost: x\r\nX-Slow: ";
    for stream in &mut streams {
        let _ = stream.write_all(begun);
        stream
            .set_read_timeout(Some(Duration::from_millis(1)))
            .unwrap();
    }
    wait_until("slow handshakes to be cut", PATIENCE, || {
        streams.retain_mut(|stream| {
            let goes_on = stream.write_all(b"x").is_ok();
            let ended = match stream.read(&mut [0; 512]) {
                Ok(0) => true,
                Ok(_) => false,
                Err(error) => error.kind() != ErrorKind::WouldBlock,
            };
            goes_on && !ended
        });
        streams.is_empty()
    });
}

/// Two thousand sockets that are opened and not used; half of them are as many as may be without a token.
fn idle(site: &Site) {
    let mut streams: Vec<TcpStream> = (0..2_000)
        .map(|_| TcpStream::connect(site.address()).unwrap())
        .collect();
    let mut accepted = Vec::new();
    for mut stream in streams.drain(..) {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let _ = stream.write_all(UPGRADE.as_bytes());
        accepted.push(stream);
    }
    let (mut upgraded, mut refused) = (0, 0);
    for mut stream in accepted {
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
        let all = String::from_utf8_lossy(&all);
        if all.starts_with("HTTP/1.1 101") {
            assert!(all.contains("\"code\":4028"), "{all}");
            upgraded += 1;
        } else {
            // Who is too many is told so, or cut.
            assert!(
                all.is_empty()
                    || all.starts_with("HTTP/1.1 503")
                    || all.starts_with("HTTP/1.1 408"),
                "{all}"
            );
            assert!(
                !all.starts_with("HTTP/1.1 503") || all.to_lowercase().contains("retry-after: "),
                "{all}"
            );
            refused += 1;
        }
    }
    assert!(upgraded <= 1_000, "{upgraded} at once");
    assert!(
        upgraded >= 500 && refused >= 500,
        "{upgraded} and {refused}"
    );
}

const UPGRADE: &str = "GET /v1/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                       Sec-WebSocket-Protocol: outboxd.push.v1\r\n\r\n";

/// A WebSocket by hand.
struct Raw(TcpStream);

impl Raw {
    /// Upgrades, with a token or without; none if that is refused.
    fn open(site: &Site, token: Option<&str>) -> Option<Self> {
        let mut stream = TcpStream::connect(site.address()).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
            .set_write_timeout(Some(Duration::from_secs(2)))
            .unwrap();
        let bearer = token.map(|token| format!("Authorization: Bearer {token}\r\n"));
        let head = UPGRADE.replace(
            "Host: x\r\n",
            &format!("Host: x\r\n{}", bearer.unwrap_or_default()),
        );
        stream.write_all(head.as_bytes()).ok()?;
        let mut answer = Vec::new();
        let mut byte = [0];
        while !answer.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).ok()?;
            answer.extend(byte);
        }
        answer.starts_with(b"HTTP/1.1 101").then_some(Self(stream))
    }

    /// Whatever is said may not be heard any more.
    fn write(&mut self, bytes: &[u8]) {
        let _ = self.0.write_all(bytes);
    }

    fn text(&mut self, payload: &[u8]) {
        self.frame_long(0x81, payload);
    }

    fn frame(&mut self, head: u8, payload: &[u8]) {
        self.write(&masked(head, payload));
    }

    /// With a length of 16 bits.
    fn frame_long(&mut self, head: u8, payload: &[u8]) {
        let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
        self.write(&[&[head, 0xfe][..], &length, &[0; 4], payload].concat());
    }

    /// Says the same as often as it is listened to.
    fn flood(&mut self, bytes: &[u8]) {
        let many = bytes.repeat(1_000);
        for _ in 0..20 {
            if self.0.write_all(&many).is_err() {
                return;
            }
        }
    }

    /// The next frame: its first byte and payload.
    fn read(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut head = [0; 2];
        self.0.read_exact(&mut head).ok()?;
        let length = match head[1] {
            126 => {
                let mut length = [0; 2];
                self.0.read_exact(&mut length).ok()?;
                usize::from(u16::from_be_bytes(length))
            }
            127 => {
                let mut length = [0; 8];
                self.0.read_exact(&mut length).ok()?;
                usize::try_from(u64::from_be_bytes(length)).ok()?
            }
            length => usize::from(length),
        };
        let mut payload = vec![0; length];
        self.0.read_exact(&mut payload).ok()?;
        Some((head[0], payload))
    }

    /// The code that it is closed with.
    fn closed(&mut self) -> u16 {
        loop {
            match self.read() {
                Some((0x88, payload)) => return u16::from_be_bytes([payload[0], payload[1]]),
                Some(_) => {}
                None => return 1006,
            }
        }
    }
}

/// Masked with zeros, so that the payload can be read here.
fn masked(head: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    [&[head, 0x80 | length, 0, 0, 0, 0][..], payload].concat()
}
