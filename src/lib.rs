//! outboxd relays events from transactional outbox tables to Kafka, exactly once and in order per key, and shows
//! clients their sagas live. `ARCHITECTURE.md` is the map.

pub mod admin;
pub mod app;
pub mod auth;
pub mod authorities;
pub mod cli;
pub mod clock;
pub mod config;
pub mod failpoint;
pub mod host;
pub mod kafka;
pub mod logging;
pub mod logic;
pub mod metrics;
pub mod outbox;
pub mod push;
pub mod relay;
pub mod systemd;
pub mod tasks;

#[cfg(test)]
#[path = "../tests/support/generated.rs"]
mod generated;
