//! Output of a join: pairs of sources become columns, a condition judges candidates. Never touches state.

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array, new_null_array};
use arrow_buffer::BooleanBuffer;
use arrow_schema::SchemaRef;
use flott_core::batch::{ChangeBatch, RowKind};
use flott_core::error::Result;
use flott_core::types::{Column, arrow_schema};
use flott_expr::{CompiledExpr, EvalContext};
use flott_plan::JoinSpec;

/// Where one half of an output row comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source {
    /// A row of the input batch.
    Input(u32),
    /// A candidate from state.
    Found(u32),
    /// NULL padding.
    Null,
}

/// Collects output rows.
pub(crate) struct Builder {
    condition: Option<CompiledExpr>,
    pair_schema: SchemaRef,
    schema: SchemaRef,
    widths: [usize; 2],
    projects_right: bool,
    kinds: Vec<RowKind>,
    /// Per output row: the input's row, and the candidate, if any.
    input: Vec<Option<u32>>,
    found: Vec<Option<u32>>,
}

impl Builder {
    /// A builder for left columns followed by right columns, if the join has these.
    pub(crate) fn new(join: &JoinSpec, output: &[Column]) -> Result<Self> {
        let both: Vec<Column> = join.left.iter().chain(&join.right).cloned().collect();
        Ok(Builder {
            condition: join.condition.as_ref().map(|c| CompiledExpr::compile(c, &both)).transpose()?,
            pair_schema: arrow_schema(&both),
            schema: arrow_schema(output),
            widths: [join.left.len(), join.right.len()],
            projects_right: join.kind.projects_right(),
            kinds: Vec::new(),
            input: Vec::new(),
            found: Vec::new(),
        })
    }
    /// Output rows collected so far.
    pub(crate) fn len(&self) -> usize {
        self.kinds.len()
    }
    /// Which pairs of (row, candidate) pass the condition; `None`: all.
    pub(crate) fn judge(
        &self,
        port: usize,
        rows: &RecordBatch,
        found: &[ArrayRef],
        pairs: impl Iterator<Item = (u32, u32)>,
        eval: &EvalContext,
    ) -> Result<Option<BooleanBuffer>> {
        let Some(condition) = &self.condition else { return Ok(None) };
        let (input, candidates): (Vec<u32>, Vec<u32>) = pairs.unzip();
        let count = input.len();
        let (input, candidates) = (UInt32Array::from(input), UInt32Array::from(candidates));
        let columns = self.halves(port, rows.columns(), &input, found, &candidates, true)?;
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        let batch = RecordBatch::try_new_with_options(self.pair_schema.clone(), columns, &options)?;
        let result = condition.evaluate(&batch, eval)?;
        let result = result.as_boolean();
        Ok(Some(match result.nulls() {
            Some(nulls) => result.values() & nulls.inner(),
            None => result.values().clone(),
        }))
    }
    /// Adds `times` equal output rows, left half first.
    pub(crate) fn push(&mut self, kind: RowKind, a: Source, b: Source, times: i64) {
        let (mut input, mut found) = (None, None);
        for source in [a, b] {
            match source {
                Source::Input(i) => input = Some(i),
                Source::Found(i) => found = Some(i),
                Source::Null => {}
            }
        }
        for _ in 0..times {
            self.kinds.push(kind);
            self.input.push(input);
            self.found.push(found);
        }
    }
    /// The rows collected so far, which are then forgotten.
    pub(crate) fn build(
        &mut self,
        port: usize,
        rows: &RecordBatch,
        found: &[ArrayRef],
        append_only: bool,
    ) -> Result<Option<ChangeBatch>> {
        if self.kinds.is_empty() {
            return Ok(None);
        }
        let input = UInt32Array::from(std::mem::take(&mut self.input));
        let candidates = UInt32Array::from(std::mem::take(&mut self.found));
        let columns = self.halves(port, rows.columns(), &input, found, &candidates, self.projects_right)?;
        let options = RecordBatchOptions::new().with_row_count(Some(self.kinds.len()));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?;
        let kinds = (!append_only).then(|| self.kinds.as_slice().into());
        self.kinds.clear();
        Ok(Some(ChangeBatch::new(batch, kinds, None)))
    }
    fn halves(
        &self,
        port: usize,
        rows: &[ArrayRef],
        input: &UInt32Array,
        found: &[ArrayRef],
        candidates: &UInt32Array,
        with_right: bool,
    ) -> Result<Vec<ArrayRef>> {
        let mut columns = Vec::with_capacity(self.widths[0] + self.widths[1]);
        for half in 0..if with_right { 2 } else { 1 } {
            let (source, at) = if half == port { (rows, input) } else { (found, candidates) };
            for (i, column) in source.iter().enumerate() {
                debug_assert!(i < self.widths[half], "a half has as many columns as its side");
                columns.push(match at.null_count() == at.len() {
                    true => new_null_array(column.data_type(), at.len()),
                    false => arrow_select::take::take(column, at, None)?,
                });
            }
        }
        Ok(columns)
    }
}
