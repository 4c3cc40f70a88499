//! The client-facing half with real parts: somebody tells of a saga, a client sees it. Never looks into the daemon.

mod asyncapi;
mod browser;
mod hidden;
mod hostile;
mod http;
mod jwks;
mod kick;
mod log;
mod operators;
mod protocol;
mod records;
mod reload;
mod resume;
mod saga;
mod site;
mod slow;
mod storm;
mod stream;
mod stuck;
mod tls;
mod warm;
mod watch;
