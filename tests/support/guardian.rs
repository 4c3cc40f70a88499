//! Runs one server under a guardian, a small shell that stops it and removes its directory when this process ends, however
//! it ends. Never waits for the server's own consent: who wants an orderly stop asks for it with a signal first.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, TryRecvError, channel},
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    process::{self, User},
    wait_until,
};

/// A directory and at most one server at a time that runs in it.
pub(crate) struct Guardian {
    name: &'static str,
    directory: PathBuf,
    shell: Child,
    state: Mutex<State>,
}

struct State {
    /// The only write end of the guardian's input: it closes with this process.
    commands: Option<ChildStdin>,
    answers: Receiver<String>,
    server: Option<u32>,
    /// How the last server ended: its exit status, or 128 and the number of the signal.
    status: Option<i32>,
}

impl Guardian {
    /// Starts a guardian with an empty directory of its own, which belongs to `user` (`None`: to whoever runs this).
    ///
    /// `last_signal` is what ends the server when this process is gone: `KILL`, or what makes it take its children along.
    pub(crate) fn new(name: &'static str, user: Option<User>, last_signal: &str) -> Self {
        let mut command = Command::new("sh");
        command.args([
            "-c",
            include_str!("guardian.sh"),
            "guardian",
            name,
            last_signal,
        ]);
        // A process group of its own, so that Ctrl-C on a terminal does not reach it.
        command
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if let Some(user) = user {
            command.uid(user.id).gid(user.group).current_dir("/");
        }
        let mut shell = command.spawn().expect("sh starts");
        let output = shell.stdout.take().expect("it is a pipe");
        let commands = shell.stdin.take();
        let (sender, answers) = channel();
        thread::spawn(move || {
            let lines = BufReader::new(output).lines().map_while(Result::ok);
            let _ = lines.map(|line| sender.send(line)).find(Result::is_err);
        });
        let first = answers
            .recv()
            .expect("the guardian makes a directory, or says on stderr why not");
        let directory = first
            .strip_prefix("directory ")
            .expect("its first answer")
            .into();
        let state = Mutex::new(State {
            commands,
            answers,
            server: None,
            status: None,
        });
        Self {
            name,
            directory,
            shell,
            state,
        }
    }

    /// The directory, removed together with this value.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Starts a server whose output goes to `stdout` and `stderr` in the directory.
    pub(crate) fn start(&self, command: &[String]) {
        assert!(self.pid().is_none(), "{} runs already", self.name);
        let mut state = self.state();
        let commands = state.commands.as_mut().expect("open until drop");
        writeln!(commands, "{}", quoted(command)).expect("the guardian reads");
        let answer = state.answers.recv().expect("the guardian answers");
        let pid = answer
            .strip_prefix("started ")
            .and_then(|pid| pid.parse().ok());
        state.server = Some(pid.unwrap_or_else(|| panic!("the guardian says {answer:?}")));
        state.status = None;
    }

    /// Runs a command to its end, which must be a success.
    pub(crate) fn run(&self, command: &[String]) {
        self.start(command);
        let status = self.wait(Duration::from_secs(180));
        assert!(
            status == 0,
            "{command:?} ended with {status}:\n{}",
            self.log_tail()
        );
    }

    /// The server's process id, or `None` when it does not run.
    pub(crate) fn pid(&self) -> Option<u32> {
        let mut state = self.state();
        match state.answers.try_recv() {
            Ok(answer) => {
                let status = answer
                    .strip_prefix("ended ")
                    .and_then(|status| status.parse().ok());
                state.status =
                    Some(status.unwrap_or_else(|| panic!("the guardian says {answer:?}")));
                state.server = None;
            }
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => panic!("the guardian of {} is gone", self.name),
        }
        state.server
    }

    /// Waits for the end of the server: its exit status, or 128 and the number of the signal.
    pub(crate) fn wait(&self, patience: Duration) -> i32 {
        wait_until(&format!("the end of {}", self.name), patience, || {
            self.pid().is_none()
        });
        self.state().status.expect("it has run")
    }

    /// Waits until `ready`, and fails at once when the server ends instead.
    pub(crate) fn wait_ready(&self, patience: Duration, mut ready: impl FnMut() -> bool) {
        let deadline = Instant::now() + patience;
        while !ready() {
            assert!(
                self.pid().is_some(),
                "{} ended at its start:\n{}",
                self.name,
                self.log_tail()
            );
            assert!(
                Instant::now() < deadline,
                "{} is not ready:\n{}",
                self.name,
                self.log_tail()
            );
            thread::sleep(process::POLL);
        }
    }

    /// Sends a signal (`TERM`, `STOP`, …) to the server itself; nothing happens when it does not run.
    pub(crate) fn signal(&self, name: &str) {
        process::signal(name, self.pid().as_slice());
    }

    /// Kills the server and every child of it, and waits for the end.
    pub(crate) fn kill(&self) {
        let Some(pid) = self.pid() else { return };
        // Stopped first, so that it has no more children than those found.
        process::signal("STOP", &[pid]);
        let children = process::children(pid);
        process::signal("KILL", &children);
        process::signal("KILL", &[pid]);
        self.wait(Duration::from_secs(10));
        wait_until("the end of its children", Duration::from_secs(10), || {
            !children.iter().any(|child| process::runs(*child))
        });
    }

    /// Stops the server and its children in the middle of whatever they do.
    pub(crate) fn pause(&self) {
        self.signal("STOP");
        process::signal(
            "STOP",
            &self.pid().map(process::children).unwrap_or_default(),
        );
    }

    /// Lets them go on.
    pub(crate) fn resume(&self) {
        process::signal(
            "CONT",
            &self.pid().map(process::children).unwrap_or_default(),
        );
        self.signal("CONT");
    }

    /// What the server has written to `stdout` or `stderr` so far.
    pub(crate) fn output(&self, stream: &str) -> String {
        let bytes = std::fs::read(self.directory.join(stream)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The last lines of both.
    pub(crate) fn log_tail(&self) -> String {
        let both = self.output("stdout") + &self.output("stderr");
        let lines: Vec<_> = both.lines().collect();
        lines
            .get(lines.len().saturating_sub(40)..)
            .unwrap_or_default()
            .join("\n")
    }

    /// Poisoned only by a test that has failed already.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        self.state().commands = None;
        let _ = self.shell.wait();
    }
}

/// One line for the shell that means exactly these words.
fn quoted(words: &[String]) -> String {
    let quote = |word: &String| format!("'{}'", word.replace('\'', r"'\''"));
    words.iter().map(quote).collect::<Vec<_>>().join(" ")
}
