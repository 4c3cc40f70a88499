//! What the helpers ask of the operating system: signals, children, an unprivileged user, ports that stay free. Never keeps
//! anything outside this process that would outlive it.

use std::{
    fs,
    hash::{BuildHasher, Hasher, RandomState},
    net::{Ipv4Addr, TcpListener},
    os::{
        linux::net::SocketAddrExt,
        unix::{
            fs::MetadataExt,
            net::{SocketAddr, UnixListener},
        },
    },
    process::Command,
    time::Duration,
};

/// How often a condition is looked at.
pub(crate) const POLL: Duration = Duration::from_millis(10);

/// A user of the system.
#[derive(Clone, Copy, Debug)]
pub(crate) struct User {
    /// Its number.
    pub(crate) id: u32,
    /// The number of its group.
    pub(crate) group: u32,
}

/// `nobody` when this process is root, which PostgreSQL refuses to be; else `None`: servers run as we do.
pub(crate) fn unprivileged() -> Option<User> {
    let root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    root.then_some(User {
        id: 65534,
        group: 65534,
    })
}

/// Sends a signal (`TERM`, `KILL`, …); to a process that is gone already, without effect.
pub(crate) fn signal(name: &str, processes: &[u32]) {
    let Some((first, others)) = processes.split_first() else {
        return;
    };
    let mut command = Command::new("sh");
    command.args([
        "-c",
        r#"kill -s "$0" "$@" 2>/dev/null"#,
        name,
        &first.to_string(),
    ]);
    command
        .args(others.iter().map(u32::to_string))
        .status()
        .expect("sh starts");
}

/// The children of a process.
pub(crate) fn children(parent: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").expect("Linux").flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers
        .filter(|process| status(*process, "PPid:") == Some(parent.to_string()))
        .collect()
}

/// Whether a process runs (a zombie does not).
pub(crate) fn runs(process: u32) -> bool {
    status(process, "State:").is_some_and(|state| !matches!(state.as_str(), "Z" | "X"))
}

/// Whether a process is stopped by a signal, all threads of it.
pub(crate) fn is_stopped(process: u32) -> bool {
    let tasks = fs::read_dir(format!("/proc/{process}/task"));
    let mut tasks = tasks.into_iter().flatten().flatten().peekable();
    let stopped = |task: fs::DirEntry| {
        let task = task.file_name().to_str().and_then(|it| it.parse().ok());
        task.is_some_and(|task| status(task, "State:").as_deref() == Some("T"))
    };
    tasks.peek().is_some() && tasks.all(stopped)
}

/// The first word after a name in the kernel's description of a process; `None` when it is gone.
fn status(process: u32, name: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next().map(str::to_owned)
}

/// A TCP port on 127.0.0.1 that is ours while this value lives, also while its server is down.
///
/// It lies below the range of ports that the kernel gives to outgoing connections: one of these could take it while the server
/// is down, and a client that keeps trying could even be connected to itself.
pub(crate) struct Port {
    number: u16,
    /// Tells our kind, in whatever process, that the number is taken; the kernel forgets it with this process.
    _claim: UnixListener,
}

impl Port {
    /// Finds a free port and claims it.
    pub(crate) fn claim() -> Self {
        let range =
            fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
        let first_outgoing = range
            .split_whitespace()
            .next()
            .and_then(|low| low.parse().ok());
        let (low, high) = match first_outgoing.unwrap_or(32768) {
            high @ 12000.. => (10000, high),
            _ => (10000, u16::MAX),
        };
        let start = RandomState::new().build_hasher().finish();
        let candidates = (0..u64::from(high - low)).map(|step| {
            let offset = start.wrapping_add(step) % u64::from(high - low);
            low + u16::try_from(offset).expect("less than the range")
        });
        candidates
            .into_iter()
            .find_map(Self::try_claim)
            .expect("a free port")
    }

    fn try_claim(number: u16) -> Option<Self> {
        let name = SocketAddr::from_abstract_name(format!("outboxd-port-{number}")).ok()?;
        let _claim = UnixListener::bind_addr(&name).ok()?;
        TcpListener::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
        Some(Self { number, _claim })
    }

    /// The port's number.
    pub(crate) fn number(&self) -> u16 {
        self.number
    }
}
