//! ROW_NUMBER() OVER (…): collected while the SELECT list is bound, then turned into relations that number rows. Other functions
//! with OVER are refused.

use flott_core::error::Position;
use flott_core::types::{DataType, TypeKind};
use flott_core::{Error, Result};
use flott_plan::{Expr, ExprKind, SortKey};
use sqlparser::ast::{Function, Spanned, WindowSpec, WindowType};

use super::expr::ExprBinder;
use super::function::{arguments_len, function_name};
use super::query::sort_key;
use crate::diag::{place, position, unsupported};
use crate::planner::rel::{Rel, RelColumn, RelNode, calc, derived_column};

/// While binding, the number of call `k` is column `OVER_BASE + k`: beyond the columns of any relation.
pub(crate) const OVER_BASE: usize = 1 << 24;

/// A call, over the columns of the SELECT's input.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct OverCall {
    partition: Vec<Expr>,
    order: Vec<(Expr, SortKey)>,
    position: Option<Position>,
}

/// The type of a row's number.
fn number_type() -> DataType {
    TypeKind::BigInt.not_null()
}

impl ExprBinder<'_> {
    /// A function with OVER; the column that stands for its result.
    pub(super) fn over_call(&mut self, f: &Function) -> Result<Expr> {
        let name = function_name(f);
        let at = position(f.name.span());
        let window = match (&f.over, name.as_str()) {
            (Some(WindowType::WindowSpec(window)), "ROW_NUMBER") => window,
            (Some(WindowType::NamedWindow(_)), _) => {
                return Err(unsupported("OVER with the name of a WINDOW", at).hint("write the window behind OVER"));
            }
            (None, _) => {
                let error = Error::user("sql.function", format!("{name} needs OVER (PARTITION BY … ORDER BY …)"));
                return Err(place(error, at));
            }
            _ => {
                let error = unsupported(&format!("{name} with OVER"), at);
                return Err(
                    error.hint("there is ROW_NUMBER; use an aggregate with GROUP BY, or a window table function")
                );
            }
        };
        if self.over.is_none() {
            let error = Error::user("sql.over", format!("{name} with OVER is not allowed in {}", self.place));
            return Err(place(error.hint("number the rows in a subquery, and use the number outside of it"), at));
        }
        if arguments_len(f) > 0 {
            return Err(place(Error::user("sql.function", format!("{name} takes no arguments")), at));
        }
        let call = self.over_window(window, at)?;
        let Some(calls) = self.over.as_deref_mut() else { return Err(Error::bug("checked above")) };
        let k = calls.iter().position(|c| c.partition == call.partition && c.order == call.order);
        let k = k.unwrap_or_else(|| {
            calls.push(call);
            calls.len() - 1
        });
        Ok(Expr::column(OVER_BASE + k, number_type()))
    }

    fn over_window(&mut self, window: &WindowSpec, at: Option<Position>) -> Result<OverCall> {
        if window.window_frame.is_some() || window.window_name.is_some() {
            return Err(place(Error::user("sql.over", "ROW_NUMBER takes no ROWS or RANGE"), at));
        }
        if window.order_by.is_empty() {
            let error = Error::user("sql.over", "ROW_NUMBER needs an ORDER BY in its OVER");
            return Err(place(error.hint("say which rows come first"), at));
        }
        let calls = self.over.take();
        let bound = self.over_parts(window, at);
        self.over = calls;
        bound
    }

    fn over_parts(&mut self, window: &WindowSpec, at: Option<Position>) -> Result<OverCall> {
        let partition = window.partition_by.iter().map(|e| self.bind(e)).collect::<Result<Vec<_>>>()?;
        let mut order = Vec::new();
        for o in &window.order_by {
            order.push((self.bind(&o.expr)?, sort_key(0, o)));
        }
        Ok(OverCall { partition, order, position: at })
    }
}

impl OverCall {
    /// The call over other columns.
    pub(crate) fn rewritten(&self, f: &mut dyn FnMut(&Expr) -> Result<Expr>) -> Result<OverCall> {
        Ok(OverCall {
            partition: self.partition.iter().map(&mut *f).collect::<Result<_>>()?,
            order: self.order.iter().map(|(e, k)| Ok((f(e)?, *k))).collect::<Result<_>>()?,
            position: self.position,
        })
    }
}

/// The relation with the rows' numbers, and `exprs` over it.
pub(crate) fn number_rows(rel: Rel, calls: Vec<OverCall>, exprs: Vec<Expr>) -> Result<(Rel, Vec<Expr>)> {
    let Some(first) = calls.first() else { return Ok((rel, exprs)) };
    if let Some(second) = calls.get(1) {
        let error = unsupported("several ROW_NUMBER with different windows in one SELECT", second.position);
        return Err(error.hint("use one subquery for each"));
    }
    let (call, mut all, mut columns) = (first.clone(), rel.identity(), rel.columns.clone());
    let mut column = |e: &Expr| {
        if let ExprKind::Column(i) = e.kind {
            return i;
        }
        all.iter().position(|x| x == e).unwrap_or_else(|| {
            columns.push(derived_column(&rel.columns, e, &format!("$over{}", all.len())));
            all.push(e.clone());
            all.len() - 1
        })
    };
    let mut partition: Vec<usize> = Vec::new();
    for e in &call.partition {
        let i = column(e);
        if !partition.contains(&i) {
            partition.push(i);
        }
    }
    let order = call.order.iter().map(|(e, k)| SortKey { column: column(e), ..*k }).collect();
    let input = calc(rel, None, all, columns);
    let number = input.columns.len();
    let mut columns = input.columns.clone();
    columns.push(RelColumn::new("w0$o0", number_type()));
    let (input, limit, position) = (Box::new(input), None, call.position);
    let node = RelNode::Rank { input, partition, order, limit, with_rank: true, position };
    let moved = |e: &Expr| crate::planner::prune::renumber(e, &|i| if i >= OVER_BASE { number } else { i });
    let exprs = exprs.iter().map(moved).collect();
    Ok((Rel { node, columns }, exprs))
}
