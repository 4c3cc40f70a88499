//! Which topics there are, what they take, and making outboxd's own. Never creates a topic that it was not told to.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::types::RDKafkaRespErr;
use tracing::{info, warn};

use super::client::{Clients, Doing, KafkaError, Quiet};
use crate::logic::batch::TopicState;
use crate::logic::verify::Kept;
use crate::tasks::attached_blocking;

/// What is known of a topic.
#[derive(Debug, Clone, Copy)]
struct Known {
    state: TopicState,
    partitions: i32,
    /// As the broker says; where we may not ask it, what it has taken for granted or not taken so far.
    max_message_bytes: usize,
    since: Instant,
}

/// The cluster's topics, looked up once and again after a while. Shared by all sources.
#[derive(Clone)]
pub struct Topics {
    clients: Clients,
    admin: Arc<AdminClient<Quiet>>,
    /// Asks for metadata: what an administrator's client says of its connections cannot be heard.
    looker: Arc<BaseConsumer<Quiet>>,
    known: Arc<Mutex<HashMap<String, Known>>>,
}

impl std::fmt::Debug for Topics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Topics").finish_non_exhaustive()
    }
}

/// A topic that outboxd makes for itself when it is missing.
#[derive(Debug, Clone)]
pub struct CreatedTopic<'a> {
    /// Its name.
    pub name: &'a str,
    /// How many partitions.
    pub partitions: i32,
    /// Its settings.
    pub config: &'a [(&'a str, &'a str)],
}

/// A usable topic is looked at again after this long, in case its limits changed.
const FRESH: Duration = Duration::from_secs(60);
/// A topic that is away is looked at again after this long.
const AWAY: Duration = Duration::from_secs(3);
const REQUEST: Duration = Duration::from_secs(10);
/// So much of what the client says is heard after each question.
const WORDS: usize = 32;
/// What a broker takes when it does not say (`message.max.bytes`).
const USUAL_MAX_BYTES: usize = 1_048_588;
/// Of a batch and a record with its headers, beyond what we count; generous.
const OVERHEAD_BYTES: usize = 300;
/// More names than this are not remembered at once.
const MOST: usize = 10_000;

impl Topics {
    /// For one cluster. Connects when it is first asked.
    pub fn new(clients: &Clients) -> Result<Self, KafkaError> {
        let admin = clients.create(&clients.base("topics")?, clients.quiet())?;
        Ok(Self {
            clients: clients.clone(),
            admin: Arc::new(admin),
            looker: Arc::new(clients.consumer("read_committed")?),
            known: Arc::default(),
        })
    }

    /// The state of each of `names`, from memory where it is fresh.
    pub async fn look(
        &self,
        names: HashSet<&str>,
    ) -> Result<HashMap<String, TopicState>, KafkaError> {
        let mut states = HashMap::with_capacity(names.len());
        for name in names {
            let known = match self.remembered(name) {
                Some(known) => known,
                None => self.ask(name).await?,
            };
            states.insert(name.to_owned(), known.state);
        }
        Ok(states)
    }

    /// Notes what a transaction found out about a topic; a usable one has a smaller limit than we thought.
    pub fn learn(&self, name: &str, state: TopicState) {
        let now = Instant::now();
        if let Some(topic) = self.known().get_mut(name) {
            topic.state = state;
            topic.since = match state {
                // To be asked again at once. The answer may be that we have no right to ask, and then it is found out by
                // trying: at last each record is alone in its batch, and the one that is too large is known.
                TopicState::Usable => {
                    topic.max_message_bytes = (topic.max_message_bytes / 2).max(1);
                    now.checked_sub(FRESH).unwrap_or(now)
                }
                TopicState::Keyed | TopicState::Missing | TopicState::Denied => now,
            };
        }
    }

    /// The largest produce batch that every topic known so far takes.
    pub fn batch_bytes(&self) -> usize {
        let known = self.known();
        let limits = known.values().filter(|topic| topic.state.is_usable());
        let smallest = limits
            .map(|topic| topic.max_message_bytes)
            .min()
            .unwrap_or(USUAL_MAX_BYTES);
        // A batch has its own bytes besides its records'. Where even one small record may be too large with them, each is
        // alone, and the broker's answer means it and no other.
        let room = smallest.min(USUAL_MAX_BYTES) / 10 * 9;
        room.saturating_sub(OVERHEAD_BYTES).max(1)
    }

    /// How many partitions a usable topic has.
    pub async fn partitions(&self, name: &str) -> Result<i32, KafkaError> {
        let known = match self.remembered(name) {
            Some(known) => known,
            None => self.ask(name).await?,
        };
        match known.state {
            TopicState::Usable | TopicState::Keyed => Ok(known.partitions),
            TopicState::Missing | TopicState::Denied => {
                let why = "is not there or may not be seen".to_owned();
                Err(KafkaError::OwnTopic {
                    topic: name.to_owned(),
                    why,
                })
            }
        }
    }

    /// Makes one of outboxd's own topics unless it is there.
    pub async fn ensure(&self, topic: &CreatedTopic<'_>) -> Result<(), KafkaError> {
        self.known().remove(topic.name);
        match self.ask(topic.name).await?.state {
            TopicState::Usable | TopicState::Keyed => return Ok(()),
            TopicState::Missing => {}
            TopicState::Denied => {
                let why = "may not be seen: grant Describe, Read and Write on it".to_owned();
                return Err(KafkaError::OwnTopic {
                    topic: topic.name.to_owned(),
                    why,
                });
            }
        }
        let replication = TopicReplication::Fixed(-1);
        let mut new = NewTopic::new(topic.name, topic.partitions, replication);
        for (name, value) in topic.config {
            new = new.set(name, value);
        }
        let created = self.create(&new).await;
        created.map_err(|why| KafkaError::OwnTopic {
            topic: topic.name.to_owned(),
            why: advice(topic, &why),
        })?;
        info!(
            topic = topic.name,
            partitions = topic.partitions,
            "created topic"
        );
        self.await_usable(topic.name).await
    }

    /// Makes the topic that tells of sagas unless it is there; for its writers and its readers alike.
    pub async fn ensure_sagas(&self) -> Result<(), KafkaError> {
        self.ensure(&CreatedTopic {
            name: &self.clients.saga_topic(),
            partitions: 12,
            config: &[
                ("message.timestamp.type", "LogAppendTime"),
                ("retention.ms", "2592000000"),
            ],
        })
        .await
    }

    /// Whether a topic is there at this moment, past all memory.
    pub async fn exists(&self, name: &str) -> Result<bool, KafkaError> {
        Ok(self.count(name).await?.is_some())
    }

    /// How many partitions a topic has at this moment, past all memory; `None`: it is not there.
    pub(super) async fn count(&self, name: &str) -> Result<Option<i32>, KafkaError> {
        let found = self.metadata(name).await?;
        match found.state {
            TopicState::Usable | TopicState::Keyed => Ok(Some(found.partitions)),
            TopicState::Missing => Ok(None),
            TopicState::Denied => Err(KafkaError::OwnTopic {
                topic: name.to_owned(),
                why: "may not be seen: grant Describe, Read and Write on it".to_owned(),
            }),
        }
    }

    /// What the cluster calls itself, the same for as long as it lives.
    pub(super) async fn cluster_id(&self) -> Result<String, KafkaError> {
        let looker = Arc::clone(&self.looker);
        let asked = attached_blocking(move || looker.client().fetch_cluster_id(REQUEST));
        let found = asked.await.ok().flatten();
        found.ok_or_else(|| KafkaError::Unreachable {
            servers: self.clients.servers().to_owned(),
            why: "it does not say which cluster it is".to_owned(),
        })
    }

    async fn create(&self, new: &NewTopic<'_>) -> Result<(), String> {
        let options = AdminOptions::new().request_timeout(Some(REQUEST));
        let results = self.admin.create_topics([new], &options).await;
        match results.map_err(|error| error.to_string())?.pop() {
            Some(Ok(_)) | Some(Err((_, Code::TopicAlreadyExists))) => Ok(()),
            Some(Err((_, code))) => Err(code.to_string()),
            None => Err("the broker did not answer for it".to_owned()),
        }
    }

    /// A created topic takes a moment to be known to every broker.
    async fn await_usable(&self, name: &str) -> Result<(), KafkaError> {
        let until = Instant::now() + REQUEST;
        while !self.ask(name).await?.state.is_usable() {
            if Instant::now() >= until {
                let why = "was created, but does not appear".to_owned();
                return Err(KafkaError::OwnTopic {
                    topic: name.to_owned(),
                    why,
                });
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remembered(&self, name: &str) -> Option<Known> {
        let known = self.known().get(name).copied()?;
        let lasts = if known.state.is_usable() { FRESH } else { AWAY };
        (known.since.elapsed() < lasts).then_some(known)
    }

    async fn ask(&self, name: &str) -> Result<Known, KafkaError> {
        let mut known = self.metadata(name).await?;
        if known.state == TopicState::Missing && self.clients.creates_topics() && !self.is_own(name)
        {
            match self
                .create(&NewTopic::new(name, -1, TopicReplication::Fixed(-1)))
                .await
            {
                Ok(()) => {
                    info!(topic = name, "created topic with the broker's defaults");
                    known = self.metadata(name).await?;
                }
                Err(why) => warn!(topic = name, %why, "cannot create topic"),
            }
        }
        if known.state == TopicState::Usable {
            let learned = self.known().get(name).map(|known| known.max_message_bytes);
            let settings = ["max.message.bytes", "cleanup.policy"];
            let settings = self.settings(name, settings).await;
            let [limit, policy] = settings.unwrap_or_default();
            let limit = limit.and_then(|limit| limit.parse().ok());
            known.max_message_bytes = limit.or(learned).unwrap_or(USUAL_MAX_BYTES);
            // As far as we may ask.
            if policy.is_some_and(|policy| policy.contains("compact")) {
                known.state = TopicState::Keyed;
            }
        }
        let before = {
            let mut all = self.known();
            if all.len() >= MOST {
                all.clear();
            }
            all.insert(name.to_owned(), known)
        };
        if let Some(before) = before.filter(|before| before.partitions > 0)
            && known.partitions != before.partitions
            && known.state.is_usable()
        {
            let (was, is) = (before.partitions, known.partitions);
            warn!(
                topic = name,
                was, is, "the number of partitions changed: keys move, and their order with them"
            );
        }
        Ok(known)
    }

    fn is_own(&self, name: &str) -> bool {
        name.strip_prefix(self.clients.prefix())
            .is_some_and(|rest| rest.starts_with('.'))
    }

    async fn metadata(&self, name: &str) -> Result<Known, KafkaError> {
        let (looker, clients, topic) = (
            Arc::clone(&self.looker),
            self.clients.clone(),
            name.to_owned(),
        );
        let asked = attached_blocking(move || {
            let metadata = looker.fetch_metadata(Some(&topic), REQUEST);
            for _ in 0..WORDS {
                // It has no records; why a connection failed is heard by the way.
                let _ = looker.poll(Duration::ZERO);
            }
            let metadata = metadata
                .map_err(|error| clients.error(Doing::Other("looking up topics"), &error))?;
            let found = metadata.topics().iter().find(|found| found.name() == topic);
            Ok(found.map(|found| (found.error(), found.partitions().len())))
        });
        let panicked = |_| KafkaError::Failed {
            what: "looking up topics".to_owned(),
            why: "the look-up panicked".to_owned(),
        };
        let found = asked.await.map_err(panicked)??;
        let state = match found {
            Some((None, partitions)) if partitions > 0 => TopicState::Usable,
            Some((Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED), _)) => {
                TopicState::Denied
            }
            Some(_) | None => TopicState::Missing,
        };
        let partitions = found.map_or(0, |(_, partitions)| {
            i32::try_from(partitions).unwrap_or(i32::MAX)
        });
        let since = Instant::now();
        Ok(Known {
            state,
            partitions,
            max_message_bytes: USUAL_MAX_BYTES,
            since,
        })
    }

    /// What a topic keeps; `None`: its settings may not be seen.
    pub async fn keeps(&self, name: &str) -> Option<Kept> {
        let settings = ["cleanup.policy", "retention.ms", "retention.bytes"];
        let [policy, ms, bytes] = self.settings(name, settings).await?;
        let limit = |text: String| text.parse::<i64>().ok();
        Some(Kept {
            compacts: policy?.contains("compact"),
            // Minus one: no limit.
            retention_ms: Some(limit(ms?)?).filter(|ms| *ms >= 0),
            by_size: limit(bytes?)? >= 0,
        })
    }

    /// Settings of a topic; `None`: they may not be seen.
    async fn settings<const N: usize>(
        &self,
        topic: &str,
        names: [&str; N],
    ) -> Option<[Option<String>; N]> {
        let options = AdminOptions::new().request_timeout(Some(REQUEST));
        let resource = ResourceSpecifier::Topic(topic);
        let described = self.admin.describe_configs([&resource], &options).await;
        let resource = described.ok()?.pop()?.ok()?;
        Some(names.map(|name| resource.get(name)?.value.clone()))
    }
}

/// Tells an operator how to make a topic that outboxd may not make.
fn advice(topic: &CreatedTopic<'_>, why: &str) -> String {
    let configs: String = topic
        .config
        .iter()
        .map(|(name, value)| format!(" --config {name}={value}"))
        .collect();
    let (name, partitions) = (topic.name, topic.partitions);
    format!(
        "is missing and cannot be created ({why}); grant Create on it, or create it with: kafka-topics.sh --create --topic {name} \
         --partitions {partitions}{configs}"
    )
}
