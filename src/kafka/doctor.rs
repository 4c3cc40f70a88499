//! Looks a cluster over without changing anything in it.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError as Inner;
use rdkafka::{Offset, TopicPartitionList};

use super::client::{Clients, Doing, KafkaError, Quiet};
use super::topics::Topics;
use crate::logic::batch::TopicState;
use crate::logic::finding::{Finding, Level};
use crate::tasks::attached_blocking;

/// A topic's leader has so long to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Visits the cluster, and outboxd's own topics for these sources.
pub async fn examine(clients: &Clients, sources: &[String]) -> Vec<Finding> {
    match look(clients, sources).await {
        Ok(findings) => findings,
        Err(error) => vec![Finding::new("kafka", level(&error), error)],
    }
}

fn level(error: &KafkaError) -> Level {
    match error {
        KafkaError::Setting(_) => Level::Config,
        KafkaError::Denied { .. } => Level::Privilege,
        KafkaError::OwnTopic { .. } => Level::Shape,
        KafkaError::Unreachable { .. }
        | KafkaError::Fenced(_)
        | KafkaError::LeaseExpired
        | KafkaError::Failed { .. } => Level::Unreachable,
    }
}

async fn look(clients: &Clients, sources: &[String]) -> Result<Vec<Finding>, KafkaError> {
    let topics = Topics::new(clients)?;
    let prefix = clients.prefix();
    let checkpoints = sources
        .iter()
        .map(|source| format!("{prefix}.checkpoints.{source}"));
    let own: Vec<String> = std::iter::once(clients.saga_topic())
        .chain(checkpoints)
        .collect();
    let states = topics
        .look(own.iter().map(String::as_str).collect())
        .await?;
    let mut findings = vec![Finding::new(
        "kafka",
        Level::Good,
        format!("reached {}", clients.servers()),
    )];
    for name in own {
        findings.push(match states.get(&name) {
            Some(TopicState::Usable | TopicState::Keyed) => match readable(clients, &name).await {
                Ok(()) => Finding::new("kafka", Level::Good, format!("topic {name} is there")),
                Err(error) => Finding::new("kafka", level(&error), error),
            },
            Some(TopicState::Denied) => Finding::new(
                "kafka",
                Level::Privilege,
                format!("topic {name} may not be seen: grant Describe, Read and Write on it"),
            ),
            Some(TopicState::Missing) | None => Finding::new(
                "kafka",
                Level::Advice,
                format!(
                    "topic {name} is not there yet: outboxd creates it at its first start if it may"
                ),
            ),
        });
    }
    Ok(findings)
}

/// Whether a topic may be read. Without that right a source works until its first take-over that has something to read back.
async fn readable(clients: &Clients, topic: &str) -> Result<(), KafkaError> {
    let (clients, topic) = (clients.clone(), topic.to_owned());
    let asked = attached_blocking(move || {
        let name = |error| clients.error(Doing::Read(&topic), &error);
        let mut config = clients.reader("read_uncommitted")?;
        config.set("enable.partition.eof", "true");
        let consumer: BaseConsumer<Quiet> = clients.create(&config, clients.quiet())?;
        let mut end = TopicPartitionList::new();
        end.add_partition_offset(&topic, 0, Offset::End)
            .map_err(name)?;
        consumer.assign(&end).map_err(name)?;
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(_) | Err(Inner::PartitionEOF(_))) => return Ok(()),
                Some(Err(error)) => return Err(name(error)),
                None => {}
            }
        }
        Err(KafkaError::Failed {
            what: Doing::Read(&topic).to_string(),
            why: "its leader does not answer".to_owned(),
        })
    });
    asked
        .await
        .unwrap_or_else(|_| Err(KafkaError::panicked("reading a topic")))
}
