//! Operators without state that pass rows on as they are, or not at all.

use arrow_array::{Array, BooleanArray};
use flott_core::batch::{ChangeBatch, RowKind};
use flott_core::error::{Error, Result};
use flott_core::operator::{Operator, OperatorContext, OperatorProperties, Progress};

/// UNION ALL.
pub(crate) struct Union;

impl Operator for Union {
    fn open(&mut self, _ctx: &mut OperatorContext) -> Result<OperatorProperties> {
        Ok(OperatorProperties::default())
    }
    fn process(&mut self, _port: usize, batch: ChangeBatch, ctx: &mut OperatorContext) -> Result<Progress> {
        ctx.out.emit(batch);
        Ok(Progress::Done)
    }
}

/// Drops `-U` rows.
pub(crate) struct DropUpdateBefore;

impl Operator for DropUpdateBefore {
    fn open(&mut self, _ctx: &mut OperatorContext) -> Result<OperatorProperties> {
        Ok(OperatorProperties::default())
    }
    fn process(&mut self, _port: usize, batch: ChangeBatch, ctx: &mut OperatorContext) -> Result<Progress> {
        let kinds = batch.kinds.as_ref().filter(|k| k.contains(&RowKind::UpdateBefore));
        match kinds.map(|k| BooleanArray::from_iter(k.iter().map(|k| Some(*k != RowKind::UpdateBefore)))) {
            Some(mask) => ctx.out.emit(batch.filter(&mask)?),
            None => ctx.out.emit(batch),
        }
        Ok(Progress::Done)
    }
}

/// Checks NOT NULL columns.
pub(crate) struct NotNullEnforcer {
    columns: Vec<(usize, String)>,
    drop: bool,
}

impl NotNullEnforcer {
    /// Checks `columns`; rows with a NULL there are dropped, or fail the job.
    pub(crate) fn new(columns: &[(usize, String)], drop: bool) -> Self {
        NotNullEnforcer { columns: columns.to_vec(), drop }
    }
}

impl Operator for NotNullEnforcer {
    fn open(&mut self, _ctx: &mut OperatorContext) -> Result<OperatorProperties> {
        Ok(OperatorProperties::default())
    }
    fn process(&mut self, _port: usize, batch: ChangeBatch, ctx: &mut OperatorContext) -> Result<Progress> {
        let bad = self.columns.iter().find(|(i, _)| batch.rows.column(*i).null_count() > 0);
        let Some((_, name)) = bad else {
            ctx.out.emit(batch);
            return Ok(Progress::Done);
        };
        if !self.drop {
            return Err(Error::user("sink.not-null", format!("column `{name}` is NOT NULL, but a row has NULL there"))
                .detail(format!("operator `{}`; an overflow of DECIMAL is NULL too", ctx.name))
                .hint("filter the NULL rows, or set table.exec.sink.not-null-enforcer to DROP"));
        }
        let present = |row: usize| self.columns.iter().all(|(i, _)| batch.rows.column(*i).is_valid(row));
        let mask = BooleanArray::from_iter((0..batch.num_rows()).map(|row| Some(present(row))));
        ctx.metrics.bad_skipped.add(mask.false_count() as u64);
        ctx.out.emit(batch.filter(&mask)?);
        Ok(Progress::Done)
    }
}
