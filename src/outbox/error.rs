//! What can go wrong with a service database, sorted by what can be done about it.
//!
//! Never carries a row: PostgreSQL's DETAIL and CONTEXT may quote one and are dropped here, as are messages about
//! malformed values. Hence no variant keeps the driver's error as its source.

use std::error::Error as _;

use tokio_postgres::error::{DbError, SqlState};

/// The schema version that this binary installs and runs on; it also runs on the one before.
pub const SCHEMA_VERSION: i32 = 1;

/// A failed conversation with a service database. Messages say what an operator can do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(
    missing_docs,
    reason = "`server`, `reason`, `found` and `role` say what they are"
)]
pub enum OutboxError {
    /// Nobody answers, or not in time, or it is starting, stopping or full.
    #[error("{server} cannot be reached: {reason}")]
    Unreachable { server: String, reason: String },
    /// The connection was made and broke.
    #[error("the connection was lost: {reason}")]
    Lost { reason: String },
    /// The server, or this side, is not content with the other's TLS.
    #[error("no secure connection to {server}: {reason}")]
    Tls { server: String, reason: String },
    /// A password, certificate or key that the configuration names cannot be used.
    #[error("{reason}")]
    Configuration { reason: String },
    /// The server wants a password and none was given.
    #[error("{server} asks for a password and none is configured")]
    PasswordMissing { server: String },
    /// Unknown user, wrong password, or no line for us in `pg_hba.conf`.
    #[error("{server} does not let us in: {reason}")]
    AuthenticationFailed { server: String, reason: String },
    /// A right is missing.
    #[error("{reason}; `outboxd sql grants` prints what the roles need")]
    Privilege { reason: String },
    /// Only the owner of the schema or the database may do this.
    #[error(
        "{reason}: connect as the owner of the outbox schema, or of the database to create it, with --url"
    )]
    OwnerNeeded { reason: String },
    /// The database of the connection string does not exist.
    #[error("{server}: {reason}; correct the URL or create the database")]
    MissingDatabase { server: String, reason: String },
    /// Schema or table missing.
    #[error("{reason}: run `outboxd sql install` on this database")]
    Missing { reason: String },
    /// It is there, but not as we know it.
    #[error("{reason}: the schema was changed; compare it with `outboxd sql show`")]
    WrongShape { reason: String },
    /// Older or newer than this binary can use.
    #[error(
        "the outbox schema has version {found} and this outboxd needs {SCHEMA_VERSION}: {}",
        if *found < SCHEMA_VERSION { "run `outboxd sql install`" } else { "update outboxd" }
    )]
    SchemaVersion { found: i32 },
    /// A server older than the oldest supported one.
    #[error("PostgreSQL {found} is too old: outboxd needs 14 or later")]
    ServerVersion { found: String },
    /// A standby shows running transactions wrongly, so nothing may be read there.
    #[error("{server} is a standby: outboxd needs the primary; list both hosts in the URL")]
    Standby { server: String },
    /// Two statements of one session were carried out by two of the server's.
    #[error(
        "a pooler hands each transaction of outboxd to another session of the server ({reason}): give outboxd a direct \
         connection, or let the pooler keep sessions together (PgBouncer: pool_mode = session) for this role"
    )]
    Pooled { reason: String },
    /// Another database than the one that the position belongs to.
    #[error("{reason}: if that is intended, run `outboxd sql rebase`")]
    OtherDatabase { reason: String },
    /// A role that was named does not exist.
    #[error("role \"{role}\" does not exist: run `create role \"{role}\" login` first")]
    RoleMissing { role: String },
    /// What was asked for is not possible now; the reason says what to do first.
    #[error("{reason}")]
    Refused { reason: String },
    /// The update that carries our epoch met no row: another daemon leads.
    #[error("another daemon leads this source")]
    Fenced,
    /// Somebody held a lock for too long.
    #[error("{reason}; nothing was changed, try again or end the session that holds the lock")]
    LockTimeout { reason: String },
    /// A time-out, a cancel request, a deadlock or a serialization failure.
    #[error("{reason}")]
    Interrupted { reason: String },
    /// The server lacks disk, memory or something else.
    #[error("the server is out of resources: {reason}")]
    Resources { reason: String },
    /// An answer that should not be possible.
    #[error("unexpected answer of the database: {reason}")]
    Unexpected { reason: String },
}

/// What the relay does after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// It passes by itself: try again with back-off.
    Retry,
    /// Somebody has to act: show it, and look again now and then.
    Operator,
    /// Another daemon leads: drop everything learned and stand by.
    StandBy,
}

impl OutboxError {
    /// What the relay does about it. Never ends a source for good: an operator's fix needs no restart.
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Unreachable { .. }
            | Self::Lost { .. }
            | Self::Standby { .. }
            | Self::LockTimeout { .. }
            | Self::Interrupted { .. }
            | Self::Resources { .. } => Disposition::Retry,
            Self::Tls { .. }
            | Self::Configuration { .. }
            | Self::PasswordMissing { .. }
            | Self::AuthenticationFailed { .. }
            | Self::Privilege { .. }
            | Self::OwnerNeeded { .. }
            | Self::MissingDatabase { .. }
            | Self::Missing { .. }
            | Self::WrongShape { .. }
            | Self::SchemaVersion { .. }
            | Self::ServerVersion { .. }
            | Self::Pooled { .. }
            | Self::OtherDatabase { .. }
            | Self::RoleMissing { .. }
            | Self::Refused { .. }
            | Self::Unexpected { .. } => Disposition::Operator,
            Self::Fenced => Disposition::StandBy,
        }
    }

    /// The exit code of a command that ends with it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Missing { .. }
            | Self::MissingDatabase { .. }
            | Self::WrongShape { .. }
            | Self::SchemaVersion { .. }
            | Self::ServerVersion { .. }
            | Self::OtherDatabase { .. }
            | Self::RoleMissing { .. }
            | Self::Refused { .. } => 65,
            Self::Unreachable { .. }
            | Self::Lost { .. }
            | Self::Tls { .. }
            | Self::Standby { .. }
            | Self::Fenced
            | Self::LockTimeout { .. }
            | Self::Interrupted { .. }
            | Self::Resources { .. } => 69,
            Self::Unexpected { .. } => 70,
            Self::PasswordMissing { .. }
            | Self::AuthenticationFailed { .. }
            | Self::Privilege { .. }
            | Self::OwnerNeeded { .. } => 77,
            Self::Configuration { .. } | Self::Pooled { .. } => 78,
        }
    }

    /// The same about something that no grant can allow.
    pub(super) fn for_owner(self) -> Self {
        if let Self::Privilege { reason } = self {
            return Self::OwnerNeeded { reason };
        }
        self
    }

    /// An error while connecting to `server`.
    pub(crate) fn connecting(server: &str, error: &tokio_postgres::Error) -> Self {
        let server = server.to_owned();
        if let Some(answer) = error.as_db_error() {
            let reason = answer.message().to_owned();
            return match answer.code().code() {
                "3D000" => Self::MissingDatabase { server, reason },
                code if code.starts_with("28") || code == "42501" => {
                    Self::AuthenticationFailed { server, reason }
                }
                _ => Self::Unreachable { server, reason },
            };
        }
        match causes(error).last() {
            Some(cause) if cause == "password missing" => Self::PasswordMissing { server },
            _ => Self::Unreachable {
                server,
                reason: chain(error),
            },
        }
    }
}

impl From<tokio_postgres::Error> for OutboxError {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(answer) => from_answer(answer),
            None if error.is_closed() || is_io(&error) => Self::Lost {
                reason: chain(&error),
            },
            // Of the driver's own errors only its words are kept: the cause may quote a value.
            None => Self::Unexpected {
                reason: error.to_string(),
            },
        }
    }
}

fn from_answer(answer: &DbError) -> OutboxError {
    let code = answer.code();
    let reason = match code.code() {
        // Messages about malformed data quote the data.
        code if code.starts_with("22") => format!("a value was refused (SQLSTATE {code})"),
        _ => answer.message().to_owned(),
    };
    if *code == SqlState::LOCK_NOT_AVAILABLE {
        return OutboxError::LockTimeout { reason };
    }
    match code.code() {
        "42501" => OutboxError::Privilege { reason },
        "3F000" | "42P01" => OutboxError::Missing { reason },
        "42703" | "42883" | "42704" | "42804" => OutboxError::WrongShape { reason },
        "57014" | "40001" | "40P01" => OutboxError::Interrupted { reason },
        // Prepared statements belong to a session: ours is not there, or its name is somebody else's.
        "26000" | "42P05" => OutboxError::Pooled { reason },
        "25006" => OutboxError::Standby {
            server: "the server (it allows no writes)".to_owned(),
        },
        code => match code.get(..2) {
            Some("28") => OutboxError::AuthenticationFailed {
                server: "the server".to_owned(),
                reason,
            },
            Some("08" | "57") => OutboxError::Lost { reason },
            Some("53" | "58") => OutboxError::Resources { reason },
            _ => OutboxError::Unexpected {
                reason: format!("{reason} (SQLSTATE {code})"),
            },
        },
    }
}

fn is_io(error: &tokio_postgres::Error) -> bool {
    error
        .source()
        .is_some_and(|cause| cause.is::<std::io::Error>())
}

/// The messages of an error's causes, outermost first.
pub(crate) fn causes(error: &tokio_postgres::Error) -> Vec<String> {
    let mut messages = Vec::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        messages.push(error.to_string());
        cause = error.source();
    }
    messages
}

/// An error and its causes on one line. Not for answers of the server: their causes hold the DETAIL.
pub(crate) fn chain(error: &tokio_postgres::Error) -> String {
    let mut line = error.to_string();
    for cause in causes(error) {
        if !line.ends_with(&cause) {
            line.push_str(": ");
            line.push_str(&cause);
        }
    }
    line
}
