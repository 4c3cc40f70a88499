//! What goes into a session and what comes out. Plain data that decides nothing.

use std::sync::Arc;
use std::time::Duration;

use super::Close;
use crate::logic::event::Timestamp;
use crate::logic::push::frames::Frame;
use crate::logic::rights::Rights;
use crate::logic::saga::SagaKey;

/// What all sessions share.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What versions are of.
    pub epoch: String,
    /// Partitions of the saga topic.
    pub partitions: usize,
    /// Between two signs of life.
    pub heartbeat: Duration,
    /// For the answer to a ping.
    pub pong: Duration,
    /// For the first token.
    pub auth: Duration,
    /// At most so many.
    pub subscriptions: usize,
    /// From the client, in the long run.
    pub frames_per_second: u32,
}

/// What a valid token gives.
#[derive(Debug, Clone)]
pub struct Access {
    /// What may be watched.
    pub rights: Arc<Rights>,
    /// The token's own name, if it has one.
    pub token_id: Option<Arc<str>>,
    /// The token's end.
    pub expires_at: Timestamp,
    /// The same, from now on.
    pub expires_in: Duration,
    /// How long it is believed from now on: longer, since clocks differ.
    pub believed_for: Duration,
}

/// Why a token gives nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoAccess {
    /// It has ended.
    Expired,
    /// Nobody can say now, but perhaps a little later.
    Unchecked,
    /// Anything else.
    Wrong,
    /// It is good, but its user has too many connections.
    TooMany,
}

/// What happened to a connection.
#[derive(Debug)]
pub enum Input<'a> {
    /// A text message came.
    Message(&'a str),
    /// A binary message came.
    Binary,
    /// A message over the limit came.
    TooBig,
    /// A token was looked at.
    Verified(Result<Access, NoAccess>),
    /// A ping came, which is answered without us.
    Ping,
    /// The answer to a ping came.
    Pong,
    /// Something waits to be written, and the client does not take it.
    Blocked,
    /// Everything that was to be written is.
    Wrote,
    /// A partition has done what this tag was given for.
    Done(u64),
    /// A partition has ended a subscription.
    Lost(&'a SagaKey),
    /// The daemon ends; this connection's turn comes after so long.
    Drain(Duration),
    /// The log was replaced: versions mean nothing any more.
    Rotated,
    /// An operator sends this client away.
    Kicked,
}

/// A limit that was reached, for those who count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Of subscriptions.
    Subscriptions,
    /// Of frames a second: the client is read slower from now on.
    Rate,
}

/// What the shell is to do.
#[derive(Debug)]
pub enum Output {
    /// Look at a token and come back with [`Input::Verified`].
    Verify(String),
    /// Put a frame into the queue.
    Send(Arc<Frame>),
    /// To the saga's partition.
    Subscribe {
        /// The request's.
        id: Option<u64>,
        /// The saga.
        key: SagaKey,
        /// The version that the client has.
        has: Option<i64>,
    },
    /// To the saga's partition.
    Unsubscribe {
        /// The request's.
        id: Option<u64>,
        /// The saga.
        key: SagaKey,
    },
    /// To every partition; each comes back with [`Input::Done`] when its sagas are in.
    SubscribeType {
        /// The type.
        saga_type: String,
        /// What to come back with.
        tag: u64,
    },
    /// To every partition; each comes back with [`Input::Done`].
    UnsubscribeType {
        /// The type.
        saga_type: String,
        /// What to come back with.
        tag: u64,
    },
    /// To every partition: other rights from now on.
    Renew(Arc<Rights>),
    /// Send a ping.
    Ping,
    /// Count it.
    Hit(Limit),
    /// Send what is queued, close, and let go.
    Close(Close),
}
