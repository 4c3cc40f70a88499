//! Sagas over HTTP: one, the next version of it, a list. Never over a WebSocket.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::log::{SagaLog, TOLD, Told};
use super::site::Site;
use crate::support::{kafka, unique};

#[test]
fn one_saga_is_shown_and_its_next_version_waited_for() {
    let kafka = kafka();
    let prefix = unique("http");
    let site = Site::start(kafka, &prefix, &[], "");
    site.daemon.wait_ready();
    let log = SagaLog::plain(kafka, &prefix);
    log.tell(&Told {
        saga_id: "größe/1",
        ..TOLD
    });
    site.wait_state("gr%C3%B6%C3%9Fe%2F1", "PENDING");
    let token = site.token("c-7", &[]);
    let path = "/v1/sagas/create-order/gr%C3%B6%C3%9Fe%2F1";
    let (status, first) = site.ask(path, &token);
    assert_eq!(status, 200);
    assert_eq!(
        (&first["type"], &first["saga_id"]),
        (&json!("snapshot"), &json!("größe/1"))
    );
    let (epoch, version) = (
        first["epoch"].as_str().unwrap(),
        first["version"].as_i64().unwrap(),
    );
    let newer =
        |version: i64, wait: u64| format!("{path}?epoch={epoch}&version={version}&wait={wait}");
    assert_eq!(site.ask(&newer(version, 0), &token).0, 204);
    assert_eq!(site.ask(&newer(version, 1), &token).0, 204);
    assert_eq!(
        site.ask(
            &format!("{path}?epoch=other&version={version}&wait=9"),
            &token
        )
        .0,
        200
    );
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| site.ask(&newer(version, 60), &token));
        site.daemon.wait_metrics("the request to wait", |metrics| {
            metrics.value("outboxd_push_connections", &[("transport", "poll")]) == Some(1.0)
        });
        log.tell(&Told {
            saga_id: "größe/1",
            event: 2,
            state: Some("DONE"),
            ..TOLD
        });
        let (status, second) = waiting.join().unwrap();
        assert_eq!((status, &second["state"]), (200, &json!("DONE")));
        assert!(second["version"].as_i64().unwrap() > version);
    });
    assert_eq!(
        site.ask(&newer(version, 60), &token).0,
        200,
        "there is one already"
    );
}

#[test]
fn a_list_shows_the_stalest_first_page_by_page_to_who_has_a_grant() {
    let kafka = kafka();
    let prefix = unique("list");
    let site = Site::start(kafka, &prefix, &[], "");
    site.daemon.wait_ready();
    let log = SagaLog::plain(kafka, &prefix);
    let ids: Vec<String> = (0..25).map(|number| format!("o-{number}")).collect();
    for (event, id) in (1..).zip(&ids) {
        let state = if event % 5 == 0 { "STUCK" } else { "PENDING" };
        log.tell(&Told {
            saga_id: id,
            event,
            state: Some(state),
            ..TOLD
        });
    }
    log.tell(&Told {
        saga_type: "refund",
        saga_id: "r-1",
        event: 99,
        ..TOLD
    });
    log.tell(&Told {
        saga_id: "o-0",
        event: 100,
        state: Some("LAST"),
        ..TOLD
    });
    site.wait_state("o-0", "LAST");
    site.wait_state("o-24", "STUCK");
    let token = site.token("ops", &["create-order"]);
    let mut seen: Vec<String> = Vec::new();
    let mut after = String::new();
    loop {
        let (status, page) = site.ask(
            &format!("/v1/sagas?saga_type=create-order&limit=10&after={after}"),
            &token,
        );
        assert_eq!(status, 200);
        let sagas = page["sagas"].as_array().unwrap();
        assert!(sagas.len() <= 10);
        seen.extend(
            sagas
                .iter()
                .map(|saga| saga["saga_id"].as_str().unwrap().to_owned()),
        );
        match page["after"].as_str() {
            Some(next) => after = next.to_owned(),
            None => break,
        }
    }
    let mut expected = ids.clone();
    expected.rotate_left(1);
    assert_eq!(seen.len(), 25);
    assert_eq!(seen.last(), expected.last(), "the one that changed last");
    let (mut seen, mut expected) = (seen, expected);
    seen.sort();
    expected.sort();
    assert_eq!(seen, expected);
    let count = |query: &str| -> usize {
        let (status, page) = site.ask(&format!("/v1/sagas?{query}"), &token);
        assert_eq!(status, 200, "{query}");
        page["sagas"].as_array().unwrap().len()
    };
    assert_eq!(count("state=STUCK"), 5);
    assert_eq!(count(""), 25, "no refund: there is no grant for it");
    assert_eq!(count("stuck=true"), 0);
    let status = |query: &str, token: &str| site.ask(&format!("/v1/sagas?{query}"), token).0;
    assert_eq!(status("saga_type=refund", &token), 403);
    assert_eq!(status("", &site.token("c-7", &[])), 403);
    assert_eq!(status("limit=many", &token), 400);
    assert_eq!(status("after=nonsense", &token), 400);
    assert_eq!(status("", "nonsense"), 401);
}

#[test]
fn errors_are_problems_and_pages_of_other_sites_are_told_nothing() {
    let kafka = kafka();
    let site = Site::start(
        kafka,
        &unique("problem"),
        &[],
        "allowed_origins = [\"https://shop.example\"]",
    );
    site.daemon.wait_ready();
    let bearer = format!("Bearer {}", site.token("c-7", &[]));
    let auth = ("Authorization", bearer.as_str());
    type Headers<'a> = &'a [(&'a str, &'a str)];
    let cases: [(&str, Headers<'_>, u16); 6] = [
        ("/v1/sagas/t/x", &[auth], 404),
        ("/v1/nothing", &[auth], 404),
        ("/v1/sagas/t/x", &[], 401),
        ("/v1/sagas/t/x?version=x", &[auth], 400),
        (
            "/v1/sagas/t/x",
            &[auth, ("Origin", "https://evil.example")],
            403,
        ),
        (
            "/v1/sagas/t/x",
            &[auth, ("Origin", "https://shop.example")],
            404,
        ),
    ];
    for (path, headers, status) in cases {
        let answer = site.get(path, headers);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status}")),
            "{path}: {head}"
        );
        assert!(head.contains("application/problem+json"), "{head}");
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["status"], status);
        assert_eq!(
            head.contains("www-authenticate: Bearer"),
            status == 401,
            "{head}"
        );
        let allowed = head.contains("access-control-allow-origin: https://shop.example");
        assert_eq!(
            allowed,
            headers.contains(&("Origin", "https://shop.example")),
            "{head}"
        );
    }
}

/// Before a page of another site may show a token, its browser asks whether it may.
#[test]
fn browsers_are_told_which_pages_may_show_a_token() {
    let lines = "allowed_origins = [\"https://shop.example\"]";
    let site = Site::start(kafka(), &unique("preflight"), &[], lines);
    site.daemon.wait_ready();
    let asked = |origin| {
        let headers = [
            ("Origin", origin),
            ("Access-Control-Request-Method", "GET"),
            ("Access-Control-Request-Headers", "authorization"),
        ];
        site.request("OPTIONS", "/v1/stream?saga_type=t", &headers)
    };
    let answer = asked("https://shop.example");
    for line in [
        "HTTP/1.1 204 ",
        "access-control-allow-origin: https://shop.example",
        "access-control-allow-methods: GET",
        "access-control-allow-headers: authorization, last-event-id",
        "access-control-max-age: 600",
        "vary: Origin",
    ] {
        assert!(answer.contains(line), "{line}: {answer}");
    }
    let answer = asked("https://evil.example");
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert!(!answer.contains("access-control-allow"), "{answer}");
}

#[test]
fn a_daemon_that_has_not_read_the_log_yet_says_so() {
    let site = Site::start_with("[kafka]\nbootstrap_servers = \"127.0.0.1:1\"\n");
    let answer = Instant::now() + Duration::from_secs(30);
    loop {
        assert!(Instant::now() < answer);
        let Ok((503, away)) = crate::support::http::get(site.daemon.admin(), "/readyz") else {
            continue;
        };
        if away.contains("push: ") && away.contains("127.0.0.1:1") {
            break;
        }
    }
    let answer = site.get("/v1/sagas/t/x", &[]);
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("retry-after: 1"), "{answer}");
}
