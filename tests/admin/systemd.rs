//! What systemd hears, over a real datagram socket. The daemon's part runs in a child: it alone may have
//! `NOTIFY_SOCKET` in its environment.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use outboxd::systemd;
use tokio_util::sync::CancellationToken;

/// The watchdog's time in the child; it is fed after half of it.
const WATCHDOG: Duration = Duration::from_millis(200);

/// Runs one of the ignored tests below in a child that is told of `socket`, and returns what it said.
fn hear(test: &str, socket: Option<&Path>) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify.sock");
    let listener = UnixDatagram::bind(&path).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap());
    child
        .args(["--exact", test, "--ignored"])
        .env_remove("WATCHDOG_PID")
        .env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string())
        .env("NOTIFY_SOCKET", socket.unwrap_or(&path))
        .stdout(Stdio::null());
    assert!(child.status().unwrap().success());
    listener.set_nonblocking(true).unwrap();
    let mut heard = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(bytes) = listener.recv(&mut buffer) {
        heard.push(String::from_utf8(buffer[..bytes].to_vec()).unwrap());
    }
    heard
}

#[test]
fn systemd_hears_ready_status_watchdog_and_stopping() {
    let heard = hear("systemd::child_lives", None);
    assert_eq!(heard.first().unwrap(), "READY=1\nSTATUS=leads 1\n");
    // A second line would be an assignment of its own.
    assert_eq!(heard[1], "STATUS=an error  MAINPID=1\n");
    let now = heard[2]
        .strip_prefix("RELOADING=1\nMONOTONIC_USEC=")
        .unwrap();
    let now: u64 = now.trim_end().parse().unwrap();
    // What `CLOCK_MONOTONIC` says now is later, and the machine has not run for longer than a child takes.
    let uptime = fs::read_to_string("/proc/uptime").unwrap();
    let uptime: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
    assert!(now as f64 / 1e6 <= uptime + 1.0, "{now} of {uptime}");
    assert_eq!(heard[3], "READY=1\n");
    let last = heard.len() - 1;
    assert_eq!(heard[last], "STOPPING=1\n");
    let fed = &heard[4..last];
    assert!(fed.len() >= 3, "{heard:?}");
    assert!(
        fed.iter().all(|message| message == "WATCHDOG=1\n"),
        "{heard:?}"
    );
}

#[test]
fn a_daemon_with_a_hung_loop_does_not_feed_the_watchdog() {
    assert_eq!(hear("systemd::child_hangs", None), ["STATUS=hung\n"]);
}

#[test]
fn a_systemd_that_is_away_does_no_harm() {
    let nobody = Path::new("/nonexistent/notify.sock");
    assert_eq!(
        hear("systemd::child_lives", Some(nobody)),
        Vec::<String>::new()
    );
}

#[tokio::test]
#[ignore = "the child of the tests above"]
async fn child_lives() {
    systemd::ready("leads 1");
    systemd::status("an error\r\nMAINPID=1");
    systemd::reloading();
    systemd::reloaded();
    let stop = CancellationToken::new();
    let feed = systemd::feed_watchdog(Vec::<String>::new, stop.clone());
    let stopped = async {
        tokio::time::sleep(WATCHDOG * 2).await;
        stop.cancel();
    };
    tokio::join!(feed, stopped);
    systemd::stopping();
}

#[tokio::test]
#[ignore = "the child of the tests above"]
async fn child_hangs() {
    systemd::status("hung");
    let stop = CancellationToken::new();
    let feed = systemd::feed_watchdog(|| vec!["source orders"], stop.clone());
    let stopped = async {
        tokio::time::sleep(WATCHDOG * 2).await;
        stop.cancel();
    };
    tokio::join!(feed, stopped);
}

fn shipped(unit: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd");
    fs::read_to_string(path.join(unit)).unwrap()
}

#[test]
fn the_units_are_for_the_oldest_systemd_and_never_repeat_what_only_fails_again() {
    for unit in ["outboxd.service", "outboxd@.service"].map(shipped) {
        let lines: Vec<&str> = unit.lines().collect();
        for line in [
            "Type=notify",
            "RestartPreventExitStatus=64 65 77 78",
            "WatchdogSec=30s",
            "DynamicUser=yes",
        ] {
            assert!(lines.contains(&line), "{line}");
        }
        // Later than systemd 252, which would ignore them with a warning nobody reads. And what runs before the daemon may
        // fail as often as it likes: its exit status prevents nothing.
        for never in [
            "notify-reload",
            "ImportCredential",
            "RestartSteps",
            "RestartMaxDelaySec",
            "ExecStartPre",
        ] {
            assert!(!unit.contains(never), "{never}");
        }
    }
}

#[test]
fn one_of_several_daemons_runs_as_the_only_one_does() {
    let settings = |unit: &str| -> Vec<String> {
        let lines = shipped(unit);
        let kept = lines.lines().filter(|line| !line.starts_with('#'));
        kept.map(str::to_owned).collect()
    };
    let (one, several) = (settings("outboxd.service"), settings("outboxd@.service"));
    assert_eq!(one.len(), several.len());
    for (one, several) in one.iter().zip(&several) {
        let alone = several
            .replace("outboxd-%i", "outboxd")
            .replace(" --config /etc/outboxd/%i.toml", "")
            .replace(" %i", "");
        assert_eq!(*one, alone);
    }
    for command in [
        "ExecStart=/usr/bin/outboxd run",
        "ExecReload=/usr/bin/outboxd ctl reload --wait",
    ] {
        assert!(one.iter().any(|line| line == command), "{command}");
    }
}

/// Held against the installed systemd, where there is one.
#[test]
fn systemd_finds_no_fault_with_the_units() {
    let directory = tempfile::tempdir().unwrap();
    let analyze = |arguments: &[&str]| Command::new("systemd-analyze").args(arguments).output();
    for name in ["outboxd.service", "outboxd@.service"] {
        let unit = directory.path().join(name);
        // The program is not installed here.
        let text = shipped(name).replace("/usr/bin/outboxd", env!("CARGO_BIN_EXE_outboxd"));
        fs::write(&unit, text).unwrap();
        let unit = unit.to_str().unwrap();
        let Ok(verified) = analyze(&["verify", unit]) else {
            eprintln!("skipped: systemd-analyze is not installed");
            return;
        };
        assert!(verified.status.success(), "{verified:?}");
        assert!(verified.stderr.is_empty(), "{verified:?}");
        let secured = analyze(&["security", "--offline=true", "--threshold=12", unit]).unwrap();
        assert!(
            secured.status.success(),
            "{}",
            String::from_utf8_lossy(&secured.stdout)
        );
    }
}
