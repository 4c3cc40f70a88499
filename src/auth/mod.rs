//! Tokens of clients: who shows one, and what it allows. Never fetches anything, never asks for the time, and never says
//! to a client why a token is refused.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::config::push::{Algorithm, Auth};
use crate::logic::rights::Rights;

mod claims;
mod keys;
mod refused;
mod sign;

pub use keys::{AuthError, PemFault};
pub use refused::{Refused, Why};
pub use sign::sign;

use keys::Key;

/// A token may have this many bytes; longer ones are refused before they are decoded.
pub const TOKEN_BYTES_MAX: usize = 8 << 10;

/// Whoever showed a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// What the token allows.
    pub rights: Rights,
    /// `exp` as it stands in the token, without leeway.
    pub expires_at: SystemTime,
    /// `jti`.
    pub token_id: Option<String>,
}

/// Believes tokens or not, by the keys that were there when it was made. Cheap to clone.
#[derive(Clone)]
pub struct Verifier(Arc<Inner>);

struct Inner {
    auth: Auth,
    keys: Vec<Key>,
}

impl Verifier {
    /// Reads the keys. Blocks for as long as a local file takes.
    ///
    /// # Errors
    /// When the keys cannot be had or do not fit the algorithms; the error names the key of the configuration and says
    /// what to do.
    pub fn new(auth: &Auth) -> Result<Self, AuthError> {
        let keys = keys::read(auth)?;
        Ok(Self(Arc::new(Inner {
            auth: auth.clone(),
            keys,
        })))
    }

    /// Whether a token is to be believed at `now`, and what it allows.
    ///
    /// # Errors
    /// [`Refused::Expired`] only when everything else is right: a forged token must not learn more than that it is wrong.
    pub fn verify(&self, token: &str, now: SystemTime) -> Result<Identity, Refused> {
        let payload = self.0.payload(token)?;
        let Ok(Value::Object(claims)) = serde_json::from_slice(&payload) else {
            return Err(Why::Claims.into());
        };
        claims::identity(&claims, &self.0.auth, now)
    }
}

impl Inner {
    /// The payload of a token whose signature is right.
    fn payload(&self, token: &str) -> Result<Vec<u8>, Why> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Why::TooLong);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(Why::Form)?;
        let (header, payload) = message.split_once('.').ok_or(Why::Form)?;
        // Another dot is in none of the three: base64url has none.
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| Why::Form);
        let (header, payload, signature) = (decode(header)?, decode(payload)?, decode(signature)?);
        let algorithm = self.algorithm(&header)?;
        let mut fitting = self.keys.iter().filter(|key| key.algorithm == algorithm);
        if fitting.clone().next().is_none() {
            return Err(Why::NoKey(algorithm));
        }
        // `kid` only names a key; which of a few keys it is, the signature says itself.
        if fitting.any(|key| key.verifies(message.as_bytes(), &signature)) {
            Ok(payload)
        } else {
            Err(Why::Signature)
        }
    }

    /// The algorithm that the header names, if it may be used. Nothing else of a header is heeded: keys that a token
    /// brings along or links to (`jwk`, `jku`, `x5c`, `x5u`) would let everybody sign.
    fn algorithm(&self, header: &[u8]) -> Result<Algorithm, Why> {
        let header: Map<String, Value> = serde_json::from_slice(header).map_err(|_| Why::Header)?;
        let name = header.get("alg").and_then(Value::as_str);
        let name = name.ok_or(Why::Header)?;
        if header.contains_key("crit") {
            return Err(Why::Critical);
        }
        if !header.get("typ").is_none_or(is_for_access) {
            return Err(Why::Type);
        }
        if name.eq_ignore_ascii_case("none") {
            return Err(Why::Unsigned);
        }
        let algorithm = Algorithm::named(name).ok_or(Why::UnknownAlgorithm)?;
        if self.auth.algorithms.contains(&algorithm) {
            Ok(algorithm)
        } else {
            Err(Why::Algorithm(algorithm))
        }
    }
}

/// Whether a `typ` is that of an access token: `JWT` (RFC 7519) or `at+jwt` (RFC 9068), which as media types have no case
/// and may begin with `application/`.
fn is_for_access(typ: &Value) -> bool {
    let Some(typ) = typ.as_str().map(str::to_ascii_lowercase) else {
        return false;
    };
    let name = typ.strip_prefix("application/").unwrap_or(&typ);
    matches!(name, "jwt" | "at+jwt")
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verifier({} keys)", self.0.keys.len())
    }
}

#[cfg(test)]
mod tests;
