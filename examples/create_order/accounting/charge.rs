//! What accounting asks the card company, one order after the other: with a time-out, behind a circuit breaker, and again
//! until it is answered. Never asks twice in effect: the order's id is the key by which the company knows a question again.

use std::{
    convert::Infallible,
    net::SocketAddr,
    time::{Duration, Instant},
};

use axum::body::{Body, to_bytes};
use hyper::{Request, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    sync::Notify,
    time::{sleep, timeout},
};
use tokio_postgres::{Client, types::Json};

use super::{authorization::State, breaker::Breaker};
use crate::{
    Failure,
    message::Origin,
    messages::{ACCOUNTING_EVENTS, CONSUMER_DOCUMENTS, OfOrder, Receipt, Refused, status, step},
    outbox::Outbox,
    service::{self, Options},
};

/// How long an answer may take.
const CALL: Duration = Duration::from_secs(1);
/// How often rows are looked for when nothing is heard.
const LOOK: Duration = Duration::from_millis(250);
/// Bytes that an answer may have.
const ANSWER: usize = 4096;

/// A question that is due.
struct Question {
    order_id: String,
    consumer_id: String,
    total: i64,
    is_enabled: bool,
    origin: Origin,
}

/// What became of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Decision {
    Authorized,
    Declined,
    /// Nobody was asked.
    AccountDisabled,
}

/// Asks what there is to ask, for ever.
pub(super) async fn run(
    options: &Options,
    cards: SocketAddr,
    news: &Notify,
) -> Result<Infallible, Failure> {
    let mut database = service::connect(&options.database).await?;
    let mut breaker = Breaker::default();
    loop {
        if let Some(from) = breaker.closed_from(Instant::now()) {
            tracing::warn!("the circuit to the card company is open");
            sleep(from.duration_since(Instant::now())).await;
        }
        let Some(question) = due(&database).await? else {
            let _ = timeout(LOOK, news.notified()).await;
            continue;
        };
        let decision = if question.is_enabled {
            let asked = timeout(CALL, ask(cards, &question)).await;
            match asked.map_err(Failure::from).flatten() {
                Ok(decision) => {
                    breaker.succeeded();
                    decision
                }
                Err(failure) => {
                    tracing::warn!(order = question.order_id, %failure, "the card company does not answer");
                    breaker.failed(Instant::now());
                    later(&database, &question).await?;
                    continue;
                }
            }
        } else {
            Decision::AccountDisabled
        };
        settle(&mut database, &question, decision).await?;
    }
}

/// The question that has been due for longest.
async fn due(database: &Client) -> Result<Option<Question>, Failure> {
    let query = "
        select order_id, consumer_id, order_total, coalesce(is_enabled, false) as is_enabled, origin
        from authorizations left join accounts using (consumer_id)
        where state = 'REQUESTED' and next_at <= now() order by next_at limit 1";
    let Some(row) = database.query_opt(query, &[]).await? else {
        return Ok(None);
    };
    let Json(origin) = row.try_get("origin")?;
    Ok(Some(Question {
        order_id: row.try_get("order_id")?,
        consumer_id: row.try_get("consumer_id")?,
        total: row.try_get("order_total")?,
        is_enabled: row.try_get("is_enabled")?,
        origin,
    }))
}

/// Asks the card company; fails when there is no answer to be had.
async fn ask(cards: SocketAddr, question: &Question) -> Result<Decision, Failure> {
    let stream = TcpStream::connect(cards).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let says = json!({ "consumerId": question.consumer_id, "total": question.total });
    let request = Request::post("/authorizations")
        .header(header::HOST, cards.to_string())
        .header("idempotency-key", &question.order_id)
        .body(Body::from(says.to_string()))?;
    let answered = async move {
        let answer = sender.send_request(request).await?;
        if !answer.status().is_success() {
            return Err(answer.status().to_string().into());
        }
        let body = to_bytes(Body::new(answer.into_body()), ANSWER).await?;
        Ok::<Value, Failure>(serde_json::from_slice(&body)?)
    };
    // The connection ends when nobody sends any more.
    let (answer, _) = tokio::join!(answered, connection);
    match answer?.get("authorized").and_then(Value::as_bool) {
        Some(true) => Ok(Decision::Authorized),
        Some(false) => Ok(Decision::Declined),
        None => Err("it does not say whether the card is good".into()),
    }
}

/// Puts a question off, each time for longer, up to some seconds.
async fn later(database: &Client, question: &Question) -> Result<(), Failure> {
    let update = "
        update authorizations
        set attempts = attempts + 1, next_at = now() + least(attempts + 1, 8) * interval '250 milliseconds'
        where order_id = $1";
    database.execute(update, &[&question.order_id]).await?;
    Ok(())
}

/// Notes the answer and says so, in one transaction; does neither if somebody else was quicker.
async fn settle(
    database: &mut Client,
    question: &Question,
    decision: Decision,
) -> Result<(), Failure> {
    let (order_id, origin) = (question.order_id.as_str(), &question.origin);
    let authorized = decision == Decision::Authorized;
    let state = if authorized {
        State::Authorized
    } else {
        State::Declined
    };
    let transaction = database.transaction().await?;
    let update = "
        update authorizations set state = $2, attempts = attempts + 1
        where order_id = $1 and state = 'REQUESTED'";
    let updated = transaction
        .execute(update, &[&order_id, &state.name()])
        .await?;
    if updated == 0 {
        return Ok(());
    }
    let (of, key) = (order_id.to_owned(), order_id);
    let (refusal, reason) = match decision {
        Decision::AccountDisabled => ("AccountDisabledReply", "the account is disabled"),
        Decision::Authorized | Decision::Declined => ("CardDeclined", "the card is declined"),
    };
    let status = if authorized {
        status::DONE
    } else {
        status::FAILED
    };
    let refused = Refused {
        order_id: of.clone(),
        reason: reason.into(),
    };
    // Where a reply is awaited this was a command.
    let answer = match (&origin.reply_to, authorized) {
        (Some(_), true) => Outbox::reply(origin, true, "Success", &OfOrder { order_id: of })?,
        (Some(_), false) => Outbox::reply(origin, false, refusal, &refused)?,
        (None, true) => {
            let says = OfOrder { order_id: of };
            Outbox::event(ACCOUNTING_EVENTS, key, "CardAuthorized", &says).because_of(origin)
        }
        (None, false) => {
            let name = "CardAuthorizationFailed";
            Outbox::event(ACCOUNTING_EVENTS, key, name, &refused).because_of(origin)
        }
    };
    answer
        .step(step::AUTHORIZE_CARD, status)
        .insert(&transaction)
        .await?;
    if authorized {
        let receipt = Receipt {
            order_id: order_id.to_owned(),
            consumer_id: question.consumer_id.clone(),
            total: question.total,
        };
        Outbox::document(CONSUMER_DOCUMENTS, key, "Receipt", &receipt)
            .insert(&transaction)
            .await?;
    }
    Ok(transaction.commit().await?)
}
