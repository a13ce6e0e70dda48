//! SortLimit: ORDER BY and LIMIT of a bounded input. Rows lie sorted in state (a multiset under their sort key); they are
//! emitted at the end of data, once, and then removed. Never emits before.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_row::{RowConverter, SortField};
use arrow_schema::{SchemaRef, SortOptions};
use flott_core::batch::ChangeBatch;
use flott_core::error::{Error, Result};
use flott_core::key_group::{KeyGroup, key_group_of, key_hash};
use flott_core::keys::RowCodec;
use flott_core::operator::{Operator, OperatorContext, OperatorEvent, OperatorProperties, Progress, TARGET_BATCH_ROWS};
use flott_core::state::{MapRange, MapTable, StateBackend, TableDescriptor, TableId, TableKind};
use flott_core::types::{Column, arrow_schema};
use flott_plan::spec::SortKey;

use crate::emit::Pending;
use crate::group_aggregate::key_codec;

/// With a LIMIT over appended rows, what cannot be emitted is removed once it is this many rows.
const PRUNE_ROWS: u64 = 65_536;

/// The operator.
pub(crate) struct SortLimit {
    keys: Vec<SortKey>,
    offset: u64,
    limit: Option<u64>,
    schema: SchemaRef,
    sorter: RowConverter,
    codec: RowCodec,
    state_schema: String,
    table: Option<TableId>,
    group: KeyGroup,
    /// Rows in state, copies counted.
    rows: u64,
    pruned: bool,
    emission: Option<Emission>,
    pending: Pending,
}

/// How far the output has come.
struct Emission {
    after: Option<Vec<u8>>,
    skip: u64,
    left: u64,
}

impl SortLimit {
    /// Sorts by `keys`, skips `offset` rows and emits `limit`.
    pub(crate) fn new(keys: &[SortKey], offset: u64, limit: Option<u64>, columns: &[Column]) -> Result<Self> {
        let field = |k: &SortKey| {
            let arrow = columns[k.column].data_type.kind.to_arrow();
            SortField::new_with_options(arrow, SortOptions { descending: k.descending, nulls_first: k.nulls_first })
        };
        let fields: Vec<SortField> = keys.iter().map(field).collect();
        if !RowConverter::supports_fields(&fields) {
            return Err(Error::user("sql.sort-type", "ORDER BY a column whose type has no order")
                .hint("sort by columns of numeric, string or time types"));
        }
        let all: Vec<usize> = (0..columns.len()).collect();
        let types: Vec<String> = columns.iter().map(|c| c.data_type.kind.to_string()).collect();
        Ok(SortLimit {
            keys: keys.to_vec(),
            offset,
            limit,
            schema: arrow_schema(columns),
            sorter: RowConverter::new(fields)?,
            codec: key_codec(columns, &all)?,
            state_schema: format!("arrow-row 59 {keys:?},row({}):count,sort-bytes", types.join(",")),
            table: None,
            group: 0,
            rows: 0,
            pruned: false,
            emission: None,
            pending: Pending::default(),
        })
    }

    fn map<'a>(&self, state: &'a mut dyn StateBackend) -> Result<&'a mut dyn MapTable> {
        Ok(state.map(self.table.ok_or_else(|| Error::bug("SortLimit was used before it was opened"))?))
    }

    /// Entries are the sort key followed by the row: unique per distinct row, in output order.
    fn absorb(&mut self, batch: &ChangeBatch, state: &mut dyn StateBackend) -> Result<()> {
        let columns: Vec<ArrayRef> = self.keys.iter().map(|k| batch.rows.column(k.column).clone()).collect();
        let sorted = if columns.is_empty() { None } else { Some(self.sorter.convert_columns(&columns)?) };
        let mut entry = Vec::new();
        for row in 0..batch.num_rows() {
            entry.clear();
            if let Some(sorted) = &sorted {
                entry.extend_from_slice(sorted.row(row).as_ref());
            }
            let sort_bytes = entry.len() as u32;
            self.codec.encode_row(batch.rows.columns(), row, &mut entry)?;
            let add = batch.kind(row).is_add();
            if !add && self.pruned {
                return Err(Error::bug("a row was retracted from a LIMIT whose input was appended only until now"));
            }
            let map = self.map(state)?;
            let count = map.get(0, self.group, &[], &entry)?.map_or(Ok(0), |v| decode(&v).map(|c| c.0))?;
            let count = if add { count + 1 } else { count - 1 };
            if count == 0 {
                map.remove(0, self.group, &[], &entry)?;
            } else {
                let mut value = [0; 12];
                value[..8].copy_from_slice(&count.to_le_bytes());
                value[8..].copy_from_slice(&sort_bytes.to_le_bytes());
                map.put(0, self.group, &[], &entry, &value)?;
            }
            self.rows = if add { self.rows + 1 } else { self.rows.saturating_sub(1) };
        }
        Ok(())
    }

    /// Removes entries that come after the last row that can be emitted.
    fn prune(&mut self, state: &mut dyn StateBackend) -> Result<()> {
        let Some(wanted) = self.limit.map(|l| l.saturating_add(self.offset)) else { return Ok(()) };
        if self.rows < wanted.saturating_mul(2).saturating_add(PRUNE_ROWS) {
            return Ok(());
        }
        let (mut seen, mut after, group) = (0u64, None::<Vec<u8>>, self.group);
        let map = self.map(state)?;
        loop {
            let mut entries = Vec::new();
            let range = MapRange { namespace: 0, group, key: &[], prefix: &[], after: after.as_deref() };
            let more = map.scan(range, TARGET_BATCH_ROWS, &mut entries)?;
            for (entry, value) in &entries {
                if seen >= wanted {
                    map.remove(0, group, &[], entry)?;
                } else {
                    seen += u64::try_from(decode(value)?.0).unwrap_or(0);
                }
            }
            after = entries.pop().map(|e| e.0);
            if !more {
                break;
            }
        }
        (self.rows, self.pruned) = (seen, true);
        Ok(())
    }

    fn run(&mut self, ctx: &mut OperatorContext) -> Result<Progress> {
        loop {
            if self.pending.flush(&mut ctx.out) == Progress::Blocked {
                return Ok(Progress::Blocked);
            }
            let Some(mut emission) = self.emission.take() else { return Ok(Progress::Done) };
            let mut entries: Vec<(Vec<u8>, Arc<[u8]>)> = Vec::new();
            let range =
                MapRange { namespace: 0, group: self.group, key: &[], prefix: &[], after: emission.after.as_deref() };
            let more = self.map(&mut *ctx.state)?.scan(range, TARGET_BATCH_ROWS, &mut entries)?;
            let mut rows: Vec<&[u8]> = Vec::new();
            for (entry, value) in &entries {
                let (count, sort_bytes) = decode(value)?;
                let count = u64::try_from(count).unwrap_or(0);
                let skipped = count.min(emission.skip);
                emission.skip -= skipped;
                let now = (count - skipped).min(emission.left);
                emission.left -= now;
                let row = entry.get(sort_bytes..).ok_or_else(damaged)?;
                rows.extend(std::iter::repeat_n(row, usize::try_from(now).unwrap_or(usize::MAX)));
            }
            if !rows.is_empty() {
                let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
                let columns = self.codec.decode(rows)?;
                let batch = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?;
                self.pending.push(ChangeBatch::append(batch));
            }
            if more && emission.left > 0 {
                emission.after = entries.pop().map(|e| e.0);
                self.emission = Some(emission);
            } else {
                // Nothing is left to be emitted again after a restore.
                let group = self.group;
                self.map(&mut *ctx.state)?.clear(0, group, &[])?;
            }
        }
    }
}

fn damaged() -> Error {
    Error::corrupt("state.row", "a row of SortLimit in state is damaged")
}

/// Copies of an entry, and the length of its sort key.
fn decode(value: &[u8]) -> Result<(i64, usize)> {
    let count = value.get(..8).and_then(|b| b.try_into().ok()).map(i64::from_le_bytes).ok_or_else(damaged)?;
    let length = value.get(8..12).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes).ok_or_else(damaged)?;
    Ok((count, length as usize))
}

impl Operator for SortLimit {
    fn open(&mut self, ctx: &mut OperatorContext) -> Result<OperatorProperties> {
        self.group = key_group_of(key_hash(&[]), ctx.max_parallelism);
        let (name, schema) = ("sorted".to_owned(), self.state_schema.clone());
        let table = ctx.state.register(&TableDescriptor { name, kind: TableKind::Map, schema, ttl: None })?;
        self.table = Some(table);
        let mut rows = 0;
        ctx.state.map(table).for_each(&mut |_, _, _, _, value| {
            rows += u64::try_from(decode(value)?.0).unwrap_or(0);
            Ok(())
        })?;
        self.rows = rows;
        Ok(OperatorProperties::default())
    }
    fn process(&mut self, _port: usize, batch: ChangeBatch, ctx: &mut OperatorContext) -> Result<Progress> {
        self.absorb(&batch, &mut *ctx.state)?;
        if batch.kinds.is_none() {
            self.prune(&mut *ctx.state)?;
        }
        Ok(Progress::Done)
    }
    fn on_event(&mut self, event: OperatorEvent, ctx: &mut OperatorContext) -> Result<Progress> {
        if event == OperatorEvent::EndOfData {
            self.emission = Some(Emission { after: None, skip: self.offset, left: self.limit.unwrap_or(u64::MAX) });
            return self.run(ctx);
        }
        Ok(Progress::Done)
    }
    fn resume(&mut self, ctx: &mut OperatorContext) -> Result<Progress> {
        self.run(ctx)
    }
}
