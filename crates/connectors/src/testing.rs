//! Short ways to tables, rows and errors for the tests of this crate.

use std::sync::Arc;

use arrow_array::RecordBatch;
use flott_core::registry::{Registry, TableSpec};
use flott_core::sink::{ChangelogMode, Sink};
use flott_core::source::Source;
use flott_core::types::{Column, TypeKind, arrow_schema};
use flott_core::{ChangeBatch, Error, Result};

use crate::contract::rows_of;
use crate::formats::{BadRecord, Block, Decoder, Format};
use crate::options::TableOptions;

/// A table of nullable columns.
pub(crate) fn table(columns: &[(&str, TypeKind)], options: &[(&str, &str)]) -> TableSpec {
    TableSpec {
        name: "t".into(),
        columns: columns.iter().map(|(n, k)| Column::new(*n, k.clone().nullable())).collect(),
        options: options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        primary_key: Vec::new(),
        partition_keys: Vec::new(),
        input_mode: ChangelogMode::Append,
    }
}

pub(crate) fn registry() -> Registry {
    let mut registry = Registry::default();
    crate::register_all(&mut registry);
    registry
}

/// The source of a table.
pub(crate) fn source(table: &TableSpec) -> Result<Arc<dyn Source>> {
    registry().connector(&table.name, &table.options)?.source(table, &Default::default())
}

/// The sink of a table.
pub(crate) fn sink(table: &TableSpec) -> Result<Arc<dyn Sink>> {
    registry().connector(&table.name, &table.options)?.sink(table, &Default::default())
}

/// The error of a result that must not be good.
pub(crate) fn refused<T>(result: Result<T>) -> Error {
    match result {
        Ok(_) => panic!("this should have been refused"),
        Err(e) => e,
    }
}

/// The format of a table.
pub(crate) fn format(table: &TableSpec) -> Result<Format> {
    Format::read(&TableOptions::checked(table, &[crate::filesystem::OPTIONS, Format::options_of(table)?])?)
}

/// Decodes a text in blocks of `block` bytes; the rows as text and the number of records skipped.
pub(crate) fn decode(table: &TableSpec, text: &[u8], block: usize) -> Result<(Vec<String>, u64), BadRecord> {
    let mut decoder = format(table).expect("a format").decoder(&table.columns).expect("a decoder");
    let (mut begin, mut end, mut line, mut skipped) = (0, 0, 0, 0);
    let mut rows = Vec::new();
    loop {
        let last = end == text.len();
        let block_of = Block { data: &text[begin..end], last, stop: usize::MAX, rows_max: 3 };
        let done = decoder.decode(block_of).map_err(|bad| BadRecord { line: bad.line + line, ..bad })?;
        begin += done.consumed;
        line += done.lines;
        skipped += done.skipped;
        rows.extend(rows_of(&batch(table, decoder.as_mut())));
        if last && done.consumed == 0 {
            return Ok((rows, skipped));
        }
        if done.rows == 0 {
            end = (end + block).min(text.len());
        }
    }
}

fn batch(table: &TableSpec, decoder: &mut dyn Decoder) -> ChangeBatch {
    let columns = decoder.finish().expect("columns");
    let rows = RecordBatch::try_new(arrow_schema(&table.columns), columns).expect("columns fit the schema");
    ChangeBatch::new(rows, decoder.kinds(), None)
}

/// The rows of a JSON text as a batch.
pub(crate) fn json_batch(columns: &[(&str, TypeKind)], text: &str) -> ChangeBatch {
    let table = table(columns, &[("connector", "filesystem"), ("path", "-"), ("format", "json")]);
    let mut decoder = format(&table).expect("a format").decoder(&table.columns).expect("a decoder");
    let block = Block { data: text.as_bytes(), last: true, stop: usize::MAX, rows_max: usize::MAX };
    decoder.decode(block).expect("a good text");
    batch(&table, decoder.as_mut())
}

/// The text of a batch in the format of a table.
pub(crate) fn encode(table: &TableSpec, batch: &ChangeBatch) -> Result<String> {
    let mut out = String::new();
    format(table)?.encoder(&table.columns)?.encode(&batch.rows, &mut out)?;
    Ok(out)
}
