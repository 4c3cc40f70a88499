//! What a token says, once its signature is known to be right. Never asks for the time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};

use super::{Identity, Refused, Why};
use crate::config::push::Auth;
use crate::logic::rights::Rights;

/// The last second of the year 9999: what RFC 3339 can still write, and less than the present in milliseconds.
const SECONDS_MAX: f64 = 253_402_300_799.0;

/// A claim in a message is cut after this many characters.
const FOUND_CHARS_MAX: usize = 100;

pub(super) fn identity(
    claims: &Map<String, Value>,
    auth: &Auth,
    now: SystemTime,
) -> Result<Identity, Refused> {
    let issuer = claims.get("iss");
    if issuer.and_then(Value::as_str) != Some(auth.issuer.as_str()) {
        return Err(Why::Issuer {
            found: found(issuer),
        }
        .into());
    }
    let audience = claims.get("aud");
    if !audience.is_some_and(|audience| is_for(audience, &auth.audience)) {
        return Err(Why::Audience {
            found: found(audience),
        }
        .into());
    }
    let user = user(claims.get(&auth.user_claim))?;
    let expiry = claims.get("exp");
    let expires_at = expiry.and_then(time).ok_or_else(|| Why::Expiry {
        found: found(expiry),
    })?;
    if let Some(not_before) = claims.get("nbf") {
        let not_before = time(not_before).ok_or_else(|| Why::NotBefore {
            found: found(Some(not_before)),
        })?;
        if not_before - auth.leeway > now {
            return Err(Why::NotYet.into());
        }
    }
    // Last, so that only a token that is right in every other way is told that its time is over.
    if expires_at + auth.leeway <= now {
        return Err(Refused::Expired);
    }
    Ok(Identity {
        rights: Rights::new(user, claims.get(&auth.grants_claim)),
        expires_at,
        token_id: claims.get("jti").and_then(Value::as_str).map(str::to_owned),
    })
}

/// Whether `aud` is this audience, or a list that holds it.
fn is_for(claim: &Value, audience: &str) -> bool {
    match claim {
        Value::String(one) => one == audience,
        Value::Array(several) => several.iter().any(|one| one.as_str() == Some(audience)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => false,
    }
}

/// The user's name; `None` has no sagas of its own.
fn user(claim: Option<&Value>) -> Result<Option<String>, Why> {
    match claim {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(name)) => Ok(Some(name.clone())),
        // Larger numbers were rounded, so that two users would become one.
        Some(Value::Number(number)) if number.is_i64() || number.is_u64() => {
            Ok(Some(number.to_string()))
        }
        Some(Value::Number(_) | Value::Bool(_) | Value::Array(_) | Value::Object(_)) => {
            Err(Why::User)
        }
    }
}

/// Seconds since 1970, whole or not.
fn time(claim: &Value) -> Option<SystemTime> {
    let seconds = claim.as_f64()?;
    if seconds > SECONDS_MAX {
        return None;
    }
    // Refuses what is below zero.
    let since = Duration::try_from_secs_f64(seconds).ok()?;
    Some(UNIX_EPOCH + since)
}

/// A claim for a message.
fn found(claim: Option<&Value>) -> String {
    let Some(claim) = claim else {
        return "missing".to_owned();
    };
    let text = claim.to_string();
    let mut cut: String = text.chars().take(FOUND_CHARS_MAX).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    cut
}
