//! What processes have used of the machine, from /proc. Never an estimate: what cannot be read fails.

use std::{fs, ops::Sub};

use crate::support::process;

/// Linux counts the time of processes in hundredths of a second, whatever its own clock does.
const TICKS_A_SECOND: f64 = 100.0;

/// The servers that outboxd talks to.
#[derive(Clone, Copy)]
pub(crate) struct Servers {
    pub(crate) postgres: u32,
    pub(crate) kafka: u32,
}

/// Seconds of processor time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cpu {
    /// Of outboxd, or of this program where it takes outboxd's place.
    pub(crate) client: f64,
    pub(crate) postgres: f64,
    pub(crate) kafka: f64,
}

impl Servers {
    /// What they and `client` have used since they were started.
    pub(crate) fn cpu(self, client: u32) -> Cpu {
        Cpu {
            client: seconds(client),
            postgres: seconds(self.postgres),
            kafka: seconds(self.kafka),
        }
    }
}

impl Sub for Cpu {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            client: self.client - before.client,
            postgres: self.postgres - before.postgres,
            kafka: self.kafka - before.kafka,
        }
    }
}

impl Cpu {
    /// The same shared out among so many.
    pub(crate) fn per(self, count: f64) -> Self {
        Self {
            client: self.client / count,
            postgres: self.postgres / count,
            kafka: self.kafka / count,
        }
    }
}

/// The peak of a process' resident memory in MiB.
pub(crate) fn peak_memory_mib(process: u32) -> f64 {
    memory_kib(process, "VmHWM:") / 1024.0
}

/// The resident memory of a process in KiB, now.
pub(crate) fn resident_kib(process: u32) -> f64 {
    memory_kib(process, "VmRSS:")
}

fn memory_kib(process: u32, name: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kib.expect("the kernel tells it in kB")
}

/// Seconds of processor time of the thread that asks.
pub(crate) fn own_thread() -> f64 {
    ticks("thread-self").expect("it runs") / TICKS_A_SECOND
}

/// Seconds of processor time of a process with its children; those that have ended are counted once their parent has noticed.
pub(crate) fn seconds(process: u32) -> f64 {
    let children = process::children(process);
    // One that ends in between is counted in its parent's time the next time.
    let children: f64 = children
        .iter()
        .filter_map(|child| ticks(&child.to_string()))
        .sum();
    let own = ticks(&process.to_string()).unwrap_or_else(|| panic!("process {process} is gone"));
    (own + children) / TICKS_A_SECOND
}

fn ticks(process: &str) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name may hold blanks and parentheses; what follows the last one is the third field.
    let (_, fields) = stat.rsplit_once(')')?;
    let times = fields.split_whitespace().skip(11).take(4);
    Some(times.filter_map(|ticks| ticks.parse::<f64>().ok()).sum())
}
