//! Keys that are fetched: when they are asked for, and what goes on when they do not come.

use futures_util::future::join_all;

use super::super::fetch;
use super::super::fetched::{Fetched, Pace};
use super::issuer::Issuer;
use super::jwks::{jwk, set};
use super::*;

const ED: Algorithm = Algorithm::EdDSA;
const LONG: Duration = Duration::from_secs(3600);
/// Only the first fetch comes by itself.
const PACE: Pace = Pace {
    usual: LONG,
    again: Duration::from_millis(20),
    apart: LONG,
    patience: Duration::from_secs(30),
    wait: Duration::from_secs(30),
};

fn verifier(issuer: &Issuer, pace: Pace) -> Verifier {
    Verifier(Arc::new(Inner {
        auth: auth(&[ED], Keys::Jwks(issuer.url())),
        keys: Source::Fetched(Fetched::new(&issuer.url(), &[ED], pace)),
    }))
}

/// A good token of these keys that names one.
fn named(pairs: &Pairs, id: &str) -> String {
    let header = json!({"alg": "EdDSA", "kid": id});
    token(&header, &claims(), |message| pairs.sign(ED, message))
}

async fn fresh(verifier: &Verifier, token: &str) -> Result<(), Refused> {
    verifier.verify_fresh(token, at(NOW)).await.map(drop)
}

/// Waits until a token is judged so.
async fn until(verifier: &Verifier, token: &str, verdict: Result<(), Refused>) {
    let judged = async {
        while verifier.verify(token, at(NOW)).map(drop) != verdict {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let judged = tokio::time::timeout(Duration::from_secs(60), judged).await;
    judged.unwrap_or_else(|_| panic!("never {verdict:?}"));
}

/// Does this while the keys are kept.
async fn while_kept(verifier: &Verifier, does: impl Future<Output = ()>) {
    tokio::select! {
        never = verifier.keep() => match never {},
        () = does => {}
    }
}

const UNKNOWN: Result<(), Refused> = Err(Refused::Wrong(Why::UnknownKey));
const UNCHECKED: Result<(), Refused> = Err(Refused::Unchecked);

#[tokio::test]
async fn a_token_of_a_new_key_is_believed_at_once_and_of_a_removed_one_no_more() {
    let issuer = Issuer::start(0);
    let pace = Pace {
        apart: Duration::ZERO,
        ..PACE
    };
    let verifier = verifier(&issuer, pace);
    let (old, new) = (named(&OURS, "k1"), named(&THEIRS, "k2"));
    assert_eq!(fresh(&verifier, &old).await, UNCHECKED);
    let (k1, k2) = (jwk(&OURS, ED, "k1"), jwk(&THEIRS, ED, "k2"));
    issuer.serve(&set(std::slice::from_ref(&k1)));
    while_kept(&verifier, async {
        until(&verifier, &old, Ok(())).await;
        assert_eq!(issuer.asked(), 1);
        issuer.serve(&set(&[k1, k2.clone()]));
        assert_eq!(fresh(&verifier, &new).await, Ok(()));
        assert_eq!(fresh(&verifier, &old).await, Ok(()));
        assert_eq!(issuer.asked(), 2);
        issuer.serve(&set(&[k2]));
        assert_eq!(fresh(&verifier, &named(&OURS, "k3")).await, UNKNOWN);
        assert_eq!(fresh(&verifier, &old).await, UNKNOWN);
        assert_eq!(fresh(&verifier, &new).await, Ok(()));
        // A known key is not asked for again, whatever it is said to have signed.
        let asked = issuer.asked();
        let forged = named(&OURS, "k2");
        assert_eq!(fresh(&verifier, &forged).await, Err(Why::Signature.into()));
        assert_eq!(issuer.asked(), asked);
    })
    .await;
}

#[tokio::test]
async fn a_storm_of_unknown_keys_is_one_fetch() {
    let issuer = Issuer::start(0);
    let verifier = verifier(&issuer, PACE);
    let good = named(&OURS, "k1");
    issuer.serve(&set(&[jwk(&OURS, ED, "k1")]));
    while_kept(&verifier, async {
        until(&verifier, &good, Ok(())).await;
        assert_eq!(issuer.asked(), 1);
        let storm: Vec<_> = (0..200).map(|n| named(&OURS, &format!("x{n}"))).collect();
        let judged = join_all(storm.iter().map(|token| fresh(&verifier, token))).await;
        assert!(judged.iter().all(|judged| *judged == UNKNOWN), "{judged:?}");
        assert_eq!(issuer.asked(), 2);
        // Whoever comes later may come with a key that the issuer has only just made.
        let judged = join_all(storm.iter().map(|token| fresh(&verifier, token))).await;
        assert!(
            judged.iter().all(|judged| *judged == UNCHECKED),
            "{judged:?}"
        );
        assert_eq!(fresh(&verifier, &good).await, Ok(()));
        assert_eq!(issuer.asked(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_key_that_came_too_soon_is_fetched_a_little_later() {
    let issuer = Issuer::start(0);
    let pace = Pace {
        apart: Duration::from_millis(200),
        ..PACE
    };
    let verifier = verifier(&issuer, pace);
    let (old, new) = (named(&OURS, "k1"), named(&THEIRS, "k2"));
    let (k1, k2) = (jwk(&OURS, ED, "k1"), jwk(&THEIRS, ED, "k2"));
    issuer.serve(&set(std::slice::from_ref(&k1)));
    while_kept(&verifier, async {
        until(&verifier, &old, Ok(())).await;
        assert_eq!(fresh(&verifier, &named(&OURS, "x")).await, UNKNOWN);
        issuer.serve(&set(&[k1, k2]));
        // Asked for once, it comes without being asked for again.
        let _ = fresh(&verifier, &new).await;
        until(&verifier, &new, Ok(())).await;
    })
    .await;
}

#[tokio::test]
async fn old_keys_go_on_while_the_issuer_is_away_and_end_with_the_next_set() {
    let issuer = Issuer::start(0);
    let pace = Pace {
        usual: Duration::from_millis(20),
        ..PACE
    };
    let verifier = verifier(&issuer, pace);
    let good = named(&OURS, "k1");
    issuer.serve(&set(&[jwk(&OURS, ED, "k1")]));
    while_kept(&verifier, async {
        until(&verifier, &good, Ok(())).await;
        for away in [
            "",
            "HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n<p>",
        ] {
            issuer.answer(away);
            let asked = issuer.asked();
            while issuer.asked() < asked + 3 {
                assert_eq!(fresh(&verifier, &good).await, Ok(()));
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        // A set without a key that fits: nothing is believed, and nobody is sent away for good.
        issuer.serve(&set(&[]));
        until(&verifier, &good, UNCHECKED).await;
        issuer.serve(&set(&[jwk(&THEIRS, ED, "k1")]));
        until(&verifier, &good, Err(Why::Signature.into())).await;
    })
    .await;
}

#[tokio::test]
async fn before_the_first_set_only_what_is_wrong_anyhow_is_wrong() {
    let issuer = Issuer::start(0);
    let verifier = verifier(&issuer, PACE);
    assert_eq!(fresh(&verifier, "tiger").await, Err(Why::Form.into()));
    let other = token(&json!({"alg": "ES256", "kid": "k1"}), &claims(), |_| {
        vec![1]
    });
    assert_eq!(
        fresh(&verifier, &other).await,
        Err(Why::Algorithm(Algorithm::ES256).into())
    );
    assert_eq!(fresh(&verifier, &named(&OURS, "k1")).await, UNCHECKED);
    issuer.serve(&set(&[jwk(&OURS, ED, "k1")]));
    assert_eq!(verifier.fetch().await.unwrap(), 1);
    assert_eq!(fresh(&verifier, &named(&OURS, "k1")).await, Ok(()));
}

#[tokio::test]
async fn an_answer_is_small_quick_and_from_where_it_was_asked_for() {
    let issuer = Issuer::start(0);
    let elsewhere = Issuer::start(0);
    elsewhere.serve(&set(&[]));
    let get = async |patience| {
        let got = fetch::get(&issuer.url(), patience).await;
        got.map(|body| body.len())
            .map_err(|error| error.to_string())
    };
    let long = Duration::from_secs(60);
    let limit = 256 << 10;
    issuer.serve(&"x".repeat(limit));
    assert_eq!(get(long).await, Ok(limit));
    let refused = async |say: &str| {
        let said = get(long).await.unwrap_err();
        assert!(said.contains(say), "{said}");
    };
    issuer.serve(&"x".repeat(limit + 1));
    refused("more than 256 KiB").await;
    // Without saying before how long it is, and without an end.
    let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
    issuer.answer(&format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        chunk.repeat(65)
    ));
    refused("more than 256 KiB").await;
    issuer.answer(&format!(
        "HTTP/1.1 200 OK\r\nX: {}\r\n\r\n",
        "x".repeat(64 << 10)
    ));
    refused("cannot be read").await;
    for status in ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"] {
        issuer.answer(&format!(
            "HTTP/1.1 {status}\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n",
            elsewhere.url()
        ));
        refused("redirects are not followed").await;
    }
    assert_eq!(elsewhere.asked(), 0);
    issuer.answer("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    refused("the answer is 404").await;
    issuer.answer("SSH-2.0\r\n\r\n");
    refused("cannot be read").await;
    issuer.answer("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345");
    refused("cannot be read").await;
    for begun in [
        "HTTP/1.1 200 OK\r\nX: ",
        "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{",
    ] {
        issuer.drip(begun);
        let said = get(Duration::from_millis(300)).await.unwrap_err();
        assert!(said.contains("took too long"), "{said}");
    }
}
