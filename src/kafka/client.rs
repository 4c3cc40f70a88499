//! How every client of Kafka is configured, and what can go wrong with one. Never connects by itself.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
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
    failures: Failures,
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
    #[error("Kafka refuses outboxd: {what}: {why}; {remedy}")]
    Denied {
        /// What was asked for.
        what: String,
        /// What the broker said.
        why: String,
        /// Which right is missing, or which setting is wrong.
        remedy: String,
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

impl KafkaError {
    /// A thread of ours ended in the middle of it.
    pub(super) fn panicked(what: &str) -> Self {
        Self::Failed {
            what: what.to_owned(),
            why: "the reader panicked".to_owned(),
        }
    }
}

impl Clients {
    /// For the cluster in the configuration; `instance` shows in the brokers' logs.
    pub fn new(kafka: config::Kafka, instance: &str) -> Self {
        Self {
            kafka,
            instance: instance.to_owned(),
            failures: Failures::default(),
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
        self.create(&self.reader(isolation)?, self.quiet())
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

    /// The context of a client whose errors are returned by its calls.
    pub(super) fn quiet(&self) -> Quiet {
        Quiet(self.failures.clone())
    }

    /// What connections of this cluster failed of.
    pub(super) fn failures(&self) -> &Failures {
        &self.failures
    }

    /// Names an error after what was being done, and what an operator can do about it.
    pub(super) fn error(&self, doing: Doing<'_>, error: &Inner) -> KafkaError {
        let (what, why) = (doing.to_string(), error.to_string());
        let denied = |remedy: String| KafkaError::Denied {
            what: what.clone(),
            why: why.clone(),
            remedy,
        };
        let prefix = &self.kafka.prefix;
        if is_away(error) {
            return self.unreachable(what, why);
        }
        match error.rdkafka_error_code() {
            Some(Code::TopicAuthorizationFailed) => denied(match doing {
                Doing::Read(topic) => format!("grant Read and Describe on the topic {topic}"),
                Doing::Write(topic) => format!("grant Write and Describe on the topic {topic}"),
                Doing::Other(_) => {
                    format!("grant Read, Write and Describe on the topics {prefix}.*")
                }
            }),
            Some(Code::GroupAuthorizationFailed) => {
                denied(format!("grant Describe on the group {prefix}.reader"))
            }
            Some(Code::TransactionalIdAuthorizationFailed) => denied(format!(
                "grant Write and Describe on the transactional ids {prefix}/*"
            )),
            Some(Code::ClusterAuthorizationFailed) => {
                denied("grant IdempotentWrite on the cluster".to_owned())
            }
            Some(
                Code::Fenced
                | Code::ProducerFenced
                | Code::InvalidProducerEpoch
                | Code::FencedInstanceId,
            ) => KafkaError::Fenced(why),
            _ => KafkaError::Failed { what, why },
        }
    }

    /// A broker that does not answer, or does not let us in: the library's calls only ever say that time is up, and its log
    /// says why.
    fn unreachable(&self, what: String, why: String) -> KafkaError {
        let failure = self.failures.recent();
        let why = failure.unwrap_or(why);
        let remedy = if why.contains("SSL handshake failed") || why.contains("SSL routines") {
            "check \"ssl.ca.location\", \"ssl.certificate.location\" and \"ssl.key.location\", and that bootstrap_servers and \
             the brokers' advertised listeners are names in their certificates"
        } else if why.contains("SASL") || why.contains("uthentication") {
            "check \"security.protocol\", \"sasl.mechanism\", \"sasl.username\" and \"sasl.password\""
        } else {
            return KafkaError::Unreachable {
                servers: self.servers().to_owned(),
                why,
            };
        };
        let remedy = format!("{remedy} in `[kafka.properties]`");
        KafkaError::Denied { what, why, remedy }
    }
}

/// Whether an error is one of a connection. What refuses a handshake may only be a broker that goes down.
pub(super) fn is_away(error: &Inner) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::BrokerTransportFailure
                | Code::AllBrokersDown
                | Code::Resolve
                | Code::OperationTimedOut
                | Code::MessageTimedOut
                | Code::RequestTimedOut
                | Code::BrokerNotAvailable
                | Code::CoordinatorNotAvailable
                | Code::CoordinatorLoadInProgress
                | Code::SaslAuthenticationFailed
                | Code::Authentication
                | Code::SSL,
        )
    )
}

/// What a client was doing when something went wrong.
#[derive(Debug, Clone, Copy)]
pub(super) enum Doing<'a> {
    /// Reading this topic.
    Read(&'a str),
    /// Writing to this topic.
    Write(&'a str),
    /// Something else.
    Other(&'a str),
}

impl fmt::Display for Doing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(topic) => write!(f, "reading {topic}"),
            Self::Write(topic) => write!(f, "writing to {topic}"),
            Self::Other(what) => f.write_str(what),
        }
    }
}

/// Why a connection failed last. Shared by all clients of a cluster, since any of them may be the one that tried.
#[derive(Debug, Clone, Default)]
pub(super) struct Failures(Arc<Mutex<Option<(Instant, String)>>>);

/// A failure explains what went wrong so much later at most: a call may wait for its whole time before it says so.
const RECENT: Duration = Duration::from_secs(40);

impl Failures {
    /// librdkafka's own log lines; it repeats what our errors say, so little of it is worth a warning, and of one kind no more
    /// than a line a minute: it writes one for every partition of every attempt.
    pub(super) fn log_line(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        if fac == "FAIL" {
            // Before it stands the thread's name, behind it how long the broker was in which state.
            let message = message.split_once("]: ").map_or(message, |(_, rest)| rest);
            let message = message
                .rsplit_once(" (after ")
                .map_or(message, |(it, _)| it);
            let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            *last = Some((Instant::now(), message.to_owned()));
        }
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

    fn recent(&self) -> Option<String> {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, message) = last.as_ref()?;
        (at.elapsed() < RECENT).then(|| message.clone())
    }
}

/// A client whose errors are returned by its calls, so that its call-backs only go to the log.
#[derive(Debug, Clone)]
pub(super) struct Quiet(Failures);

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        self.0.log_line(level, fac, message);
    }

    fn error(&self, error: Inner, reason: &str) {
        debug!(target: "librdkafka", %error, reason, "client error");
    }
}

impl ConsumerContext for Quiet {}

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
