//! What Prometheus clients tell of their own process, read from /proc when asked.

use std::fmt::Write;
use std::fs;

/// Clock ticks a second, and bytes of a page: the same on every Linux that outboxd is built for.
const TICKS: f64 = 100.0;
const PAGE_BYTES: f64 = 4096.0;

/// The `process_*` metrics; those that cannot be read are left out.
pub(super) fn render() -> String {
    let mut text = String::new();
    for (name, kind, help, value) in measured() {
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n\n"
        );
    }
    text
}

type Measured = (&'static str, &'static str, &'static str, f64);

fn measured() -> Vec<Measured> {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let fields: Vec<f64> = after_name
        .split(' ')
        .map(|field| field.trim().parse().unwrap_or(0.0))
        .collect();
    let field = |number: usize| fields.get(number - 3).copied();
    let boot = fs::read_to_string("/proc/stat").ok().and_then(|stat| {
        stat.lines()
            .find_map(|line| line.strip_prefix("btime ")?.parse::<f64>().ok())
    });
    let limits = fs::read_to_string("/proc/self/limits")
        .ok()
        .and_then(|limits| {
            let line = limits
                .lines()
                .find(|line| line.starts_with("Max open files"))?;
            line.split_whitespace().nth(3)?.parse::<f64>().ok()
        });
    #[expect(clippy::cast_precision_loss, reason = "a count of files")]
    let open = fs::read_dir("/proc/self/fd")
        .ok()
        .map(|entries| entries.count() as f64);
    let cpu = field(14)
        .zip(field(15))
        .map(|(user, system)| (user + system) / TICKS);
    let start = field(22)
        .zip(boot)
        .map(|(ticks, boot)| boot + ticks / TICKS);
    [
        (
            "process_cpu_seconds_total",
            "counter",
            "CPU time used, user and system.",
            cpu,
        ),
        ("process_open_fds", "gauge", "Open file descriptors.", open),
        (
            "process_max_fds",
            "gauge",
            "Most file descriptors that may be open.",
            limits,
        ),
        (
            "process_virtual_memory_bytes",
            "gauge",
            "Virtual memory.",
            field(23),
        ),
        (
            "process_resident_memory_bytes",
            "gauge",
            "Resident memory.",
            field(24).map(|pages| pages * PAGE_BYTES),
        ),
        (
            "process_start_time_seconds",
            "gauge",
            "When the process started.",
            start,
        ),
        ("process_threads", "gauge", "Threads.", field(20)),
    ]
    .into_iter()
    .filter_map(|(name, kind, help, value)| Some((name, kind, help, value?)))
    .collect()
}
