//! The control socket: one JSON request a line, one JSON answer a line. Who may open the file may ask.

mod ask;
mod serve;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};
use tokio::sync::oneshot;

pub use ask::ask;
pub use serve::ControlSocket;

use crate::logic::push::kick::Kick;
use crate::logic::status::SourceStatus;

/// A request has no more bytes than this.
const REQUEST_BYTES: usize = 64 << 10;
/// An answer neither: it grows with the number of sources, and the daemon is trusted.
const ANSWER_BYTES: usize = 16 << 20;
/// A client that asks nothing, or does not take its answer, for so long is left; and a daemon that says nothing.
const PATIENCE: Duration = Duration::from_secs(5);
/// But what has to wait for databases, Kafka or another task may take so long.
const LONG_PATIENCE: Duration = Duration::from_secs(120);

/// What a daemon can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Request {
    /// How its sources are doing; answered with a [`Report`].
    Status,
    /// To end connections of clients; answered with [`Kicked`].
    Kick(Kick),
    /// To read its configuration again; answered with [`Done`], as everything below.
    Reload {
        /// The file that is meant, so that no other daemon's is read.
        file: PathBuf,
        /// Whether to answer only when it is done.
        wait: bool,
    },
    /// To publish nothing of a source, and keep its lease.
    Pause {
        /// Its name.
        source: String,
    },
    /// To publish a source again.
    Resume {
        /// Its name.
        source: String,
    },
    /// To leave a source to another daemon.
    Release {
        /// Its name.
        source: String,
    },
    /// To log what a filter says.
    Log {
        /// As in `OUTBOXD_LOG`.
        filter: String,
    },
}

impl Request {
    /// Its word, for the log.
    fn word(&self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Kick(_) => "kick",
            Self::Reload { .. } => "reload",
            Self::Pause { .. } => "pause",
            Self::Resume { .. } => "resume",
            Self::Release { .. } => "release",
            Self::Log { .. } => "log",
        }
    }

    fn patience(&self) -> Duration {
        match self {
            Self::Status | Self::Kick(_) | Self::Log { .. } => PATIENCE,
            Self::Reload { .. }
            | Self::Pause { .. }
            | Self::Resume { .. }
            | Self::Release { .. } => LONG_PATIENCE,
        }
    }
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

/// What became of any other request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// For people.
    pub done: String,
}

/// The answer to what cannot be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Why, and what to do.
    pub error: String,
    /// Who can mend it.
    #[serde(default)]
    pub fault: Fault,
}

/// Who can mend what was refused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Whoever asked: there is no such thing.
    Usage,
    /// Whoever writes the configuration.
    Configuration,
    /// Something is away, or goes another way.
    #[default]
    Other,
}

impl Refusal {
    /// Refused for this reason.
    pub fn new(fault: Fault, error: impl ToString) -> Self {
        let error = error.to_string();
        Self { error, fault }
    }
}

/// A request that only the whole daemon can carry out.
#[derive(Debug)]
pub struct Order {
    /// Everything but [`Request::Status`] and [`Request::Kick`].
    pub request: Request,
    /// What became of it. Whoever asked may be gone.
    pub answer: oneshot::Sender<Result<Done, Refusal>>,
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
    #[error("the daemon at {path} did not answer within {} s; see its log", patience.as_secs())]
    Silent {
        /// The socket.
        path: PathBuf,
        /// How long it had.
        patience: Duration,
    },
    /// The daemon does not know the request, or cannot do it.
    #[error("the daemon refused: {}", .0.error)]
    Refused(Refusal),
    /// Anything else.
    #[error("{path}: {source}")]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
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
    use tokio::io::BufReader;

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
