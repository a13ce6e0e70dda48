//! MEASURES: the rows that complete matches, all of a batch at once: each value a measure names is gathered as a column, then the
//! expressions are evaluated.

use std::sync::Arc;

use arrow_array::types::TimestampMillisecondType;
use arrow_array::{Array, ArrayRef, PrimitiveArray, RecordBatch, RecordBatchOptions, UInt32Array, new_null_array};
use arrow_schema::{DataType as Arrow, SchemaRef, TimeUnit};
use flott_core::error::{Error, Result};
use flott_core::keys::RowCodec;
use flott_core::types::{Column, arrow_schema};
use flott_expr::{CompiledCalc, EvalContext};
use flott_plan::expr::Expr;
use flott_plan::pattern::{MatchReference, MatchSpec};

use super::accumulate::Running;
use super::condition::RowRef;
use super::program::{AggregateId, Builder, Rows};
use crate::pattern::{Buffer, Match};

enum Leaf {
    Row(RowRef, usize),
    Aggregate(AggregateId),
    Rowtime,
}

/// The measures, compiled.
pub(super) struct Measures {
    leaves: Vec<Leaf>,
    leaf_columns: Vec<Column>,
    calc: CompiledCalc,
    schema: SchemaRef,
}

/// What measures name, without repetition, and the measures over it.
pub(super) struct Plan {
    references: Vec<MatchReference>,
    exprs: Vec<Expr>,
}

impl Plan {
    /// Collects what the measures of `spec` name.
    pub(super) fn new(spec: &MatchSpec) -> Self {
        let mut references: Vec<MatchReference> = Vec::new();
        let mut exprs = Vec::new();
        for m in &spec.measures {
            let places: Vec<usize> = m
                .references
                .iter()
                .map(|r| {
                    references.iter().position(|known| known == r).unwrap_or_else(|| {
                        references.push(r.clone());
                        references.len() - 1
                    })
                })
                .collect();
            let at = |i: usize| Expr::column(places[i], m.references[i].data_type().clone());
            exprs.push(m.expr.replace_columns(&at));
        }
        Plan { references, exprs }
    }

    /// The measures; `output` are all columns of the result, partition columns first.
    pub(super) fn compile(&self, builder: &mut Builder<'_>, output: &[Column]) -> Result<Measures> {
        let leaf = |r: &MatchReference| -> Result<Leaf> {
            Ok(match r {
                MatchReference::Column { variable, first, offset, column, .. } => {
                    let variable = variable.map(|v| v as u16);
                    Leaf::Row(RowRef { variable, first: *first, offset: *offset }, *column)
                }
                MatchReference::Aggregate { .. } => Leaf::Aggregate(builder.aggregate(r)?),
                MatchReference::Rowtime { .. } => Leaf::Rowtime,
            })
        };
        let mut leaf = leaf;
        let leaves = self.references.iter().map(&mut leaf).collect::<Result<Vec<_>>>()?;
        let of = |(i, r): (usize, &MatchReference)| Column::new(format!("r{i}"), r.data_type().clone());
        let leaf_columns: Vec<Column> = self.references.iter().enumerate().map(of).collect();
        let names: Vec<String> = output.iter().rev().take(self.exprs.len()).rev().map(|c| c.name.clone()).collect();
        let calc = CompiledCalc::compile(None, &self.exprs, &leaf_columns, &names)?;
        Ok(Measures { leaves, leaf_columns, calc, schema: arrow_schema(output) })
    }
}

/// Matches of a batch that are to become rows.
#[derive(Default)]
pub(super) struct Found {
    /// Key of each match.
    keys: Vec<Vec<u8>>,
    times: Vec<i64>,
    /// By leaf: the row of each match.
    rows: Vec<Vec<Option<u32>>>,
    /// By leaf: the running value of each match.
    running: Vec<Vec<Running>>,
}

impl Found {
    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

impl Measures {
    /// Notes a match of `key` before its rows may go.
    pub(super) fn note(
        &self,
        found: &mut Found,
        key: &[u8],
        m: Match,
        (buffer, rows_of): (&Buffer, &[u32]),
        (rows, eval): (&Rows, &EvalContext),
    ) -> Result<()> {
        found.rows.resize_with(self.leaves.len(), Vec::new);
        found.running.resize_with(self.leaves.len(), Vec::new);
        found.keys.push(key.to_vec());
        found.times.push(m.time);
        for (i, leaf) in self.leaves.iter().enumerate() {
            match leaf {
                Leaf::Row(r, _) => {
                    let event = match r.first {
                        true => buffer.first(m.tail, r.variable, r.offset),
                        false => buffer.last(m.tail, r.variable, r.offset),
                    };
                    found.rows[i].push(event.map(|e| rows_of[e as usize]));
                }
                Leaf::Aggregate(id) => {
                    let mut events = Vec::new();
                    buffer.for_each_back(m.tail, rows.program().aggregates[*id].variable, |e| events.push(e));
                    let mut running = Running::default();
                    for e in events.iter().rev() {
                        rows.accumulate(*id, &mut running, rows_of[*e as usize] as usize, eval)?;
                    }
                    found.running[i].push(running);
                }
                Leaf::Rowtime => {}
            }
        }
        Ok(())
    }

    /// The rows of the result.
    pub(super) fn build(
        &self,
        found: &Found,
        codec: &RowCodec,
        rows: &Rows,
        eval: &EvalContext,
    ) -> Result<RecordBatch> {
        let count = found.keys.len();
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        let mut leaves: Vec<ArrayRef> = Vec::with_capacity(self.leaves.len());
        for (i, leaf) in self.leaves.iter().enumerate() {
            leaves.push(match leaf {
                Leaf::Row(_, column) => {
                    let indices: UInt32Array = found.rows[i].iter().copied().collect();
                    let from = rows.batch().column(rows.place(*column));
                    match from.is_empty() {
                        true => new_null_array(from.data_type(), count),
                        false => arrow_select::take::take(from, &indices, None)?,
                    }
                }
                Leaf::Aggregate(id) => {
                    let running: Vec<&Running> = found.running[i].iter().collect();
                    rows.program().aggregates[*id].finish(&running)?
                }
                Leaf::Rowtime => timestamps(&found.times, &self.leaf_columns[i])?,
            });
        }
        let schema = arrow_schema(&self.leaf_columns);
        let leaves = RecordBatch::try_new_with_options(schema, leaves, &options)?;
        let mut columns = codec.decode(found.keys.iter().map(Vec::as_slice))?;
        if !self.calc.schema().fields().is_empty() {
            let (measured, _) = self.calc.apply(&leaves, eval)?.ok_or_else(|| Error::bug("no filter, no rows lost"))?;
            columns.extend(measured.columns().iter().cloned());
        }
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
    }
}

fn timestamps(times: &[i64], column: &Column) -> Result<ArrayRef> {
    match column.data_type.kind.to_arrow() {
        arrow @ Arrow::Timestamp(TimeUnit::Millisecond, _) => {
            let times = PrimitiveArray::<TimestampMillisecondType>::from_iter_values(times.iter().copied());
            Ok(Arc::new(times.with_data_type(arrow)))
        }
        other => Err(Error::bug(format!("MATCH_ROWTIME() of type {other}"))),
    }
}
