//! Aggregates over the rows of a match, one row at a time: a running value beside every node of the buffer, so that a condition over
//! a long match costs no more than over a short one. Results are made by the aggregates' own code.

use std::sync::Arc;

use arrow_array::ArrayRef;
use flott_core::error::{Error, Result};
use flott_core::types::{Column as PlanColumn, DataType};
use flott_expr::CompiledExpr;
use flott_plan::expr::Expr;
use flott_plan::spec::{AggregateCall, AggregateFunction};

use super::columns::Scalar;
use crate::aggregate::{AccKind, Beside, DECIMAL_OVERFLOW, Layout, finish, write_i64, write_i128};

/// An aggregate over the rows of one variable, or of all.
pub(super) struct Aggregate {
    /// The variable.
    pub(super) variable: Option<u16>,
    /// Its argument; none: COUNT(*).
    pub(super) argument: Option<Argument>,
    layout: Layout,
    counts: bool,
    single: bool,
    max: bool,
    sums: bool,
}

/// Where arguments come from.
pub(super) enum Argument {
    /// A column that is computed for all rows at once.
    Column(usize),
    /// An expression that may fail, so it is computed for the rows that count.
    Row(CompiledExpr),
}

/// What is known of the rows so far.
#[derive(Clone, Debug)]
pub(super) struct Running {
    count: i64,
    value: Scalar<'static>,
}

impl Default for Running {
    fn default() -> Self {
        Running { count: 0, value: Scalar::Null }
    }
}

impl Aggregate {
    /// The aggregate `function(argument)`.
    pub(super) fn new(
        (variable, argument): (Option<u16>, Option<Argument>),
        function: AggregateFunction,
        expr: Option<&Expr>,
        data_type: &DataType,
    ) -> Result<Self> {
        let call = AggregateCall {
            function,
            user: None,
            args: expr.iter().map(|_| 0).collect(),
            arg_types: expr.iter().map(|e| e.data_type.clone()).collect(),
            distinct: false,
            filter: None,
            data_type: data_type.clone(),
            name: format!("{function:?}").to_uppercase(),
        };
        let layout = Layout::new(&[call], false, 0)?;
        let Some(acc) = layout.outputs.first().map(|o| layout.accumulators[o.acc].kind) else {
            return Err(Error::bug("an aggregate without an accumulator"));
        };
        let single = matches!(acc, AccKind::Sum { single: true, .. });
        let max = matches!(acc, AccKind::Extreme { max: true, .. });
        let (counts, sums) = (acc == AccKind::Count, matches!(acc, AccKind::Sum { .. }));
        Ok(Aggregate { variable, argument, layout, counts, single, max, sums })
    }

    /// Whether rows of `variable` count.
    pub(super) fn reads(&self, variable: u16) -> bool {
        self.variable.is_none_or(|v| v == variable)
    }

    /// The running value after one more row.
    pub(super) fn add(&self, running: &mut Running, value: Scalar<'_>) {
        if self.argument.is_some() && value == Scalar::Null {
            return;
        }
        running.count += 1;
        if self.counts {
            return;
        }
        let value = match (&running.value, value) {
            (_, value) if !self.sums => match self.extreme(&running.value, value) {
                Some(better) => better,
                None => return,
            },
            (Scalar::Null, value) => value.into_owned(),
            (Scalar::Int(a), Scalar::Int(b)) => Scalar::Int(a.wrapping_add(b)),
            (Scalar::Float(a), Scalar::Float(b)) => Scalar::Float(a + b),
            (Scalar::Decimal(DECIMAL_OVERFLOW), _) => Scalar::Decimal(DECIMAL_OVERFLOW),
            (Scalar::Decimal(a), Scalar::Decimal(b)) => Scalar::Decimal(a.checked_add(b).unwrap_or(DECIMAL_OVERFLOW)),
            _ => return,
        };
        running.value = match value {
            Scalar::Float(f) if self.single => Scalar::Float(f64::from(f as f32)),
            value => value,
        };
    }

    fn extreme(&self, old: &Scalar<'static>, new: Scalar<'_>) -> Option<Scalar<'static>> {
        let wanted = if self.max { std::cmp::Ordering::Greater } else { std::cmp::Ordering::Less };
        (*old == Scalar::Null || new.compare(old) == Some(wanted)).then(|| new.into_owned())
    }

    /// The results of running values, as a column.
    pub(super) fn finish(&self, running: &[&Running]) -> Result<ArrayRef> {
        let width = self.layout.width;
        let acc = &self.layout.accumulators[self.layout.outputs[0].acc];
        let mut images = vec![0; width * running.len()];
        let mut beside: Vec<Vec<Beside>> = vec![Vec::new(); self.layout.beside];
        for (i, r) in running.iter().enumerate() {
            let image = &mut images[i * width..][..width];
            write_i64(image, acc.offset, r.count);
            match &r.value {
                Scalar::Int(v) if acc.kind != AccKind::Count => write_i64(image, acc.offset + 8, *v),
                Scalar::Float(v) => write_i64(image, acc.offset + 8, v.to_bits() as i64),
                Scalar::Decimal(v) => write_i128(image, acc.offset + 8, *v),
                _ => {}
            }
            if let Some(column) = acc.beside {
                beside[column].push(match &r.value {
                    Scalar::Bytes(b) => Some(Arc::from(&**b)),
                    _ => None,
                });
            }
        }
        let mut columns = finish(&self.layout, &images, &beside)?;
        columns.pop().ok_or_else(|| Error::bug("an aggregate without a result"))
    }
}

/// The argument's expression, compiled, if it may fail.
pub(super) fn fallible(expr: &Expr, input: &[PlanColumn]) -> Result<Option<CompiledExpr>> {
    let compiled = CompiledExpr::compile(expr, input)?;
    Ok(compiled.is_fallible().then_some(compiled))
}
