//! A Kafka source for programs: the same options as in SQL, by method; checked by the same code.

use std::collections::BTreeMap;
use std::sync::Arc;

use flott_core::config::Configuration;
use flott_core::registry::{ConnectorFactory, TableSpec};
use flott_core::sink::ChangelogMode;
use flott_core::source::Source;
use flott_core::types::{Column, DataType};
use flott_core::{Error, Result};

use super::config::{BadRecords, Start, Stop};
use crate::kafka::KafkaFactory;

/// Collects the options of a source.
#[derive(Clone, Default)]
pub struct KafkaSourceBuilder {
    name: Option<String>,
    options: BTreeMap<String, String>,
    columns: Vec<Column>,
    key: Vec<String>,
    primary_key: Vec<String>,
}

impl KafkaSourceBuilder {
    /// What messages and clients call the source; the topic if nothing else is said.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }
    /// Any option of the SQL connector, such as `scan.bad-records`.
    pub fn option(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.options.insert(key.into(), value.into());
        self
    }
    /// A property of Kafka's Java client, such as `security.protocol`.
    pub fn property(self, key: &str, value: impl Into<String>) -> Self {
        self.option(format!("properties.{key}"), value)
    }
    /// Brokers to ask first: `host:port,…`.
    pub fn bootstrap_servers(self, servers: impl Into<String>) -> Self {
        self.property("bootstrap.servers", servers)
    }
    /// The group that offsets are committed to.
    pub fn group_id(self, group: impl Into<String>) -> Self {
        self.property("group.id", group)
    }
    /// A topic, or several separated by `;`.
    pub fn topic(self, topic: impl Into<String>) -> Self {
        self.option("topic", topic)
    }
    /// All topics whose whole name matches a regular expression.
    pub fn topic_pattern(self, pattern: impl Into<String>) -> Self {
        self.option("topic-pattern", pattern)
    }
    /// The format of values, such as `json`.
    pub fn format(self, format: impl Into<String>) -> Self {
        self.option("value.format", format)
    }
    /// Where to begin when there is no checkpoint.
    pub fn start(self, start: Start) -> Self {
        let mode = |b: Self, mode: &str| b.option("scan.startup.mode", mode);
        match start {
            Start::Earliest => mode(self, "earliest-offset"),
            Start::Latest => mode(self, "latest-offset"),
            Start::Group => mode(self, "group-offsets"),
            Start::Timestamp(ms) => mode(self, "timestamp").option("scan.startup.timestamp-millis", ms.to_string()),
            Start::Before(ms) => mode(self, "timestamp").option("scan.startup.timestamp-offset", format!("{ms} ms")),
            Start::Specific(offsets) => {
                mode(self, "specific-offsets").option("scan.startup.specific-offsets", list(&offsets))
            }
        }
    }
    /// Where to end.
    pub fn stop(self, stop: Stop) -> Self {
        let mode = |b: Self, mode: &str| b.option("scan.bounded.mode", mode);
        match stop {
            Stop::Never => mode(self, "unbounded"),
            Stop::Latest => mode(self, "latest-offset"),
            Stop::Group => mode(self, "group-offsets"),
            Stop::Timestamp(ms) => mode(self, "timestamp").option("scan.bounded.timestamp-millis", ms.to_string()),
            Stop::Specific(offsets) => {
                mode(self, "specific-offsets").option("scan.bounded.specific-offsets", list(&offsets))
            }
        }
    }
    /// What to do with records that the format refuses.
    pub fn bad_records(self, policy: BadRecords) -> Self {
        match policy {
            BadRecords::Fail => self.option("scan.bad-records", "fail"),
            BadRecords::Skip => self.option("scan.bad-records", "skip"),
            BadRecords::DeadLetter(topic) => {
                self.option("scan.bad-records", "dead-letter").option("scan.dead-letter.topic", topic)
            }
        }
    }
    /// The columns of the rows, in order. One with a `metadata_key` is metadata, the others are in the value.
    pub fn columns(mut self, columns: impl IntoIterator<Item = Column>) -> Self {
        self.columns.extend(columns);
        self
    }
    /// Another column in the value.
    pub fn column(self, name: &str, data_type: DataType) -> Self {
        self.columns([Column::new(name, data_type)])
    }
    /// Another column that shows metadata of the message, such as `timestamp`.
    pub fn metadata(self, name: &str, key: &str, data_type: DataType) -> Self {
        self.columns([Column { name: name.to_owned(), data_type, metadata_key: Some(key.to_owned()) }])
    }
    /// Columns that are in the key, and its format.
    pub fn key(mut self, format: impl Into<String>, columns: &[&str]) -> Self {
        self.key = columns.iter().map(|c| (*c).to_owned()).collect();
        self.option("key.format", format)
    }
    /// A changelog by this key, as `upsert-kafka` reads it: a message without a value deletes. Call [`Self::key`] for its format.
    pub fn upsert_by(mut self, columns: &[&str]) -> Self {
        self.primary_key = columns.iter().map(|c| (*c).to_owned()).collect();
        self
    }

    /// The source; an error that names the option when something does not fit.
    pub fn build(self) -> Result<Arc<dyn Source>> {
        let upsert = !self.primary_key.is_empty();
        let factory = KafkaFactory::new(upsert);
        let KafkaSourceBuilder { name, mut options, columns, key, primary_key } = self;
        if !key.is_empty() && !upsert {
            options.insert("key.fields".into(), key.join(";"));
        }
        options.insert("connector".into(), factory.identifier().into());
        let topic = || options.get("topic").or(options.get("topic-pattern")).cloned();
        let name = name.or_else(topic).unwrap_or_else(|| "kafka".into());
        let place = |column: &String| {
            columns.iter().position(|c| c.name == *column).ok_or_else(|| {
                Error::user(
                    "kafka.columns",
                    format!("source `{name}`: the key column `{column}` is not among the columns"),
                )
            })
        };
        let table = TableSpec {
            primary_key: primary_key.iter().map(place).collect::<Result<_>>()?,
            partition_keys: Vec::new(),
            input_mode: ChangelogMode::Append,
            name,
            columns,
            options,
        };
        factory.source(&table, &Configuration::default())
    }
}

fn list(offsets: &[(i32, i64)]) -> String {
    let all: Vec<_> = offsets.iter().map(|(p, o)| format!("partition:{p},offset:{o}")).collect();
    all.join(";")
}
