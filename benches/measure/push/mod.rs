//! What clients take: memory while nothing happens, processor time for each change they see, and how long a change is on its
//! way. Never counts the load's own work as outboxd's: that is done by this program, outboxd is a process of its own.

mod crowd;
mod delivery;
mod feed;
mod latency;
mod memory;
#[path = "../../../tests/it/push/site.rs"]
#[expect(clippy::indexing_slicing, reason = "it is a test's")]
#[allow(dead_code, reason = "made for the tests, which need more of it")]
mod site;
mod start;

use std::{fs, process::Command, sync::LazyLock, thread};

use self::crowd::Login;
use self::site::Site;
use crate::Bench;
use crate::options::Options;
use crate::sample;
use crate::table::Table;

/// The type of all sagas here.
const SAGA_TYPE: &str = "create-order";
/// Files and sockets of a process beside those of clients.
const OTHER_FILES: usize = 500;

pub(crate) fn measure(bench: &Bench, options: &Options, table: &mut Table) {
    if options.wants("push-memory") {
        memory::measure(bench, options, table);
    }
    if options.wants("push-delivery") {
        delivery::measure(bench, options, table);
    }
    if options.wants("push-latency") {
        latency::measure(bench, options, table);
    }
    if options.wants("push-start") {
        start::measure(bench, options, table);
    }
}

/// The saga of each client is its own: its user has the saga's name.
fn logins(site: &Site, keys: std::ops::Range<usize>) -> Vec<Login> {
    let login = |number| {
        let saga_id = sample::key(number);
        let token = site.token(&saga_id, &[]);
        Login { token, saga_id }
    };
    keys.map(login).collect()
}

/// Lets this program and the daemons that it starts open files for so many clients; gives how many are possible.
fn clients(wanted: usize) -> usize {
    let limits = fs::read_to_string("/proc/self/limits").expect("Linux");
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let mut numbers = line.expect("the kernel names it").split_whitespace();
    // `unlimited` is no number.
    let mut number = || {
        let word = numbers.next().unwrap_or_default();
        word.parse().unwrap_or(usize::MAX)
    };
    let (soft, hard) = (number(), number());
    let needed = wanted + OTHER_FILES;
    if soft >= needed {
        return wanted;
    }
    let raised = needed.min(hard);
    let own = std::process::id().to_string();
    let status = Command::new("prlimit")
        .args(["--pid", &own, &format!("--nofile={raised}:")])
        .status();
    let limit = match status {
        Ok(status) if status.success() => raised,
        Ok(_) | Err(_) => soft,
    };
    if limit >= needed {
        return wanted;
    }
    let possible = limit.saturating_sub(OTHER_FILES).max(1);
    eprintln!(
        "{possible} clients instead of {wanted}: a process may open {limit} files (`ulimit -n`)"
    );
    possible
}

/// Some of the processors of this machine.
#[derive(Clone, Copy)]
enum Cores {
    /// Where the server runs that is measured.
    Servers,
    /// Where its clients run.
    Clients,
    All,
}

/// Keeps every thread of a process, or one thread, on some processors.
fn pin(task: u32, cores: Cores) {
    // Before any was pinned.
    static ALL: LazyLock<usize> =
        LazyLock::new(|| thread::available_parallelism().map_or(1, usize::from));
    let (count, half) = (*ALL, *ALL / 2);
    let list = match cores {
        Cores::Servers if half > 0 => format!("0-{}", half - 1),
        Cores::Clients if half > 0 => format!("{half}-{}", count - 1),
        Cores::Servers | Cores::Clients | Cores::All => format!("0-{}", count - 1),
    };
    let output = Command::new("taskset")
        .args(["-a", "-c", "-p", &list, &task.to_string()])
        .output();
    if !output.is_ok_and(|output| output.status.success()) {
        eprintln!("server and clients share processors: taskset does not work here");
    }
}
