//! What a doctor found, and what to do about it. Plain data for the command line.

use std::fmt;

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at: `source orders`, `kafka`.
    pub target: String,
    /// How bad it is.
    pub level: Level,
    /// What was found; for anything but [`Level::Good`] also what to do.
    pub text: String,
}

/// How bad a finding is, from nothing to what keeps a source from working.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Good,
    /// Works, but not as well as it could.
    Advice,
    /// A table, topic or name is missing or wrong.
    Shape,
    /// Cannot be reached.
    Unreachable,
    /// A right is missing.
    Privilege,
    /// The configuration is wrong.
    Config,
}

impl Finding {
    /// About a target.
    pub fn new(target: &str, level: Level, text: impl fmt::Display) -> Self {
        Self {
            target: target.to_owned(),
            level,
            text: text.to_string(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.level {
            Level::Good => "ok     ",
            Level::Advice => "advice ",
            Level::Shape | Level::Unreachable | Level::Privilege | Level::Config => "problem",
        };
        write!(f, "{mark}  {}: {}", self.target, self.text)
    }
}
