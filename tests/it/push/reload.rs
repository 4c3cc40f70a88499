//! What a reload changes for clients that come after it, and what it leaves to those that are there.

use std::time::Duration;

use serde_json::json;

use super::log::{SagaLog, TOLD};
use super::site::Site;
use super::tls;
use crate::site::{Ended, ctl};
use crate::support::authority::Authority;
use crate::support::socket::Socket;
use crate::support::{block_on, kafka, unique, wait_until};

const PATIENCE: Duration = Duration::from_secs(60);
const STRANGER: (&str, &str) = ("Origin", "https://shop.example");

fn reload(site: &Site) -> Ended {
    ctl(&site.daemon, &["reload", "--wait"])
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap()
}

#[test]
fn origins_keys_and_limits_are_others_for_whoever_comes_and_nobody_is_sent_away() {
    let (kafka, prefix) = (kafka(), unique("terms"));
    let site = Site::start(kafka, &prefix, &[], "heartbeat = \"5m\"\n");
    site.daemon.wait_ready();
    let old = site.token("c-7", &[]);
    let get = |token: &str, headers: &[(&str, &str)]| {
        let bearer = format!("Bearer {token}");
        let headers = [headers, &[("Authorization", bearer.as_str())]].concat();
        let answer = site.get("/v1/sagas/create-order/o-42", &headers);
        status(&answer).to_owned()
    };
    SagaLog::plain(kafka, &prefix).tell(&TOLD);
    site.wait_state("o-42", "PENDING");
    assert_eq!(get(&old, &[]), "200");
    assert_eq!(get(&old, &[STRANGER]), "403");
    block_on(async {
        let (mut socket, _) = Socket::authenticated(site.address(), &old).await.unwrap();
        let lines = "heartbeat = \"6m\"\nallowed_origins = [\"https://shop.example\"]\n\
                     [push.limits]\nsubscriptions = 1\n";
        site.configure(kafka, &prefix, lines);
        site.daemon
            .write("secret", "another secret for tests that is long enough");
        let ended = reload(&site);
        assert_eq!(ended.code, 0, "{ended:?}");
        // The old secret's token is no longer believed; the new one's is.
        assert_eq!(get(&old, &[]), "401");
        let new = site.token("c-7", &[]);
        assert_eq!(get(&new, &[STRANGER]), "200");
        let (mut after, ready) = Socket::authenticated(site.address(), &new).await.unwrap();
        assert_eq!(ready["heartbeat_s"], 360);
        // Who was there goes on as it began: with room for 64 subscriptions.
        for (socket, second) in [(&mut socket, "subscribed"), (&mut after, "error")] {
            for (id, saga) in [(2, "o-1"), (3, "o-2")] {
                let frame = json!({"type": "subscribe", "id": id, "saga_type": "create-order", "saga_id": saga});
                socket.send(&frame).await.unwrap();
                let answer = socket.news().await.unwrap();
                let expected = if id == 2 { "subscribed" } else { second };
                assert_eq!(answer["type"], expected, "{answer}");
            }
        }
    });
}

#[test]
fn keys_that_cannot_be_used_refuse_the_reload() {
    let (kafka, prefix) = (kafka(), unique("unusable"));
    let site = Site::start(kafka, &prefix, &[], "");
    site.daemon.wait_ready();
    let token = site.token("c-7", &[]);
    site.daemon.write("secret", "short");
    site.configure(
        kafka,
        &prefix,
        "allowed_origins = [\"https://shop.example\"]\n",
    );
    let ended = reload(&site);
    assert_eq!(ended.code, 78, "{ended:?}");
    assert!(
        ended.err.contains("push.auth.keys: the secret has 5 bytes"),
        "{ended:?}"
    );
    let bearer = format!("Bearer {token}");
    let auth = ("Authorization", bearer.as_str());
    let path = "/v1/sagas/create-order/o-42";
    assert_eq!(
        status(&site.get(path, &[auth])),
        "404",
        "the old secret goes on"
    );
    assert_eq!(
        status(&site.get(path, &[auth, STRANGER])),
        "403",
        "nothing was applied"
    );
}

#[test]
fn a_certificate_in_another_place_is_used_by_whoever_comes() {
    let (kafka, prefix) = (kafka(), unique("moved"));
    let [before, after] = [Authority::new(), Authority::new()];
    let site = Site::start(kafka, &prefix, &[], &tls::under(&before));
    site.daemon.wait_ready();
    block_on(async {
        tls::shown(site.address(), &before).await;
        site.configure(kafka, &prefix, &tls::under(&after));
        let ended = reload(&site);
        assert_eq!(ended.code, 0, "{ended:?}");
        let shown = tls::shown(site.address(), &after).await;
        // And it is looked after like the first one.
        after.sign("IP:127.0.0.1");
        wait_until("the renewed one to be read", PATIENCE, || {
            site.daemon.log().contains("the certificate was renewed")
        });
        assert_ne!(tls::shown(site.address(), &after).await, shown);
    });
}
