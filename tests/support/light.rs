//! The least WebSocket client that follows the contract: as cheap as it can be, for crowds whose own work is not what is looked
//! at. Never knows what a line means.

use std::{
    io::{Error, ErrorKind, Result},
    net::{Ipv4Addr, SocketAddr},
    ops::Range,
};

use serde_json::Value;
use tokio::net::{TcpSocket, TcpStream};

/// Connections from one address of this machine: ports run out soon after.
const PER_ADDRESS: usize = 20_000;
const CHUNK: usize = 16 << 10;

const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// One connection.
pub(crate) struct Client {
    stream: TcpStream,
    /// What has come and was not taken yet.
    unread: Vec<u8>,
}

impl Client {
    /// Connects; `number` among all tells from which address of this machine.
    pub(crate) async fn connect(server: SocketAddr, number: usize) -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        let group = u8::try_from(number / PER_ADDRESS).expect("fewer than some millions");
        if group > 0 {
            socket.bind((Ipv4Addr::new(127, 0, 0, 1 + group), 0).into())?;
        }
        let stream = socket.connect(server).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            unread: Vec::new(),
        })
    }

    /// Makes a WebSocket of it; gives the seconds after which to come again if it is too early for that.
    pub(crate) async fn upgrade(&mut self) -> Result<Option<u64>> {
        let request = "GET /v1/ws HTTP/1.1\r\nHost: bench\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\
            Sec-WebSocket-Protocol: outboxd.push.v1\r\n\r\n";
        self.write(request.as_bytes())?;
        loop {
            self.stream.readable().await?;
            self.read()?;
            let Some(end) = self.unread.windows(4).position(|four| four == b"\r\n\r\n") else {
                continue;
            };
            let head: Vec<u8> = self.unread.drain(..end + 4).collect();
            let head = String::from_utf8_lossy(&head).to_lowercase();
            if head.starts_with("http/1.1 101 ") {
                return Ok(None);
            }
            let later = head.split_once("retry-after: ").map(|(_, rest)| rest);
            let later = later.and_then(|rest| rest.split("\r\n").next()?.parse().ok());
            return match later {
                Some(seconds) => Ok(Some(seconds)),
                None => Err(Error::other("the server does not upgrade")),
            };
        }
    }

    /// Sends one line.
    pub(crate) fn send(&mut self, line: &Value) -> Result<()> {
        self.frame(TEXT, line.to_string().as_bytes())
    }

    /// Waits until something has come, and hands over its lines; gives the number of messages.
    pub(crate) async fn receive(&mut self, mut take: impl FnMut(&[u8])) -> Result<u64> {
        loop {
            self.stream.readable().await?;
            self.read()?;
            let (mut messages, mut taken) = (0, 0);
            while let Some((kind, payload)) = frame(self.unread.get(taken..).unwrap_or_default()) {
                let (from, to) = (taken + payload.start, taken + payload.end);
                taken = to;
                match kind {
                    TEXT => {
                        messages += 1;
                        let payload = self.unread.get(from..to).unwrap_or_default();
                        payload.split(|byte| *byte == b'\n').for_each(&mut take);
                    }
                    PING => {
                        let payload = self.unread.get(from..to).unwrap_or_default().to_vec();
                        self.frame(PONG, &payload)?;
                    }
                    CLOSE => return Err(Error::other("the server closes")),
                    _ => return Err(Error::other("a frame of an unexpected kind")),
                }
            }
            self.unread.drain(..taken);
            if messages > 0 {
                return Ok(messages);
            }
        }
    }

    fn frame(&self, kind: u8, payload: &[u8]) -> Result<()> {
        let mut bytes = header(kind, payload.len());
        // A mask of zeros: the payload as it is.
        if let Some(length) = bytes.get_mut(1) {
            *length |= 0x80;
        }
        bytes.extend([0; 4]);
        bytes.extend(payload);
        self.write(&bytes)
    }

    /// Little enough for the kernel to take it all at once.
    fn write(&self, bytes: &[u8]) -> Result<()> {
        let written = self.stream.try_write(bytes)?;
        match written == bytes.len() {
            true => Ok(()),
            false => Err(Error::other("the server does not read")),
        }
    }

    /// Reads what has come, if anything has.
    fn read(&mut self) -> Result<()> {
        let mut chunk = [0; CHUNK];
        match self.stream.try_read(&mut chunk) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(length) => {
                self.unread.extend(chunk.iter().take(length));
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// A text message as a server sends it.
pub(crate) fn message(line: &[u8]) -> Vec<u8> {
    let mut bytes = header(TEXT, line.len());
    bytes.extend(line);
    bytes
}

fn header(kind: u8, length: usize) -> Vec<u8> {
    let first = 0x80 | kind;
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(length @ ..126), _) => vec![first, length],
        (_, Ok(length)) => [&[first, 126], &length.to_be_bytes()[..]].concat(),
        _ => panic!("no frame here is so long"),
    }
}

/// The kind of the first frame, and where its payload is; `None` while it is not all there.
fn frame(bytes: &[u8]) -> Option<(u8, Range<usize>)> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    assert!(first & 0xf0 == 0x80, "a frame is whole and plain");
    let (header, length) = match second {
        126 => (4, usize::from(u16::from_be_bytes(array(bytes.get(2..4)?)))),
        127 => {
            let length = u64::from_be_bytes(array(bytes.get(2..10)?));
            (10, usize::try_from(length).expect("64 bits"))
        }
        length => {
            assert!(length < 126, "a server masks nothing");
            (2, usize::from(length))
        }
    };
    let payload = header..header + length;
    (bytes.len() >= payload.end).then_some((first & 0x0f, payload))
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("as many as were asked for")
}
