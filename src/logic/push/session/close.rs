//! How a connection ends: code, word, and when to come back. Never ends one.

use std::sync::Arc;

use crate::logic::push::frames::{Frame, Reply};

/// How a connection ends. The codes carry what the client is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    /// The daemon ends.
    Shutdown,
    /// The client takes nothing.
    Slow,
    /// The client does not answer.
    NoPong,
    /// Everything begins anew.
    Rotated,
    /// No token in time.
    NoToken,
    /// The token cannot be checked now.
    Busy,
    /// The token has ended.
    Expired,
    /// An operator sends the client away.
    Disconnected,
    /// Not our protocol.
    BadRequest,
    /// The token is no good.
    BadToken,
    /// A frame over the limit.
    FrameTooBig,
    /// The user has too many connections.
    TooManyConnections,
}

impl Close {
    /// Every one.
    pub const ALL: [Self; 12] = [
        Self::Shutdown,
        Self::Slow,
        Self::NoPong,
        Self::Rotated,
        Self::NoToken,
        Self::Busy,
        Self::Expired,
        Self::Disconnected,
        Self::BadRequest,
        Self::BadToken,
        Self::FrameTooBig,
        Self::TooManyConnections,
    ];

    /// Its code.
    pub fn code(self) -> u16 {
        match self {
            Self::Shutdown => 4001,
            Self::Slow => 4008,
            Self::NoPong => 4009,
            Self::Rotated => 4010,
            Self::NoToken => 4028,
            Self::Busy => 4029,
            Self::Expired => 4101,
            Self::Disconnected => 4102,
            Self::BadRequest => 4200,
            Self::BadToken => 4201,
            Self::FrameTooBig => 4213,
            Self::TooManyConnections => 4229,
        }
    }

    /// Its word.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Shutdown => "shutdown",
            Self::Slow => "slow",
            Self::NoPong => "no_pong",
            Self::Rotated => "rotated",
            Self::NoToken => "no_token",
            Self::Busy => "busy",
            Self::Expired => "expired",
            Self::Disconnected => "disconnected",
            Self::BadRequest => "bad_request",
            Self::BadToken => "bad_token",
            Self::FrameTooBig => "frame_too_big",
            Self::TooManyConnections => "too_many_connections",
        }
    }

    /// The last frame.
    pub fn bye(self) -> Arc<Frame> {
        let retry_after_ms = match self.code() {
            // Everybody is sent away at about the same time.
            4001 | 4010 => Some([0, 15_000]),
            4002..=4099 => Some([500, 5_000]),
            4100..=4199 => Some([0, 1_000]),
            _ => None,
        };
        Reply::Bye {
            code: self.code(),
            reason: self.reason(),
            retry_after_ms,
        }
        .frame()
    }
}
