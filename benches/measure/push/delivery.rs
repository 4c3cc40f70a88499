//! What outboxd takes to show one change to many clients, beside a loop that does nothing but send the same bytes to as many
//! sockets. Server and clients run on processors of their own where there are several.

use std::{
    fs,
    io::Write,
    net::{Ipv4Addr, TcpListener, TcpStream},
    sync::atomic::Ordering::Relaxed,
    thread,
    time::{Duration, Instant},
};

use super::crowd::{Crowd, Login};
use super::feed::Feed;
use super::site::Site;
use super::{Cores, SAGA_TYPE, clients, pin};
use crate::Bench;
use crate::options::Options;
use crate::support::{light, unique};
use crate::table::{Row, Table, median};
use crate::usage::{own_thread, seconds};

/// Clients of the one saga.
const CLIENTS: usize = 500;
/// From one change to the next: long enough for a write each.
const INTERVAL: Duration = Duration::from_millis(10);
const WATCHED: &str = "watched";
const UNWATCHED: &str = "unwatched";

/// Seconds of processor time of one change.
struct Round {
    unwatched: f64,
    watched: f64,
    bare: f64,
    news_per_message: f64,
}

pub(super) fn measure(bench: &Bench, options: &Options, table: &mut Table) {
    eprintln!("push-delivery");
    let count = clients(options.connections.min(CLIENTS));
    let prefix = unique("bench");
    let site = Site::start(&bench.kafka, &prefix, &[], "drain = \"0s\"\n");
    site.daemon.wait_ready();
    let (own, daemon) = (std::process::id(), site.daemon.pid().expect("it runs"));
    pin(own, Cores::Clients);
    pin(daemon, Cores::Servers);
    let login = |number| Login {
        token: site.token(&format!("user-{number}"), &[SAGA_TYPE]),
        saga_id: WATCHED.into(),
    };
    let crowd = Crowd::open(site.address(), (0..count).map(login).collect());
    let feed = Feed::new(bench, &prefix);
    let mut field = Field {
        daemon,
        feed,
        crowd,
        clients: u64::try_from(count).expect("it fits"),
        changes: changes(options),
    };
    // The first is a snapshot, and the bare loop needs a change to repeat.
    field.watched(2);
    let bare = Bare::open(count, field.sample());
    let rounds: Vec<Round> = (0..options.rounds).map(|_| field.round(&bare)).collect();
    field.crowd.close();
    bare.crowd.close();
    pin(own, Cores::All);
    assert!(site.daemon.terminate() == 0, "{}", site.daemon.log());
    show(&rounds, count, bare.message.len(), table);
}

fn changes(options: &Options) -> u64 {
    let rounds = u32::try_from(options.rounds).expect("it fits");
    let changes = (options.duration / rounds).as_millis() / INTERVAL.as_millis();
    u64::try_from(changes).expect("it fits").max(10)
}

fn show(rounds: &[Round], count: usize, bytes: usize, table: &mut Table) {
    let each = f64::from(u32::try_from(count).expect("it fits"));
    let of = |figure: &dyn Fn(&Round) -> f64| median(rounds.iter().map(figure).collect());
    let outboxd = of(&|round| (round.watched - round.unwatched) / each * 1e6);
    let bare = of(&|round| round.bare / each * 1e6);
    let ratio = of(&|round| (round.watched - round.unwatched) / round.bare);
    table.section(
        &format!(
            "One saga with {count} clients, a change every {} ms, {bytes} bytes each; median of {}",
            INTERVAL.as_millis(),
            rounds.len()
        ),
        ["outboxd", "bare send", "without clients"],
    );
    table.row(
        Row::new("CPU µs per delivery", 2, [Some(outboxd), Some(bare), None])
            .note(format!("{ratio:.2} of bare")),
    );
    let all = of(&|round| round.watched * 1e6);
    let alone = of(&|round| round.unwatched * 1e6);
    table.row(Row::new(
        "CPU µs per change",
        0,
        [Some(all), Some(bare * each), Some(alone)],
    ));
    let joined = of(&|round| round.news_per_message);
    table.row(Row::new(
        "changes per write",
        2,
        [Some(joined), Some(1.0), None],
    ));
}

/// What is fed, and who looks on.
struct Field {
    daemon: u32,
    feed: Feed,
    crowd: Crowd,
    clients: u64,
    changes: u64,
}

impl Field {
    fn round(&mut self, bare: &Bare) -> Round {
        let changes = count(self.changes);
        let before = seconds(self.daemon);
        self.feed(UNWATCHED, self.changes);
        let unwatched = seconds(self.daemon);
        let messages = self.messages();
        self.watched(self.changes);
        let watched = seconds(self.daemon);
        let messages = self.messages() - messages;
        Round {
            unwatched: (unwatched - before) / changes,
            watched: (watched - unwatched) / changes,
            bare: bare.send(self.changes) / changes,
            news_per_message: count(self.changes * self.clients) / count(messages),
        }
    }

    /// Waits until everybody has seen them; fails when somebody sees more.
    fn watched(&mut self, changes: u64) {
        let wanted = self.crowd.news() + changes * self.clients;
        self.feed(WATCHED, changes);
        self.crowd
            .wait("changes", |seen| seen.news.load(Relaxed) >= wanted);
        assert!(self.crowd.news() == wanted, "a change came twice");
    }

    fn feed(&self, saga_id: &str, changes: u64) {
        at_intervals(changes, || self.feed.send(saga_id));
        self.feed.flush();
    }

    fn messages(&self) -> u64 {
        self.crowd.seen.messages.load(Relaxed)
    }

    fn sample(&self) -> &[u8] {
        let sample = self.crowd.seen.sample.get();
        sample.expect("a change has been seen")
    }
}

/// The least server: it has the bytes already, and sockets that take them.
struct Bare {
    sockets: Vec<TcpStream>,
    message: Vec<u8>,
    crowd: Crowd,
}

impl Bare {
    fn open(count: usize, line: &[u8]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let (sockets, crowd) = thread::scope(|scope| {
            let sockets = scope.spawn(|| {
                let accepted = listener.incoming().take(count).map(|stream| {
                    let stream = stream.expect("a client");
                    stream.set_nodelay(true).expect("a socket");
                    stream
                });
                accepted.collect()
            });
            let crowd = Crowd::listeners(address, count);
            (sockets.join().unwrap(), crowd)
        });
        Self {
            sockets,
            message: light::message(line),
            crowd,
        }
    }

    /// Sends so many to each at the same pace; gives the processor time.
    fn send(&self, changes: u64) -> f64 {
        let wanted = self.crowd.news() + changes * count_of(&self.sockets);
        let took = thread::scope(|scope| {
            let sender = scope.spawn(|| {
                let thread = fs::read_link("/proc/thread-self").expect("Linux");
                let number = thread
                    .file_name()
                    .and_then(|name| name.to_str()?.parse().ok());
                pin(number.expect("its number"), Cores::Servers);
                let before = own_thread();
                at_intervals(changes, || {
                    for mut socket in &self.sockets {
                        let sent = socket.write(&self.message).expect("a client");
                        assert!(sent == self.message.len(), "a client does not read");
                    }
                });
                own_thread() - before
            });
            sender.join().unwrap()
        });
        self.crowd
            .wait("what was sent", |seen| seen.news.load(Relaxed) >= wanted);
        took
    }
}

fn at_intervals(times: u64, mut act: impl FnMut()) {
    let mut due = Instant::now();
    for _ in 0..times {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        act();
        due = (due + INTERVAL).max(Instant::now());
    }
}

fn count_of<T>(many: &[T]) -> u64 {
    u64::try_from(many.len()).expect("it fits")
}

fn count(number: u64) -> f64 {
    f64::from(u32::try_from(number).expect("fewer than four thousand millions"))
}
