//! The keys that the configuration names: read here, or fetched by others. Never checks a signature.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use aws_lc_rs::rsa;
use aws_lc_rs::signature::ParsedPublicKey;
use rustls::pki_types::pem::{PemObject, SectionKind};

use super::fetch::FetchError;
use super::fetched::{Fetched, Pace};
use super::key::{Key, hash, verification};
use crate::config::push::{Algorithm, Auth, Keys};
use crate::config::{Secret, SecretError, SecretString};

/// A PEM file may have this many bytes.
const PEM_BYTES_MAX: usize = 64 << 10;

/// And this many keys: each of the right type is tried for each token.
const PEM_KEYS_MAX: usize = 16;

/// An RSA key of 2048 bits has 270 bytes, and no shorter one may check a token (RFC 7518, 3.3).
const RSA_KEY_BYTES_MIN: usize = 256;

/// Where keys are.
pub(super) enum Source {
    /// Here, since the start.
    Read(Vec<Key>),
    /// With the issuer.
    Fetched(Fetched),
}

/// Reads what the configuration names; what has to be fetched is not there yet.
pub(super) fn read(auth: &Auth) -> Result<Source, AuthError> {
    let keys = match &auth.keys {
        Keys::Jwks(url) => {
            let fetched = Fetched::new(url, &auth.algorithms, Pace::USUAL);
            return Ok(Source::Fetched(fetched));
        }
        Keys::Pem(path) => {
            let pem = read_pem(path)?;
            public_keys(&pem, &auth.algorithms).map_err(|fault| AuthError::Pem {
                path: path.clone(),
                fault,
            })?
        }
        Keys::Secret(reference) => {
            let secret = secret(reference, &auth.algorithms)?;
            let keys = auth
                .algorithms
                .iter()
                .filter_map(|algorithm| Key::secret(*algorithm, &secret));
            keys.collect()
        }
    };
    Ok(Source::Read(keys))
}

/// Reads a secret that is long enough for each of the algorithms (RFC 7518, 3.2: as long as the hash).
pub(super) fn secret(
    reference: &Secret,
    algorithms: &[Algorithm],
) -> Result<SecretString, AuthError> {
    let secret = reference
        .read()
        .map_err(|error| AuthError::Secret { error })?;
    let bytes = secret.expose().len();
    let needed = algorithms
        .iter()
        .filter_map(|algorithm| Some(hash(*algorithm)?.digest_algorithm().output_len()));
    match needed.max() {
        Some(needed) if bytes < needed => Err(AuthError::TooShort { bytes, needed }),
        _ => Ok(secret),
    }
}

fn read_pem(path: &Path) -> Result<Vec<u8>, AuthError> {
    let limit = u64::try_from(PEM_BYTES_MAX).unwrap_or(u64::MAX);
    let mut pem = Vec::new();
    File::open(path)
        .and_then(|file| file.take(limit.saturating_add(1)).read_to_end(&mut pem))
        .map_err(|cause| AuthError::Unreadable {
            path: path.to_owned(),
            cause,
        })?;
    if pem.len() > PEM_BYTES_MAX {
        return Err(AuthError::Pem {
            path: path.to_owned(),
            fault: PemFault::TooLarge,
        });
    }
    Ok(pem)
}

fn public_keys(pem: &[u8], algorithms: &[Algorithm]) -> Result<Vec<Key>, PemFault> {
    let mut keys = Vec::new();
    let mut number = 0;
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(pem) {
        let (kind, der) = section.map_err(|_| PemFault::Malformed)?;
        match kind {
            SectionKind::PublicKey => {}
            SectionKind::Certificate => return Err(PemFault::Certificate),
            SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey => {
                return Err(PemFault::Private);
            }
            // Of no use here, and no harm.
            SectionKind::Crl | SectionKind::Csr | SectionKind::EchConfigList | _ => continue,
        }
        number += 1;
        if number > PEM_KEYS_MAX {
            return Err(PemFault::TooMany);
        }
        let before = keys.len();
        keys.extend(algorithms.iter().filter_map(|algorithm| {
            let key = ParsedPublicKey::new(verification(*algorithm)?, &der).ok()?;
            Some(Key::public(*algorithm, None, key))
        }));
        if keys.len() == before {
            return Err(PemFault::Unfit { number });
        }
        if rsa::PublicKey::from_der(&der).is_ok_and(|key| key.as_ref().len() < RSA_KEY_BYTES_MIN) {
            return Err(PemFault::Weak { number });
        }
    }
    if keys.is_empty() {
        return Err(PemFault::None);
    }
    Ok(keys)
}

/// Why tokens cannot be checked, or signed, and what to do. Never holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The issuer's keys cannot be had.
    #[error("push.auth.keys: {url}: {error}")]
    Fetch {
        /// Where they should be.
        url: String,
        /// What is wrong.
        error: FetchError,
    },
    /// The secret cannot be had.
    #[error("push.auth.keys: {error}{}", cause(.error))]
    Secret {
        /// What is wrong with it.
        error: SecretError,
    },
    /// It could be guessed.
    #[error(
        "push.auth.keys: the secret has {bytes} bytes and needs {needed} for push.auth.algorithms; \
         make a longer one: openssl rand -hex {needed}"
    )]
    TooShort {
        /// What it has.
        bytes: usize,
        /// What the strongest of the algorithms needs.
        needed: usize,
    },
    /// The PEM file is not there, or this user may not read it.
    #[error(
        "push.auth.keys: cannot read {path}: {cause}; create it with the issuer's public keys, or mend the path"
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// It holds something else than what is needed.
    #[error("push.auth.keys: {path} {fault}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        fault: PemFault,
    },
    /// Tokens are made with a secret only.
    #[error(
        "push.auth.keys: only a secret makes tokens, the issuer alone has the private keys; for development write \
         algorithms = [\"HS256\"] and keys = {{ secret = {{ file = \"…\" }} }}"
    )]
    NoSecret,
}

/// What the system said, where it did.
fn cause(error: &SecretError) -> String {
    let cause = std::error::Error::source(error);
    cause.map_or_else(String::new, |cause| format!(" ({cause})"))
}

/// What is wrong with a PEM file, and what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PemFault {
    /// More than any list of keys has.
    #[error("has more than 64 KiB; is it the right file?")]
    TooLarge,
    /// Cut, or changed.
    #[error("is not proper PEM; save it anew")]
    Malformed,
    /// Nothing in it that could be used.
    #[error("holds no public key; write those of the issuer into it (-----BEGIN PUBLIC KEY-----)")]
    None,
    /// More keys than are tried for a token.
    #[error("holds more than 16 keys; take out those that are no longer used")]
    TooMany,
    /// A private key does not belong here.
    #[error(
        "holds a private key, which belongs to the issuer alone; \
         keep the public one only: openssl pkey -in private.pem -pubout"
    )]
    Private,
    /// A certificate is not a key.
    #[error(
        "holds a certificate; take its public key: openssl x509 -in certificate.pem -noout -pubkey"
    )]
    Certificate,
    /// A key of another type.
    #[error(
        "holds a key, number {number}, that fits none of push.auth.algorithms; add its algorithm, or take it out"
    )]
    Unfit {
        /// Counted from 1.
        number: usize,
    },
    /// An RSA key that is too short.
    #[error("holds an RSA key, number {number}, of less than 2048 bits; make a longer one")]
    Weak {
        /// Counted from 1.
        number: usize,
    },
}
