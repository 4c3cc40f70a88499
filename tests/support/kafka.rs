//! A Kafka of one node, broker and controller in one process, that keeps everything in its directory. Never a model of a
//! cluster: one replica of everything, and no fsync.

use std::{
    collections::BTreeMap,
    env, fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer},
};
use uuid::Uuid;

use super::{
    guardian::Guardian,
    installed,
    process::{self, Port},
};

/// How long it may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(180);

/// What a broker is to be like; the defaults start quickest.
pub(crate) struct Builder {
    properties: BTreeMap<String, String>,
    listeners: Vec<Listener>,
    controller: Port,
    optimised: bool,
    passwords: Vec<String>,
}

/// Where clients of one kind come in.
struct Listener {
    name: String,
    protocol: String,
    port: Port,
}

impl Builder {
    /// Sets broker properties, over the defaults.
    pub(crate) fn properties(mut self, properties: &[(&str, &str)]) -> Self {
        let properties = properties
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()));
        self.properties.extend(properties);
        self
    }

    /// Adds a listener of a name beside the one that is `PLAINTEXT`; its protocol is `SSL`, `SASL_PLAINTEXT` or `SASL_SSL`. These
    /// properties are its own, such as `ssl.client.auth`; a PEM text may be a value.
    pub(crate) fn listener(
        mut self,
        name: &str,
        protocol: &str,
        properties: &[(&str, &str)],
    ) -> Self {
        self.listeners.push(Listener {
            name: name.into(),
            protocol: protocol.into(),
            port: Port::claim(),
        });
        let prefix = format!("listener.name.{}.", name.to_lowercase());
        let own = properties
            .iter()
            .map(|(name, value)| (prefix.clone() + name, value.trim().replace('\n', "\\n")));
        self.properties.extend(own);
        self
    }

    /// Knows this user from its beginning, by SCRAM-SHA-512.
    pub(crate) fn scram(mut self, user: &str, password: &str) -> Self {
        let user = format!("SCRAM-SHA-512=[name={user},password={password}]");
        self.passwords.extend(["--add-scram".to_owned(), user]);
        self
    }

    /// Where the plain listener will be, for a proxy that has to be there first.
    pub(crate) fn bootstrap(&self) -> String {
        address_of(&self.listeners, "PLAINTEXT")
    }

    /// For measurements: the optimising compiler and the collector that Kafka has in production. It starts slower.
    pub(crate) fn optimised(mut self) -> Self {
        self.optimised = true;
        self
    }

    /// Formats the storage and starts the broker.
    pub(crate) fn start(self) -> Kafka {
        let guardian = Guardian::new("kafka", process::unprivileged(), "KILL");
        let jars = installed::folder("kafka-4.3.0");
        let controller = format!("127.0.0.1:{}", self.controller.number());
        let file = |name: &str, properties: &BTreeMap<String, String>| {
            let lines = properties
                .iter()
                .map(|(name, value)| format!("{name}={value}\n"));
            let file = guardian.directory().join(name);
            fs::write(&file, lines.collect::<String>()).expect("the directory is writable");
            file.display().to_string()
        };
        let broker = file(
            "broker.properties",
            &self.broker(guardian.directory(), &controller),
        );
        let fence = file(
            "fence.properties",
            &fence(guardian.directory(), &controller),
        );

        // As long as Kafka's own, and never with a dash at its beginning.
        let cluster = Uuid::new_v4()
            .simple()
            .to_string()
            .chars()
            .take(22)
            .collect::<String>();
        let mut format = vec!["format", "--cluster-id", &cluster, "--config", &broker];
        format.extend(self.passwords.iter().map(String::as_str));
        guardian.run(&storage_tool(&jars, &format));
        let kafka = Kafka {
            command: java(&jars, !self.optimised, "WARN", "kafka.Kafka", &[&broker]),
            fence: java(&jars, true, "INFO", "kafka.Kafka", &[&fence]),
            killed: AtomicBool::new(false),
            guardian,
            listeners: self.listeners,
            controller: Some(self.controller),
            cluster,
        };
        kafka.start_again();
        kafka
    }

    fn broker(&self, directory: &Path, controller: &str) -> BTreeMap<String, String> {
        let address = |it: &Listener| format!("{}://127.0.0.1:{}", it.name, it.port.number());
        let listeners: Vec<_> = self.listeners.iter().map(address).collect();
        let protocol = |it: &Listener| format!(",{}:{}", it.name, it.protocol);
        let protocols: String = self.listeners.iter().map(protocol).collect();
        let mut properties = controller_properties(directory, controller);
        let broker = [
            ("process.roles", "broker,controller"),
            (
                "listeners",
                &format!("{},CONTROLLER://{controller}", listeners.join(",")),
            ),
            (
                "listener.security.protocol.map",
                &format!("CONTROLLER:PLAINTEXT{protocols}"),
            ),
            ("auto.create.topics.enable", "false"),
            ("group.initial.rebalance.delay.ms", "0"),
            ("offsets.topic.replication.factor", "1"),
            ("offsets.topic.num.partitions", "4"),
            ("transaction.state.log.replication.factor", "1"),
            ("transaction.state.log.min.isr", "1"),
            ("transaction.state.log.num.partitions", "4"),
            ("share.coordinator.state.topic.replication.factor", "1"),
            ("share.coordinator.state.topic.min.isr", "1"),
            // A pause, or a machine that is busy elsewhere, must not look like the broker's death.
            ("broker.session.timeout.ms", "600000"),
        ];
        properties.extend(broker.map(|(name, value)| (name.to_owned(), value.to_owned())));
        properties.extend(self.properties.clone());
        properties
    }
}

fn address_of(listeners: &[Listener], name: &str) -> String {
    let listener = listeners.iter().find(|it| it.name == name);
    let listener = listener.expect("asked for at its start");
    format!("127.0.0.1:{}", listener.port.number())
}

/// For a controller alone that takes the broker of its last life for dead at once, and says so in its log.
fn fence(directory: &Path, controller: &str) -> BTreeMap<String, String> {
    let mut properties = controller_properties(directory, controller);
    let fence = [
        ("process.roles", "controller"),
        ("listeners", &format!("CONTROLLER://{controller}")),
        ("broker.session.timeout.ms", "1"),
    ];
    properties.extend(fence.map(|(name, value)| (name.to_owned(), value.to_owned())));
    properties
}

fn controller_properties(directory: &Path, controller: &str) -> BTreeMap<String, String> {
    let properties = [
        ("node.id", "1"),
        ("controller.listener.names", "CONTROLLER"),
        ("controller.quorum.voters", &format!("1@{controller}")),
        ("log.dirs", &directory.join("data").display().to_string()),
    ];
    properties
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

/// The words that run Kafka's tool for the directories of a broker.
fn storage_tool(jars: &Path, arguments: &[&str]) -> Vec<String> {
    java(jars, true, "WARN", "kafka.tools.StorageTool", arguments)
}

/// The words that run a class of Kafka's.
fn java(jars: &Path, quickly: bool, level: &str, class: &str, arguments: &[&str]) -> Vec<String> {
    let java = env::var("JAVA_HOME").map_or("java".into(), |home| home + "/bin/java");
    let mut words = vec![
        java,
        "-Xmx512m".into(),
        "-XX:-UsePerfData".into(),
        "-Xlog:disable".into(),
    ];
    if quickly {
        words.extend(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"].map(str::to_owned));
        // One that is absent, or does not fit the machine's Java, is passed over.
        words.push(format!(
            "-XX:SharedArchiveFile={}/classes.jsa",
            jars.display()
        ));
    }
    words.push(format!("-Dlog4j2.level={level}"));
    words.extend(["-cp".into(), format!("{}/*", jars.display()), class.into()]);
    words.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    words
}

/// A running (or stopped, or killed) broker; dropping it ends and removes it.
pub(crate) struct Kafka {
    // Ends before its ports are given away.
    guardian: Guardian,
    listeners: Vec<Listener>,
    /// Of the first broker of a cluster, which is the controller, too.
    controller: Option<Port>,
    cluster: String,
    command: Vec<String>,
    fence: Vec<String>,
    killed: AtomicBool,
}

impl Kafka {
    /// Starts a broker with the defaults.
    pub(crate) fn start() -> Self {
        Self::builder().start()
    }

    /// For one that is not like the others.
    pub(crate) fn builder() -> Builder {
        Builder {
            properties: BTreeMap::new(),
            listeners: vec![Listener {
                name: "PLAINTEXT".into(),
                protocol: "PLAINTEXT".into(),
                port: Port::claim(),
            }],
            controller: Port::claim(),
            optimised: false,
            passwords: Vec::new(),
        }
    }

    /// A second broker of the same cluster, number 2. It takes part in what is created from now on; nothing moves to it.
    pub(crate) fn second(&self) -> Self {
        let controller = self.controller.as_ref().expect("asked of the first");
        let controller = format!("127.0.0.1:{}", controller.number());
        let guardian = Guardian::new("kafka", process::unprivileged(), "KILL");
        let jars = installed::folder("kafka-4.3.0");
        let builder = Self::builder();
        let mut properties = builder.broker(guardian.directory(), &controller);
        let listener = format!("PLAINTEXT://{}", builder.bootstrap());
        let own = [
            ("process.roles", "broker"),
            ("node.id", "2"),
            ("listeners", &listener),
        ];
        properties.extend(own.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let lines = properties
            .iter()
            .map(|(name, value)| format!("{name}={value}\n"));
        let file = guardian.directory().join("broker.properties");
        fs::write(&file, lines.collect::<String>()).expect("the directory is writable");
        let file = file.display().to_string();
        let format = ["format", "--cluster-id", &self.cluster, "--config", &file];
        guardian.run(&storage_tool(&jars, &format));
        let broker = Self {
            command: java(&jars, true, "WARN", "kafka.Kafka", &[&file]),
            fence: Vec::new(),
            killed: AtomicBool::new(false),
            guardian,
            listeners: builder.listeners,
            controller: None,
            cluster: self.cluster.clone(),
        };
        broker.start_again();
        broker
    }

    /// The address for clients, the same for life.
    pub(crate) fn bootstrap(&self) -> String {
        self.bootstrap_for("PLAINTEXT")
    }

    /// The address of the listener of a name.
    pub(crate) fn bootstrap_for(&self, name: &str) -> String {
        address_of(&self.listeners, name)
    }

    /// Holds its data and its log (`stdout`).
    pub(crate) fn directory(&self) -> &Path {
        self.guardian.directory()
    }

    /// Its process id, or `None` when it does not run.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.guardian.pid()
    }

    /// Starts it after a stop or a kill, on the same ports with the same data; returns when it answers clients.
    pub(crate) fn start_again(&self) {
        if self.killed.swap(false, Ordering::Relaxed) && self.controller.is_some() {
            self.fence();
        }
        self.guardian.start(&self.command);
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", self.bootstrap());
        client
            .set("reconnect.backoff.ms", "10")
            .set("reconnect.backoff.max.ms", "50");
        let client: BaseConsumer = client.create().expect("a client");
        self.guardian.wait_ready(PATIENCE, || {
            let answer = client.fetch_metadata(None, Duration::from_millis(200));
            answer.is_ok_and(|cluster| !cluster.brokers().is_empty())
        });
    }

    /// Lets a controller note the death of the broker in the log of the cluster before the broker is back.
    ///
    /// In a cluster another node does this. Here controller and broker die together, and a controller that finds its broker
    /// alive in the log believes that for the length of a session. Meanwhile the broker leads its partitions without being
    /// reachable, and when it is fenced after all, Kafka 4.3 takes partitions without a leader for deleted ones: a transaction
    /// whose commit was acknowledged just before the kill would stay undecided for ever (KAFKA-20734).
    fn fence(&self) {
        let before = self.guardian.output("stdout").len();
        self.guardian.start(&self.fence);
        let mut epoch: Option<i64> = None;
        self.guardian.wait_ready(PATIENCE, || {
            let log = self.guardian.output("stdout");
            let news = log.get(before..).unwrap_or_default();
            let fencing = news.split_once("Fencing broker 1 at epoch ");
            let words = fencing.map(|(_, rest)| rest.split(' '));
            epoch = words.and_then(|mut words| words.next()?.parse().ok());
            epoch.is_some()
        });
        // It has decided that; the end of this record in the cluster's log proves that it is written: broker, epoch, and one
        // tagged field, number 0 of one byte, "fenced", which is set.
        let epoch = epoch.expect("just found").to_be_bytes();
        let record = [&1_i32.to_be_bytes()[..], &epoch, &[1, 0, 1, 1]].concat();
        let log = self
            .directory()
            .join("data/__cluster_metadata-0/00000000000000000000.log");
        self.guardian.wait_ready(PATIENCE, || {
            let log = fs::read(&log).expect("the log of the cluster");
            log.windows(record.len()).any(|bytes| bytes == record)
        });
        self.guardian.kill();
    }

    /// Shuts down in order.
    pub(crate) fn stop(&self) {
        self.guardian.signal("TERM");
        self.guardian.wait(PATIENCE);
    }

    /// SIGKILL.
    pub(crate) fn kill(&self) {
        self.killed.store(true, Ordering::Relaxed);
        self.guardian.kill();
    }

    /// Freezes it: connections stay open and silent.
    pub(crate) fn pause(&self) {
        self.guardian.pause();
    }

    /// Ends the pause.
    pub(crate) fn resume(&self) {
        self.guardian.resume();
    }

    /// The last lines of its log.
    pub(crate) fn log_tail(&self) -> String {
        self.guardian.log_tail()
    }
}
