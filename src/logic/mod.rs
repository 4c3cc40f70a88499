//! What outboxd decides, apart from how it is carried out. Nothing here waits, asks for the time or opens anything.

pub mod status;
