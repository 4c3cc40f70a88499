//! Sagas over HTTP: one, its next version, a list. Never says more than a subscriber would be shown.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use tokio::sync::oneshot;
use tracing::warn;

use super::access;
use crate::clock;
use crate::logic::push::partition::Filter;
use crate::logic::push::session::Access;
use crate::logic::rights::{Rights, Types};
use crate::logic::saga::SagaKey;
use crate::metrics::{Rejected, Transport};
use crate::push::feed::{Ask, Mail};
use crate::push::hub::{Hub, Log};
use crate::push::listener::Guest;
use crate::push::problem::Problem;
use crate::push::queue::Note;
use crate::push::visit::Visit;

/// Sagas that a list has at most, and when it is not told.
const LIST: usize = 1_000;
const LIST_USUAL: usize = 100;
/// No answer takes longer; proxies cut those that do.
const WAIT_S: u64 = 60;
/// Bytes of frames that wait for a request that waits for any of them.
const POLL_QUEUE: usize = 4 << 10;

/// What is asked about one saga.
#[derive(Deserialize)]
pub(super) struct Newer {
    epoch: Option<String>,
    version: Option<i64>,
    wait: Option<u64>,
}

/// One saga; with a version, once there is a newer one.
pub(super) async fn saga(
    State(hub): State<Arc<Hub>>,
    Extension(guest): Extension<Arc<Guest>>,
    Extension(log): Extension<Arc<Log>>,
    Path((saga_type, saga_id)): Path<(String, String)>,
    query: Result<Query<Newer>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Access {
        rights, token_id, ..
    } = access(&hub, &guest, &headers).await?;
    let Query(newer) = query.map_err(|_| Problem::bad("version and wait have to be numbers"))?;
    let key = SagaKey::new(&saga_type, &saga_id);
    let (version, snapshot) = look(&log, &key, &rights)
        .await?
        .ok_or_else(Problem::not_found)?;
    let same_epoch = newer.epoch.is_none_or(|epoch| epoch == log.epoch);
    let Some(has) = newer.version.filter(|has| same_epoch && *has >= version) else {
        return Ok(json(snapshot));
    };
    let wait = Duration::from_secs(newer.wait.unwrap_or(0).min(WAIT_S));
    let mut visit = Visit::begin(&hub, &log, Transport::Poll, POLL_QUEUE);
    visit.identify(rights, token_id.as_ref());
    let found = watch(visit, &key, has, wait).await?;
    Ok(found.map_or_else(|| StatusCode::NO_CONTENT.into_response(), json))
}

/// Waits for a version above `has`, as any subscriber would.
async fn watch(
    visit: Visit,
    key: &SagaKey,
    has: i64,
    wait: Duration,
) -> Result<Option<String>, Problem> {
    let (hub, log, who) = (&visit.hub, &visit.log, &visit.who);
    let ask = Ask::Subscribe {
        id: None,
        key: key.clone(),
        has: Some(has),
    };
    log.send(key, Mail::Session(who.clone(), ask)).await;
    let newer = async {
        loop {
            who.queue.filled.notified().await;
            let notes = who.queue.take_notes();
            if notes.iter().any(|note| matches!(note, Note::Kicked)) {
                return Err(Problem::token());
            }
            who.queue.clear();
            match look(log, key, &who.rights).await? {
                Some((version, snapshot)) if version > has => return Ok(Some(snapshot)),
                Some(_) => {}
                None => return Err(Problem::not_found()),
            }
        }
    };
    tokio::select! {
        found = newer => found,
        () = tokio::time::sleep(wait) => Ok(None),
        () = hub.draining.cancelled() => Err(Problem::not_ready()),
        () = log.ended.cancelled() => Err(Problem::not_ready()),
    }
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

/// What is asked about many.
#[derive(Deserialize)]
pub(super) struct Wanted {
    saga_type: Option<String>,
    state: Option<String>,
    stuck: Option<bool>,
    finished: Option<bool>,
    newest: Option<bool>,
    limit: Option<usize>,
    after: Option<String>,
}

/// Where a list goes on: time of the last change in ms, partition, version.
type After = (i64, usize, i64);

/// Sagas, stalest or freshest first, for those with a grant.
pub(super) async fn list(
    State(hub): State<Arc<Hub>>,
    Extension(guest): Extension<Arc<Guest>>,
    Extension(log): Extension<Arc<Log>>,
    query: Result<Query<Wanted>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let rights = access(&hub, &guest, &headers).await?.rights;
    let Query(wanted) = query.map_err(|_| {
        Problem::bad("stuck, finished and newest have to be true or false, and limit a number")
    })?;
    granted(&hub, &rights, wanted.saga_type.as_deref())?;
    let limit = wanted.limit.unwrap_or(LIST_USUAL).clamp(1, LIST);
    let after = match wanted.after.as_deref() {
        None | Some("") => None,
        Some(after) => Some(
            read_after(after)
                .ok_or_else(|| Problem::bad("after has to be what an earlier list ended with"))?,
        ),
    };
    let newest = wanted.newest.unwrap_or(false);
    let mut found = Vec::new();
    for (number, partition) in log.partitions.iter().enumerate() {
        let (reply, answer) = oneshot::channel();
        // Of one moment, sagas of a partition come before or after those of the next.
        let after = after.map(|(changed_ms, of, version)| {
            let version = match number.cmp(&of) {
                Ordering::Less => i64::MAX,
                Ordering::Equal => version,
                Ordering::Greater => i64::MIN,
            };
            (changed_ms, version)
        });
        let filter = Filter {
            saga_type: wanted.saga_type.clone().filter(|text| !text.is_empty()),
            state: wanted.state.clone().filter(|text| !text.is_empty()),
            stuck: wanted.stuck.unwrap_or(false),
            finished: wanted.finished,
            newest,
            after,
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
    if newest {
        found.reverse();
    }
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

/// Counts of all sagas that may be watched whole, and how far each source is published.
pub(super) async fn overview(
    State(hub): State<Arc<Hub>>,
    Extension(guest): Extension<Arc<Guest>>,
    Extension(log): Extension<Arc<Log>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let rights = access(&hub, &guest, &headers).await?.rights;
    granted(&hub, &rights, None)?;
    let overview = log.overview().await.ok_or_else(Problem::not_ready)?;
    Ok(json(overview.text(&rights, clock::now())))
}

/// The events of one saga as the log has them, for those with a grant.
pub(super) async fn events(
    State(hub): State<Arc<Hub>>,
    Extension(guest): Extension<Arc<Guest>>,
    Extension(log): Extension<Arc<Log>>,
    Path((saga_type, saga_id)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let rights = access(&hub, &guest, &headers).await?.rights;
    granted(&hub, &rights, Some(&saga_type))?;
    let key = SagaKey::new(&saga_type, &saga_id);
    let (reply, answer) = oneshot::channel();
    let asked = key.clone();
    log.send(&key, Mail::Trail { key: asked, reply }).await;
    let trail = answer.await.map_err(|_| Problem::not_ready())?;
    let trail = trail.ok_or_else(Problem::not_found)?;
    let Ok(_turn) = hub.lookups.try_acquire() else {
        hub.metrics.rejected(Rejected::Lookups, 1);
        return Err(Problem::busy());
    };
    match log.pick(&key, trail.offsets.clone()).await {
        Ok(records) => {
            let found = records.iter().map(|record| {
                let value = record.value.as_deref().unwrap_or_default();
                (record.offset, value)
            });
            Ok(json(trail.text(&key, found)))
        }
        Err(error) => {
            warn!(%error, "a saga's events cannot be read from the log");
            Err(Problem::unread())
        }
    }
}

/// Whether the token has a grant for a type, or for any.
fn granted(hub: &Hub, rights: &Rights, saga_type: Option<&str>) -> Result<(), Problem> {
    let granted = match saga_type {
        Some(saga_type) => rights.may_watch_type(saga_type),
        None => !matches!(rights.types(), Types::Only(types) if types.is_empty()),
    };
    if granted {
        return Ok(());
    }
    hub.metrics.rejected(Rejected::Forbidden, 1);
    Err(Problem::forbidden())
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
}
