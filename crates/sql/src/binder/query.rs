//! Queries: WITH, set operations, VALUES, ORDER BY and LIMIT around SELECT. Builds relations.

use flott_core::error::Position;
use flott_core::types::{DataType, TypeKind};
use flott_core::{Error, Result};
use flott_expr::{bind_cast, common_type, constant_fold};
use flott_plan::{Expr, ExprKind, Literal, SortKey};
use sqlparser::ast::{
    Expr as SqlExpr, LimitClause, OrderByExpr, OrderByKind, Query, SetExpr, SetOperator, SetQuantifier, Spanned, Values,
};

use super::aggregate::{Collector, aggregate};
use super::expr::{ExprBinder, span_position};
use super::from::rename;
use super::grouping::GroupBy;
use super::hints::Hints;
use super::scope::Scope;
use crate::catalog::{Catalog, Home, View};
use crate::diag::{At, place, position, unsupported};
use crate::planner::rel::{HintedTtl, Rel, RelColumn, RelNode};

/// Queries and views may nest so deep.
const DEPTH_MAX: usize = 40;

/// Binds queries against a catalog.
pub(crate) struct QueryBinder<'a> {
    pub(crate) catalog: &'a Catalog,
    /// Where names without a database are looked for: that of the session, or of the view.
    pub(super) home: Home,
    /// WITH names in scope, innermost last.
    pub(crate) ctes: Vec<(String, Rel)>,
    depth: usize,
    /// Hints of the SELECT that is being bound.
    pub(super) hints: Hints,
    /// What is to be said beside the plan.
    pub(crate) notices: Vec<String>,
}

/// A SELECT with what ORDER BY needs: sort keys over `rel`, whose first `visible` columns are the result.
pub(super) struct Sorted {
    pub(super) rel: Rel,
    pub(super) visible: usize,
    pub(super) keys: Vec<SortKey>,
}

impl<'a> QueryBinder<'a> {
    /// A binder without WITH names.
    pub(crate) fn new(catalog: &'a Catalog) -> Self {
        let home = catalog.home.clone();
        QueryBinder { catalog, home, ctes: Vec::new(), depth: 0, hints: Hints::default(), notices: Vec::new() }
    }

    /// A binder for the query of a view: it sees the catalog only.
    pub(super) fn nested_view(&self, view: &View, at: Option<Position>) -> Result<QueryBinder<'a>> {
        if self.depth >= DEPTH_MAX {
            let error =
                Error::user("sql.too-deep", format!("view `{}` nests deeper than {DEPTH_MAX} levels", view.name));
            return Err(place(error, at));
        }
        Ok(QueryBinder { home: view.home.clone(), depth: self.depth + 1, ..QueryBinder::new(self.catalog) })
    }

    /// The relation of a query.
    pub(crate) fn query(&mut self, q: &Query) -> Result<Rel> {
        self.enter(q)?;
        let names = self.ctes.len();
        let rel = self.query_inner(q);
        self.ctes.truncate(names);
        self.leave();
        rel
    }

    /// One level deeper; refuses what nests too deep.
    pub(super) fn enter(&mut self, q: &Query) -> Result<()> {
        if self.depth >= DEPTH_MAX {
            let error = Error::user("sql.too-deep", format!("the query nests deeper than {DEPTH_MAX} levels"));
            return Err(place(error, position(q.span())));
        }
        self.depth += 1;
        Ok(())
    }

    /// One level up again.
    pub(super) fn leave(&mut self) {
        self.depth -= 1;
    }

    fn query_inner(&mut self, q: &Query) -> Result<Rel> {
        if let Some(with) = &q.with {
            if with.recursive {
                return Err(unsupported("WITH RECURSIVE", position(with.with_token.0.span)));
            }
            for cte in &with.cte_tables {
                let mut rel = self.query(&cte.query)?;
                if !cte.alias.columns.is_empty() {
                    let names: Vec<&str> = cte.alias.columns.iter().map(|c| c.name.value.as_str()).collect();
                    rename(&mut rel, &names).at(position(cte.alias.name.span))?;
                }
                self.ctes.push((cte.alias.name.value.clone(), rel));
            }
        }
        if !q.locks.is_empty() || q.for_clause.is_some() {
            return Err(unsupported("FOR after a query", position(q.span())));
        }
        let order = self.order_by(q)?;
        let (offset, limit) = limits(q)?;
        let sorted = self.body(&q.body, order)?;
        if order.is_empty() && offset == 0 && limit.is_none() {
            return Ok(sorted.rel);
        }
        let position = order.first().and_then(|o| span_position(&o.expr)).or_else(|| limit_position(q));
        let columns = sorted.rel.columns.clone();
        let visible: Vec<usize> = (0..sorted.visible).collect();
        let node = RelNode::Sort { input: Box::new(sorted.rel), keys: sorted.keys, offset, limit, position };
        let plain = columns.into_iter().map(|c| RelColumn { time: None, window: None, ..c }).collect();
        let rel = Rel { node, columns: plain };
        Ok(if visible.len() == rel.columns.len() { rel } else { rel.select(&visible) })
    }

    fn order_by<'q>(&self, q: &'q Query) -> Result<&'q [OrderByExpr]> {
        match q.order_by.as_ref().map(|o| &o.kind) {
            None => Ok(&[]),
            Some(OrderByKind::Expressions(e)) => Ok(e),
            Some(OrderByKind::All(_)) => Err(unsupported("ORDER BY ALL", position(q.span()))),
        }
    }

    fn body(&mut self, body: &SetExpr, order: &[OrderByExpr]) -> Result<Sorted> {
        if let SetExpr::Select(select) = body {
            return self.select(select, order);
        }
        let rel = self.set_expr(body)?;
        let scope = Scope::of(&rel, None);
        let visible = rel.columns.len();
        let mut keys = Vec::new();
        for o in order {
            let column = match ordinal(&o.expr, visible)? {
                Some(i) => i,
                None => match ExprBinder::new(&scope, "ORDER BY").bind(&o.expr)?.kind {
                    ExprKind::Column(i) => i,
                    _ => {
                        let error = unsupported("ORDER BY an expression after UNION or VALUES", span_position(&o.expr));
                        return Err(error.hint("select it as a column first"));
                    }
                },
            };
            keys.push(sort_key(column, o));
        }
        Ok(Sorted { rel, visible, keys })
    }

    pub(super) fn set_expr(&mut self, body: &SetExpr) -> Result<Rel> {
        match body {
            SetExpr::Select(select) => Ok(self.select(select, &[])?.rel),
            SetExpr::Query(q) => self.query(q),
            SetExpr::Values(values) => self.values(values),
            SetExpr::SetOperation { op: SetOperator::Union, .. } => self.union(body),
            SetExpr::SetOperation { op: SetOperator::Intersect | SetOperator::Except, .. } => {
                self.intersect_or_except(body)
            }
            SetExpr::SetOperation { op, right, .. } => {
                let error = unsupported(&op.to_string(), position(right.span()));
                Err(error.hint("there are UNION, INTERSECT and EXCEPT"))
            }
            SetExpr::Table(_) => {
                Err(unsupported("TABLE t as a query", position(body.span())).hint("write SELECT * FROM t"))
            }
            _ => Err(unsupported("this statement inside a query", position(body.span()))),
        }
    }

    /// Chains of UNION are walked in a loop: they may be long.
    fn union(&mut self, body: &SetExpr) -> Result<Rel> {
        let mut chain = Vec::new();
        let mut first = body;
        while let SetExpr::SetOperation { op: SetOperator::Union, set_quantifier, left, right } = first {
            let all = match set_quantifier {
                SetQuantifier::All => true,
                SetQuantifier::None | SetQuantifier::Distinct => false,
                other => return Err(unsupported(&format!("UNION {other}"), position(right.span()))),
            };
            chain.push((all, right.as_ref()));
            first = left;
        }
        let last = chain.first().and_then(|(_, part)| position(part.span()));
        let mut inputs = vec![self.set_expr(first)?];
        for (all, part) in chain.into_iter().rev() {
            inputs.push(self.set_expr(part)?);
            if !all {
                let merged = union_all(std::mem::take(&mut inputs), position(part.span()))?;
                inputs = vec![distinct(merged, HintedTtl::default())?];
                continue;
            }
            let (head, last) = (&inputs[0], &inputs[inputs.len() - 1]);
            check_widths(head, last, position(part.span()))?;
        }
        match inputs.len() {
            1 => inputs.pop().ok_or_else(|| Error::bug("an empty UNION")),
            _ => union_all(inputs, last.or_else(|| position(body.span()))),
        }
    }

    fn values(&mut self, values: &Values) -> Result<Rel> {
        let scope = Scope::default();
        let mut rows: Vec<Vec<Expr>> = Vec::new();
        for row in &values.rows {
            let cells: Vec<&SqlExpr> = match row.content.as_slice() {
                // `VALUES ROW(1, 2)`
                [SqlExpr::Function(f)] if super::function::function_name(f) == "ROW" => {
                    super::function::call_arguments(f)?.into_iter().map(|(_, e)| e).collect()
                }
                cells => cells.iter().collect(),
            };
            let at = cells.first().and_then(|e| span_position(e));
            let mut bound = Vec::with_capacity(cells.len());
            for cell in cells {
                bound.push(ExprBinder::new(&scope, "VALUES").bind(cell)?);
            }
            if let Some(first) = rows.first()
                && first.len() != bound.len()
            {
                let message = format!("the rows of VALUES have {} and {} columns", first.len(), bound.len());
                return Err(place(Error::user("sql.columns", message), at));
            }
            rows.push(bound);
        }
        let width = rows.first().map_or(0, Vec::len);
        let mut columns = Vec::new();
        for i in 0..width {
            let types: Vec<DataType> = rows.iter().map(|r| r[i].data_type.clone()).collect();
            let common = common_type(&types).ok_or_else(|| {
                let found = types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                let error = Error::user("sql.type", format!("column {} of VALUES has no common type", i + 1));
                place(error.detail(format!("found {found}")), position(values_span(values)))
            })?;
            let nullable = types.iter().any(|t| t.nullable);
            let common = DataType { kind: common.kind, nullable };
            for row in &mut rows {
                let target = DataType { kind: common.kind.clone(), nullable: row[i].data_type.nullable };
                row[i] = bind_cast(row[i].clone(), target, false)?;
            }
            columns.push(RelColumn::new(format!("EXPR${i}"), common));
        }
        Ok(Rel { node: RelNode::Values { rows }, columns })
    }
}

fn values_span(values: &Values) -> sqlparser::tokenizer::Span {
    values.rows.first().and_then(|r| r.content.first()).map_or(sqlparser::tokenizer::Span::empty(), Spanned::span)
}

pub(super) fn check_widths(a: &Rel, b: &Rel, at: Option<Position>) -> Result<()> {
    if a.columns.len() == b.columns.len() {
        return Ok(());
    }
    let error = Error::user(
        "sql.columns",
        format!("the inputs of a set operation have {} and {} columns", a.columns.len(), b.columns.len()),
    );
    Err(place(error, at))
}

/// UNION ALL with columns cast to their common types.
pub(super) fn union_all(inputs: Vec<Rel>, at: Option<Position>) -> Result<Rel> {
    let first = inputs.first().ok_or_else(|| Error::bug("an empty UNION"))?;
    for input in &inputs {
        check_widths(first, input, at)?;
    }
    let mut columns = first.columns.clone();
    for (i, column) in columns.iter_mut().enumerate() {
        let types: Vec<DataType> = inputs.iter().map(|r| r.columns[i].data_type.clone()).collect();
        let Some(common) = common_type(&types) else {
            let found = types.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
            let error = Error::user(
                "sql.type",
                format!("column {} (`{}`) of a set operation has no common type", i + 1, column.name),
            )
            .detail(format!("found {found}"))
            .hint("CAST the columns to one type");
            return Err(place(error, at));
        };
        column.data_type = DataType { kind: common.kind, nullable: types.iter().any(|t| t.nullable) };
        if inputs.iter().any(|r| r.columns[i].time != column.time) {
            column.time = None;
        }
        (column.window, column.attached) = (None, None);
    }
    let inputs = inputs.into_iter().map(|r| cast_columns(r, &columns)).collect::<Result<_>>()?;
    Ok(Rel { node: RelNode::Union { inputs }, columns })
}

/// The relation with its columns cast to these types; names are taken over.
pub(crate) fn cast_columns(rel: Rel, to: &[RelColumn]) -> Result<Rel> {
    let mut exprs = Vec::with_capacity(to.len());
    for (e, target) in rel.identity().into_iter().zip(to) {
        let nullable = e.data_type.nullable;
        exprs.push(bind_cast(e, DataType { kind: target.data_type.kind.clone(), nullable }, false)?);
    }
    let names: Vec<String> = to.iter().map(|c| c.name.clone()).collect();
    Ok(rel.project(exprs, &names))
}

/// DISTINCT: a group by all columns, which are forgotten after a time if a hint says so.
pub(super) fn distinct(rel: Rel, hinted: HintedTtl) -> Result<Rel> {
    let names: Vec<String> = rel.columns.iter().map(|c| c.name.clone()).collect();
    let inputs = rel.columns.clone();
    let group = rel.identity();
    let keys = GroupBy::plain(group.clone());
    let collector = Collector { base: rel.columns.len(), grouped: true, group: keys, ..Collector::default() };
    let mut aggregated = aggregate(rel, collector)?;
    if let RelNode::Aggregate { ttl, .. } = &mut aggregated.rel.node {
        *ttl = hinted;
    }
    let exprs = group.iter().map(|e| aggregated.rewrite(e, &inputs, None)).collect::<Result<Vec<_>>>()?;
    Ok(aggregated.rel.project(exprs, &names))
}

/// `ORDER BY 2`: the column's number from 0.
pub(super) fn ordinal(e: &SqlExpr, visible: usize) -> Result<Option<usize>> {
    let SqlExpr::Value(v) = e else { return Ok(None) };
    let sqlparser::ast::Value::Number(text, _) = &v.value else { return Ok(None) };
    match text.parse::<usize>() {
        Ok(n) if (1..=visible).contains(&n) => Ok(Some(n - 1)),
        _ => {
            let error = Error::user("sql.order-by", format!("ORDER BY {text}: there are columns 1 to {visible}"));
            Err(place(error, position(v.span)))
        }
    }
}

/// A sort key with Flink's default for NULL: first when ascending, last when descending.
pub(super) fn sort_key(column: usize, o: &OrderByExpr) -> SortKey {
    let descending = o.options.asc == Some(false);
    SortKey { column, descending, nulls_first: o.options.nulls_first.unwrap_or(!descending) }
}

fn limit_position(q: &Query) -> Option<Position> {
    match &q.limit_clause {
        Some(LimitClause::LimitOffset { limit, offset, .. }) => {
            limit.as_ref().or(offset.as_ref().map(|o| &o.value)).and_then(span_position)
        }
        _ => position(q.span()),
    }
}

fn limits(q: &Query) -> Result<(u64, Option<u64>)> {
    let count = |e: &SqlExpr, what: &str| -> Result<u64> {
        let bound = constant_fold(&ExprBinder::new(&Scope::default(), "LIMIT").bind(e)?);
        match (&bound.kind, &bound.data_type.kind) {
            (ExprKind::Literal(Literal::Int(n)), TypeKind::Int | TypeKind::BigInt) if *n >= 0 => {
                Ok(u64::try_from(*n).unwrap_or(0))
            }
            _ => Err(place(
                Error::user("sql.limit", format!("{what} takes a constant number that is not negative")),
                span_position(e),
            )),
        }
    };
    let (mut offset, mut limit) = (0, None);
    match &q.limit_clause {
        Some(LimitClause::LimitOffset { limit: l, offset: o, limit_by }) => {
            if !limit_by.is_empty() {
                return Err(unsupported("LIMIT … BY", limit_position(q)));
            }
            limit = l.as_ref().map(|e| count(e, "LIMIT")).transpose()?;
            offset = o.as_ref().map(|o| count(&o.value, "OFFSET")).transpose()?.unwrap_or(0);
        }
        Some(LimitClause::OffsetCommaLimit { .. }) => {
            return Err(unsupported("LIMIT offset, count", limit_position(q)).hint("write LIMIT count OFFSET offset"));
        }
        None => {}
    }
    if let Some(fetch) = &q.fetch {
        if fetch.percent || fetch.with_ties {
            return Err(unsupported("FETCH with PERCENT or TIES", position(q.span())));
        }
        limit = Some(fetch.quantity.as_ref().map_or(Ok(1), |e| count(e, "FETCH"))?);
    }
    Ok((offset, limit))
}
