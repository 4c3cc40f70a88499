//! What `make demo` runs: real databases, a real Kafka, outboxd between them, a program that places orders, and in processes of
//! their own a consumer and the customers' clients. The demo believes nobody: it compares what was committed with what they saw.
//!
//! `orders.rs` and `outbox.rs` show what a service has to do, `client.rs` what a client has; `world.rs` what outboxd needs around it.

mod again;
mod client;
mod consumer;
mod event;
mod ledger;
mod orders;
mod outbox;
mod sagas;
mod screen;
#[path = "../../tests/support/mod.rs"]
mod support;
mod world;

use std::{
    collections::HashMap,
    io::{self, Write},
    net::SocketAddr,
    process::{self, ExitCode},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use again::Again;
use clap::{Parser, Subcommand};
use client::{Report, Watch};
use event::Sight;
use ledger::Ledger;
use orders::{OrderProgram, Told};
use sagas::Sagas;
use screen::Screen;
use tokio::{
    runtime,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;
use world::{Failure, TOPICS, World};

/// How often the servers are looked at when nothing happens.
const TICK: Duration = Duration::from_millis(100);

/// How long an event or a state may be on its way before something must be wrong.
const PATIENCE: Duration = Duration::from_secs(20);

/// Shows outboxd at work.
#[derive(Parser)]
struct Arguments {
    /// End by itself when so many orders are placed; without it Ctrl-C ends it.
    #[arg(long)]
    orders: Option<u64>,
    /// Run this half of outboxd only: the demo must notice, and fail.
    #[arg(long, value_parser = ["relay", "push"])]
    only: Option<String>,
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
    /// Be the customers' clients, likewise.
    #[command(hide = true)]
    Watch {
        #[arg(long)]
        push: SocketAddr,
    },
}

/// A token for each customer.
type Tokens = HashMap<String, String>;

/// What the demo hears from those that work for it.
enum News {
    /// The order program tells of its work.
    Told(Told),
    /// It ended, after so many orders.
    Placed(Result<u64, Failure>),
    /// The consumer saw an event.
    Seen(Sight),
    /// It ended.
    Blind,
    /// The clients report.
    Watched(Report),
    /// They ended.
    Deaf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.role {
        Some(Role::Consume { bootstrap, topics }) => {
            consumer::run(&bootstrap, &topics).map(|()| true)
        }
        Some(Role::Watch { push }) => client::run(push).map(|()| true),
        None => demo(arguments.orders, arguments.only.as_deref()),
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
fn demo(orders: Option<u64>, only: Option<&str>) -> Result<bool, Failure> {
    let mut screen = Screen::new(orders);
    screen.title()?;
    // Until it stands, Ctrl-C simply ends this process: everything that it has started by then ends with it.
    let world = World::start(&screen, only)?;
    let (sender, news) = channel();
    let (consumer, clients, tokens) = onlookers(&world, &screen, &sender)?;
    let stop = CancellationToken::new();
    stop_on_signals(stop.clone());
    screen.invite(&world, orders)?;
    place_orders(&world, orders, stop.clone(), sender);

    let mut show = Show {
        screen,
        _consumer: consumer,
        clients,
        tokens,
        world,
        news,
        ledger: Ledger::default(),
        sagas: Sagas::default(),
        endless: orders.is_none().then_some(stop),
        placed: None,
    };
    let failed = show.watch().and_then(|()| show.drain()).err();
    let faults = [
        failed.iter().map(ToString::to_string).collect(),
        show.sagas.faults(),
        show.ledger.faults(),
    ];
    let placed = show.placed.unwrap_or_default();
    show.screen
        .summary(placed, &show.ledger, &show.sagas, &faults)?;
    Ok(faults.iter().all(Vec::is_empty))
}

/// Starts the consumer and the clients, which tell what they see; and makes the customers' tokens.
fn onlookers(
    world: &World,
    screen: &Screen,
    news: &Sender<News>,
) -> Result<(Again, Again, Tokens), Failure> {
    // Nobody listens any more when the demo has failed.
    let reports = news.clone();
    let report = move |sight: Option<Sight>| {
        let _ = reports.send(sight.map_or(News::Blind, News::Seen));
    };
    let began = Instant::now();
    let consumer = consumer::start(&world.kafka.bootstrap(), &TOPICS, report)?;
    let how = "read_committed, its own process";
    screen.started("consumer", how, began.elapsed())?;

    let reports = news.clone();
    let report = move |report: Option<Report>| {
        let _ = reports.send(report.map_or(News::Deaf, News::Watched));
    };
    let began = Instant::now();
    let token = |customer: String| Ok((customer.clone(), world.token(&customer)?));
    let tokens = orders::customers()
        .map(token)
        .collect::<Result<_, Failure>>()?;
    let clients = client::start(world.push(), report)?;
    let how = "a WebSocket per order, own process";
    screen.started("clients", how, began.elapsed())?;
    Ok((consumer, clients, tokens))
}

/// Runs the order program on a thread of its own.
fn place_orders(world: &World, orders: Option<u64>, stop: CancellationToken, news: Sender<News>) {
    let (shop, kitchen) = (world.url("shop"), world.url("kitchen"));
    thread::spawn(move || {
        let reports = news.clone();
        let report = move |told| drop(reports.send(News::Told(told)));
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
    _consumer: Again,
    clients: Again,
    tokens: Tokens,
    world: World,
    news: Receiver<News>,
    ledger: Ledger,
    sagas: Sagas,
    /// Ends the orders, when nothing else does.
    endless: Option<CancellationToken>,
    /// How many orders were placed, once no more will be.
    placed: Option<u64>,
}

impl Show {
    /// Shows what happens until everything that was committed has been seen, and nothing more will be committed.
    fn watch(&mut self) -> Result<(), Failure> {
        loop {
            self.hear()?;
            self.world.check()?;
            self.screen.progress(&self.ledger, &self.sagas)?;
            let (event, state) = (self.ledger.waiting_since(), self.sagas.waiting_since());
            let late = |since: Option<Instant>| since.is_some_and(|it| it.elapsed() > PATIENCE);
            if late(event) {
                return Err(format!("an event has been on its way for {PATIENCE:?}").into());
            }
            if late(state) {
                let what = "a saga's state has been on its way to its client";
                return Err(format!("{what} for {PATIENCE:?}").into());
            }
            if self.placed.is_some() && event.is_none() && state.is_none() {
                return Ok(());
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
            Ok(News::Told(told)) => self.told(told)?,
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
            Ok(News::Watched(report)) => self.watched(report)?,
            Ok(News::Blind) => return Err("the consumer ended by itself".into()),
            Ok(News::Deaf) | Err(RecvTimeoutError::Disconnected) => {
                return Err("the clients ended by themselves".into());
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        Ok(())
    }

    /// Takes what the order program tells.
    fn told(&mut self, told: Told) -> Result<(), Failure> {
        match told {
            Told::Placing { order, customer } => {
                let token = self.tokens.get(&customer).cloned().unwrap_or_default();
                self.clients.tell(&Watch {
                    saga: order,
                    user: customer,
                    token,
                })?;
            }
            Told::Ended(transaction) => {
                self.screen.ended(&transaction)?;
                if transaction.committed {
                    let now = Instant::now();
                    self.ledger.commit(transaction.events, now);
                    if let Some(state) = transaction.state {
                        self.sagas.commit(state, now);
                    }
                } else {
                    self.ledger.roll_back(transaction.events);
                }
            }
        }
        Ok(())
    }

    /// Takes what the clients report.
    fn watched(&mut self, report: Report) -> Result<(), Failure> {
        match report {
            Report::Saw(seen) => {
                self.screen.state(&seen)?;
                self.sagas.see(seen);
            }
            Report::Failed { saga, why } => {
                self.screen.failed(&saga, &why)?;
                self.sagas.fail(&saga, why);
                // It is wrong by now, and would be wrong for ever.
                if let Some(stop) = &self.endless {
                    stop.cancel();
                }
            }
        }
        Ok(())
    }
}
