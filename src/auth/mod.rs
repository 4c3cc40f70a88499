//! Tokens of clients: who shows one, and what it allows. Never asks for the time to judge one, and never says to a client
//! why it is refused.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::config::push::{Algorithm, Auth, Keys};
use crate::logic::rights::Rights;
use crate::metrics::KeyMetrics;

mod claims;
mod fetch;
mod fetched;
mod jwks;
mod key;
mod keys;
mod refused;
mod sign;

pub use fetch::FetchError;
pub use jwks::SetFault;
pub use keys::{AuthError, PemFault};
pub use refused::{Refused, Why};
pub use sign::sign;

use key::Key;
use keys::Source;

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

/// Believes tokens or not, by the keys that were there when it was made, or by those that it has fetched. Cheap to clone.
#[derive(Clone)]
pub struct Verifier(Arc<Inner>);

struct Inner {
    auth: Auth,
    keys: Source,
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

    /// Keeps keys fresh that have to be fetched, for as long as tokens are shown; others need nothing.
    pub async fn keep(&self) -> Infallible {
        match &self.0.keys {
            Source::Read(_) => std::future::pending().await,
            Source::Fetched(fetched) => fetched.keep(&KeyMetrics::new()).await,
        }
    }

    /// Fetches the keys once, where they have to be; how many fit the algorithms.
    ///
    /// # Errors
    /// When they cannot be had; the error names the key of the configuration and says what to do.
    pub async fn fetch(&self) -> Result<usize, AuthError> {
        match (&self.0.keys, &self.0.auth.keys) {
            (Source::Fetched(fetched), Keys::Jwks(url)) => {
                let url = url.clone();
                let fetched = fetched.fetch().await;
                fetched.map_err(|error| AuthError::Fetch { url, error })
            }
            (Source::Read(keys), _) => Ok(keys.len()),
            (Source::Fetched(_), Keys::Pem(_) | Keys::Secret(_)) => Ok(0),
        }
    }

    /// As [`Verifier::verify`], but has the keys fetched again for a token that names an unknown one, at most every 30 s for
    /// all tokens, and waits up to 3 s for them. Needs [`Verifier::keep`] to run.
    ///
    /// # Errors
    /// [`Refused::Unchecked`] when nobody can say yet.
    pub async fn verify_fresh(&self, token: &str, now: SystemTime) -> Result<Identity, Refused> {
        let verified = self.verify(token, now);
        let Source::Fetched(fetched) = &self.0.keys else {
            return verified;
        };
        if verified != Err(Refused::Wrong(Why::UnknownKey)) {
            return verified;
        }
        if fetched.anew().await {
            self.verify(token, now)
        } else {
            Err(Refused::Unchecked)
        }
    }

    /// Whether a token is to be believed at `now`, and what it allows, by the keys that are there.
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
    fn payload(&self, token: &str) -> Result<Vec<u8>, Refused> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Why::TooLong.into());
        }
        let (message, signature) = token.rsplit_once('.').ok_or(Why::Form)?;
        let (header, payload) = message.split_once('.').ok_or(Why::Form)?;
        // Another dot is in none of the three: base64url has none.
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| Why::Form);
        let (header, payload, signature) = (decode(header)?, decode(payload)?, decode(signature)?);
        let header: Map<String, Value> =
            serde_json::from_slice(&header).map_err(|_| Why::Header)?;
        let signed = Signed {
            algorithm: self.algorithm(&header)?,
            key_id: header.get("kid").and_then(Value::as_str),
            message: message.as_bytes(),
            signature: &signature,
        };
        match &self.keys {
            Source::Read(keys) => signed.by_any(keys)?,
            Source::Fetched(fetched) => {
                signed.by_named(&fetched.keys().ok_or(Refused::Unchecked)?)?;
            }
        }
        Ok(payload)
    }

    /// The algorithm that the header names, if it may be used. Nothing else of a header is heeded: keys that a token
    /// brings along or links to (`jwk`, `jku`, `x5c`, `x5u`) would let everybody sign.
    fn algorithm(&self, header: &Map<String, Value>) -> Result<Algorithm, Why> {
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

/// A message, and what is to prove where it comes from.
struct Signed<'a> {
    algorithm: Algorithm,
    key_id: Option<&'a str>,
    message: &'a [u8],
    signature: &'a [u8],
}

impl Signed<'_> {
    /// By one of a few keys; which it is, the signature says itself.
    fn by_any(&self, keys: &[Key]) -> Result<(), Why> {
        self.by(keys.iter())
    }

    /// By a key of a set, which has to be the one that the token names. Names may be missing on either side, and several
    /// keys may have the same.
    fn by_named(&self, keys: &[Key]) -> Result<(), Why> {
        let Some(id) = self.key_id else {
            return self.by_any(keys);
        };
        let is_named = |key: &&Key| key.id.as_deref() == Some(id);
        let fitting = |key: &&Key| key.id.is_none() || is_named(key);
        let checked = self.by(keys.iter().filter(fitting));
        if checked.is_err() && !keys.iter().any(|key| is_named(&key)) {
            return Err(Why::UnknownKey);
        }
        checked
    }

    fn by<'k>(&self, keys: impl Iterator<Item = &'k Key>) -> Result<(), Why> {
        let mut fault = Why::NoKey(self.algorithm);
        for key in keys.filter(|key| key.algorithm == self.algorithm) {
            if key.verifies(self.message, self.signature) {
                return Ok(());
            }
            fault = Why::Signature;
        }
        Err(fault)
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
        match &self.0.keys {
            Source::Read(keys) => write!(f, "Verifier({} keys)", keys.len()),
            Source::Fetched(_) => f.write_str("Verifier(keys of the issuer)"),
        }
    }
}

#[cfg(test)]
mod tests;
