//! One client's connection: token, subscriptions, signs of life, and when it has to end. Never does I/O.
//!
//! The shell feeds it what happened and carries out what it asks for. Changes of sagas do not pass
//! through here: partitions put them straight into the connection's queue.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

mod close;
mod ports;

pub use close::Close;
pub use ports::{Access, Input, Limit, NoAccess, Output, Settings};

use super::frames::{self, ErrorCode, Frame, Reply, Request};
use crate::logic::rights::Rights;
use crate::logic::saga::SagaKey;

/// Frames that a client may send at once.
const BURST: u32 = 150;
/// Frames that are no requests, until the connection ends.
const BAD_REQUESTS: u32 = 10;
/// The client hears so long before its token expires.
const EXPIRING: Duration = Duration::from_secs(30);
/// A client that takes nothing for so long is gone.
const STALLED: Duration = Duration::from_secs(30);
/// No token lasts longer for us: it keeps sums of times in range.
const FOREVER: Duration = Duration::from_secs(366 * 24 * 3600);

/// A whole type, or one of its sagas.
type Target = (String, Option<String>);

/// What is said when every partition has done its part.
#[derive(Debug)]
enum Then {
    Live { id: Option<u64> },
    Unsubscribed { id: Option<u64> },
    Forbidden,
}

#[derive(Debug)]
struct Tally {
    tag: u64,
    saga_type: String,
    then: Then,
    left: usize,
}

/// One client's connection.
#[derive(Debug)]
pub struct Session {
    settings: Arc<Settings>,
    access: Option<Arc<Rights>>,
    token_id: Option<Arc<str>>,
    lines: VecDeque<String>,
    /// The request whose token is being looked at.
    verifying: Option<Option<u64>>,
    targets: HashSet<Target>,
    tallies: Vec<Tally>,
    tags: u64,
    bad_requests: u32,
    /// When a client that keeps to its rate would send its next frame.
    paced_until: Instant,
    sent_at: Instant,
    ping_at: Instant,
    pong_by: Option<Instant>,
    blocked_since: Option<Instant>,
    auth_by: Option<Instant>,
    expiring_at: Option<Instant>,
    token_ends_at: Option<Instant>,
    /// Later than that by the leeway.
    expires_at: Option<Instant>,
    drain_at: Option<Instant>,
    closed: bool,
    outputs: VecDeque<Output>,
}

impl Session {
    /// A connection that was accepted now.
    pub fn new(settings: Arc<Settings>, now: Instant) -> Self {
        Self {
            access: None,
            token_id: None,
            lines: VecDeque::new(),
            verifying: None,
            targets: HashSet::new(),
            tallies: Vec::new(),
            tags: 0,
            bad_requests: 0,
            paced_until: now,
            sent_at: now,
            ping_at: now + settings.heartbeat,
            pong_by: None,
            blocked_since: None,
            auth_by: Some(now + settings.auth),
            expiring_at: None,
            token_ends_at: None,
            expires_at: None,
            drain_at: None,
            closed: false,
            outputs: VecDeque::new(),
            settings,
        }
    }

    /// A connection whose handshake carried a token, which was looked at.
    pub fn with_token(
        settings: Arc<Settings>,
        now: Instant,
        verdict: Result<Access, NoAccess>,
    ) -> Self {
        let mut session = Self::new(settings, now);
        session.verified(now, None, verdict);
        session
    }

    /// Takes what happened.
    pub fn handle(&mut self, now: Instant, input: Input<'_>) {
        if self.closed {
            return;
        }
        match input {
            Input::Message(text) => {
                let lines = text.lines().filter(|line| !line.trim().is_empty());
                self.lines.extend(lines.map(str::to_owned));
                self.read_on(now);
            }
            Input::Verified(verdict) => {
                if let Some(id) = self.verifying.take() {
                    self.verified(now, id, verdict);
                    self.read_on(now);
                }
            }
            Input::Binary => self.close(Close::BadRequest),
            Input::TooBig => self.close(Close::FrameTooBig),
            Input::Ping => self.pace(now),
            Input::Pong => {
                self.pace(now);
                self.pong_by = None;
            }
            Input::Blocked => {
                self.blocked_since.get_or_insert(now);
            }
            Input::Wrote => {
                self.blocked_since = None;
                self.sent_at = now;
                // What it was asked while it took nothing reaches it only now.
                self.pong_by = self.pong_by.map(|by| by.max(now + self.settings.pong));
            }
            Input::Done(tag) => self.done(tag),
            Input::Lost(key) => {
                let target = (key.saga_type.to_string(), Some(key.saga_id.to_string()));
                self.targets.remove(&target);
            }
            Input::Drain(after) => self.drain_at = Some(now + after),
            Input::Rotated => self.close(Close::Rotated),
            Input::Kicked => self.close(Close::Disconnected),
        }
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Instant) {
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if self.closed {
            return;
        }
        if due(self.drain_at) {
            return self.close(Close::Shutdown);
        }
        if due(self.expires_at) {
            return self.close(Close::Expired);
        }
        if due(self.auth_by) {
            return self.close(Close::NoToken);
        }
        if let Some(since) = self.blocked_since {
            if now.duration_since(since) >= STALLED {
                self.close(Close::Slow);
            }
            // Neither pings nor heartbeats would reach it.
            return;
        }
        if due(self.pong_by) {
            return self.close(Close::NoPong);
        }
        if due(self.expiring_at) {
            self.expiring_at = None;
            let left = self.token_ends_at.map(|at| at.duration_since(now));
            let left = left.unwrap_or_default();
            let in_s = left.as_secs_f64().round();
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "at most thirty"
            )]
            let in_s = in_s as u64;
            self.send(Reply::Expiring { in_s }.frame());
        }
        if due(Some(self.sent_at + self.settings.heartbeat)) && self.access.is_some() {
            // Until it is written, which moves it further.
            self.sent_at = now;
            self.send(Reply::Heartbeat.frame());
        }
        if due(Some(self.ping_at)) {
            self.ping_at = now + self.settings.heartbeat;
            self.pong_by.get_or_insert(now + self.settings.pong);
            self.outputs.push_back(Output::Ping);
        }
    }

    /// When [`Session::tick`] is needed next, unless something happens before.
    pub fn deadline(&self) -> Option<Instant> {
        if self.closed {
            return None;
        }
        let always = [self.drain_at, self.expires_at, self.auth_by];
        let quiet = match self.blocked_since {
            Some(since) => [Some(since + STALLED), None, None, None],
            None => [
                self.pong_by,
                self.expiring_at,
                self.access
                    .is_some()
                    .then(|| self.sent_at + self.settings.heartbeat),
                Some(self.ping_at),
            ],
        };
        always.into_iter().chain(quiet).flatten().min()
    }

    /// What to do next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// From when on the next message may be read; none while a token is being looked at.
    pub fn read_from(&self) -> Option<Instant> {
        let burst = self.frame_time() * BURST;
        let idle = !self.closed && self.verifying.is_none();
        idle.then(|| {
            self.paced_until
                .checked_sub(burst)
                .unwrap_or(self.paced_until)
        })
    }

    /// What may be watched, once a token has been shown.
    pub fn rights(&self) -> Option<&Arc<Rights>> {
        self.access.as_ref()
    }

    /// The name of the token that was shown last.
    pub fn token_id(&self) -> Option<&Arc<str>> {
        self.token_id.as_ref()
    }

    /// How many subscriptions there are.
    pub fn subscriptions(&self) -> usize {
        self.targets.len()
    }

    fn frame_time(&self) -> Duration {
        Duration::from_secs(1) / self.settings.frames_per_second.max(1)
    }

    /// Whatever a client sends counts towards its rate.
    fn pace(&mut self, now: Instant) {
        let burst = self.frame_time() * BURST;
        let was_slow = self.paced_until > now + burst;
        self.paced_until = self.paced_until.max(now) + self.frame_time();
        if !was_slow && self.paced_until > now + burst {
            self.outputs.push_back(Output::Hit(Limit::Rate));
        }
    }

    fn read_on(&mut self, now: Instant) {
        while self.verifying.is_none()
            && !self.closed
            && let Some(line) = self.lines.pop_front()
        {
            self.pace(now);
            match Request::read(&line) {
                Ok(request) => self.request(request),
                Err(id) => self.bad_request(id, "this is not a frame that a client may send"),
            }
        }
    }

    fn request(&mut self, request: Request) {
        match request {
            Request::Auth { id, token } => {
                self.verifying = Some(id);
                self.outputs.push_back(Output::Verify(token));
            }
            Request::Subscribe {
                id,
                saga_type,
                saga_id,
                epoch,
                version,
            } => {
                let has = version.filter(|_| epoch.as_deref() == Some(&*self.settings.epoch));
                self.subscribe(id, (saga_type, saga_id), has);
            }
            Request::Unsubscribe {
                id,
                saga_type,
                saga_id,
            } => self.unsubscribe(id, (saga_type, saga_id)),
        }
    }

    fn subscribe(&mut self, id: Option<u64>, target: Target, has: Option<i64>) {
        let Some(rights) = &self.access else {
            return self.bad_request(id, "show a token first");
        };
        if target.1.is_none() && !rights.may_watch_type(&target.0) {
            let message = "the token has no grant for this whole type";
            return self.refuse(id, ErrorCode::Forbidden, message);
        }
        if !self.targets.contains(&target) && self.targets.len() >= self.settings.subscriptions {
            self.outputs.push_back(Output::Hit(Limit::Subscriptions));
            let message = "this connection has as many subscriptions as it may; end one first";
            return self.refuse(id, ErrorCode::TooManySubscriptions, message);
        }
        self.targets.insert(target.clone());
        let output = match target {
            (saga_type, Some(saga_id)) => Output::Subscribe {
                id,
                key: SagaKey::new(&saga_type, &saga_id),
                has,
            },
            (saga_type, None) => {
                let tag = self.tally(&saga_type, Then::Live { id });
                Output::SubscribeType { saga_type, tag }
            }
        };
        self.outputs.push_back(output);
    }

    fn unsubscribe(&mut self, id: Option<u64>, target: Target) {
        if self.access.is_none() {
            return self.bad_request(id, "show a token first");
        }
        self.targets.remove(&target);
        let output = match target {
            (saga_type, Some(saga_id)) => Output::Unsubscribe {
                id,
                key: SagaKey::new(&saga_type, &saga_id),
            },
            (saga_type, None) => {
                let tag = self.tally(&saga_type, Then::Unsubscribed { id });
                Output::UnsubscribeType { saga_type, tag }
            }
        };
        self.outputs.push_back(output);
    }

    /// Counts the partitions that have yet to do their part; what was begun before is overtaken.
    fn tally(&mut self, saga_type: &str, then: Then) -> u64 {
        self.tallies.retain(|tally| {
            tally.saga_type != saga_type || !matches!(tally.then, Then::Live { .. })
        });
        self.tags += 1;
        self.tallies.push(Tally {
            tag: self.tags,
            saga_type: saga_type.to_owned(),
            then,
            left: self.settings.partitions,
        });
        self.tags
    }

    fn done(&mut self, tag: u64) {
        let Some(at) = self.tallies.iter().position(|tally| tally.tag == tag) else {
            return;
        };
        let Some(tally) = self.tallies.get_mut(at) else {
            return;
        };
        tally.left = tally.left.saturating_sub(1);
        if tally.left > 0 {
            return;
        }
        let tally = self.tallies.swap_remove(at);
        let frame = match tally.then {
            Then::Live { id } => Reply::Subscribed {
                id,
                mode: frames::Mode::Live,
            }
            .frame(),
            Then::Unsubscribed { id } => Reply::Unsubscribed { id }.frame(),
            Then::Forbidden => frames::lost(&tally.saga_type, None),
        };
        self.send(frame);
    }

    fn verified(&mut self, now: Instant, id: Option<u64>, verdict: Result<Access, NoAccess>) {
        match verdict {
            Ok(access) => self.take(now, id, access),
            Err(NoAccess::Expired) => self.close(Close::Expired),
            Err(NoAccess::Unchecked) => self.close(Close::Busy),
            Err(NoAccess::Wrong) => self.close(Close::BadToken),
            Err(NoAccess::TooMany) => self.close(Close::TooManyConnections),
        }
    }

    /// Takes the rights of a token, the first or another.
    fn take(&mut self, now: Instant, id: Option<u64>, access: Access) {
        let left = access.expires_in.min(FOREVER);
        let end = now + left;
        self.auth_by = None;
        self.token_ends_at = Some(end);
        self.expires_at = Some(now + access.believed_for.min(FOREVER));
        self.expiring_at = Some(end.checked_sub(EXPIRING).map_or(now, |at| at.max(now)));
        self.send(
            Reply::Ready {
                id,
                epoch: &self.settings.epoch,
                expires_at: access.expires_at.to_rfc3339().unwrap_or_default(),
                refresh_in_s: refresh_in_s(left.as_secs()),
                heartbeat_s: self.settings.heartbeat.as_secs(),
            }
            .frame(),
        );
        self.token_id = access.token_id;
        let rights = access.rights;
        if self.access.replace(Arc::clone(&rights)).is_none() {
            return;
        }
        let lost =
            |(saga_type, saga_id): &Target| saga_id.is_none() && !rights.may_watch_type(saga_type);
        let lost: Vec<Target> = self.targets.extract_if(lost).collect();
        for (saga_type, _) in lost {
            let tag = self.tally(&saga_type, Then::Forbidden);
            self.outputs
                .push_back(Output::UnsubscribeType { saga_type, tag });
        }
        self.outputs.push_back(Output::Renew(rights));
    }

    fn bad_request(&mut self, id: Option<u64>, message: &str) {
        self.refuse(id, ErrorCode::BadRequest, message);
        self.bad_requests += 1;
        if self.bad_requests >= BAD_REQUESTS {
            self.close(Close::BadRequest);
        }
    }

    fn refuse(&mut self, id: Option<u64>, code: ErrorCode, message: &str) {
        let reply = Reply::Error {
            id,
            code,
            message,
            retry: code == ErrorCode::TooManySubscriptions,
            saga_type: None,
            saga_id: None,
        };
        self.send(reply.frame());
    }

    fn send(&mut self, frame: Arc<Frame>) {
        self.outputs.push_back(Output::Send(frame));
    }

    fn close(&mut self, close: Close) {
        self.closed = true;
        self.lines.clear();
        self.send(close.bye());
        self.outputs.push_back(Output::Close(close));
    }
}

/// When to show a new token: with a third of its time left, a minute at most, but not at once.
fn refresh_in_s(left_s: u64) -> u64 {
    let third = left_s * 7 / 10;
    third.min(left_s.saturating_sub(60)).max(10).min(third)
}

#[cfg(test)]
mod tests;
