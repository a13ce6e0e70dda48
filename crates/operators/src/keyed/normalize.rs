//! ChangelogNormalize: a full changelog from upserts by key. Drops what changes nothing; emits nothing for keys it never saw.

use arrow_schema::SchemaRef;
use flott_core::batch::{ChangeBatch, RowKind};
use flott_core::error::Result;
use flott_core::operator::{Operator, OperatorContext, OperatorProperties, Progress};
use flott_core::state::FoundValues;
use flott_core::types::{Column, arrow_schema};

use super::{KeyedRows, Output, Values, Writes};

/// The operator. State: key → row.
pub(crate) struct ChangelogNormalize {
    rows: KeyedRows,
    update_before: bool,
    renews: bool,
    schema: SchemaRef,
    values: Values,
    found: FoundValues,
    writes: Writes,
}

impl ChangelogNormalize {
    /// Rows of `columns` by `key`.
    pub(crate) fn new(key: &[usize], update_before: bool, ttl_ms: Option<i64>, columns: &[Column]) -> Result<Self> {
        let rows = KeyedRows::new(key, columns)?;
        let values = Values::new(rows.types.clone(), ttl_ms);
        let (renews, schema) = (ttl_ms.is_some(), arrow_schema(columns));
        let (found, writes) = (FoundValues::default(), Writes::default());
        Ok(ChangelogNormalize { rows, update_before, renews, schema, values, found, writes })
    }
}

impl Operator for ChangelogNormalize {
    fn open(&mut self, ctx: &mut OperatorContext) -> Result<OperatorProperties> {
        self.values.open(&mut *ctx.state)?;
        Ok(OperatorProperties::default())
    }
    fn process(&mut self, _port: usize, batch: ChangeBatch, ctx: &mut OperatorContext) -> Result<Progress> {
        let grouped = self.rows.group(&batch, ctx.max_parallelism, true)?;
        let (values, firsts) = (self.values.of(&mut *ctx.state)?, grouped.firsts());
        values.get_batch(0, &grouped.keys, &firsts, &mut self.found)?;
        let mut out = Output::default();
        for (gid, &first) in firsts.iter().enumerate() {
            // The old row is known; a `-U` without its `+U` yet is no deletion.
            let told = |row: &usize| batch.kind(*row) != RowKind::UpdateBefore;
            let Some(last) = grouped.rows(gid).filter(told).last() else { continue };
            let before = self.found.get(gid);
            let after = batch.kind(last).is_add().then(|| grouped.bytes(last));
            match (before, after) {
                (None, None) => continue,
                (None, Some(_)) => out.input(RowKind::Insert, last),
                (Some(before), None) => {
                    out.stored(RowKind::Delete, before);
                    let (group, key) = grouped.key(gid);
                    values.remove(0, group, key)?;
                    continue;
                }
                (Some(before), Some(after)) if before == after && !self.renews => continue,
                (Some(before), Some(_)) => {
                    if self.update_before {
                        out.stored(RowKind::UpdateBefore, before);
                    }
                    out.input(RowKind::UpdateAfter, last);
                }
            }
            self.writes.put(values, &grouped.keys, first, grouped.bytes(last))?;
        }
        self.writes.finish(values, &grouped.keys)?;
        if let Some(batch) = out.build(Some(&batch.rows), self.rows.codec(), &self.schema)? {
            ctx.out.emit(batch);
        }
        Ok(Progress::Done)
    }
}
