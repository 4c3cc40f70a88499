//! One key, bound to one algorithm, so that a token cannot choose another use of it. Never knows where it came from.

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{self, ParsedPublicKey, VerificationAlgorithm};

use crate::config::SecretString;
use crate::config::push::Algorithm;

/// One key for one algorithm. A key that serves two is there twice.
pub(super) struct Key {
    pub(super) algorithm: Algorithm,
    /// Its name in a set.
    pub(super) id: Option<String>,
    check: Check,
}

enum Check {
    Public(ParsedPublicKey),
    Secret(Box<hmac::Key>),
}

impl Key {
    pub(super) fn public(algorithm: Algorithm, id: Option<String>, key: ParsedPublicKey) -> Self {
        Self {
            algorithm,
            id,
            check: Check::Public(key),
        }
    }

    /// `None` where the algorithm has public keys.
    pub(super) fn secret(algorithm: Algorithm, secret: &SecretString) -> Option<Self> {
        Some(Self {
            algorithm,
            id: None,
            check: Check::Secret(Box::new(secret_key(algorithm, secret)?)),
        })
    }

    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.check {
            Check::Public(key) => key.verify_sig(message, signature).is_ok(),
            // In constant time.
            Check::Secret(key) => hmac::verify(key, message, signature).is_ok(),
        }
    }
}

/// A secret as a key of one algorithm; `None` where the algorithm has public keys.
pub(super) fn secret_key(algorithm: Algorithm, secret: &SecretString) -> Option<hmac::Key> {
    Some(hmac::Key::new(hash(algorithm)?, secret.expose().as_bytes()))
}

pub(super) fn hash(algorithm: Algorithm) -> Option<hmac::Algorithm> {
    match algorithm {
        Algorithm::HS256 => Some(hmac::HMAC_SHA256),
        Algorithm::HS384 => Some(hmac::HMAC_SHA384),
        Algorithm::HS512 => Some(hmac::HMAC_SHA512),
        Algorithm::EdDSA
        | Algorithm::ES256
        | Algorithm::ES384
        | Algorithm::RS256
        | Algorithm::RS384
        | Algorithm::RS512
        | Algorithm::PS256
        | Algorithm::PS384
        | Algorithm::PS512 => None,
    }
}

pub(super) fn verification(algorithm: Algorithm) -> Option<&'static dyn VerificationAlgorithm> {
    Some(match algorithm {
        Algorithm::EdDSA => &signature::ED25519,
        Algorithm::ES256 => &signature::ECDSA_P256_SHA256_FIXED,
        Algorithm::ES384 => &signature::ECDSA_P384_SHA384_FIXED,
        Algorithm::RS256 => &signature::RSA_PKCS1_2048_8192_SHA256,
        Algorithm::RS384 => &signature::RSA_PKCS1_2048_8192_SHA384,
        Algorithm::RS512 => &signature::RSA_PKCS1_2048_8192_SHA512,
        Algorithm::PS256 => &signature::RSA_PSS_2048_8192_SHA256,
        Algorithm::PS384 => &signature::RSA_PSS_2048_8192_SHA384,
        Algorithm::PS512 => &signature::RSA_PSS_2048_8192_SHA512,
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => return None,
    })
}
