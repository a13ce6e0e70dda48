//! Connector `nexmark`: the events of the Nexmark benchmark, after the model and options of its Java generator, but seeded. Event
//! `n` is the same whatever the parallelism and wherever a job is restored. Never reads anything.

mod batch;
pub(crate) mod functions;
mod model;
mod options;
mod reader;
#[cfg(test)]
mod tests;
mod text;

use std::sync::Arc;

use flott_core::config::Configuration;
use flott_core::registry::{ConnectorFactory, OptionSpec, TableSpec};
use flott_core::sink::Sink;
use flott_core::source::Source;
use flott_core::types::{Column, DataType, TypeKind};
use flott_core::{Error, Result};

use batch::Generator;
use options::NexmarkOptions;
pub use options::OPTIONS;
use reader::NexmarkSource;

/// Makes Nexmark sources.
#[derive(Clone, Copy, Debug, Default)]
pub struct NexmarkFactory;

impl ConnectorFactory for NexmarkFactory {
    fn identifier(&self) -> &'static str {
        "nexmark"
    }
    fn options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }
    fn default_columns(&self) -> Option<Vec<Column>> {
        Some(columns())
    }
    fn source(&self, table: &TableSpec, config: &Configuration) -> Result<Arc<dyn Source>> {
        let _ = config;
        let options = NexmarkOptions::parse(table)?;
        check_columns(table)?;
        Ok(Arc::new(NexmarkSource::new(Arc::new(Generator::new(options)))))
    }
    fn sink(&self, table: &TableSpec, config: &Configuration) -> Result<Arc<dyn Sink>> {
        let _ = config;
        Err(Error::user("table.no-sink", format!("table `{}`: the connector 'nexmark' cannot be written", table.name))
            .hint("write to filesystem, print or blackhole"))
    }
}

/// The columns of every Nexmark table.
pub fn columns() -> Vec<Column> {
    const LONG: TypeKind = TypeKind::BigInt;
    const TEXT: TypeKind = TypeKind::STRING;
    const TIME: TypeKind = TypeKind::Timestamp(3);
    let row = |fields: &[(&str, TypeKind)]| {
        TypeKind::Row(fields.iter().map(|(n, t)| ((*n).to_owned(), t.clone().nullable())).collect()).nullable()
    };
    let person = row(&[
        ("id", LONG),
        ("name", TEXT),
        ("emailAddress", TEXT),
        ("creditCard", TEXT),
        ("city", TEXT),
        ("state", TEXT),
        ("dateTime", TIME),
        ("extra", TEXT),
    ]);
    let auction = row(&[
        ("id", LONG),
        ("itemName", TEXT),
        ("description", TEXT),
        ("initialBid", LONG),
        ("reserve", LONG),
        ("dateTime", TIME),
        ("expires", TIME),
        ("seller", LONG),
        ("category", LONG),
        ("extra", TEXT),
    ]);
    let bid = row(&[
        ("auction", LONG),
        ("bidder", LONG),
        ("price", LONG),
        ("channel", TEXT),
        ("url", TEXT),
        ("dateTime", TIME),
        ("extra", TEXT),
    ]);
    vec![
        Column::new("event_type", TypeKind::Int.nullable()),
        Column::new("person", person),
        Column::new("auction", auction),
        Column::new("bid", bid),
    ]
}

/// A declared table must have the fixed columns; NOT NULL and string lengths do not matter.
fn check_columns(table: &TableSpec) -> Result<()> {
    let fixed = columns();
    let wrong = |what: String| {
        Error::user("table.columns", format!("table `{}`: {what}", table.name))
            .detail("a nexmark table has the columns event_type INT, person ROW<…>, auction ROW<…>, bid ROW<…>")
            .hint("leave out the physical columns to get them as they are")
    };
    if table.columns.len() != fixed.len() {
        return Err(wrong(format!("it has {} physical columns, not {}", table.columns.len(), fixed.len())));
    }
    for (declared, fixed) in table.columns.iter().zip(&fixed) {
        if declared.name != fixed.name {
            return Err(wrong(format!("the column `{}` stands where `{}` must be", declared.name, fixed.name)));
        }
        if !same(&declared.data_type, &fixed.data_type) {
            let (found, expected) = (&declared.data_type, &fixed.data_type);
            return Err(wrong(format!("the column `{}` is {found}, not {expected}", declared.name)));
        }
    }
    Ok(())
}

fn same(declared: &DataType, fixed: &DataType) -> bool {
    match (&declared.kind, &fixed.kind) {
        (TypeKind::Row(a), TypeKind::Row(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|((n, t), (m, u))| n == m && same(t, u))
        }
        (a, b) => a == b || (a.is_string() && b.is_string()),
    }
}
