//! What is in the outboxes: the truth that everything else is held against. Never writes.

use std::collections::HashSet;

use tokio::runtime::{Builder, Runtime};
use tokio_postgres::{Client, NoTls};

use crate::{
    event::{Event, SagaState},
    support::{deployment::SERVICES, postgres::Postgres},
    world::Failure,
};

/// A look into all of them, and what was seen there before.
pub(crate) struct Tables {
    runtime: Runtime,
    outboxes: Vec<Outbox>,
}

struct Outbox {
    service: &'static str,
    client: Client,
    /// Every transaction before this one has ended, and what it left was seen.
    seen_before: String,
    /// Rows of later ones that were seen.
    seen: HashSet<i64>,
}

/// Rows that were not there before.
#[derive(Default)]
pub(crate) struct Rows {
    pub(crate) events: Vec<Event>,
    pub(crate) states: Vec<SagaState>,
}

impl Tables {
    /// Connects to all databases as their superuser.
    pub(crate) fn open(postgres: &Postgres) -> Result<Self, Failure> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let outbox = |service| {
            let url = postgres.url("postgres", service);
            let (client, connection) = runtime.block_on(tokio_postgres::connect(&url, NoTls))?;
            // Works while a question is asked, which is enough.
            runtime.spawn(connection);
            Ok::<_, Failure>(Outbox {
                service,
                client,
                seen_before: "0".into(),
                seen: HashSet::new(),
            })
        };
        let outboxes = SERVICES.into_iter().map(outbox).collect::<Result<_, _>>()?;
        Ok(Self { runtime, outboxes })
    }

    /// What has come since the last look, of each service in its order.
    pub(crate) fn news(&mut self) -> Result<Rows, Failure> {
        let mut rows = Rows::default();
        for outbox in &mut self.outboxes {
            self.runtime.block_on(outbox.news(&mut rows))?;
        }
        Ok(rows)
    }
}

impl Outbox {
    async fn news(&mut self, rows: &mut Rows) -> Result<(), Failure> {
        // The horizon first: a transaction that ends in between is seen again, and known by its rows.
        let horizon = "select pg_snapshot_xmin(pg_current_snapshot())::text";
        let horizon: String = self.client.query_one(horizon, &[]).await?.get(0);
        let query = "
            select id, event_id::text, topic, key, event_type, saga_state, saga_outcome from outbox.event
            where txid >= $1::text::xid8 order by id";
        let found = self.client.query(query, &[&self.seen_before]).await?;
        for row in found {
            if !self.seen.insert(row.get("id")) {
                continue;
            }
            let key: Option<String> = row.get("key");
            let state: Option<String> = row.get("saga_state");
            // Only the home service says a state, and it does so in events whose key is the order.
            if let (Some(order), Some(state)) = (key.clone(), state) {
                rows.states.push(SagaState {
                    order,
                    state,
                    outcome: row.get("saga_outcome"),
                });
            }
            rows.events.push(Event {
                id: row.get("event_id"),
                source: self.service.to_owned(),
                topic: row.get("topic"),
                key,
                event_type: row.get("event_type"),
            });
        }
        self.seen_before = horizon;
        Ok(())
    }
}
