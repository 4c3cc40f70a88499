//! What lies between a browser and the daemon: a proxy that can be as bad as those out there. Never changes what it lets through,
//! but that each request has a connection of its own.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How often a connection looks at the state of the road.
const LOOK: Duration = Duration::from_millis(20);
const HEAD_BYTES: usize = 32 << 10;

/// The state of the road.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// All goes through.
    Open,
    /// Nothing does, and everybody notices.
    Cut,
    /// What is connected now hears nothing more, and does not notice; new connections go through.
    Asleep,
    /// A connection over which nothing went for so long is cut.
    Impatient(Duration),
    /// A WebSocket is refused.
    NoSockets,
    /// And answers are held back until they are whole, so that events never come.
    NoEvents,
}

struct Road {
    daemon: SocketAddr,
    mode: Mutex<(Mode, Instant)>,
}

/// Where the road begins, and how to change it.
#[derive(Clone)]
pub(super) struct Gate {
    road: Arc<Road>,
    port: u16,
}

impl Gate {
    /// A road to the daemon, as long as the process lives.
    pub(super) fn open(daemon: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let road = Arc::new(Road {
            daemon,
            mode: Mutex::new((Mode::Open, Instant::now())),
        });
        let shared = Arc::clone(&road);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let road = Arc::clone(&shared);
                thread::spawn(move || road.carry(client));
            }
        });
        Self { road, port }
    }

    /// What a page connects to.
    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Changes the state, for old connections as well.
    pub(super) fn set(&self, mode: Mode) {
        *self.road.lock() = (mode, Instant::now());
    }
}

impl Road {
    fn lock(&self) -> std::sync::MutexGuard<'_, (Mode, Instant)> {
        self.mode.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn carry(&self, mut client: TcpStream) {
        let began = Instant::now();
        let Some(head) = head(&mut client) else {
            return;
        };
        let (mode, _) = *self.lock();
        let is_socket = head.to_ascii_lowercase().contains("upgrade: websocket");
        if is_socket && matches!(mode, Mode::NoSockets | Mode::NoEvents) {
            let _ = client.write_all(
                b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            );
            return;
        }
        if mode == Mode::Cut {
            return;
        }
        let held = mode == Mode::NoEvents && head.contains(" /v1/stream");
        let Ok(mut daemon) = TcpStream::connect(self.daemon) else {
            return;
        };
        // Each request on a connection of its own, or the road would have to read on.
        let head = match is_socket {
            true => head,
            false => head.replace("Connection: keep-alive", "Connection: close"),
        };
        if daemon.write_all(head.as_bytes()).is_err() {
            return;
        }
        let mut ends = [client, daemon];
        for end in &ends {
            end.set_read_timeout(Some(LOOK)).unwrap();
            let _ = end.set_nodelay(true);
        }
        let mut active = Instant::now();
        let mut whole = Vec::new();
        while self.goes_on(began, active) {
            for from in [0, 1] {
                let mut bytes = [0; 16 << 10];
                match ends[from].read(&mut bytes) {
                    Ok(0) => {
                        let _ = ends[0].write_all(&whole);
                        return;
                    }
                    Ok(_) if self.sleeps(began) => {}
                    Ok(length) if held && from == 1 => whole.extend(&bytes[..length]),
                    Ok(length) => {
                        active = Instant::now();
                        if ends[1 - from].write_all(&bytes[..length]).is_err() {
                            return;
                        }
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    Err(_) => return,
                }
            }
        }
        for end in &ends {
            let _ = end.shutdown(Shutdown::Both);
        }
    }

    fn goes_on(&self, began: Instant, active: Instant) -> bool {
        match *self.lock() {
            (Mode::Cut, _) => false,
            (Mode::NoSockets | Mode::NoEvents, since) => began > since,
            (Mode::Impatient(limit), _) => active.elapsed() < limit,
            (Mode::Open | Mode::Asleep, _) => true,
        }
    }

    fn sleeps(&self, began: Instant) -> bool {
        matches!(*self.lock(), (Mode::Asleep, since) if began < since)
    }
}

/// The head of a request; none if the connection ends before.
fn head(client: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && head.len() < HEAD_BYTES {
        if client.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.extend(byte);
    }
    String::from_utf8(head).ok()
}
