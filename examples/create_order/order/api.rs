//! Where customers come to: they place orders, look at them, and change them. Never waits for a saga; that is what outboxd's
//! WebSocket is for.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use axum::{
    Router,
    body::Bytes,
    extract::{Path, State},
    http::StatusCode,
    routing::{get, post},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Mutex};
use tokio_postgres::{Client, Row, Transaction};
use uuid::Uuid;

use super::{choreography, orchestration, state};
use crate::{
    Failure,
    messages::{CHOREOGRAPHED, Item, ORCHESTRATED, ORDER_EVENTS, Order},
    outbox::Outbox,
    service::{self, Options},
};

/// `POST /orders`. The customer's program makes the id, so that asking again places no second order.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Place {
    style: Style,
    order_id: String,
    consumer_id: String,
    restaurant_id: String,
    items: Vec<Item>,
    #[serde(default)]
    deliver_to: String,
}

/// Which of the two sagas.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Style {
    Choreography,
    Orchestration,
}

/// `PATCH /orders/{id}`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Change {
    deliver_to: String,
}

type Database = Arc<Mutex<Client>>;
type Answer = (StatusCode, String);

/// Serves customers for ever.
pub(super) async fn serve(options: &Options, listen: SocketAddr) -> Result<Infallible, Failure> {
    let database: Database = Arc::new(Mutex::new(service::connect(&options.database).await?));
    let one = get(look).patch(change);
    let routes = Router::new()
        .route("/orders", post(place))
        .route("/orders/{order_id}", one)
        .with_state(database);
    let listener = TcpListener::bind(listen).await?;
    axum::serve(listener, routes).await?;
    Err("the listener has ended".into())
}

async fn place(State(database): State<Database>, body: Bytes) -> Answer {
    let Ok(place) = read::<Place>(&body) else {
        return problem(StatusCode::BAD_REQUEST, "this is no order");
    };
    let order = Order {
        order_total: place.items.iter().map(|it| it.quantity * it.price).sum(),
        order_id: place.order_id,
        consumer_id: place.consumer_id,
        restaurant_id: place.restaurant_id,
        items: place.items,
    };
    let mut database = database.lock().await;
    answer(placed(&mut database, place.style, &order, &place.deliver_to).await)
}

/// The order and the beginning of its saga are committed together, or neither is.
async fn placed(
    database: &mut Client,
    style: Style,
    order: &Order,
    deliver_to: &str,
) -> Result<Answer, Failure> {
    let saga_type = match style {
        Style::Choreography => CHOREOGRAPHED,
        Style::Orchestration => ORCHESTRATED,
    };
    let saga_id = Uuid::new_v4();
    let transaction = database.transaction().await?;
    let insert = "
        insert into orders (order_id, consumer_id, restaurant_id, order_total, deliver_to, state, saga_type, saga_id)
        values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict do nothing";
    let is_new = transaction
        .execute(
            insert,
            &[
                &order.order_id,
                &order.consumer_id,
                &order.restaurant_id,
                &order.order_total,
                &deliver_to,
                &state::State::ApprovalPending.name(),
                &saga_type,
                &saga_id,
            ],
        )
        .await?
        == 1;
    if is_new {
        match style {
            Style::Choreography => {
                choreography::begin(&transaction, order, &saga_id.to_string()).await?;
            }
            Style::Orchestration => orchestration::begin(&transaction, order, saga_id).await?,
        }
    }
    let status = if is_new {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let row = find(&transaction, &order.order_id)
        .await?
        .ok_or("it is there")?;
    transaction.commit().await?;
    Ok((status, described(&row)?))
}

async fn look(State(database): State<Database>, Path(order_id): Path<String>) -> Answer {
    let mut database = database.lock().await;
    let found = async {
        let transaction = database.transaction().await?;
        match find(&transaction, &order_id).await? {
            Some(row) => Ok((StatusCode::OK, described(&row)?)),
            None => Ok(problem(StatusCode::NOT_FOUND, "there is no such order")),
        }
    };
    answer(found.await)
}

async fn change(
    State(database): State<Database>,
    Path(order_id): Path<String>,
    body: Bytes,
) -> Answer {
    let Ok(change) = read::<Change>(&body) else {
        return problem(StatusCode::BAD_REQUEST, "this is no change");
    };
    let mut database = database.lock().await;
    answer(changed(&mut database, &order_id, &change).await)
}

/// Changes the address, unless the order's saga holds its lock.
async fn changed(
    database: &mut Client,
    order_id: &str,
    change: &Change,
) -> Result<Answer, Failure> {
    let transaction = database.transaction().await?;
    let lock = "select state from orders where order_id = $1 for update";
    let Some(row) = transaction.query_opt(lock, &[&order_id]).await? else {
        return Ok(problem(StatusCode::NOT_FOUND, "there is no such order"));
    };
    let state = state::State::named(row.try_get(0)?).ok_or("a state that it never had")?;
    if let Err(locked) = state.may_change() {
        return Ok(problem(StatusCode::CONFLICT, &locked.to_string()));
    }
    let update = "update orders set deliver_to = $2 where order_id = $1";
    transaction
        .execute(update, &[&order_id, &change.deliver_to])
        .await?;
    // An event that belongs to no saga.
    let says = json!({ "orderId": order_id, "deliverTo": change.deliver_to });
    Outbox::event(ORDER_EVENTS, order_id, "OrderReaddressed", &says)
        .insert(&transaction)
        .await?;
    let row = find(&transaction, order_id).await?.ok_or("it is there")?;
    transaction.commit().await?;
    Ok((StatusCode::OK, described(&row)?))
}

async fn find(transaction: &Transaction<'_>, order_id: &str) -> Result<Option<Row>, Failure> {
    let query = "
        select order_id, state, reason, deliver_to, saga_type, saga_id from orders
        where order_id = $1";
    Ok(transaction.query_opt(query, &[&order_id]).await?)
}

/// What a customer is told, who can watch the saga by its type and id.
fn described(row: &Row) -> Result<String, Failure> {
    let text = |name| row.try_get::<_, Option<String>>(name);
    let described: Value = json!({
        "orderId": text("order_id")?,
        "state": text("state")?,
        "reason": text("reason")?,
        "deliverTo": text("deliver_to")?,
        "sagaType": text("saga_type")?,
        "sagaId": row.try_get::<_, Uuid>("saga_id")?,
    });
    Ok(described.to_string())
}

fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, serde_json::Error> {
    serde_json::from_slice(body)
}

fn problem(status: StatusCode, what: &str) -> Answer {
    (status, json!({ "problem": what }).to_string())
}

/// What has failed is told in the log, not to customers.
fn answer(result: Result<Answer, Failure>) -> Answer {
    result.unwrap_or_else(|failure| {
        tracing::error!(%failure, "a request has failed");
        problem(StatusCode::SERVICE_UNAVAILABLE, "try again later")
    })
}
