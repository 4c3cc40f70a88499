//! How every client of Kafka is configured, and what can go wrong with one. Never connects by itself.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::{KafkaError as Inner, RDKafkaErrorCode as Code};
use tracing::{debug, warn};

use crate::config;
use crate::config::Property;

/// The broker aborts a transaction that is open for longer; until then it holds back every
/// read_committed consumer of its partitions.
pub(super) const TRANSACTION_TIMEOUT_MS: u64 = 15_000;

/// Makes clients of one cluster.
#[derive(Debug, Clone)]
pub struct Clients {
    kafka: config::Kafka,
    instance: String,
}

/// Something Kafka did not do.
#[derive(Debug, thiserror::Error)]
pub enum KafkaError {
    /// No broker answered in time.
    #[error(
        "Kafka at {servers} does not answer: {why}; check `[kafka] bootstrap_servers` and that the brokers are up"
    )]
    Unreachable {
        /// `[kafka] bootstrap_servers`.
        servers: String,
        /// What the client library said.
        why: String,
    },
    /// Not let in, or not allowed.
    #[error(
        "Kafka refuses outboxd: {what}: {why}; grant the right that docs/operations names, or mend `[kafka.properties]`"
    )]
    Denied {
        /// What was asked for.
        what: String,
        /// What the broker said.
        why: String,
    },
    /// One of outboxd's own topics is not there or not writable.
    #[error("topic {topic} {why}")]
    OwnTopic {
        /// Its name.
        topic: String,
        /// What is wrong and what to do about it.
        why: String,
    },
    /// Another producer uses the transactional id, or the broker gave this one up.
    #[error("the producer was fenced: {0}")]
    Fenced(String),
    /// A setting that the client library does not take.
    #[error("`[kafka.properties]`: {0}")]
    Setting(String),
    /// The lease ran out before the commit.
    #[error("the lease ran out before the transaction could be committed")]
    LeaseExpired,
    /// Anything else; a new producer may help.
    #[error("{what}: {why}")]
    Failed {
        /// What was being done.
        what: String,
        /// What the client library said.
        why: String,
    },
}

impl Clients {
    /// For the cluster in the configuration; `instance` shows in the brokers' logs.
    pub fn new(kafka: config::Kafka, instance: &str) -> Self {
        Self {
            kafka,
            instance: instance.to_owned(),
        }
    }

    /// First word of outboxd's own names.
    pub fn prefix(&self) -> &str {
        &self.kafka.prefix
    }

    /// Name of the topic that tells of sagas.
    pub fn saga_topic(&self) -> String {
        format!("{}.sagas", self.kafka.prefix)
    }

    /// Whether missing topics of events are created.
    pub fn creates_topics(&self) -> bool {
        self.kafka.create_topics
    }

    pub(super) fn servers(&self) -> &str {
        &self.kafka.bootstrap_servers
    }

    /// What all clients share: the operator's properties first, so that none of ours can be overridden.
    pub(super) fn base(&self, role: &str) -> Result<ClientConfig, KafkaError> {
        let mut config = ClientConfig::new();
        for (name, value) in &self.kafka.properties {
            match value {
                Property::Plain(value) => config.set(name, value),
                Property::Secret(secret) => {
                    let value = secret
                        .read()
                        .map_err(|error| KafkaError::Setting(format!("{name}: {error}")))?;
                    config.set(name, value.expose())
                }
            };
        }
        config
            .set("bootstrap.servers", self.servers())
            .set("client.id", format!("outboxd-{}-{role}", self.instance))
            .set("allow.auto.create.topics", "false")
            .set("log.connection.close", "false")
            .set("reconnect.backoff.ms", "10")
            .set("reconnect.backoff.max.ms", "5000")
            .set("socket.keepalive.enable", "true")
            .set("socket.timeout.ms", "10000")
            .set_log_level(RDKafkaLogLevel::Warning);
        Ok(config)
    }

    /// A consumer of single partitions, in no group.
    pub(super) fn consumer(&self, isolation: &str) -> Result<BaseConsumer<Quiet>, KafkaError> {
        self.create(&self.reader(isolation)?, Quiet)
    }

    /// How such a consumer is configured.
    pub(super) fn reader(&self, isolation: &str) -> Result<ClientConfig, KafkaError> {
        let mut config = self.base("reader")?;
        config
            // Needed by the library for `assign`, used by nothing.
            .set("group.id", format!("{}.reader", self.kafka.prefix))
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "false")
            .set("auto.offset.reset", "error")
            .set("fetch.wait.max.ms", "20")
            .set("isolation.level", isolation);
        Ok(config)
    }

    pub(super) fn create<C, T>(&self, config: &ClientConfig, context: C) -> Result<T, KafkaError>
    where
        C: ClientContext,
        T: FromClientConfigAndContext<C>,
    {
        config
            .create_with_context(context)
            .map_err(|error| match error {
                Inner::ClientConfig(_, why, name, _) => {
                    KafkaError::Setting(format!("{name}: {why}"))
                }
                other => KafkaError::Setting(other.to_string()),
            })
    }

    /// Names an error after what was being done.
    pub(super) fn error(&self, what: &str, error: &Inner) -> KafkaError {
        let code = error.rdkafka_error_code();
        let (what, why) = (what.to_owned(), error.to_string());
        match code {
            Some(
                Code::BrokerTransportFailure
                | Code::AllBrokersDown
                | Code::Resolve
                | Code::OperationTimedOut
                | Code::MessageTimedOut
                | Code::RequestTimedOut
                | Code::BrokerNotAvailable
                | Code::CoordinatorNotAvailable
                | Code::CoordinatorLoadInProgress,
            ) => KafkaError::Unreachable {
                servers: self.servers().to_owned(),
                why,
            },
            Some(
                Code::TopicAuthorizationFailed
                | Code::GroupAuthorizationFailed
                | Code::ClusterAuthorizationFailed
                | Code::TransactionalIdAuthorizationFailed
                | Code::SaslAuthenticationFailed
                | Code::Authentication
                | Code::SSL,
            ) => KafkaError::Denied { what, why },
            Some(
                Code::Fenced
                | Code::ProducerFenced
                | Code::InvalidProducerEpoch
                | Code::FencedInstanceId,
            ) => KafkaError::Fenced(why),
            _ => KafkaError::Failed { what, why },
        }
    }
}

/// A client whose errors are returned by its calls, so that its call-backs only go to the log.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        log_line(level, fac, message);
    }

    fn error(&self, error: Inner, reason: &str) {
        debug!(target: "librdkafka", %error, reason, "client error");
    }
}

impl ConsumerContext for Quiet {}

/// librdkafka's own log lines; it repeats what our errors say, so little of it is worth a warning, and of one kind no more
/// than a line a minute: it writes one for every partition of every attempt.
pub(super) fn log_line(level: RDKafkaLogLevel, fac: &str, message: &str) {
    let is_error = match level {
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Error => true,
        RDKafkaLogLevel::Warning
        | RDKafkaLogLevel::Notice
        | RDKafkaLogLevel::Info
        | RDKafkaLogLevel::Debug => false,
    };
    if is_error && is_news(fac, Instant::now()) {
        warn!(target: "librdkafka", fac, "{message}");
    } else {
        debug!(target: "librdkafka", fac, "{message}");
    }
}

/// Whether nothing of this kind was said in the last minute. There are some dozens of kinds.
fn is_news(fac: &str, now: Instant) -> bool {
    static SAID: LazyLock<Mutex<HashMap<String, Instant>>> = LazyLock::new(Mutex::default);
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    let is_news = said
        .get(fac)
        .is_none_or(|at| now.saturating_duration_since(*at) >= Duration::from_secs(60));
    if is_news {
        said.insert(fac.to_owned(), now);
    }
    is_news
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_kind_a_line_a_minute_is_news() {
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        assert!(is_news("KIND", now));
        assert!(!is_news("KIND", at(59)));
        assert!(is_news("OTHER", at(59)));
        assert!(is_news("KIND", at(60)));
    }
}
