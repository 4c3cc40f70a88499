//! One WebSocket: carries out what its session asks for, and writes what its queue holds. Decides nothing.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use super::asks::{Left, carry_out, catch_up};
use super::hub::{Hub, Log, Place};
use super::queue::Queue;
use super::visit::Visit;
use crate::logic::push::frames::Frame;
use crate::logic::push::partition::Sink;
use crate::logic::push::session::{Close, Input, Session};
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
    visit: Visit,
    place: Arc<Place>,
    session: Session,
    flushing: bool,
    pings: bool,
    told_to_drain: bool,
}

/// Serves a client until either side has enough.
pub(super) async fn serve<S>(stream: S, accepted: Accepted)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let terms = accepted.hub.terms();
    let limits = &terms.config.limits;
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        // Written when flushed: one write for all that is there.
        .write_buffer_size(2 * MESSAGE)
        .max_message_size(Some(limits.frame))
        .max_frame_size(Some(limits.frame));
    let visit = Visit::begin(
        &accepted.hub,
        &accepted.log,
        Transport::WebSocket,
        limits.queue,
    );
    let mut socket = Socket {
        stream: WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await,
        visit,
        place: accepted.place,
        session: accepted.session,
        flushing: false,
        pings: false,
        told_to_drain: false,
    };
    let end = socket.run().await;
    let Socket { stream, visit, .. } = socket;
    visit.hub.metrics.closed(match &end {
        End::Closed(close) => close.code(),
        End::Breach(code) => u16::from(*code),
        End::Left(code) => *code,
    });
    let queue = Arc::clone(&visit.who.queue);
    // Whatever still happens to sagas is not for this client.
    drop(visit);
    // In a box: every connection would keep room for it all its life. A client that does not listen is left alone.
    let goodbye = Box::pin(goodbye(stream, &queue, end));
    let _ = tokio::time::timeout(2 * GOODBYE, goodbye).await;
}

impl<S> Socket<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    async fn run(&mut self) -> End {
        loop {
            let now = Instant::now();
            match carry_out(&mut self.visit, &self.place, &mut self.session, now).await {
                Left::Nothing => {}
                Left::Ping => {
                    self.pings = true;
                    continue;
                }
                Left::Close(close) => return End::Closed(close),
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
                    self.session.handle(now, Input::Message(&text));
                    continue;
                }
                Next::Read(Some(Ok(Message::Binary(_)))) => Input::Binary,
                Next::Read(Some(Ok(Message::Pong(_)))) => Input::Pong,
                Next::Read(Some(Ok(Message::Ping(_)))) => Input::Ping,
                Next::Read(Some(Ok(Message::Frame(_)))) => continue,
                Next::Read(Some(Ok(Message::Close(frame)))) => {
                    let code = frame.map_or(CloseCode::Status, |frame| frame.code);
                    return End::Left(code.into());
                }
                Next::Read(Some(Err(Error::Capacity(_)))) => Input::TooBig,
                Next::Read(Some(Err(error))) => return ended_by(&error),
                Next::Read(None) => return End::Left(CloseCode::Abnormal.into()),
            };
            self.session.handle(now, input);
        }
    }

    /// Hands to the network what waits, as long as it takes everything at once.
    async fn write(&mut self, now: Instant) -> Result<(), Error> {
        while !self.flushing {
            if std::mem::take(&mut self.pings) {
                self.stream.feed(Message::Ping(Bytes::new())).await?;
            } else {
                let waited = self.visit.who.queue.bytes();
                let frames = self.visit.who.queue.take(MESSAGE);
                if frames.is_empty() {
                    break;
                }
                self.visit.hub.measure(waited, &frames);
                self.stream.feed(Message::Text(joined(&frames))).await?;
            }
            let flushed = poll_fn(|context| Poll::Ready(self.stream.poll_flush_unpin(context)));
            match flushed.await {
                Poll::Ready(flushed) => {
                    flushed?;
                    self.session.handle(now, Input::Wrote);
                }
                Poll::Pending => {
                    self.flushing = true;
                    self.session.handle(now, Input::Blocked);
                }
            }
        }
        catch_up(&self.visit).await;
        Ok(())
    }

    /// Waits until there is something to do.
    async fn next(&mut self) -> Next {
        let now = Instant::now();
        let session = &self.session;
        let read_from = session
            .read_from()
            .filter(|_| !self.visit.who.queue.is_full());
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
            () = self.visit.who.queue.filled.notified() => Next::Awake,
            () = timer => Next::Awake,
            () = self.visit.log.ended.cancelled() => {
                self.session.handle(Instant::now(), Input::Rotated);
                Next::Awake
            }
            () = self.visit.hub.draining.cancelled(), if !self.told_to_drain => {
                self.told_to_drain = true;
                let turn = self.visit.hub.turn(self.visit.who.session);
                self.session.handle(Instant::now(), Input::Drain(turn));
                Next::Awake
            }
        }
    }
}

/// Says what is left to say, then why it ends, and listens until the client has heard it.
async fn goodbye<S>(
    mut stream: WebSocketStream<S>,
    queue: &Arc<Queue>,
    end: End,
) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (code, reason) = match end {
        End::Closed(close) => {
            if close == Close::Slow {
                // It did not take what waits; it may take this.
                queue.clear();
                queue.answer(close.bye());
            }
            loop {
                let frames = queue.take(MESSAGE);
                if frames.is_empty() {
                    break;
                }
                stream.send(Message::Text(joined(&frames))).await?;
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
    let _ = stream.close(Some(frame)).await;
    stream.flush().await?;
    // What it still sends must not reset the connection before it has read our last frame.
    let mut rest = stream.into_inner();
    rest.shutdown().await?;
    let listen =
        async { tokio::io::copy(&mut rest.take(LAST_BYTES), &mut tokio::io::sink()).await };
    let _ = tokio::time::timeout(GOODBYE, listen).await;
    Ok(())
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
