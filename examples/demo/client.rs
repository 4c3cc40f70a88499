//! The customers' clients: a process of its own that knows outboxd's WebSocket and nothing else, follows each order until its saga
//! has ended, and reports each state the moment it sees it. Comes back when outboxd does, and never forgives a gap.

use std::{net::SocketAddr, process, thread, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::{
    runtime,
    sync::mpsc,
    time::{Instant, sleep},
};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    again::{self, Again},
    event::{self, SagaState, StateSeen},
    support::socket::{Closed, Gap, Known, Socket},
    world::Failure,
};

/// So many orders may wait for their client to begin.
const QUEUE: usize = 100;

/// How long outboxd may be away.
const PATIENCE: Duration = Duration::from_secs(15);

/// From one try to come back to the next.
const PAUSE: Duration = Duration::from_millis(100);

/// An order to follow.
#[derive(Serialize, Deserialize)]
pub(crate) struct Watch {
    /// The order's id.
    pub(crate) order: String,
    /// Its saga's type.
    pub(crate) saga_type: String,
    /// Its saga's id.
    pub(crate) saga_id: String,
    /// The customer's own token, which is good for this customer's sagas only.
    pub(crate) token: String,
}

/// What becomes of it.
#[derive(Serialize, Deserialize)]
pub(crate) enum Report {
    /// The saga has come to another state.
    Saw(StateSeen),
    /// The client gave up: it cannot connect, or something was missing.
    Failed {
        /// The order's id.
        order: String,
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
                    let (order, why) = (order.order, failure.to_string());
                    // Without a parent this process is about to end.
                    let _ = again::report(&Report::Failed { order, why });
                }
            });
        }
        Ok(())
    })
}

/// One order, until its saga has ended.
async fn follow(push: SocketAddr, order: &Watch) -> Result<(), Failure> {
    let (mut known, mut before) = (Known::default(), None);
    let mut deadline = Instant::now() + PATIENCE;
    loop {
        let away = match Socket::authenticated(push, &order.token).await {
            Ok((socket, ready)) => {
                known.ready(&ready);
                let Some(code) = watch(socket, order, &mut known, &mut before).await? else {
                    return Ok(());
                };
                deadline = Instant::now() + PATIENCE;
                format!("closed with {code}")
            }
            Err(error) => error.to_string(),
        };
        if Instant::now() > deadline {
            return Err(away.into());
        }
        sleep(PAUSE).await;
    }
}

/// One WebSocket, until the saga has ended (`None`), or the socket has: its close code.
async fn watch(
    mut socket: Socket,
    order: &Watch,
    known: &mut Known,
    before: &mut Option<SagaState>,
) -> Result<Option<u16>, Failure> {
    let subscribe = known.subscribe(2, &order.saga_type, &order.saga_id);
    if socket.send(&subscribe).await.is_err() {
        return Ok(Some(1006));
    }
    loop {
        let frame = match socket.news().await {
            Ok(frame) => frame,
            Err(Closed(code)) => return Ok(Some(code)),
        };
        let now = OffsetDateTime::now_utc();
        let text = |name| frame.get(name).and_then(Value::as_str).unwrap_or_default();
        if text("type") == "error" {
            let code = text("code");
            return Err(format!("refused as {code}").into());
        }
        known
            .take(&frame)
            .map_err(|Gap(what)| format!("a gap: {what}"))?;
        let Some(state) = state(known, order).filter(|it| before.as_ref() != Some(it)) else {
            continue;
        };
        let inserted = OffsetDateTime::parse(text("at"), &Rfc3339)?;
        again::report(&Report::Saw(StateSeen {
            state: state.clone(),
            previous: before.take().map(|it| it.state),
            at: event::time_of_day(now),
            milliseconds: event::milliseconds(inserted, now),
        }))?;
        if state.outcome.is_some() {
            // It has what it wanted, and owes nobody more than to say so.
            let _ = socket.message(Message::Close(None)).await;
            return Ok(None);
        }
        *before = Some(state);
    }
}

/// The state that a client knows; `None`: none yet.
fn state(known: &Known, order: &Watch) -> Option<SagaState> {
    let key = (order.saga_type.clone(), order.saga_id.clone());
    let seen = known.sagas.get(&key)?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    Some(SagaState {
        order: order.order.clone(),
        state: text(&seen.state)?,
        outcome: text(&seen.outcome),
    })
}
