//! A row of `outbox.event`, and how a service inserts it. Never commits: the transaction is the service's own.

use serde_json::Value;
use tokio_postgres::{Error, Transaction};

use crate::event::{Event, SagaState};

/// The type of the sagas that orders are.
pub(crate) const SAGA_TYPE: &str = "create-order";

/// One row of `outbox.event`. What is `None` stays null.
pub(crate) struct Outbox<'a> {
    pub(crate) source: &'a str,
    pub(crate) topic: &'a str,
    pub(crate) key: &'a str,
    pub(crate) event_type: &'a str,
    pub(crate) payload: Value,
    pub(crate) saga_id: &'a str,
    pub(crate) saga_user: Option<&'a str>,
    pub(crate) saga_state: Option<&'a str>,
    pub(crate) saga_outcome: Option<&'a str>,
    pub(crate) saga_step: Option<&'a str>,
    pub(crate) saga_step_status: Option<&'a str>,
}

impl Outbox<'_> {
    /// What it says of the saga's state, if anything.
    pub(crate) fn state(&self) -> Option<SagaState> {
        Some(SagaState {
            saga: self.saga_id.to_owned(),
            state: self.saga_state?.to_owned(),
            outcome: self.saga_outcome.map(str::to_owned),
        })
    }

    /// All that a service has to do to publish an event: insert it, in the transaction that it belongs to.
    pub(crate) async fn insert(self, transaction: &Transaction<'_>) -> Result<Event, Error> {
        let insert = "
            insert into outbox.event (
                topic, key, event_type, payload, saga_type, saga_id, saga_user, saga_state, saga_outcome,
                saga_step, saga_step_status)
            values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
            returning event_id::text";
        let row = transaction
            .query_one(
                insert,
                &[
                    &self.topic,
                    &self.key,
                    &self.event_type,
                    &self.payload.to_string(),
                    &SAGA_TYPE,
                    &self.saga_id,
                    &self.saga_user,
                    &self.saga_state,
                    &self.saga_outcome,
                    &self.saga_step,
                    &self.saga_step_status,
                ],
            )
            .await?;
        Ok(Event {
            id: row.get(0),
            source: self.source.to_owned(),
            topic: self.topic.to_owned(),
            key: Some(self.key.to_owned()),
            event_type: self.event_type.to_owned(),
        })
    }
}
