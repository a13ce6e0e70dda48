//! A batch of changes: Arrow rows, what each row does to the table, and when each happened.

use std::sync::Arc;

use arrow_array::{Array, BooleanArray, RecordBatch, UInt32Array};
use arrow_data::ArrayData;
use arrow_schema::SchemaRef;

use crate::error::Result;

/// What a row does to the table that the stream describes. Numbers are part of the snapshot format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum RowKind {
    /// `+I`
    Insert = 0,
    /// `-U`
    UpdateBefore = 1,
    /// `+U`
    UpdateAfter = 2,
    /// `-D`
    Delete = 3,
}

impl RowKind {
    /// `+I`, `-U`, `+U` or `-D`.
    pub fn short(self) -> &'static str {
        ["+I", "-U", "+U", "-D"][self as usize]
    }
    /// Whether the row adds (`+I`, `+U`) rather than retracts.
    #[inline]
    pub fn is_add(self) -> bool {
        matches!(self, RowKind::Insert | RowKind::UpdateAfter)
    }
    /// The kind with number `n`, if there is one.
    pub fn from_u8(n: u8) -> Option<Self> {
        [RowKind::Insert, RowKind::UpdateBefore, RowKind::UpdateAfter, RowKind::Delete].get(usize::from(n)).copied()
    }
}

/// Adds address and size of every allocation that an array holds.
fn weigh(data: &ArrayData, allocations: &mut Vec<(usize, usize)>) {
    let nulls = data.nulls().map(|n| n.inner().inner());
    let buffers = data.buffers().iter().chain(nulls);
    allocations.extend(buffers.map(|b| (b.data_ptr().as_ptr() as usize, b.capacity())));
    data.child_data().iter().for_each(|c| weigh(c, allocations));
}

/// Row kinds of a batch, one per row.
pub type RowKinds = Arc<[RowKind]>;
/// Event times of a batch in milliseconds, one per row.
pub type EventTimes = Arc<[i64]>;

/// Arrow rows + row kinds (`None` = append-only) + event times, all of one length (asserted).
///
/// SQL carries event time as an ordinary column and leaves `times` empty; the DataStream API uses `times`.
#[derive(Clone, Debug)]
pub struct ChangeBatch {
    /// The rows.
    pub rows: RecordBatch,
    /// What each row does; `None` when every row is an insert.
    pub kinds: Option<RowKinds>,
    /// Event time per row, if the stream carries it beside the columns.
    pub times: Option<EventTimes>,
}

impl ChangeBatch {
    /// An append-only batch without event times.
    pub fn append(rows: RecordBatch) -> Self {
        ChangeBatch { rows, kinds: None, times: None }
    }
    /// A batch of changes. Panics when the lengths differ: a bug of the caller.
    pub fn new(rows: RecordBatch, kinds: Option<RowKinds>, times: Option<EventTimes>) -> Self {
        assert!(kinds.as_ref().is_none_or(|k| k.len() == rows.num_rows()), "kinds and rows differ in length");
        assert!(times.as_ref().is_none_or(|t| t.len() == rows.num_rows()), "times and rows differ in length");
        ChangeBatch { rows, kinds, times }
    }
    /// Number of rows.
    pub fn num_rows(&self) -> usize {
        self.rows.num_rows()
    }
    /// The schema of the rows.
    pub fn schema(&self) -> SchemaRef {
        self.rows.schema()
    }
    /// What row `i` does.
    #[inline]
    pub fn kind(&self, i: usize) -> RowKind {
        self.kinds.as_ref().map_or(RowKind::Insert, |k| k[i])
    }
    /// Bytes held by the rows: allocations in full, each once however many columns share it.
    pub fn memory_bytes(&self) -> usize {
        let mut allocations: Vec<(usize, usize)> = Vec::with_capacity(3 * self.rows.num_columns());
        self.rows.columns().iter().for_each(|c| weigh(&c.to_data(), &mut allocations));
        allocations.sort_unstable();
        allocations.dedup();
        allocations.iter().map(|(_, bytes)| bytes).sum()
    }
    /// The rows where `mask` is true, in order.
    pub fn filter(&self, mask: &BooleanArray) -> Result<Self> {
        let rows = arrow_select::filter::filter_record_batch(&self.rows, mask)?;
        let keep = |i: &usize| mask.value(*i) && !mask.is_null(*i);
        let kinds = self.kinds.as_ref().map(|k| (0..k.len()).filter(keep).map(|i| k[i]).collect());
        let times = self.times.as_ref().map(|t| (0..t.len()).filter(keep).map(|i| t[i]).collect());
        Ok(ChangeBatch::new(rows, kinds, times))
    }
    /// The rows at `indices`, in that order.
    pub fn take(&self, indices: &UInt32Array) -> Result<Self> {
        let rows = arrow_select::take::take_record_batch(&self.rows, indices)?;
        let at = indices.values();
        let kinds = self.kinds.as_ref().map(|k| at.iter().map(|&i| k[i as usize]).collect());
        let times = self.times.as_ref().map(|t| at.iter().map(|&i| t[i as usize]).collect());
        Ok(ChangeBatch::new(rows, kinds, times))
    }
    /// Rows `offset..offset + len`, without copying columns.
    pub fn slice(&self, offset: usize, len: usize) -> Self {
        let kinds = self.kinds.as_ref().map(|k| k[offset..offset + len].into());
        let times = self.times.as_ref().map(|t| t[offset..offset + len].into());
        ChangeBatch { rows: self.rows.slice(offset, len), kinds, times }
    }
    /// One batch of all rows in order; the parts must share a schema and there must be one at least.
    pub fn concat(parts: &[ChangeBatch]) -> Result<Self> {
        debug_assert!(!parts.is_empty(), "nothing to concatenate");
        if let [one] = parts {
            return Ok(one.clone());
        }
        let rows = arrow_select::concat::concat_batches(&parts[0].schema(), parts.iter().map(|p| &p.rows))?;
        let kinds = parts
            .iter()
            .any(|p| p.kinds.is_some())
            .then(|| parts.iter().flat_map(|p| (0..p.num_rows()).map(|i| p.kind(i))).collect());
        let times = parts
            .iter()
            .all(|p| p.times.is_some())
            .then(|| parts.iter().filter_map(|p| p.times.as_deref()).flatten().copied().collect());
        Ok(ChangeBatch::new(rows, kinds, times))
    }
}
