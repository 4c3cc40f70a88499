//! The command line: one file per command here, and what they share: exit codes and failures.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use serde::de::DeserializeOwned;

use crate::admin::{self, ControlError, Fault, Request};
use crate::config::{Config, ConfigErrors};
use crate::kafka::KafkaError;
use crate::logging::LogError;
use crate::outbox::OutboxError;
use crate::relay::RelayError;

pub mod check;
pub mod completions;
pub mod config;
pub mod connect;
pub mod ctl;
pub mod dead_letters;
pub mod man;
mod progress;
pub mod run;
pub mod saga;
pub mod sql;
pub mod status;
mod table;
pub mod token;
pub mod verify;

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// The arguments are wrong.
    Usage = 64,
    /// A table or topic is missing or has the wrong shape.
    Shape = 65,
    /// A database, a broker or the daemon cannot be reached.
    Unreachable = 69,
    /// A bug in outboxd.
    Bug = 70,
    /// A right is missing.
    Privilege = 77,
    /// The configuration is wrong.
    Config = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        // The discriminants are the codes.
        Self::from(exit as u8)
    }
}

/// Why a command ends before it is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// How the process ends.
    pub exit: Exit,
    /// What to tell the user; empty when it has been told.
    pub message: String,
}

impl Failure {
    /// Ends with `exit` after `error: message`.
    pub fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self {
            exit,
            message: format!("error: {message}"),
        }
    }

    /// Something that cannot happen did.
    pub fn bug(error: impl fmt::Display) -> Self {
        Self::new(Exit::Bug, format_args!("this is a bug in outboxd: {error}"))
    }
}

impl From<ConfigErrors> for Failure {
    fn from(errors: ConfigErrors) -> Self {
        Self {
            exit: Exit::Config,
            message: errors.to_string(),
        }
    }
}

impl From<LogError> for Failure {
    fn from(error: LogError) -> Self {
        Self::new(Exit::Config, format_args!("OUTBOXD_LOG: {error}"))
    }
}

/// For writes to stdout.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            // The reader has seen enough, as in `outboxd config show | head -1`.
            return Self {
                exit: Exit::Ok,
                message: String::new(),
            };
        }
        Self::new(
            Exit::Unreachable,
            format_args!("cannot write the answer: {error}"),
        )
    }
}

/// Relays transactional outbox tables to Kafka, exactly once and in order, and shows clients their sagas live.
#[derive(Debug, Parser)]
#[command(
    name = "outboxd",
    version,
    max_term_width = 100,
    after_help = "Example:\n  outboxd check --connect && outboxd run",
    disable_help_subcommand = true
)]
pub struct Cli {
    /// The configuration file.
    #[arg(
        long,
        value_name = "FILE",
        global = true,
        env = "OUTBOXD_CONFIG",
        hide_env_values = true,
        default_value = "/etc/outboxd/outboxd.toml"
    )]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Relay and push until told to stop.
    Run(run::Args),
    /// Tell what is wrong with the configuration; with --connect, with databases and Kafka, too.
    Check(check::Args),
    /// Create and maintain the outbox schema in a service's database.
    Sql(sql::Args),
    /// Ask the daemon how each source is doing.
    Status(status::Args),
    /// See the events that Kafka did not take.
    DeadLetters(dead_letters::Args),
    /// Compare a source's table with its topics: is anything lost, doubled or out of order?
    Verify(verify::Args),
    /// Tell the running daemon what to do.
    Ctl(ctl::Args),
    /// See sagas as the log tells of them.
    Saga(saga::Args),
    /// Make a token for development, or learn why one is refused.
    Token(token::Args),
    /// See the configuration as outboxd understands it.
    Config(config::Args),
    /// Print what a shell needs to complete command lines.
    Completions(completions::Args),
    /// Print manual pages.
    Man(man::Args),
}

impl Cli {
    /// Whether the command is the daemon itself, which wants more than one thread.
    pub fn is_daemon(&self) -> bool {
        matches!(self.command, Command::Run(_))
    }

    /// Carries the command out.
    ///
    /// # Errors
    /// How the process should end, and what to tell the user.
    pub async fn execute(self) -> Result<(), Failure> {
        let file: &Path = &self.config;
        match self.command {
            Command::Run(args) => run::execute(file, args).await,
            Command::Check(args) => check::execute(file, args).await,
            Command::Sql(args) => sql::execute(file, args).await,
            Command::Status(args) => status::execute(file, args).await,
            Command::DeadLetters(args) => dead_letters::execute(file, args).await,
            Command::Verify(args) => verify::execute(file, args).await,
            Command::Ctl(args) => ctl::execute(file, args).await,
            Command::Saga(args) => saga::execute(file, args).await,
            Command::Token(args) => token::execute(file, args).await,
            Command::Config(args) => config::execute(file, &args),
            Command::Completions(args) => completions::execute(&args),
            Command::Man(args) => man::execute(args),
        }
    }
}

/// The whole command line, for tests and for what is generated from it.
pub fn command() -> clap::Command {
    Cli::command()
}

fn load(file: &Path) -> Result<Config, Failure> {
    Ok(Config::load(file)?)
}

/// Asks the daemon of a file, also where the file is broken by now. If none answers, what is wrong with the file comes first.
async fn ask<A: DeserializeOwned>(file: &Path, request: &Request) -> Result<A, Failure> {
    let answer = admin::ask(&Config::socket(file)?, request).await;
    if matches!(answer, Err(ControlError::Nobody { .. })) {
        load(file)?;
    }
    Ok(answer?)
}

impl From<ControlError> for Failure {
    fn from(error: ControlError) -> Self {
        let exit = match &error {
            ControlError::Denied { .. } => Exit::Privilege,
            ControlError::Refused(refusal) => match refusal.fault {
                Fault::Usage => Exit::Usage,
                Fault::Configuration => {
                    let message = refusal.error.clone();
                    let exit = Exit::Config;
                    return Self { exit, message };
                }
                Fault::Other => Exit::Unreachable,
            },
            ControlError::Directory { .. }
            | ControlError::InTheWay { .. }
            | ControlError::Taken { .. }
            | ControlError::Nobody { .. }
            | ControlError::Silent { .. }
            | ControlError::Io { .. } => Exit::Unreachable,
        };
        Self::new(exit, error)
    }
}

impl From<OutboxError> for Failure {
    fn from(error: OutboxError) -> Self {
        let exit = match error.exit_code() {
            65 => Exit::Shape,
            69 => Exit::Unreachable,
            77 => Exit::Privilege,
            78 => Exit::Config,
            _ => Exit::Bug,
        };
        Self::new(exit, error)
    }
}

impl From<RelayError> for Failure {
    fn from(error: RelayError) -> Self {
        let exit = match error {
            RelayError::Outbox(error) => return error.into(),
            RelayError::Kafka(error) => return error.into(),
            RelayError::Halt(_)
            | RelayError::OtherSource { .. }
            | RelayError::OtherDatabase { .. }
            | RelayError::DeadLetterLimit { .. } => Exit::Shape,
            RelayError::Replace(_) | RelayError::Silent => Exit::Unreachable,
        };
        Self::new(exit, error)
    }
}

impl From<KafkaError> for Failure {
    fn from(error: KafkaError) -> Self {
        let exit = match &error {
            KafkaError::Denied { .. } => Exit::Privilege,
            KafkaError::OwnTopic { .. } => Exit::Shape,
            KafkaError::Setting(_) => Exit::Config,
            KafkaError::Unreachable { .. }
            | KafkaError::Fenced(_)
            | KafkaError::LeaseExpired
            | KafkaError::Failed { .. } => Exit::Unreachable,
        };
        Self::new(exit, error)
    }
}
