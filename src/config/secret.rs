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

/// A secret's content; shows itself to nobody but [`SecretString::expose`].
#[derive(Clone)]
pub struct SecretString(String);

impl SecretString {
    /// The content.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// A secret that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read secret")]
pub struct SecretError;

impl Secret {
    /// Reads it.
    pub fn read(&self) -> Result<SecretString, SecretError> {
        Err(SecretError)
    }
}
