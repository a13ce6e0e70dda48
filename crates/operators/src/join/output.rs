//! Output of a join: pairs of sources become columns, a condition judges candidates. Never touches state.

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array, new_null_array};
use arrow_buffer::BooleanBuffer;
use arrow_schema::SchemaRef;
use flott_core::batch::{ChangeBatch, RowKind};
use flott_core::error::Result;
use flott_core::types::{Column, arrow_schema};
use flott_expr::{CompiledExpr, EvalContext};
use flott_plan::{Expr, JoinSpec};

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

/// What pairs must fulfil beyond equal keys, over the columns that it looks at.
struct Condition {
    expr: CompiledExpr,
    /// Of left columns followed by right ones.
    columns: Vec<usize>,
    schema: SchemaRef,
}

impl Condition {
    fn new(condition: &Expr, both: &[Column]) -> Result<Self> {
        let mut columns = Vec::new();
        condition.visit_columns(&mut |c| columns.push(c));
        columns.sort_unstable();
        columns.dedup();
        let used: Vec<Column> = columns.iter().map(|&c| both[c].clone()).collect();
        let place = |c: usize| columns.binary_search(&c).unwrap_or_default();
        let condition = condition.replace_columns(&|c| Expr::column(place(c), both[c].data_type.clone()));
        Ok(Condition { expr: CompiledExpr::compile(&condition, &used)?, schema: arrow_schema(&used), columns })
    }
}

/// Collects output rows.
pub(crate) struct Builder {
    condition: Option<Condition>,
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
            condition: join.condition.as_ref().map(|c| Condition::new(c, &both)).transpose()?,
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
        let column = |c: &usize| {
            let (half, c) = if *c < self.widths[0] { (0, *c) } else { (1, *c - self.widths[0]) };
            match half == port {
                true => gather(rows.column(c), &input),
                false => gather(&found[c], &candidates),
            }
        };
        let columns = condition.columns.iter().map(column).collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        let batch = RecordBatch::try_new_with_options(condition.schema.clone(), columns, &options)?;
        let result = condition.expr.evaluate(&batch, eval)?;
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
        let columns = self.halves(port, rows.columns(), &input, found, &candidates)?;
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
    ) -> Result<Vec<ArrayRef>> {
        let mut columns = Vec::with_capacity(self.widths[0] + self.widths[1]);
        for half in 0..if self.projects_right { 2 } else { 1 } {
            let (source, at) = if half == port { (rows, input) } else { (found, candidates) };
            debug_assert_eq!(source.len(), self.widths[half], "a half has as many columns as its side");
            if at.null_count() == at.len() {
                columns.extend(source.iter().map(|c| new_null_array(c.data_type(), at.len())));
            } else if source.first().is_some_and(|c| is_all(at, c.len())) {
                columns.extend_from_slice(source);
            } else {
                for column in source {
                    columns.push(gather(column, at)?);
                }
            }
        }
        Ok(columns)
    }
}

fn gather(column: &ArrayRef, at: &UInt32Array) -> Result<ArrayRef> {
    Ok(arrow_select::take::take(column, at, None)?)
}

/// Whether `at` is every row in order.
fn is_all(at: &UInt32Array, rows: usize) -> bool {
    at.null_count() == 0 && at.len() == rows && at.values().iter().enumerate().all(|(i, at)| i == *at as usize)
}
