//! Sort keys of a batch as bytes that compare like the rows. Pure.

use arrow_array::{ArrayRef, RecordBatch};
use arrow_row::{RowConverter, Rows, SortField};
use arrow_schema::SortOptions;
use flott_core::error::{Error, Result};
use flott_core::types::Column;
use flott_plan::spec::SortKey;

/// Makes sort keys.
pub(crate) struct Sorter {
    keys: Vec<SortKey>,
    converter: RowConverter,
}

/// The sort keys of a batch; without ORDER BY all are empty.
pub(crate) struct Sorted(Option<Rows>);

impl Sorter {
    /// Sorts rows of `columns` by `keys`.
    pub(crate) fn new(keys: &[SortKey], columns: &[Column]) -> Result<Self> {
        let field = |k: &SortKey| {
            let arrow = columns[k.column].data_type.kind.to_arrow();
            SortField::new_with_options(arrow, SortOptions { descending: k.descending, nulls_first: k.nulls_first })
        };
        let fields: Vec<SortField> = keys.iter().map(field).collect();
        if !RowConverter::supports_fields(&fields) {
            return Err(Error::user("sql.sort-type", "ORDER BY a column whose type has no order")
                .hint("sort by columns of numeric, string or time types"));
        }
        Ok(Sorter { keys: keys.to_vec(), converter: RowConverter::new(fields)? })
    }
    /// What the bytes mean, for the schema of state tables.
    pub(crate) fn schema(&self) -> String {
        format!("arrow-row 59 {:?}", self.keys)
    }
    /// The sort keys of all rows.
    pub(crate) fn convert(&self, rows: &RecordBatch) -> Result<Sorted> {
        if self.keys.is_empty() {
            return Ok(Sorted(None));
        }
        let columns: Vec<ArrayRef> = self.keys.iter().map(|k| rows.column(k.column).clone()).collect();
        Ok(Sorted(Some(self.converter.convert_columns(&columns)?)))
    }
}

impl Sorted {
    /// The sort key of a row.
    pub(crate) fn key(&self, row: usize) -> &[u8] {
        self.0.as_ref().map_or(&[], |rows| rows.row(row).data())
    }
}
