//! Delivers every message a second time: what a producer without outboxd does now and then, done always. Never changes one.

use std::{convert::Infallible, time::Duration};

use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{Consumer as _, StreamConsumer},
    message::{Header, Headers, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
    util::Timeout,
};

use crate::{
    Failure,
    messages::{
        ACCOUNTING_COMMANDS, ACCOUNTING_EVENTS, CONSUMER_COMMANDS, CONSUMER_DOCUMENTS,
        CONSUMER_EVENTS, KITCHEN_COMMANDS, KITCHEN_EVENTS, ORDER_COMMANDS, ORDER_EVENTS, REPLIES,
    },
};

/// What a copy has more than its original, so that there are not more and more of them.
const COPY: &str = "copy";

/// How long Kafka may take to say where a channel ends.
const PATIENCE: Duration = Duration::from_secs(20);

/// Everything.
const CHANNELS: [&str; 10] = [
    ORDER_EVENTS,
    CONSUMER_EVENTS,
    KITCHEN_EVENTS,
    ACCOUNTING_EVENTS,
    ORDER_COMMANDS,
    CONSUMER_COMMANDS,
    KITCHEN_COMMANDS,
    ACCOUNTING_COMMANDS,
    CONSUMER_DOCUMENTS,
    REPLIES,
];

/// Copies for ever what is published from now on.
pub(crate) async fn run(kafka: &str) -> Result<Infallible, Failure> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", kafka);
    let producer: FutureProducer = config.clone().set("enable.idempotence", "true").create()?;
    let reader: StreamConsumer = config
        .set("group.id", "twice")
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .create()?;
    reader.assign(&ends(&reader)?)?;
    tracing::info!("delivers twice what comes from now on");
    loop {
        let record = reader.recv().await?;
        let headers = record.headers().map(Headers::iter);
        let headers: Vec<_> = headers.into_iter().flatten().collect();
        if headers.iter().any(|header| header.key == COPY) {
            continue;
        }
        let value = Some("");
        let copied = headers
            .into_iter()
            .fold(OwnedHeaders::new(), OwnedHeaders::insert);
        let copied = copied.insert(Header { key: COPY, value });
        let copy = FutureRecord {
            topic: record.topic(),
            partition: Some(record.partition()),
            payload: record.payload(),
            key: record.key(),
            timestamp: None,
            headers: Some(copied),
        };
        let sent = producer.send(copy, Timeout::Never).await;
        sent.map_err(|(error, _)| error)?;
    }
}

/// Where each partition of each channel ends now.
fn ends(reader: &StreamConsumer) -> Result<TopicPartitionList, Failure> {
    let mut ends = TopicPartitionList::new();
    for channel in CHANNELS {
        let described = reader.fetch_metadata(Some(channel), PATIENCE)?;
        let partitions = described.topics().iter().flat_map(|it| it.partitions());
        for partition in partitions.map(|partition| partition.id()) {
            let (_, end) = reader.fetch_watermarks(channel, partition, PATIENCE)?;
            ends.add_partition_offset(channel, partition, Offset::Offset(end))?;
        }
    }
    Ok(ends)
}
