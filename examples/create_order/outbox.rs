//! The outbox: how a service says something, by a row in the transaction that makes it true. Never speaks to Kafka.

use serde::Serialize;
use tokio_postgres::Transaction;
use uuid::Uuid;

use crate::{Failure, message::Origin};

/// One row of `outbox.event`; what is `None` stays null.
pub(crate) struct Outbox<'a> {
    topic: &'a str,
    key: &'a str,
    kind: &'a str,
    name: &'a str,
    payload: String,
    correlation_id: Option<&'a str>,
    causation_id: Option<String>,
    reply_to: Option<&'a str>,
    reply_outcome: Option<&'a str>,
    saga_type: Option<&'a str>,
    saga_id: Option<&'a str>,
    saga_user: Option<&'a str>,
    saga_state: Option<&'a str>,
    saga_outcome: Option<&'a str>,
    saga_step: Option<&'a str>,
    saga_step_status: Option<&'a str>,
}

impl<'a> Outbox<'a> {
    /// An event message: something happened to the aggregate that is the key.
    pub(crate) fn event(
        topic: &'a str,
        key: &'a str,
        name: &'a str,
        says: &impl Serialize,
    ) -> Self {
        Self::new("event", topic, key, name, says)
    }

    /// A command message: its receiver is to do something, and to reply there.
    pub(crate) fn command(
        topic: &'a str,
        key: &'a str,
        name: &'a str,
        says: &impl Serialize,
        reply_to: &'a str,
    ) -> Self {
        let reply_to = Some(reply_to);
        Self {
            reply_to,
            ..Self::new("command", topic, key, name, says)
        }
    }

    /// A document message: data for its receiver, who knows what to do with it.
    pub(crate) fn document(
        topic: &'a str,
        key: &'a str,
        name: &'a str,
        says: &impl Serialize,
    ) -> Self {
        Self::new("document", topic, key, name, says)
    }

    /// The reply to a command. Where it is awaited, and by which saga, the command has said.
    pub(crate) fn reply(
        command: &'a Origin,
        success: bool,
        name: &'a str,
        says: &impl Serialize,
    ) -> Result<Self, Failure> {
        let topic = command.reply_to.as_deref();
        let topic = topic.ok_or_else(|| format!("nobody awaits a reply to {}", command.id))?;
        let key = command.saga_id.as_deref();
        let key = key.ok_or_else(|| format!("the command {} is of no saga", command.id))?;
        let reply_outcome = Some(if success { "success" } else { "failure" });
        Ok(Self {
            reply_outcome,
            ..Self::new("reply", topic, key, name, says).because_of(command)
        })
    }

    /// What follows from a message: it belongs to the same saga, and names its cause.
    pub(crate) fn because_of(self, cause: &'a Origin) -> Self {
        Self {
            correlation_id: cause.correlation_id.as_deref(),
            causation_id: Some(cause.id.to_string()),
            saga_type: cause.saga_type.as_deref(),
            saga_id: cause.saga_id.as_deref(),
            ..self
        }
    }

    /// What belongs to a saga.
    pub(crate) fn of_saga(self, saga_type: &'a str, saga_id: &'a str) -> Self {
        Self {
            correlation_id: Some(saga_id),
            saga_type: Some(saga_type),
            saga_id: Some(saga_id),
            ..self
        }
    }

    /// Who may watch the saga; the home service says so, at its beginning.
    pub(crate) fn for_user(self, user: &'a str) -> Self {
        Self {
            saga_user: Some(user),
            ..self
        }
    }

    /// Where the saga stands, and whether that is its end; the home service says so, and nobody else.
    pub(crate) fn state(self, state: &'a str, outcome: Option<&'a str>) -> Self {
        Self {
            saga_state: Some(state),
            saga_outcome: outcome,
            ..self
        }
    }

    /// How a step of the saga is doing.
    pub(crate) fn step(self, step: &'a str, status: &'a str) -> Self {
        Self {
            saga_step: Some(step),
            saga_step_status: Some(status),
            ..self
        }
    }

    /// Inserts it, into the transaction of whatever it tells of; gives its `event_id`.
    pub(crate) async fn insert(self, transaction: &Transaction<'_>) -> Result<Uuid, Failure> {
        let insert = "
            insert into outbox.event (
                topic, key, kind, event_type, payload, correlation_id, causation_id, reply_to, reply_outcome,
                saga_type, saga_id, saga_user, saga_state, saga_outcome, saga_step, saga_step_status)
            values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
            returning event_id";
        let row = transaction
            .query_one(
                insert,
                &[
                    &self.topic,
                    &self.key,
                    &self.kind,
                    &self.name,
                    &self.payload,
                    &self.correlation_id,
                    &self.causation_id,
                    &self.reply_to,
                    &self.reply_outcome,
                    &self.saga_type,
                    &self.saga_id,
                    &self.saga_user,
                    &self.saga_state,
                    &self.saga_outcome,
                    &self.saga_step,
                    &self.saga_step_status,
                ],
            )
            .await?;
        Ok(row.try_get(0)?)
    }

    fn new(
        kind: &'a str,
        topic: &'a str,
        key: &'a str,
        name: &'a str,
        says: &impl Serialize,
    ) -> Self {
        Self {
            topic,
            key,
            kind,
            name,
            payload: serde_json::json!(says).to_string(),
            correlation_id: None,
            causation_id: None,
            reply_to: None,
            reply_outcome: None,
            saga_type: None,
            saga_id: None,
            saga_user: None,
            saga_state: None,
            saga_outcome: None,
            saga_step: None,
            saga_step_status: None,
        }
    }
}
