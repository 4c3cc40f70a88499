//! What outboxd decides, apart from how it is carried out. Nothing here waits, asks for the time or opens anything.

pub mod backoff;
pub mod batch;
pub mod checkpoint;
pub mod event;
pub mod finding;
pub mod fnv;
pub mod health;
pub mod lease;
pub mod pace;
pub mod push;
pub mod readiness;
pub mod record;
pub mod refusal;
pub mod rights;
pub mod saga;
pub mod status;
pub mod verify;
pub mod window;
