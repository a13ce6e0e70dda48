//! The `jdbc` connector: tables of MySQL, MariaDB and PostgreSQL as sinks, bounded sources and lookup tables; never waits for a
//! server on a task's thread.

mod apply;
mod changes;
mod committer;
mod encode;
mod epoch;
mod ledger;
mod lookup;
mod monitor;
mod mysql;
pub mod options;
mod postgres;
mod session;
mod sink;
mod source;
mod statements;
mod target;
pub mod url;
mod writer;

use std::sync::Arc;

use flott_core::Result;
use flott_core::config::Configuration;
use flott_core::lookup::LookupSource;
use flott_core::registry::{ConnectorFactory, OptionSpec, Registry, TableSpec};
use flott_core::sink::Sink;
use flott_core::source::Source;

use self::options::{JdbcOptions, OPTIONS, ScanOptions, WriteOptions, lookup_options};
use crate::options::TableOptions;

pub use sink::JdbcSink;
pub use source::JdbcSource;

/// Makes the connector known.
pub fn register(registry: &mut Registry) {
    registry.register(Arc::new(JdbcFactory));
}

/// The factory.
pub struct JdbcFactory;

impl ConnectorFactory for JdbcFactory {
    fn identifier(&self) -> &'static str {
        "jdbc"
    }

    fn options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    fn source(&self, table: &TableSpec, _: &Configuration) -> Result<Arc<dyn Source>> {
        let o = TableOptions::checked(table, &[OPTIONS])?;
        encode::check_types(&table.name, &table.columns)?;
        let scan = ScanOptions::read(&o, table)?;
        Ok(Arc::new(JdbcSource::new(JdbcOptions::read(&o, table)?, scan, table.clone())))
    }

    fn sink(&self, table: &TableSpec, _: &Configuration) -> Result<Arc<dyn Sink>> {
        let o = TableOptions::checked(table, &[OPTIONS])?;
        encode::check_types(&table.name, &table.columns)?;
        let (jdbc, write) = (JdbcOptions::read(&o, table)?, WriteOptions::read(&o)?);
        Ok(Arc::new(JdbcSink::new(writer::Table { jdbc, write, spec: table.clone() })?))
    }

    fn lookup(&self, table: &TableSpec, keys: &[usize], _: &Configuration) -> Result<Arc<dyn LookupSource>> {
        let o = TableOptions::checked(table, &[OPTIONS])?;
        encode::check_types(&table.name, &table.columns)?;
        let jdbc = JdbcOptions::read(&o, table)?;
        Ok(Arc::new(lookup::JdbcLookupSource::new(jdbc, lookup_options(&o)?, table.clone(), keys.to_vec())))
    }
}

#[cfg(test)]
mod tests;
