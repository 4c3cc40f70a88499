//! Kafka: the only module that names rdkafka. Publishes, reads checkpoints back and sagas on, knows topics; never decides what is sent.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "rdkafka's codes are two hundred and grow; whatever is not named is a doubt, and a doubt retires the producer"
)]

mod brokers;
mod client;
mod doctor;
mod log;
mod publisher;
mod saga_log;
mod topic_log;
mod topics;

pub use client::{Clients, KafkaError};
pub use doctor::examine;
pub use log::{CheckpointLog, LogRecord};
pub use publisher::{ALONE, Committed, Outcome, Pending, Publisher, Transaction};
pub use saga_log::{Fed, Owner, SagaLog, SagaLogError, SagaLogRecord};
pub use topic_log::{Round, TopicLog};
pub use topics::{CreatedTopic, Topics};
