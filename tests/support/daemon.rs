//! The real daemon as a child process with a configuration of its own. Never asks it for anything that a user could not.

use std::{
    fs::{self, Permissions},
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use super::{
    guardian::Guardian,
    http,
    metrics::Metrics,
    process::{self, Port},
    wait_until,
};

/// How long it may take to be ready or to drain.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a daemon is started with.
pub(crate) struct Builder {
    program: PathBuf,
    config: String,
    files: Vec<(String, String)>,
    environment: Vec<(String, String)>,
    arguments: Vec<String>,
}

impl Builder {
    /// Puts a file beside the configuration, which may name it by this relative path.
    pub(crate) fn file(mut self, path: &str, text: &str) -> Self {
        self.files.push((path.into(), text.into()));
        self
    }

    /// Sets a variable of its environment.
    pub(crate) fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Adds arguments after `run`.
    pub(crate) fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments
            .extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }

    /// Starts it; returns at once, see [`Daemon::wait_ready`].
    pub(crate) fn start(self) -> Daemon {
        let daemon = self.prepare();
        daemon.start_again();
        daemon
    }

    /// Makes everything ready for [`Daemon::start_again`] and does not start it.
    pub(crate) fn prepare(self) -> Daemon {
        let guardian = Guardian::new("daemon", None, "KILL");
        let admin = Port::claim();
        let mut command = vec!["env".to_owned()];
        command.extend(
            self.environment
                .iter()
                .map(|(name, value)| format!("{name}={value}")),
        );
        let config = guardian.directory().join("outboxd.toml");
        command.extend([self.program.display().to_string(), "run".into()]);
        command.extend(["--config".into(), config.display().to_string()]);
        command.extend(self.arguments);
        let daemon = Daemon {
            guardian,
            admin,
            command,
        };
        daemon.configure(&self.config);
        for (path, text) in &self.files {
            daemon.write(path, text);
        }
        daemon
    }
}

/// A running (or ended) daemon; dropping it kills it and removes its directory.
pub(crate) struct Daemon {
    guardian: Guardian,
    admin: Port,
    command: Vec<String>,
}

impl Daemon {
    /// Prepares `program run --config …`: tests give `env!("CARGO_BIN_EXE_outboxd")` and a configuration without `[admin]`,
    /// which is added here with a free port and a socket in the daemon's directory.
    pub(crate) fn builder(program: impl Into<PathBuf>, config: &str) -> Builder {
        let program = program.into();
        Builder {
            program,
            config: config.into(),
            files: Vec::new(),
            environment: Vec::new(),
            arguments: Vec::new(),
        }
    }

    /// Starts it with nothing but a configuration.
    pub(crate) fn start(program: impl Into<PathBuf>, config: &str) -> Self {
        Self::builder(program, config).start()
    }

    /// Where `/metrics`, `/healthz` and `/readyz` are.
    pub(crate) fn admin(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.admin.number()).into()
    }

    /// Holds its configuration, control socket and output.
    pub(crate) fn directory(&self) -> &Path {
        self.guardian.directory()
    }

    /// Its configuration file, for other commands of the program.
    pub(crate) fn config(&self) -> PathBuf {
        self.directory().join("outboxd.toml")
    }

    /// Its process id, or `None` when it does not run.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.guardian.pid()
    }

    /// Writes another configuration, for the next start or reload; again without `[admin]`.
    pub(crate) fn configure(&self, config: &str) {
        assert!(
            !config.contains("[admin]"),
            "the helper adds [admin] itself"
        );
        let admin = format!(
            "\n[admin]\nlisten = \"{}\"\nsocket = \"ctl.sock\"\n",
            self.admin()
        );
        self.write("outboxd.toml", &(config.to_owned() + &admin));
    }

    /// Writes a file beside the configuration, which nobody else may read: it may be a secret.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let file = self.directory().join(path);
        fs::create_dir_all(file.parent().expect("below the directory")).expect("it is writable");
        fs::write(&file, text).expect("it is writable");
        fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("it is ours");
    }

    /// Starts it again with the same configuration, after it has ended.
    pub(crate) fn start_again(&self) {
        self.start_again_with(&[]);
    }

    /// The same with further variables, for this one life.
    pub(crate) fn start_again_with(&self, environment: &[(&str, &str)]) {
        let mut command = self.command.clone();
        let variables = environment
            .iter()
            .map(|(name, value)| format!("{name}={value}"));
        command.splice(1..1, variables);
        self.guardian.start(&command);
    }

    /// Waits until `/readyz` says 200; fails with its log when it ends instead.
    pub(crate) fn wait_ready(&self) {
        self.guardian.wait_ready(PATIENCE, || {
            http::get(self.admin(), "/readyz").is_ok_and(|(status, _)| status == 200)
        });
    }

    /// Scrapes `/metrics`.
    pub(crate) fn metrics(&self) -> Metrics {
        let (status, body) = http::get(self.admin(), "/metrics").expect("it listens");
        assert!(status == 200, "/metrics says {status}: {body}");
        Metrics::parse(&body)
    }

    /// Waits until the metrics are as wanted; also while nothing answers yet.
    pub(crate) fn wait_metrics(&self, what: &str, mut wanted: impl FnMut(&Metrics) -> bool) {
        wait_until(what, PATIENCE, || {
            match http::get(self.admin(), "/metrics") {
                Ok((200, body)) => wanted(&Metrics::parse(&body)),
                Ok(_) | Err(_) => false,
            }
        });
    }

    /// Sends a signal: `STOP`, `CONT`, `HUP`, `INT`, …
    pub(crate) fn signal(&self, name: &str) {
        self.guardian.signal(name);
    }

    /// Whether it is stopped by a signal and runs no instruction.
    pub(crate) fn is_stopped(&self) -> bool {
        self.pid().is_some_and(process::is_stopped)
    }

    /// SIGKILL, and waits for the end.
    pub(crate) fn kill(&self) {
        self.guardian.kill();
    }

    /// SIGTERM, and waits for the end: the exit status.
    pub(crate) fn terminate(&self) -> i32 {
        self.signal("TERM");
        self.wait()
    }

    /// Waits for its end: the exit status, or 128 and the number of the signal that ended it.
    pub(crate) fn wait(&self) -> i32 {
        self.guardian.wait(PATIENCE)
    }

    /// Lets a condition last, and fails if the daemon spins meanwhile, or writes a line whenever it tries something.
    pub(crate) fn stays_calm(&self, time: Duration) {
        let cpu = || self.metrics().sum("process_cpu_seconds_total");
        let lines = || self.log().lines().count();
        let (used, written) = (cpu(), lines());
        thread::sleep(time);
        let (used, written) = (cpu() - used, lines() - written);
        assert!(
            used < time.as_secs_f64() / 2.0,
            "{used} s of processor time in {time:?}"
        );
        assert!(written < 40, "{written} lines in {time:?}: {}", self.log());
    }

    /// All that it has written to stdout and stderr since its first start.
    pub(crate) fn log(&self) -> String {
        self.guardian.output("stdout") + &self.guardian.output("stderr")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines
                .get(lines.len().saturating_sub(60)..)
                .unwrap_or_default();
            #[expect(
                clippy::print_stderr,
                reason = "a test has failed, and this may say why"
            )]
            {
                eprintln!("the daemon's last words:\n{}", tail.join("\n"));
            }
        }
    }
}
