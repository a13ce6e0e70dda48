//! GroupAggregate: unbounded aggregation. Folds each batch to one change per touched group; emits nothing on its own.

#[cfg(test)]
mod collected_tests;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow_schema::SchemaRef;
use flott_core::batch::{ChangeBatch, RowKind};
use flott_core::error::{Error, Result};
use flott_core::keys::RowCodec;
use flott_core::operator::{Operator, OperatorContext, OperatorProperties, Progress};
use flott_core::sink::ChangelogMode;
use flott_core::state::{KeyBatch, Ttl};
use flott_core::types::{Column, arrow_schema};
use flott_plan::spec::AggregateCall;

use crate::aggregate::{AggregateState, Beside, Input, Layout, finish, signs};

/// What the plan says beside the calls.
pub(crate) struct Options {
    /// Group columns.
    pub group: Vec<usize>,
    /// Whether the input retracts.
    pub input_mode: ChangelogMode,
    /// Whether `-U` rows are wanted.
    pub update_before: bool,
    /// TTL of groups.
    pub ttl_ms: Option<i64>,
}

/// The operator.
pub(crate) struct GroupAggregate {
    options: Options,
    layout: Arc<Layout>,
    codec: RowCodec,
    input: Vec<Column>,
    output: SchemaRef,
    state: Option<AggregateState>,
    keys: KeyBatch,
}

/// The codec of group columns.
pub(crate) fn key_codec(input: &[Column], group: &[usize]) -> Result<RowCodec> {
    RowCodec::new(group.iter().map(|&g| Arc::new(input[g].data_type.to_field(&input[g].name))).collect())
}

impl GroupAggregate {
    /// Lays out the state of `calls`.
    pub(crate) fn new(options: Options, calls: &[AggregateCall], input: &[Column], output: &[Column]) -> Result<Self> {
        let layout = Arc::new(Layout::new(calls, options.input_mode != ChangelogMode::Append, 0)?);
        let codec = key_codec(input, &options.group)?;
        let input = input.to_vec();
        let output = arrow_schema(output);
        Ok(GroupAggregate { options, layout, codec, input, output, state: None, keys: KeyBatch::default() })
    }

    /// What the batch changed: old and new image of each group whose result may differ, in pairs.
    fn changes(&mut self, input: &Input<'_>, ctx: &mut OperatorContext) -> Result<Changes> {
        let state = self.state.as_mut().expect("opened");
        let width = self.layout.width;
        let mut changes = Changes { beside: vec![Vec::new(); self.layout.beside], ..Changes::default() };
        for gid in 0..state.groups.len() {
            let old = &state.before[gid * width..(gid + 1) * width];
            let new = &state.groups.images[gid * width..(gid + 1) * width];
            let row = state.groups.first_rows[gid];
            let (was, is) = (self.layout.group_rows(old) > 0, self.layout.group_rows(new) > 0);
            match (was, is) {
                (false, false) => {}
                (false, true) => changes.add(row, RowKind::Insert, new, &state.beside_after, gid),
                (true, false) => changes.add(row, RowKind::Delete, old, &state.beside_before, gid),
                (true, true) => {
                    let beside_differs =
                        || state.beside_before.iter().zip(&state.beside_after).any(|(old, new)| old[gid] != new[gid]);
                    if old != new || self.options.ttl_ms.is_some() || beside_differs() {
                        changes.add(row, RowKind::UpdateBefore, old, &state.beside_before, gid);
                        changes.add(row, RowKind::UpdateAfter, new, &state.beside_after, gid);
                    }
                }
            }
            if !is {
                state.remove(gid, input, &mut *ctx.state)?;
            }
        }
        Ok(changes)
    }

    fn emit(&self, changes: &Changes, columns: &[ArrayRef], ctx: &mut OperatorContext) -> Result<()> {
        if changes.kinds.is_empty() {
            return Ok(());
        }
        let results = finish(&self.layout, &changes.images, &changes.beside)?;
        let rows = UInt32Array::from(changes.rows.clone());
        let keys = self.options.group.iter().map(|&g| Ok(arrow_select::take::take(&columns[g], &rows, None)?));
        let mut output = keys.collect::<Result<Vec<_>>>()?;
        output.extend(results.iter().cloned());
        let options = RecordBatchOptions::new().with_row_count(Some(changes.kinds.len()));
        let rows = RecordBatch::try_new_with_options(self.output.clone(), output, &options)?;
        let batch = ChangeBatch::new(rows, Some(changes.kinds.as_slice().into()), None);
        let keep = self.wanted(&changes.kinds, &results)?;
        ctx.out.emit(if keep.iter().all(|k| *k) { batch } else { batch.filter(&BooleanArray::from(keep))? });
        Ok(())
    }

    /// Rows to emit: no pair whose results are equal (unless a TTL makes the downstream count on renewals), no unwanted `-U`.
    fn wanted(&self, kinds: &[RowKind], results: &[ArrayRef]) -> Result<Vec<bool>> {
        let mut keep = vec![true; kinds.len()];
        let data: Vec<_> = results.iter().map(comparable).collect::<Result<_>>()?;
        for i in (0..kinds.len()).filter(|&i| kinds[i] == RowKind::UpdateBefore) {
            let same = self.options.ttl_ms.is_none() && data.iter().all(|d| same_value(d, i, i + 1));
            keep[i] = !same && self.options.update_before;
            keep[i + 1] = !same;
        }
        Ok(keep)
    }
}

/// Output rows before they become columns.
#[derive(Default)]
struct Changes {
    /// A row of the input batch with the group's columns.
    rows: Vec<u32>,
    kinds: Vec<RowKind>,
    images: Vec<u8>,
    beside: Vec<Vec<Beside>>,
}

impl Changes {
    fn add(&mut self, row: u32, kind: RowKind, image: &[u8], beside: &[Vec<Beside>], gid: usize) {
        self.rows.push(row);
        self.kinds.push(kind);
        self.images.extend_from_slice(image);
        for (column, values) in self.beside.iter_mut().zip(beside) {
            column.push(values[gid].clone());
        }
    }
}

/// The column in a form whose rows are compared byte by byte: nested values as their canonical bytes.
fn comparable(column: &ArrayRef) -> Result<arrow_data::ArrayData> {
    if !column.data_type().is_nested() {
        return Ok(column.to_data());
    }
    let field = Arc::new(arrow_schema::Field::new("result", column.data_type().clone(), true));
    let (mut offsets, mut bytes) = (Vec::new(), Vec::new());
    RowCodec::new(vec![field])?.encode_rows(std::slice::from_ref(column), &mut offsets, &mut bytes)?;
    let value = |w: &[u32]| bytes[w[0] as usize..w[1] as usize].to_vec();
    let rows: arrow_array::BinaryArray = offsets.windows(2).map(|w| Some(value(w))).collect();
    Ok(rows.to_data())
}

/// Whether two rows of a finished column are equal; such columns are primitive, boolean, string or binary, and not sliced.
fn same_value(data: &arrow_data::ArrayData, a: usize, b: usize) -> bool {
    if data.is_null(a) || data.is_null(b) {
        return data.is_null(a) && data.is_null(b);
    }
    let buffers = data.buffers();
    match data.data_type() {
        arrow_schema::DataType::Boolean => {
            arrow_buffer::bit_util::get_bit(&buffers[0], a) == arrow_buffer::bit_util::get_bit(&buffers[0], b)
        }
        other => match other.primitive_width() {
            Some(w) => buffers[0][a * w..(a + 1) * w] == buffers[0][b * w..(b + 1) * w],
            None => {
                let offsets = buffers[0].typed_data::<i32>();
                let value = |i: usize| &buffers[1][offsets[i] as usize..offsets[i + 1] as usize];
                value(a) == value(b)
            }
        },
    }
}

impl Operator for GroupAggregate {
    fn open(&mut self, ctx: &mut OperatorContext) -> Result<OperatorProperties> {
        let ttl = self.options.ttl_ms.map(|ttl_ms| Ttl { ttl_ms, update_on_read: false });
        let state = AggregateState::open(self.layout.clone(), &self.codec, &self.input, &mut *ctx.state, ttl)?;
        self.state = Some(state);
        Ok(OperatorProperties::default())
    }

    fn process(&mut self, _port: usize, batch: ChangeBatch, ctx: &mut OperatorContext) -> Result<Progress> {
        let columns = batch.rows.columns();
        let key_columns: Vec<ArrayRef> = self.options.group.iter().map(|&g| columns[g].clone()).collect();
        let rows = batch.num_rows();
        let mut keys = std::mem::take(&mut self.keys);
        encode_keys(&self.codec, &key_columns, rows, ctx.max_parallelism, &mut keys)?;
        let signs = signs(batch.kinds.as_deref());
        if signs.is_some() && self.options.input_mode == ChangelogMode::Append {
            return Err(Error::bug(format!(
                "operator `{}` was planned for appended rows and got a retraction",
                ctx.name
            )));
        }
        let input = Input {
            namespaces: &[0],
            keys: &keys,
            key_columns: &key_columns,
            columns,
            signs: signs.as_deref(),
            rows,
            max_parallelism: ctx.max_parallelism,
        };
        self.state.as_mut().expect("opened").apply(&input, true, &mut *ctx.state)?;
        let changes = self.changes(&input, ctx)?;
        self.emit(&changes, columns, ctx)?;
        self.keys = keys;
        Ok(Progress::Done)
    }
}

/// One key per row; without key columns the empty key.
pub(crate) fn encode_keys(
    codec: &RowCodec,
    columns: &[ArrayRef],
    rows: usize,
    max_parallelism: u32,
    keys: &mut KeyBatch,
) -> Result<()> {
    if !columns.is_empty() {
        return codec.encode_keys(columns, max_parallelism, keys);
    }
    keys.clear();
    (0..rows).for_each(|_| keys.push(&[], max_parallelism));
    Ok(())
}
