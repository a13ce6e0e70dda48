//! The `datagen` connector: rows that are a pure function of seed and row number; never asks a random device.

mod field;
mod reader;

use std::sync::Arc;

use flott_core::config::Configuration;
use flott_core::registry::{ConnectorFactory, OptionSpec, TableSpec};
use flott_core::sink::Sink;
use flott_core::source::Source;
use flott_core::{Error, Result};

use crate::options::{TableOptions, option};
use field::{Field, check_field_keys};
use reader::{DatagenSource, Generator};

/// Options of the connector.
pub const OPTIONS: &[OptionSpec] = &[
    option("rows-per-second", "BIGINT", "10000", false, "Rows a second, all subtasks of a process together."),
    option("number-of-rows", "BIGINT", "", false, "Total number of rows; without it the source does not end."),
    option("seed", "BIGINT", "0", false, "Equal seeds give equal rows (Flott's own option)."),
    option("fields.#.kind", "ENUM(random|sequence)", "random", false, "How the values of the column come about."),
    option("fields.#.min", "STRING", "", false, "Smallest random number; the type's smallest by default."),
    option("fields.#.max", "STRING", "", false, "Largest random number; the type's largest by default."),
    option("fields.#.max-past", "DURATION", "0", false, "How far random timestamps lie before the present."),
    option("fields.#.length", "INT", "100", false, "Length of random strings and bytes, elements of collections (3)."),
    option("fields.#.var-len", "BOOLEAN", "false", false, "Lengths are random from 1 to 'length'."),
    option("fields.#.null-rate", "DOUBLE", "0", false, "Share of NULL values."),
    option("fields.#.start", "BIGINT", "", false, "First number of a sequence."),
    option("fields.#.end", "BIGINT", "", false, "Last number of a sequence; the source ends with it."),
];

/// The factory.
pub struct DatagenFactory;

impl ConnectorFactory for DatagenFactory {
    fn identifier(&self) -> &'static str {
        "datagen"
    }

    fn options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    fn source(&self, table: &TableSpec, _: &Configuration) -> Result<Arc<dyn Source>> {
        let o = TableOptions::checked(table, &[OPTIONS])?;
        check_field_keys(table, &o)?;
        let per_second: u64 = o.number("rows-per-second", "a number of rows above 0")?.unwrap_or(10_000);
        if per_second == 0 {
            return Err(o.bad("rows-per-second", "a number of rows above 0"));
        }
        let number: Option<u64> = o.number("number-of-rows", "a number of rows")?;
        let seed: i64 = o.number("seed", "an integer")?.unwrap_or(0);
        let fields = table
            .columns
            .iter()
            .enumerate()
            .map(|(i, c)| Field::new(&o, &c.name, &c.data_type, crate::datagen::field::mix(seed as u64, i as u64)))
            .collect::<Result<Vec<_>>>()?;
        let shortest = fields.iter().filter_map(Field::sequence_rows).min();
        let total = [number, shortest].into_iter().flatten().min();
        Ok(Arc::new(DatagenSource::new(Generator::new(&table.columns, fields), per_second, total)))
    }

    fn sink(&self, table: &TableSpec, _: &Configuration) -> Result<Arc<dyn Sink>> {
        Err(Error::user(
            "table.not-writable",
            format!("table `{}`: the connector 'datagen' cannot be written", table.name),
        )
        .hint("it is a source: write into 'print', 'blackhole' or 'filesystem'"))
    }
}

#[cfg(test)]
mod tests;
