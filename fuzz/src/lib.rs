//! What has to hold of everything that outboxd reads from outside, whatever its bytes are. Each function panics when it does not.
//!
//! Inputs are text, a line at a time, so that a corpus can be read and written by hand; lines that mean nothing are passed over.

mod client;
mod records;
mod session;

pub use records::{image, records};
pub use session::{frames, session};

/// Takes any bytes.
pub type Target = fn(&[u8]);

/// Every function, by the name of its corpus.
pub const TARGETS: [(&str, Target); 4] = [
    ("frames", frames),
    ("session", session),
    ("records", records),
    ("image", image),
];
