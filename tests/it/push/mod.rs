//! The client-facing half with real parts: a service inserts, a client sees. Never looks into the daemon.

mod site;
mod watch;
