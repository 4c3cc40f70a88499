//! `outboxd sql`: the outbox schema in a service's database, made and kept by its owner.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::dead_letters::find;
use super::{Exit, Failure, load};
use crate::config::{self, Config, Database, Secret};
use crate::kafka::Clients;
use crate::outbox::install::{self, Install};
use crate::outbox::{Link, OutboxError, connect};
use crate::relay::{self, Accepted, Renamed};

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
        /// Where to.
        #[command(flatten)]
        server: Server,
        /// What for.
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
        /// What for.
        #[command(flatten)]
        options: Options,
    },
    /// Give a source's database the name that the configuration has for it.
    #[command(after_help = "Example:\n  outboxd sql rename --source sales")]
    Rename {
        /// The new name, as in the configuration.
        #[arg(long, value_name = "SOURCE")]
        source: String,
    },
    /// Accept a restored, upgraded or new database as that of a source. Says what would happen, unless --yes is given.
    #[command(
        after_help = "Example:\n  outboxd sql rebase --source orders --yes --url postgres://owner@127.0.0.1:5432/orders"
    )]
    Rebase {
        /// The source, as in the configuration.
        #[arg(long, value_name = "SOURCE")]
        source: String,
        /// The owner's URL, needed with --yes when the rows come from another cluster; else the configuration's is used.
        #[arg(long, value_name = "URL")]
        url: Option<String>,
        /// A file with the owner's password, which others may not read.
        #[arg(long, value_name = "FILE", requires = "url")]
        password_file: Option<PathBuf>,
        /// Carry it out.
        #[arg(long)]
        yes: bool,
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
    /// How long a slot of the ring is written: published rows stay for one to two of them. 30m unless it was set before.
    #[arg(long, value_name = "DURATION", value_parser = slot)]
    pub slot: Option<Duration>,
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

pub(super) async fn execute(file: &Path, args: Args) -> Result<(), Failure> {
    let mut out = std::io::stdout();
    match args.command {
        Command::Install { server, options } => {
            let mut link = open(&server.url, server.password_file.as_deref()).await?;
            let done = install::install(&mut link, &options.install()).await?;
            let display = link.server.display.clone();
            link.close().await;
            let text = match (done.from, done.to) {
                (0, to) => format!("installed the outbox schema, version {to}"),
                (from, to) if from == to => {
                    format!("version {to} was there; the grants are renewed")
                }
                (from, to) => format!("upgraded the outbox schema from version {from} to {to}"),
            };
            writeln!(out, "{display}: {text}")?;
            for notice in done.notices {
                writeln!(out, "note: {notice}")?;
            }
        }
        Command::Rename { source } => {
            let config = load(file)?;
            let source = find(&config, &source)?;
            let renamed = relay::rename(&clients(&config), source).await?;
            writeln!(out, "{}", renamed_text(&renamed, &source.name))?;
        }
        Command::Rebase {
            source,
            url,
            password_file,
            yes,
        } => {
            let config = load(file)?;
            let source = find(&config, &source)?;
            let database = match url {
                Some(url) => prepare(&url, password_file.as_deref()).await?,
                None => source.database.clone(),
            };
            let accepted = relay::rebase(&clients(&config), source, &database, yes).await?;
            write!(out, "{}", rebased_text(&accepted, &source.name, yes))?;
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
                slot: None,
            };
            write!(out, "{}", install::rights(&roles))?;
        }
    }
    Ok(())
}

fn clients(config: &Config) -> Clients {
    Clients::new(config.kafka.clone(), "sql")
}

fn renamed_text(renamed: &Renamed, name: &str) -> String {
    match renamed.from.as_deref() {
        None => format!(
            "the database has no name yet: the first daemon that leads it calls it \"{name}\""
        ),
        Some(from) if from == name => format!("the database is called \"{name}\" already"),
        Some(from) => format!(
            "\"{from}\" is called \"{name}\" from now on, in ce_source and in its topic of checkpoints as well"
        ),
    }
}

fn rebased_text(accepted: &Accepted, name: &str, really: bool) -> String {
    let (rows, strangers) = (accepted.rows, accepted.strangers);
    let (will, found) = if really {
        ("will", "accepted")
    } else {
        ("would", "found")
    };
    let kind = if rows.moved {
        "another database than the one that was relayed"
    } else {
        "the database that was relayed"
    };
    let mut text = format!(
        "{found} {kind}\n{} events {will} be sent; {} are known to be published and {will} not be sent again\n",
        rows.waiting, rows.published
    );
    if strangers > 0 {
        text.push_str(&format!(
            "{strangers} checkpoints under this name are of another outbox schema: if that one is still in use, stop here \
             and give one of them another name\n"
        ));
    }
    if accepted.unreadable > 0 {
        let unreadable = accepted.unreadable;
        text.push_str(&format!(
            "{unreadable} records of the topic are no checkpoints; {will} be passed over\n"
        ));
    }
    if !really {
        let owner = if rows.moved {
            " and, with --url, as the owner"
        } else {
            ""
        };
        text.push_str(&format!(
            "nothing was changed: run it with --yes{owner} to carry it out\n"
        ));
    } else {
        text.push_str(&format!(
            "a daemon that relays \"{name}\" goes on within seconds\n"
        ));
    }
    text
}

/// Connects as the owner; asks for the password if the server wants one and somebody is there.
async fn open(url: &str, password_file: Option<&Path>) -> Result<Link, Failure> {
    let database = parse(url, password_file)?;
    match connect(&database, NAME).await {
        Err(OutboxError::PasswordMissing { .. }) if std::io::stdin().is_terminal() => {
            Ok(connect(&prompted(database)?, NAME).await?)
        }
        other => Ok(other?),
    }
}

/// The same without keeping the connection.
async fn prepare(url: &str, password_file: Option<&Path>) -> Result<Database, Failure> {
    let database = parse(url, password_file)?;
    match connect(&database, NAME).await {
        Err(OutboxError::PasswordMissing { .. }) if std::io::stdin().is_terminal() => {
            prompted(database)
        }
        other => {
            other?.close().await;
            Ok(database)
        }
    }
}

fn parse(url: &str, password_file: Option<&Path>) -> Result<Database, Failure> {
    let usage = |fault| Failure::new(Exit::Usage, format_args!("--url: {fault}"));
    let mut database = config::database::parse(url, Path::new("")).map_err(usage)?;
    database.password = match password_file {
        Some(file) => Some(Secret::File(file.to_owned())),
        None => Some(Secret::Env("PGPASSWORD".to_owned())).filter(|secret| secret.read().is_ok()),
    };
    Ok(database)
}

const NAME: &str = "outboxd sql";

fn prompted(mut database: Database) -> Result<Database, Failure> {
    let password = rpassword::prompt_password(format!("password for {}: ", database.display));
    let unread = |error| Failure::new(Exit::Usage, format_args!("no password was read: {error}"));
    database.connect.password(password.map_err(unread)?);
    Ok(database)
}
