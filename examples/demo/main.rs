//! What `make demo` runs: the example `create_order` with real databases, a real Kafka and outboxd, a page to place orders on and to
//! break things with, and in processes of their own a consumer and the customers' clients. The demo believes nobody: it compares
//! what was committed with what they saw.
//!
//! `../create_order` shows what services have to do, `client.rs` what a client has, `page.html` what a page has.

mod again;
mod client;
mod consumer;
mod event;
mod ledger;
mod page;
mod sagas;
mod screen;
#[path = "../../tests/support/mod.rs"]
mod support;
mod tables;
mod world;

use std::{
    collections::HashMap,
    io::{self, Write},
    net::{Ipv4Addr, SocketAddr},
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
use page::{Refusal, Wish};
use sagas::Sagas;
use screen::Screen;
use serde_json::{Value, json};
use support::deployment::{SERVICES, TOPICS};
use tables::Tables;
use tokio::{
    runtime,
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};
use tokio_util::sync::CancellationToken;
use world::{Failure, Style, Switch, Wanted, World};

/// How often everything is looked at when nothing happens.
const TICK: Duration = Duration::from_millis(100);

/// How long an event or a state may be on its way before something must be wrong.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long sagas may take to their end when nothing is broken any more.
const END: Duration = Duration::from_secs(60);

/// So many sagas at a time, when nobody waits at a page.
const AT_A_TIME: usize = 20;

/// Who orders at the page.
const CUSTOMER: &str = "c-1";

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

/// What the demo hears from those that work for it.
enum News {
    /// The consumer saw an event.
    Seen(Sight),
    /// It ended.
    Blind,
    /// The clients report.
    Watched(Report),
    /// They ended.
    Deaf,
    /// The page asks for something.
    Asked(Wish, oneshot::Sender<Value>),
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
    let (consumer, clients) = onlookers(&world, &screen, &sender)?;
    let page = (Ipv4Addr::LOCALHOST, world.page.number()).into();
    page::serve(page, sender)?;
    let stop = CancellationToken::new();
    stop_on_signals(stop.clone());
    screen.invite(&world, page, orders)?;

    let mut show = Show {
        screen,
        _consumer: consumer,
        clients,
        tokens: HashMap::new(),
        tables: Tables::open(&world.deployment.postgres)?,
        world,
        news,
        ledger: Ledger::default(),
        sagas: Sagas::default(),
        orders_of: HashMap::new(),
        at_the_page: Vec::new(),
        wanted: orders,
        placed: 0,
        stop,
    };
    let failed = show.watch().and_then(|()| show.drain()).err();
    let faults = [
        failed.iter().map(ToString::to_string).collect(),
        show.sagas.faults(),
        show.ledger.faults(),
    ];
    show.screen
        .summary(show.placed, &show.ledger, &show.sagas, &faults)?;
    Ok(faults.iter().all(Vec::is_empty))
}

/// Starts the consumer and the clients, which tell what they see.
fn onlookers(
    world: &World,
    screen: &Screen,
    news: &Sender<News>,
) -> Result<(Again, Again), Failure> {
    // Nobody listens any more when the demo has failed.
    let reports = news.clone();
    let report = move |sight: Option<Sight>| {
        let _ = reports.send(sight.map_or(News::Blind, News::Seen));
    };
    let began = Instant::now();
    let kafka = world.deployment.kafka.bootstrap();
    let consumer = consumer::start(&kafka, &TOPICS, report)?;
    let how = "read_committed, its own process";
    screen.started("consumer", how, began.elapsed())?;

    let reports = news.clone();
    let report = move |report: Option<Report>| {
        let _ = reports.send(report.map_or(News::Deaf, News::Watched));
    };
    let began = Instant::now();
    let clients = client::start(world.deployment.push(), report)?;
    let how = "a WebSocket per order, own process";
    screen.started("clients", how, began.elapsed())?;
    Ok((consumer, clients))
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
    /// By customer.
    tokens: HashMap<String, String>,
    tables: Tables,
    world: World,
    news: Receiver<News>,
    ledger: Ledger,
    sagas: Sagas,
    /// By saga.
    orders_of: HashMap<String, String>,
    /// The orders of the page, for when it is loaded again.
    at_the_page: Vec<Value>,
    /// So many orders, and then the end; `None`: until somebody ends it.
    wanted: Option<u64>,
    placed: u64,
    stop: CancellationToken,
}

impl Show {
    /// Shows what happens until no more orders are placed, all sagas have ended, and everything was seen.
    fn watch(&mut self) -> Result<(), Failure> {
        let mut ending: Option<Instant> = None;
        loop {
            self.hear()?;
            self.world.check()?;
            self.look()?;
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
            if self.goes_on() {
                self.place_by_itself()?;
                continue;
            }
            let since = match ending {
                Some(since) => since,
                None => {
                    self.mend()?;
                    *ending.insert(Instant::now())
                }
            };
            let ended = self.sagas.unfinished() == 0;
            if ended && event.is_none() && state.is_none() {
                return Ok(());
            }
            if !ended && since.elapsed() > END {
                return Err(format!("a saga has not ended for {END:?}").into());
            }
        }
    }

    /// Whether more orders are to come.
    fn goes_on(&self) -> bool {
        !self.stop.is_cancelled() && self.wanted.is_none_or(|wanted| self.placed < wanted)
    }

    /// Nothing is broken any more, so that every saga can come to its end.
    fn mend(&mut self) -> Result<(), Failure> {
        self.screen.ending()?;
        self.world.switch(Switch::CardRefused, false);
        self.world.switch(Switch::KitchenDown, false);
        Ok(())
    }

    /// Stops the services, so that nothing more is committed, lets outboxd end, so that nothing more can come, and the consumer see
    /// all that there is: some of it twice, perhaps.
    fn drain(&mut self) -> Result<(), Failure> {
        for part in SERVICES.into_iter().chain(["cards", "twice"]) {
            self.world.deployment.kill(part);
        }
        self.look()?;
        let deadline = Instant::now() + PATIENCE;
        while self.ledger.waiting_since().is_some() {
            if Instant::now() > deadline {
                return Err("the last events have not been seen".into());
            }
            self.hear()?;
        }
        self.world.drain()?;
        let all = support::consumer::read_all(&self.world.deployment.kafka.bootstrap(), &TOPICS);
        let there = all.into_iter().filter(consumer::is_original).count();
        while self.ledger.seen() < there {
            if Instant::now() > deadline {
                return Err(format!("the consumer has not seen all of {there} records").into());
            }
            self.hear()?;
        }
        Ok(())
    }

    /// Looks into the outboxes.
    fn look(&mut self) -> Result<(), Failure> {
        let (rows, now) = (self.tables.news()?, Instant::now());
        self.ledger.commit(rows.events, now);
        for state in rows.states {
            self.sagas.commit(state, now);
        }
        Ok(())
    }

    /// Takes the next piece of news, if there is any soon, and what else has come by then.
    fn hear(&mut self) -> Result<(), Failure> {
        let first = match self.news.recv_timeout(TICK) {
            Ok(first) => first,
            Err(RecvTimeoutError::Timeout) => return Ok(()),
            Err(RecvTimeoutError::Disconnected) => News::Deaf,
        };
        let rest: Vec<_> = self.news.try_iter().collect();
        [first]
            .into_iter()
            .chain(rest)
            .try_for_each(|it| self.take(it))
    }

    fn take(&mut self, news: News) -> Result<(), Failure> {
        match news {
            News::Seen(sight) => {
                let key = sight.event.key.as_deref().unwrap_or("-");
                let order = self.orders_of.get(key).map_or(key, String::as_str);
                self.screen.sight(&sight, order)?;
                self.ledger.see(sight);
            }
            News::Watched(Report::Saw(seen)) => {
                self.screen.state(&seen)?;
                self.sagas.see(seen);
            }
            News::Watched(Report::Failed { order, why }) => {
                self.screen.failed(&order, &why)?;
                self.sagas.fail(&order, why);
                // It is wrong by now, and would be wrong for ever.
                if self.wanted.is_none() {
                    self.stop.cancel();
                }
            }
            News::Asked(wish, answer) => {
                let said = self.grant(wish)?;
                // The page may be gone.
                let _ = answer.send(said);
            }
            News::Blind => return Err("the consumer ended by itself".into()),
            News::Deaf => return Err("the clients ended by themselves".into()),
        }
        Ok(())
    }

    /// Does what the page asks for; gives what it is told.
    fn grant(&mut self, wish: Wish) -> Result<Value, Failure> {
        match wish {
            Wish::Place(order) => {
                let (restaurant, total) = match order.refusal {
                    Refusal::Nobody => ("r-1", 1250),
                    Refusal::Consumer => ("r-1", 99_900),
                    Refusal::Kitchen => ("r-closed", 1250),
                };
                let (style, customer) = (order.style, CUSTOMER.to_owned());
                let wanted = Wanted {
                    style,
                    customer,
                    restaurant,
                    total,
                };
                let placed = self.place(&wanted, None)?;
                self.at_the_page.push(placed.clone());
                return Ok(placed);
            }
            Wish::Token { operator } => return Ok(self.token(operator).into()),
            Wish::Switch(switch, on) => {
                self.screen
                    .broken(&format!("{switch:?} {}", if on { "on" } else { "off" }))?;
                self.world.switch(switch, on);
            }
            Wish::KillOutboxd => {
                self.screen.broken("outboxd killed")?;
                self.world.kill_outboxd();
            }
            Wish::Look => {}
        }
        let push = self.world.deployment.push();
        Ok(json!({
            "push": format!("http://{push}"),
            "console": format!("http://{push}/console"),
            "switches": self.world.switches,
            "orders": self.at_the_page,
        }))
    }

    /// Places the next orders when there is room for them: all that are wanted, in one style as in the other, or one of each when
    /// somebody may come to the page.
    fn place_by_itself(&mut self) -> Result<(), Failure> {
        let all = self.wanted.unwrap_or(2);
        while self.placed < all && self.sagas.unfinished() < AT_A_TIME {
            let (number, second) = (self.placed / 2, self.placed % 2 == 1);
            let style = if second {
                Style::Orchestration
            } else {
                Style::Choreography
            };
            // Of ten three are refused, each by another service.
            let (expected, customer, restaurant, total) = match number % 10 {
                3 => ("rejected", 2, "r-1", 99_900),
                6 => ("rejected", 3, "r-closed", 1250),
                9 => ("rejected", 9, "r-1", 1250),
                _ => ("completed", number % 8 + 1, "r-2", 1250),
            };
            let customer = format!("c-{customer}");
            let wanted = Wanted {
                style,
                customer,
                restaurant,
                total,
            };
            // At the page somebody may refuse a card that was good when it was ordered with.
            let expected = self.wanted.map(|_| expected);
            self.place(&wanted, expected)?;
        }
        Ok(())
    }

    /// Places an order, and lets its customer watch it; gives what there is to know of it.
    fn place(&mut self, wanted: &Wanted, expected: Option<&'static str>) -> Result<Value, Failure> {
        self.placed += 1;
        let order = format!("o-{}", self.placed);
        self.sagas.place(&order, expected);
        let placed = self.world.place(&order, wanted)?;
        let token = self.tokens.entry(wanted.customer.clone());
        let token = token.or_insert_with(|| self.world.deployment.token(&wanted.customer, &[]));
        let told = json!({
            "order": order,
            "style": wanted.style,
            "sagaType": placed.saga_type,
            "sagaId": placed.saga_id,
        });
        self.orders_of.insert(placed.saga_id.clone(), order.clone());
        self.clients.tell(&Watch {
            order,
            saga_type: placed.saga_type,
            saga_id: placed.saga_id,
            token: token.clone(),
        })?;
        Ok(told)
    }

    /// A token for the page.
    fn token(&self, operator: bool) -> String {
        if operator {
            return self.world.deployment.token("operator", &["*"]);
        }
        self.world.deployment.token(CUSTOMER, &[])
    }
}
