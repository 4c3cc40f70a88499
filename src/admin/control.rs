//! The control socket: one JSON request a line, one JSON answer a line. Who may open the file may ask.
//!
//! Never removes a file that is no socket, nor the socket of a daemon that answers.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::View;
use crate::logic::push::kick::Kick;
use crate::logic::status::SourceStatus;

/// A request has no more bytes than this.
const REQUEST_BYTES: usize = 64 << 10;
/// An answer neither: it grows with the number of sources, and the daemon is trusted.
const ANSWER_BYTES: usize = 16 << 20;
/// More clients than this wait.
const CLIENTS: usize = 16;
/// A client that asks nothing, or does not take its answer, for so long is left.
const PATIENCE: Duration = Duration::from_secs(5);
/// Owner and group may ask, others not even look.
const MODE: u32 = 0o660;

/// What a daemon can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Request {
    /// How its sources are doing; answered with a [`Report`].
    Status,
    /// To end connections of clients; answered with [`Kicked`].
    Kick(Kick),
}

/// What a daemon says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// `[relay] instance`.
    pub instance: String,
    /// Of the program.
    pub version: String,
    /// Whether it is about to end.
    pub draining: bool,
    /// How its sources are doing.
    pub sources: Vec<SourceStatus>,
}

/// What became of [`Request::Kick`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kicked {
    /// Connections that are ended.
    pub connections: usize,
}

/// The answer to what cannot be done.
#[derive(Debug, Serialize, Deserialize)]
struct Refusal {
    error: String,
}

/// Why the socket cannot be had, or a daemon did not answer.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The socket's place does not exist.
    #[error(
        "the directory {path} does not exist; create it for the daemon's user, or set `[admin] socket`"
    )]
    Directory {
        /// The directory.
        path: PathBuf,
    },
    /// Something that is no socket is in the way.
    #[error("{path} is in the way and is no socket; move it, or set `[admin] socket`")]
    InTheWay {
        /// The file.
        path: PathBuf,
    },
    /// Another daemon answers there.
    #[error("another daemon answers at {path}; give each its own `[admin] socket`")]
    Taken {
        /// The socket.
        path: PathBuf,
    },
    /// Nobody listens there.
    #[error("no daemon answers at {path}; is outboxd running, and with this `[admin] socket`?")]
    Nobody {
        /// The socket.
        path: PathBuf,
    },
    /// The user may not use the socket.
    #[error("you may not open {path}; become root, the daemon's user or a member of its group")]
    Denied {
        /// The socket.
        path: PathBuf,
    },
    /// A daemon is there and said nothing in time.
    #[error("the daemon at {path} did not answer within {} s; see its log", PATIENCE.as_secs())]
    Silent {
        /// The socket.
        path: PathBuf,
    },
    /// The daemon does not know the request, or cannot do it.
    #[error("the daemon refused: {0}")]
    Refused(String),
    /// Anything else.
    #[error("{path}: {source}")]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

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
    pub async fn serve(self, view: View, stop: CancellationToken) {
        let Self { listener, file } = self;
        let mut clients = FuturesUnordered::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept(), if clients.len() < CLIENTS => accepted,
                Some(()) = clients.next() => continue,
                () = stop.cancelled() => break,
            };
            match accepted {
                Ok((stream, _)) => clients.push(converse(stream, &view)),
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
async fn converse(stream: UnixStream, view: &View) {
    let mut stream = BufReader::new(stream);
    loop {
        let turn = tokio::time::timeout(PATIENCE, turn(&mut stream, view)).await;
        match turn {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => return,
            Ok(Err(error)) => return debug!(%error, "a control client left"),
            Err(_) => return debug!("a control client was too slow"),
        }
    }
}

/// One question and its answer; `false` when there is to be no other.
async fn turn(stream: &mut BufReader<UnixStream>, view: &View) -> io::Result<bool> {
    let (answer, more) = match line(stream, REQUEST_BYTES).await? {
        Line::Whole(request) => (answer(&request, view), true),
        Line::End => return Ok(false),
        Line::TooLong => (refusal("a request has at most 64 KiB"), false),
    };
    stream.write_all(answer.as_bytes()).await?;
    stream.write_all(b"\n").await?;
    Ok(more)
}

fn answer(request: &[u8], view: &View) -> String {
    match serde_json::from_slice(request) {
        Ok(Request::Status) => written(&view.report()),
        Ok(Request::Kick(kick)) => match &view.clients {
            Some(clients) => written(&Kicked {
                connections: (clients.kick)(&kick),
            }),
            None => {
                refusal("it serves no clients: [push] is missing, or it runs with --only relay")
            }
        },
        Err(error) => refusal(error),
    }
}

fn written(answer: &impl Serialize) -> String {
    serde_json::to_string(answer).unwrap_or_else(refusal)
}

fn refusal(error: impl ToString) -> String {
    serde_json::json!({"error": error.to_string()}).to_string()
}

enum Line {
    /// Without its end.
    Whole(Vec<u8>),
    /// The other side is done. What it left unfinished was no line.
    End,
    TooLong,
}

async fn line(stream: &mut (impl AsyncBufRead + Unpin), bytes: usize) -> io::Result<Line> {
    let mut line = Vec::new();
    let limit = u64::try_from(bytes).unwrap_or(u64::MAX).saturating_add(1);
    stream.take(limit).read_until(b'\n', &mut line).await?;
    if line.pop_if(|last| *last == b'\n').is_some() {
        return Ok(Line::Whole(line));
    }
    Ok(if line.len() > bytes {
        Line::TooLong
    } else {
        Line::End
    })
}

/// Asks the daemon at `path` how it is doing.
pub async fn status(path: &Path) -> Result<Report, ControlError> {
    ask(path, &Request::Status).await
}

/// Asks the daemon at `path` anything.
pub async fn ask<A: DeserializeOwned>(path: &Path, request: &Request) -> Result<A, ControlError> {
    let asked = tokio::time::timeout(PATIENCE, exchange(path, request)).await;
    let answer = match asked {
        Ok(answer) => answer.map_err(|error| unreachable(path, error))?,
        Err(_) => {
            return Err(ControlError::Silent {
                path: path.to_owned(),
            });
        }
    };
    if let Ok(Refusal { error }) = serde_json::from_slice(&answer) {
        return Err(ControlError::Refused(error));
    }
    let unlike = |error: serde_json::Error| ControlError::Io {
        path: path.to_owned(),
        source: io::Error::new(io::ErrorKind::InvalidData, error),
    };
    serde_json::from_slice(&answer).map_err(unlike)
}

async fn exchange(path: &Path, request: &Request) -> io::Result<Vec<u8>> {
    let mut stream = BufReader::new(UnixStream::connect(path).await?);
    let mut asked = serde_json::to_vec(request)?;
    asked.push(b'\n');
    stream.write_all(&asked).await?;
    match line(&mut stream, ANSWER_BYTES).await? {
        Line::Whole(answer) => Ok(answer),
        Line::End => Err(io::ErrorKind::UnexpectedEof.into()),
        Line::TooLong => Err(io::ErrorKind::FileTooLarge.into()),
    }
}

fn unreachable(path: &Path, source: io::Error) -> ControlError {
    let path = path.to_owned();
    // The other kinds say nothing that a user could act upon, so their text is kept.
    if source.kind() == io::ErrorKind::NotFound || source.kind() == io::ErrorKind::ConnectionRefused
    {
        ControlError::Nobody { path }
    } else if source.kind() == io::ErrorKind::PermissionDenied {
        ControlError::Denied { path }
    } else {
        ControlError::Io { path, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(text: &[u8], bytes: usize) -> Line {
        line(&mut BufReader::new(text), bytes).await.unwrap()
    }

    #[tokio::test]
    async fn a_line_may_have_all_its_bytes_and_not_one_more() {
        assert!(matches!(read(b"1234\n", 4).await, Line::Whole(line) if line == b"1234"));
        assert!(matches!(read(b"12345\n", 4).await, Line::TooLong));
        assert!(matches!(read(b"12345", 4).await, Line::TooLong));
    }

    #[tokio::test]
    async fn half_a_line_is_none() {
        assert!(matches!(read(b"1234", 8).await, Line::End));
        assert!(matches!(read(b"", 8).await, Line::End));
    }
}
