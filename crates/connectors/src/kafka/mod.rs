//! The connectors `kafka` and `upsert-kafka`: their factories. What is read is in `source`, what is written in `sink`; nothing
//! here connects.

mod client;
pub mod options;
pub mod properties;
pub mod sink;
pub mod source;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use flott_core::Result;
use flott_core::config::Configuration;
use flott_core::registry::{ConnectorFactory, OptionSpec, Registry, TableSpec};
use flott_core::sink::{ChangelogMode, Sink};
use flott_core::source::Source;
use flott_core::types::{DataType, TypeKind};

use crate::formats::message::MessageFormat;
use crate::options::TableOptions;
use options::{Encoding, PLAIN_OPTIONS, SHARED_OPTIONS, SOURCE_OPTIONS};

/// Makes the connectors of this module known.
pub fn register(registry: &mut Registry) {
    registry.register(Arc::new(KafkaFactory { upsert: false }));
    registry.register(Arc::new(KafkaFactory { upsert: true }));
}

/// All options of `kafka`.
static KAFKA: LazyLock<Vec<OptionSpec>> =
    LazyLock::new(|| [SHARED_OPTIONS, PLAIN_OPTIONS, SOURCE_OPTIONS, sink::SINK_OPTIONS].concat());
/// All options of `upsert-kafka`.
static UPSERT: LazyLock<Vec<OptionSpec>> =
    LazyLock::new(|| [SHARED_OPTIONS, SOURCE_OPTIONS, sink::SINK_OPTIONS, sink::UPSERT_SINK_OPTIONS].concat());

/// The factory of `kafka` and of `upsert-kafka`.
pub struct KafkaFactory {
    upsert: bool,
}

impl KafkaFactory {
    /// The factory of one of the two connectors.
    pub fn new(upsert: bool) -> Self {
        KafkaFactory { upsert }
    }

    /// The options of a table, checked against those of the connector and of the formats it names.
    fn checked<'a>(&self, table: &'a TableSpec) -> Result<TableOptions<'a>> {
        let [value, key] = Encoding::tables(table)?;
        TableOptions::checked(table, &[self.options(), value, key])
    }
}

impl ConnectorFactory for KafkaFactory {
    fn identifier(&self) -> &'static str {
        if self.upsert { "upsert-kafka" } else { "kafka" }
    }

    fn options(&self) -> &'static [OptionSpec] {
        if self.upsert { &UPSERT } else { &KAFKA }
    }

    fn metadata(&self, options: &BTreeMap<String, String>) -> Vec<(String, DataType)> {
        let headers = TypeKind::Map(Box::new(TypeKind::STRING.not_null()), Box::new(TypeKind::BYTES.nullable()));
        let own = [
            ("topic", TypeKind::STRING.not_null()),
            ("partition", TypeKind::Int.not_null()),
            ("headers", headers.not_null()),
            ("leader-epoch", TypeKind::Int.nullable()),
            ("offset", TypeKind::BigInt.not_null()),
            ("timestamp", TypeKind::TimestampLtz(3).not_null()),
            ("timestamp-type", TypeKind::STRING.not_null()),
        ];
        let own = own.into_iter().map(|(key, t)| (key.to_owned(), t));
        let table = TableSpec {
            name: String::new(),
            columns: Vec::new(),
            options: options.clone(),
            primary_key: Vec::new(),
            partition_keys: Vec::new(),
            input_mode: ChangelogMode::Append,
        };
        // A format that cannot be read is reported with the table's name when the source or sink is made.
        let format = self.checked(&table).and_then(|o| MessageFormat::read(&o, MessageFormat::value_prefix(&table)));
        let of_format = format.map(|f| f.metadata()).unwrap_or_default();
        own.chain(of_format.into_iter().map(|(key, t)| (format!("value.{key}"), t))).collect()
    }

    fn source_mode(&self, table: &TableSpec) -> Result<ChangelogMode> {
        if self.upsert {
            return Ok(ChangelogMode::Upsert);
        }
        let o = self.checked(table)?;
        Ok(MessageFormat::read(&o, MessageFormat::value_prefix(table))?.changelog_mode())
    }

    fn source(&self, table: &TableSpec, _: &Configuration) -> Result<Arc<dyn Source>> {
        let o = self.checked(table)?;
        Ok(Arc::new(source::KafkaSource::new(&o, table, self.upsert)?))
    }

    fn sink(&self, table: &TableSpec, config: &Configuration) -> Result<Arc<dyn Sink>> {
        let o = self.checked(table)?;
        Ok(Arc::new(sink::KafkaSink::new(&o, table, config, self.upsert)?))
    }
}
