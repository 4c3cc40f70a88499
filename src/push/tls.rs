//! What clients are spoken to with under TLS: reads it, and again when it has been renewed. Never drops a connection for that.

use std::convert::Infallible;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;
use tracing::{info, warn};

use crate::config::push::PushTls;
use crate::config::{SecretError, SecretString};
use crate::tasks::attached_blocking;

/// A renewed certificate is used after so long at the latest.
const LOOK: Duration = Duration::from_secs(5);
/// A chain has a few kilobytes.
const CHAIN_BYTES_MAX: u64 = 256 << 10;

/// HTTP/2 by its name in a handshake.
pub(super) const H2: &[u8] = b"h2";

/// What new connections are encrypted with.
#[derive(Debug)]
pub(super) struct Tls {
    files: PushTls,
    hasher: RandomState,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    config: Arc<ServerConfig>,
    /// Of what was read, so that it need not be kept to be compared.
    hash: u64,
}

impl Tls {
    /// Reads chain and key. Blocks for as long as local files take.
    ///
    /// # Errors
    /// When one of them is not there, or they do not belong together; the error names the key of the configuration and
    /// says what to do.
    pub(super) fn read(files: &PushTls) -> Result<Self, TlsError> {
        let hasher = RandomState::new();
        let written = Written::read(files)?;
        let current = Current {
            hash: written.hash(&hasher),
            config: written.config(files)?,
        };
        Ok(Self {
            files: files.clone(),
            hasher,
            current: Mutex::new(current),
        })
    }

    /// For one more connection.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        Arc::clone(&self.current().config).into()
    }

    /// Looks for renewed files again and again. What cannot be used is told once, and the old ones go on.
    pub(super) async fn follow(self: &Arc<Self>) -> Infallible {
        let mut told = String::new();
        loop {
            tokio::time::sleep(LOOK).await;
            let this = Arc::clone(self);
            let Ok(looked) = attached_blocking(move || this.look()).await else {
                continue;
            };
            let fault = match looked {
                Ok(renewed) => {
                    if renewed {
                        info!("push.tls: the certificate was renewed");
                    }
                    String::new()
                }
                Err(error) => error.to_string(),
            };
            if fault != told && !fault.is_empty() {
                warn!("{fault}; until then the certificate that was read before goes on");
            }
            told = fault;
        }
    }

    /// Whether there are others, which are used from now on.
    fn look(&self) -> Result<bool, TlsError> {
        let written = Written::read(&self.files)?;
        let hash = written.hash(&self.hasher);
        if hash == self.current().hash {
            return Ok(false);
        }
        let config = written.config(&self.files)?;
        *self.current() = Current { config, hash };
        Ok(true)
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The files as they are.
struct Written {
    chain: Vec<u8>,
    key: SecretString,
}

impl Written {
    fn read(files: &PushTls) -> Result<Self, TlsError> {
        Ok(Self {
            chain: chain(&files.certificate)?,
            key: files.key.read().map_err(|error| TlsError::Key { error })?,
        })
    }

    fn hash(&self, hasher: &RandomState) -> u64 {
        hasher.hash_one((&self.chain, self.key.expose()))
    }

    fn config(&self, files: &PushTls) -> Result<Arc<ServerConfig>, TlsError> {
        let path = files.certificate.clone();
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.chain).collect();
        let chain = match chain {
            Ok(chain) if !chain.is_empty() => chain,
            Ok(_) | Err(_) => return Err(TlsError::NoCertificate { path }),
        };
        let place = files.key.to_string();
        let Ok(key) = PrivateKeyDer::from_pem_slice(self.key.expose().as_bytes()) else {
            return Err(TlsError::NoKey { place });
        };
        let unusable = |error| {
            let path = path.clone();
            if matches!(error, rustls::Error::InconsistentKeys(_)) {
                let place = place.clone();
                TlsError::Mismatch { path, place }
            } else {
                TlsError::Unusable { path, error }
            }
        };
        let mut config = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(unusable)?;
        // A client that comes back is let in without another signature, and without being remembered here.
        config.ticketer = aws_lc_rs::Ticketer::new().map_err(unusable)?;
        config.alpn_protocols = vec![H2.to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

fn chain(path: &Path) -> Result<Vec<u8>, TlsError> {
    let mut chain = Vec::new();
    File::open(path)
        .and_then(|file| file.take(CHAIN_BYTES_MAX).read_to_end(&mut chain))
        .map_err(|cause| TlsError::Unreadable {
            path: path.to_owned(),
            cause,
        })?;
    Ok(chain)
}

/// Why TLS cannot be spoken with clients, and what to do. Never holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate is not there, or this user may not read it.
    #[error(
        "push.tls.certificate: cannot read {path}: {cause}; write the server's certificate there, or mend the path"
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// It is something else.
    #[error(
        "push.tls.certificate: {path} is no list of certificates in PEM form; write the server's own into it, then those \
         that vouch for it (-----BEGIN CERTIFICATE-----)"
    )]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// The key cannot be had.
    #[error("push.tls.key: {error}{}", cause(.error))]
    Key {
        /// What is wrong with it.
        error: SecretError,
    },
    /// It is something else.
    #[error(
        "push.tls.key: {place} holds no private key in PEM form without a passphrase; \
         take the passphrase off: openssl pkey -in with.pem -out without.pem"
    )]
    NoKey {
        /// Where it is kept.
        place: String,
    },
    /// One of them belongs to something else.
    #[error(
        "push.tls: the key in {place} does not belong to the first certificate of {path}; \
         put the two there that were made for each other, the server's own certificate first"
    )]
    Mismatch {
        /// The certificate's file.
        path: PathBuf,
        /// Where the key is kept.
        place: String,
    },
    /// A kind that is not supported.
    #[error("push.tls.certificate: {path} cannot be used: {error}; get a new one and its key")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: rustls::Error,
    },
}

/// What the system said, where it did.
fn cause(error: &SecretError) -> String {
    let cause = std::error::Error::source(error);
    cause.map_or_else(String::new, |cause| format!(" ({cause})"))
}

/// Whether clients could be spoken to with these files.
///
/// # Errors
/// As the daemon would say it at its start.
pub fn examine(files: &PushTls) -> Result<(), TlsError> {
    Tls::read(files).map(drop)
}
