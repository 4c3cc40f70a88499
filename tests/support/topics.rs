//! Makes and removes topics; returns when every client sees the change.

use std::time::Duration;

use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{
        AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication,
        TopicResult,
    },
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    metadata::MetadataTopic,
};

use super::{block_on, wait_until};

const PATIENCE: Duration = Duration::from_secs(30);

/// Makes a topic with a configuration (such as `("max.message.bytes", "2000")`).
pub(crate) fn create_topic(bootstrap: &str, name: &str, partitions: i32, config: &[(&str, &str)]) {
    create(
        bootstrap,
        name,
        partitions,
        TopicReplication::Fixed(1),
        config,
    );
}

/// The same with the brokers that hold each partition, its leader first.
pub(crate) fn create_topic_at(
    bootstrap: &str,
    name: &str,
    replicas: &[&[i32]],
    config: &[(&str, &str)],
) {
    let partitions = i32::try_from(replicas.len()).expect("few");
    create(
        bootstrap,
        name,
        partitions,
        TopicReplication::Variable(replicas),
        config,
    );
}

fn create(
    bootstrap: &str,
    name: &str,
    partitions: i32,
    replication: TopicReplication<'_>,
    config: &[(&str, &str)],
) {
    let mut topic = NewTopic::new(name, partitions, replication);
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

/// Which broker leads a partition.
pub(crate) fn leader(bootstrap: &str, name: &str, partition: i32) -> i32 {
    let mut leader = None;
    wait_until(&format!("a leader of {name}/{partition}"), PATIENCE, || {
        let answer = client(bootstrap).fetch_metadata(Some(name), PATIENCE);
        leader = answer.ok().and_then(|cluster| {
            let partitions = cluster.topics().first()?.partitions();
            let partition = partitions.iter().find(|found| found.id() == partition)?;
            Some(partition.leader()).filter(|leader| *leader > 0)
        });
        leader.is_some()
    });
    leader.expect("just found")
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

/// Deletes all records of a topic but the last `kept` offsets of each partition, as its retention would some day.
pub(crate) fn delete_records(bootstrap: &str, name: &str, kept: i64) {
    let client = client(bootstrap);
    let cluster = client
        .fetch_metadata(Some(name), PATIENCE)
        .expect("it is there");
    let topic = cluster.topics().first().expect("it was asked for");
    let mut offsets = TopicPartitionList::new();
    for partition in topic.partitions() {
        let watermarks = client.fetch_watermarks(name, partition.id(), PATIENCE);
        let (low, high) = watermarks.expect("its leader answers");
        let before = Offset::Offset((high - kept).max(low));
        offsets
            .add_partition_offset(name, partition.id(), before)
            .expect("an offset");
    }
    let deleted = block_on(admin(bootstrap).delete_records(&offsets, &AdminOptions::new()));
    for partition in deleted.expect("it may").elements() {
        partition.error().expect("it may");
    }
}

/// Sets one setting of a topic; all others get their defaults.
pub(crate) fn configure_topic(bootstrap: &str, name: &str, setting: &str, value: &str) {
    let change = AlterConfig::new(ResourceSpecifier::Topic(name)).set(setting, value);
    let altered = block_on(admin(bootstrap).alter_configs([&change], &AdminOptions::new()));
    for result in altered.unwrap_or_else(|error| panic!("cannot configure topics: {error}")) {
        result.unwrap_or_else(|(_, error)| panic!("cannot configure topic {name}: {error}"));
    }
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
