//! The command line's side of the control socket.

use std::io;
use std::path::Path;

use serde::de::DeserializeOwned;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use super::{ANSWER_BYTES, ControlError, Line, Request, line, unreachable};

/// Asks the daemon at `path` anything.
pub async fn ask<A: DeserializeOwned>(path: &Path, request: &Request) -> Result<A, ControlError> {
    let patience = request.patience();
    let asked = tokio::time::timeout(patience, exchange(path, request)).await;
    let answer = match asked {
        Ok(answer) => answer.map_err(|error| unreachable(path, error))?,
        Err(_) => {
            return Err(ControlError::Silent {
                path: path.to_owned(),
                patience,
            });
        }
    };
    if let Ok(refusal) = serde_json::from_slice(&answer) {
        return Err(ControlError::Refused(refusal));
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
