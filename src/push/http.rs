//! The routes that clients use, and who may come in at all. Never says more of a saga than its watcher may know.

mod console;
mod handshake;
mod sagas;
mod stream;

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use bytes::Bytes;

use super::hub::Hub;
use super::listener::Guest;
use super::problem::Problem;
use crate::logic::push::admission::Full;
use crate::logic::push::asyncapi::document;
use crate::logic::push::session::{Access, NoAccess};
use crate::metrics::Rejected;

/// Where the page is, and below it what it is made of; it is there before the log has been read.
const CONSOLE: &str = "/console";

/// All routes.
pub(super) fn router(hub: Arc<Hub>) -> Router {
    Router::new()
        .route("/v1/ws", get(handshake::websocket))
        .route("/v1/stream", get(stream::stream))
        .route("/v1/sagas", get(sagas::list))
        .route("/v1/asyncapi.json", get(protocol))
        .route("/v1/sagas/{saga_type}/{saga_id}", get(sagas::saga))
        .route("/v1/sagas/{saga_type}/{saga_id}/events", get(sagas::events))
        .route("/v1/overview", get(sagas::overview))
        .route(CONSOLE, get(console::page))
        .route("/console/{file}", get(console::file))
        .fallback(async || Problem::not_found())
        .method_not_allowed_fallback(async || Problem::method())
        .layer(from_fn_with_state(Arc::clone(&hub), gate))
        .with_state(hub)
}

/// Lets in who may come in: by room, origin and address, once the log has been read.
async fn gate(
    State(hub): State<Arc<Hub>>,
    Extension(guest): Extension<Arc<Guest>>,
    mut request: Request,
    next: Next,
) -> Response {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let allowed = match &origin {
        Some(origin) => may_come_from(&hub, origin, &request),
        None => true,
    };
    let mut response = if let Some(problem) = turned_away(&hub, &guest, request.headers(), allowed)
    {
        problem.into_response()
    } else if request.method() == Method::OPTIONS && origin.is_some() {
        preflight()
    } else if request.uri().path().starts_with(CONSOLE) {
        next.run(request).await
    } else if let Some(log) = hub.log() {
        request.extensions_mut().insert(log);
        next.run(request).await
    } else {
        hub.metrics.rejected(Rejected::NotReady, 1);
        Problem::not_ready().into_response()
    };
    let headers = response.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static("Origin"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(origin) = origin.filter(|_| allowed) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        let exposed = HeaderValue::from_static("retry-after");
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
    response
}

fn turned_away(hub: &Hub, guest: &Guest, headers: &HeaderMap, allowed: bool) -> Option<Problem> {
    // Counted when it came.
    if guest.place.refused.is_some() {
        return Some(Problem::full());
    }
    if hub.draining.is_cancelled() {
        hub.metrics.rejected(Rejected::NotReady, 1);
        return Some(Problem::not_ready());
    }
    if !allowed {
        hub.metrics.rejected(Rejected::Origin, 1);
        return Some(Problem::origin());
    }
    let address = address_of(hub, guest.peer, headers);
    if guest.place.locate(address).is_err() {
        hub.metrics.rejected(Rejected::Full(Full::Address), 1);
        return Some(Problem::address());
    }
    None
}

/// The own origin is the one that the request is for; whether by http or https only a proxy knows.
fn may_come_from(hub: &Hub, origin: &HeaderValue, request: &Request) -> bool {
    let Ok(origin) = origin.to_str() else {
        return false;
    };
    let host = request.headers().get(header::HOST);
    // HTTP/2 says it in the request's target.
    let target = || request.uri().authority().map(|target| target.as_str());
    let own = host.map_or_else(target, |host| host.to_str().ok());
    let authority = origin.split_once("://").map(|(_, authority)| authority);
    let is_own = own.is_some_and(|own| authority.is_some_and(|it| it.eq_ignore_ascii_case(own)));
    let terms = hub.terms();
    let allowed = &terms.config.allowed_origins;
    is_own
        || allowed
            .iter()
            .any(|allowed| allowed.eq_ignore_ascii_case(origin))
}

/// Where a request comes from: the last address on its way that is no proxy of ours.
fn address_of(hub: &Hub, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
    let terms = hub.terms();
    let trusted = |address| {
        let proxies = &terms.config.trusted_proxies;
        proxies.iter().any(|proxy| proxy.contains(address))
    };
    let mut address = peer;
    let told = headers.get_all("x-forwarded-for");
    let told: Vec<&str> = told
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    for hop in told.iter().flat_map(|value| value.split(',')).rev() {
        let Ok(before) = hop.trim().parse::<IpAddr>() else {
            break;
        };
        if !trusted(address) {
            break;
        }
        address = before.to_canonical();
    }
    address
}

/// The protocol, for programs.
async fn protocol() -> Response {
    static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| document().to_string().into());
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (kind, DOCUMENT.clone()).into_response()
}

fn preflight() -> Response {
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET"),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "authorization, last-event-id",
        ),
        (header::ACCESS_CONTROL_MAX_AGE, "600"),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// What a request's token gives; always the same answer if it gives nothing.
async fn access(hub: &Hub, guest: &Guest, headers: &HeaderMap) -> Result<Access, Problem> {
    let access = match bearer(headers) {
        Some(token) => Some(hub.access(&guest.place, token).await),
        None => None,
    };
    match access {
        Some(Ok(access)) => Ok(access),
        Some(Err(NoAccess::TooMany)) => {
            hub.metrics.rejected(Rejected::Full(Full::User), 1);
            Err(Problem::user())
        }
        Some(Err(NoAccess::Unchecked)) => {
            hub.metrics.rejected(Rejected::Unchecked, 1);
            Err(Problem::unchecked())
        }
        Some(Err(NoAccess::Expired | NoAccess::Wrong)) | None => {
            hub.metrics.rejected(Rejected::Token, 1);
            Err(Problem::token())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearer_token_is_taken_out_of_its_header() {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("bearer  T"));
        assert_eq!(bearer(&headers), Some("T"));
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Basic T"));
        assert_eq!(bearer(&headers), None);
    }
}
