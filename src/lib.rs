//! outboxd relays events from transactional outbox tables to Kafka, exactly once and in order per key, and shows
//! clients their sagas live. `ARCHITECTURE.md` is the map.

pub mod cli;
pub mod config;
pub mod logging;
pub mod logic;
pub mod tasks;
