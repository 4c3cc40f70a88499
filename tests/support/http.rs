//! The smallest HTTP client that reads an answer on loopback. Never meant for anything else.

use std::{
    io::{Error, ErrorKind, Read, Result, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

const PATIENCE: Duration = Duration::from_secs(10);

/// Asks for a path; gives the status and the body.
pub(crate) fn get(address: SocketAddr, path: &str) -> Result<(u16, String)> {
    send(address, "GET", path, "")
}

/// Sends a body; gives the status and the body of the answer.
pub(crate) fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    body: &str,
) -> Result<(u16, String)> {
    // HTTP/1.0, so that the end of the body is the end of the connection.
    let head = format!("{method} {path} HTTP/1.0\r\nHost: {address}");
    raw(
        address,
        &format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()),
    )
}

/// Sends a request as it is; gives the status and the body of the answer.
pub(crate) fn raw(address: SocketAddr, request: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or(ErrorKind::UnexpectedEof)?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    Ok((
        status.ok_or_else(|| Error::new(ErrorKind::InvalidData, head))?,
        body.into(),
    ))
}
