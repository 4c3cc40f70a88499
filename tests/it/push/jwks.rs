//! An issuer that publishes its keys: the daemon starts without it, follows its rotation, and sends nobody away for good before it
//! knows. Never with a key of the configuration.

use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::site::Site;
use crate::site::{Ended, outboxd_with};
use crate::support::authority::Authority;
use crate::support::issuer::Issuer;
use crate::support::process::Port;
use crate::support::socket::Socket;
use crate::support::{block_on, kafka, unique, wait_until};

/// A key pair of an issuer, and its name.
struct Pair {
    id: &'static str,
    pair: Ed25519KeyPair,
}

impl Pair {
    fn new(id: &'static str) -> Self {
        let pair = Ed25519KeyPair::generate().unwrap();
        Self { id, pair }
    }

    fn token(&self) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = part(json!({"alg": "EdDSA", "typ": "JWT", "kid": self.id}));
        let claims = part(json!({
            "iss": "https://id.example", "aud": "outboxd", "sub": "c-7", "exp": now.as_secs() + 3600
        }));
        let message = format!("{header}.{claims}");
        let signature = self.pair.sign(message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

fn set(pairs: &[&Pair]) -> String {
    let keys: Vec<Value> = pairs
        .iter()
        .map(|pair| {
            let x = URL_SAFE_NO_PAD.encode(pair.pair.public_key());
            json!({"kty": "OKP", "crv": "Ed25519", "use": "sig", "kid": pair.id, "x": x})
        })
        .collect();
    json!({ "keys": keys }).to_string()
}

/// How a client is let in that shows its token in the first frame: `ready`, or the close code.
fn shown(site: &Site, token: &str) -> Result<(), u16> {
    block_on(async {
        let mut socket = Socket::open(site.address(), &[]).await.unwrap();
        let auth = json!({"type": "auth", "id": 1, "token": token});
        socket.send(&auth).await.unwrap();
        match socket.next().await {
            Ok(frame) if frame["type"] == "ready" => Ok(()),
            Ok(_) => Err(socket.rest().await.1),
            Err(closed) => Err(closed.0),
        }
    })
}

/// Its status when it asks over HTTP, for a saga that does not exist.
fn asked(site: &Site, token: &str) -> u16 {
    site.ask("/v1/sagas/create-order/none", token).0
}

#[test]
fn a_daemon_waits_for_its_issuer_and_follows_its_rotation() {
    let port = Port::claim();
    let keys = format!(
        "keys = {{ jwks_url = \"http://127.0.0.1:{}/jwks.json?v=1\" }}",
        port.number()
    );
    let site = Site::start_for(kafka(), &unique("jwks"), &keys);
    site.daemon.wait_ready();
    let (old, new, foreign) = (Pair::new("k1"), Pair::new("k2"), Pair::new("k1"));
    // Nobody knows yet: come again.
    assert_eq!(shown(&site, &old.token()), Err(4029));
    assert_eq!(asked(&site, &old.token()), 503);
    let bearer = format!("Bearer {}", old.token());
    let answer = site.get("/v1/sagas/t/x", &[("Authorization", &bearer)]);
    assert!(answer.to_lowercase().contains("retry-after: 5"), "{answer}");
    let upgrade = block_on(Socket::open(
        site.address(),
        &[("authorization", bearer.as_str())],
    ));
    let refused = upgrade.map(drop).unwrap_err().to_string();
    assert!(refused.contains("503"), "{refused}");
    // What is no token will not become one.
    assert_eq!(shown(&site, "tiger"), Err(4201));
    assert_eq!(asked(&site, "tiger"), 401);

    let issuer = Issuer::start(port.number());
    issuer.serve(&set(&[&old]));
    wait_until("the keys to be there", Duration::from_secs(60), || {
        asked(&site, &old.token()) == 404
    });
    assert_eq!(shown(&site, &old.token()), Ok(()));
    assert_eq!(shown(&site, &foreign.token()), Err(4201));
    let before = issuer.asked();
    issuer.serve(&set(&[&old, &new]));
    assert_eq!(
        shown(&site, &new.token()),
        Ok(()),
        "the new key is fetched for it"
    );
    assert_eq!(asked(&site, &new.token()), 404);
    assert_eq!(shown(&site, &old.token()), Ok(()));
    assert_eq!(issuer.asked(), before + 1);
    // Once more so soon would be too often: neither yes nor no.
    assert_eq!(shown(&site, &Pair::new("k3").token()), Err(4029));
    assert_eq!(issuer.asked(), before + 1);
    let metrics = site.daemon.metrics();
    let fetches = |result| metrics.value("outboxd_push_key_fetches_total", &[("result", result)]);
    assert!(fetches("ok") >= Some(2.0) && fetches("error") >= Some(1.0));
    let refused = metrics.value("outboxd_push_rejected_total", &[("reason", "unchecked")]);
    assert!(refused >= Some(3.0), "{refused:?}");
    let log = site.daemon.log();
    assert!(log.contains("push.auth.keys: cannot connect"), "{log}");
    assert!(log.contains("the issuer's keys are there"), "{log}");
    drop(issuer);
    assert_eq!(shown(&site, &new.token()), Ok(()), "its keys go on");
}

/// Serves files over TLS, until it is dropped.
struct Server(Child);

impl Server {
    fn start(folder: &Path, port: u16) -> Self {
        let command = "s_server -quiet -HTTP -cert server.crt -key server.key -accept";
        let server = Command::new("openssl")
            .args(command.split(' '))
            .arg(format!("127.0.0.1:{port}"))
            .current_dir(folder)
            .spawn();
        Self(server.expect("openssl is installed"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_token_is_checked_on_the_command_line_by_what_the_issuer_has_now() {
    let authority = Authority::new();
    authority.sign("IP:127.0.0.1");
    let folder = authority.folder.path();
    let (ours, foreign) = (Pair::new("k1"), Pair::new("k2"));
    // This server sends files as they are.
    let answer = format!("HTTP/1.1 200 OK\r\n\r\n{}", set(&[&ours]));
    std::fs::write(folder.join("jwks.json"), answer).unwrap();
    let port = Port::claim();
    let _server = Server::start(folder, port.number());
    let config = folder.join("outboxd.toml");
    let text = format!(
        "[kafka]\nbootstrap_servers = \"127.0.0.1:1\"\n[push.auth]\nissuer = \"https://id.example\"\n\
         keys = {{ jwks_url = \"https://127.0.0.1:{}/jwks.json\" }}\n",
        port.number()
    );
    std::fs::write(&config, text).unwrap();
    let config = config.display().to_string();
    let root = authority.root().display().to_string();
    let check = |pair: &Pair, trusted: &str| -> Ended {
        let arguments = ["token", "check", "--config", &config, &pair.token()];
        outboxd_with(
            &arguments,
            &[("SSL_CERT_FILE", trusted), ("SSL_CERT_DIR", "/nowhere")],
        )
    };
    wait_until("the issuer to listen", Duration::from_secs(60), || {
        std::net::TcpStream::connect(("127.0.0.1", port.number())).is_ok()
    });
    let good = check(&ours, &root);
    let unknown = check(&foreign, &root);
    let other = Authority::new();
    let untrusted = check(&ours, &other.root().display().to_string());
    let nobody = check(&ours, "/nowhere/at.all");
    assert_eq!(good.code, 0, "{good:?}");
    assert!(good.out.contains("c-7"), "{good:?}");
    assert_eq!(unknown.code, 77, "{unknown:?}");
    assert!(unknown.err.contains("`kid` names no key"), "{unknown:?}");
    assert_eq!(untrusted.code, 69, "{untrusted:?}");
    assert!(untrusted.err.contains("TLS failed"), "{untrusted:?}");
    assert_eq!(nobody.code, 69, "{nobody:?}");
    assert!(nobody.err.contains("ca-certificates"), "{nobody:?}");
}
