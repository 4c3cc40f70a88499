//! The handshake of a WebSocket, after RFC 6455; the connection's task does the rest. Never echoes a token.

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::bearer;
use crate::logic::push::session::{NoAccess, Session};
use crate::metrics::Rejected;
use crate::push::hub::{Hub, Log};
use crate::push::listener::Guest;
use crate::push::problem::Problem;
use crate::push::socket::Accepted;

const PROTOCOL: &str = "outboxd.push.v1";
const BEARER_PROTOCOL: &str = "outboxd.bearer.";

/// Accepts a handshake, or says what is wrong with it.
pub(super) async fn websocket(
    State(hub): State<Arc<Hub>>,
    Extension(guest): Extension<Arc<Guest>>,
    Extension(log): Extension<Arc<Log>>,
    mut request: Request,
) -> Result<Response, Problem> {
    let rejected = |why, problem| {
        hub.metrics.rejected(why, 1);
        problem
    };
    let headers = request.headers();
    let key = handshake_key(headers).map_err(|problem| rejected(Rejected::Handshake, problem))?;
    let token = bearer(headers)
        .or_else(|| protocols(headers).find_map(|protocol| protocol.strip_prefix(BEARER_PROTOCOL)));
    let verdict = match token {
        Some(token) => Some(hub.access(&guest.place, token).await),
        None => None,
    };
    let now = Instant::now();
    let settings = log.settings();
    let session = match verdict {
        None => Session::new(settings, now),
        Some(Err(NoAccess::Expired | NoAccess::Wrong)) => {
            return Err(rejected(Rejected::Token, Problem::token()));
        }
        Some(Err(NoAccess::Unchecked)) => {
            return Err(rejected(Rejected::Unchecked, Problem::unchecked()));
        }
        Some(verdict) => Session::with_token(settings, now, verdict),
    };
    let accepted = Box::new(Accepted {
        hub: Arc::clone(&hub),
        log,
        place: Arc::clone(&guest.place),
        session,
    });
    let upgrade = hyper::upgrade::on(&mut request);
    let mut upgraded = guest
        .upgraded
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    *upgraded = Some((upgrade, accepted));
    let headers = [
        (header::CONNECTION, "upgrade"),
        (header::UPGRADE, "websocket"),
        (header::SEC_WEBSOCKET_PROTOCOL, PROTOCOL),
        (header::SEC_WEBSOCKET_ACCEPT, &derive_accept_key(&key)),
    ];
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers).into_response())
}

fn handshake_key(headers: &HeaderMap) -> Result<Vec<u8>, Problem> {
    let says = |name: HeaderName, word: &str| {
        let mut words = headers.get_all(name).into_iter().flat_map(words);
        words.any(|said| said.eq_ignore_ascii_case(word))
    };
    let key = headers.get(header::SEC_WEBSOCKET_KEY);
    let (Some(key), true, true) = (
        key,
        says(header::UPGRADE, "websocket"),
        says(header::CONNECTION, "upgrade"),
    ) else {
        return Err(Problem::bad("this address speaks WebSocket only"));
    };
    if !says(header::SEC_WEBSOCKET_VERSION, "13") {
        return Err(Problem::bad("Sec-WebSocket-Version has to be 13"));
    }
    if !protocols(headers).any(|protocol| protocol == PROTOCOL) {
        return Err(Problem::bad(
            "the sub-protocol outboxd.push.v1 has to be offered",
        ));
    }
    Ok(key.as_bytes().to_vec())
}

fn protocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let offered = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL);
    offered.into_iter().flat_map(words)
}

fn words(value: &HeaderValue) -> impl Iterator<Item = &str> {
    value.to_str().unwrap_or_default().split(',').map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offered_protocols_are_told_apart() {
        let mut headers = HeaderMap::new();
        let offered = HeaderValue::from_static("outboxd.push.v1 ,outboxd.bearer.T");
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, offered);
        let offered: Vec<_> = protocols(&headers).collect();
        assert_eq!(offered, ["outboxd.push.v1", "outboxd.bearer.T"]);
    }
}
