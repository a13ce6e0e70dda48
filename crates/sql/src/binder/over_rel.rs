//! Functions with OVER as relations: numbered rows, or an OVER aggregation. All of a SELECT have one window.

use flott_core::Result;
use flott_core::types::TypeKind;
use flott_plan::spec::AggregateFunction;
use flott_plan::{Expr, ExprKind, OverFunction, SortKey};

use super::over::{OVER_BASE, OverCall, OverKind};
use crate::diag::unsupported;
use crate::planner::rel::{Rel, RelColumn, RelNode, RelOver, calc, derived_column};

/// The relation with the results, and `exprs` over it.
pub(crate) fn over_rows(rel: Rel, calls: &[OverCall], exprs: Vec<Expr>) -> Result<(Rel, Vec<Expr>)> {
    let Some(first) = calls.first() else { return Ok((rel, exprs)) };
    if let Some(other) = calls.iter().find(|c| c.window != first.window) {
        let error = unsupported("several OVER with different windows in one SELECT", other.position);
        let detail = "ROW_NUMBER has the frame ROWS UNBOUNDED PRECEDING, functions without a frame have RANGE UNBOUNDED PRECEDING";
        return Err(error.detail(detail).hint("use one subquery for each window"));
    }
    let mut below = Below::new(&rel);
    let mut partition: Vec<usize> = Vec::new();
    for e in &first.window.partition {
        let i = below.column(e);
        if !partition.contains(&i) {
            partition.push(i);
        }
    }
    let order: Vec<SortKey> =
        first.window.order.iter().map(|(e, k)| SortKey { column: below.column(e), ..*k }).collect();
    let numbers_only = calls.iter().all(|c| c.kind == OverKind::RowNumber);
    let over: Vec<RelOver> = calls.iter().map(|c| below.call(c)).collect();
    let Below { all, columns, .. } = below;
    let input = calc(rel, None, all, columns);
    let width = input.columns.len();
    let mut columns = input.columns.clone();
    let position = first.position;
    let node = if numbers_only {
        columns.push(RelColumn::new("w0$o0", TypeKind::BigInt.not_null()));
        RelNode::Rank { input: Box::new(input), partition, order, limit: None, with_rank: true, position }
    } else {
        // Results that may be corrected are not in the order of time any more.
        if input.columns[order[0].column].time.is_none() {
            columns.iter_mut().for_each(|c| (c.time, c.window, c.attached) = (None, None, None));
        }
        let name = |i: usize| format!("w0$o{i}");
        columns.extend(over.iter().enumerate().map(|(i, c)| RelColumn::new(name(i), c.data_type.clone())));
        RelNode::Over { input: Box::new(input), partition, order, frame: first.window.frame, calls: over, position }
    };
    let moved = |e: &Expr| e.renumber(&|i| if i >= OVER_BASE { width + i - OVER_BASE } else { i });
    let exprs = exprs.iter().map(moved).collect();
    Ok((Rel { node, columns }, exprs))
}

/// The Calc below: the input's columns, and each expression of the window and the arguments.
struct Below<'a> {
    input: &'a [RelColumn],
    all: Vec<Expr>,
    columns: Vec<RelColumn>,
}

impl<'a> Below<'a> {
    fn new(rel: &'a Rel) -> Self {
        Below { input: &rel.columns, all: rel.identity(), columns: rel.columns.clone() }
    }
    fn column(&mut self, e: &Expr) -> usize {
        if let ExprKind::Column(i) = e.kind {
            return i;
        }
        self.all.iter().position(|x| x == e).unwrap_or_else(|| {
            self.columns.push(derived_column(self.input, e, &format!("$over{}", self.all.len())));
            self.all.push(e.clone());
            self.all.len() - 1
        })
    }
    fn call(&mut self, call: &OverCall) -> RelOver {
        let arg = call.arg.as_ref().map(|e| self.column(e));
        let more = call.more.iter().map(|e| self.column(e)).collect();
        let (function, name) = match call.kind {
            OverKind::RowNumber => (OverFunction::Aggregate(AggregateFunction::Count), "ROW_NUMBER"),
            OverKind::Rank(name) => (OverFunction::Aggregate(AggregateFunction::Count), name),
            OverKind::Aggregate(function) => (OverFunction::Aggregate(function), ""),
            OverKind::User => (OverFunction::Aggregate(AggregateFunction::User), ""),
            OverKind::FirstValue => (OverFunction::FirstValue, "FIRST_VALUE"),
            OverKind::LastValue => (OverFunction::LastValue, "LAST_VALUE"),
            OverKind::Lag(offset) => {
                let default = call.default.as_ref().map(|e| self.column(e));
                (OverFunction::Lag { offset, default }, "LAG")
            }
        };
        let (user, data_type) = (call.user.clone(), call.data_type.clone());
        RelOver { function, name, arg, more, user, distinct: call.distinct, data_type, bounded: false }
    }
}
