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

impl Secret {
    /// The secret as it is now.
    pub fn read(&self) -> Result<SecretString, String> {
        self.text().map(SecretString)
    }

    fn text(&self) -> Result<String, String> {
        match self {
            Self::File(file) => std::fs::read_to_string(file)
                .map(|text| text.trim_end_matches(['\r', '\n']).to_owned())
                .map_err(|error| format!("{}: {error}", file.display())),
            Self::Credential(name) => Err(format!("credential {name} cannot be read yet")),
            Self::Env(name) => std::env::var(name).map_err(|error| format!("{name}: {error}")),
        }
    }
}

/// A secret's content.
pub struct SecretString(String);

impl SecretString {
    /// The content.
    pub fn expose(&self) -> &str {
        &self.0
    }
}
