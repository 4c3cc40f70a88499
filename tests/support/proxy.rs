//! A proxy before a broker that delays and cuts, and can hold a commit back, as a slow network would, and deliver it when it is
//! long forgotten. Never changes a byte.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// The number of the request that ends a transaction.
const END_TXN: [u8; 2] = 26_i16.to_be_bytes();
/// No answer takes as long.
const PATIENCE: Duration = Duration::from_secs(60);

/// What becomes of the next request to end a transaction.
#[derive(Default)]
enum Commits {
    /// It passes.
    #[default]
    Pass,
    /// It is kept and its connection cut.
    Hold,
    /// One is kept: with its way to the broker. Others wait.
    Held(TcpStream, Vec<u8>),
    /// The same, and others pass.
    HeldAndPass(TcpStream, Vec<u8>),
}

#[derive(Default)]
struct State {
    commits: Mutex<Commits>,
    changed: Condvar,
    /// How long each request waits, and each request to end a transaction.
    delays: Mutex<(Duration, Duration)>,
    /// Both ends of each connection that may still be open.
    open: Mutex<Vec<(TcpStream, TcpStream)>>,
}

impl State {
    /// Poisoned only by a test that has failed already.
    fn commits(&self) -> MutexGuard<'_, Commits> {
        self.commits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn delays(&self) -> MutexGuard<'_, (Duration, Duration)> {
        self.delays.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> MutexGuard<'_, Vec<(TcpStream, TcpStream)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Listens as long as the process lives, and gives each client and a connection to `server` to `relay`; gives the port.
pub(super) fn pass_on<S: Send + Sync + 'static>(
    server: impl ToSocketAddrs + Send + 'static,
    state: Arc<S>,
    relay: fn(TcpStream, TcpStream, &S),
) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = listener.local_addr().expect("it listens").port();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            // A server that is down refuses, and so do we.
            if let Ok(server) = TcpStream::connect(&server) {
                let state = Arc::clone(&state);
                thread::spawn(move || relay(client, server, &state));
            }
        }
    });
    port
}

/// Listens as long as the process lives.
pub(crate) struct Proxy {
    state: Arc<State>,
    port: u16,
}

impl Proxy {
    /// Passes connections on to a broker, which may come later and has to advertise this address.
    pub(crate) fn listen(broker: String) -> Self {
        let state = Arc::new(State::default());
        let port = pass_on(broker, Arc::clone(&state), relay);
        Self { state, port }
    }

    /// Where clients find it.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Cuts all connections, whatever is on its way in them; how many were open.
    pub(crate) fn cut(&self) -> usize {
        let open = std::mem::take(&mut *self.state.open());
        // The ends of one that is over already have nobody on the other side.
        let cut = open.iter().map(|(client, broker)| {
            let both = [client, broker].map(|end| end.shutdown(Shutdown::Both).is_ok());
            usize::from(both == [true, true])
        });
        cut.sum()
    }

    /// Lets every request from now on wait so long, and every request to end a transaction so long instead.
    pub(crate) fn delay(&self, all: Duration, commits: Duration) {
        *self.state.delays() = (all, commits);
    }

    /// Keeps the next commit to itself and cuts its connection; commits behind it wait until [`Proxy::pass`].
    pub(crate) fn hold(&self) {
        *self.state.commits() = Commits::Hold;
    }

    /// Waits until a commit is kept.
    pub(crate) fn wait_held(&self) {
        assert!(self.held_within(PATIENCE), "no commit came");
    }

    /// Whether a commit is kept in this time; without one, none will be any more.
    pub(crate) fn held_within(&self, patience: Duration) -> bool {
        let commits = self.state.commits();
        let waiting = |commits: &mut Commits| !matches!(commits, Commits::Held(..));
        let wait = self
            .state
            .changed
            .wait_timeout_while(commits, patience, waiting);
        let (mut commits, time) = wait.unwrap_or_else(PoisonError::into_inner);
        if time.timed_out() {
            *commits = Commits::Pass;
        }
        !time.timed_out()
    }

    /// Lets other commits pass.
    pub(crate) fn pass(&self) {
        let mut commits = self.state.commits();
        let Commits::Held(broker, request) = std::mem::take(&mut *commits) else {
            panic!("nothing is kept");
        };
        *commits = Commits::HeldAndPass(broker, request);
        self.state.changed.notify_all();
    }

    /// Delivers what was kept, and gives the error code that the broker answers with.
    pub(crate) fn release(&self) -> i16 {
        let Commits::HeldAndPass(mut broker, request) = std::mem::take(&mut *self.state.commits())
        else {
            panic!("nothing is kept");
        };
        broker.write_all(&request).expect("the broker listens");
        broker.set_read_timeout(Some(PATIENCE)).expect("not zero");
        let answer = frame(&mut broker).expect("an answer");
        // After the size: correlation id, throttle time, error code.
        let code = answer.get(12..14).expect("an answer to EndTxn");
        i16::from_be_bytes(code.try_into().expect("two bytes"))
    }
}

fn relay(mut client: TcpStream, mut broker: TcpStream, state: &State) {
    let (Ok(mut answers), Ok(mut asker)) = (broker.try_clone(), client.try_clone()) else {
        return;
    };
    let _ = client.set_nodelay(true);
    let _ = broker.set_nodelay(true);
    if let (Ok(client), Ok(broker)) = (client.try_clone(), broker.try_clone()) {
        let mut open = state.open();
        // Those that are over are forgotten, or the list would grow with every connection.
        open.retain(|(client, _)| client.peer_addr().is_ok());
        open.push((client, broker));
    }
    let back = thread::spawn(move || {
        let mut bytes = [0; 65536];
        while let Ok(length @ 1..) = answers.read(&mut bytes) {
            if asker
                .write_all(bytes.get(..length).unwrap_or_default())
                .is_err()
            {
                break;
            }
        }
        let _ = asker.shutdown(Shutdown::Both);
    });
    while let Ok(request) = frame(&mut client) {
        let (all, commits) = *state.delays();
        let ends = request.get(4..6) == Some(&END_TXN[..]);
        if ends && keep(state, &broker, &request) {
            let _ = client.shutdown(Shutdown::Both);
            break;
        }
        thread::sleep(if ends { commits } else { all });
        if broker.write_all(&request).is_err() {
            break;
        }
    }
    let _ = broker.shutdown(Shutdown::Both);
    let _ = back.join();
}

/// Whether a commit is kept; waits while it has to.
fn keep(state: &State, broker: &TcpStream, request: &[u8]) -> bool {
    let mut commits = state.commits();
    if matches!(*commits, Commits::Hold) {
        // Its own connection ends with its client.
        let address = broker.peer_addr().expect("connected");
        let broker = TcpStream::connect(address).expect("the broker listens");
        *commits = Commits::Held(broker, request.to_vec());
        state.changed.notify_all();
        return true;
    }
    let waiting = |commits: &mut Commits| matches!(commits, Commits::Held(..));
    drop(state.changed.wait_timeout_while(commits, PATIENCE, waiting));
    false
}

/// One message with its size in front.
fn frame(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; 4];
    stream.read_exact(&mut frame)?;
    let size = u32::from_be_bytes(frame.as_slice().try_into().expect("four bytes"));
    let size = usize::try_from(size).expect("it fits");
    assert!(size < 200_000_000, "no message of Kafka's");
    frame.resize(4 + size, 0);
    stream.read_exact(frame.get_mut(4..).unwrap_or_default())?;
    Ok(frame)
}
