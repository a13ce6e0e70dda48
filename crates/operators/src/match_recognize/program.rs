//! What a MATCH_RECOGNIZE computes of its rows: which columns its matches keep, expressions over single rows, aggregates. Compiled once;
//! evaluated for all rows of a batch at once.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use flott_core::error::{Error, Result};
use flott_core::types::{Column as PlanColumn, arrow_schema};
use flott_expr::{CompiledCalc, CompiledExpr, EvalContext};
use flott_plan::expr::Expr;
use flott_plan::pattern::{MatchReference, MatchSpec};

use super::accumulate::{Aggregate, Argument, Running, fallible};
use super::columns::{Column, Scalar};
use super::condition::{self, Condition};

/// Number of an aggregate.
pub(super) type AggregateId = usize;

/// Compiled conditions, and what they and the measures need.
pub(super) struct Program {
    /// Input columns that rows of a match keep, ascending.
    pub(super) kept: Vec<usize>,
    /// By variable.
    pub(super) conditions: Vec<Option<Condition>>,
    /// All aggregates.
    pub(super) aggregates: Vec<Aggregate>,
    /// So many of them are read by conditions: their running values are kept.
    pub(super) in_conditions: usize,
    calc: CompiledCalc,
    width: usize,
}

/// Collects what is computed.
pub(super) struct Builder<'a> {
    input: &'a [PlanColumn],
    kept: &'a [usize],
    columns: Vec<Expr>,
    references: Vec<MatchReference>,
    aggregates: Vec<Aggregate>,
}

impl Builder<'_> {
    fn renumbered(&self, e: &Expr) -> Result<Expr> {
        let mut missing = false;
        e.visit_columns(&mut |i| missing |= !self.kept.contains(&i));
        if missing {
            return Err(Error::bug("an expression over a column that matches do not keep"));
        }
        let place = |i: usize| self.kept.iter().position(|k| *k == i).unwrap_or_default();
        Ok(e.replace_columns(&|i| Expr::column(place(i), self.input[i].data_type.clone())))
    }

    fn kept_columns(&self) -> Vec<PlanColumn> {
        self.kept.iter().map(|&i| self.input[i].clone()).collect()
    }

    /// The column of an expression over one row of the input; `None` when it may fail.
    pub(super) fn row_column(&mut self, e: &Expr) -> Result<Option<usize>> {
        let e = self.renumbered(e)?;
        if CompiledExpr::compile(&e, &self.kept_columns())?.is_fallible() {
            return Ok(None);
        }
        Ok(Some(self.columns.iter().position(|c| *c == e).unwrap_or_else(|| {
            self.columns.push(e);
            self.columns.len() - 1
        })))
    }

    /// The aggregate of a reference.
    pub(super) fn aggregate(&mut self, reference: &MatchReference) -> Result<AggregateId> {
        if let Some(known) = self.references.iter().position(|r| r == reference) {
            return Ok(known);
        }
        let MatchReference::Aggregate { variable, function, argument, data_type } = reference else {
            return Err(Error::bug("a reference that is no aggregate"));
        };
        let source = match argument {
            None => None,
            Some(e) => Some(match fallible(&self.renumbered(e)?, &self.kept_columns())? {
                Some(compiled) => Argument::Row(compiled),
                None => {
                    Argument::Column(self.row_column(e)?.ok_or_else(|| Error::bug("what cannot fail has a column"))?)
                }
            }),
        };
        let variable = variable.map(|v| v as u16);
        self.aggregates.push(Aggregate::new((variable, source), *function, argument.as_ref(), data_type)?);
        self.references.push(reference.clone());
        Ok(self.aggregates.len() - 1)
    }
}

/// The columns of the input that rows of a match are asked for.
pub(super) fn kept_columns(spec: &MatchSpec) -> Vec<usize> {
    let mut kept: Vec<usize> = Vec::new();
    spec.expressions().flat_map(|e| &e.references).for_each(|r| r.visit_columns(&mut |c| kept.push(c)));
    kept.sort_unstable();
    kept.dedup();
    kept
}

impl Program {
    /// Compiles the conditions of `spec`, and the aggregates that `measured` names.
    pub(super) fn compile(
        spec: &MatchSpec,
        input: &[PlanColumn],
        measured: &mut dyn FnMut(&mut Builder<'_>) -> Result<()>,
    ) -> Result<Self> {
        let kept = kept_columns(spec);
        let mut builder =
            Builder { input, kept: &kept, columns: Vec::new(), references: Vec::new(), aggregates: Vec::new() };
        let mut conditions = Vec::with_capacity(spec.variables.len());
        for (v, variable) in spec.variables.iter().enumerate() {
            let condition = variable.condition.as_ref();
            conditions.push(condition.map(|c| condition::compile(c, v as u16, &mut builder)).transpose()?);
        }
        let in_conditions = builder.aggregates.len();
        measured(&mut builder)?;
        let columns: Vec<PlanColumn> = builder.kept_columns();
        let names: Vec<String> = (0..builder.columns.len()).map(|i| format!("c{i}")).collect();
        let calc = CompiledCalc::compile(None, &builder.columns, &columns, &names)?;
        let (aggregates, width) = (builder.aggregates, builder.columns.len());
        Ok(Program { kept, conditions, aggregates, in_conditions, calc, width })
    }
}

/// The rows of all matches that are worked on, with what is computed of each.
pub(super) struct Rows {
    program: Arc<Program>,
    batch: RecordBatch,
    columns: Vec<Column>,
    /// What the columns are where there is no row.
    absent: Vec<Column>,
}

impl Rows {
    /// Evaluates what `program` computes of single rows; `batch` has the kept columns.
    pub(super) fn new(program: Arc<Program>, batch: RecordBatch, eval: &EvalContext) -> Result<Self> {
        let nothing: Vec<ArrayRef> = batch.schema().fields().iter().map(|f| new_null_array(f.data_type(), 1)).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(1));
        let nothing = RecordBatch::try_new_with_options(batch.schema(), nothing, &options)?;
        let compute = |batch: &RecordBatch| -> Result<Vec<Column>> {
            if program.width == 0 {
                return Ok(Vec::new());
            }
            let (columns, _) = program.calc.apply(batch, eval)?.ok_or_else(|| Error::bug("no filter, no rows lost"))?;
            columns.columns().iter().map(Column::of).collect()
        };
        let (columns, absent) = (compute(&batch)?, compute(&nothing)?);
        Ok(Rows { program, batch, columns, absent })
    }
    /// The program.
    pub(super) fn program(&self) -> &Program {
        &self.program
    }
    /// The kept columns of all rows.
    pub(super) fn batch(&self) -> &RecordBatch {
        &self.batch
    }
    /// Where a column of the input is among the kept ones.
    pub(super) fn place(&self, column: usize) -> usize {
        self.program.kept.iter().position(|k| *k == column).unwrap_or_default()
    }
    /// The value of a computed column.
    #[inline]
    pub(super) fn value(&self, column: usize, row: Option<usize>) -> Scalar<'_> {
        match row {
            Some(row) => self.columns[column].get(row),
            None => self.absent[column].get(0),
        }
    }
    /// Adds a row to a running value.
    pub(super) fn accumulate(
        &self,
        id: AggregateId,
        running: &mut Running,
        row: usize,
        eval: &EvalContext,
    ) -> Result<()> {
        let aggregate = &self.program.aggregates[id];
        match &aggregate.argument {
            None => aggregate.add(running, Scalar::Null),
            Some(Argument::Column(column)) => aggregate.add(running, self.value(*column, Some(row))),
            Some(Argument::Row(expr)) => {
                let value = expr.evaluate(&self.batch.slice(row, 1), eval)?;
                aggregate.add(running, Column::of(&value)?.get(0));
            }
        }
        Ok(())
    }
    /// The schema of the kept columns of `input`.
    pub(super) fn schema(input: &[PlanColumn], kept: &[usize]) -> arrow_schema::SchemaRef {
        arrow_schema(&kept.iter().map(|&i| input[i].clone()).collect::<Vec<_>>())
    }
}
