//! A message as it comes out of Kafka: what outboxd wrote into its headers, and its payload. Never knows what it means.

use rdkafka::{
    Message as _,
    message::{BorrowedMessage, Headers},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use uuid::Uuid;

use crate::Failure;

/// What a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It tells whom it may concern that something happened.
    Event,
    /// It asks one service to do something.
    Command,
    /// It answers a command.
    Reply,
    /// It hands one service some data.
    Document,
}

/// What an answer has to know of the message that it answers, perhaps long after that: it can be kept in a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Origin {
    /// `ce_id`: the message's identity, by which a duplicate is known.
    pub(crate) id: Uuid,
    /// What it all belongs to; here the saga's id.
    pub(crate) correlation_id: Option<String>,
    /// The message that caused it; of a reply, the command.
    pub(crate) causation_id: Option<String>,
    /// Where a command's reply is awaited.
    pub(crate) reply_to: Option<String>,
    /// The saga's type.
    pub(crate) saga_type: Option<String>,
    /// The saga's id.
    pub(crate) saga_id: Option<String>,
}

/// One message.
#[derive(Debug)]
pub(crate) struct Message {
    /// Where it comes from.
    pub(crate) origin: Origin,
    /// What it is for.
    pub(crate) kind: Kind,
    /// `ce_type`: what it says.
    pub(crate) name: String,
    /// Of a reply: whether the command was carried out.
    pub(crate) success: bool,
    payload: Vec<u8>,
}

impl Message {
    /// Reads a record that outboxd published.
    pub(crate) fn of(record: &BorrowedMessage<'_>) -> Result<Self, Failure> {
        let header = |name: &str| {
            let headers = record.headers().into_iter().flat_map(Headers::iter);
            let mut named = headers.filter(|header| header.key == name);
            let value = named.next().and_then(|header| header.value)?;
            String::from_utf8(value.to_vec()).ok()
        };
        let place = (record.topic(), record.partition(), record.offset());
        let needed = |name| header(name).ok_or_else(|| format!("{place:?} has no header {name}"));
        Ok(Self {
            origin: Origin {
                id: needed("ce_id")?.parse()?,
                correlation_id: header("ce_correlationid"),
                causation_id: header("ce_causationid"),
                reply_to: header("ce_replyto"),
                saga_type: header("ce_sagatype"),
                saga_id: header("ce_sagaid"),
            },
            kind: match header("ce_kind").as_deref() {
                None | Some("event") => Kind::Event,
                Some("command") => Kind::Command,
                Some("reply") => Kind::Reply,
                Some("document") => Kind::Document,
                Some(other) => return Err(format!("{place:?} is of the kind {other}").into()),
            },
            name: needed("ce_type")?,
            success: header("ce_replyoutcome").as_deref() == Some("success"),
            payload: record.payload().unwrap_or_default().to_vec(),
        })
    }

    /// What it says. A field that the reader does not know is no error: messages grow.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        let (name, id) = (&self.name, self.origin.id);
        serde_json::from_slice(&self.payload)
            .map_err(|why| format!("cannot read {name} {id}: {why}").into())
    }

    /// Whether it belongs to a saga of this type.
    pub(crate) fn is_of(&self, saga_type: &str) -> bool {
        self.origin.saga_type.as_deref() == Some(saga_type)
    }
}
