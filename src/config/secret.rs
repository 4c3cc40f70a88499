//! Where a secret is kept, and reading it. Never shows one: not in `Debug`, not in an error.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::value::Fault;

/// A secret may have this many bytes.
const SECRET_BYTES_MAX: usize = 64 << 10;

/// The variable by which systemd says where credentials are.
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// Where a secret is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Secret {
    /// A file that not everybody can read.
    File(PathBuf),
    /// A systemd credential.
    Credential(String),
    /// An environment variable.
    Env(String),
}

impl Secret {
    /// The words by which a reference begins.
    pub(super) const KINDS: [&'static str; 3] = ["file", "credential", "env"];

    pub(super) fn file(base: &Path, text: &str) -> Result<Self, Fault> {
        super::value::filled(text).map(|text| Self::File(base.join(text)))
    }

    pub(super) fn credential(text: &str) -> Result<Self, Fault> {
        if text.is_empty() || text == "." || text == ".." || text.contains(['/', '\0']) {
            return Err(Fault::new(
                "this is not the name of a credential",
                "write the name from LoadCredential= of the unit; it has no '/'",
            ));
        }
        Ok(Self::Credential(text.to_owned()))
    }

    pub(super) fn env(text: &str) -> Result<Self, Fault> {
        let legal = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
        if text.is_empty()
            || text.starts_with(|c: char| c.is_ascii_digit())
            || !text.bytes().all(legal)
        {
            return Err(Fault::new(
                "this is not the name of an environment variable",
                "write the name of a variable, not its value: letters, digits and _",
            ));
        }
        Ok(Self::Env(text.to_owned()))
    }

    /// Reads it, as of now. Blocks for as long as a local file takes.
    ///
    /// # Errors
    /// When it is not there, is empty, too large, not UTF-8, or a file that everybody can read.
    pub fn read(&self) -> Result<SecretString, SecretError> {
        self.read_with(&|name| std::env::var_os(name))
    }

    fn read_with(
        &self,
        variable: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<SecretString, SecretError> {
        let text = match self {
            Self::File(path) => read_file(path)?,
            Self::Credential(name) => {
                let directory = variable(CREDENTIALS_DIRECTORY)
                    .ok_or_else(|| SecretError::NoCredentials { name: name.clone() })?;
                read_file(&Path::new(&directory).join(name))?
            }
            Self::Env(name) => {
                let value =
                    variable(name).ok_or_else(|| SecretError::Unset { name: name.clone() })?;
                value.into_encoded_bytes()
            }
        };
        if text.len() > SECRET_BYTES_MAX {
            return Err(SecretError::TooLarge {
                place: self.to_string(),
            });
        }
        let text = String::from_utf8(text).map_err(|_| SecretError::NotText {
            place: self.to_string(),
        })?;
        if text.is_empty() {
            return Err(SecretError::Empty {
                place: self.to_string(),
            });
        }
        Ok(SecretString(text))
    }
}

/// Shows where it is kept, as in the file.
impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, value) = match self {
            Self::File(path) => ("file", path.display().to_string()),
            Self::Credential(name) => ("credential", name.clone()),
            Self::Env(name) => ("env", name.clone()),
        };
        write!(f, "{{ {kind} = {} }}", super::words::quoted(&value))
    }
}

/// Reads a file that holds nothing but a secret, without one newline at its end.
fn read_file(path: &Path) -> Result<Vec<u8>, SecretError> {
    let unreadable = |cause| SecretError::Unreadable {
        path: path.to_owned(),
        cause,
    };
    // The rights are asked of the open file, so that it cannot be exchanged in between.
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if metadata.is_dir() {
        return Err(unreadable(io::ErrorKind::IsADirectory.into()));
    }
    if metadata.is_file() && metadata.mode() & 0o004 != 0 {
        return Err(SecretError::WorldReadable {
            path: path.to_owned(),
        });
    }
    let limit = u64::try_from(SECRET_BYTES_MAX)
        .unwrap_or(u64::MAX)
        .saturating_add(3);
    let mut text = Vec::new();
    file.take(limit)
        .read_to_end(&mut text)
        .map_err(unreadable)?;
    if text.last() == Some(&b'\n') {
        text.pop();
        if text.last() == Some(&b'\r') {
            text.pop();
        }
    }
    Ok(text)
}

/// A secret that was read. Does not show itself; [`SecretString::expose`] is where it leaves.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretString(String);

impl SecretString {
    /// Wraps a secret that came from elsewhere, such as a prompt.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for SecretString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Why a secret could not be read, and what to do. Never holds the secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file is not there, or this user may not read it.
    #[error("cannot read the secret file {path}; create it and let outboxd's user read it")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// Other users could take it.
    #[error("the secret file {path} can be read by everybody; run: chmod o-r {path}")]
    WorldReadable {
        /// The file.
        path: PathBuf,
    },
    /// Not started by systemd, or without credentials.
    #[error(
        "there is no credential {name}: $CREDENTIALS_DIRECTORY is not set; start outboxd by a unit with LoadCredential={name}:…"
    )]
    NoCredentials {
        /// The credential.
        name: String,
    },
    /// The variable is not there.
    #[error("the variable {name} is not set; set it where the daemon is started")]
    Unset {
        /// The variable.
        name: String,
    },
    /// Nothing in it.
    #[error("the secret {place} is empty; fill it")]
    Empty {
        /// The reference.
        place: String,
    },
    /// More than any secret has.
    #[error("the secret {place} has more than 64 KiB; is it the right one?")]
    TooLarge {
        /// The reference.
        place: String,
    },
    /// Not a text.
    #[error("the secret {place} is not UTF-8; write it as text")]
    NotText {
        /// The reference.
        place: String,
    },
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn file(text: &[u8], mode: u32) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        (directory, path)
    }

    fn read(text: &[u8], mode: u32) -> Result<String, SecretError> {
        let (_directory, path) = file(text, mode);
        Secret::File(path)
            .read()
            .map(|secret| secret.expose().to_owned())
    }

    #[test]
    fn one_newline_at_the_end_of_a_file_is_not_part_of_the_secret() {
        assert_eq!(read(b"tiger", 0o600).unwrap(), "tiger");
        assert_eq!(read(b"tiger\n", 0o600).unwrap(), "tiger");
        assert_eq!(read(b"tiger\r\n", 0o600).unwrap(), "tiger");
        assert_eq!(read(b"tiger\n\n", 0o640).unwrap(), "tiger\n");
    }

    #[test]
    fn a_file_that_everybody_can_read_is_refused() {
        assert!(matches!(
            read(b"tiger", 0o604),
            Err(SecretError::WorldReadable { .. })
        ));
    }

    #[test]
    fn a_secret_at_the_limit_is_read_and_one_beyond_is_refused() {
        let most = vec![b'x'; SECRET_BYTES_MAX];
        assert!(read(&most, 0o600).is_ok());
        let most_and_newline = [most.clone(), b"\r\n".to_vec()].concat();
        assert!(read(&most_and_newline, 0o600).is_ok());
        let more = vec![b'x'; SECRET_BYTES_MAX + 1];
        assert!(matches!(
            read(&more, 0o600),
            Err(SecretError::TooLarge { .. })
        ));
    }

    #[test]
    fn what_is_no_secret_is_refused() {
        assert!(matches!(read(b"\n", 0o600), Err(SecretError::Empty { .. })));
        assert!(matches!(
            read(b"\xff\xfe", 0o600),
            Err(SecretError::NotText { .. })
        ));
        let directory = tempfile::tempdir().unwrap();
        for path in [directory.path().to_owned(), directory.path().join("absent")] {
            assert!(matches!(
                Secret::File(path).read(),
                Err(SecretError::Unreadable { .. })
            ));
        }
    }

    #[test]
    fn credentials_and_variables_are_looked_up_by_name() {
        let (directory, _path) = file(b"tiger\n", 0o400);
        let variable = |name: &str| match name {
            CREDENTIALS_DIRECTORY => Some(directory.path().into()),
            "PASSWORD" => Some("lion".into()),
            _ => None,
        };
        let read = |secret: Secret| {
            secret
                .read_with(&variable)
                .map(|secret| secret.expose().to_owned())
        };
        assert_eq!(
            read(Secret::Credential("secret".to_owned())).unwrap(),
            "tiger"
        );
        assert_eq!(read(Secret::Env("PASSWORD".to_owned())).unwrap(), "lion");
        assert!(matches!(
            read(Secret::Env("OTHER".to_owned())),
            Err(SecretError::Unset { .. })
        ));
        let without = Secret::Credential("secret".to_owned()).read_with(&|_| None);
        assert!(matches!(without, Err(SecretError::NoCredentials { .. })));
    }

    #[test]
    fn a_credential_never_leaves_its_directory() {
        for name in ["", ".", "..", "../passwd", "a/b", "/etc/passwd"] {
            assert!(Secret::credential(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_secret_does_not_show_itself() {
        let secret = SecretString::new("tiger".to_owned());
        assert_eq!(format!("{secret} {secret:?} {secret:#?}"), "*** *** ***");
    }
}
