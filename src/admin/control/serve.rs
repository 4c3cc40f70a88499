//! The daemon's side of the control socket.
//!
//! Never removes a file that is no socket, nor the socket of a daemon that answers.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde::Serialize;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::unix::UCred;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::{
    ControlError, Fault, Kicked, Line, Order, PATIENCE, REQUEST_BYTES, Refusal, Request, line,
    unreachable,
};
use crate::admin::{BEAT, BUDGET, View};

/// More clients than this wait.
const CLIENTS: usize = 16;
/// Owner and group may ask, others not even look.
const MODE: u32 = 0o660;

/// A bound socket; its file goes with it.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    file: SocketFile,
}

/// The file of a socket that is ours, until somebody else puts another in its place.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    device_and_inode: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = std::fs::symlink_metadata(&self.path)
            .is_ok_and(|now| (now.dev(), now.ino()) == self.device_and_inode);
        if ours {
            // Nobody is left to tell; the next daemon removes what stays.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl ControlSocket {
    /// Binds the socket, in place of one that a dead daemon left behind.
    pub async fn bind(path: &Path) -> Result<Self, ControlError> {
        let failed = |source| ControlError::Io {
            path: path.to_owned(),
            source,
        };
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        if !directory.is_dir() {
            let path = directory.to_owned();
            return Err(ControlError::Directory { path });
        }
        make_room(path).await?;
        // Under another name until the mode is right: nobody connects before.
        let mut draft = path.as_os_str().to_owned();
        draft.push("~");
        let draft = PathBuf::from(draft);
        make_room(&draft).await?;
        let listener = UnixListener::bind(&draft).map_err(failed)?;
        let mode = std::fs::Permissions::from_mode(MODE);
        let bound = std::fs::set_permissions(&draft, mode)
            .and_then(|()| std::fs::rename(&draft, path))
            .and_then(|()| std::fs::symlink_metadata(path))
            .map_err(failed)?;
        let file = SocketFile {
            path: path.to_owned(),
            device_and_inode: (bound.dev(), bound.ino()),
        };
        Ok(Self { listener, file })
    }

    /// Answers until `stop`. A client that is slow holds up nobody.
    pub async fn serve(self, view: View, orders: mpsc::Sender<Order>, stop: CancellationToken) {
        let Self { listener, file } = self;
        let mut clients = FuturesUnordered::new();
        let beat = view.health.watch("control socket", BUDGET, Instant::now());
        loop {
            beat.tick(Instant::now());
            let accepted = tokio::select! {
                accepted = listener.accept(), if clients.len() < CLIENTS => accepted,
                Some(()) = clients.next() => continue,
                () = tokio::time::sleep(BEAT) => continue,
                () = stop.cancelled() => break,
            };
            match accepted {
                Ok((stream, _)) => clients.push(converse(stream, &view, &orders)),
                Err(error) => {
                    // Out of descriptors, most likely: a moment later some may be free.
                    debug!(%error, "accept failed");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        drop(file);
    }
}

/// Sees to it that nothing is at `path`, unless it belongs to somebody.
async fn make_room(path: &Path) -> Result<(), ControlError> {
    let found = match std::fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(unreachable(path, error)),
    };
    let path = path.to_owned();
    if !found.file_type().is_socket() {
        return Err(ControlError::InTheWay { path });
    }
    match UnixStream::connect(&path).await {
        Ok(_) => Err(ControlError::Taken { path }),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(&path).map_err(|source| ControlError::Io { path, source })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(unreachable(&path, error)),
    }
}

/// Answers one client until it leaves or is too slow.
async fn converse(stream: UnixStream, view: &View, orders: &mpsc::Sender<Order>) {
    let peer = stream.peer_cred().ok();
    let mut stream = BufReader::new(stream);
    loop {
        match turn(&mut stream, view, orders, peer).await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => return debug!(%error, "a control client left, or was too slow"),
        }
    }
}

/// One question and its answer; `false` when there is to be no other.
async fn turn(
    stream: &mut BufReader<UnixStream>,
    view: &View,
    orders: &mpsc::Sender<Order>,
    peer: Option<UCred>,
) -> io::Result<bool> {
    let asked = timeout(PATIENCE, line(stream, REQUEST_BYTES)).await??;
    let (mut answer, more) = match asked {
        Line::Whole(request) => (answer(&request, view, orders, peer).await, true),
        Line::End => return Ok(false),
        Line::TooLong => {
            let refusal = Refusal::new(Fault::Usage, "a request has at most 64 KiB");
            (written(&refusal), false)
        }
    };
    answer.push('\n');
    timeout(PATIENCE, stream.write_all(answer.as_bytes())).await??;
    Ok(more)
}

async fn answer(
    request: &[u8],
    view: &View,
    orders: &mpsc::Sender<Order>,
    peer: Option<UCred>,
) -> String {
    let request: Request = match serde_json::from_slice(request) {
        Ok(request) => request,
        Err(error) => return written(&Refusal::new(Fault::Usage, error)),
    };
    if request == Request::Status {
        return written(&view.report());
    }
    note(&request, peer);
    if let Request::Kick(kick) = &request {
        return match &view.clients {
            Some(clients) => written(&Kicked {
                connections: (clients.kick)(kick),
            }),
            None => written(&Refusal::new(
                Fault::Other,
                "it serves no clients: [push] is missing, or it runs with --only relay",
            )),
        };
    }
    let (answer, answered) = oneshot::channel();
    // Nobody takes orders from a daemon that is ending.
    let _ = orders.send(Order { request, answer }).await;
    match answered.await {
        Ok(Ok(done)) => written(&done),
        Ok(Err(refusal)) => written(&refusal),
        Err(_) => written(&Refusal::new(Fault::Other, "the daemon is ending")),
    }
}

/// Who asked for what, as the system knows it.
fn note(request: &Request, peer: Option<UCred>) {
    let (user, group) = (peer.map(|peer| peer.uid()), peer.map(|peer| peer.gid()));
    let process = peer.and_then(|peer| peer.pid());
    info!(
        user,
        group,
        process,
        command = request.word(),
        "an operator asks"
    );
}

fn written(answer: &impl Serialize) -> String {
    serde_json::to_string(answer)
        .unwrap_or_else(|error| serde_json::json!({"error": error.to_string()}).to_string())
}
