//! The only SQL: connecting, installing, reading, settling and emptying the outbox of one service database.
//!
//! Never decides what is published; it carries out what `logic` and the relay ask for.

mod adopt;
mod books;
pub mod connect;
pub mod doctor;
mod doorbell;
pub mod error;
mod grants;
pub mod install;
pub mod letters;
mod read;
mod ring;
mod roles;
#[cfg(feature = "failpoints")]
mod sabotage;
mod session;
mod settle;
mod tls;

pub use adopt::{Known, Rebased};
pub use books::{BookLetter, BookRow, Books, Look};
pub use connect::{Link, Server, connect, connect_any};
pub use error::{Disposition, OutboxError};
pub use letters::{Letter, Wish};
pub use read::{Effort, Limits, Lsn, Read};
pub use ring::Ring;
pub use session::{Identity, Seat, Session, Standing};
pub use settle::{Backlog, DeadLetters, DueLetters, Letters};
