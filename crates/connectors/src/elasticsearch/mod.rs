//! The connectors `elasticsearch-7` and `opensearch`: tables as documents of an index, written with `_bulk`; never read.

mod answer;
mod bulk;
mod document;
mod index;
pub mod options;
mod sink;

use std::sync::Arc;

use flott_core::config::Configuration;
use flott_core::registry::{ConnectorFactory, OptionSpec, Registry, TableSpec};
use flott_core::sink::Sink;
use flott_core::source::Source;
use flott_core::{Error, Result};

use options::{OPENSEARCH_OPTIONS, OPTIONS, SinkOptions};

pub use sink::BulkSink;

/// Makes the connectors of this module known.
pub fn register(registry: &mut Registry) {
    registry.register(Arc::new(BulkFactory { identifier: "elasticsearch-7" }));
    registry.register(Arc::new(BulkFactory { identifier: "opensearch" }));
    registry.register(Arc::new(BulkFactory { identifier: OLD }));
}

/// What is known by name only, so that it can be said why it does not work.
const OLD: &str = "elasticsearch-6";

/// The factory of both connectors.
pub struct BulkFactory {
    identifier: &'static str,
}

/// Flink has one table of options for both; documentation and checks need the longer one in one piece.
static ALL_OPTIONS: std::sync::LazyLock<Vec<OptionSpec>> =
    std::sync::LazyLock::new(|| OPTIONS.iter().chain(OPENSEARCH_OPTIONS).copied().collect());

impl ConnectorFactory for BulkFactory {
    fn identifier(&self) -> &'static str {
        self.identifier
    }

    fn options(&self) -> &'static [OptionSpec] {
        match self.identifier {
            "opensearch" => ALL_OPTIONS.as_slice(),
            OLD => &[],
            _ => OPTIONS,
        }
    }

    fn source(&self, table: &TableSpec, _: &Configuration) -> Result<Arc<dyn Source>> {
        let message = format!("table `{}`: the connector '{}' cannot be read", table.name, self.identifier);
        Err(Error::user("table.not-readable", message).hint("it is a sink: use the table after INSERT INTO only"))
    }

    fn sink(&self, table: &TableSpec, config: &Configuration) -> Result<Arc<dyn Sink>> {
        if self.identifier == OLD {
            let message = format!("table `{}`: Elasticsearch 6 is not supported", table.name);
            return Err(Error::user("elasticsearch.version", message)
                .detail("its documents have types, and it has had no updates since 2022")
                .hint("use 'connector' = 'elasticsearch-7' with a server of version 7 or later, or 'opensearch'"));
        }
        if let Some(column) = table.columns.iter().find(|c| c.metadata_key.is_some()) {
            let message = format!("table `{}`: the metadata column `{}` cannot be written", table.name, column.name);
            return Err(Error::user("elasticsearch.metadata", message).hint("declare it VIRTUAL"));
        }
        let options = SinkOptions::read(table, self.identifier, config)?;
        Ok(Arc::new(BulkSink::new(options, table.clone())?))
    }
}

#[cfg(test)]
mod tests;
