//! `outboxd saga`: sagas as the log tells of them, and what they should look like. Needs no daemon; never writes to the log.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{Exit, Failure, load};
use crate::clock;
use crate::logic::push::partition::{Filter, Listed};
use crate::logic::push::placement::partition_of;
use crate::logic::rights::Rights;
use crate::logic::saga::{Definition, Definitions, SagaKey};

mod graph;
mod read;
mod shown;

use graph::Format;
use read::read;

/// Arguments of `saga`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  outboxd saga list --type create-order --state APPROVAL_PENDING"
)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to see of sagas.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List them, those that changed longest ago first.
    #[command(
        after_help = "Example:\n  outboxd saga list --type create-order --state APPROVAL_PENDING"
    )]
    List {
        /// Of this type only.
        #[arg(long = "type", value_name = "TYPE")]
        saga_type: Option<String>,
        /// In this state only.
        #[arg(long, value_name = "STATE")]
        state: Option<String>,
        /// Beyond the limit of their state only; limits are in definitions of sagas.
        #[arg(long)]
        stuck: bool,
        /// At most so many.
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: usize,
        /// Print a JSON list instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Show one: its state, its steps, and what should not be.
    #[command(after_help = "Example:\n  outboxd saga show create-order o-42")]
    Show {
        /// The saga's type.
        #[arg(value_name = "TYPE")]
        saga_type: String,
        /// Its id.
        #[arg(value_name = "ID")]
        saga_id: String,
        /// Print JSON: what a client is shown.
        #[arg(long)]
        json: bool,
    },
    /// Draw what sagas of a type should look like, from its definition.
    #[command(
        after_help = "Example:\n  outboxd saga graph create-order --format dot | dot -Tsvg > create-order.svg"
    )]
    Graph {
        /// The type; needed only if there is more than one.
        #[arg(value_name = "TYPE")]
        saga_type: Option<String>,
        /// For whom.
        #[arg(long, value_enum, default_value_t = Format::Mermaid)]
        format: Format,
    },
}

pub(super) async fn execute(file: &Path, args: Args) -> Result<(), Failure> {
    let config = load(file)?;
    let definitions = Arc::new(config.definitions()?);
    let everything = json!([{"saga_type": "*"}]);
    let rights = Rights::new(None, Some(&everything));
    let text = match args.command {
        Command::List {
            saga_type,
            state,
            stuck,
            limit,
            json,
        } => {
            let filter = Filter {
                saga_type,
                state,
                stuck,
                limit,
                ..Filter::default()
            };
            let partitions = read(&config, &definitions).await?;
            let listed = partitions
                .iter()
                .flat_map(|partition| partition.list(&filter, &rights));
            let mut listed: Vec<Listed> = listed.collect();
            listed.sort_by_key(|listed| listed.place);
            listed.truncate(limit);
            let sagas: Vec<Value> = listed
                .iter()
                .filter_map(|one| shown::parse(&one.snapshot))
                .collect();
            if json {
                format!("{:#}\n", Value::Array(sagas))
            } else if sagas.is_empty() {
                "no sagas\n".to_owned()
            } else {
                shown::list(&sagas, clock::now().as_seconds())
            }
        }
        Command::Show {
            saga_type,
            saga_id,
            json,
        } => {
            let partitions = read(&config, &definitions).await?;
            let count = i32::try_from(partitions.len()).unwrap_or(i32::MAX);
            let number = usize::try_from(partition_of(&saga_id, count)).unwrap_or(usize::MAX);
            let key = SagaKey::new(&saga_type, &saga_id);
            let partition = partitions.get(number);
            let found = partition.and_then(|partition| partition.snapshot(&key, &rights, "").ok());
            let Some(saga) = found.and_then(|(_, snapshot)| shown::parse(&snapshot)) else {
                let message =
                    format!("the log does not know a saga {saga_type} {saga_id} any more, or yet");
                return Err(Failure::new(Exit::Shape, message));
            };
            if json {
                format!("{saga:#}\n")
            } else {
                shown::one(&saga)
            }
        }
        Command::Graph { saga_type, format } => {
            graph::draw(defined(&definitions, saga_type.as_deref())?, format)
        }
    };
    Ok(std::io::stdout().lock().write_all(text.as_bytes())?)
}

/// The newest definition of a type; of the only one, if none is named.
fn defined<'a>(
    definitions: &'a Definitions,
    saga_type: Option<&str>,
) -> Result<&'a Definition, Failure> {
    let mut types: Vec<&str> = definitions.all().map(|it| &*it.saga_type).collect();
    types.dedup();
    let wanted = match (saga_type, types.as_slice()) {
        (Some(saga_type), _) => Ok(saga_type),
        (None, [only]) => Ok(*only),
        (None, []) => {
            Err("no saga is defined: write a definition, and name it in [sagas]".to_owned())
        }
        (None, types) => Err(format!("name one of {}", types.join(", "))),
    };
    let wanted = wanted.map_err(|message| Failure::new(Exit::Usage, message))?;
    let versions = definitions.all().filter(|it| *it.saga_type == *wanted);
    versions.last().map(|it| &**it).ok_or_else(|| {
        let known = match types.as_slice() {
            [] => "none is".to_owned(),
            types => format!("defined are {}", types.join(", ")),
        };
        Failure::new(
            Exit::Usage,
            format_args!("{wanted} is not defined; {known}"),
        )
    })
}
