//! The page on which orders are placed and things are broken, served on loopback. It decides nothing: each wish goes to the demo,
//! and what becomes of an order the page hears from outboxd itself.

use std::{net::SocketAddr, sync::mpsc::Sender, thread};

use axum::{
    Router,
    body::Bytes,
    extract::{Path, Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::Value;
use tokio::{net::TcpListener, runtime, sync::oneshot};

use crate::{
    News,
    world::{Failure, Style, Switch},
};

/// The browser client of outboxd, the same that its console page has.
const CLIENT: &str = include_str!("../../src/push/console/outboxd.min.js");

/// What the page asks the demo for.
#[derive(Debug)]
pub(crate) enum Wish {
    /// What is there: addresses, switches, orders.
    Look,
    /// Place an order.
    Place(Order),
    /// Turn a switch.
    Switch(Switch, bool),
    /// Kill outboxd.
    KillOutboxd,
    /// A token for the customer at the page, or for an operator.
    Token { operator: bool },
}

/// `POST /orders`.
#[derive(Debug, Deserialize)]
pub(crate) struct Order {
    pub(crate) style: Style,
    pub(crate) refusal: Refusal,
}

/// Who is to refuse it.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Refusal {
    Nobody,
    Consumer,
    Kitchen,
}

type Demo = Sender<News>;

/// Serves it until this process ends.
pub(crate) fn serve(listen: SocketAddr, news: Sender<News>) -> Result<(), Failure> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let listener = runtime.block_on(TcpListener::bind(listen))?;
    let origin = format!("http://{listen}");
    let own = middleware::from_fn(move |request: Request, next: Next| {
        let asks = request.headers().get(header::ORIGIN);
        // Another page in the same browser has nothing to ask here.
        let own = asks.is_none_or(|asks| asks.as_bytes() == origin.as_bytes());
        async move {
            match own {
                true => next.run(request).await,
                false => StatusCode::FORBIDDEN.into_response(),
            }
        }
    });
    let routes = Router::new()
        .route("/", get(page))
        .route("/outboxd.min.js", get(client))
        .route("/state", get(look))
        .route("/token", get(token))
        .route("/operator-token", get(operator_token))
        .route("/orders", post(place))
        .route("/switches/{name}/{position}", post(switch))
        .route("/kill-outboxd", post(kill))
        .layer(own)
        .with_state(news);
    thread::spawn(move || runtime.block_on(axum::serve(listener, routes).into_future()));
    Ok(())
}

async fn page() -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "text/html; charset=utf-8")],
        include_str!("page.html"),
    )
}

async fn client() -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "text/javascript; charset=utf-8")],
        CLIENT,
    )
}

async fn look(State(demo): State<Demo>) -> Response {
    ask(&demo, Wish::Look).await
}

async fn token(State(demo): State<Demo>) -> Response {
    ask(&demo, Wish::Token { operator: false }).await
}

async fn operator_token(State(demo): State<Demo>) -> Response {
    ask(&demo, Wish::Token { operator: true }).await
}

async fn place(State(demo): State<Demo>, body: Bytes) -> Response {
    match serde_json::from_slice(&body) {
        Ok(order) => ask(&demo, Wish::Place(order)).await,
        Err(_) => StatusCode::BAD_REQUEST.into_response(),
    }
}

async fn switch(
    State(demo): State<Demo>,
    Path((name, position)): Path<(String, String)>,
) -> Response {
    match (Switch::named(&name), position.as_str()) {
        (Some(switch), on @ ("on" | "off")) => ask(&demo, Wish::Switch(switch, on == "on")).await,
        (_, _) => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn kill(State(demo): State<Demo>) -> Response {
    ask(&demo, Wish::KillOutboxd).await
}

/// Tells the demo, and waits for what it says.
async fn ask(demo: &Demo, wish: Wish) -> Response {
    let (sender, answer) = oneshot::channel::<Value>();
    // It may have ended.
    let _ = demo.send(News::Asked(wish, sender));
    match answer.await {
        Ok(answer) => {
            let mut headers = HeaderMap::new();
            headers.insert(
                header::CONTENT_TYPE,
                header::HeaderValue::from_static("application/json"),
            );
            (headers, answer.to_string()).into_response()
        }
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}
