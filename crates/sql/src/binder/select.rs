//! SELECT: WHERE, GROUP BY, HAVING, the SELECT list, DISTINCT. Builds relations.

use flott_core::error::Position;
use flott_core::types::TypeKind;
use flott_core::{Error, Result};
use flott_plan::{Expr, ExprKind, Literal, SortKey};
use sqlparser::ast::{
    Distinct, Expr as SqlExpr, GroupByExpr, OrderByExpr, Select, SelectItem, SelectItemQualifiedWildcardKind, Spanned,
};

use super::aggregate::{Aggregated, Collector, aggregate};
use super::expr::{ExprBinder, span_position};
use super::from::path;
use super::function::has_aggregate;
use super::grouping::GroupBy;
use super::over::OverCalls;
use super::over_rel::over_rows;
use super::query::{QueryBinder, Sorted, distinct, ordinal, sort_key};
use super::scope::Scope;
use super::subquery::{has_subquery, split_outer, sql_conjuncts};
use crate::diag::{place, position, suggestion, unsupported};
use crate::planner::joins::settle;
use crate::planner::rel::{Rel, RelColumn, RelNode, and_all, conjuncts};

/// One bound column of the SELECT list.
struct Item {
    expr: Expr,
    name: String,
    position: Option<Position>,
}

/// What FROM and WHERE of a SELECT give.
pub(super) struct Source {
    pub(super) rel: Rel,
    pub(super) scope: Scope,
    /// What WHERE says about columns of the outer query, which stand behind [`OUTER`](super::scope::OUTER).
    pub(super) on: Vec<Expr>,
}

impl QueryBinder<'_> {
    /// A SELECT and the sort keys of its ORDER BY.
    pub(super) fn select(&mut self, select: &Select, order: &[OrderByExpr]) -> Result<Sorted> {
        let source = self.source_of(select, None)?;
        self.rest(select, source, Vec::new(), order)
    }

    /// FROM and WHERE; names of `outer` may be used in WHERE.
    pub(super) fn source_of(&mut self, select: &Select, outer: Option<&Scope>) -> Result<Source> {
        refuse_unsupported(select)?;
        let hints = self.read_hints(&select.optimizer_hints, position(select.span()))?;
        let hints_around = std::mem::replace(&mut self.hints, hints);
        let (mut rel, mut scope) = if select.from.is_empty() {
            let zero = Expr::literal(Literal::Int(0), TypeKind::Int.not_null());
            let node = RelNode::Values { rows: vec![vec![zero.clone()]] };
            (Rel { node, columns: vec![RelColumn::new("ZERO", zero.data_type)] }, Scope::default())
        } else {
            self.from(&select.from)?
        };
        self.hints.refuse_unused(&scope)?;
        scope.ttl = self.hints.state_ttl(&scope);
        self.hints = hints_around;
        scope.outer = outer.cloned().map(|o| Box::new(Scope { outer: None, ..o }));
        let written = select.selection.as_ref().map(sql_conjuncts).unwrap_or_default();
        let (with_subqueries, plain): (Vec<&SqlExpr>, Vec<&SqlExpr>) =
            written.into_iter().partition(|e| has_subquery(e));
        let bind = |e: &&SqlExpr| ExprBinder::new(&scope, "WHERE").bind_condition(e);
        let bound = plain.iter().map(|e| bind(e).map_err(|error| computed_here(error, select)));
        let (on, filters) = split_outer(bound.collect::<Result<Vec<_>>>()?);
        rel = settle(rel, filters.iter().cloned().flat_map(conjuncts).collect());
        scope.take_attributes(&rel);
        if let Some(condition) = and_all(filters) {
            rel = rel.filter(condition);
        }
        let mut source = Source { rel, scope, on };
        for e in with_subqueries {
            source = self.where_subquery(e, source)?;
        }
        source.scope.outer = None;
        Ok(source)
    }

    /// A conjunct of WHERE with subqueries in it.
    fn where_subquery(&mut self, e: &SqlExpr, source: Source) -> Result<Source> {
        let (source, done) = self.predicate(e, source)?;
        if done {
            return Ok(source);
        }
        let mut source = self.attach(e, source)?;
        let bound = ExprBinder::new(&source.scope, "WHERE").bind_condition(e)?;
        let (on, filters) = split_outer(vec![bound]);
        source.on.extend(on);
        if let Some(condition) = and_all(filters) {
            source.rel = source.rel.filter(condition);
        }
        Ok(source)
    }

    /// What follows FROM and WHERE. `extra` is given behind what is selected: one row per value of it, beside aggregates.
    pub(super) fn rest(
        &mut self,
        select: &Select,
        mut source: Source,
        extra: Vec<Expr>,
        order: &[OrderByExpr],
    ) -> Result<Sorted> {
        let hidden = source.scope.len()..;
        for e in select.projection.iter().filter_map(item_expr).chain(&select.having) {
            source = self.attach(e, source)?;
        }
        let Source { rel, scope, .. } = source;
        let hidden: Vec<Expr> = (hidden.start..scope.len()).map(|i| scope.column(i)).collect();
        let grouping = match &select.group_by {
            GroupByExpr::Expressions(exprs, modifiers) if modifiers.is_empty() => exprs.as_slice(),
            other => return Err(unsupported("this form of GROUP BY", position(other.span()))),
        };
        let has_extra = !extra.is_empty();
        let aggregates = !grouping.is_empty()
            || select.having.is_some()
            || select.projection.iter().filter_map(item_expr).any(has_aggregate)
            || select.qualify.as_ref().is_some_and(has_aggregate);
        let sorted = if aggregates {
            let keys = Keys { grouping, extra, hidden };
            self.aggregated(rel, &scope, select, keys, order)?
        } else {
            let mut over = OverCalls::new(&select.named_window);
            let items = select_items(&scope, &select.projection, None, &mut over)?;
            let (sorted, keys) = sort_items(&scope, &items, order, None)?;
            let visible = items.len();
            let extra = extra.into_iter().map(extra_item).chain(sorted);
            let qualify = qualify_item(&scope, select, &items, None, &mut over)?;
            let items = items.into_iter().chain(extra).chain(qualify);
            let (exprs, names): (Vec<_>, Vec<_>) = items.map(|i| (i.expr, i.name)).unzip();
            let (rel, exprs) = over_rows(rel, &over.calls, exprs)?;
            Sorted { rel: qualified(rel.project(exprs, &names), select), visible, keys }
        };
        match &select.distinct {
            None | Some(Distinct::All) => Ok(sorted),
            // Copies do not matter to what asks for more columns.
            Some(Distinct::Distinct) if has_extra => Ok(sorted),
            Some(Distinct::On(_)) => Err(unsupported("DISTINCT ON", position(select.span()))),
            Some(Distinct::Distinct) if sorted.visible < sorted.rel.columns.len() => {
                let error =
                    Error::user("sql.order-by", "with SELECT DISTINCT, ORDER BY takes columns of the result only");
                Err(place(error, order.first().and_then(|o| span_position(&o.expr))))
            }
            Some(Distinct::Distinct) => Ok(Sorted { rel: distinct(sorted.rel, scope.ttl)?, ..sorted }),
        }
    }

    fn aggregated(
        &mut self,
        rel: Rel,
        scope: &Scope,
        select: &Select,
        Keys { grouping, extra, hidden }: Keys<'_>,
        order: &[OrderByExpr],
    ) -> Result<Sorted> {
        let at = grouping.first().and_then(span_position).or_else(|| position(select.span()));
        // The relation may have columns the scope does not name (a SELECT without FROM).
        let base = rel.columns.len().max(scope.len());
        let grouped = !(grouping.is_empty() && extra.is_empty() && hidden.is_empty());
        let group = GroupBy::bind(scope, grouping, &select.projection)?.also(extra.iter().cloned().chain(hidden));
        let mut collector = Collector { base, grouped, group, ..Collector::default() };
        let mut over = OverCalls::new(&select.named_window);
        let items = select_items(scope, &select.projection, Some(&mut collector), &mut over)?;
        let having = match &select.having {
            Some(e) => {
                let bound = ExprBinder::with_aggregates(scope, "HAVING", &mut collector).bind_condition(e)?;
                Some((bound, span_position(e)))
            }
            None => None,
        };
        let (sorted, keys) = sort_items(scope, &items, order, Some(&mut collector))?;
        let extra = extra.into_iter().map(extra_item).chain(sorted);
        let qualify = qualify_item(scope, select, &items, Some(&mut collector), &mut over)?;
        let mut aggregated: Aggregated = aggregate(rel, collector)?;
        if let RelNode::Aggregate { ttl, .. } = &mut aggregated.rel.node {
            *ttl = scope.ttl;
        }
        let visible = items.len();
        let names_of = scope.columns.clone();
        let mut exprs = Vec::new();
        let mut names = Vec::new();
        for item in items.into_iter().chain(extra).chain(qualify) {
            exprs.push(aggregated.rewrite(&item.expr, &names_of, item.position)?);
            names.push(item.name);
        }
        if let Some((condition, at)) = having {
            let condition = aggregated.rewrite(&condition, &names_of, at)?;
            aggregated.rel = aggregated.rel.filter(condition);
        }
        let mut rewrite = |e: &Expr| aggregated.rewrite(e, &names_of, at);
        let calls: Vec<_> = over.calls.iter().map(|call| call.rewritten(&mut rewrite)).collect::<Result<_>>()?;
        let (rel, exprs) = over_rows(aggregated.rel, &calls, exprs)?;
        Ok(Sorted { rel: qualified(rel.project(exprs, &names), select), visible, keys })
    }
}

/// What an aggregating SELECT groups by.
struct Keys<'a> {
    grouping: &'a [SqlExpr],
    /// What stands behind the selected columns too.
    extra: Vec<Expr>,
    /// Values of subqueries: one for each row, or for all.
    hidden: Vec<Expr>,
}

fn extra_item(expr: Expr) -> Item {
    Item { expr, name: "$extra".to_owned(), position: None }
}

/// The condition of QUALIFY as a hidden column. It sees names given in the SELECT list.
fn qualify_item(
    scope: &Scope,
    select: &Select,
    items: &[Item],
    collector: Option<&mut Collector>,
    over: &mut OverCalls,
) -> Result<Option<Item>> {
    let Some(e) = &select.qualify else { return Ok(None) };
    let mut scope = scope.clone();
    let base = scope.len();
    // Beside aggregates these places are taken by their results.
    for item in items.iter().filter(|_| collector.is_none()) {
        if scope.columns.iter().any(|c| c.name == item.name) {
            continue;
        }
        scope.columns.push(RelColumn::new(&item.name, item.expr.data_type.clone()));
        scope.qualifiers.push(None);
    }
    let named: Vec<&Item> =
        scope.columns[base..].iter().filter_map(|c| items.iter().find(|i| i.name == c.name)).collect();
    let mut binder = match collector {
        Some(c) => ExprBinder::with_aggregates(&scope, "QUALIFY", c).with_over(over),
        None => ExprBinder::new(&scope, "QUALIFY").with_over(over),
    };
    let bound = binder.bind_condition(e)?;
    let expr = bound.map_columns(&|i, data_type| match i.checked_sub(base).and_then(|n| named.get(n)) {
        Some(item) => item.expr.clone(),
        None => Expr::column(i, data_type.clone()),
    });
    Ok(Some(Item { expr, name: "$qualify".to_owned(), position: span_position(e) }))
}

/// The rows where the last column is TRUE, if there is a QUALIFY.
fn qualified(rel: Rel, select: &Select) -> Rel {
    let last = rel.columns.len().saturating_sub(1);
    match &select.qualify {
        Some(_) => {
            let condition = Expr::column(last, rel.columns[last].data_type.clone());
            rel.filter(condition).select(&(0..last).collect::<Vec<_>>())
        }
        None => rel,
    }
}

/// A WHERE does not see what its own SELECT computes.
fn computed_here(error: Error, select: &Select) -> Error {
    let unknown = |name: &str| error.message() == format!("there is no column `{name}`");
    let alias = select.projection.iter().find_map(|item| match item {
        SelectItem::ExprWithAlias { alias, .. } if unknown(&alias.value) => Some(alias.value.clone()),
        _ => None,
    });
    match alias.filter(|_| error.code() == "sql.unknown-column") {
        Some(name) => error
            .hint(format!("`{name}` is computed by this SELECT: filter it in a query around, SELECT * FROM (…) WHERE")),
        None => error,
    }
}

fn refuse_unsupported(select: &Select) -> Result<()> {
    let at = position(select.span());
    let what = if select.top.is_some() {
        "TOP"
    } else if select.into.is_some() {
        "SELECT INTO"
    } else if !select.lateral_views.is_empty() {
        "LATERAL VIEW"
    } else if !select.sort_by.is_empty() || !select.cluster_by.is_empty() || !select.distribute_by.is_empty() {
        "SORT BY, CLUSTER BY and DISTRIBUTE BY"
    } else if !select.connect_by.is_empty() {
        "CONNECT BY"
    } else {
        return Ok(());
    };
    Err(unsupported(what, at))
}

fn item_expr(item: &SelectItem) -> Option<&SqlExpr> {
    match item {
        SelectItem::UnnamedExpr(e) | SelectItem::ExprWithAlias { expr: e, .. } => Some(e),
        _ => None,
    }
}

fn bind_item(scope: &Scope, e: &SqlExpr, place: &'static str, collector: Option<&mut Collector>) -> Result<Expr> {
    match collector {
        Some(c) => ExprBinder::with_aggregates(scope, place, c).bind(e),
        None => ExprBinder::new(scope, place).bind(e),
    }
}

fn select_item(scope: &Scope, e: &SqlExpr, collector: Option<&mut Collector>, over: &mut OverCalls) -> Result<Expr> {
    match collector {
        Some(c) => ExprBinder::with_aggregates(scope, "SELECT", c).with_over(over).bind(e),
        None => ExprBinder::new(scope, "SELECT").with_over(over).bind(e),
    }
}

fn select_items(
    scope: &Scope,
    projection: &[SelectItem],
    mut collector: Option<&mut Collector>,
    over: &mut OverCalls,
) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    for item in projection {
        let at = position(item.span());
        match item {
            SelectItem::UnnamedExpr(e) => {
                let expr = select_item(scope, e, collector.as_deref_mut(), over)?;
                let name = natural_name(e).unwrap_or_else(|| format!("EXPR${}", items.len()));
                items.push(Item { expr, name, position: at });
            }
            SelectItem::ExprWithAlias { expr, alias } => {
                let expr = select_item(scope, expr, collector.as_deref_mut(), over)?;
                items.push(Item { expr, name: alias.value.clone(), position: at });
            }
            SelectItem::Wildcard(options) => {
                refuse_wildcard_options(options, at)?;
                if scope.len() == 0 {
                    return Err(place(Error::user("sql.columns", "SELECT * needs a FROM"), at));
                }
                for i in scope.stars() {
                    let name = scope.columns[i].name.clone();
                    items.push(Item { expr: scope.column(i), name, position: at });
                }
            }
            SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), options) => {
                refuse_wildcard_options(options, at)?;
                items.extend(qualified_wildcard(scope, &path(name).to_string(), at)?);
            }
            other => return Err(unsupported(&format!("`{other}` in the SELECT list"), at)),
        }
    }
    Ok(items)
}

fn refuse_wildcard_options(o: &sqlparser::ast::WildcardAdditionalOptions, at: Option<Position>) -> Result<()> {
    let plain = o.opt_ilike.is_none()
        && o.opt_exclude.is_none()
        && o.opt_except.is_none()
        && o.opt_replace.is_none()
        && o.opt_rename.is_none()
        && o.opt_alias.is_none();
    if plain { Ok(()) } else { Err(unsupported("* with EXCEPT, REPLACE or an alias", at).hint("list the columns")) }
}

/// `t.*`, or `row_column.*`.
fn qualified_wildcard(scope: &Scope, name: &str, at: Option<Position>) -> Result<Vec<Item>> {
    let of = scope.qualified(name);
    if !of.is_empty() {
        let item = |i: usize| Item { expr: scope.column(i), name: scope.columns[i].name.clone(), position: at };
        return Ok(of.into_iter().map(item).collect());
    }
    if let Some(i) = scope.columns.iter().position(|c| c.name == name)
        && let TypeKind::Row(fields) = &scope.columns[i].data_type.kind
    {
        let item = |(f, (field, t)): (usize, &(String, flott_core::types::DataType))| {
            let mut data_type = t.clone();
            data_type.nullable |= scope.columns[i].data_type.nullable;
            let expr = Expr { kind: ExprKind::Field(Box::new(scope.column(i)), f), data_type };
            Item { expr, name: field.clone(), position: at }
        };
        return Ok(fields.iter().enumerate().map(item).collect());
    }
    let mut names: Vec<&str> = scope.qualifiers.iter().flatten().map(String::as_str).collect();
    names.dedup();
    let error =
        Error::user("sql.unknown-table", format!("there is no table `{name}` here")).hint(suggestion(name, &names, 12));
    Err(place(error, at))
}

/// The name a column or field has by itself.
fn natural_name(e: &SqlExpr) -> Option<String> {
    match e {
        SqlExpr::Identifier(i) => Some(i.value.clone()),
        SqlExpr::CompoundIdentifier(parts) => parts.last().map(|i| i.value.clone()),
        SqlExpr::CompoundFieldAccess { access_chain, .. } => match access_chain.last() {
            Some(sqlparser::ast::AccessExpr::Dot(SqlExpr::Identifier(i))) => Some(i.value.clone()),
            _ => None,
        },
        SqlExpr::Nested(e) => natural_name(e),
        _ => None,
    }
}

/// Sort keys of ORDER BY; expressions that are not in the SELECT list become hidden columns.
fn sort_items(
    scope: &Scope,
    items: &[Item],
    order: &[OrderByExpr],
    mut collector: Option<&mut Collector>,
) -> Result<(Vec<Item>, Vec<SortKey>)> {
    let mut extra: Vec<Item> = Vec::new();
    let mut keys = Vec::new();
    for o in order {
        let at = span_position(&o.expr);
        let named = match &o.expr {
            SqlExpr::Identifier(i) => items.iter().position(|item| item.name == i.value),
            _ => None,
        };
        let column = match (ordinal(&o.expr, items.len())?, named) {
            (Some(i), _) | (None, Some(i)) => i,
            (None, None) => {
                let expr = bind_item(scope, &o.expr, "ORDER BY", collector.as_deref_mut())?;
                let all = items.iter().chain(&extra);
                let found = all.map(|item| &item.expr).position(|e| *e == expr);
                found.unwrap_or_else(|| {
                    extra.push(Item { expr, name: format!("$sort{}", extra.len()), position: at });
                    items.len() + extra.len() - 1
                })
            }
        };
        keys.push(sort_key(column, o));
    }
    Ok((extra, keys))
}
