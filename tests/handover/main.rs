//! Proves the hand-over from database to Kafka: nothing lost, nothing twice, nothing out of order, wherever it is cut.
//!
//! Needs the feature `failpoints`, by which the daemon ends itself at a given step; without it, cargo leaves this out.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    missing_docs,
    reason = "a test that cannot go on fails, and says where; what was done is told when asked for"
)]

#[path = "../support/mod.rs"]
mod support;
#[allow(dead_code, reason = "shared with the other tests")]
#[path = "../it/world.rs"]
mod world;

mod brokers;
mod controls;
mod daemons;
mod databases;
mod lane;
mod letters;
mod points;
mod writers;
