//! The customers' clients: a process of its own that knows outboxd's WebSocket and nothing else, holds one for each order until
//! its saga has ended, and reports each state the moment it sees it. Never forgives a gap.

use std::{net::SocketAddr, process, thread};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::{runtime, sync::mpsc};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    again::{self, Again},
    event::{self, SagaState, StateSeen},
    outbox::SAGA_TYPE,
    support::socket::{Closed, Gap, Known, Socket},
    world::Failure,
};

/// So many orders may wait for their client to begin.
const QUEUE: usize = 100;

/// An order to follow.
#[derive(Serialize, Deserialize)]
pub(crate) struct Watch {
    /// The saga's id, which is the order's.
    pub(crate) saga: String,
    /// The customer.
    pub(crate) user: String,
    /// The customer's own token, which is good for this customer's sagas only.
    pub(crate) token: String,
}

/// What becomes of it.
#[derive(Serialize, Deserialize)]
pub(crate) enum Report {
    /// The saga has come to another state.
    Saw(StateSeen),
    /// The client gave up: it cannot connect, its socket was closed, or something was missing.
    Failed {
        /// The saga's id.
        saga: String,
        /// For people.
        why: String,
    },
}

/// Starts it. `report` hears of everything that it sees, and gets `None` when it has ended.
pub(crate) fn start(
    push: SocketAddr,
    report: impl Fn(Option<Report>) + Send + 'static,
) -> Result<Again, Failure> {
    Again::start(&["watch", "--push", &push.to_string()], report)
}

/// What the process does, until its parent is gone.
pub(crate) fn run(push: SocketAddr) -> Result<(), Failure> {
    let (sender, mut orders) = mpsc::channel::<Watch>(QUEUE);
    thread::spawn(move || {
        let orders = again::told().map_while(|line| serde_json::from_str(&line).ok());
        orders
            .map_while(|order| sender.blocking_send(order).ok())
            .for_each(drop);
        process::exit(0);
    });
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    again::ready()?;
    runtime.block_on(async {
        while let Some(order) = orders.recv().await {
            #[expect(
                clippy::disallowed_methods,
                reason = "a program of its own, without outboxd's tasks"
            )]
            tokio::spawn(async move {
                if let Err(failure) = follow(push, &order).await {
                    let (saga, why) = (order.saga, failure.to_string());
                    // Without a parent this process is about to end.
                    let _ = again::report(&Report::Failed { saga, why });
                }
            });
        }
        Ok(())
    })
}

/// One WebSocket, from before its order's saga begins until that has ended.
async fn follow(push: SocketAddr, order: &Watch) -> Result<(), Failure> {
    let (mut socket, ready) = Socket::authenticated(push, &order.token).await?;
    let mut known = Known::default();
    known.ready(&ready);
    let subscribe = known.subscribe(2, SAGA_TYPE, &order.saga);
    socket.send(&subscribe).await?;
    let mut before: Option<SagaState> = None;
    loop {
        let frame = socket.news().await;
        let frame = frame.map_err(|Closed(code)| format!("closed with {code}"))?;
        let now = OffsetDateTime::now_utc();
        let text = |name| frame.get(name).and_then(Value::as_str).unwrap_or_default();
        if text("type") == "error" {
            let code = text("code");
            return Err(format!("refused as {code}").into());
        }
        known
            .take(&frame)
            .map_err(|Gap(what)| format!("a gap: {what}"))?;
        let Some(state) = state(&known, &order.saga).filter(|it| before.as_ref() != Some(it))
        else {
            continue;
        };
        let inserted = OffsetDateTime::parse(text("at"), &Rfc3339)?;
        again::report(&Report::Saw(StateSeen {
            state: state.clone(),
            previous: before.map(|it| it.state),
            user: order.user.clone(),
            at: event::time_of_day(now),
            milliseconds: event::milliseconds(inserted, now),
        }))?;
        if state.outcome.is_some() {
            // It has what it wanted, and owes nobody more than to say so.
            let _ = socket.message(Message::Close(None)).await;
            return Ok(());
        }
        before = Some(state);
    }
}

/// The state that a client knows; `None`: none yet.
fn state(known: &Known, saga: &str) -> Option<SagaState> {
    let seen = known.sagas.get(&(SAGA_TYPE.to_owned(), saga.to_owned()))?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    Some(SagaState {
        saga: saga.to_owned(),
        state: text(&seen.state)?,
        outcome: text(&seen.outcome),
    })
}
