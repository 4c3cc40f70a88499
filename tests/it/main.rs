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

mod adopt;
mod bytes;
mod canary;
mod checks;
mod denied;
mod docs;
mod editors;
mod install;
mod kafka_security;
mod kill;
mod matrix;
mod mistakes;
mod murmur;
mod operate;
mod publisher;
mod push;
mod readme;
mod refused;
mod rights;
mod ring;
mod saga_log;
mod session;
mod site;
mod takeover;
mod tls;
mod verify;
mod watch;
mod window;
mod world;
