//! Makes tokens for development. Never used by the daemon.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use super::key::secret_key;
use super::keys::{AuthError, secret};
use crate::config::push::{Auth, Keys};

/// Signs claims with the secret and the first of the algorithms. Blocks for as long as a local file takes.
///
/// # Errors
/// When there is no secret in the configuration, or it cannot be had.
pub fn sign(auth: &Auth, claims: Map<String, Value>) -> Result<String, AuthError> {
    let (Keys::Secret(reference), Some(algorithm)) = (&auth.keys, auth.algorithms.first()) else {
        return Err(AuthError::NoSecret);
    };
    let secret = secret(reference, &auth.algorithms)?;
    let key = secret_key(*algorithm, &secret).ok_or(AuthError::NoSecret)?;
    let header = json!({ "alg": algorithm.name(), "typ": "JWT" });
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(&header), part(&Value::Object(claims)));
    let signature = hmac::sign(&key, message.as_bytes());
    Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
}
