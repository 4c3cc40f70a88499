//! What every service does all day: read a message, let it take effect, commit, tell Kafka. Never knows what a message means.
//!
//! It crashes only: whatever goes wrong ends the process, and whoever started it starts it again. Nothing is lost by that,
//! because an offset is committed after the effect, and nothing is done twice, because of the inbox.

use std::{convert::Infallible, process, time::Duration};

use clap::Args;
use rdkafka::{
    ClientConfig,
    consumer::{CommitMode, Consumer as _, StreamConsumer},
};
use tokio::time::interval;
use tokio_postgres::{Client, NoTls, Transaction};

use crate::{Failure, inbox, message::Message};

/// How often the inbox is cleared of what is too old.
const CLEARING: Duration = Duration::from_secs(3600);

/// What a service is started with.
#[derive(Args, Clone)]
pub(crate) struct Options {
    /// Its own database, with the outbox in it.
    #[arg(long, value_name = "URL")]
    pub(crate) database: String,
    /// Kafka's address.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) kafka: String,
    /// End as if killed after so many messages, between the commit in the database and that in Kafka.
    #[arg(long, value_name = "MESSAGES", hide = true)]
    pub(crate) crash_after: Option<u64>,
}

/// Reads these channels for ever, one message after the other; `handle` is what each of them means to this service.
pub(crate) async fn run(
    name: &str,
    channels: &[&str],
    options: &Options,
    mut handle: impl AsyncFnMut(&Transaction<'_>, &Message) -> Result<(), Failure>,
) -> Result<Infallible, Failure> {
    let mut database = connect(&options.database).await?;
    let reader = reader(name, &options.kafka)?;
    reader.subscribe(channels)?;
    tracing::info!("{name} reads {}", channels.join(", "));
    let mut clearing = interval(CLEARING);
    let mut handled = 0;
    loop {
        let record = tokio::select! {
            record = reader.recv() => record?,
            _ = clearing.tick() => {
                inbox::forget(&database).await?;
                continue;
            }
        };
        let message = Message::of(&record)?;
        inbox::once(&mut database, name, &message, &mut handle).await?;
        handled += 1;
        if options.crash_after == Some(handled) {
            process::abort();
        }
        // May be lost in a crash: then the message comes again.
        reader.commit_message(&record, CommitMode::Async)?;
    }
}

/// A consumer of Kafka that sees what is committed, once in its group, and again until its offset is committed.
fn reader(group: &str, kafka: &str) -> Result<StreamConsumer, Failure> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", kafka)
        .set("group.id", group)
        // An instance that comes back within the session is the same member, and nobody's messages move.
        .set("group.instance.id", group)
        .set("session.timeout.ms", "10000")
        .set("isolation.level", "read_committed")
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false");
    Ok(config.create()?)
}

/// A session in the service's own database.
pub(crate) async fn connect(url: &str) -> Result<Client, Failure> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    #[expect(
        clippy::disallowed_methods,
        reason = "a program of its own, without outboxd's tasks"
    )]
    tokio::spawn(async move {
        // Its error comes out of the client's next call, too.
        let _ = connection.await;
    });
    Ok(client)
}

/// Makes the service's tables, and its inbox; what is there stays.
pub(crate) async fn migrate(options: &Options, tables: &str) -> Result<(), Failure> {
    let database = connect(&options.database).await?;
    database.batch_execute(inbox::TABLE).await?;
    Ok(database.batch_execute(tables).await?)
}
