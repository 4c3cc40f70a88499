//! What the console asks for: counts, one saga's events from the log, lists of what has ended. Never for those without a grant.

use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use super::log::{SagaLog, TOLD, Told};
use super::site::Site;
use crate::support::{kafka, unique, wait_until};

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_sagas_events_are_looked_up_in_the_log() {
    let kafka = kafka();
    let prefix = unique("events");
    let site = Site::start(kafka, &prefix, &[], "");
    site.daemon.wait_ready();
    // Transactions leave holes between offsets; what lies between the events is more than is read at once.
    let log = SagaLog::transactional(kafka, &prefix);
    let step = |event, step, source| Told {
        event,
        state: None,
        step: Some(step),
        source,
        ..TOLD
    };
    let ended = Told {
        event: 4,
        state: Some("APPROVED"),
        outcome: Some("completed"),
        ..TOLD
    };
    log.transaction(true, |log| {
        log.send(&TOLD);
        log.send(&step(2, ("create-ticket", "pending"), "kitchen"));
        log.send(&step(2, ("create-ticket", "pending"), "kitchen"));
    });
    log.transaction(false, |log| {
        log.send(&step(9, ("aborted", "done"), "kitchen"))
    });
    log.transaction(true, |log| {
        for event in 1_000..2_000 {
            let other = Told {
                saga_id: "o-42",
                saga_type: "other",
                event,
                ..TOLD
            };
            log.send(&other);
        }
    });
    log.transaction(true, |log| {
        log.send(&step(3, ("create-ticket", "done"), "kitchen"));
        log.send(&ended);
    });
    site.wait_state("o-42", "APPROVED");
    let path = "/v1/sagas/create-order/o-42/events";
    let operator = site.token("ops", &["create-order"]);
    let (status, told) = site.ask(path, &operator);
    assert_eq!(status, 200, "{told}");
    assert_eq!(told["whole"], true, "{told}");
    let events = told["events"].as_array().unwrap();
    let said = |event: &Value| {
        let fields = ["source", "state", "outcome", "step", "status"];
        let words = fields.map(|field| event[field].as_str().unwrap_or("-").to_owned());
        words.join(" ")
    };
    assert_eq!(
        events.iter().map(said).collect::<Vec<_>>(),
        [
            "orders PENDING - - -",
            "kitchen - - create-ticket pending",
            "kitchen - - create-ticket done",
            "orders APPROVED completed - -",
        ]
    );
    let ids: Vec<_> = events.iter().map(|event| &event["event_id"]).collect();
    assert_eq!(*ids[3], json!(Uuid::from_u128(4)));
    let version = |event: &Value| event["version"].as_i64().unwrap();
    assert!(events.is_sorted_by_key(version), "{told}");
    let (_, saga) = site.ask("/v1/sagas/create-order/o-42", &operator);
    assert_eq!(version(&events[3]), version(&saga));
    assert!(!told.to_string().contains("c-7"), "whose it is: {told}");

    // One with more events than are remembered says so.
    log.transaction(true, |log| {
        for event in 5_000..5_300 {
            log.send(&Told {
                saga_id: "long",
                event,
                ..TOLD
            });
        }
    });
    wait_until("the last events", PATIENCE, || {
        let (_, long) = site.ask("/v1/sagas/create-order/long/events", &operator);
        let events = long["events"].as_array();
        events.is_some_and(|events| {
            let last = events.last().map(|event| event["event_id"].clone());
            events.len() == 256
                && long["whole"] == false
                && last == Some(json!(Uuid::from_u128(5_299)))
        })
    });

    assert_eq!(site.ask(path, &site.token("c-7", &[])).0, 403, "its user");
    assert_eq!(site.ask(path, &site.token("ops", &["other"])).0, 403);
    assert_eq!(site.ask(path, "nonsense").0, 401);
    let unknown = "/v1/sagas/create-order/nobody/events";
    assert_eq!(site.ask(unknown, &operator).0, 404);
}

#[test]
fn sagas_are_counted_by_type_and_state_and_sources_say_how_far_they_are() {
    let kafka = kafka();
    let prefix = unique("overview");
    let site = Site::start(kafka, &prefix, &[], "");
    site.daemon.wait_ready();
    let log = SagaLog::plain(kafka, &prefix);
    let told = [
        ("a", "PENDING", None),
        ("b", "PENDING", None),
        ("c", "APPROVED", Some("completed")),
        ("d", "APPROVED", Some("completed")),
        ("e", "REJECTED", Some("rejected")),
    ];
    for (event, (saga_id, state, outcome)) in (1..).zip(told) {
        log.send(&Told {
            saga_id,
            state: Some(state),
            outcome,
            event,
            ..TOLD
        });
    }
    log.send(&Told {
        saga_type: "hidden",
        saga_id: "x",
        event: 99,
        ..TOLD
    });
    let beat = r#"{"v":1,"source":"orders","published_until":"2026-11-21T10:00:00.000000Z"}"#;
    log.raw("any", beat.as_bytes());
    log.flush();
    let operator = site.token("ops", &["create-order"]);
    let expected = json!([
        {"state": "APPROVED", "sagas": 2, "stuck": 0, "outcomes": {"completed": 2}},
        {"state": "PENDING", "sagas": 2, "stuck": 0, "outcomes": {}},
        {"state": "REJECTED", "sagas": 1, "stuck": 0, "outcomes": {"rejected": 1}},
    ]);
    let seen = || site.ask("/v1/overview", &operator).1;
    wait_until("all to be counted", PATIENCE, || {
        let seen = seen();
        seen["types"] == json!([{"saga_type": "create-order", "states": expected, "more": 0}])
            && seen["sources"]
                == json!([{"source": "orders", "published_until": "2026-11-21T10:00:00.000000Z"}])
    });
    assert!(seen()["now"].as_str().unwrap().ends_with('Z'));
    assert_eq!(site.ask("/v1/overview", &site.token("c-7", &[])).0, 403);

    let list = |query: &str| {
        let (status, list) = site.ask(&format!("/v1/sagas?{query}"), &operator);
        assert_eq!(status, 200, "{list}");
        let sagas = list["sagas"].as_array().unwrap().clone();
        let ids: Vec<String> = sagas
            .iter()
            .map(|saga| saga["saga_id"].as_str().unwrap().to_owned())
            .collect();
        (ids.concat(), list["after"].as_str().map(str::to_owned))
    };
    let sorted = |text: &str| {
        let mut all: Vec<char> = text.chars().collect();
        all.sort_unstable();
        all.into_iter().collect::<String>()
    };
    let reversed = |text: &str| text.chars().rev().collect::<String>();
    assert_eq!(sorted(&list("finished=false").0), "ab");
    let ended = list("finished=true").0;
    assert_eq!(sorted(&ended), "cde");
    assert_eq!(list("finished=true&newest=true").0, reversed(&ended));
    let all = list("").0;
    let (first, after) = list("newest=true&limit=2");
    let (second, rest) = list(&format!("newest=true&limit=2&after={}", after.unwrap()));
    let (third, end) = list(&format!("newest=true&limit=2&after={}", rest.unwrap()));
    assert_eq!((first + &second + &third, end), (reversed(&all), None));
    assert_eq!(site.ask("/v1/sagas?finished=maybe", &operator).0, 400);
}
