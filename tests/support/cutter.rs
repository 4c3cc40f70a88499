//! A proxy before PostgreSQL that cuts a connection at a given statement: before the server has heard the end of it, or when it
//! is carried out and the answer is on its way. Never changes a byte.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::proxy::pass_on;

/// On which side of a statement the cut is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The server does not carry it out.
    Before,
    /// It does, and the client never knows.
    After,
}

#[derive(Default)]
struct State {
    /// The number of the statement of a connection where the next cut is due.
    armed: Mutex<Option<(u64, Side)>>,
    cuts: AtomicU64,
    open: Mutex<Vec<TcpStream>>,
}

/// Listens as long as the process lives.
pub(crate) struct Cutter {
    state: Arc<State>,
    port: u16,
}

impl Cutter {
    /// Passes connections on to this port.
    pub(crate) fn listen(server: u16) -> Self {
        let state = Arc::new(State::default());
        let port = pass_on((Ipv4Addr::LOCALHOST, server), Arc::clone(&state), relay);
        Self { state, port }
    }

    /// Where clients find it.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Ends all connections, and cuts the next one that comes to its `statement`th statement there.
    pub(crate) fn arm(&self, statement: u64, side: Side) {
        *lock(&self.state.armed) = Some((statement, side));
        for client in lock(&self.state.open).drain(..) {
            let _ = client.shutdown(Shutdown::Both);
        }
    }

    /// How many connections it has cut at a statement.
    pub(crate) fn cuts(&self) -> u64 {
        self.state.cuts.load(Ordering::Relaxed)
    }
}

/// Poisoned only by a test that has failed already.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn relay(mut client: TcpStream, mut server: TcpStream, state: &State) {
    let (Ok(mut answers), Ok(mut asker), Ok(open)) =
        (server.try_clone(), client.try_clone(), client.try_clone())
    else {
        return;
    };
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    lock(&state.open).push(open);
    // From here on the first answer ends the connection instead of being passed on.
    let mute = Arc::new(AtomicBool::new(false));
    let muted = Arc::clone(&mute);
    let back = thread::spawn(move || {
        let mut bytes = [0; 65536];
        while let Ok(length @ 1..) = answers.read(&mut bytes) {
            let bytes = bytes.get(..length).unwrap_or_default();
            if muted.load(Ordering::Relaxed) || asker.write_all(bytes).is_err() {
                break;
            }
        }
        let _ = asker.shutdown(Shutdown::Both);
    });
    let (mut statements, mut first) = (0, true);
    while let Ok((kind, message)) = message(&mut client, first) {
        first = false;
        // The end of an extended query, or a simple one.
        if matches!(kind, b'S' | b'Q') {
            statements += 1;
            let mut armed = lock(&state.armed);
            if let Some((_, side)) = armed.filter(|(at, _)| *at == statements) {
                *armed = None;
                state.cuts.fetch_add(1, Ordering::Relaxed);
                if side == Side::Before {
                    break;
                }
                mute.store(true, Ordering::Relaxed);
            }
        }
        if server.write_all(&message).is_err() {
            break;
        }
    }
    let _ = server.shutdown(Shutdown::Both);
    let _ = client.shutdown(Shutdown::Both);
    let _ = back.join();
}

/// The next message of a client and its kind; the first of a connection has none.
fn message(client: &mut TcpStream, first: bool) -> io::Result<(u8, Vec<u8>)> {
    let mut message = vec![0; if first { 4 } else { 5 }];
    client.read_exact(&mut message)?;
    let head = message.len();
    let size = message
        .get(head - 4..)
        .and_then(|size| size.try_into().ok());
    let size = u32::from_be_bytes(size.expect("four bytes"));
    let size = usize::try_from(size).expect("it fits");
    message.resize(head - 4 + size, 0);
    client.read_exact(message.get_mut(head..).unwrap_or_default())?;
    let kind = if first {
        0
    } else {
        message.first().copied().unwrap_or(0)
    };
    Ok((kind, message))
}
