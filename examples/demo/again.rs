//! This program, started once more in another role: a process of its own that is told by lines of JSON, and reports by lines
//! of JSON. Never outlives its parent.

use std::{
    env,
    io::{self, BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    thread,
};

use serde::{Serialize, de::DeserializeOwned};

use crate::world::Failure;

/// The first line of its reports: it is at work.
const READY: &str = "ready";

/// What the process says first, when it is at work.
pub(crate) fn ready() -> io::Result<()> {
    writeln!(io::stdout().lock(), "{READY}")
}

/// Reports to the parent.
pub(crate) fn report(report: &impl Serialize) -> Result<(), Failure> {
    let line = serde_json::to_string(report)?;
    Ok(writeln!(io::stdout().lock(), "{line}")?)
}

/// What the parent tells, until it is gone. Blocks.
pub(crate) fn told() -> impl Iterator<Item = String> {
    io::stdin().lines().map_while(Result::ok)
}

/// The process, as its parent sees it; dropping it ends it.
pub(crate) struct Again(Child);

impl Again {
    /// Starts it; returns when it is at work. `report` hears of everything that it reports, and gets `None` when it has ended.
    pub(crate) fn start<Report: DeserializeOwned>(
        arguments: &[&str],
        report: impl Fn(Option<Report>) + Send + 'static,
    ) -> Result<Self, Failure> {
        let mut command = Command::new(env::current_exe()?);
        // Ctrl-C on the terminal is for the parent, who ends this one in its turn.
        command
            .args(arguments)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = command.spawn()?;
        let output = process.stdout.take().map(BufReader::new).into_iter();
        let mut lines = output.flat_map(BufRead::lines).map_while(Result::ok);
        let again = Self(process);
        if lines.next().as_deref() != Some(READY) {
            return Err(format!("`demo {}` cannot begin", arguments.join(" ")).into());
        }
        thread::spawn(move || {
            let reports = lines.map_while(|line| serde_json::from_str(&line).ok());
            reports.for_each(|it| report(Some(it)));
            report(None);
        });
        Ok(again)
    }

    /// Tells it something. Whether it has ended is told by `report`.
    pub(crate) fn tell(&mut self, what: &impl Serialize) -> Result<(), Failure> {
        let line = serde_json::to_string(what)?;
        if let Some(input) = &mut self.0.stdin {
            let _ = writeln!(input, "{line}");
        }
        Ok(())
    }
}

impl Drop for Again {
    fn drop(&mut self) {
        self.0.stdin = None;
        let _ = self.0.wait();
    }
}
