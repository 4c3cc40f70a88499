//! Looks a cluster over without changing anything in it.

use super::client::{Clients, KafkaError};
use super::topics::Topics;
use crate::logic::batch::TopicState;
use crate::logic::finding::{Finding, Level};

/// Visits the cluster, and outboxd's own topics for these sources.
pub async fn examine(clients: &Clients, sources: &[String]) -> Vec<Finding> {
    match look(clients, sources).await {
        Ok(findings) => findings,
        Err(error) => {
            let level = match error {
                KafkaError::Setting(_) => Level::Config,
                KafkaError::Denied { .. } => Level::Privilege,
                KafkaError::OwnTopic { .. } => Level::Shape,
                KafkaError::Unreachable { .. }
                | KafkaError::Fenced(_)
                | KafkaError::LeaseExpired
                | KafkaError::Failed { .. } => Level::Unreachable,
            };
            vec![Finding::new("kafka", level, error)]
        }
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
            Some(TopicState::Usable | TopicState::Keyed) => {
                Finding::new("kafka", Level::Good, format!("topic {name} is there"))
            }
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
