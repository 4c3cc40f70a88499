//! What a client is told when it does something wrong, too much or too late. Never checks a word that the contract does not have.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Bytes, Message};

use super::log::{SagaLog, TOLD, Told};
use super::site::Site;
use crate::support::socket::{Known, Socket};
use crate::support::topics::{delete_records, delete_topic};
use crate::support::{block_on, kafka, unique};

fn site(name: &str, lines: &str) -> (String, Site) {
    let prefix = unique(name);
    let site = Site::start(kafka(), &prefix, &[], lines);
    site.daemon.wait_ready();
    (prefix, site)
}

fn auth(token: &str) -> Value {
    json!({"type": "auth", "id": 1, "token": token})
}

fn codes(frames: &[Value]) -> Vec<String> {
    let word = |frame: &Value| {
        let code = frame["code"]
            .as_str()
            .map_or_else(|| frame["code"].to_string(), str::to_owned);
        format!("{} {code}", frame["type"].as_str().unwrap())
    };
    frames.iter().map(word).collect()
}

/// The status of a handshake with these headers, and whatever follows.
fn handshake(site: &Site, headers: &[(&str, &str)]) -> (u16, String) {
    let usual = [
        ("Upgrade", "websocket"),
        ("Connection", "keep-alive, Upgrade"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let mut stream = TcpStream::connect(site.address()).unwrap();
    let told = |name: &str| {
        headers
            .iter()
            .any(|(told, _)| told.eq_ignore_ascii_case(name))
    };
    let usual = usual.iter().filter(|(name, _)| !told(name));
    let lines: String = usual
        .chain(headers)
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    let host = site.address();
    write!(stream, "GET /v1/ws HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n").unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
        answer.push(byte[0]);
    }
    let answer = String::from_utf8(answer).unwrap();
    (
        answer.split(' ').nth(1).unwrap().parse().unwrap(),
        answer.to_lowercase(),
    )
}

const V1: (&str, &str) = ("Sec-WebSocket-Protocol", "outboxd.push.v1");

#[test]
fn handshakes_are_accepted_or_refused_as_promised() {
    let (_, site) = site("handshake", "allowed_origins = [\"https://shop.example\"]");
    let own = format!("http://{}", site.address());
    let token = site.token("c-7", &[]);
    let offered = format!("outboxd.push.v1, outboxd.bearer.{token}");
    let bearer = format!("Bearer {token}");
    let (status, answer) = handshake(&site, &[V1]);
    assert_eq!(status, 101);
    assert!(
        answer.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="),
        "{answer}"
    );
    assert!(
        answer.contains("sec-websocket-protocol: outboxd.push.v1\r\n"),
        "{answer}"
    );
    let (status, answer) = handshake(&site, &[("Sec-WebSocket-Protocol", &offered)]);
    assert_eq!(status, 101);
    assert!(
        !answer.contains("bearer"),
        "the token is never echoed: {answer}"
    );
    type Headers<'a> = &'a [(&'a str, &'a str)];
    let cases: [(Headers<'_>, u16); 12] = [
        (&[V1, ("Authorization", &bearer)], 101),
        (&[V1, ("Origin", "https://shop.example")], 101),
        (&[V1, ("Origin", &own)], 101),
        (&[V1, ("Origin", "https://evil.example")], 403),
        (&[V1, ("Origin", "null")], 403),
        (&[], 400),
        (&[("Sec-WebSocket-Protocol", "chat")], 400),
        (&[V1, ("Sec-WebSocket-Version", "8")], 400),
        (&[V1, ("Upgrade", "h2c")], 400),
        (&[V1, ("Authorization", "Bearer nonsense")], 401),
        (
            &[(
                "Sec-WebSocket-Protocol",
                "outboxd.push.v1, outboxd.bearer.nonsense",
            )],
            401,
        ),
        (&[V1, ("Sec-WebSocket-Key", "")], 101),
    ];
    for (headers, expected) in cases {
        let (status, answer) = handshake(&site, headers);
        assert_eq!(status, expected, "{headers:?}: {answer}");
        if status == 401 {
            assert!(answer.contains("www-authenticate: bearer"), "{answer}");
        }
        if status >= 400 {
            assert!(answer.contains("application/problem+json"), "{answer}");
        }
    }
}

#[test]
fn tokens_may_come_with_the_handshake_and_ready_comes_at_once() {
    let (_, site) = site("bearer", "");
    let token = site.token("c-7", &[]);
    let ways = [
        ("authorization", format!("Bearer {token}")),
        (
            "sec-websocket-protocol",
            format!("outboxd.push.v1, outboxd.bearer.{token}"),
        ),
    ];
    for (name, value) in ways {
        block_on(async {
            let mut socket = Socket::open(site.address(), &[(name, &value)])
                .await
                .unwrap();
            let ready = socket.news().await.unwrap();
            assert_eq!(
                (&ready["type"], &ready["id"]),
                (&json!("ready"), &Value::Null)
            );
            assert!(ready["refresh_in_s"].as_u64().unwrap() > 2000);
            assert_eq!(ready["heartbeat_s"], 25);
            assert!(ready["expires_at"].as_str().unwrap().ends_with('Z'));
        });
    }
}

#[test]
fn each_mistake_of_a_client_has_its_answer() {
    let (_, site) = site(
        "mistakes",
        "[push.limits]\nauth = \"1s\"\nframe = \"1KiB\"\nsubscriptions = 2",
    );
    let token = site.token("c-7", &[]);
    let address = site.address();
    block_on(async {
        // No token in time.
        let mut silent = Socket::open(address, &[]).await.unwrap();
        assert_eq!(
            silent.rest().await,
            (
                vec![
                    json!({"type": "bye", "code": 4028, "reason": "no_token", "retry_after_ms": [500, 5000]})
                ],
                4028
            )
        );
        // Tokens that are no good, always with the same words.
        let expired = site.token_for("c-7", &[], Duration::ZERO);
        let forged = token.replace('.', ".x");
        for (token, code) in [
            (expired.as_str(), 4101),
            (&forged, 4201),
            ("", 4201),
            ("a.b.c", 4201),
        ] {
            let mut socket = Socket::open(address, &[]).await.unwrap();
            socket.send(&auth(token)).await.unwrap();
            let (frames, closed) = socket.rest().await;
            assert_eq!(codes(&frames), [format!("bye {code}")], "{token}");
            assert_eq!(closed, code);
        }
        // Frames that are none, nine of them forgiven.
        let (mut socket, _) = Socket::authenticated(address, &token).await.unwrap();
        for frame in [
            "",
            "{",
            "[]",
            "nonsense",
            "{\"type\":\"dance\"}",
            "{\"type\":\"subscribe\"}",
        ] {
            socket.message(Message::text(frame)).await.unwrap();
        }
        for _ in 0..5 {
            socket
                .send(&json!({"type": "subscribe", "id": 5, "saga_type": 7}))
                .await
                .unwrap();
        }
        let (frames, closed) = socket.rest().await;
        let mut expected = vec!["error bad_request"; 10];
        expected.push("bye 4200");
        assert_eq!(
            codes(&frames),
            expected,
            "an empty message is no frame at all"
        );
        assert_eq!(closed, 4200);
        // What ends a connection at once.
        let (mut socket, _) = Socket::authenticated(address, &token).await.unwrap();
        socket
            .message(Message::binary(vec![1, 2, 3]))
            .await
            .unwrap();
        assert_eq!(socket.rest().await.1, 4200);
        for length in [1024, 1025] {
            let (mut socket, _) = Socket::authenticated(address, &token).await.unwrap();
            socket
                .message(Message::text("x".repeat(length)))
                .await
                .unwrap();
            socket.message(Message::Close(None)).await.unwrap();
            let (frames, closed) = socket.rest().await;
            let too_big = length > 1024;
            assert_eq!(closed == 4213, too_big, "{frames:?} {closed}");
        }
        // Limits of subscriptions, and whole types without a grant.
        let (mut socket, _) = Socket::authenticated(address, &token).await.unwrap();
        let known = Known::default();
        for id in ["a", "b", "c", "a"] {
            socket.send(&known.subscribe(2, "t", id)).await.unwrap();
        }
        socket
            .send(&json!({"type": "subscribe", "id": 3, "saga_type": "t"}))
            .await
            .unwrap();
        socket
            .send(&json!({"type": "unsubscribe", "id": 4, "saga_type": "t", "saga_id": "a"}))
            .await
            .unwrap();
        let mut answers = Vec::new();
        for _ in 0..6 {
            let frame = socket.news().await.unwrap();
            answers.push(format!(
                "{}{}",
                frame["id"],
                frame["code"].as_str().unwrap_or_default()
            ));
        }
        answers.sort();
        assert_eq!(
            answers,
            ["2", "2", "2", "2too_many_subscriptions", "3forbidden", "4"]
        );
    });
    let metrics = site.daemon.metrics();
    for code in ["4028", "4101", "4200", "4201", "4213"] {
        let closed = metrics.value("outboxd_push_closed_total", &[("code", code)]);
        assert!(closed.unwrap_or_default() >= 1.0, "{code}");
    }
    let hit = metrics.value(
        "outboxd_push_rejected_total",
        &[("reason", "subscriptions")],
    );
    assert_eq!(hit, Some(1.0), "the third of two");
}

#[test]
fn breaches_of_the_websocket_protocol_have_its_own_codes() {
    let (_, site) = site("breach", "");
    // Masked with zeros, so that the payload can be read here.
    let masked = |head: [u8; 2], payload: &[u8]| [&head[..], &[0; 4], payload].concat();
    let cases: [(&str, Vec<u8>, u16); 4] = [
        ("invalid UTF-8", masked([0x81, 0x82], &[0xff, 0xfe]), 1007),
        ("not masked", [&[0x81, 0x02][..], b"{}"].concat(), 1002),
        ("reserved bit", masked([0xc1, 0x82], b"{}"), 1002),
        ("unknown opcode", masked([0x83, 0x82], b"{}"), 1002),
    ];
    for (what, bytes, code) in cases {
        let mut stream = TcpStream::connect(site.address()).unwrap();
        let lines = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: outboxd.push.v1\r\n";
        write!(stream, "GET /v1/ws HTTP/1.1\r\nHost: x\r\n{lines}\r\n").unwrap();
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        stream.write_all(&bytes).unwrap();
        let mut close = [0; 4];
        stream.read_exact(&mut close).unwrap();
        assert_eq!(close[0], 0x88, "{what}");
        assert_eq!(u16::from_be_bytes([close[2], close[3]]), code, "{what}");
    }
}

#[test]
fn a_token_ends_a_session_unless_it_is_renewed() {
    let (prefix, site) = site("renew", "");
    let log = SagaLog::plain(kafka(), &prefix);
    log.tell(&Told {
        saga_id: "mine",
        ..TOLD
    });
    log.tell(&Told {
        saga_id: "theirs",
        user: "c-8",
        event: 2,
        ..TOLD
    });
    site.wait_state("mine", "PENDING");
    site.wait_state("theirs", "PENDING");
    let short = site.token_for("c-7", &["create-order"], Duration::from_secs(3));
    block_on(async {
        let (mut socket, _) = Socket::authenticated(site.address(), &short).await.unwrap();
        assert_eq!(
            socket.news().await.unwrap()["type"],
            "expiring",
            "less than 30 s are left"
        );
        let (frames, closed) = socket.rest().await;
        assert_eq!(
            (codes(&frames), closed),
            (vec!["bye 4101".to_owned()], 4101)
        );
    });
    let wide = site.token("c-7", &["create-order"]);
    let narrow = site.token("c-8", &[]);
    block_on(async {
        let (mut socket, _) = Socket::authenticated(site.address(), &wide).await.unwrap();
        let known = Known::default();
        for (id, saga) in [(2, "mine"), (3, "theirs")] {
            socket
                .send(&known.subscribe(id, "create-order", saga))
                .await
                .unwrap();
            assert_eq!(socket.news().await.unwrap()["mode"], "snapshot");
            assert_eq!(socket.news().await.unwrap()["saga_id"], saga);
        }
        socket
            .send(&json!({"type": "subscribe", "id": 4, "saga_type": "create-order"}))
            .await
            .unwrap();
        let mut snapshots = 0;
        loop {
            let frame = socket.news().await.unwrap();
            if frame["type"] == "subscribed" {
                assert_eq!((&frame["id"], &frame["mode"]), (&json!(4), &json!("live")));
                break;
            }
            snapshots += 1;
        }
        assert_eq!(snapshots, 2);
        // Less is allowed now: what is lost is named, and the connection goes on.
        socket
            .send(&json!({"type": "auth", "id": 5, "token": narrow}))
            .await
            .unwrap();
        let mut told = Vec::new();
        for _ in 0..3 {
            let frame = socket.news().await.unwrap();
            told.push(
                format!("{} {} {}", frame["type"], frame["code"], frame["saga_id"])
                    .replace('"', ""),
            );
        }
        told.sort();
        assert_eq!(
            told,
            [
                "error forbidden mine",
                "error forbidden null",
                "ready null null"
            ]
        );
        log.tell(&Told {
            saga_id: "mine",
            event: 3,
            ..TOLD
        });
        log.tell(&Told {
            saga_id: "theirs",
            user: "c-8",
            event: 4,
            ..TOLD
        });
        assert_eq!(socket.news().await.unwrap()["saga_id"], "theirs");
        // And more again: what was waiting is seen at once.
        socket
            .send(&known.subscribe(6, "create-order", "mine"))
            .await
            .unwrap();
        assert_eq!(socket.news().await.unwrap()["mode"], "waiting");
        socket
            .send(&json!({"type": "auth", "id": 7, "token": wide}))
            .await
            .unwrap();
        let seen = [socket.news().await.unwrap(), socket.news().await.unwrap()];
        assert!(
            seen.iter()
                .any(|frame| frame["type"] == "snapshot" && frame["saga_id"] == "mine"),
            "{seen:?}"
        );
    });
}

#[test]
fn there_is_a_limit_to_everything_and_room_again_when_somebody_leaves() {
    let (_, site) = site(
        "limits",
        "[push.limits]\nconnections = 4\nunauthenticated = 2\nconnections_per_user = 2\nauth = \"60s\"",
    );
    let (one, two) = (site.token("c-7", &[]), site.token("c-8", &[]));
    let address = site.address();
    let open = |count: f64| {
        site.daemon.wait_metrics("connections", |metrics| {
            metrics.value("outboxd_push_connections", &[("transport", "websocket")]) == Some(count)
        });
    };
    block_on(async {
        let _first = Socket::authenticated(address, &one).await.unwrap();
        let second = Socket::authenticated(address, &one).await.unwrap();
        let mut third = Socket::open(address, &[]).await.unwrap();
        third.send(&auth(&one)).await.unwrap();
        let (frames, closed) = third.rest().await;
        assert_eq!(
            (codes(&frames), closed),
            (vec!["bye 4229".to_owned()], 4229)
        );
        drop((second, third));
        open(1.0);
        let _again = Socket::authenticated(address, &one).await.unwrap();
        let _other = Socket::authenticated(address, &two).await.unwrap();
        let _silent = Socket::open(address, &[]).await.unwrap();
        assert!(
            Socket::open(address, &[]).await.is_err(),
            "the fifth of four"
        );
    });
    let metrics = site.daemon.metrics();
    assert_eq!(
        metrics.value("outboxd_push_rejected_total", &[("reason", "connections")]),
        Some(1.0)
    );
    open(0.0);
    block_on(async {
        let _silent = [
            Socket::open(address, &[]).await.unwrap(),
            Socket::open(address, &[]).await.unwrap(),
        ];
        let (status, answer) = handshake(&site, &[V1]);
        assert_eq!(status, 503, "the third without a token");
        assert!(answer.contains("retry-after:"), "{answer}");
    });
}

#[test]
fn connections_of_one_address_are_counted_behind_a_trusted_proxy() {
    let (_, site) = site("address", "[push.limits]\nconnections_per_address = 1");
    block_on(async {
        let from = |address: &'static str| [("x-forwarded-for", address)];
        let _first = Socket::open(site.address(), &from("198.51.100.1, 203.0.113.7"))
            .await
            .unwrap();
        let _other = Socket::open(site.address(), &from("203.0.113.8"))
            .await
            .unwrap();
        let (status, answer) = handshake(
            &site,
            &[V1, ("X-Forwarded-For", "198.51.100.9, 203.0.113.7")],
        );
        assert_eq!(status, 429, "only the last hop is believed");
        assert!(answer.contains("retry-after:"), "{answer}");
    });
}

#[test]
fn who_does_not_finish_a_handshake_is_cut_off() {
    let (_, site) = site("handshakes", "[push.limits]\nhandshake = \"1s\"");
    for begun in ["", "GET /v1/ws HTTP/1.1\r\nHost: x\r\n"] {
        let mut stream = TcpStream::connect(site.address()).unwrap();
        stream.write_all(begun.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        // The end, whether with an answer or without.
        stream.read_to_end(&mut answer).unwrap();
    }
    site.daemon.wait_metrics("both to be counted", |metrics| {
        metrics.value("outboxd_push_rejected_total", &[("reason", "handshake")]) == Some(2.0)
    });
    let headers = "X-Bomb: 1\r\n".repeat(200);
    let mut stream = TcpStream::connect(site.address()).unwrap();
    write!(stream, "GET /v1/ws HTTP/1.1\r\nHost: x\r\n{headers}\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
}

#[test]
fn signs_of_life_come_both_ways() {
    let (_, site) = site("life", "heartbeat = \"1s\"\n[push.limits]\npong = \"1s\"");
    let token = site.token("c-7", &[]);
    block_on(async {
        let (mut socket, _) = Socket::authenticated(site.address(), &token).await.unwrap();
        for _ in 0..3 {
            assert_eq!(socket.next().await.unwrap(), json!({"type": "heartbeat"}));
        }
    });
    // One that reads but never answers a ping.
    let mut stream = TcpStream::connect(site.address()).unwrap();
    let lines = format!(
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nAuthorization: Bearer {token}\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: outboxd.push.v1\r\n"
    );
    write!(stream, "GET /v1/ws HTTP/1.1\r\nHost: x\r\n{lines}\r\n").unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    let all = String::from_utf8_lossy(&all);
    assert!(
        all.contains("\"code\":4009,\"reason\":\"no_pong\""),
        "{all}"
    );
}

#[test]
fn a_client_that_sends_too_fast_is_read_slower_and_loses_nothing() {
    let (_, site) = site("rate", "[push.limits]\nframes_per_second = 100");
    let token = site.token("c-7", &[]);
    block_on(async {
        let (mut socket, _) = Socket::authenticated(site.address(), &token).await.unwrap();
        let began = std::time::Instant::now();
        for id in 0..250 {
            let frame = json!({"type": "unsubscribe", "id": id, "saga_type": "t", "saga_id": "x"});
            socket
                .message(Message::Text(
                    Bytes::from(frame.to_string()).try_into().unwrap(),
                ))
                .await
                .unwrap();
        }
        for id in 0..250 {
            assert_eq!(socket.news().await.unwrap()["id"], id);
        }
        // 150 at once, and the rest at their rate.
        assert!(
            began.elapsed() >= Duration::from_millis(900),
            "{:?}",
            began.elapsed()
        );
    });
    let hit = site.daemon.metrics();
    let hit = hit.value("outboxd_push_rejected_total", &[("reason", "rate")]);
    assert!(hit >= Some(1.0), "{hit:?}");
}

#[test]
fn a_draining_daemon_is_not_ready_lets_nobody_in_and_says_goodbye_one_by_one() {
    let (_, site) = site("drain", "drain = \"4s\"");
    let token = site.token("c-7", &[]);
    block_on(async {
        let mut sockets = Vec::new();
        for _ in 0..20 {
            let (socket, _) = Socket::authenticated(site.address(), &token).await.unwrap();
            sockets.push(socket);
        }
        let mut said = tokio::task::JoinSet::new();
        for mut socket in sockets {
            said.spawn(async move {
                let rest = socket.rest().await;
                (rest, std::time::Instant::now())
            });
        }
        site.daemon.signal("TERM");
        let ready = || crate::support::http::get(site.daemon.admin(), "/readyz");
        while ready().is_ok_and(|(status, _)| status == 200) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(ready().is_ok_and(|(status, body)| status == 503 && body.contains("draining")));
        let late = Socket::authenticated(site.address(), &token).await;
        assert!(late.is_err(), "nobody comes in any more");
        let said = said.join_all().await;
        let bye = json!({"type": "bye", "code": 4001, "reason": "shutdown", "retry_after_ms": [0, 15000]});
        for (rest, _) in &said {
            assert_eq!(*rest, (vec![bye.clone()], 4001));
        }
        let times = said.iter().map(|(_, at)| *at);
        let (first, last) = (times.clone().min().unwrap(), times.max().unwrap());
        assert!(
            last - first >= Duration::from_secs(1),
            "spread over the time that there is"
        );
    });
    assert_eq!(site.daemon.wait(), 0);
}

#[test]
fn a_token_in_an_address_is_none() {
    let (_, site) = site("query", "[push.limits]\nauth = \"1s\"");
    let token = site.token("c-7", &["*"]);
    for name in ["token", "access_token", "bearer"] {
        let asked = site.get(&format!("/v1/sagas?{name}={token}"), &[]);
        assert!(asked.starts_with("HTTP/1.1 401"), "{asked}");
        let path = format!("/v1/ws?{name}={token}");
        let mut stream = TcpStream::connect(site.address()).unwrap();
        let lines = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: outboxd.push.v1\r\n";
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n{lines}\r\n").unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        let all = String::from_utf8_lossy(&all);
        assert!(
            all.contains("\"code\":4028") && !all.contains("ready"),
            "{all}"
        );
    }
}

#[test]
fn a_message_may_have_several_lines_both_ways() {
    let (prefix, site) = site("lines", "");
    SagaLog::plain(kafka(), &prefix).tell(&TOLD);
    site.wait_state("o-42", "PENDING");
    let token = site.token("c-7", &[]);
    block_on(async {
        let mut socket = Socket::open(site.address(), &[]).await.unwrap();
        let subscribe = Known::default().subscribe(2, "create-order", "o-42");
        let both = format!("{}\n\n{subscribe}\r\n", auth(&token));
        socket.message(Message::text(both)).await.unwrap();
        let first = socket.raw().await.unwrap();
        let mut lines = first.lines().count();
        let mut messages = 1;
        while lines < 3 {
            lines += socket.raw().await.unwrap().lines().count();
            messages += 1;
        }
        assert_eq!(lines, 3, "ready, subscribed, snapshot");
        // How they are divided is a matter of time, but frames that wait for one write share a message.
        assert!(messages < 3, "one message each");
    });
}

#[test]
fn the_epoch_is_the_same_on_every_instance_until_an_operator_raises_it() {
    let prefix = unique("epoch");
    let sites = ["", "", "epoch = 1"].map(|lines| Site::start(kafka(), &prefix, &[], lines));
    let epochs = sites.each_ref().map(|site| {
        site.daemon.wait_ready();
        let token = site.token("c-7", &[]);
        block_on(async {
            Socket::authenticated(site.address(), &token)
                .await
                .unwrap()
                .1
        })["epoch"]
            .as_str()
            .unwrap()
            .to_owned()
    });
    assert_eq!(epochs[0], epochs[1]);
    assert_ne!(epochs[0], epochs[2]);
}

#[test]
fn clients_are_sent_away_when_the_log_is_another_one() {
    let (prefix, site) = site("rotated", "");
    let token = site.token("c-7", &[]);
    let topic = format!("{prefix}.sagas");
    block_on(async {
        let (mut socket, _) = Socket::authenticated(site.address(), &token).await.unwrap();
        delete_topic(&kafka().bootstrap(), &topic);
        let bye =
            json!({"type": "bye", "code": 4010, "reason": "rotated", "retry_after_ms": [0, 15000]});
        assert_eq!(socket.rest().await, (vec![bye], 4010));
    });
    // It makes the topic anew and goes on with that.
    site.daemon.wait_ready();
    SagaLog::plain(kafka(), &prefix).tell(&Told {
        state: Some("ANEW"),
        ..TOLD
    });
    site.wait_state("o-42", "ANEW");
}

#[test]
fn a_saga_whose_beginning_is_gone_is_for_grants_alone_until_its_user_is_told() {
    let kafka = kafka();
    let prefix = unique("partial");
    let first = Site::start(kafka, &prefix, &[], "");
    first.daemon.wait_ready();
    let log = SagaLog::plain(kafka, &prefix);
    log.tell(&TOLD);
    let without = Told { user: "", ..TOLD };
    log.tell(&Told {
        event: 2,
        state: Some("LATER"),
        ..without
    });
    first.wait_state("o-42", "LATER");
    delete_records(&kafka.bootstrap(), &format!("{prefix}.sagas"), 1);
    let site = Site::start(kafka, &prefix, &[], "");
    site.daemon.wait_ready();
    let (user, ops) = (site.token("c-7", &[]), site.token("ops", &["create-order"]));
    let path = "/v1/sagas/create-order/o-42";
    assert_eq!(
        first.ask(path, &user).0,
        200,
        "this one has seen the beginning"
    );
    assert_eq!(site.ask(path, &user).0, 404);
    let (status, saga) = site.ask(path, &ops);
    assert_eq!((status, &saga["partial"]), (200, &json!(true)));
    assert_eq!(saga["version"], first.ask(path, &user).1["version"]);
    log.tell(&Told {
        event: 3,
        state: Some("NAMED"),
        ..TOLD
    });
    site.wait_state("o-42", "NAMED");
    let (status, saga) = site.ask(path, &user);
    assert_eq!((status, &saga["partial"]), (200, &json!(false)));
}
