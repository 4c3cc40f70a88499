//! The saga *create order* built twice on outboxd: four services that agree by messages alone, once because each knows what to
//! do (choreography), once because one of them tells the others (orchestration). `README.md` is the guide.

mod accounting;
mod cards;
mod consumer;
mod inbox;
mod kitchen;
mod message;
mod messages;
mod order;
mod outbox;
mod service;
mod twice;

use std::{
    error::Error,
    io::{self, Write},
    net::SocketAddr,
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use service::Options;
use tokio::runtime;
use tracing_subscriber::EnvFilter;

/// Whatever ends a service.
type Failure = Box<dyn Error + Send + Sync>;

/// One part of the example; each is a process of its own.
#[derive(Parser)]
enum Part {
    /// Be one of the four services
    #[command(subcommand)]
    Service(Service),
    /// Be the card company that accounting asks
    Cards {
        /// Where it is asked
        #[arg(long, value_name = "ADDRESS")]
        listen: SocketAddr,
    },
    /// Deliver every message a second time, as Kafka may
    Twice {
        /// Kafka's address
        #[arg(long, value_name = "HOST:PORT")]
        kafka: String,
    },
}

#[derive(Subcommand)]
enum Service {
    /// Takes orders, and is the home of the sagas
    Order {
        #[command(flatten)]
        options: Options,
        /// Where customers come to
        #[arg(long, value_name = "ADDRESS")]
        listen: SocketAddr,
    },
    /// Knows who may order
    Consumer {
        #[command(flatten)]
        options: Options,
    },
    /// Holds the tickets
    Kitchen {
        #[command(flatten)]
        options: Options,
    },
    /// Has cards authorized
    Accounting {
        #[command(flatten)]
        options: Options,
        /// Where the card company is
        #[arg(long, value_name = "ADDRESS")]
        cards: SocketAddr,
    },
}

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .init();
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let ended = runtime
        .map_err(Failure::from)
        .and_then(|runtime| runtime.block_on(run(Part::parse())));
    let Err(failure) = ended;
    let _ = writeln!(io::stderr().lock(), "{failure}");
    ExitCode::FAILURE
}

/// Runs until something goes wrong.
async fn run(part: Part) -> Result<std::convert::Infallible, Failure> {
    match part {
        Part::Service(Service::Order { options, listen }) => order::run(&options, listen).await,
        Part::Service(Service::Consumer { options }) => consumer::run(&options).await,
        Part::Service(Service::Kitchen { options }) => kitchen::run(&options).await,
        Part::Service(Service::Accounting { options, cards }) => {
            accounting::run(&options, cards).await
        }
        Part::Cards { listen } => cards::serve(listen).await,
        Part::Twice { kafka } => twice::run(&kafka).await,
    }
}
