//! A client of the push endpoint that follows the contract to the letter. Knows nothing of the daemon but its address.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::Request;
use tokio_tungstenite::tungstenite::{Error, Message};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whatever carries a WebSocket: TCP, or TLS on it.
pub(crate) trait Carrier: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Carrier for S {}

/// One WebSocket.
pub(crate) struct Socket {
    stream: WebSocketStream<Box<dyn Carrier>>,
    /// Lines of a message that have not been asked for yet.
    lines: std::collections::VecDeque<String>,
}

/// How a socket ended: the close code, 1006 without one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Closed(pub(crate) u16);

impl Socket {
    /// Connects and offers the sub-protocol, with further headers.
    pub(crate) async fn open(
        address: SocketAddr,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, Error> {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        Self::over(tcp, address, headers).await
    }

    /// The same over a connection of the caller's.
    pub(crate) async fn over(
        carrier: impl Carrier + 'static,
        address: SocketAddr,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, Error> {
        let mut request: Request<()> = format!("ws://{address}/v1/ws").into_client_request()?;
        let own = [("sec-websocket-protocol", "outboxd.push.v1")];
        for (name, value) in own.iter().chain(headers) {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let carrier: Box<dyn Carrier> = Box::new(carrier);
        let (stream, _) = tokio_tungstenite::client_async(request, carrier).await?;
        Ok(Self {
            stream,
            lines: std::collections::VecDeque::new(),
        })
    }

    /// Connects and shows a token; gives the `ready` frame.
    pub(crate) async fn authenticated(
        address: SocketAddr,
        token: &str,
    ) -> Result<(Self, Value), Error> {
        let mut socket = Self::open(address, &[]).await?;
        let ready = socket.show(token).await?;
        Ok((socket, ready))
    }

    /// Shows a token; gives the `ready` frame.
    pub(crate) async fn show(&mut self, token: &str) -> Result<Value, Error> {
        self.send(&json!({"type": "auth", "id": 1, "token": token}))
            .await?;
        match self.next().await {
            Ok(ready) if ready["type"] == "ready" => Ok(ready),
            Ok(_) | Err(_) => Err(Error::ConnectionClosed),
        }
    }

    /// Sends one frame.
    pub(crate) async fn send(&mut self, frame: &Value) -> Result<(), Error> {
        self.message(Message::text(frame.to_string())).await
    }

    /// Sends anything.
    pub(crate) async fn message(&mut self, message: Message) -> Result<(), Error> {
        self.stream.send(message).await
    }

    /// The next frame, or how the socket ended.
    pub(crate) async fn next(&mut self) -> Result<Value, Closed> {
        let next = tokio::time::timeout(PATIENCE, self.line()).await;
        let line = next.expect("a frame should have come by now")?;
        Ok(serde_json::from_str(&line).expect("a frame is JSON"))
    }

    /// The next frame but heartbeats.
    pub(crate) async fn news(&mut self) -> Result<Value, Closed> {
        loop {
            let frame = self.next().await?;
            if frame["type"] != "heartbeat" {
                return Ok(frame);
            }
        }
    }

    /// What comes before the end, and the end.
    pub(crate) async fn rest(&mut self) -> (Vec<Value>, u16) {
        let mut frames = Vec::new();
        loop {
            match self.next().await {
                Ok(frame) => frames.push(frame),
                Err(Closed(code)) => return (frames, code),
            }
        }
    }

    /// The next message as it came.
    pub(crate) async fn raw(&mut self) -> Result<String, Closed> {
        self.fill().await?;
        let lines: Vec<String> = self.lines.drain(..).collect();
        Ok(lines.join("\n"))
    }

    async fn line(&mut self) -> Result<String, Closed> {
        loop {
            if let Some(line) = self.lines.pop_front() {
                return Ok(line);
            }
            self.fill().await?;
        }
    }

    /// Waits for one message.
    async fn fill(&mut self) -> Result<(), Closed> {
        loop {
            match self.stream.next().await {
                Some(Ok(Message::Text(text))) => {
                    self.lines.extend(text.lines().map(str::to_owned));
                    return Ok(());
                }
                Some(Ok(Message::Close(frame))) => {
                    return Err(Closed(frame.map_or(1005, |frame| frame.code.into())));
                }
                Some(Ok(
                    Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_),
                )) => {}
                Some(Err(_)) | None => return Err(Closed(1006)),
            }
        }
    }
}

/// What a client knows of sagas, by the whole client rule of the contract.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    /// What versions are of.
    pub(crate) epoch: String,
    /// By type and id.
    pub(crate) sagas: HashMap<(String, String), SagaSeen>,
    /// Changes that were applied.
    pub(crate) changes: u64,
    /// Snapshots that were taken.
    pub(crate) snapshots: u64,
}

/// A saga as the frames told it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct SagaSeen {
    pub(crate) version: i64,
    pub(crate) state: Value,
    pub(crate) outcome: Value,
    pub(crate) stuck_since: Value,
    /// By name.
    pub(crate) steps: HashMap<String, Value>,
}

/// A change that does not follow what the client has.
#[derive(Debug)]
pub(crate) struct Gap(pub(crate) String);

impl Known {
    /// Another epoch makes all versions void.
    pub(crate) fn ready(&mut self, frame: &Value) {
        let epoch = frame["epoch"].as_str().unwrap_or_default();
        if epoch != self.epoch {
            self.sagas.clear();
            self.epoch = epoch.to_owned();
        }
    }

    /// What to send to see a saga from what is known of it on.
    pub(crate) fn subscribe(&self, id: u64, saga_type: &str, saga_id: &str) -> Value {
        let mut frame =
            json!({"type": "subscribe", "id": id, "saga_type": saga_type, "saga_id": saga_id});
        if let Some(seen) = self.sagas.get(&(saga_type.to_owned(), saga_id.to_owned())) {
            frame["epoch"] = json!(self.epoch);
            frame["version"] = json!(seen.version);
        }
        frame
    }

    /// Takes a frame; those that are no news of a saga change nothing.
    pub(crate) fn take(&mut self, frame: &Value) -> Result<(), Gap> {
        let text = |name: &str| frame[name].as_str().unwrap_or_default().to_owned();
        let key = (text("saga_type"), text("saga_id"));
        let Some(version) = frame["version"].as_i64() else {
            return Ok(());
        };
        let known = self.sagas.get_mut(&key);
        let have = known.as_ref().map(|seen| seen.version);
        match text("type").as_str() {
            "snapshot" if have.is_none_or(|have| have <= version) => {
                self.snapshots += 1;
                let steps = frame["steps"].as_array().into_iter().flatten();
                let steps = steps.map(|step| {
                    (
                        step["step"].as_str().unwrap().to_owned(),
                        step["status"].clone(),
                    )
                });
                let seen = SagaSeen {
                    version,
                    state: frame["state"].clone(),
                    outcome: frame["outcome"].clone(),
                    stuck_since: frame["stuck_since"].clone(),
                    steps: steps.collect(),
                };
                self.sagas.insert(key, seen);
            }
            "change" if frame["previous"].as_i64() == have => {
                self.changes += 1;
                let seen = self.sagas.entry(key).or_default();
                seen.version = version;
                if !frame["state"].is_null() {
                    seen.state = frame["state"].clone();
                }
                if !frame["outcome"].is_null() {
                    seen.outcome = frame["outcome"].clone();
                }
                if let Some(since) = frame.get("stuck_since") {
                    seen.stuck_since = since.clone();
                }
                if let Some(step) = frame["step"].as_str() {
                    seen.steps.insert(step.to_owned(), frame["status"].clone());
                }
            }
            "change" if have.is_none_or(|have| version > have) => {
                return Err(Gap(format!("{frame} does not follow {have:?}")));
            }
            _ => {}
        }
        Ok(())
    }
}
