//! Where a secret is kept, and reading it. Never shows one: not in `Debug`, not in an error.

use std::path::PathBuf;

/// Where a secret is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Secret {
    /// A file that only its owner can read.
    File(PathBuf),
    /// A systemd credential.
    Credential(String),
    /// An environment variable.
    Env(String),
}
