//! Batches as text and back, for tests: `+I[1, a]`. Never used on a data path.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, StringArray};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use flott_core::batch::{ChangeBatch, RowKind};
use flott_core::element::{Element, Signal};

/// A schema of nullable columns.
pub fn schema(columns: &[(&str, DataType)]) -> SchemaRef {
    Arc::new(Schema::new(columns.iter().map(|(n, t)| Field::new(*n, t.clone(), true)).collect::<Vec<_>>()))
}

/// A batch of rows such as `+I[1, a]` or just `[1, a]`; `NULL` is null, values are cast from text by Arrow (timestamps as
/// `2020-01-01T00:00:00`). Row kinds are kept only when one of them is not `+I`. Panics on text it cannot read.
pub fn batch(schema: &SchemaRef, rows: &[&str]) -> ChangeBatch {
    let mut kinds = Vec::new();
    let mut columns: Vec<Vec<Option<String>>> = vec![Vec::new(); schema.fields().len()];
    for row in rows {
        let (kind, values) = row.split_once('[').unwrap_or_else(|| panic!("`{row}` has no `[`"));
        let values = values.strip_suffix(']').unwrap_or_else(|| panic!("`{row}` has no `]`"));
        let all = [RowKind::Insert, RowKind::UpdateBefore, RowKind::UpdateAfter, RowKind::Delete];
        kinds.push(match kind.trim() {
            "" => RowKind::Insert,
            k => *all.iter().find(|x| x.short() == k).unwrap_or_else(|| panic!("`{k}` is no row kind")),
        });
        let values: Vec<&str> = values.split(',').map(str::trim).collect();
        assert_eq!(values.len(), columns.len(), "`{row}` does not have as many values as the schema has columns");
        for (column, value) in columns.iter_mut().zip(values) {
            column.push((value != "NULL").then(|| value.to_owned()));
        }
    }
    let arrays = columns.into_iter().zip(schema.fields()).map(|(texts, field)| {
        let texts: ArrayRef = Arc::new(StringArray::from(texts));
        let strict = arrow_cast::CastOptions { safe: false, ..Default::default() };
        arrow_cast::cast_with_options(&texts, field.data_type(), &strict)
            .unwrap_or_else(|e| panic!("column `{}`: {e}", field.name()))
    });
    let rows = RecordBatch::try_new(Arc::clone(schema), arrays.collect()).expect("cast to the schema's types");
    let changes = kinds.iter().any(|k| *k != RowKind::Insert);
    ChangeBatch::new(rows, changes.then(|| kinds.into()), None)
}

/// The rows of a batch as text, one line each.
pub fn render_batch(batch: &ChangeBatch) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL");
    let columns: Vec<ArrayFormatter<'_>> = batch
        .rows
        .columns()
        .iter()
        .map(|c| ArrayFormatter::try_new(c.as_ref(), &options).expect("Arrow prints every type that Flott has"))
        .collect();
    let line = |i| {
        let values: Vec<String> = columns.iter().map(|c| c.value(i).to_string()).collect();
        format!("{}[{}]", batch.kind(i).short(), values.join(", "))
    };
    (0..batch.num_rows()).map(line).collect()
}

/// An element as text: rows, and watermarks and idleness if asked for.
pub fn render_element(element: &Element, signals: bool) -> Vec<String> {
    match element {
        Element::Batch(b) => render_batch(b),
        Element::Signal(Signal::Watermark(w)) if signals => vec![format!("watermark {}", w.0)],
        Element::Signal(Signal::Idle) if signals => vec!["idle".into()],
        Element::Signal(Signal::Active) if signals => vec!["active".into()],
        Element::Signal(_) => Vec::new(),
    }
}
