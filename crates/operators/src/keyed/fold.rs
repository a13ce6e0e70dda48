//! ToUpsert: the last change of each key of a batch, `-U` as `-D`: a changelog for sinks that write by that key. Keeps no state.

use arrow_array::UInt32Array;
use flott_core::batch::{ChangeBatch, RowKind};
use flott_core::error::Result;
use flott_core::operator::{Operator, OperatorContext, OperatorProperties, Progress};
use flott_core::types::Column;

use super::KeyedRows;

/// The operator.
pub(crate) struct ToUpsert {
    rows: KeyedRows,
}

impl ToUpsert {
    /// Rows of `columns` by `key`.
    pub(crate) fn new(key: &[usize], columns: &[Column]) -> Result<Self> {
        Ok(ToUpsert { rows: KeyedRows::keys_only(key, columns)? })
    }
}

impl Operator for ToUpsert {
    fn open(&mut self, _ctx: &mut OperatorContext) -> Result<OperatorProperties> {
        Ok(OperatorProperties::default())
    }
    fn process(&mut self, _port: usize, batch: ChangeBatch, ctx: &mut OperatorContext) -> Result<Progress> {
        if batch.kinds.is_none() {
            ctx.out.emit(batch);
            return Ok(Progress::Done);
        }
        let grouped = self.rows.group(&batch, ctx.max_parallelism, false)?;
        let mut last: Vec<u32> = (0..grouped.len()).filter_map(|g| grouped.rows(g).last()).map(|r| r as u32).collect();
        last.sort_unstable();
        let mut out = if last.len() == batch.num_rows() { batch } else { batch.take(&UInt32Array::from(last))? };
        let deletes = |k: &RowKind| if *k == RowKind::UpdateBefore { RowKind::Delete } else { *k };
        out.kinds = out.kinds.map(|kinds| kinds.iter().map(deletes).collect());
        ctx.out.emit(out);
        Ok(Progress::Done)
    }
}
