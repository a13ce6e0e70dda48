//! Subqueries in expressions: EXISTS and IN of WHERE become semi and anti joins, values of subqueries become columns of a left join.
//! Names of the outer query may be used in the WHERE of a subquery. Builds relations, runs nothing.

use flott_core::error::Position;
use flott_core::types::TypeKind;
use flott_core::{Error, Result};
use flott_expr::bind_call;
use flott_plan::{Expr, ExprKind, JoinKind, Literal};
use sqlparser::ast::{BinaryOperator, Expr as SqlExpr, GroupByExpr, Query, Select, SelectItem, SetExpr, UnaryOperator};

use super::expr::{ExprBinder, span_position};
use super::function::{has_aggregate, parts};
use super::query::{QueryBinder, distinct};
use super::scope::{OUTER, Scope};
use super::select::Source;
use crate::diag::{At, place, unsupported};
use crate::planner::joins::attributes;
use crate::planner::keys::upsert_keys;
use crate::planner::rel::{HintedTtl, Rel, RelColumn, RelNode, SideTtl, and_all, conjuncts, used_columns};

/// What a subquery is for.
#[derive(Clone, Copy, PartialEq)]
enum Purpose {
    Exists,
    In,
    Value,
}

/// A subquery as a relation.
struct Subquery {
    rel: Rel,
    /// What its WHERE says about the outer query: over its columns, and the outer ones from [`OUTER`] on.
    on: Vec<Expr>,
    /// The columns it selects.
    values: Vec<usize>,
    /// The value is a plain COUNT: 0 of no rows.
    counts: bool,
}

/// The conjuncts of a condition as written.
pub(super) fn sql_conjuncts(e: &SqlExpr) -> Vec<&SqlExpr> {
    let mut out = Vec::new();
    let mut stack = vec![e];
    while let Some(e) = stack.pop() {
        match e {
            SqlExpr::BinaryOp { left, op: BinaryOperator::And, right } => stack.extend([right.as_ref(), left.as_ref()]),
            SqlExpr::Nested(inner) => stack.push(inner),
            other => out.push(other),
        }
    }
    out
}

/// Adds the subqueries of an expression, outermost ones only.
pub(super) fn subqueries<'e>(e: &'e SqlExpr, out: &mut Vec<&'e SqlExpr>) {
    let mut stack = vec![e];
    while let Some(e) = stack.pop() {
        match e {
            SqlExpr::Subquery(_) | SqlExpr::Exists { .. } | SqlExpr::InSubquery { .. } => out.push(e),
            _ => stack.extend(parts(e).into_iter().rev()),
        }
    }
}

/// Whether there is any subquery in an expression.
pub(super) fn has_subquery(e: &SqlExpr) -> bool {
    let mut found = Vec::new();
    subqueries(e, &mut found);
    !found.is_empty()
}

/// How an expression knows its subquery again.
pub(super) fn identity(q: &Query) -> usize {
    std::ptr::from_ref(q) as usize
}

/// The sides of an equality of the subquery with the outer query: (inner, outer).
fn equality(e: &Expr) -> Option<(Expr, Expr)> {
    let ExprKind::Call { function, args } = &e.kind else { return None };
    let [a, b] = args.as_slice() else { return None };
    let inner = |e: &Expr| used_columns([e]).iter().all(|c| *c < OUTER);
    let outer = |e: &Expr| used_columns([e]).iter().all(|c| *c >= OUTER);
    match function.as_str() {
        "=" if inner(a) && outer(b) => Some((a.clone(), b.clone())),
        "=" if outer(a) && inner(b) => Some((b.clone(), a.clone())),
        _ => None,
    }
}

fn select_of(q: &Query) -> Option<&Select> {
    let plain = q.with.is_none() && q.order_by.is_none() && q.limit_clause.is_none() && q.fetch.is_none();
    match q.body.as_ref() {
        SetExpr::Select(select) if plain => Some(select),
        _ => None,
    }
}

fn is_aggregated(select: &Select) -> bool {
    let item = |i: &SelectItem| match i {
        SelectItem::UnnamedExpr(e) | SelectItem::ExprWithAlias { expr: e, .. } => has_aggregate(e),
        _ => false,
    };
    has_group(select) || select.having.is_some() || select.projection.iter().any(item)
}

fn has_group(select: &Select) -> bool {
    !matches!(&select.group_by, GroupByExpr::Expressions(e, _) if e.is_empty())
}

/// Whether the one value selected is COUNT(…).
fn is_count(select: &Select) -> bool {
    let item = match select.projection.as_slice() {
        [SelectItem::UnnamedExpr(e) | SelectItem::ExprWithAlias { expr: e, .. }] => e,
        _ => return false,
    };
    matches!(item, SqlExpr::Function(f) if super::function::function_name(f) == "COUNT" && f.over.is_none())
}

/// Whether the relation has one row at most.
fn is_single_row(rel: &Rel) -> bool {
    match &rel.node {
        RelNode::Aggregate { group, .. } => group.is_empty(),
        RelNode::Calc { input, .. } => is_single_row(input),
        RelNode::Sort { limit, .. } => limit.is_some_and(|l| l <= 1),
        RelNode::Values { rows } => rows.len() <= 1,
        RelNode::Join { left, right, .. } => is_single_row(left) && is_single_row(right),
        _ => false,
    }
}

impl QueryBinder<'_> {
    /// A subquery with names of `outer` in its WHERE.
    fn subquery(&mut self, q: &Query, outer: &Scope, purpose: Purpose) -> Result<Subquery> {
        let all = |rel: Rel, counts| {
            let values = (0..rel.columns.len()).collect();
            Subquery { rel, on: Vec::new(), values, counts }
        };
        let Some(select) = select_of(q) else { return Ok(all(self.query(q)?, false)) };
        self.enter(q)?;
        let bound = self.source_of(select, Some(outer)).and_then(|source| match source.on.is_empty() {
            true => {
                let sorted = self.rest(select, source, Vec::new(), &[])?;
                let visible: Vec<usize> = (0..sorted.visible).collect();
                Ok(all(sorted.rel.select(&visible), is_count(select) && !has_group(select)))
            }
            false => self.correlated(select, source, purpose),
        });
        self.leave();
        bound
    }

    fn correlated(&mut self, select: &Select, source: Source, purpose: Purpose) -> Result<Subquery> {
        let at = select.projection.first().and_then(|i| crate::diag::position(sqlparser::ast::Spanned::span(i)));
        let on = source.on.clone();
        if !is_aggregated(select) {
            if purpose == Purpose::Exists {
                return Ok(Subquery { rel: source.rel, on, values: Vec::new(), counts: false });
            }
            let width = source.rel.columns.len();
            let unique = upsert_keys(&source.rel);
            let source = Source { on: Vec::new(), ..source };
            let all = source.rel.identity();
            let sorted = self.rest(select, source, all, &[])?;
            let visible = sorted.visible;
            let on = on.iter().map(|e| e.renumber(&|c| if c < OUTER { c + visible } else { c })).collect::<Vec<_>>();
            let keys: Vec<usize> = on.iter().filter_map(equality).filter_map(|(i, _)| plain(&i)).collect();
            let is_key = |k: &std::collections::BTreeSet<usize>| k.iter().all(|c| keys.contains(&(c + visible)));
            if purpose == Purpose::Value && !unique.iter().any(is_key) {
                return Err(several_rows(at));
            }
            debug_assert!(sorted.rel.columns.len() >= width, "the input's columns follow what is selected");
            return Ok(Subquery { rel: sorted.rel, on, values: (0..visible).collect(), counts: false });
        }
        let pairs: Option<Vec<(Expr, Expr)>> = on.iter().map(equality).collect();
        let Some(pairs) = pairs.filter(|_| purpose == Purpose::Value || has_group(select)) else {
            let error = unsupported("this use of the outer query's columns beside aggregates", at);
            return Err(error.hint("compare them with = in the WHERE of the subquery, or write a JOIN with a GROUP BY"));
        };
        if purpose == Purpose::Value && has_group(select) {
            return Err(several_rows(at));
        }
        let (inner, outer): (Vec<Expr>, Vec<Expr>) = pairs.into_iter().unzip();
        let sorted = self.rest(select, Source { on: Vec::new(), ..source }, inner, &[])?;
        let visible = sorted.visible;
        let key = |(k, outer): (usize, Expr)| {
            let at = visible + k;
            bind_call("=", vec![Expr::column(at, sorted.rel.columns[at].data_type.clone()), outer])
        };
        let on = outer.into_iter().enumerate().map(key).collect::<Result<_>>()?;
        Ok(Subquery { rel: sorted.rel, on, values: (0..visible).collect(), counts: is_count(select) })
    }

    /// A conjunct of WHERE that is EXISTS or IN, as a join; `None`: it is something else.
    pub(super) fn predicate(&mut self, e: &SqlExpr, source: Source) -> Result<(Source, bool)> {
        let (inner, negated) = match e {
            SqlExpr::UnaryOp { op: UnaryOperator::Not, expr } => (unnested(expr), true),
            other => (other, false),
        };
        let Source { rel, scope, on } = source;
        match inner {
            SqlExpr::Exists { subquery, negated: not } => {
                let sub = self.subquery(subquery, &scope, Purpose::Exists)?;
                let kind = if negated != *not { JoinKind::Anti } else { JoinKind::Semi };
                let sub = if sub.on.is_empty() { Subquery { rel: any_row(sub.rel)?, ..sub } } else { sub };
                Ok((joined(rel, scope, on, sub, kind), true))
            }
            SqlExpr::InSubquery { expr, subquery, negated: not } => {
                let mut sub = self.subquery(subquery, &scope, Purpose::In)?;
                let negated = negated != *not;
                let tests = self.membership(expr, &scope, &sub, negated)?;
                sub.on.extend(tests);
                let kind = if negated { JoinKind::Anti } else { JoinKind::Semi };
                Ok((joined(rel, scope, on, sub, kind), true))
            }
            _ => Ok((Source { rel, scope, on }, false)),
        }
    }

    /// `x = value`, for each column; NOT IN also excludes rows for which that is unknown.
    fn membership(&self, e: &SqlExpr, scope: &Scope, sub: &Subquery, negated: bool) -> Result<Vec<Expr>> {
        let at = span_position(e);
        let tested: Vec<&SqlExpr> = match unnested(e) {
            SqlExpr::Tuple(parts) => parts.iter().collect(),
            one => vec![one],
        };
        if tested.len() != sub.values.len() {
            let message =
                format!("{} columns are compared with a subquery of {} columns", tested.len(), sub.values.len());
            return Err(place(Error::user("sql.columns", message), at));
        }
        let mut tests = Vec::new();
        for (x, value) in tested.into_iter().zip(&sub.values) {
            let bound = ExprBinder::new(scope, "IN").bind(x)?.renumber(&|c| c + OUTER);
            let value = Expr::column(*value, sub.rel.columns[*value].data_type.clone());
            let equal = bind_call("=", vec![bound, value]).at(span_position(x))?;
            tests.push(match negated && equal.data_type.nullable {
                true => bind_call("OR", vec![equal.clone(), bind_call("IS NULL", vec![equal])?])?,
                false => equal,
            });
        }
        Ok(tests)
    }

    /// Adds a column for each subquery of the expression.
    pub(super) fn attach(&mut self, e: &SqlExpr, mut source: Source) -> Result<Source> {
        let mut found = Vec::new();
        subqueries(e, &mut found);
        for e in found {
            source = match e {
                SqlExpr::Subquery(q) => self.attach_value(q, span_position(e), source)?,
                SqlExpr::Exists { subquery, .. } => self.attach_mark(subquery, span_position(e), source)?,
                _ => {
                    let error =
                        unsupported("IN (SELECT …) other than as a condition of WHERE joined by AND", span_position(e));
                    return Err(error.hint("write EXISTS (SELECT 1 … WHERE the columns are equal)"));
                }
            };
        }
        Ok(source)
    }

    fn attach_value(&mut self, q: &Query, at: Option<Position>, source: Source) -> Result<Source> {
        let sub = self.subquery(q, &source.scope, Purpose::Value)?;
        let [value] = sub.values.as_slice() else {
            let message = format!("a subquery as a value selects one column, found {}", sub.values.len());
            return Err(place(Error::user("sql.columns", message), at));
        };
        if sub.on.is_empty() && !is_single_row(&sub.rel) {
            return Err(several_rows(at));
        }
        let (value, counts) = (*value, sub.counts);
        attached(source, sub, identity(q), |right| {
            let column = right(value);
            if !counts {
                return Ok(column);
            }
            let zero = Expr::literal(Literal::Int(0), TypeKind::BigInt.not_null());
            let mut count = bind_call("COALESCE", vec![column, zero])?;
            // Flink says that any value of a subquery may be NULL.
            count.data_type.nullable = true;
            Ok(count)
        })
    }

    /// TRUE or FALSE, as there are rows or not.
    fn attach_mark(&mut self, q: &Query, at: Option<Position>, source: Source) -> Result<Source> {
        let sub = self.subquery(q, &source.scope, Purpose::Exists)?;
        let pairs: Option<Vec<(Expr, Expr)>> = sub.on.iter().map(equality).collect();
        let Some(pairs) = pairs else {
            let error = unsupported("EXISTS with this use of the outer query's columns other than joined by AND", at);
            return Err(error.hint("compare them with = in the WHERE of the subquery"));
        };
        let (mut exprs, outer): (Vec<Expr>, Vec<Expr>) = pairs.into_iter().unzip();
        let mark = exprs.len();
        exprs.push(Expr::boolean(true));
        let names: Vec<String> = (0..exprs.len()).map(|i| format!("$mark{i}")).collect();
        let rel = distinct(sub.rel.project(exprs, &names), HintedTtl::default())?;
        let equal = |(i, o): (usize, Expr)| bind_call("=", vec![Expr::column(i, rel.columns[i].data_type.clone()), o]);
        let on = outer.into_iter().enumerate().map(equal).collect::<Result<_>>()?;
        let sub = Subquery { rel, on, values: vec![mark], counts: false };
        attached(source, sub, identity(q), |right| bind_call("IS NOT NULL", vec![right(mark)]))
    }
}

fn plain(e: &Expr) -> Option<usize> {
    match e.kind {
        ExprKind::Column(i) => Some(i),
        _ => None,
    }
}

fn unnested(e: &SqlExpr) -> &SqlExpr {
    match e {
        SqlExpr::Nested(inner) => unnested(inner),
        other => other,
    }
}

fn several_rows(at: Option<Position>) -> Error {
    unsupported("a subquery as a value that may have several rows", at)
        .hint("aggregate it, as in (SELECT MAX(x) FROM t), or compare its primary key with the outer query's columns")
}

/// One row if the relation has any.
fn any_row(rel: Rel) -> Result<Rel> {
    distinct(rel.project(vec![Expr::boolean(true)], &["$any".to_owned()]), HintedTtl::default())
}

/// The condition of a join with a subquery, over outer columns followed by its own.
fn condition(on: &[Expr], width: usize) -> Option<Expr> {
    and_all(on.iter().map(|e| e.renumber(&|c| if c < OUTER { c + width } else { c - OUTER })))
}

fn join(rel: Rel, sub: Subquery, kind: JoinKind) -> Rel {
    let width = rel.columns.len();
    let condition = condition(&sub.on, width);
    let right = sub.rel.columns.iter().filter(|_| kind.projects_right()).cloned().map(|mut c| {
        c.data_type.nullable |= kind.pads_right();
        c
    });
    let columns: Vec<RelColumn> = rel.columns.iter().cloned().chain(right).collect();
    let (left, right) = (Box::new(rel), Box::new(sub.rel));
    let node = RelNode::Join { left, right, kind, keys: Vec::new(), condition, as_of: None, ttl: SideTtl::default() };
    attributes(Rel { node, columns }, &[])
}

fn joined(rel: Rel, mut scope: Scope, on: Vec<Expr>, sub: Subquery, kind: JoinKind) -> Source {
    let rel = join(rel, sub, kind);
    scope.take_attributes(&rel);
    Source { rel, scope, on }
}

/// The relation with one more column, from a left join with the subquery: `value` of its columns.
fn attached(
    source: Source,
    sub: Subquery,
    identity: usize,
    value: impl FnOnce(&dyn Fn(usize) -> Expr) -> Result<Expr>,
) -> Result<Source> {
    let Source { rel, mut scope, on } = source;
    let width = rel.columns.len();
    let rel = join(rel, sub, JoinKind::Left);
    let value = value(&|i| Expr::column(width + i, rel.columns[width + i].data_type.clone()))?;
    let mut exprs = rel.identity();
    exprs.truncate(width);
    exprs.push(value);
    let mut names: Vec<String> = rel.columns[..width].iter().map(|c| c.name.clone()).collect();
    names.push(format!("$subquery{}", scope.subqueries.len()));
    let rel = rel.project(exprs, &names);
    scope.add_hidden(identity, width, &rel.columns[width]);
    scope.take_attributes(&rel);
    Ok(Source { rel, scope, on })
}

/// The conjuncts that mention columns of the outer query, and the conditions that do not.
pub(super) fn split_outer(conditions: Vec<Expr>) -> (Vec<Expr>, Vec<Expr>) {
    let mentions = |c: &Expr| used_columns([c]).iter().any(|i| *i >= OUTER);
    let (with, without): (Vec<Expr>, Vec<Expr>) = conditions.into_iter().partition(mentions);
    (with.into_iter().flat_map(conjuncts).collect(), without)
}
