//! The example `create_order` with all that it needs: a database for each service, the channels, outboxd, the four services and
//! the card company, each a process of its own. Never knows how a saga is to end.

use std::{
    cell::Cell,
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    daemon::Daemon, guardian::Guardian, http, kafka::Kafka, postgres::Postgres, process::Port,
    topics, wait_until,
};

/// The services; each has a database, a role and a source of its own by this name.
pub(crate) const SERVICES: [&str; 4] = ["order", "consumer", "kitchen", "accounting"];

/// What the services publish to, each with as many partitions: what is said of one order is read by one instance.
pub(crate) const TOPICS: [&str; 10] = [
    "order.events",
    "consumer.events",
    "kitchen.events",
    "accounting.events",
    "order.commands",
    "consumer.commands",
    "kitchen.commands",
    "accounting.commands",
    "consumer.documents",
    "create-order-saga.replies",
];

/// How both sagas should go.
const DEFINITIONS: [(&str, &str); 2] = [
    (
        "sagas/choreographed.toml",
        include_str!("../../examples/create_order/sagas/choreographed.toml"),
    ),
    (
        "sagas/orchestrated.toml",
        include_str!("../../examples/create_order/sagas/orchestrated.toml"),
    ),
];

/// What they say of how long a saga may stand still.
const LIMIT: &str = "30s";

/// Who makes the customers' tokens.
const ISSUER: &str = "https://id.example";

/// How long a service may take to be there.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where the programs are.
pub(crate) struct Programs {
    /// `outboxd`.
    pub(crate) outboxd: PathBuf,
    /// `create_order`.
    pub(crate) example: PathBuf,
}

/// What else outboxd is to be started with.
pub(crate) struct Wishes<'a> {
    /// More of its configuration, which ends within `[push]`.
    pub(crate) config: &'a str,
    /// How long a saga may stand still before it is stuck.
    pub(crate) limit: &'a str,
    /// More arguments.
    pub(crate) arguments: &'a [&'a str],
}

impl Default for Wishes<'_> {
    fn default() -> Self {
        Self {
            config: "",
            limit: LIMIT,
            arguments: &[],
        }
    }
}

/// Hears what was started, more of it, and how long that took.
pub(crate) type Told<'a> = &'a (dyn Fn(&str, &str, Duration) + Sync);

/// All of it; dropping it stops it.
pub(crate) struct Deployment {
    // In the order in which they are to end.
    parts: BTreeMap<&'static str, Part>,
    pub(crate) daemon: Daemon,
    pub(crate) kafka: Kafka,
    pub(crate) postgres: Postgres,
    programs: Programs,
    /// More of outboxd's configuration.
    config: String,
    orders: Port,
    cards: Port,
    push: Port,
}

/// A process of the example, which is started again when it ends by itself.
struct Part {
    guardian: Guardian,
    command: Vec<String>,
    wanted: Cell<bool>,
    lives: Cell<u32>,
}

impl Deployment {
    /// Starts everything; returns when orders can be placed.
    pub(crate) fn start(programs: Programs, wishes: &Wishes<'_>, told: Told<'_>) -> Self {
        let (postgres, kafka) = thread::scope(|scope| {
            let postgres = scope.spawn(|| databases(&programs.outboxd, told));
            let kafka = kafka(told);
            (postgres.join().expect("see above"), kafka)
        });
        let (orders, cards, push) = (Port::claim(), Port::claim(), Port::claim());
        let began = Instant::now();
        let config = configuration(&SERVICES, &postgres, &kafka, &push) + wishes.config;
        let mut daemon = Daemon::builder(&programs.outboxd, &config).file("secret", &secret());
        for (path, text) in DEFINITIONS {
            daemon = daemon.file(path, &text.replace(LIMIT, wishes.limit));
        }
        let daemon = daemon.arguments(wishes.arguments).start();
        daemon.wait_ready();
        told("outboxd", "to Kafka, and on to clients", began.elapsed());

        let mut deployment = Self {
            parts: BTreeMap::new(),
            daemon,
            kafka,
            postgres,
            programs,
            config: wishes.config.to_owned(),
            orders,
            cards,
            push,
        };
        let began = Instant::now();
        deployment.prepare();
        for part in SERVICES.into_iter().chain(["cards"]) {
            deployment.begin(part);
        }
        for part in [deployment.orders(), deployment.cards()] {
            wait_until("the services", PATIENCE, || {
                deployment.tend();
                http::get(part, "/").is_ok()
            });
        }
        told("four services", "and a card company", began.elapsed());
        deployment
    }

    /// Where orders are placed.
    pub(crate) fn orders(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.orders.number()).into()
    }

    /// Where the card company is.
    pub(crate) fn cards(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.cards.number()).into()
    }

    /// Where clients connect.
    pub(crate) fn push(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.push.number()).into()
    }

    /// A token for a user, as the issuer would give it after a login.
    pub(crate) fn token(&self, user: &str, grants: &[&str]) -> String {
        let mut create = Command::new(&self.programs.outboxd);
        create.args(["token", "create", "--sub", user, "--ttl", "30d"]);
        for saga_type in grants {
            create.args(["--grant", &json!({ "saga_type": saga_type }).to_string()]);
        }
        let done = create.arg("--config").arg(self.daemon.config()).output();
        let done = done.expect("outboxd starts");
        assert!(done.status.success(), "{done:?}");
        let token = String::from_utf8(done.stdout).expect("a token is text");
        token.trim().to_owned()
    }

    /// Asks the order service, as often as it takes to get an answer; gives the status and what it says.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let mut answer = None;
        wait_until("an answer of the order service", PATIENCE, || {
            self.tend();
            answer = http::send(self.orders(), method, path, &body.to_string()).ok();
            answer.is_some()
        });
        let (status, said) = answer.expect("it has come");
        (status, serde_json::from_str(&said).unwrap_or_default())
    }

    /// Tells the card company how to answer: `refuses`, `is_silent`.
    pub(crate) fn mood(&self, mood: &Value) {
        let told = http::send(self.cards(), "PUT", "/mood", &mood.to_string());
        assert_eq!(told.expect("the card company answers").0, 204, "{mood}");
    }

    /// Starts a part; nothing happens when it runs.
    pub(crate) fn begin(&self, part: &str) {
        self.begin_with(part, &[]);
    }

    /// The same, in this life with further arguments.
    pub(crate) fn begin_with(&self, part: &str, arguments: &[&str]) {
        let part = &self.parts[part];
        part.wanted.set(true);
        if part.guardian.pid().is_none() {
            part.start(arguments);
        }
    }

    /// SIGKILL; it stays away until it is started.
    pub(crate) fn kill(&self, part: &str) {
        let part = &self.parts[part];
        part.wanted.set(false);
        part.guardian.kill();
    }

    /// How often a part was started.
    pub(crate) fn lives(&self, part: &str) -> u32 {
        self.parts[part].lives.get()
    }

    /// What a part has logged so far.
    pub(crate) fn log(&self, part: &str) -> String {
        self.parts[part].guardian.output("stderr")
    }

    /// Kills outboxd, and starts one that relays these services only.
    pub(crate) fn relay_only(&self, services: &[&str]) {
        let config = configuration(services, &self.postgres, &self.kafka, &self.push);
        self.daemon.kill();
        self.daemon.configure(&(config + &self.config));
        self.daemon.start_again();
        self.daemon.wait_ready();
    }

    /// Starts again what has ended by itself, as a supervisor does.
    pub(crate) fn tend(&self) {
        for part in self.parts.values() {
            if part.wanted.get() && part.guardian.pid().is_none() {
                part.start(&[]);
            }
        }
    }

    /// Everything but outboxd, ready to be started.
    fn prepare(&mut self) {
        let (listen, cards) = (self.orders().to_string(), self.cards().to_string());
        let kafka = self.kafka.bootstrap();
        let mut add = |name: &'static str, arguments: Vec<&str>| {
            let program = self.programs.example.display().to_string();
            let arguments = arguments.into_iter().map(str::to_owned);
            let part = Part {
                guardian: Guardian::new("service", None, "KILL"),
                command: [program].into_iter().chain(arguments).collect(),
                wanted: Cell::new(false),
                lives: Cell::new(0),
            };
            self.parts.insert(name, part);
        };
        for service in SERVICES {
            let url = self.postgres.url(service, service);
            let mut arguments = vec!["service", service, "--database", &url, "--kafka", &kafka];
            match service {
                "order" => arguments.extend(["--listen", &listen]),
                "accounting" => arguments.extend(["--cards", &cards]),
                _ => {}
            }
            add(service, arguments);
        }
        add("cards", vec!["cards", "--listen", &cards]);
        add("twice", vec!["twice", "--kafka", &kafka]);
    }
}

impl Part {
    fn start(&self, arguments: &[&str]) {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned());
        let command: Vec<_> = self.command.iter().cloned().chain(arguments).collect();
        self.guardian.start(&command);
        self.lives.set(self.lives.get() + 1);
    }
}

/// Starts PostgreSQL and makes all databases ready, as their owners would.
fn databases(outboxd: &Path, told: Told<'_>) -> Postgres {
    let began = Instant::now();
    let postgres = Postgres::start(18);
    // One role for outboxd in all databases, and one for each service in its own.
    postgres.execute("postgres", "create role outboxd login");
    for service in SERVICES {
        postgres.execute("postgres", &format!(r#"create role "{service}" login"#));
        postgres.create_database(service);
        let grant = format!(r#"grant create on schema public to "{service}""#);
        postgres.execute(service, &grant);
    }
    told(
        "PostgreSQL 18",
        "a database for each service",
        began.elapsed(),
    );

    let began = Instant::now();
    for service in SERVICES {
        let mut install = Command::new(outboxd);
        let owner = postgres.url("postgres", service);
        install.args(["sql", "install", "--url", &owner]);
        install.args(["--relay-role", "outboxd", "--app-role", service]);
        // Rows are kept for as long as anybody looks at this.
        let done = install.args(["--slot", "24h"]).output();
        let done = done.expect("outboxd starts");
        assert!(done.status.success(), "{done:?}");
    }
    told("outboxd sql install", "the outbox in each", began.elapsed());
    postgres
}

/// Starts Kafka with the channels. outboxd makes its own topics.
fn kafka(told: Told<'_>) -> Kafka {
    let began = Instant::now();
    let kafka = Kafka::start();
    for topic in TOPICS {
        topics::create_topic(&kafka.bootstrap(), topic, 3, &[]);
    }
    told("Kafka 4.3", "ten channels", began.elapsed());
    kafka
}

/// What outboxd's configuration has to say at least, but for the address of its /metrics.
fn configuration(services: &[&str], postgres: &Postgres, kafka: &Kafka, push: &Port) -> String {
    let sources = services.iter().map(|service| {
        let url = postgres.url("outboxd", service);
        format!("\n[sources.{service}]\nurl = \"{url}\"\n")
    });
    format!(
        "[kafka]\nbootstrap_servers = \"{}\"\n{}\n[push.auth]\nissuer = \"{ISSUER}\"\nalgorithms = [\"HS256\"]\n\
         keys = {{ secret = {{ file = \"secret\" }} }}\n\n[sagas]\ndefinitions = \"sagas/*.toml\"\n\n[push]\nlisten = \"127.0.0.1:{}\"\n",
        kafka.bootstrap(),
        sources.collect::<String>(),
        push.number(),
    )
}

/// Nobody can guess it.
fn secret() -> String {
    format!("{}{}", uuid::Uuid::new_v4(), uuid::Uuid::new_v4())
}
