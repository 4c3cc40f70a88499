//! What ends the work on a source, and what follows. Never a detail of how it was done.

use crate::kafka::KafkaError;
use crate::logic::checkpoint::Halt;
use crate::outbox::{self, OutboxError};

/// Why a daemon does not go on with a source as it did.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The database.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    /// The database takes our connection and our statements, and gives no answer.
    #[error(
        "the database has not answered for {} s: is its server frozen, or out of reach behind a firewall?",
        super::SILENCE.as_secs()
    )]
    Silent,
    /// Kafka.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// Nobody can tell what was published.
    #[error(transparent)]
    Halt(#[from] Halt),
    /// The producer cannot be trusted any more; nothing else is wrong.
    #[error("the producer is replaced: {0}")]
    Replace(Replace),
    /// The database belongs to another source.
    #[error(
        "this database belongs to source \"{theirs}\", and the configuration calls it \"{ours}\": name it \
         [sources.{theirs}], or rename it with `outboxd sql rename`"
    )]
    OtherSource {
        /// Its name in the database.
        theirs: String,
        /// Its name in the configuration.
        ours: String,
    },
    /// The database is not the one that the position belongs to.
    #[error(
        "this is another database than the one that was relayed ({found}, expected {expected}): a restored dump or a new \
         cluster; accept it with `outboxd sql rebase --source {source_name}`"
    )]
    OtherDatabase {
        /// The source.
        source_name: String,
        /// What the position belongs to.
        expected: String,
        /// What was found.
        found: String,
    },
    /// Too much has been refused.
    #[error(
        "{rows} events wait as dead letters, more than `dead_letter_limit` = {limit}: see `outboxd dead-letters list`, mend \
         the cause or raise the limit"
    )]
    DeadLetterLimit {
        /// How many there are or would be.
        rows: u64,
        /// The limit.
        limit: u64,
    },
}

/// Why a producer is replaced although Kafka answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Replace {
    /// The source was published from elsewhere while we replaced a producer.
    #[error("another leader published meanwhile")]
    Overtaken,
    /// A transaction was aborted because of some of its records.
    #[error("records were refused")]
    Refused,
}

/// What follows an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// Take over again at once.
    Again,
    /// Try again, later and later.
    Retry,
    /// Another daemon leads: stand by.
    StandBy,
    /// An operator has to act; look again now and then whether they did.
    Operator,
}

impl RelayError {
    /// What follows.
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Outbox(error) => match error.disposition() {
                outbox::Disposition::Retry => Disposition::Retry,
                outbox::Disposition::StandBy => Disposition::StandBy,
                outbox::Disposition::Operator => Disposition::Operator,
            },
            Self::Kafka(error) => match error {
                // The time-out of the broker looks the same as another leader: the lease knows.
                KafkaError::Fenced(_) | KafkaError::LeaseExpired => Disposition::Retry,
                KafkaError::Unreachable { .. }
                | KafkaError::Failed { .. }
                | KafkaError::Denied { .. }
                | KafkaError::OwnTopic { .. } => Disposition::Retry,
                KafkaError::Setting(_) => Disposition::Operator,
            },
            Self::Silent => Disposition::Retry,
            Self::Replace(_) => Disposition::Again,
            Self::Halt(_)
            | Self::OtherSource { .. }
            | Self::OtherDatabase { .. }
            | Self::DeadLetterLimit { .. } => Disposition::Operator,
        }
    }

    /// Whether it says that Kafka does not work for this source.
    pub fn is_kafka(&self) -> bool {
        matches!(self, Self::Kafka(_))
    }

    /// Whether it says that the database is away.
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Outbox(error) if error.disposition() == outbox::Disposition::Retry)
    }
}
