//! The configuration of one daemon, proven: whoever holds a [`Config`] need not check it again.
//!
//! Reads the file and the variables that the file names; never connects to anything.

use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub mod database;
mod definitions;
mod diagnostics;
mod keys;
mod librdkafka;
mod mask;
mod properties;
pub mod push;
mod read;
mod reload;
mod schema;
pub mod secret;
mod section;
mod show;
mod value;
mod words;

pub use diagnostics::ConfigErrors;
pub use push::Push;
pub use reload::SourceChanges;
pub use secret::{Secret, SecretError, SecretString};
pub(crate) use value::show_duration;
pub use value::{Fault, Network, duration};

use crate::logic::saga::Definitions;
use section::Outside;

/// A file may have this many bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

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
    /// Where saga definitions are: a glob, already joined to the file's directory.
    pub saga_definitions: Option<String>,
    /// The operators' side.
    pub admin: Admin,
}

impl Config {
    /// Reads and proves a file. Takes secrets' references only; their contents are read when they are used.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn load(file: &Path) -> Result<Self, ConfigErrors> {
        let text = text_of(file)?;
        Self::parse(file, &text)
    }

    /// Where the daemon of a file answers: `[admin] socket`, whatever else is wrong with the file.
    ///
    /// # Errors
    /// When the file cannot be read, or not even this in it.
    pub fn socket(file: &Path) -> Result<PathBuf, ConfigErrors> {
        let text = text_of(file)?;
        match read::socket(file, &text, &outside()) {
            Some(socket) => Ok(socket),
            None => Self::parse(file, &text).map(|config| config.admin.socket),
        }
    }

    /// Proves a text as if it stood in `file`.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn parse(file: &Path, text: &str) -> Result<Self, ConfigErrors> {
        read::config(file, text, &outside()).0
    }

    /// Reads and proves the definitions of sagas, as of now.
    ///
    /// # Errors
    /// Everything that is wrong in any of them, at once.
    pub fn definitions(&self) -> Result<Definitions, ConfigErrors> {
        let pattern = self.saga_definitions.as_deref();
        pattern.map_or_else(|| Ok(Definitions::default()), definitions::read)
    }

    /// The effective configuration as TOML: defaults filled in, paths absolute, secrets as their references.
    pub fn show(&self) -> String {
        show::config(self)
    }
}

/// The JSON Schema of a configuration file, for editors.
pub fn schema() -> serde_json::Value {
    schema::schema()
}

/// The text of the configuration.
fn text_of(file: &Path) -> Result<String, ConfigErrors> {
    read_text(
        file,
        "the configuration",
        "write one (config/outboxd.toml shows every key), \
         or say where it is with --config or OUTBOXD_CONFIG",
    )
}

/// The text of a file; `what` it is, and what to do when it cannot be read.
fn read_text(file: &Path, what: &str, remedy: &str) -> Result<String, ConfigErrors> {
    let whole = |fault: String, remedy: &str| {
        ConfigErrors::whole(file.display().to_string(), Fault::new(fault, remedy))
    };
    let mut bytes = Vec::new();
    File::open(file)
        .and_then(|open| open.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| whole(format!("cannot read {what}: {error}"), remedy))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > FILE_BYTES_MAX) {
        let fault = format!("{what} has more than 1 MiB");
        return Err(whole(fault, "is it the right file?"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = error
            .as_bytes()
            .get(..error.utf8_error().valid_up_to())
            .unwrap_or_default();
        let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
        whole(
            format!("line {line} of {what} is not UTF-8"),
            "save the file as UTF-8",
        )
    })
}

/// This process and its machine.
fn outside() -> Outside<'static> {
    let host = ["/proc/sys/kernel/hostname", "/etc/hostname"]
        .iter()
        .find_map(|path| {
            let name = std::fs::read_to_string(path).ok()?;
            Some(name.trim().to_owned()).filter(|name| !name.is_empty())
        });
    Outside {
        variable: &|name| std::env::var_os(name),
        host: host.unwrap_or_else(|| "localhost".to_owned()),
    }
}

/// The Kafka cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Property {
    /// Written in the file.
    Plain(String),
    /// Kept elsewhere; read when a client is made.
    Secret(Secret),
}

/// How this daemon leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relay {
    /// Name of this daemon, unique among those that share sources.
    pub instance: String,
    /// How long a leader may be silent before another takes over.
    pub lease: Duration,
}

/// One service database.
#[derive(Debug, Clone, PartialEq, Eq)]
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// Hosts, user and database, without password and TLS settings.
    pub connect: tokio_postgres::Config,
    /// Where the password is, if one is needed.
    pub password: Option<Secret>,
    /// How the connection is protected.
    pub tls: Tls,
    /// `host:port/database`, for messages.
    pub display: String,
    /// The URL with TLS in full; never holds a password.
    pub url: String,
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// `/metrics`, `/healthz`, `/readyz`.
    pub listen: SocketAddr,
    /// The control socket.
    pub socket: PathBuf,
}

#[cfg(test)]
mod tests;
