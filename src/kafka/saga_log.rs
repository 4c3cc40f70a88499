//! Follows the topic that tells of sagas, from some time ago for as long as it is wanted. Never commits, and never skips in silence.

mod follower;
mod pick;
mod watch;

use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use self::follower::Follower;
use super::client::{Clients, KafkaError};
use super::topics::Topics;
use crate::logic::health::Health;
use crate::logic::push::partition::Mark;
use crate::tasks::attached_blocking;

/// The topic that tells of sagas, as it was found.
#[derive(Debug, Clone)]
pub struct SagaLog {
    /// What the cluster calls itself.
    pub cluster_id: String,
    /// How many partitions the topic has; each is fed to an owner of its own.
    pub partitions: usize,
    topic: String,
    clients: Clients,
    topics: Topics,
}

/// One committed record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SagaLogRecord {
    /// Its offset; offsets grow, with gaps.
    pub offset: i64,
    /// When the broker appended it, in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// Its value as it was written.
    pub value: Option<Vec<u8>>,
}

/// Who takes the records of a partition.
#[derive(Debug)]
pub struct Owner<T> {
    /// Where they go.
    pub sink: mpsc::Sender<T>,
    /// The last record that it knows already, if it knows any.
    pub last: Option<Mark>,
}

/// What the owner of a partition is told. It begins with `Start`, unless the owner knows already what was before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fed {
    /// The first offset that may come; 0: the log still has its beginning, and that is in it.
    Start(i64),
    /// The next records in the order of their offsets: at least one, at most 500, and no further one after 1 MiB.
    Records(Vec<SagaLogRecord>),
    /// All that was decided when reading began has been handed over. Told once.
    CaughtUp,
    /// How many offsets lie between what was read and the end of what is decided. Told when it has changed, every 5 s at most.
    Lag(u64),
}

/// Why reading ended without being asked to. In each case the states that were made of the records are void.
#[derive(Debug, thiserror::Error)]
pub enum SagaLogError {
    /// Kafka did not do something; it may do it later.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// The place to read at is not in the topic any more; open it anew.
    #[error(
        "topic {topic} {why}; its sagas are read anew: if it was deleted or created again, raise `[push] epoch` on every \
         instance, so that clients forget the versions they have"
    )]
    Replaced {
        /// Its name.
        topic: String,
        /// What was seen.
        why: String,
    },
    /// What an owner knew already is not of this log, or of a part of it that is gone: begin without it.
    #[error("topic {topic} {why}")]
    Unknown {
        /// Its name.
        topic: String,
        /// What was seen.
        why: String,
    },
    /// The number of partitions changed; open it anew.
    #[error(
        "topic {topic} has {is} partitions instead of {was}: sagas move between them, and are read anew"
    )]
    Repartitioned {
        /// Its name.
        topic: String,
        /// How many there were.
        was: usize,
        /// How many there are.
        is: usize,
    },
}

/// How often the number of partitions is looked at.
const LOOK: Duration = Duration::from_secs(15);

impl SagaLog {
    /// Looks the topic up, and makes it first when it is missing.
    pub async fn open(clients: &Clients, topics: &Topics) -> Result<Self, KafkaError> {
        topics.ensure_sagas().await?;
        Self::find(clients, topics).await
    }

    /// Looks the topic up.
    pub async fn find(clients: &Clients, topics: &Topics) -> Result<Self, KafkaError> {
        let topic = clients.saga_topic();
        let partitions = topics.partitions(&topic).await?;
        Ok(Self {
            cluster_id: topics.cluster_id().await?,
            partitions: usize::try_from(partitions).unwrap_or_default(),
            topic,
            clients: clients.clone(),
            topics: topics.clone(),
        })
    }

    /// Reads every partition from the first record that is not older than `since_ms` (milliseconds since 1970), or from the
    /// one after the last that its owner knows, and goes on until `stop` or until an owner has gone away, which is `Ok`.
    /// `owners` has one per partition; a full sink holds up reading. Brokers that go away later are waited for. `health` hears
    /// that the reader turns.
    pub async fn read<T: From<Fed> + Send + 'static>(
        &self,
        since_ms: i64,
        owners: Vec<Owner<T>>,
        health: Option<Health>,
        stop: &CancellationToken,
    ) -> Result<(), SagaLogError> {
        debug_assert_eq!(owners.len(), self.partitions, "one owner per partition");
        let stop = stop.child_token();
        // The thread of the reader ends with this call, however that ends.
        let _ended = stop.clone().drop_guard();
        let (log, stopped, runtime) = (self.clone(), stop.clone(), Handle::current());
        let mut reader = attached_blocking(move || {
            Follower::follow(log, owners, since_ms, health, stopped, runtime)
        });
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                ended = &mut reader => return ended.unwrap_or_else(|_| Err(panicked().into())),
                () = tokio::time::sleep(LOOK) => self.look().await?,
            }
        }
    }

    /// Whether the topic still is what it was. A cluster that does not say is waited for.
    async fn look(&self) -> Result<(), SagaLogError> {
        match self.topics.count(&self.topic).await {
            Ok(Some(count)) => {
                let is = usize::try_from(count).unwrap_or_default();
                if is == self.partitions {
                    return Ok(());
                }
                Err(SagaLogError::Repartitioned {
                    topic: self.topic.clone(),
                    was: self.partitions,
                    is,
                })
            }
            Ok(None) => Err(self.replaced("is gone")),
            Err(error) => {
                debug!(topic = self.topic, %error, "cannot look the topic up");
                Ok(())
            }
        }
    }

    fn unknown(&self, why: &str) -> SagaLogError {
        SagaLogError::Unknown {
            topic: self.topic.clone(),
            why: why.to_owned(),
        }
    }

    fn replaced(&self, why: &str) -> SagaLogError {
        SagaLogError::Replaced {
            topic: self.topic.clone(),
            why: why.to_owned(),
        }
    }
}

fn panicked() -> KafkaError {
    KafkaError::panicked("reading sagas")
}
