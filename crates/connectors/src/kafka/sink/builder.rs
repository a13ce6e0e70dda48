//! A Kafka sink for programs, from the same options that SQL has. Connects to nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use flott_core::Result;
use flott_core::config::Configuration;
use flott_core::registry::{ConnectorFactory, TableSpec};
use flott_core::sink::{ChangelogMode, Sink};
use flott_core::types::Column;

use super::{DeliveryGuarantee, Partitioning, unbuildable};
use crate::kafka::KafkaFactory;

/// Builds a [`super::KafkaSink`].
///
/// ```no_run
/// # use flott_connectors::kafka::sink::{DeliveryGuarantee, KafkaSink};
/// # use flott_core::types::{Column, TypeKind};
/// let columns = vec![Column::new("id", TypeKind::BigInt.not_null()), Column::new("name", TypeKind::STRING.nullable())];
/// let sink = KafkaSink::builder("127.0.0.1:9092", "orders")
///     .exactly_once("shop-orders")
///     .key("json", &["id"])
///     .build(columns)?;
/// # Ok::<(), flott_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct KafkaSinkBuilder {
    options: BTreeMap<String, String>,
    upsert_by: Option<Vec<String>>,
}

impl KafkaSinkBuilder {
    pub(super) fn new(servers: String, topic: String) -> Self {
        let builder = KafkaSinkBuilder { options: BTreeMap::new(), upsert_by: None };
        builder.option("properties.bootstrap.servers", servers).option("topic", topic).option("value.format", "json")
    }

    /// Sets an option as SQL's `WITH` would.
    pub fn option(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.options.insert(key.into(), value.into());
        self
    }

    /// Sets a property of Kafka's Java client, such as `compression.type`.
    pub fn property(self, key: &str, value: impl Into<String>) -> Self {
        self.option(format!("properties.{key}"), value)
    }

    /// The format of values; `json` unless set.
    pub fn value_format(self, format: &str) -> Self {
        self.option("value.format", format)
    }

    /// The format and the columns of keys.
    pub fn key(self, format: &str, columns: &[&str]) -> Self {
        self.option("key.format", format).option("key.fields", columns.join(";"))
    }

    /// Writes changes by key, deletes as tombstones: what SQL calls `upsert-kafka`.
    pub fn upsert(mut self, key_format: &str, key: &[&str]) -> Self {
        self.upsert_by = Some(key.iter().map(|c| (*c).to_owned()).collect());
        self.option("key.format", key_format)
    }

    /// What readers find after a failure; for exactly-once see [`Self::exactly_once`].
    pub fn delivery_guarantee(self, guarantee: DeliveryGuarantee) -> Self {
        let text = match guarantee {
            DeliveryGuarantee::None => "none",
            DeliveryGuarantee::AtLeastOnce => "at-least-once",
            DeliveryGuarantee::ExactlyOnce => "exactly-once",
        };
        self.option("sink.delivery-guarantee", text)
    }

    /// Every record once for readers of committed records; `prefix` is what the names of transactions begin with.
    pub fn exactly_once(self, prefix: &str) -> Self {
        self.delivery_guarantee(DeliveryGuarantee::ExactlyOnce).option("sink.transactional-id-prefix", prefix)
    }

    /// Which partition a record goes to.
    pub fn partitioner(self, partitioning: Partitioning) -> Self {
        let text = match partitioning {
            Partitioning::Default => "default",
            Partitioning::Fixed => "fixed",
            Partitioning::RoundRobin => "round-robin",
        };
        self.option("sink.partitioner", text)
    }

    /// The sink of rows with these columns.
    pub fn build(self, columns: Vec<Column>) -> Result<Arc<dyn Sink>> {
        let upsert = self.upsert_by.is_some();
        let key = self.upsert_by.unwrap_or_default();
        let at = |name: &String| columns.iter().position(|c| c.name == *name);
        let primary_key = key.iter().filter_map(at).collect::<Vec<_>>();
        if primary_key.len() != key.len() {
            let names: Vec<&str> = columns.iter().map(|c| c.name.as_str()).collect();
            let message = format!("the key {} names a column that is not there", key.join(", "));
            return Err(unbuildable(flott_core::Error::user("kafka.columns", message))
                .hint(format!("available: {}", names.join(", "))));
        }
        let factory = KafkaFactory::new(upsert);
        let mut options = self.options;
        options.insert("connector".to_owned(), factory.identifier().to_owned());
        let table = TableSpec {
            name: "kafka sink".to_owned(),
            columns,
            options,
            primary_key,
            partition_keys: Vec::new(),
            input_mode: if upsert { ChangelogMode::Upsert } else { ChangelogMode::Append },
        };
        factory.sink(&table, &Configuration::default()).map_err(unbuildable)
    }
}
