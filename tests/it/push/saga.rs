//! `outboxd saga` tells an operator what clients are told. Never asks a daemon.

use std::process::{Command, Output};

use serde_json::Value;

use super::log::{SagaLog, TOLD, Told};
use super::site::Site;
use crate::support::{kafka, unique};
use crate::world::OUTBOXD;

#[test]
fn an_operator_sees_sagas_without_a_daemon() {
    let kafka = kafka();
    let prefix = unique("saga");
    let site = Site::start(kafka, &prefix, &[], "");
    site.daemon.wait_ready();
    assert_eq!(site.daemon.terminate(), 0);
    let log = SagaLog::plain(kafka, &prefix);
    for (event, id) in (1..).zip(["o-1", "o-2", "o-3"]) {
        log.tell(&Told {
            saga_id: id,
            event,
            ..TOLD
        });
    }
    let done = Some(("create-ticket", "done"));
    log.tell(&Told {
        saga_id: "o-1",
        event: 9,
        state: None,
        step: done,
        source: "kitchen",
        ..TOLD
    });
    let ran = |arguments: &[&str]| -> Output {
        let mut command = Command::new(OUTBOXD);
        command
            .arg("--config")
            .arg(site.daemon.config())
            .arg("saga");
        command.args(arguments).output().unwrap()
    };
    let text = |ran: &Output| String::from_utf8(ran.stdout.clone()).unwrap();
    let listed = ran(&["list"]);
    assert!(listed.status.success(), "{listed:?}");
    let ids: Vec<String> = text(&listed)
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().nth(1).unwrap().to_owned())
        .collect();
    assert_eq!(ids, ["o-2", "o-3", "o-1"]);
    let listed: Value =
        serde_json::from_str(&text(&ran(&["list", "--limit", "1", "--json"]))).unwrap();
    assert_eq!(
        (listed.as_array().unwrap().len(), &listed[0]["saga_id"]),
        (1, &"o-2".into())
    );
    assert_eq!(text(&ran(&["list", "--state", "NONE"])), "no sagas\n");
    let shown: Value =
        serde_json::from_str(&text(&ran(&["show", "create-order", "o-1", "--json"]))).unwrap();
    assert_eq!(shown["steps"][0]["step"], "create-ticket");
    assert!(text(&ran(&["show", "create-order", "o-1"])).contains("create-ticket  done"));
    let unknown = ran(&["show", "create-order", "o-9"]);
    assert_eq!(unknown.status.code(), Some(65), "{unknown:?}");
}
