//! What a client sees, when, and why not. Never waits, reads a clock or opens a socket.

pub mod admission;
pub mod asyncapi;
pub mod epoch;
pub mod frames;
pub mod kick;
pub mod partition;
pub mod placement;
pub mod ring;
pub mod session;
pub mod stalest;
