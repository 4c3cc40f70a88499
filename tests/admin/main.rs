//! The operators' side over real sockets: HTTP, control socket, `outboxd status`, systemd. No database, no Kafka.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::expect_used,
    missing_docs,
    unreachable_pub,
    reason = "a test that cannot go on fails, and says where"
)]

mod control;
mod daemon;
mod http;
mod systemd;
mod world;
