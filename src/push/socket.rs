//! One WebSocket: carries out what its session asks for, and writes what its queue holds. Decides nothing.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use super::feed::{Ask, Mail, Who};
use super::hub::{Hub, Log, Place};
use super::queue::{Note, Queue};
use crate::logic::push::frames::Frame;
use crate::logic::push::session::{Close, Input, Output, Session};
use crate::logic::rights::Rights;
use crate::metrics::Transport;

/// Each idle connection pays for it; a longer message makes it grow for its time.
const READ_BUFFER: usize = 1 << 10;
/// Frames are joined into one message up to this, and into one write.
const MESSAGE: usize = 8 << 10;
/// A client that is told goodbye has so long to listen.
const GOODBYE: Duration = Duration::from_secs(2);
/// And sends no more than this meanwhile.
const LAST_BYTES: u64 = 64 << 10;

/// A handshake that was accepted.
pub(super) struct Accepted {
    pub(super) hub: Arc<Hub>,
    pub(super) log: Arc<Log>,
    pub(super) place: Arc<Place>,
    pub(super) session: Session,
}

/// How the work on a connection goes on.
enum Next {
    Read(Option<Result<Message, Error>>),
    Flushed(Result<(), Error>),
    Awake,
}

/// How a connection ended.
enum End {
    /// Our word.
    Closed(Close),
    /// A breach of RFC 6455, and its code.
    Breach(CloseCode),
    /// The client's word.
    Left(u16),
}

struct Socket<S> {
    stream: WebSocketStream<S>,
    accepted: Accepted,
    who: Who,
    flushing: bool,
    pings: bool,
    subscriptions: usize,
    told_to_drain: bool,
}

/// Serves a client until either side has enough.
pub(super) async fn serve<S>(stream: S, accepted: Accepted)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let limits = &accepted.hub.config.limits;
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        // Written when flushed: one write for all that is there.
        .write_buffer_size(2 * MESSAGE)
        .max_message_size(Some(limits.frame))
        .max_frame_size(Some(limits.frame));
    let queue = Queue::new(limits.queue);
    let stream = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
    let hub = Arc::clone(&accepted.hub);
    let connections = hub.metrics.connections(Transport::WebSocket);
    connections.increment(1.0);
    hub.metrics.accepted(Transport::WebSocket, 1);
    let who = Who {
        session: hub.next_session(),
        queue,
        rights: Arc::new(Rights::new(None, None)),
    };
    let mut socket = Socket {
        stream,
        accepted,
        who,
        flushing: false,
        pings: false,
        subscriptions: 0,
        told_to_drain: false,
    };
    let end = socket.run().await;
    let session = socket.who.session;
    socket.accepted.log.send_all(|| Mail::Left(session)).await;
    socket.count_subscriptions(0);
    connections.decrement(1.0);
    hub.metrics.closed(match &end {
        End::Closed(close) => close.code(),
        End::Breach(code) => u16::from(*code),
        End::Left(code) => *code,
    });
    // In a box: every connection would keep room for it all its life. A client that does not listen is left alone.
    let goodbye = Box::pin(socket.goodbye(end));
    let _ = tokio::time::timeout(2 * GOODBYE, goodbye).await;
}

impl<S> Socket<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    async fn run(&mut self) -> End {
        loop {
            let now = Instant::now();
            self.accepted.session.tick(now);
            for note in self.who.queue.take_notes() {
                let input = match &note {
                    Note::Done(tag) => Input::Done(*tag),
                    Note::Lost(key) => Input::Lost(key),
                };
                self.accepted.session.handle(now, input);
            }
            if let Some(close) = self.carry_out(now).await {
                return End::Closed(close);
            }
            if let Err(error) = self.write(now).await {
                return ended_by(&error);
            }
            let next = self.next().await;
            let now = Instant::now();
            let input = match next {
                Next::Awake => continue,
                Next::Flushed(Err(error)) => return ended_by(&error),
                Next::Flushed(Ok(())) => {
                    self.flushing = false;
                    Input::Wrote
                }
                Next::Read(Some(Ok(Message::Text(text)))) => {
                    self.accepted.session.handle(now, Input::Message(&text));
                    continue;
                }
                Next::Read(Some(Ok(Message::Binary(_)))) => Input::Binary,
                Next::Read(Some(Ok(Message::Pong(_)))) => Input::Pong,
                Next::Read(Some(Ok(Message::Ping(_) | Message::Frame(_)))) => continue,
                Next::Read(Some(Ok(Message::Close(frame)))) => {
                    let code = frame.map_or(CloseCode::Status, |frame| frame.code);
                    return End::Left(code.into());
                }
                Next::Read(Some(Err(Error::Capacity(_)))) => Input::TooBig,
                Next::Read(Some(Err(error))) => return ended_by(&error),
                Next::Read(None) => return End::Left(CloseCode::Abnormal.into()),
            };
            self.accepted.session.handle(now, input);
        }
    }

    /// Does what the session asks for, until it asks for the end.
    async fn carry_out(&mut self, now: Instant) -> Option<Close> {
        while let Some(output) = self.accepted.session.poll_output() {
            if let Some(rights) = self.accepted.session.rights()
                && !Arc::ptr_eq(rights, &self.who.rights)
            {
                self.who.rights = Arc::clone(rights);
            }
            let log = &self.accepted.log;
            match output {
                Output::Verify(token) => {
                    let verdict = self.accepted.hub.access(&self.accepted.place, &token);
                    self.accepted.session.handle(now, Input::Verified(verdict));
                }
                Output::Send(frame) => self.send(frame),
                Output::Ping => self.pings = true,
                Output::Subscribe { id, key, has } => {
                    let ask = Ask::Subscribe {
                        id,
                        key: key.clone(),
                        has,
                    };
                    log.send(&key, Mail::Session(self.who.clone(), ask)).await;
                }
                Output::Unsubscribe { id, key } => {
                    let ask = Ask::Unsubscribe {
                        id,
                        key: key.clone(),
                    };
                    log.send(&key, Mail::Session(self.who.clone(), ask)).await;
                }
                Output::SubscribeType { saga_type, tag } => {
                    let saga_type: Arc<str> = saga_type.into();
                    let ask = || Ask::SubscribeType {
                        saga_type: Arc::clone(&saga_type),
                        tag,
                    };
                    log.ask_all(&self.who, ask).await;
                }
                Output::UnsubscribeType { saga_type, tag } => {
                    let saga_type: Arc<str> = saga_type.into();
                    let ask = || Ask::UnsubscribeType {
                        saga_type: Arc::clone(&saga_type),
                        tag,
                    };
                    log.ask_all(&self.who, ask).await;
                }
                Output::Renew(_) => log.ask_all(&self.who, || Ask::Renew).await,
                Output::Close(close) => return Some(close),
            }
        }
        self.count_subscriptions(self.accepted.session.subscriptions());
        None
    }

    fn send(&self, frame: Arc<Frame>) {
        use crate::logic::push::partition::Sink;
        self.who.queue.answer(frame);
    }

    /// Hands to the network what waits, as long as it takes everything at once.
    async fn write(&mut self, now: Instant) -> Result<(), Error> {
        while !self.flushing {
            if std::mem::take(&mut self.pings) {
                self.stream.feed(Message::Ping(Bytes::new())).await?;
            } else {
                let waited = self.who.queue.bytes();
                let frames = self.who.queue.take(MESSAGE);
                if frames.is_empty() {
                    break;
                }
                self.measure(waited, &frames);
                self.stream.feed(Message::Text(joined(&frames))).await?;
            }
            let flushed = poll_fn(|context| Poll::Ready(self.stream.poll_flush_unpin(context)));
            match flushed.await {
                Poll::Ready(flushed) => {
                    flushed?;
                    self.accepted.session.handle(now, Input::Wrote);
                }
                Poll::Pending => {
                    self.flushing = true;
                    self.accepted.session.handle(now, Input::Blocked);
                }
            }
        }
        for partition in self.who.queue.take_behind() {
            let mailbox = usize::try_from(partition)
                .ok()
                .and_then(|partition| self.accepted.log.partitions.get(partition));
            if let Some(mailbox) = mailbox {
                // Nobody reads it any more when the log has ended.
                let _ = mailbox.send(Mail::Drained(self.who.session)).await;
            }
        }
        Ok(())
    }

    fn measure(&self, waited: usize, frames: &[Arc<Frame>]) {
        let metrics = &self.accepted.hub.metrics;
        let bytes: usize = frames.iter().map(|frame| frame.text().len()).sum();
        metrics.frames_sent.increment(count(frames.len()));
        metrics.bytes_sent.increment(count(bytes));
        #[expect(clippy::cast_precision_loss, reason = "a histogram")]
        metrics.queue_bytes.record(waited as f64);
        for happened in frames.iter().filter_map(|frame| frame.first_write()) {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            let took = now.unwrap_or_default().as_secs_f64() - happened.as_seconds();
            metrics.insert_to_push.record(took.max(0.0));
        }
    }

    /// Waits until there is something to do.
    async fn next(&mut self) -> Next {
        let now = Instant::now();
        let session = &self.accepted.session;
        let read_from = session.read_from().filter(|_| !self.who.queue.is_full());
        let reads = read_from.is_some_and(|from| from <= now);
        let throttled = read_from.filter(|_| !reads);
        let deadline = session.deadline().into_iter().chain(throttled).min();
        let (stream, flushing) = (&mut self.stream, self.flushing);
        let io = poll_fn(|context| {
            if flushing && let Poll::Ready(flushed) = stream.poll_flush_unpin(context) {
                return Poll::Ready(Next::Flushed(flushed));
            }
            if reads && let Poll::Ready(read) = stream.poll_next_unpin(context) {
                return Poll::Ready(Next::Read(read));
            }
            Poll::Pending
        });
        let timer = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            next = io => next,
            () = self.who.queue.filled.notified() => Next::Awake,
            () = timer => Next::Awake,
            () = self.accepted.log.ended.cancelled() => {
                self.accepted.session.handle(Instant::now(), Input::Rotated);
                Next::Awake
            }
            () = self.accepted.hub.draining.cancelled(), if !self.told_to_drain => {
                self.told_to_drain = true;
                let turn = self.accepted.hub.turn(self.who.session);
                self.accepted.session.handle(Instant::now(), Input::Drain(turn));
                Next::Awake
            }
        }
    }

    fn count_subscriptions(&mut self, count: usize) {
        #[expect(clippy::cast_precision_loss, reason = "a gauge")]
        let change = count as f64 - self.subscriptions as f64;
        if count != self.subscriptions {
            self.accepted.hub.metrics.subscriptions.increment(change);
            self.subscriptions = count;
        }
    }

    /// Says what is left to say, then why it ends, and listens until the client has heard it.
    async fn goodbye(mut self, end: End) -> Result<(), Error> {
        let (code, reason) = match end {
            End::Closed(close) => {
                if close == Close::Slow {
                    // It did not take what waits; it may take this.
                    self.who.queue.clear();
                    self.send(close.bye());
                }
                loop {
                    let frames = self.who.queue.take(MESSAGE);
                    if frames.is_empty() {
                        break;
                    }
                    self.stream.send(Message::Text(joined(&frames))).await?;
                }
                (CloseCode::from(close.code()), close.reason())
            }
            End::Breach(code) => (code, ""),
            End::Left(code) => (CloseCode::from(code), ""),
        };
        let frame = CloseFrame {
            code,
            reason: reason.into(),
        };
        // An answer to the client's own close has been queued already.
        let _ = self.stream.close(Some(frame)).await;
        self.stream.flush().await?;
        // What it still sends must not reset the connection before it has read our last frame.
        let mut rest = self.stream.into_inner();
        rest.shutdown().await?;
        let listen =
            async { tokio::io::copy(&mut rest.take(LAST_BYTES), &mut tokio::io::sink()).await };
        let _ = tokio::time::timeout(GOODBYE, listen).await;
        Ok(())
    }
}

/// One message of one or more lines.
fn joined(frames: &[Arc<Frame>]) -> Utf8Bytes {
    let bytes = match frames {
        [one] => one.bytes(),
        several => {
            let mut lines = BytesMut::new();
            for frame in several {
                if !lines.is_empty() {
                    lines.extend_from_slice(b"\n");
                }
                lines.extend_from_slice(frame.text().as_bytes());
            }
            lines.freeze()
        }
    };
    // Lines of JSON are UTF-8.
    Utf8Bytes::try_from(bytes).unwrap_or_default()
}

fn ended_by(error: &Error) -> End {
    match error {
        Error::Protocol(_) | Error::AttackAttempt => {
            // A client that is just gone breaks the protocol, too.
            let gone = matches!(
                error,
                Error::Protocol(
                    tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake
                )
            );
            if gone {
                End::Left(CloseCode::Abnormal.into())
            } else {
                End::Breach(CloseCode::Protocol)
            }
        }
        Error::Utf8(_) => End::Breach(CloseCode::Invalid),
        Error::ConnectionClosed
        | Error::AlreadyClosed
        | Error::Io(_)
        | Error::Tls(_)
        | Error::Capacity(_)
        | Error::WriteBufferFull(_)
        | Error::Url(_)
        | Error::Http(_)
        | Error::HttpFormat(_) => End::Left(CloseCode::Abnormal.into()),
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
