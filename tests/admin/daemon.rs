//! The daemon itself, without sources: what it says to systemd, to a prober and to `outboxd status` from start to end.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);

/// Ends with the test, however that ends.
struct Daemon {
    child: Child,
    admin: SocketAddr,
    systemd: UnixDatagram,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Daemon {
    fn start(directory: &Path, control: &Path) -> Self {
        let admin = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let config = directory.join("outboxd.toml");
        let text = format!(
            "[kafka]\nbootstrap_servers = \"127.0.0.1:1\"\n[admin]\nlisten = \"{admin}\"\nsocket = {control:?}\n"
        );
        fs::write(&config, text).unwrap();
        let notify = directory.join("notify.sock");
        let systemd = UnixDatagram::bind(&notify).unwrap();
        systemd.set_read_timeout(Some(PATIENCE)).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_outboxd"))
            .args(["run", "--config"])
            .arg(&config)
            .env("NOTIFY_SOCKET", &notify)
            .env("WATCHDOG_USEC", "200000")
            .env_remove("WATCHDOG_PID")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            child,
            admin,
            systemd,
        }
    }

    /// The next message that is no food for the watchdog, and whether there was such food before it.
    fn says(&self) -> (String, bool) {
        let mut fed = false;
        loop {
            let mut buffer = [0; 4096];
            let bytes = self.systemd.recv(&mut buffer).unwrap();
            let message = String::from_utf8(buffer[..bytes].to_vec()).unwrap();
            if message != "WATCHDOG=1\n" {
                return (message, fed);
            }
            fed = true;
        }
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.admin).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn terminate(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").arg(pid).status().unwrap().success());
    }

    /// How it ended, and its log.
    fn end(mut self) -> (Option<i32>, String) {
        let mut log = String::new();
        let stderr = self.child.stderr.as_mut().unwrap();
        stderr.read_to_string(&mut log).unwrap();
        (self.child.wait().unwrap().code(), log)
    }
}

#[test]
fn a_daemon_is_ready_is_asked_and_ends_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let control = directory.path().join("ctl.sock");
    let daemon = Daemon::start(directory.path(), &control);
    let (ready, _) = daemon.says();
    assert!(ready.starts_with("READY=1\nSTATUS="), "{ready}");
    for path in ["/metrics", "/healthz", "/readyz"] {
        let answer = daemon.get(path);
        assert!(answer.starts_with("HTTP/1.0 200"), "{path}: {answer}");
    }
    let status = Command::new(env!("CARGO_BIN_EXE_outboxd"))
        .args(["status", "--json", "--config"])
        .arg(directory.path().join("outboxd.toml"))
        .output()
        .unwrap();
    assert!(status.status.success(), "{status:?}");
    // Long enough for the watchdog to be fed.
    std::thread::sleep(Duration::from_millis(300));
    daemon.terminate();
    let (mut message, mut fed) = daemon.says();
    while message.starts_with("STATUS=") {
        let (next, fed_again) = daemon.says();
        (message, fed) = (next, fed || fed_again);
    }
    assert_eq!((message.as_str(), fed), ("STOPPING=1\n", true));
    let (code, log) = daemon.end();
    assert_eq!(code, Some(0), "{log}");
    assert!(!control.exists(), "the socket's file outlived the daemon");
}

#[test]
fn a_daemon_without_a_place_for_its_control_socket_runs_and_warns() {
    let directory = tempfile::tempdir().unwrap();
    let control = directory.path().join("missing/ctl.sock");
    let daemon = Daemon::start(directory.path(), &control);
    let (ready, _) = daemon.says();
    assert!(ready.starts_with("READY=1\n"), "{ready}");
    assert!(daemon.get("/readyz").starts_with("HTTP/1.0 200"));
    daemon.terminate();
    let (code, log) = daemon.end();
    assert_eq!(code, Some(0), "{log}");
    assert!(
        log.contains("missing does not exist") && log.contains("`outboxd ctl` will not work"),
        "{log}"
    );
}
