//! A PostgreSQL cluster of a chosen version, with the settings that a test wants. Never anybody's but ours: it listens on
//! 127.0.0.1 and in its own directory only.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
    time::Duration,
};

use super::{
    block_on,
    guardian::Guardian,
    installed,
    process::{self, Port},
};

/// The name of the superuser.
const SUPERUSER: &str = "postgres";

/// What a cluster is to be like; defaults are quick to start and lose everything with the machine.
pub(crate) struct Builder {
    version: u16,
    settings: Vec<(String, String)>,
    password: Option<String>,
    certificate: Option<(String, String)>,
    clients: Option<String>,
}

impl Builder {
    /// Adds settings, over the defaults and the earlier ones.
    pub(crate) fn settings(mut self, settings: &[(&str, &str)]) -> Self {
        self.settings.extend(
            settings
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into())),
        );
        self
    }

    /// Asks for SCRAM passwords on TCP; this one is the superuser's.
    pub(crate) fn password(mut self, password: &str) -> Self {
        self.password = Some(password.into());
        self
    }

    /// Offers TLS with this certificate and key in PEM.
    pub(crate) fn tls(mut self, certificate: &str, key: &str) -> Self {
        self.certificate = Some((certificate.into(), key.into()));
        self
    }

    /// Lets in by TLS only who shows a certificate of this authority, in PEM, for the role's name.
    pub(crate) fn clients(mut self, authority: &str) -> Self {
        self.clients = Some(authority.into());
        self
    }

    /// Makes the cluster and starts it.
    pub(crate) fn start(self) -> Postgres {
        // The postmaster takes its children along only when it is asked to end at once, not when it is killed.
        let guardian = Guardian::new("postgres", process::unprivileged(), "QUIT");
        let programs = installed::folder(&format!("postgresql-{}", self.version)).join("bin");
        let program = |name: &str| programs.join(name).display().to_string();
        let data = guardian.directory().join("data");
        let mut initdb = vec![program("initdb"), "--no-sync".into(), "--auth=trust".into()];
        initdb.extend([
            format!("--username={SUPERUSER}"),
            format!("--pgdata={}", data.display()),
        ]);
        initdb.extend(["--encoding=UTF8".into(), "--locale=C".into()]);
        if let Some(password) = &self.password {
            let file = guardian.directory().join("password");
            fs::write(&file, password).expect("the directory is writable");
            initdb.push(format!("--pwfile={}", file.display()));
        }
        guardian.run(&initdb);

        let port = Port::claim();
        self.configure(guardian.directory(), port.number());
        let command = vec![program("postgres"), "-D".into(), data.display().to_string()];
        let postgres = Postgres {
            password: self.password,
            port,
            command,
            guardian,
        };
        postgres.start_again();
        postgres
    }

    fn configure(&self, directory: &Path, port: u16) {
        let data = directory.join("data");
        let mut settings: Vec<(String, String)> = [
            ("listen_addresses", "127.0.0.1"),
            ("port", &port.to_string()),
            ("unix_socket_directories", &directory.display().to_string()),
            ("password_encryption", "scram-sha-256"),
            ("timezone", "UTC"),
            ("log_timezone", "UTC"),
            ("shared_buffers", "128MB"),
            ("max_connections", "200"),
            ("fsync", "off"),
        ]
        .map(|(name, value)| (name.into(), value.into()))
        .into();
        if let Some((certificate, key)) = &self.certificate {
            let clients = self.clients.as_deref().unwrap_or_default();
            for (name, text) in [
                ("server.crt", certificate.as_str()),
                ("server.key", key),
                ("clients.crt", clients),
            ] {
                let file = data.join(name);
                fs::write(&file, text).expect("the directory is writable");
                fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("it is ours");
                if let Some(user) = process::unprivileged() {
                    chown(&file, Some(user.id), Some(user.group)).expect("root may");
                }
            }
            settings.push(("ssl".into(), "on".into()));
            if self.clients.is_some() {
                settings.push(("ssl_ca_file".into(), "clients.crt".into()));
            }
        }
        settings.extend(self.settings.iter().cloned());
        let quoted = |(name, value): &(String, String)| {
            format!("{name} = '{}'\n", value.replace('\'', "''"))
        };
        let file = data.join("postgresql.conf");
        let text = fs::read_to_string(&file).expect("initdb writes it");
        let text = text + "\n" + &settings.iter().map(quoted).collect::<String>();
        fs::write(&file, text).expect("it is writable");

        let method = if self.password.is_some() {
            "scram-sha-256"
        } else {
            "trust"
        };
        let mut rules = ["local all all trust", "local replication all trust"]
            .map(str::to_owned)
            .to_vec();
        if self.clients.is_some() {
            rules.push("hostssl all all 127.0.0.1/32 cert".into());
        }
        let tcp =
            ["all", "replication"].map(|what| format!("host {what} all 127.0.0.1/32 {method}"));
        fs::write(
            data.join("pg_hba.conf"),
            [rules, tcp.to_vec()].concat().join("\n") + "\n",
        )
        .expect("it is writable");
    }
}

/// The last setting of a name counts.
fn append(file: &Path, lines: &str) {
    let text = fs::read_to_string(file).expect("it is there");
    fs::write(file, text + lines).expect("it is writable");
}

/// A running (or stopped, or killed) cluster; dropping it ends and removes it.
pub(crate) struct Postgres {
    // Ends before its port is given away.
    guardian: Guardian,
    port: Port,
    password: Option<String>,
    command: Vec<String>,
}

impl Postgres {
    /// Starts a cluster with the defaults; the version is 14 to 18.
    pub(crate) fn start(version: u16) -> Self {
        Self::builder(version).start()
    }

    /// For one that is not like the others.
    pub(crate) fn builder(version: u16) -> Builder {
        Builder {
            version,
            settings: Vec::new(),
            password: None,
            certificate: None,
            clients: None,
        }
    }

    /// A copy of this cluster that follows it asynchronously, at a port of its own. Restarts this one to make it.
    pub(crate) fn standby(&self) -> Self {
        let guardian = Guardian::new("standby", process::unprivileged(), "QUIT");
        let data = guardian.directory().join("data");
        self.stop_fast();
        let path = |path: &Path| path.display().to_string();
        let from = path(&self.directory().join("data"));
        guardian.run(&["cp".into(), "-a".into(), from, path(&data)]);
        self.start_again();
        let port = Port::claim();
        let own = [
            ("port", port.number().to_string()),
            ("unix_socket_directories", path(guardian.directory())),
            (
                "primary_conninfo",
                format!("host=127.0.0.1 port={} user={SUPERUSER}", self.port()),
            ),
        ];
        guardian.run(&["touch".into(), path(&data.join("standby.signal"))]);
        let lines = own.map(|(name, value)| format!("{name} = '{value}'\n"));
        append(&data.join("postgresql.conf"), &lines.concat());
        let mut command = self.command.clone();
        if let Some(last) = command.last_mut() {
            *last = path(&data);
        }
        let standby = Self {
            password: self.password.clone(),
            port,
            command,
            guardian,
        };
        standby.start_again();
        standby
    }

    /// Starts again, after a stop, at the address of another one: as a fail-over moves an address.
    pub(crate) fn move_to(&self, other: &Self) {
        let line = format!("port = '{}'\n", other.port());
        append(&self.directory().join("data/postgresql.conf"), &line);
        self.start_again();
    }

    /// The TCP port on 127.0.0.1, the same for life.
    pub(crate) fn port(&self) -> u16 {
        self.port.number()
    }

    /// `postgres://…` over TCP, without a password. The superuser is `postgres`, as is a database that is there already.
    pub(crate) fn url(&self, user: &str, database: &str) -> String {
        format!("postgres://{user}@127.0.0.1:{}/{database}", self.port())
    }

    /// Holds the cluster (`data`), its UNIX socket and its log (`stderr`).
    pub(crate) fn directory(&self) -> &Path {
        self.guardian.directory()
    }

    /// The postmaster's process id, or `None` when it does not run.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.guardian.pid()
    }

    /// Makes a database and gives the superuser's URL for it.
    pub(crate) fn create_database(&self, name: &str) -> String {
        self.execute(
            SUPERUSER,
            &format!(r#"create database "{}""#, name.replace('"', r#""""#)),
        );
        self.url(SUPERUSER, name)
    }

    /// Runs SQL statements in a database as the superuser.
    pub(crate) fn execute(&self, database: &str, statements: &str) {
        let mut target = tokio_postgres::Config::new();
        target
            .host("127.0.0.1")
            .port(self.port())
            .user(SUPERUSER)
            .dbname(database);
        target.password(self.password.as_deref().unwrap_or_default());
        block_on(async {
            let (client, connection) = target.connect(tokio_postgres::NoTls).await?;
            let run = async move { client.batch_execute(statements).await };
            let (result, _) = tokio::join!(run, connection);
            result
        })
        .unwrap_or_else(|error: tokio_postgres::Error| panic!("{statements}: {error:?}"));
    }

    /// Starts it after a stop or a kill, on the same port with the same data; returns when it accepts connections.
    pub(crate) fn start_again(&self) {
        self.guardian.start(&self.command);
        self.guardian
            .wait_ready(Duration::from_secs(180), || self.is_ready());
    }

    /// Ends all sessions and shuts down in order.
    pub(crate) fn stop_fast(&self) {
        self.guardian.signal("INT");
        self.guardian.wait(Duration::from_secs(180));
    }

    /// Ends everything without a checkpoint: the next start recovers.
    pub(crate) fn stop_immediate(&self) {
        self.guardian.signal("QUIT");
        self.guardian.wait(Duration::from_secs(180));
    }

    /// SIGKILL for all its processes, as if the machine had gone.
    pub(crate) fn kill(&self) {
        self.guardian.kill();
    }

    /// Freezes all its processes: connections stay open and silent.
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

    /// What `pg_ctl` waits for: the postmaster writes its state into the last line of its lock file, and its id into the first.
    fn is_ready(&self) -> bool {
        let lock =
            fs::read_to_string(self.directory().join("data/postmaster.pid")).unwrap_or_default();
        let lines: Vec<_> = lock.lines().map(str::trim).collect();
        let ours = lines.first().and_then(|pid| pid.parse().ok()) == self.pid();
        ours && matches!(lines.get(7), Some(&("ready" | "standby")))
    }
}
