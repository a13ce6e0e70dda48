//! Correlate: a table function applied to each row, as in UNNEST and LATERAL TABLE(f(…)). Keeps no state; works through a batch in
//! parts, so that what it holds is bounded by the rows that one part becomes.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array, new_null_array};
use arrow_schema::SchemaRef;
use flott_core::batch::ChangeBatch;
use flott_core::error::{Error, Result};
use flott_core::operator::{Operator, OperatorContext, OperatorEvent, OperatorProperties, Progress};
use flott_core::table_function::BoundTableFunction;
use flott_core::types::{Column, arrow_schema};
use flott_expr::{CompiledCalc, EvalContext};
use flott_plan::spec::{CorrelateSpec, JoinKind};

use crate::emit::Pending;
use crate::zone::session_zone;

/// Rows of the input that the function is called with at once.
const PART_ROWS: usize = 512;

/// The operator.
pub(crate) struct Correlate {
    spec: CorrelateSpec,
    function: Arc<dyn BoundTableFunction>,
    args: CompiledCalc,
    schema: SchemaRef,
    zone: chrono_tz::Tz,
    /// A batch on its way, from the row on.
    rest: Option<(ChangeBatch, usize)>,
    pending: Pending,
}

impl Correlate {
    /// Compiles the arguments.
    pub(crate) fn new(
        spec: &CorrelateSpec,
        function: &Arc<dyn BoundTableFunction>,
        input: &[Column],
        output: &[Column],
    ) -> Result<Self> {
        Ok(Correlate {
            args: CompiledCalc::compile(None, &spec.args, input, &[])?,
            spec: spec.clone(),
            function: Arc::clone(function),
            schema: arrow_schema(output),
            zone: chrono_tz::UTC,
            rest: None,
            pending: Pending::default(),
        })
    }

    /// The rows that a part of a batch becomes.
    fn expand(&self, part: &ChangeBatch, eval: &EvalContext) -> Result<ChangeBatch> {
        let rows = part.num_rows();
        let args = match self.args.apply(&part.rows, eval)? {
            Some((args, _)) => args,
            None => return Err(Error::bug("arguments of a table function were filtered")),
        };
        let made = self.function.call(args.columns(), rows)?;
        let (from, at) = match self.spec.kind {
            JoinKind::Left => padded(&made.rows, rows),
            _ => (made.rows, None),
        };
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.schema.fields().len());
        for &c in &self.spec.left {
            columns.push(arrow_select::take::take(part.rows.column(c), &from, None)?);
        }
        for &c in &self.spec.right {
            let column = made.columns.get(c).ok_or_else(|| Error::bug("a table function gives too few columns"))?;
            columns.push(match &at {
                None => Arc::clone(column),
                Some(at) if column.is_empty() => new_null_array(column.data_type(), at.len()),
                Some(at) => arrow_select::take::take(column, at, None)?,
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(from.len()));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?;
        let kinds = part.kinds.as_ref().map(|k| from.values().iter().map(|&i| k[i as usize]).collect());
        let times = part.times.as_ref().map(|t| from.values().iter().map(|&i| t[i as usize]).collect());
        Ok(ChangeBatch::new(batch, kinds, times))
    }

    fn run(&mut self, ctx: &mut OperatorContext) -> Result<Progress> {
        let eval = EvalContext::of(ctx, self.zone);
        loop {
            if self.pending.flush(&mut ctx.out) == Progress::Blocked {
                return Ok(Progress::Blocked);
            }
            let Some((batch, start)) = self.rest.take() else { return Ok(Progress::Done) };
            let end = (start + PART_ROWS).min(batch.num_rows());
            let made = self.expand(&batch.slice(start, end - start), &eval)?;
            if made.num_rows() > 0 {
                self.pending.push(made);
            }
            if end < batch.num_rows() {
                self.rest = Some((batch, end));
            }
        }
    }
}

/// Row numbers with one for each of the `rows` rows that are absent, and where each finds the function's row (none: NULL). `None`: as made.
fn padded(made: &UInt32Array, rows: usize) -> (UInt32Array, Option<UInt32Array>) {
    let (mut from, mut at) = (Vec::with_capacity(made.len()), Vec::with_capacity(made.len()));
    let mut next = 0;
    for row in 0..rows as u32 {
        let start = next;
        while next < made.len() && made.value(next) == row {
            from.push(row);
            at.push(Some(next as u32));
            next += 1;
        }
        if next == start {
            from.push(row);
            at.push(None);
        }
    }
    if from.len() == made.len() {
        return (made.clone(), None);
    }
    (UInt32Array::from(from), Some(UInt32Array::from(at)))
}

impl Operator for Correlate {
    fn open(&mut self, ctx: &mut OperatorContext) -> Result<OperatorProperties> {
        self.zone = session_zone(&ctx.config)?;
        Ok(OperatorProperties::default())
    }
    fn process(&mut self, _port: usize, batch: ChangeBatch, ctx: &mut OperatorContext) -> Result<Progress> {
        self.rest = (batch.num_rows() > 0).then_some((batch, 0));
        self.run(ctx)
    }
    fn on_event(&mut self, _event: OperatorEvent, _ctx: &mut OperatorContext) -> Result<Progress> {
        Ok(Progress::Done)
    }
    fn resume(&mut self, ctx: &mut OperatorContext) -> Result<Progress> {
        self.run(ctx)
    }
}
