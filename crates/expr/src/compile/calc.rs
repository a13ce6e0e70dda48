//! Filter and projection in one: only the columns and fields that the projection reads go through the filter; never keeps state.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{BooleanArray, RecordBatch, RecordBatchOptions};
use arrow_schema::SchemaRef;
use flott_core::Result;
use flott_core::types::{Column, arrow_schema};
use flott_plan::expr::Expr;

use super::frame::{Frame, true_bits};
use super::{EvalContext, Program};

/// A filter and a projection over one input, compiled together: what both compute is computed once.
#[derive(Debug)]
pub struct CompiledCalc {
    program: Program,
    has_filter: bool,
    schema: SchemaRef,
}

impl CompiledCalc {
    /// Compiles `filter` and `projection` over `columns`; the output's schema gets the types of `projection` and the names of `output`.
    pub fn compile(filter: Option<&Expr>, projection: &[Expr], columns: &[Column], output: &[String]) -> Result<Self> {
        let mut exprs: Vec<Expr> = projection.to_vec();
        exprs.extend(filter.cloned());
        let program = Program::compile(&exprs, columns)?;
        let named = projection.iter().enumerate().map(|(i, e)| {
            let name = output.get(i).cloned().unwrap_or_else(|| format!("EXPR${i}"));
            Column::new(name, e.data_type.clone())
        });
        let schema = arrow_schema(&named.collect::<Vec<_>>());
        Ok(CompiledCalc { program, has_filter: filter.is_some(), schema })
    }

    /// The schema of the output.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The projected rows that pass, with the mask of the rows that passed (`None`: all); `None` when no row passes.
    pub fn apply(&self, batch: &RecordBatch, ctx: &EvalContext) -> Result<Option<(RecordBatch, Option<BooleanArray>)>> {
        let rows = batch.num_rows();
        let frame = Frame::root(&self.program, batch, ctx);
        if !self.has_filter {
            return Ok(Some((self.project(&frame)?, None)));
        }
        let filter = frame.eval(self.program.roots[self.program.roots.len() - 1])?;
        if filter.is_scalar() {
            let passes = true_bits(filter.array().as_boolean()).value(0);
            return if passes { Ok(Some((self.project(&frame)?, None))) } else { Ok(None) };
        }
        let passing = true_bits(filter.array().as_boolean());
        match passing.count_set_bits() {
            0 => Ok(None),
            n if n == rows => Ok(Some((self.project(&frame)?, None))),
            _ => {
                let mask = BooleanArray::new(passing, None);
                let rows = self.project(&frame.child(&mask))?;
                Ok(Some((rows, Some(mask))))
            }
        }
    }

    fn project(&self, frame: &Frame<'_>) -> Result<RecordBatch> {
        let width = self.schema.fields().len();
        let columns = self.program.roots[..width].iter().map(|id| frame.eval(*id)?.into_array(frame.rows()));
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(frame.rows()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
    }
}
