//! A daemon that relays and serves clients, and tokens for them. Never shares a prefix with another test.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use outboxd::auth;
use outboxd::config::Config;
use serde_json::{Value, json};

use crate::support::daemon::{Builder, Daemon};
use crate::support::kafka::Kafka;
use crate::support::process::Port;
use crate::support::wait_until;
use crate::world::{OUTBOXD, Service, kafka_block};

const PATIENCE: Duration = Duration::from_secs(60);
const OUR_KEYS: &str = "algorithms = [\"HS256\"]\nkeys = { secret = { file = \"secret\" } }";
const SECRET: &str = "a secret for tests that is long enough";

/// A daemon with both halves.
pub(super) struct Site {
    pub(super) daemon: Daemon,
    port: Port,
}

impl Site {
    /// Starts it for these services; `lines` go into `[push]`, after the keys that every test needs.
    pub(super) fn start(
        kafka: &Kafka,
        prefix: &str,
        services: &[&Service<'_>],
        lines: &str,
    ) -> Self {
        let blocks: String = services.iter().map(|service| service.block("")).collect();
        Self::configured(&(kafka_block(kafka, prefix) + &blocks), lines, OUR_KEYS)
    }

    /// The same with definitions of sagas: each a path below `sagas/` and its text.
    pub(super) fn defined(
        kafka: &Kafka,
        prefix: &str,
        services: &[&Service<'_>],
        files: &[(String, String)],
        lines: &str,
    ) -> Self {
        let blocks: String = services.iter().map(|service| service.block("")).collect();
        let kafka = kafka_block(kafka, prefix) + "create_topics = true\n";
        let before = kafka + &blocks + "[sagas]\ndefinitions = \"sagas/*.toml\"\n";
        Self::with_files(&before, lines, OUR_KEYS, files)
    }

    /// Starts it without services for an issuer whose keys these lines name.
    pub(super) fn start_for(kafka: &Kafka, prefix: &str, keys: &str) -> Self {
        Self::configured(&kafka_block(kafka, prefix), "", keys)
    }

    fn configured(before: &str, lines: &str, keys: &str) -> Self {
        Self::with_files(before, lines, keys, &[])
    }

    fn with_files(before: &str, lines: &str, keys: &str, files: &[(String, String)]) -> Self {
        let port = Port::claim();
        let config = config(before, &port, lines, keys);
        let daemon = Daemon::builder(OUTBOXD, &config)
            .file("secret", SECRET)
            .file("state/note", "the daemon's directory for what it keeps");
        let add = |daemon: Builder, (path, text): &(String, String)| daemon.file(path, text);
        let daemon = files.iter().fold(daemon, add).start();
        Self { daemon, port }
    }

    /// Gives it another configuration without services, which it has to be told to read.
    pub(super) fn configure(&self, kafka: &Kafka, prefix: &str, lines: &str) {
        let before = kafka_block(kafka, prefix);
        let config = config(&before, &self.port, lines, OUR_KEYS);
        self.daemon.configure(&config);
    }

    /// Starts it with another block for Kafka, and without services.
    pub(super) fn start_with(kafka: &str) -> Self {
        Self::configured(kafka, "", OUR_KEYS)
    }

    /// Where clients connect.
    pub(super) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port.number()).into()
    }

    /// A token that lasts for an hour.
    pub(super) fn token(&self, user: &str, grants: &[&str]) -> String {
        self.token_for(user, grants, Duration::from_secs(3600))
    }

    /// A token that lasts for so long.
    pub(super) fn token_for(&self, user: &str, grants: &[&str], lasts: Duration) -> String {
        self.signed(user, grants, lasts, json!({}))
    }

    /// A token with further claims.
    pub(super) fn signed(
        &self,
        user: &str,
        grants: &[&str],
        lasts: Duration,
        more: Value,
    ) -> String {
        let config = Config::load(&self.daemon.config()).unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let grants: Vec<_> = grants.iter().map(|of| json!({"saga_type": of})).collect();
        let claims = json!({
            "iss": "https://id.example", "aud": "outboxd", "sub": user, "outboxd": grants,
            "exp": (now + lasts).as_secs(),
        });
        let mut claims = claims.as_object().unwrap().clone();
        claims.extend(more.as_object().unwrap().clone());
        auth::sign(&config.push.unwrap().auth, claims).unwrap()
    }

    /// Tokens of so many users.
    pub(super) fn tokens(&self, count: usize) -> Vec<String> {
        let config = Config::load(&self.daemon.config()).unwrap();
        let auth = config.push.unwrap().auth;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let token = |number| {
            let claims = json!({
                "iss": "https://id.example", "aud": "outboxd", "sub": format!("u-{number}"),
                "outboxd": [{"saga_type": "create-order"}], "exp": now.as_secs() + 3600,
            });
            auth::sign(&auth, claims.as_object().unwrap().clone()).unwrap()
        };
        (0..count).map(token).collect()
    }

    /// Asks over HTTP: the whole answer.
    pub(super) fn get(&self, path: &str, headers: &[(&str, &str)]) -> String {
        self.request("GET", path, headers)
    }

    /// The answer to a request of any method, as it is.
    pub(super) fn request(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> String {
        let mut stream = TcpStream::connect(self.address()).unwrap();
        let headers: String = headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\n{headers}Connection: close\r\n\r\n",
            self.address()
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// The same with a token: status and body.
    pub(super) fn ask(&self, path: &str, token: &str) -> (u16, Value) {
        let answer = self.get(path, &[("Authorization", &format!("Bearer {token}"))]);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap_or_default())
    }

    /// Waits until the daemon knows an order's saga at this state.
    pub(super) fn wait_state(&self, saga_id: &str, state: &str) {
        let token = self.token("anybody", &["*"]);
        let path = format!("/v1/sagas/create-order/{saga_id}");
        wait_until(&format!("{saga_id} to be {state}"), PATIENCE, || {
            self.ask(&path, &token).1["state"] == state
        });
    }

    /// The daemon's resident memory in bytes.
    pub(super) fn resident(&self) -> f64 {
        self.daemon.metrics().sum("process_resident_memory_bytes")
    }
}

/// The whole file; `lines` go into `[push]`, and `[push.limits]` may be in them.
fn config(before: &str, port: &Port, lines: &str, keys: &str) -> String {
    let (lines, limits) = lines.split_once("[push.limits]").unwrap_or((lines, ""));
    format!(
        "{before}\n[push]\nlisten = \"127.0.0.1:{}\"\n{}\n[push.auth]\nissuer = \"https://id.example\"\n\
         {keys}\nleeway = \"0s\"\n[push.limits]\n{limits}\n",
        port.number(),
        lines,
    )
}
