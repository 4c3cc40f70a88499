//! `outboxd sql`: the outbox schema in a service's database, made and kept by its owner.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Exit, Failure};
use crate::config::{self, Database, Secret};
use crate::outbox::install::{self, Install};
use crate::outbox::{Link, OutboxError, connect};

/// Arguments of `sql`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  outboxd sql install --url postgres://owner@127.0.0.1:5432/orders"
)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do with the schema.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Create or upgrade the schema and renew the grants; may be run again at any time.
    #[command(
        after_help = "Example:\n  outboxd sql install --url postgres://owner@127.0.0.1:5432/orders --relay-role outboxd \
                      --app-role orders"
    )]
    Install {
        #[command(flatten)]
        server: Server,
        #[command(flatten)]
        options: Options,
    },
    /// Print the schema as one file for Flyway, Liquibase and the like.
    #[command(
        after_help = "Example:\n  outboxd sql show --relay-role outboxd --app-role orders > V7__outbox.sql"
    )]
    Show {
        /// Leave out what this version has already.
        #[arg(long, value_name = "N", default_value_t = 0)]
        from: i32,
        #[command(flatten)]
        options: Options,
    },
    /// Print the rights that both roles need.
    #[command(
        after_help = "Example:\n  outboxd sql grants --relay-role outboxd --app-role orders | psql orders"
    )]
    Grants {
        /// The role that outboxd connects as.
        #[arg(long, value_name = "ROLE", default_value = "outboxd")]
        relay_role: String,
        /// The role that the service connects as.
        #[arg(long, value_name = "ROLE", default_value = "app")]
        app_role: String,
    },
}

/// Where the owner connects.
#[derive(Debug, clap::Args)]
pub struct Server {
    /// The owner's URL, without a password: that comes from --password-file, PGPASSWORD or a prompt.
    #[arg(long, value_name = "URL")]
    pub url: String,
    /// A file with the password, which others may not read.
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
}

/// What the schema is made for.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The role that outboxd connects as; it must exist.
    #[arg(long, value_name = "ROLE")]
    pub relay_role: Option<String>,
    /// The role that the service connects as; it must exist.
    #[arg(long, value_name = "ROLE")]
    pub app_role: Option<String>,
    /// How long a slot of the ring is written: published rows stay for one to two of them.
    #[arg(long, value_name = "DURATION", default_value = "30m", value_parser = slot)]
    pub slot: Duration,
}

impl Options {
    fn install(self) -> Install {
        let Self {
            relay_role,
            app_role,
            slot,
        } = self;
        Install {
            relay_role,
            app_role,
            slot,
        }
    }
}

fn slot(text: &str) -> Result<Duration, String> {
    let slot = config::duration(text).map_err(|fault| fault.to_string())?;
    let (least, most) = (Duration::from_secs(1), Duration::from_secs(7 * 86_400));
    if (least..=most).contains(&slot) && slot.subsec_nanos() == 0 {
        return Ok(slot);
    }
    Err("a slot is 1 s to 7 d long, in whole seconds".to_owned())
}

pub(super) async fn execute(_file: &Path, args: Args) -> Result<(), Failure> {
    let mut out = std::io::stdout();
    match args.command {
        Command::Install { server, options } => {
            let mut link = open(&server).await?;
            let done = install::install(&mut link, &options.install()).await?;
            let text = match done {
                install::Installed { from: 0, to } => {
                    format!("installed the outbox schema, version {to}")
                }
                install::Installed { from, to } if from == to => {
                    format!("version {to} was there; the grants are renewed")
                }
                install::Installed { from, to } => {
                    format!("upgraded the outbox schema from version {from} to {to}")
                }
            };
            writeln!(out, "{}: {text}", link.server.display)?;
            link.close().await;
        }
        Command::Show { from, options } => {
            write!(out, "{}", install::show(from, &options.install()))?
        }
        Command::Grants {
            relay_role,
            app_role,
        } => {
            let roles = Install {
                relay_role: Some(relay_role),
                app_role: Some(app_role),
                slot: Duration::ZERO,
            };
            write!(out, "{}", install::grants(&roles))?;
        }
    }
    Ok(())
}

/// Connects as the owner; asks for the password if the server wants one and somebody is there.
async fn open(server: &Server) -> Result<Link, Failure> {
    let usage = |fault| Failure::new(Exit::Usage, format_args!("--url: {fault}"));
    let mut database = config::database::parse(&server.url, Path::new("")).map_err(usage)?;
    database.password = match &server.password_file {
        Some(file) => Some(Secret::File(file.clone())),
        None => Some(Secret::Env("PGPASSWORD".to_owned())).filter(|secret| secret.read().is_ok()),
    };
    match connect(&database, NAME).await {
        Err(OutboxError::PasswordMissing { .. }) if std::io::stdin().is_terminal() => {
            Ok(connect(&prompted(database)?, NAME).await?)
        }
        other => Ok(other?),
    }
}

const NAME: &str = "outboxd sql";

fn prompted(mut database: Database) -> Result<Database, Failure> {
    let password = rpassword::prompt_password(format!("password for {}: ", database.display));
    let unread = |error| Failure::new(Exit::Usage, format_args!("no password was read: {error}"));
    database.connect.password(password.map_err(unread)?);
    Ok(database)
}
