//! A session with a service database: made, prepared and ended here, and nowhere else.
//!
//! Never reconnects: what was learned in an old session is not believed in a new one.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::{AsyncMessage, Client, Config, Connection, SimpleQueryMessage, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;
use tracing::debug;

use super::error::{OutboxError, causes};
use super::tls;
use crate::config::{Database, TlsMode};
use crate::tasks::{Attached, attached};

const SESSION: &str = include_str!("../../sql/session.sql");

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// For what follows the TCP handshake.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(15);
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// How long a clean farewell may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// An open session. Dropping it closes the socket; [`Link::close`] says good-bye first.
pub struct Link {
    /// Carries out statements.
    pub client: Client,
    /// Whom we talk to.
    pub server: Server,
    bell: Arc<Notify>,
    connector: MakeRustlsConnect,
    driver: Attached<()>,
}

/// What the server said of itself when the session began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// As configured, for messages: `host:port/database`.
    pub display: String,
    /// `server_version_num`, such as 160004.
    pub version: u32,
    /// Whether it is a standby.
    pub standby: bool,
    /// Process id of the session's backend.
    pub process: i32,
    /// The role that we act as.
    pub role: String,
    /// The database's name.
    pub database: String,
}

/// Connects to the primary; a standby is an error.
///
/// Of several hosts the first that allows writes is taken.
pub async fn connect(database: &Database, application_name: &str) -> Result<Link, OutboxError> {
    let primary = open(database, application_name, TargetSessionAttrs::ReadWrite).await;
    let link = match primary {
        // Either a standby, or a database whose sessions are read-only unless they say otherwise, as this one does.
        Err(Failure::ReadOnly) => connect_any(database, application_name).await?,
        Err(Failure::Other(error)) => return Err(error),
        Ok(link) => link,
    };
    if link.server.standby {
        return Err(OutboxError::Standby {
            server: database.display.clone(),
        });
    }
    Ok(link)
}

/// Connects to whichever host answers first, a standby included.
pub async fn connect_any(database: &Database, application_name: &str) -> Result<Link, OutboxError> {
    match open(database, application_name, TargetSessionAttrs::Any).await {
        Ok(link) => Ok(link),
        Err(Failure::Other(error)) => Err(error),
        Err(Failure::ReadOnly) => Err(OutboxError::Standby {
            server: database.display.clone(),
        }),
    }
}

impl Link {
    /// Waits for a NOTIFY on any channel that this session listens to, or for the end of the connection.
    ///
    /// One that came before the call is not lost; several become one.
    pub async fn rung(&self) {
        self.bell.notified().await;
    }

    /// Asks the server to stop the running statement. It may have ended already.
    pub async fn cancel(&self) -> Result<(), OutboxError> {
        let token = self.client.cancel_token();
        let request = token.cancel_query(self.connector.clone());
        match timeout(CONNECT_TIMEOUT, request).await {
            Ok(answer) => {
                answer.map_err(|error| OutboxError::connecting(&self.server.display, &error))
            }
            Err(_) => Err(too_late(&self.server.display)),
        }
    }

    /// Ends the session politely.
    pub async fn close(self) {
        let Self { client, driver, .. } = self;
        drop(client);
        // Whatever happens here, the socket is closed afterwards.
        if timeout(CLOSE_TIMEOUT, driver).await.is_err() {
            debug!("the server did not take leave in time");
        }
    }
}

enum Failure {
    ReadOnly,
    Other(OutboxError),
}

impl From<OutboxError> for Failure {
    fn from(error: OutboxError) -> Self {
        Self::Other(error)
    }
}

async fn open(
    database: &Database,
    application_name: &str,
    target: TargetSessionAttrs,
) -> Result<Link, Failure> {
    let mut config = settings(database, application_name, target)?;
    let connector = tls::connector(&database.tls).await?;
    // The driver's time-out ends with the TCP handshake; this one covers TLS, password and the first answer.
    let each = config
        .get_connect_timeout()
        .copied()
        .unwrap_or(CONNECT_TIMEOUT);
    let hosts = config
        .get_hosts()
        .len()
        .max(config.get_hostaddrs().len())
        .max(1);
    let patience = each * u32::try_from(hosts).unwrap_or(1) + ANSWER_TIMEOUT;
    let attempt = timeout(patience, async {
        let first = dial(&config, &connector, database).await;
        match first {
            // As libpq: `prefer` means plain text rather than nothing.
            Err(Failure::Other(error))
                if database.tls.mode == TlsMode::Prefer && is_tls(&error) =>
            {
                config.ssl_mode(SslMode::Disable);
                dial(&config, &connector, database).await
            }
            other => other,
        }
    });
    match attempt.await {
        Ok(link) => link,
        Err(_) => Err(too_late(&database.display).into()),
    }
}

/// The connection string of the configuration, completed by what every session of ours needs.
fn settings(
    database: &Database,
    application_name: &str,
    target: TargetSessionAttrs,
) -> Result<Config, OutboxError> {
    let mut config = database.connect.clone();
    if let Some(secret) = &database.password {
        let password = secret.read().map_err(|error| OutboxError::Configuration {
            reason: format!(
                "the password for {} is not there: {error}",
                database.display
            ),
        })?;
        config.password(password.expose());
    }
    let unix_only = !config.get_hosts().is_empty()
        && config
            .get_hosts()
            .iter()
            .all(|host| matches!(host, Host::Unix(_)));
    config.ssl_mode(match database.tls.mode {
        _ if unix_only => SslMode::Disable,
        TlsMode::Disable => SslMode::Disable,
        TlsMode::Prefer => SslMode::Prefer,
        TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => SslMode::Require,
    });
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT_TIMEOUT);
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(TCP_USER_TIMEOUT);
    }
    if config.get_keepalives_interval().is_none() {
        config.keepalives_idle(KEEPALIVE_IDLE);
        config.keepalives_interval(KEEPALIVE_INTERVAL);
        config.keepalives_retries(2);
    }
    config.application_name(application_name);
    config.target_session_attrs(target);
    Ok(config)
}

async fn dial(
    config: &Config,
    connector: &MakeRustlsConnect,
    database: &Database,
) -> Result<Link, Failure> {
    let (client, connection) = match config.connect(connector.clone()).await {
        Ok(connected) => connected,
        Err(error) if causes(&error).iter().any(|cause| cause == READ_ONLY) => {
            return Err(Failure::ReadOnly);
        }
        Err(error) => return Err(explain(&error, database).into()),
    };
    let bell = Arc::new(Notify::new());
    let driver = attached(drive(connection, bell.clone()));
    let server = prepare(&client, &database.display).await?;
    Ok(Link {
        client,
        server,
        bell,
        connector: connector.clone(),
        driver,
    })
}

/// The driver's words for a server that does not suit `read-write`.
const READ_ONLY: &str = "database does not allow writes";

fn explain(error: &tokio_postgres::Error, database: &Database) -> OutboxError {
    match tls::advice(error, &database.tls) {
        Some(reason) => OutboxError::Tls {
            server: database.display.clone(),
            reason,
        },
        None => OutboxError::connecting(&database.display, error),
    }
}

fn is_tls(error: &OutboxError) -> bool {
    matches!(
        error,
        OutboxError::Tls { .. } | OutboxError::AuthenticationFailed { .. }
    )
}

fn too_late(server: &str) -> OutboxError {
    OutboxError::Unreachable {
        server: server.to_owned(),
        reason: "no answer in time".to_owned(),
    }
}

/// Moves bytes between the client and the socket until either ends.
async fn drive<T>(mut connection: Connection<Socket, T>, bell: Arc<Notify>)
where
    T: tokio_postgres::tls::TlsStream + Unpin,
{
    while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
        match message {
            Ok(AsyncMessage::Notification(_)) => bell.notify_one(),
            // The message alone: the rest of a notice may quote a row.
            Ok(AsyncMessage::Notice(notice)) => {
                debug!(severity = notice.severity(), "{}", notice.message());
            }
            Ok(_) => {}
            Err(error) => {
                debug!(error = %OutboxError::from(error), "the connection ended");
                break;
            }
        }
    }
    // Whoever waits for a notification should notice that none will come.
    bell.notify_one();
}

async fn prepare(client: &Client, display: &str) -> Result<Server, OutboxError> {
    let answer = client
        .simple_query(SESSION)
        .await
        .map_err(OutboxError::from)?;
    let row = answer.iter().find_map(|message| {
        if let SimpleQueryMessage::Row(row) = message {
            Some(row)
        } else {
            None
        }
    });
    let text = |column: &str| row.and_then(|row| row.try_get(column).ok().flatten());
    let server = || {
        Some(Server {
            display: display.to_owned(),
            version: text("version")?.parse().ok()?,
            standby: text("standby")? == "true",
            process: text("process")?.parse().ok()?,
            role: text("role")?.to_owned(),
            database: text("database")?.to_owned(),
        })
    };
    server().ok_or_else(|| OutboxError::Unexpected {
        reason: format!("{display} did not say what it is"),
    })
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link")
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}
