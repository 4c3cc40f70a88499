//! The daemon and its parts against real PostgreSQL and real Kafka.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    missing_docs,
    reason = "a test that cannot go on fails, and says where"
)]

#[path = "../support/mod.rs"]
mod support;

mod bytes;
mod kill;
mod mistakes;
mod murmur;
mod refused;
mod takeover;
mod world;
