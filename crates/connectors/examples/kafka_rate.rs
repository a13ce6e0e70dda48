//! A bare librdkafka consumer: polls so many records of a topic from its beginning and ends. What `cargo xtask bench kafka` puts
//! beside the Kafka source; decodes nothing.
//!
//! `kafka_rate SERVERS TOPIC RECORDS`

use std::time::Duration;

use flott_core::{Error, Result};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

/// A second of silence, so often in a row, is the end of hope.
const SILENT_MAX: u32 = 30;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [servers, topic, records] = args.as_slice() else {
        return Err(Error::user("bug", "usage: kafka_rate SERVERS TOPIC RECORDS"));
    };
    let records: u64 = records.parse().map_err(|_| Error::user("bug", format!("'{records}' is not a number")))?;
    let bytes = consume(servers, topic, records).map_err(|e| Error::retry("kafka.unavailable", e.to_string()))?;
    println!("{records} records, {bytes} bytes");
    Ok(())
}

fn consume(servers: &str, topic: &str, records: u64) -> std::result::Result<u64, KafkaError> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", servers)
        .set("group.id", "kafka-rate")
        .set("enable.auto.commit", "false")
        .set("check.crcs", "true")
        .create()?;
    let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(30))?;
    let mut list = TopicPartitionList::new();
    for partition in metadata.topics().iter().flat_map(|t| t.partitions()) {
        list.add_partition_offset(topic, partition.id(), Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    let (mut seen, mut bytes, mut silent) = (0, 0, 0);
    while seen < records && silent < SILENT_MAX {
        match consumer.poll(Duration::from_secs(1)) {
            None => silent += 1,
            Some(message) => {
                let message = message?;
                (seen, silent) = (seen + 1, 0);
                bytes += message.payload_len() as u64;
            }
        }
    }
    if seen < records { Err(KafkaError::NoMessageReceived) } else { Ok(bytes) }
}
