//! Output rows that come from the batch or from state, put together as columns. Never touches state.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow_schema::SchemaRef;
use arrow_select::interleave::interleave;
use flott_core::batch::{ChangeBatch, RowKind};
use flott_core::error::{Error, Result};
use flott_core::keys::RowCodec;

/// Collects output rows.
#[derive(Default)]
pub(crate) struct Output {
    kinds: Vec<RowKind>,
    /// Per row: the input's row, or the number among `stored`.
    places: Vec<(bool, usize)>,
    /// Rows from state, back to back.
    bytes: Vec<u8>,
    /// Where each of these ends.
    stored: Vec<usize>,
    ranks: Vec<i64>,
}

impl Output {
    /// Adds a row of the batch.
    pub(crate) fn input(&mut self, kind: RowKind, row: usize) {
        self.kinds.push(kind);
        self.places.push((false, row));
    }
    /// Adds a row from its bytes.
    pub(crate) fn stored(&mut self, kind: RowKind, bytes: &[u8]) {
        self.kinds.push(kind);
        self.places.push((true, self.stored.len()));
        self.bytes.extend_from_slice(bytes);
        self.stored.push(self.bytes.len());
    }
    /// The rows from state.
    fn stored_rows(&self) -> impl Iterator<Item = &[u8]> + Clone {
        let starts = std::iter::once(0).chain(self.stored.iter().copied());
        starts.zip(&self.stored).map(|(start, end)| &self.bytes[start..*end])
    }
    /// The rank of the row added last, when ranks are a column.
    pub(crate) fn rank(&mut self, rank: usize) {
        self.ranks.push(i64::try_from(rank).unwrap_or(i64::MAX));
    }
    /// The rows as a batch of `schema`, with ranks as last column if there are any; `rows` is the batch that input rows are of.
    pub(crate) fn build(
        self,
        rows: Option<&RecordBatch>,
        codec: &RowCodec,
        schema: &SchemaRef,
    ) -> Result<Option<ChangeBatch>> {
        if self.kinds.is_empty() {
            return Ok(None);
        }
        let mut columns = self.columns(rows, codec)?;
        if !self.ranks.is_empty() {
            columns.push(Arc::new(Int64Array::from(self.ranks)));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(self.kinds.len()));
        let batch = RecordBatch::try_new_with_options(schema.clone(), columns, &options)?;
        let changes = self.kinds.iter().any(|k| *k != RowKind::Insert);
        Ok(Some(ChangeBatch::new(batch, changes.then(|| self.kinds.into()), None)))
    }
    fn columns(&self, rows: Option<&RecordBatch>, codec: &RowCodec) -> Result<Vec<ArrayRef>> {
        if self.stored.len() == self.places.len() {
            return codec.decode(self.stored_rows());
        }
        let rows = rows.ok_or_else(|| Error::bug("rows of a batch were emitted without the batch"))?;
        if self.stored.is_empty() {
            let indices: UInt32Array = self.places.iter().map(|p| p.1 as u32).collect();
            return rows.columns().iter().map(|c| Ok(arrow_select::take::take(c, &indices, None)?)).collect();
        }
        let stored = codec.decode(self.stored_rows())?;
        let places: Vec<(usize, usize)> = self.places.iter().map(|(s, i)| (usize::from(*s), *i)).collect();
        let both = |(input, stored): (&ArrayRef, &ArrayRef)| -> Result<ArrayRef> {
            Ok(interleave(&[input.as_ref() as &dyn Array, stored.as_ref()], &places)?)
        };
        rows.columns().iter().zip(&stored).map(both).collect()
    }
}
