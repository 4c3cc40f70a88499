//! An operator sends clients away: those that are meant, on the daemon that is told, whatever they are connected by. Never by a token's content.

use std::time::Duration;

use serde_json::json;

use super::log::{SagaLog, TOLD};
use super::site::Site;
use super::stream::Stream;
use crate::site::{Ended, ctl, outboxd};
use crate::support::socket::Socket;
use crate::support::{block_on, kafka, unique};

const HOUR: Duration = Duration::from_secs(3600);

fn kick(site: &Site, whom: &[&str]) -> Ended {
    ctl(&site.daemon, &[&["kick"], whom].concat())
}

/// Sockets in session with these tokens.
async fn sockets<const N: usize>(site: &Site, tokens: [&str; N]) -> [Socket; N] {
    let mut sockets = Vec::new();
    for token in tokens {
        let socket = Socket::authenticated(site.address(), token).await.unwrap();
        sockets.push(socket.0);
    }
    sockets.try_into().ok().unwrap()
}

#[test]
fn a_kicked_user_is_gone_from_this_daemon_and_nobody_else_is() {
    let kafka = kafka();
    let prefix = unique("kick");
    let [site, other] = [(); 2].map(|()| Site::start(kafka, &prefix, &[], ""));
    site.daemon.wait_ready();
    other.daemon.wait_ready();
    SagaLog::plain(kafka, &prefix).tell(&TOLD);
    site.wait_state("o-42", "PENDING");
    let (mine, theirs) = (site.token("c-7", &[]), site.token("c-8", &[]));
    let bearer = format!("Bearer {mine}");
    let auth = ("Authorization", bearer.as_str());
    let bye =
        json!({"type": "bye", "code": 4102, "reason": "disconnected", "retry_after_ms": [0, 1000]});
    block_on(async {
        let [mut first, mut second, mut third] = sockets(&site, [&mine, &mine, &theirs]).await;
        let [mut elsewhere] = sockets(&other, [&mine]).await;
        let mut stream = Stream::open(&site, "saga_type=create-order&saga_id=none", &[auth]);
        assert_eq!(stream.next().unwrap().1, "ready");
        assert_eq!(stream.next().unwrap().1, "subscribed");
        let (_, snapshot) = site.ask("/v1/sagas/create-order/o-42", &mine);
        let (epoch, version) = (snapshot["epoch"].as_str().unwrap(), &snapshot["version"]);
        let newer = format!("/v1/sagas/create-order/o-42?epoch={epoch}&version={version}&wait=60");
        std::thread::scope(|scope| {
            let poll = scope.spawn(|| site.ask(&newer, &mine).0);
            site.daemon.wait_metrics("the request to wait", |metrics| {
                metrics.value("outboxd_push_connections", &[("transport", "poll")]) == Some(1.0)
            });
            let ended = kick(&site, &["--user", "c-7"]);
            assert_eq!(
                (ended.code, ended.out.as_str()),
                (0, "closed 4 connections of this user\n"),
                "{ended:?}"
            );
            assert_eq!(poll.join().unwrap(), 401);
        });
        for socket in [&mut first, &mut second] {
            assert_eq!(socket.rest().await, (vec![bye.clone()], 4102));
        }
        assert_eq!(stream.next().unwrap().2, bye);
        assert_eq!(stream.next(), None);
        // The others are still there, also when they are asked something.
        for socket in [&mut third, &mut elsewhere] {
            let unsubscribe =
                json!({"type": "unsubscribe", "id": 9, "saga_type": "t", "saga_id": "x"});
            socket.send(&unsubscribe).await.unwrap();
            assert_eq!(socket.news().await.unwrap()["id"], 9);
        }
        // Who is gone is not counted, and who comes back is.
        let ended = kick(&site, &["--user", "c-7"]);
        assert_eq!(ended.out, "closed 0 connections of this user\n");
        let [mut back] = sockets(&site, [&mine]).await;
        let ended = kick(&site, &["--user", "c-7"]);
        assert_eq!(ended.out, "closed 1 connection of this user\n");
        assert_eq!(back.rest().await.1, 4102);
        assert_eq!(kick(&other, &["--user", "c-7"]).code, 0);
        assert_eq!(elsewhere.rest().await.1, 4102);
    });
    let closed = site
        .daemon
        .metrics()
        .value("outboxd_push_closed_total", &[("code", "4102")]);
    assert_eq!(closed, Some(4.0), "three sockets and a stream");
}

#[test]
fn a_token_is_kicked_by_its_id_as_long_as_it_is_the_one_that_counts() {
    let site = Site::start(kafka(), &unique("kick_id"), &[], "");
    site.daemon.wait_ready();
    let token = |id: &str| site.signed("c-7", &[], HOUR, json!({"jti": id}));
    let (one, two) = (token("t-1"), token("t-2"));
    block_on(async {
        let [mut first, mut renewed] = sockets(&site, [&one, &one]).await;
        renewed.show(&two).await.unwrap();
        let ended = kick(&site, &["--token-id", "t-1"]);
        assert_eq!(ended.out, "closed 1 connection with this token\n");
        assert_eq!(first.rest().await.1, 4102);
        let ended = kick(&site, &["--token-id", "t-2"]);
        assert_eq!(ended.out, "closed 1 connection with this token\n");
        assert_eq!(renewed.rest().await.1, 4102);
    });
}

#[test]
fn who_is_to_be_kicked_has_to_be_said() {
    for whom in [
        &[][..],
        &["--user", ""],
        &["--user", "a", "--token-id", "b"],
    ] {
        let ended = outboxd(&[&["ctl", "kick"], whom].concat());
        assert_eq!(ended.code, 64, "{ended:?}");
    }
}
