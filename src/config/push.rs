//! The client-facing half's part of the configuration: `[push]` and the tables in it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use super::Secret;
use super::keys::NUMBER_MAX;
use super::section::{Form, Need, Section};
use super::value::{self, Fault, Network};

/// How clients are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Push {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Origins whose pages may connect, besides the own one.
    pub allowed_origins: Vec<String>,
    /// Peers whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Network>,
    /// An unfinished saga that has not changed for so long, by the log's time, is forgotten.
    pub history: Duration,
    /// And a finished one after this; never longer than `history`.
    pub keep_finished: Duration,
    /// Time between two signs of life.
    pub heartbeat: Duration,
    /// Time over which a stopping daemon says goodbye.
    pub drain: Duration,
    /// Raised by the operator when the topic was created anew, so that clients forget their versions.
    pub epoch: u64,
    /// Where sagas are kept for the next start; `None`: they are read from the log each time.
    pub state_directory: Option<PathBuf>,
    /// TLS to clients; `None` is for use behind a proxy.
    pub tls: Option<PushTls>,
    /// Whose tokens are believed.
    pub auth: Auth,
    /// Bounds, each with a metric when it is hit.
    pub limits: Limits,
}

/// TLS to clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushTls {
    /// PEM file of the chain.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: Secret,
}

/// Whose tokens are believed, and what they say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Auth {
    /// `iss` of a token.
    pub issuer: String,
    /// `aud` of a token.
    pub audience: String,
    /// Signatures that are accepted; never mixes secret and public keys.
    pub algorithms: Vec<Algorithm>,
    /// What signatures are checked with.
    pub keys: Keys,
    /// By how much clocks may differ.
    pub leeway: Duration,
    /// The claim that names the user.
    pub user_claim: String,
    /// The claim that holds grants.
    pub grants_claim: String,
}

/// What signatures are checked with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keys {
    /// A key set, fetched.
    Jwks(String),
    /// PEM file of public keys.
    Pem(PathBuf),
    /// One secret for signing and checking.
    Secret(Secret),
}

/// How a token is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of RFC 7518 and RFC 8037")]
pub enum Algorithm {
    EdDSA,
    ES256,
    ES384,
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    HS256,
    HS384,
    HS512,
}

impl Algorithm {
    const ALL: [(&'static str, Self); 12] = [
        ("EdDSA", Self::EdDSA),
        ("ES256", Self::ES256),
        ("ES384", Self::ES384),
        ("RS256", Self::RS256),
        ("RS384", Self::RS384),
        ("RS512", Self::RS512),
        ("PS256", Self::PS256),
        ("PS384", Self::PS384),
        ("PS512", Self::PS512),
        ("HS256", Self::HS256),
        ("HS384", Self::HS384),
        ("HS512", Self::HS512),
    ];

    /// Its name in a token's header.
    pub fn name(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(_, algorithm)| *algorithm == self)
            .map_or("", |(name, _)| name)
    }

    /// The one of this name, exactly as it is written in a token's header.
    pub fn named(name: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|(other, _)| *other == name);
        found.map(|(_, algorithm)| *algorithm)
    }

    /// Whether one secret both signs and checks.
    pub fn is_symmetric(self) -> bool {
        matches!(self, Self::HS256 | Self::HS384 | Self::HS512)
    }

    fn read(text: &str) -> Result<Self, Fault> {
        if text.eq_ignore_ascii_case("none") {
            return Err(Fault::new(
                "an unsigned token could be anybody's",
                "name the algorithms that your issuer signs with",
            ));
        }
        Self::named(text).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|(name, _)| *name).collect();
            Fault::new(
                "this algorithm is not supported",
                format!("supported are {}", names.join(", ")),
            )
        })
    }
}

/// Bounds of the client-facing half.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections in all.
    pub connections: u64,
    /// Connections of one user.
    pub connections_per_user: u64,
    /// Connections of one address; 0: any number.
    pub connections_per_address: u64,
    /// Connections that have not shown a token yet.
    pub unauthenticated: u64,
    /// Subscriptions of one connection.
    pub subscriptions: u64,
    /// Bytes of a frame from a client.
    pub frame: usize,
    /// Frames from a client in the long run; beyond it the daemon reads slower.
    pub frames_per_second: u64,
    /// Bytes that wait for one client.
    pub queue: usize,
    /// Time for TLS and the upgrade.
    pub handshake: Duration,
    /// Time for the token.
    pub auth: Duration,
    /// Time for an answer to a ping.
    pub pong: Duration,
}

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const DAY: u64 = 24 * 60 * MINUTE;
const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// Reads `[push]`. `None` means that something was complained of.
pub(super) fn read(section: Section<'_>) -> Option<Push> {
    let listen = section.text("listen", Some("127.0.0.1:8080"), value::listen);
    let allowed_origins = section.texts("allowed_origins", &[], value::origin);
    let trusted_proxies = section.texts("trusted_proxies", &["127.0.0.0/8", "::1"], value::network);
    let history = section.duration("history", "7d", MINUTE..=365 * DAY);
    let keep_finished = section.duration("keep_finished", "24h", 0..=365 * DAY);
    let heartbeat = section.duration("heartbeat", "25s", SECOND..=10 * MINUTE);
    let drain = section.duration("drain", "20s", 0..=10 * MINUTE);
    let epoch = section.number("epoch", 0, 0..=NUMBER_MAX);
    let state_directory = section.optional_text("state_directory", |text| section.path(text));
    if let (Some(history), Some(keep_finished)) = (history, keep_finished)
        && keep_finished > history
    {
        section.refuse(
            section.span_of("keep_finished"),
            Fault::new(
                "`keep_finished` is longer than `history`: the log is not read back that far",
                "make it shorter, or history longer",
            ),
        );
    }
    let tls = section.optional("tls").map(tls);
    let auth = auth(section.section("auth"));
    let limits = limits(section.section("limits"));
    section.end();
    Some(Push {
        listen: listen?,
        allowed_origins: allowed_origins?,
        trusted_proxies: trusted_proxies?,
        history: history?,
        keep_finished: keep_finished?,
        heartbeat: heartbeat?,
        drain: drain?,
        epoch: epoch?,
        state_directory,
        tls: match tls {
            Some(tls) => Some(tls?),
            None => None,
        },
        auth: auth?,
        limits: limits?,
    })
}

fn tls(section: Section<'_>) -> Option<PushTls> {
    let certificate = section.text("certificate", None, |text| section.path(text));
    let key = section.required_secret("key");
    section.end();
    Some(PushTls {
        certificate: certificate?,
        key: key?,
    })
}

fn auth(section: Section<'_>) -> Option<Auth> {
    let issuer = section.text("issuer", None, value::filled);
    let audience = section.text("audience", Some("outboxd"), value::filled);
    let known = Form::Word(Algorithm::ALL.map(|(name, _)| name).into());
    let algorithms = section.placed_texts("algorithms", &["EdDSA"], known, Algorithm::read);
    let algorithms: Option<Vec<_>> =
        algorithms.map(|list| list.into_iter().map(|(algorithm, _)| algorithm).collect());
    let places = [
        ("jwks_url", Form::Text),
        ("pem", Form::Text),
        ("secret", Form::Secret),
    ];
    let keys = match section.given("keys", Need::Must, Form::OneOf(places.into())) {
        Some(value) => keys(&section, value),
        None => section.missing("keys"),
    };
    let leeway = section.duration("leeway", "30s", 0..=5 * MINUTE);
    let user_claim = section.text("user_claim", Some("sub"), value::filled);
    let grants_claim = section.text("grants_claim", Some("outboxd"), value::filled);
    if let Some(algorithms) = &algorithms
        && let Some(fault) = mixture(algorithms, keys.as_ref())
    {
        section.refuse(section.span_of("algorithms"), fault);
    }
    section.end();
    Some(Auth {
        issuer: issuer?,
        audience: audience?,
        algorithms: algorithms?,
        keys: keys?,
        leeway: leeway?,
        user_claim: user_claim?,
        grants_claim: grants_claim?,
    })
}

/// A public key that is taken for a secret lets everybody sign, so the two kinds never meet.
fn mixture(algorithms: &[Algorithm], keys: Option<&Keys>) -> Option<Fault> {
    let secret = matches!(keys?, Keys::Secret(_));
    if algorithms.is_empty() {
        Some(Fault::new(
            "without an algorithm no token is believed",
            "name at least one",
        ))
    } else if algorithms
        .iter()
        .all(|algorithm| algorithm.is_symmetric() == secret)
    {
        None
    } else if secret {
        Some(Fault::new(
            "a secret key is for HS256, HS384 and HS512 only",
            "write algorithms = [\"HS256\"], or use jwks_url or pem",
        ))
    } else {
        Some(Fault::new(
            "HS256, HS384 and HS512 need a secret key, not a public one",
            "take them out, or write keys = { secret = { file = \"…\" } }",
        ))
    }
}

fn keys(section: &Section<'_>, given: &Spanned<DeValue<'_>>) -> Option<Keys> {
    let remedy =
        "write one of { jwks_url = \"…\" }, { pem = \"…\" }, { secret = { file = \"…\" } }";
    let Some(table) = given.get_ref().as_table() else {
        return section.refuse_value(given, "`keys` must say where keys come from", remedy);
    };
    let (Some((kind, inner)), 1) = (table.iter().next(), table.len()) else {
        return section.refuse_value(
            given,
            "`keys` must say exactly one place where keys come from",
            remedy,
        );
    };
    match kind.get_ref().as_ref() {
        "jwks_url" => section
            .text_of("jwks_url", "https://…", inner, value::jwks_url)
            .map(Keys::Jwks),
        "pem" => section
            .text_of("pem", "keys.pem", inner, |text| section.path(text))
            .map(Keys::Pem),
        "secret" => section.secret_at("secret", inner).map(Keys::Secret),
        _ => {
            section.refuse(
                kind.span(),
                Fault::new("keys cannot come from there", remedy),
            );
            None
        }
    }
}

fn limits(section: Section<'_>) -> Option<Limits> {
    let connections = section.number("connections", 50_000, 1..=10_000_000);
    let connections_per_user = section.number("connections_per_user", 20, 1..=10_000_000);
    let connections_per_address = section.number("connections_per_address", 0, 0..=10_000_000);
    let unauthenticated = section.number("unauthenticated", 1_000, 1..=10_000_000);
    let subscriptions = section.number("subscriptions", 64, 1..=100_000);
    let frame = section.size("frame", "16KiB", KIB..=MIB);
    let frames_per_second = section.number("frames_per_second", 10, 1..=100_000);
    let queue = section.size("queue", "256KiB", 4 * KIB..=64 * MIB);
    let handshake = section.duration("handshake", "10s", 100..=5 * MINUTE);
    let auth = section.duration("auth", "5s", 100..=5 * MINUTE);
    let pong = section.duration("pong", "10s", 100..=5 * MINUTE);
    section.end();
    Some(Limits {
        connections: connections?,
        connections_per_user: connections_per_user?,
        connections_per_address: connections_per_address?,
        unauthenticated: unauthenticated?,
        subscriptions: subscriptions?,
        frame: frame?,
        frames_per_second: frames_per_second?,
        queue: queue?,
        handshake: handshake?,
        auth: auth?,
        pong: pong?,
    })
}
