//! Makes and removes topics; returns when every client sees the change.

use std::time::Duration;

use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication, TopicResult},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    metadata::MetadataTopic,
};

use super::{block_on, wait_until};

const PATIENCE: Duration = Duration::from_secs(30);

/// Makes a topic with a configuration (such as `("max.message.bytes", "2000")`).
pub(crate) fn create_topic(bootstrap: &str, name: &str, partitions: i32, config: &[(&str, &str)]) {
    let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    topic.config.extend(config);
    let results = block_on(admin(bootstrap).create_topics([&topic], &AdminOptions::new()));
    one("create", results);
    let wanted = usize::try_from(partitions).expect("a positive number");
    let client = client(bootstrap);
    wait_until(&format!("topic {name}"), PATIENCE, || {
        described(&client, name, |topic| {
            topic.partitions().len() == wanted
                && topic
                    .partitions()
                    .iter()
                    .all(|partition| partition.leader() >= 0)
        })
    });
}

/// Removes a topic.
pub(crate) fn delete_topic(bootstrap: &str, name: &str) {
    one(
        "delete",
        block_on(admin(bootstrap).delete_topics(&[name], &AdminOptions::new())),
    );
    let client = client(bootstrap);
    wait_until(&format!("the end of topic {name}"), PATIENCE, || {
        described(&client, name, |topic| topic.partitions().is_empty())
    });
}

/// Fails unless the only topic of a request was dealt with.
fn one(what: &str, results: Result<Vec<TopicResult>, KafkaError>) {
    for result in results.unwrap_or_else(|error| panic!("cannot {what} topics: {error}")) {
        result.unwrap_or_else(|(name, error)| panic!("cannot {what} topic {name}: {error}"));
    }
}

fn described(client: &BaseConsumer, name: &str, matches: impl Fn(&MetadataTopic) -> bool) -> bool {
    let answer = client.fetch_metadata(Some(name), PATIENCE);
    answer.is_ok_and(|cluster| cluster.topics().iter().any(matches))
}

fn client(bootstrap: &str) -> BaseConsumer {
    ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .create()
        .expect("a client")
}

fn admin(bootstrap: &str) -> AdminClient<DefaultClientContext> {
    ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .create()
        .expect("a client")
}
