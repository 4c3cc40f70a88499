//! Server-sent events: the frames of a WebSocket for clients that cannot have one. Never takes a frame from a client.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Instant;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::access;
use crate::logic::push::frames::Frame;
use crate::logic::push::session::{Close, Input, Session};
use crate::metrics::{Rejected, Transport};
use crate::push::asks::{Left, carry_out, catch_up};
use crate::push::hub::{Hub, Log};
use crate::push::listener::Guest;
use crate::push::problem::Problem;
use crate::push::visit::Visit;

/// Frames are joined into one write up to this.
const WRITE: usize = 8 << 10;
/// After a break, browsers come back so soon by themselves.
const RETRY_MS: u32 = 2_000;

/// What a stream shows.
#[derive(Debug, Default, PartialEq, Eq)]
struct Shown {
    saga_type: String,
    saga_ids: Vec<String>,
}

/// Opens a stream: `ready`, then what a WebSocket would show that subscribes to each saga, or to the whole type.
pub(super) async fn stream(
    State(hub): State<Arc<Hub>>,
    Extension(guest): Extension<Arc<Guest>>,
    Extension(log): Extension<Arc<Log>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let access = access(&hub, &guest, &headers).await?;
    let shown = shown(query.as_deref().unwrap_or_default());
    if shown.saga_type.is_empty() {
        return Err(Problem::bad("saga_type has to say which sagas to show"));
    }
    if shown.saga_ids.is_empty() && !access.rights.may_watch_type(&shown.saga_type) {
        hub.metrics.rejected(Rejected::Forbidden, 1);
        return Err(Problem::forbidden());
    }
    let now = Instant::now();
    let mut session = Session::with_token(log.settings(), now, Ok(access));
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    for line in requests(&shown, last) {
        session.handle(now, Input::Message(&line));
    }
    let stream = Stream {
        visit: Visit::begin(&hub, &log, Transport::Sse, hub.terms().config.limits.queue),
        guest,
        session,
        began: false,
        closed: None,
        told_to_drain: false,
    };
    let chunks = futures_util::stream::unfold(stream, async |mut stream| {
        let chunk = stream.chunk().await?;
        Some((Ok::<_, Infallible>(chunk), stream))
    });
    let headers = [
        (header::CONTENT_TYPE.as_str(), "text/event-stream"),
        // Proxies of the nginx kind otherwise keep frames until they have enough of them.
        ("x-accel-buffering", "no"),
    ];
    Ok((headers, Body::from_stream(chunks)).into_response())
}

/// `saga_id` may repeat; whatever else the query has is somebody else's.
fn shown(query: &str) -> Shown {
    let mut shown = Shown::default();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "saga_type" => shown.saga_type = value.into_owned(),
            "saga_id" => shown.saga_ids.push(value.into_owned()),
            _ => {}
        }
    }
    shown
}

/// What a WebSocket would send. A version is of one saga: among several nobody knows whose it is.
fn requests(shown: &Shown, last_event_id: Option<&str>) -> Vec<String> {
    let saga_type = &shown.saga_type;
    let subscribe = |saga_id: Option<&String>| {
        let mut request = json!({"type": "subscribe", "saga_type": saga_type});
        let fields = request.as_object_mut().into_iter();
        let last = last_event_id
            .and_then(|id| id.split_once(':'))
            .filter(|_| shown.saga_ids.len() == 1);
        for fields in fields {
            if let Some(saga_id) = saga_id {
                fields.insert("saga_id".to_owned(), json!(saga_id));
            }
            if let Some((epoch, Ok(version))) =
                last.map(|(epoch, version)| (epoch, version.parse::<i64>()))
            {
                fields.insert("epoch".to_owned(), json!(epoch));
                fields.insert("version".to_owned(), json!(version));
            }
        }
        request.to_string()
    };
    if shown.saga_ids.is_empty() {
        return vec![subscribe(None)];
    }
    shown
        .saga_ids
        .iter()
        .map(|saga_id| subscribe(Some(saga_id)))
        .collect()
}

struct Stream {
    visit: Visit,
    guest: Arc<Guest>,
    session: Session,
    began: bool,
    closed: Option<Close>,
    told_to_drain: bool,
}

impl Stream {
    /// The next bytes; none at the end.
    async fn chunk(&mut self) -> Option<Bytes> {
        // What was taken before has been written, or this would not be asked for.
        self.session.handle(Instant::now(), Input::Wrote);
        let given_up = self.visit.who.queue.is_given_up();
        if given_up {
            // Counted when that was.
            let last = self.closed.replace(Close::Slow).is_none();
            return last.then(|| self.events(&[Close::Slow.bye()]));
        }
        loop {
            let now = Instant::now();
            if self.closed.is_none() {
                match carry_out(&mut self.visit, &self.guest.place, &mut self.session, now).await {
                    Left::Nothing => {}
                    // That the stream is read is all that can be known.
                    Left::Ping => {
                        self.session.handle(now, Input::Pong);
                        continue;
                    }
                    Left::Close(close) => self.closed = Some(close),
                }
            }
            let waited = self.visit.who.queue.bytes();
            let frames = self.visit.who.queue.take(WRITE);
            if !frames.is_empty() {
                self.visit.hub.measure(waited, &frames);
                catch_up(&self.visit).await;
                return Some(self.events(&frames));
            }
            if let Some(close) = self.closed {
                self.visit.hub.metrics.closed(close.code());
                return None;
            }
            self.wait().await;
        }
    }

    async fn wait(&mut self) {
        let deadline = self.session.deadline();
        let timer = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        let (visit, session) = (&self.visit, &mut self.session);
        tokio::select! {
            () = visit.who.queue.filled.notified() => {}
            () = timer => {}
            () = visit.log.ended.cancelled() => session.handle(Instant::now(), Input::Rotated),
            () = visit.hub.draining.cancelled(), if !self.told_to_drain => {
                self.told_to_drain = true;
                session.handle(Instant::now(), Input::Drain(visit.hub.turn(visit.who.session)));
            }
        }
    }

    fn events(&mut self, frames: &[Arc<Frame>]) -> Bytes {
        let mut text = String::new();
        // Writing to a String cannot fail.
        if !std::mem::replace(&mut self.began, true) {
            let _ = writeln!(text, "retry: {RETRY_MS}\n");
        }
        for frame in frames {
            if let Some(version) = frame.version() {
                let _ = writeln!(text, "id: {}:{version}", self.visit.log.epoch);
            }
            let _ = writeln!(text, "event: {}\ndata: {}\n", frame.kind(), frame.text());
        }
        text.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_asked_for_and_one_saga_is_resumed() {
        let one = shown("saga_type=create%2Dorder&saga_id=gr%C3%B6%C3%9Fe&x=1");
        assert_eq!(
            (one.saga_type.as_str(), one.saga_ids.concat().as_str()),
            ("create-order", "größe")
        );
        let expected = r#"{"epoch":"7f3a","saga_id":"größe","saga_type":"create-order","type":"subscribe","version":8101}"#;
        assert_eq!(requests(&one, Some("7f3a:8101")), [expected]);
        assert!(!requests(&one, Some("nonsense"))[0].contains("version"));
        let two = shown("saga_type=t&saga_id=a&saga_id=b");
        let asked = requests(&two, Some("7f3a:8101"));
        assert_eq!(asked.len(), 2);
        assert!(!asked.concat().contains("version"), "whose would it be?");
        let all = requests(&shown("saga_type=t"), None);
        assert_eq!(all, [r#"{"saga_type":"t","type":"subscribe"}"#]);
    }
}
