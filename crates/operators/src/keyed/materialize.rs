//! SinkUpsertMaterialize: upserts by the sink's key out of a changelog that has another key. Keeps every row of a key in the
//! order of coming; the last one is the sink's row. A retraction of a row that is not there (its TTL passed) is passed over.

use arrow_schema::SchemaRef;
use flott_core::batch::{ChangeBatch, RowKind};
use flott_core::error::Result;
use flott_core::operator::{Operator, OperatorContext, OperatorProperties, Progress};
use flott_core::state::FoundValues;
use flott_core::types::{Column, arrow_schema};

use super::{KeyedRows, Output, Values, Writes, push_prefixed, split_prefixed};

/// The operator. State: key → rows, each with its length in front.
pub(crate) struct SinkUpsertMaterialize {
    rows: KeyedRows,
    schema: SchemaRef,
    values: Values,
    found: FoundValues,
    writes: Writes,
}

impl SinkUpsertMaterialize {
    /// Rows of `columns` by the sink's `key`.
    pub(crate) fn new(key: &[usize], ttl_ms: Option<i64>, columns: &[Column]) -> Result<Self> {
        let rows = KeyedRows::new(key, columns)?;
        let values = Values::new(format!("list({})", rows.types), ttl_ms);
        let (schema, found, writes) = (arrow_schema(columns), FoundValues::default(), Writes::default());
        Ok(SinkUpsertMaterialize { rows, schema, values, found, writes })
    }
}

impl Operator for SinkUpsertMaterialize {
    fn open(&mut self, ctx: &mut OperatorContext) -> Result<OperatorProperties> {
        self.values.open(&mut *ctx.state)?;
        Ok(OperatorProperties::default())
    }
    fn process(&mut self, _port: usize, batch: ChangeBatch, ctx: &mut OperatorContext) -> Result<Progress> {
        let grouped = self.rows.group(&batch, ctx.max_parallelism, true)?;
        let (values, firsts) = (self.values.of(&mut *ctx.state)?, grouped.firsts());
        values.get_batch(0, &grouped.keys, &firsts, &mut self.found)?;
        let (mut out, mut value) = (Output::default(), Vec::new());
        for (gid, &first) in firsts.iter().enumerate() {
            let mut list: Vec<&[u8]> = Vec::new();
            let mut rest = self.found.get(gid).unwrap_or_default();
            while !rest.is_empty() {
                let (row, tail) = split_prefixed(rest)?;
                list.push(row);
                rest = tail;
            }
            let before = list.last().copied();
            for row in grouped.rows(gid) {
                let bytes = grouped.bytes(row);
                if batch.kind(row).is_add() {
                    list.push(bytes);
                } else if let Some(at) = list.iter().rposition(|r| *r == bytes) {
                    list.remove(at);
                }
            }
            let after = list.last().copied();
            match (before, after) {
                (None, Some(row)) => out.stored(RowKind::Insert, row),
                (Some(old), None) => out.stored(RowKind::Delete, old),
                (Some(old), Some(new)) if old != new => out.stored(RowKind::UpdateAfter, new),
                _ => {}
            }
            if list.is_empty() {
                let (group, key) = grouped.key(gid);
                values.remove(0, group, key)?;
                continue;
            }
            value.clear();
            for row in list {
                push_prefixed(&mut value, row)?;
            }
            self.writes.put(values, &grouped.keys, first, &value)?;
        }
        self.writes.finish(values, &grouped.keys)?;
        if let Some(batch) = out.build(None, self.rows.codec(), &self.schema)? {
            ctx.out.emit(batch);
        }
        Ok(Progress::Done)
    }
}
