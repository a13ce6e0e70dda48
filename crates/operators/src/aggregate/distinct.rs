//! DISTINCT: one table per argument list, keyed by group key and value, holding a count per filter. Turns rows into
//! masks of those that bring the first, or take the last, copy of a value; updates nothing else.

use arrow_array::{Array, ArrayRef, BooleanArray, UInt32Array};
use arrow_buffer::{BooleanBuffer, NullBuffer};
use arrow_schema::Field;
use std::sync::Arc;

use flott_core::error::Result;
use flott_core::key_group::hash_in_group;
use flott_core::keys::RowCodec;
use flott_core::state::{KeyBatch, Slot, StateBackend, TableDescriptor, TableId, TableKind, Ttl};
use flott_core::types::Column;

use super::layout::{DistinctSet, read_i64, write_i64};
use super::state::Input;

/// The state of one distinct set.
pub(crate) struct DistinctState {
    set: DistinctSet,
    table: TableId,
    codec: RowCodec,
    keys: KeyBatch,
    slots: Vec<Slot>,
}

/// TRUE rows of a BOOLEAN column.
pub(crate) fn true_rows(column: &ArrayRef) -> BooleanBuffer {
    let array = column.as_any().downcast_ref::<BooleanArray>().expect("the planner filters by a BOOLEAN column");
    match array.nulls().filter(|n| n.null_count() > 0) {
        Some(n) => array.values() & n.inner(),
        None => array.values().clone(),
    }
}

/// Rows where no argument is NULL; `None`: all of them.
pub(crate) fn present_rows(columns: &[ArrayRef], args: &[usize]) -> Option<BooleanBuffer> {
    let nulls = args.iter().fold(None, |n: Option<NullBuffer>, &a| NullBuffer::union(n.as_ref(), columns[a].nulls()));
    nulls.filter(|n| n.null_count() > 0).map(|n| n.inner().clone())
}

impl DistinctState {
    /// Registers the table of `set`.
    pub(crate) fn open(
        set: &DistinctSet,
        index: usize,
        key: &RowCodec,
        input: &[Column],
        state: &mut dyn StateBackend,
        ttl: Option<Ttl>,
    ) -> Result<Self> {
        let value = |&a: &usize| Arc::new(Field::new(&input[a].name, input[a].data_type.kind.to_arrow(), true));
        let fields: Vec<_> = key.fields().iter().cloned().chain(set.args.iter().map(value)).collect();
        let types: Vec<String> = set.args.iter().map(|&a| input[a].data_type.kind.to_string()).collect();
        let table = state.register(&TableDescriptor {
            name: format!("distinct-{index}"),
            kind: TableKind::Rows { width: 8 * set.filters.len() as u32 },
            schema: format!(
                "key,{}{};counts:{}",
                types.join(","),
                if set.nulls { ",with NULL" } else { "" },
                set.filters.len()
            ),
            ttl,
        })?;
        let codec = RowCodec::new(fields)?;
        Ok(DistinctState { set: set.clone(), table, codec, keys: KeyBatch::default(), slots: Vec::new() })
    }
    /// The table, to drop namespaces from.
    pub(crate) fn table(&self) -> TableId {
        self.table
    }
    /// Counts the values of a batch; one mask per filter.
    pub(crate) fn apply(&mut self, input: &Input<'_>, state: &mut dyn StateBackend) -> Result<Vec<BooleanBuffer>> {
        let filters: Vec<Option<BooleanBuffer>> =
            self.set.filters.iter().map(|f| f.map(|f| true_rows(&input.columns[f]))).collect();
        let rows = self.selected(input, &filters);
        self.encode(input, rows.as_deref())?;
        let namespaces: Vec<i64> = match (&rows, input.namespaces) {
            (Some(rows), [_, _, ..]) => rows.iter().map(|&i| input.namespaces[i as usize]).collect(),
            (_, namespaces) => namespaces.to_vec(),
        };
        let table = state.rows(self.table);
        table.resolve(&namespaces, &self.keys, true, &mut self.slots)?;
        let mut hits = vec![vec![false; input.rows]; filters.len()];
        table.update(&self.slots, &mut |j, counts| {
            let i = rows.as_ref().map_or(j, |r| r[j] as usize);
            let sign = input.signs.map_or(1, |s| s[i]);
            let turn = i64::from(sign > 0);
            for (f, filter) in filters.iter().enumerate() {
                if filter.as_ref().is_none_or(|b| b.value(i)) {
                    let count = read_i64(counts, f * 8) + sign;
                    write_i64(counts, f * 8, count);
                    hits[f][i] = count == turn;
                }
            }
        });
        if input.signs.is_some() {
            self.slots.sort_unstable();
            self.slots.dedup();
            for &slot in &self.slots {
                if table.row(slot).iter().all(|b| *b == 0) {
                    table.remove(slot);
                }
            }
        }
        Ok(hits.iter().map(|h| BooleanBuffer::collect_bool(h.len(), |i| h[i])).collect())
    }
    /// Rows with a value that passes a filter; `None`: all.
    fn selected(&self, input: &Input<'_>, filters: &[Option<BooleanBuffer>]) -> Option<Vec<u32>> {
        let mut selected = if self.set.nulls { None } else { present_rows(input.columns, &self.set.args) };
        if filters.iter().all(Option::is_some) {
            let any = filters.iter().flatten().cloned().reduce(|a, b| &a | &b);
            selected = match (selected, any) {
                (Some(a), Some(b)) => Some(&a & &b),
                (a, b) => a.or(b),
            };
        }
        selected.filter(|b| b.count_set_bits() < input.rows).map(|b| b.set_indices().map(|i| i as u32).collect())
    }
    /// Keys of (group key, value), in the key groups of the group keys.
    fn encode(&mut self, input: &Input<'_>, rows: Option<&[u32]>) -> Result<()> {
        let mut columns: Vec<ArrayRef> = input.key_columns.to_vec();
        columns.extend(self.set.args.iter().map(|&a| input.columns[a].clone()));
        if let Some(rows) = rows {
            let at = UInt32Array::from(rows.to_vec());
            for column in &mut columns {
                *column = arrow_select::take::take(column, &at, None)?;
            }
        }
        self.codec.encode_keys(&columns, input.max_parallelism, &mut self.keys)?;
        for j in 0..self.keys.len() {
            let group = input.keys.groups[rows.map_or(j, |r| r[j] as usize)];
            self.keys.groups[j] = group;
            self.keys.hashes[j] = hash_in_group(self.keys.hashes[j], group, input.max_parallelism);
        }
        Ok(())
    }
}
