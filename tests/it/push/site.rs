//! A daemon that relays and serves clients, and tokens for them. Never shares a prefix with another test.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use outboxd::auth;
use outboxd::config::Config;
use serde_json::json;

use crate::support::daemon::Daemon;
use crate::support::kafka::Kafka;
use crate::support::process::Port;
use crate::world::{OUTBOXD, Service, kafka_block};

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
        let port = Port::claim();
        let blocks: String = services.iter().map(|service| service.block("")).collect();
        let config = format!(
            "{}{blocks}\n[push]\nlisten = \"127.0.0.1:{}\"\n{}\n[push.auth]\nissuer = \"https://id.example\"\n\
             algorithms = [\"HS256\"]\nkeys = {{ secret = {{ file = \"secret\" }} }}\nleeway = \"0s\"\n",
            kafka_block(kafka, prefix),
            port.number(),
            lines,
        );
        let daemon = Daemon::builder(OUTBOXD, &config)
            .file("secret", SECRET)
            .start();
        Self { daemon, port }
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
        let config = Config::load(&self.daemon.config()).unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let grants: Vec<_> = grants.iter().map(|of| json!({"saga_type": of})).collect();
        let claims = json!({
            "iss": "https://id.example", "aud": "outboxd", "sub": user, "outboxd": grants,
            "exp": (now + lasts).as_secs(),
        });
        let claims = claims.as_object().unwrap().clone();
        auth::sign(&config.push.unwrap().auth, claims).unwrap()
    }
}
