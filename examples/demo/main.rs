//! What `make demo` runs: real databases, a real Kafka, outboxd between them, a program that places orders, and a consumer in a
//! process of its own. The demo believes nobody: it compares what was committed with what that consumer saw.
//!
//! `orders.rs` shows what a service has to do; `world.rs` what outboxd needs around it.

mod consumer;
mod event;
mod ledger;
mod orders;
mod screen;
#[path = "../../tests/support/mod.rs"]
mod support;
mod world;

use std::{
    io::{self, Write},
    process::{self, ExitCode},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use clap::{Parser, Subcommand};
use consumer::Consumer;
use event::Sight;
use ledger::Ledger;
use orders::{Ended, OrderProgram};
use screen::Screen;
use tokio::{
    runtime,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;
use world::{Failure, TOPICS, World};

/// How often the servers are looked at when nothing happens.
const TICK: Duration = Duration::from_millis(100);

/// How long an event may be on its way before something must be wrong.
const PATIENCE: Duration = Duration::from_secs(20);

/// Shows outboxd at work.
#[derive(Parser)]
struct Arguments {
    /// End by itself when so many orders are placed; without it Ctrl-C ends it.
    #[arg(long)]
    orders: Option<u64>,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Subcommand)]
enum Role {
    /// Be the consumer: the demo starts itself a second time for this.
    #[command(hide = true)]
    Consume {
        #[arg(long)]
        bootstrap: String,
        topics: Vec<String>,
    },
}

/// What the demo hears from those that work for it.
enum News {
    /// The order program ended a transaction.
    Ended(Ended),
    /// It ended itself, after so many orders.
    Placed(Result<u64, Failure>),
    /// The consumer saw an event.
    Seen(Sight),
    /// It ended.
    Blind,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.role {
        Some(Role::Consume { bootstrap, topics }) => {
            consumer::run(&bootstrap, &topics).map(|()| true)
        }
        None => demo(arguments.orders),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            let _ = writeln!(io::stderr().lock(), "\n{failure}");
            ExitCode::FAILURE
        }
    }
}

/// Runs everything once; gives whether all was right.
fn demo(orders: Option<u64>) -> Result<bool, Failure> {
    let screen = Screen::new();
    screen.title()?;
    // Until it stands, Ctrl-C simply ends this process: everything that it has started by then ends with it.
    let world = World::start(&screen)?;
    let (sender, news) = channel();
    let reports = sender.clone();
    let report = move |sight: Option<Sight>| {
        let _ = reports.send(sight.map_or(News::Blind, News::Seen));
    };
    let began = Instant::now();
    let consumer = Consumer::start(&world.kafka.bootstrap(), &TOPICS, report)?;
    screen.started(
        "consumer",
        "read_committed, its own process",
        began.elapsed(),
    )?;
    let stop = CancellationToken::new();
    stop_on_signals(stop.clone());
    screen.invite(&world, orders)?;
    place_orders(&world, orders, stop, sender);

    let mut show = Show {
        screen,
        _consumer: consumer,
        world,
        news,
        ledger: Ledger::default(),
        placed: None,
    };
    let mut faults = Vec::new();
    if let Err(failure) = show.watch().and_then(|()| show.drain()) {
        faults.push(failure.to_string());
    }
    faults.extend(show.ledger.faults());
    let placed = show.placed.unwrap_or_default();
    show.screen.summary(&show.ledger, placed, &faults)?;
    Ok(faults.is_empty())
}

/// Runs the order program on a thread of its own.
fn place_orders(world: &World, orders: Option<u64>, stop: CancellationToken, news: Sender<News>) {
    let (shop, kitchen) = (world.url("shop"), world.url("kitchen"));
    thread::spawn(move || {
        let reports = news.clone();
        // Nobody listens any more when the demo has failed.
        let report = move |ended| drop(reports.send(News::Ended(ended)));
        let placed = support::block_on(async {
            let program = OrderProgram::connect(&shop, &kitchen, report, stop).await?;
            program.run(orders).await
        });
        let _ = news.send(News::Placed(placed.map_err(Failure::from)));
    });
}

/// Ctrl-C and SIGTERM end the orders, and with them the demo; a second one ends it at once.
fn stop_on_signals(stop: CancellationToken) {
    let listen = async move {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        for _ in 0..2 {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if stop.is_cancelled() {
                process::exit(130);
            }
            stop.cancel();
        }
        Ok::<_, io::Error>(())
    };
    thread::spawn(|| {
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        runtime.and_then(|runtime| runtime.block_on(listen))
    });
}

/// The demo while it runs.
struct Show {
    screen: Screen,
    // Ends before Kafka does, or it would complain.
    _consumer: Consumer,
    world: World,
    news: Receiver<News>,
    ledger: Ledger,
    /// How many orders were placed, once no more will be.
    placed: Option<u64>,
}

impl Show {
    /// Shows what happens until everything that was committed has been seen, and nothing more will be committed.
    fn watch(&mut self) -> Result<(), Failure> {
        loop {
            self.hear()?;
            self.world.check()?;
            match self.ledger.waiting_since() {
                None if self.placed.is_some() => return Ok(()),
                Some(since) if since.elapsed() > PATIENCE => {
                    return Err(format!("an event has been on its way for {PATIENCE:?}").into());
                }
                None | Some(_) => {}
            }
        }
    }

    /// Lets outboxd end, so that nothing more can come, and the consumer see all that there is: some of it twice, perhaps.
    fn drain(&mut self) -> Result<(), Failure> {
        self.world.drain()?;
        let there = support::consumer::read_all(&self.world.kafka.bootstrap(), &TOPICS).len();
        let deadline = Instant::now() + PATIENCE;
        while self.ledger.seen() < there {
            if Instant::now() > deadline {
                return Err(format!("the consumer has not seen all of {there} records").into());
            }
            self.hear()?;
        }
        Ok(())
    }

    /// Takes the next piece of news, if there is any soon.
    fn hear(&mut self) -> Result<(), Failure> {
        match self.news.recv_timeout(TICK) {
            Ok(News::Ended(transaction)) => {
                self.screen.ended(&transaction)?;
                if transaction.committed {
                    self.ledger.commit(transaction.events, Instant::now());
                } else {
                    self.ledger.roll_back(transaction.events);
                }
            }
            Ok(News::Placed(placed)) => {
                self.placed = Some(placed?);
                self.ledger
                    .commit_by_hand(self.world.events()?, Instant::now());
                self.screen.ending()?;
            }
            Ok(News::Seen(sight)) => {
                self.screen.sight(&sight)?;
                self.ledger.see(sight);
            }
            Ok(News::Blind) | Err(RecvTimeoutError::Disconnected) => {
                return Err("the consumer ended by itself".into());
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        Ok(())
    }
}
