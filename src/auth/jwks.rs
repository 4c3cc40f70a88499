//! A key set of an issuer, after RFC 7517: which of its keys check tokens, and by which algorithm. Never fetches one.

use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::{self, ParsedPublicKey, RsaParameters};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;

use super::key::Key;
use crate::config::push::Algorithm;

/// A set may have this many bytes.
pub(super) const SET_BYTES_MAX: usize = 256 << 10;

/// And this many keys, of whatever kind.
const SET_KEYS_MAX: usize = 64;

/// Bytes of an RSA key's modulus: 2048 to 8192 bits.
const MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

#[derive(Deserialize)]
struct Set {
    keys: Vec<Value>,
}

/// What of a key is needed to check with it; the private parts are not even read.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    r#use: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
}

/// Why a key set is not believed at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SetFault {
    /// Something else.
    #[error("what comes is no key set: a JSON object with a list `keys`; is it the right address?")]
    Form,
    /// More than any issuer has.
    #[error(
        "the set holds more than 64 keys; let the issuer take out those that are no longer used"
    )]
    TooMany,
}

/// The keys that fit one of the algorithms. Others are left out: an issuer may have them for somebody else, and may say
/// more of a key than we understand.
pub(super) fn read(body: &[u8], algorithms: &[Algorithm]) -> Result<Vec<Key>, SetFault> {
    let set: Set = serde_json::from_slice(body).map_err(|_| SetFault::Form)?;
    if set.keys.len() > SET_KEYS_MAX {
        return Err(SetFault::TooMany);
    }
    let jwks = set.keys.into_iter();
    let jwks = jwks.filter_map(|jwk| serde_json::from_value::<Jwk>(jwk).ok());
    Ok(jwks.flat_map(|jwk| keys(&jwk, algorithms)).collect())
}

fn keys(jwk: &Jwk, algorithms: &[Algorithm]) -> Vec<Key> {
    let is_for_signatures = jwk.r#use.as_deref().is_none_or(|word| word == "sig");
    let mut operations = jwk.key_ops.iter();
    let checks = operations.all(|words| words.iter().any(|word| word == "verify"));
    if !is_for_signatures || !checks {
        return Vec::new();
    }
    let bound = |algorithm: &&Algorithm| {
        let alg = jwk.alg.as_deref();
        alg.is_none_or(|alg| alg == algorithm.name())
    };
    let key = |algorithm: &Algorithm| {
        let key = public_key(*algorithm, jwk)?;
        Some(Key::public(*algorithm, jwk.kid.clone(), key))
    };
    algorithms.iter().filter(bound).filter_map(key).collect()
}

/// The key for one algorithm, if it is of its type and curve.
fn public_key(algorithm: Algorithm, jwk: &Jwk) -> Option<ParsedPublicKey> {
    let (kty, crv) = (jwk.kty.as_str(), jwk.crv.as_deref());
    match (algorithm, kty, crv) {
        (Algorithm::EdDSA, "OKP", Some("Ed25519")) => {
            let x = part(jwk.x.as_ref(), 32)?;
            ParsedPublicKey::new(&signature::ED25519, x).ok()
        }
        (Algorithm::ES256, "EC", Some("P-256")) => {
            ParsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point(jwk, 32)?).ok()
        }
        (Algorithm::ES384, "EC", Some("P-384")) => {
            ParsedPublicKey::new(&signature::ECDSA_P384_SHA384_FIXED, point(jwk, 48)?).ok()
        }
        (_, "RSA", _) => modulus(jwk)?.to_parsed_public_key(rsa(algorithm)?).ok(),
        _ => None,
    }
}

fn decoded(part: Option<&String>) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(part?).ok()
}

/// A number of exactly so many bytes.
fn part(part: Option<&String>, bytes: usize) -> Option<Vec<u8>> {
    decoded(part).filter(|part| part.len() == bytes)
}

/// A point of a curve, uncompressed; whether it lies on the curve the library looks.
fn point(jwk: &Jwk, bytes: usize) -> Option<Vec<u8>> {
    let (x, y) = (part(jwk.x.as_ref(), bytes)?, part(jwk.y.as_ref(), bytes)?);
    Some([&[4], x.as_slice(), &y].concat())
}

fn modulus(jwk: &Jwk) -> Option<PublicKeyComponents<Vec<u8>>> {
    let number = |part: Option<&String>| {
        let bytes = decoded(part)?;
        // Some issuers write a sign that is not there.
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        Some(bytes.into_iter().skip(zeros).collect::<Vec<u8>>())
    };
    let (n, e) = (number(jwk.n.as_ref())?, number(jwk.e.as_ref())?);
    MODULUS_BYTES
        .contains(&n.len())
        .then_some(PublicKeyComponents { n, e })
}

fn rsa(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    match algorithm {
        Algorithm::RS256 => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::RS384 => Some(&signature::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::RS512 => Some(&signature::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::PS256 => Some(&signature::RSA_PSS_2048_8192_SHA256),
        Algorithm::PS384 => Some(&signature::RSA_PSS_2048_8192_SHA384),
        Algorithm::PS512 => Some(&signature::RSA_PSS_2048_8192_SHA512),
        Algorithm::EdDSA
        | Algorithm::ES256
        | Algorithm::ES384
        | Algorithm::HS256
        | Algorithm::HS384
        | Algorithm::HS512 => None,
    }
}
