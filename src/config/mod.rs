//! The configuration of one daemon, proven: whoever holds a [`Config`] need not check it again.
//!
//! Reads the file and the variables that the file names; never connects to anything.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub mod secret;

pub use secret::Secret;

/// Everything a daemon is told, with defaults filled in.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file it came from.
    pub file: PathBuf,
    /// How to reach Kafka.
    pub kafka: Kafka,
    /// How this daemon leads sources.
    pub relay: Relay,
    /// The service databases, by name.
    pub sources: Vec<Source>,
    /// The client-facing half; `None` pushes nothing.
    pub push: Option<Push>,
    /// Where saga definitions are; a glob relative to the file.
    pub saga_definitions: Option<String>,
    /// The operators' side.
    pub admin: Admin,
}

/// The Kafka cluster.
#[derive(Debug, Clone)]
pub struct Kafka {
    /// `host:port[,host:port…]`.
    pub bootstrap_servers: String,
    /// First word of outboxd's own topics and of transactional ids.
    pub prefix: String,
    /// Whether missing topics of events are created with the broker's defaults.
    pub create_topics: bool,
    /// librdkafka properties that the operator set, in the file's order; none that breaks a promise.
    pub properties: Vec<(String, Property)>,
}

/// The value of a librdkafka property.
#[derive(Debug, Clone)]
pub enum Property {
    /// Written in the file.
    Plain(String),
    /// Kept elsewhere; read when a client is made.
    Secret(Secret),
}

/// How this daemon leads.
#[derive(Debug, Clone)]
pub struct Relay {
    /// Name of this daemon, unique among those that share sources.
    pub instance: String,
    /// How long a leader may be silent before another takes over.
    pub lease: Duration,
}

/// One service database.
#[derive(Debug, Clone)]
pub struct Source {
    /// The name, used everywhere: `ce_source`, topics, labels.
    pub name: String,
    /// How to connect.
    pub database: Database,
    /// How much goes into one Kafka transaction.
    pub batch: Batch,
    /// What happens to a key whose event was refused.
    pub on_refused: OnRefused,
    /// More dead letters than this stop the source.
    pub dead_letter_limit: u64,
}

/// How to connect to a database. The password is read at each connect, so that rotation needs no reload.
#[derive(Debug, Clone)]
pub struct Database {
    /// Hosts, user and database, without password and TLS settings.
    pub connect: tokio_postgres::Config,
    /// Where the password is, if one is needed.
    pub password: Option<Secret>,
    /// How the connection is protected.
    pub tls: Tls,
    /// `host:port/database`, for messages.
    pub display: String,
}

/// TLS to PostgreSQL, as in libpq.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// How far the server is verified.
    pub mode: TlsMode,
    /// PEM file of the authorities that may sign the server; the system's when absent.
    pub root: Option<PathBuf>,
    /// PEM files of the client's certificate chain and its key.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsMode {
    /// Plain text.
    Disable,
    /// TLS if the server has it.
    Prefer,
    /// TLS, the server unverified.
    Require,
    /// The server's certificate must be signed by a known authority.
    VerifyCa,
    /// And carry the host's name.
    VerifyFull,
}

/// The first of these to be reached commits a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    /// Time since the last commit.
    pub linger: Duration,
    /// Events in it.
    pub events: usize,
    /// Bytes of keys, values and headers in it.
    pub bytes: usize,
}

/// What happens to a key whose event Kafka does not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnRefused {
    /// Its later events queue behind it.
    BlockKey,
    /// Its later events go on.
    Skip,
}

/// The operators' side.
#[derive(Debug, Clone)]
pub struct Admin {
    /// `/metrics`, `/healthz`, `/readyz`.
    pub listen: SocketAddr,
    /// The control socket.
    pub socket: PathBuf,
}

/// The client-facing half.
#[derive(Debug, Clone)]
pub struct Push {
    /// Where clients connect.
    pub listen: SocketAddr,
}
