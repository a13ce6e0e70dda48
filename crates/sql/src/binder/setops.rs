//! INTERSECT and EXCEPT: both inputs in one, marked by side, grouped by all columns. Builds relations, runs nothing.

use flott_core::Result;
use flott_core::error::Position;
use flott_core::types::TypeKind;
use flott_expr::{bind_call, bind_case};
use flott_plan::spec::AggregateFunction;
use flott_plan::{Expr, Literal};
use sqlparser::ast::{SetExpr, SetOperator, SetQuantifier, Spanned};

use super::query::{QueryBinder, union_all};
use crate::diag::{position, unsupported};
use crate::planner::rel::{Rel, RelAggregate, RelColumn, RelNode};

fn bigint(n: i64) -> Expr {
    Expr::literal(Literal::Int(n), TypeKind::BigInt.not_null())
}

/// The relation with two more columns.
fn marked(rel: Rel, left: i64, right: i64) -> Rel {
    let mut exprs = rel.identity();
    exprs.extend([bigint(left), bigint(right)]);
    let mut names: Vec<String> = rel.columns.iter().map(|c| c.name.clone()).collect();
    names.extend(["$left".to_owned(), "$right".to_owned()]);
    rel.project(exprs, &names)
}

impl QueryBinder<'_> {
    /// INTERSECT or EXCEPT.
    pub(super) fn intersect_or_except(&mut self, body: &SetExpr) -> Result<Rel> {
        let SetExpr::SetOperation { op, set_quantifier, left, right } = body else {
            return Err(flott_core::Error::bug("a set operation"));
        };
        let at = position(right.span());
        let all = match set_quantifier {
            SetQuantifier::All => true,
            SetQuantifier::None | SetQuantifier::Distinct => false,
            other => return Err(unsupported(&format!("{op} {other}"), at)),
        };
        let left = self.set_expr(left)?;
        let right = self.set_expr(right)?;
        combine(left, right, (*op == SetOperator::Intersect, all), at)
    }
}

fn combine(left: Rel, right: Rel, (intersect, all): (bool, bool), at: Option<Position>) -> Result<Rel> {
    let width = left.columns.len();
    super::query::check_widths(&left, &right, at)?;
    let both = union_all(vec![marked(left, 1, 0), marked(right, 0, 1)], at)?;
    // Counts tell copies; without them MAX is enough, which changes less often.
    let function = if all { AggregateFunction::Sum } else { AggregateFunction::Max };
    let data_type = TypeKind::BigInt.not_null();
    let aggregates: Vec<RelAggregate> = [width, width + 1]
        .map(|arg| RelAggregate {
            function,
            user: None,
            arg: Some(arg),
            more: Vec::new(),
            distinct: false,
            filter: None,
            data_type: data_type.clone(),
        })
        .into();
    let mut columns: Vec<RelColumn> =
        both.columns[..width].iter().map(|c| RelColumn::new(&c.name, c.data_type.clone())).collect();
    columns.extend(["$left", "$right"].map(|n| RelColumn::new(n, data_type.clone())));
    let node = RelNode::Aggregate { input: Box::new(both), group: (0..width).collect(), aggregates, ttl: None };
    let rel = Rel { node, columns };
    let side = |i: usize| Expr::column(width + i, data_type.clone());
    let visible: Vec<usize> = (0..width).collect();
    if !all {
        let right_is = bigint(i64::from(intersect));
        let here = bind_call("=", vec![side(0), bigint(1)])?;
        let there = bind_call("=", vec![side(1), right_is])?;
        return Ok(rel.filter(bind_call("AND", vec![here, there])?).select(&visible));
    }
    let copies = match intersect {
        true => bind_case(vec![(bind_call("<", vec![side(0), side(1)])?, side(0))], Some(side(1)))?,
        false => bind_call("-", vec![side(0), side(1)])?,
    };
    let mut exprs = rel.identity();
    exprs.truncate(width);
    exprs.push(copies);
    let mut names: Vec<String> = rel.columns[..width].iter().map(|c| c.name.clone()).collect();
    names.push("$copies".to_owned());
    let counted = rel.project(exprs, &names);
    let copies = Expr::column(width, counted.columns[width].data_type.clone());
    let counted = counted.filter(bind_call(">", vec![copies, bigint(0)])?);
    let columns = counted.columns[..width].to_vec();
    Ok(Rel { node: RelNode::Repeat { input: Box::new(counted), count: width }, columns })
}
