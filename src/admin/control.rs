//! The control socket: one JSON request a line, one JSON answer a line. Who may open the file may ask.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::View;
use crate::logic::status::SourceStatus;

/// A request or an answer may have this many bytes.
const LINE_BYTES: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
enum Request {
    Status,
}

/// What a daemon says of itself.
#[derive(Debug, Serialize, Deserialize)]
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

/// Why a daemon did not answer.
#[derive(Debug, thiserror::Error)]
#[error("no daemon answers at {}: {source}; is outboxd running, and may you open the socket?", path.display())]
pub struct ControlError {
    path: PathBuf,
    source: io::Error,
}

/// A bound socket; its file goes with it.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl ControlSocket {
    /// Binds the socket, in place of one that a dead daemon left behind.
    pub async fn bind(path: &Path) -> io::Result<Self> {
        if path.exists() {
            if UnixStream::connect(path).await.is_ok() {
                return Err(io::Error::from(io::ErrorKind::AddrInUse));
            }
            std::fs::remove_file(path)?;
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
        Ok(Self {
            listener,
            path: path.to_owned(),
        })
    }

    /// Answers one client after the other until `stop`; each has a few seconds.
    pub async fn serve(self, view: View, stop: CancellationToken) {
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = stop.cancelled() => break,
            };
            let Ok((stream, _)) = accepted else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            match tokio::time::timeout(PATIENCE, answer(stream, &view)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => debug!(%error, "a control client left"),
                Err(_) => debug!("a control client was too slow"),
            }
        }
        // It may be gone already.
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn answer(stream: UnixStream, view: &View) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let line = line(&mut stream).await?;
    let answer = match serde_json::from_str(&line) {
        Ok(Request::Status) => serde_json::to_string(&Report {
            instance: view.instance.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            draining: view.draining.is_cancelled(),
            sources: view.sources(),
        })?,
        Err(error) => serde_json::json!({"error": error.to_string()}).to_string(),
    };
    stream.write_all(answer.as_bytes()).await?;
    stream.write_all(b"\n").await?;
    stream.shutdown().await
}

async fn line(stream: &mut BufReader<UnixStream>) -> io::Result<String> {
    let mut line = String::new();
    stream.take(LINE_BYTES).read_line(&mut line).await?;
    if line.ends_with('\n') {
        Ok(line)
    } else {
        Err(io::Error::from(io::ErrorKind::InvalidData))
    }
}

/// Asks the daemon at `path` how it is doing.
pub async fn status(path: &Path) -> Result<Report, ControlError> {
    let ask = async {
        let mut stream = BufReader::new(UnixStream::connect(path).await?);
        let request = serde_json::to_string(&Request::Status)? + "\n";
        stream.write_all(request.as_bytes()).await?;
        Ok(serde_json::from_str(&line(&mut stream).await?)?)
    };
    let timed_out = || Err(io::Error::from(io::ErrorKind::TimedOut));
    let answered = tokio::time::timeout(PATIENCE, ask)
        .await
        .unwrap_or_else(|_| timed_out());
    answered.map_err(|source| ControlError {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_at_the_socket_is_a_clear_error() {
        let error = status(Path::new("/nonexistent/ctl.sock"))
            .await
            .unwrap_err();
        assert!(
            error.to_string().contains("/nonexistent/ctl.sock"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_socket_left_behind_is_replaced_and_a_live_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ctl.sock");
        drop(ControlSocket::bind(&path).await.unwrap());
        assert!(path.exists());
        let live = ControlSocket::bind(&path).await.unwrap();
        let error = ControlSocket::bind(&path).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert_eq!(
            std::fs::metadata(&live.path).unwrap().permissions().mode() & 0o777,
            0o660
        );
    }
}
