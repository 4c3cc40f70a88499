//! The routes that clients use: the WebSocket's handshake, one saga, a list of them. Never says more of a saga than its watcher may know.

use std::net::IpAddr;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use tokio::sync::oneshot;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::feed::{Ask, Mail, Who};
use super::hub::{Hub, Log};
use super::listener::Guest;
use super::problem::Problem;
use super::queue::Queue;
use super::socket::Accepted;
use crate::logic::push::admission::Full;
use crate::logic::push::partition::Filter;
use crate::logic::push::session::{NoAccess, Session};
use crate::logic::rights::{Rights, Types};
use crate::logic::saga::SagaKey;
use crate::metrics::{Rejected, Transport};

const PROTOCOL: &str = "outboxd.push.v1";
const BEARER_PROTOCOL: &str = "outboxd.bearer.";
/// Sagas that a list has at most, and when it is not told.
const LIST: usize = 1_000;
const LIST_USUAL: usize = 100;
/// No answer takes longer; proxies cut those that do.
const WAIT_S: u64 = 60;
/// Bytes of frames that wait for a request that waits for any of them.
const POLL_QUEUE: usize = 4 << 10;

/// All routes.
pub(super) fn router(hub: Arc<Hub>) -> Router {
    Router::new()
        .route("/v1/ws", get(websocket))
        .route("/v1/sagas", get(list))
        .route("/v1/sagas/{saga_type}/{saga_id}", get(saga))
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
        Some(origin) => may_come_from(&hub, origin, request.headers()),
        None => true,
    };
    let mut response = if let Some(problem) = turned_away(&hub, &guest, request.headers(), allowed)
    {
        problem.into_response()
    } else if request.method() == Method::OPTIONS && origin.is_some() {
        preflight()
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
fn may_come_from(hub: &Hub, origin: &HeaderValue, headers: &HeaderMap) -> bool {
    let Ok(origin) = origin.to_str() else {
        return false;
    };
    let own = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let authority = origin.split_once("://").map(|(_, authority)| authority);
    let is_own = own.is_some_and(|own| authority.is_some_and(|it| it.eq_ignore_ascii_case(own)));
    let allowed = &hub.config.allowed_origins;
    is_own
        || allowed
            .iter()
            .any(|allowed| allowed.eq_ignore_ascii_case(origin))
}

/// Where a request comes from: the last address on its way that is no proxy of ours.
fn address_of(hub: &Hub, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
    let trusted = |address| {
        let proxies = &hub.config.trusted_proxies;
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

/// The handshake of RFC 6455; the connection's task does the rest.
async fn websocket(
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
    let verdict = token.map(|token| hub.access(&guest.place, token));
    let now = Instant::now();
    let settings = Arc::clone(&log.settings);
    let session = match verdict {
        None => Session::new(settings, now),
        Some(Err(NoAccess::Expired | NoAccess::Wrong)) => {
            return Err(rejected(Rejected::Token, Problem::token()));
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

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The rights that a request's token gives; always the same answer if it gives none.
fn rights(hub: &Hub, guest: &Guest, headers: &HeaderMap) -> Result<Arc<Rights>, Problem> {
    let access = bearer(headers).map(|token| hub.access(&guest.place, token));
    match access {
        Some(Ok(access)) => Ok(access.rights),
        Some(Err(NoAccess::TooMany)) => {
            hub.metrics.rejected(Rejected::Full(Full::User), 1);
            Err(Problem::user())
        }
        Some(Err(NoAccess::Expired | NoAccess::Wrong)) | None => {
            hub.metrics.rejected(Rejected::Token, 1);
            Err(Problem::token())
        }
    }
}

#[derive(Deserialize)]
struct Newer {
    epoch: Option<String>,
    version: Option<i64>,
    wait: Option<u64>,
}

/// One saga; with a version, once there is a newer one.
async fn saga(
    State(hub): State<Arc<Hub>>,
    Extension(guest): Extension<Arc<Guest>>,
    Extension(log): Extension<Arc<Log>>,
    Path((saga_type, saga_id)): Path<(String, String)>,
    query: Result<Query<Newer>, axum::extract::rejection::QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let rights = rights(&hub, &guest, &headers)?;
    let Query(newer) = query.map_err(|_| Problem::bad("version and wait have to be numbers"))?;
    let key = SagaKey::new(&saga_type, &saga_id);
    let (version, snapshot) = look(&log, &key, &rights)
        .await?
        .ok_or_else(Problem::not_found)?;
    let same_epoch = newer.epoch.is_none_or(|epoch| epoch == log.settings.epoch);
    let Some(has) = newer.version.filter(|has| same_epoch && *has >= version) else {
        return Ok(json(snapshot));
    };
    hub.metrics.accepted(Transport::Poll, 1);
    let wait = Duration::from_secs(newer.wait.unwrap_or(0).min(WAIT_S));
    let found = watch(&hub, &log, &key, &rights, has, wait).await?;
    Ok(found.map_or_else(|| StatusCode::NO_CONTENT.into_response(), json))
}

/// Waits for a version above `has`, as any subscriber would.
async fn watch(
    hub: &Hub,
    log: &Log,
    key: &SagaKey,
    rights: &Arc<Rights>,
    has: i64,
    wait: Duration,
) -> Result<Option<String>, Problem> {
    let who = Who {
        session: hub.next_session(),
        queue: Queue::new(POLL_QUEUE),
        rights: Arc::clone(rights),
    };
    let ask = Ask::Subscribe {
        id: None,
        key: key.clone(),
        has: Some(has),
    };
    let connections = hub.metrics.connections(Transport::Poll);
    connections.increment(1.0);
    log.send(key, Mail::Session(who.clone(), ask)).await;
    let newer = async {
        loop {
            who.queue.filled.notified().await;
            who.queue.clear();
            match look(log, key, rights).await? {
                Some((version, snapshot)) if version > has => return Ok(Some(snapshot)),
                Some(_) => {}
                None => return Err(Problem::not_found()),
            }
        }
    };
    let found = tokio::select! {
        found = newer => found,
        () = tokio::time::sleep(wait) => Ok(None),
        () = hub.draining.cancelled() => Err(Problem::not_ready()),
        () = log.ended.cancelled() => Err(Problem::not_ready()),
    };
    log.send(key, Mail::Left(who.session)).await;
    connections.decrement(1.0);
    found
}

async fn look(
    log: &Log,
    key: &SagaKey,
    rights: &Arc<Rights>,
) -> Result<Option<(i64, String)>, Problem> {
    let (reply, answer) = oneshot::channel();
    let mail = Mail::Snapshot {
        key: key.clone(),
        rights: Arc::clone(rights),
        reply,
    };
    log.send(key, mail).await;
    answer.await.map_err(|_| Problem::not_ready())
}

#[derive(Deserialize)]
struct Wanted {
    saga_type: Option<String>,
    state: Option<String>,
    stuck: Option<bool>,
    limit: Option<usize>,
    after: Option<String>,
}

/// Where a list goes on: time of the last change in ms, partition, version.
type After = (i64, usize, i64);

/// Sagas, stalest first, for those with a grant.
async fn list(
    State(hub): State<Arc<Hub>>,
    Extension(guest): Extension<Arc<Guest>>,
    Extension(log): Extension<Arc<Log>>,
    query: Result<Query<Wanted>, axum::extract::rejection::QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let rights = rights(&hub, &guest, &headers)?;
    let Query(wanted) =
        query.map_err(|_| Problem::bad("stuck has to be true or false, and limit a number"))?;
    let granted = match &wanted.saga_type {
        Some(saga_type) => rights.may_watch_type(saga_type),
        None => !matches!(rights.types(), Types::Only(types) if types.is_empty()),
    };
    if !granted {
        hub.metrics.rejected(Rejected::Forbidden, 1);
        return Err(Problem::forbidden());
    }
    let limit = wanted.limit.unwrap_or(LIST_USUAL).clamp(1, LIST);
    let after = match wanted.after.as_deref() {
        None | Some("") => (i64::MIN, 0, i64::MIN),
        Some(after) => read_after(after)
            .ok_or_else(|| Problem::bad("after has to be what an earlier list ended with"))?,
    };
    let mut found = Vec::new();
    for (number, partition) in log.partitions.iter().enumerate() {
        let (reply, answer) = oneshot::channel();
        let version = match number.cmp(&after.1) {
            std::cmp::Ordering::Less => i64::MAX,
            std::cmp::Ordering::Equal => after.2,
            std::cmp::Ordering::Greater => i64::MIN,
        };
        let filter = Filter {
            saga_type: wanted.saga_type.clone().filter(|text| !text.is_empty()),
            state: wanted.state.clone().filter(|text| !text.is_empty()),
            stuck: wanted.stuck.unwrap_or(false),
            after: (after.0, version),
            // One more tells whether there are more.
            limit: limit + 1,
        };
        let rights = Arc::clone(&rights);
        let mail = Mail::List {
            filter,
            rights,
            reply,
        };
        // Without a reader there is no answer either.
        let _ = partition.send(mail).await;
        let listed = answer.await.map_err(|_| Problem::not_ready())?;
        found.extend(listed.into_iter().map(|listed| {
            let (changed_ms, version) = listed.place;
            ((changed_ms, number, version), listed.snapshot)
        }));
    }
    found.sort_by_key(|(place, _)| *place);
    let more = found.len() > limit;
    found.truncate(limit);
    let last = found
        .last()
        .filter(|_| more)
        .map(|(place, _)| write_after(*place));
    let sagas: Vec<String> = found.into_iter().map(|(_, snapshot)| snapshot).collect();
    let after = last.map_or_else(|| "null".to_owned(), |after| format!("\"{after}\""));
    Ok(json(format!(
        r#"{{"sagas":[{}],"after":{after}}}"#,
        sagas.join(",")
    )))
}

fn write_after((changed_ms, partition, version): After) -> String {
    URL_SAFE_NO_PAD.encode(format!("{changed_ms}.{partition}.{version}"))
}

fn read_after(text: &str) -> Option<After> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
    let mut parts = text.split('.');
    let after = (
        parts.next()?.parse().ok()?,
        parts.next()?.parse().ok()?,
        parts.next()?.parse().ok()?,
    );
    parts.next().is_none().then_some(after)
}

fn json(text: String) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_a_list_is_read_as_it_was_written() {
        for place in [(0, 0, 0), (i64::MIN, 11, i64::MAX)] {
            assert_eq!(read_after(&write_after(place)), Some(place));
        }
        for broken in ["", "!", "MQ", "MS4yLjMuNA"] {
            assert_eq!(read_after(broken), None, "{broken}");
        }
    }

    #[test]
    fn the_token_may_be_in_either_header_and_words_are_told_apart() {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("bearer  T"));
        assert_eq!(bearer(&headers), Some("T"));
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Basic T"));
        assert_eq!(bearer(&headers), None);
        let offered = HeaderValue::from_static("outboxd.push.v1 ,outboxd.bearer.T");
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, offered);
        let offered: Vec<_> = protocols(&headers).collect();
        assert_eq!(offered, ["outboxd.push.v1", "outboxd.bearer.T"]);
    }
}
