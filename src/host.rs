//! Which process this is, among all that this host has run; and whether another one is gone. Never looks beyond /proc.

use std::fs;
use std::io;

/// This process as `boot/namespace/pid/start`: no two processes of a host share it, across reboots, containers and
/// reused numbers.
pub fn this_process() -> io::Result<String> {
    let pid = std::process::id();
    Ok(format!("{}/{pid}/{}", here()?, start_of(pid)?))
}

/// Whether `process` ran on this host and is gone. `false` when that cannot be known from here.
pub fn is_gone(process: &str) -> bool {
    let Ok(here) = here() else { return false };
    let Some(rest) = process
        .strip_prefix(&here)
        .and_then(|rest| rest.strip_prefix('/'))
    else {
        return false;
    };
    let Some((pid, start)) = rest.split_once('/') else {
        return false;
    };
    let Ok(pid) = pid.parse() else { return false };
    match start_of(pid) {
        Ok(now) => now != start,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// The boot and the namespace in which process numbers mean something.
fn here() -> io::Result<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let namespace = fs::read_link("/proc/self/ns/pid")?;
    Ok(format!("{}/{}", boot.trim(), namespace.display()))
}

/// When a process started, in ticks since the boot: field 22 of its `stat`, counted behind the name, which may hold
/// anything.
fn start_of(pid: u32) -> io::Result<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = stat.rsplit_once(") ").map(|(_, fields)| fields);
    let start = fields.and_then(|fields| fields.split(' ').nth(19));
    start
        .map(str::to_owned)
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_not_gone() {
        assert!(!is_gone(&this_process().unwrap()));
    }

    #[test]
    fn a_process_that_ended_is_gone() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let process = format!("{}/{}/0", here().unwrap(), child.id());
        assert!(
            is_gone(&process),
            "its number is another's: this start never was"
        );
        child.wait().unwrap();
        assert!(is_gone(&process));
    }

    #[test]
    fn nothing_is_known_of_another_host() {
        for other in ["", "boot/pid:[1]/1/1", "x"] {
            assert!(!is_gone(other), "{other:?}");
        }
    }
}
