//! How far a long command has come: one line that changes on a terminal, plain lines elsewhere. Never part of the answer.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// How often a terminal is told.
const TERMINAL: Duration = Duration::from_millis(200);
/// How often anything else is.
const ELSEWHERE: Duration = Duration::from_secs(10);

/// Tells on stderr how far a command has come.
#[derive(Debug)]
pub(super) struct Progress {
    is_terminal: bool,
    told: Instant,
    has_line: bool,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self {
            is_terminal: std::io::stderr().is_terminal(),
            told: Instant::now(),
            has_line: false,
        }
    }

    /// Tells it if it is time.
    pub(super) fn tell(&mut self, what: impl FnOnce() -> String) {
        let pause = if self.is_terminal {
            TERMINAL
        } else {
            ELSEWHERE
        };
        if self.told.elapsed() < pause {
            return;
        }
        self.told = Instant::now();
        let mut err = std::io::stderr().lock();
        // Nobody is left to tell when this cannot be shown.
        let _ = match self.is_terminal {
            true => write!(err, "\r\x1b[K{}", what()),
            false => writeln!(err, "{}", what()),
        };
        self.has_line = self.is_terminal;
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.has_line {
            let _ = write!(std::io::stderr().lock(), "\r\x1b[K");
        }
    }
}
