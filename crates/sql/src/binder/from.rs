//! FROM: tables, views, WITH names, subqueries, joins. Builds relations with their scopes.

use flott_core::types::TypeKind;
use flott_core::{Error, Result};
use flott_plan::JoinKind;
use flott_plan::{Expr, ExprKind};
use sqlparser::ast::{
    Function, FunctionArguments, Join, JoinConstraint, JoinOperator, ObjectName, Spanned, TableAlias, TableFactor,
    TableWithJoins,
};

use super::expr::ExprBinder;
use super::pattern::is_match_input;
use super::query::QueryBinder;
use super::scope::Scope;
use crate::catalog::{CatalogObject, ColumnSource, Table};
use crate::diag::{place, position, suggestion, unsupported};
use crate::parser::ast::Path;
use crate::planner::rel::{Rel, RelColumn, RelNode, SideTtl, TimeAttribute};

/// A dotted name of sqlparser.
pub(crate) fn path(name: &ObjectName) -> Path {
    Path::new(name.0.iter().filter_map(|p| p.as_ident()).map(|i| i.value.clone()).collect(), position(name.span()))
}

/// A scan of all columns of a table, time attributes marked.
pub(crate) fn scan(table: &std::sync::Arc<Table>) -> Rel {
    let rowtime = table.watermark.as_ref().map(|w| w.0);
    let columns = table.columns.iter().enumerate().map(|(i, c)| {
        let proctime = matches!(&c.source, ColumnSource::Computed(Expr { kind: ExprKind::Call { function, .. }, .. }, _)
            if function == "PROCTIME");
        let time = match (rowtime == Some(i), proctime) {
            (true, _) => Some(TimeAttribute::Rowtime),
            (_, true) => Some(TimeAttribute::Proctime),
            _ => None,
        };
        RelColumn { time, ..RelColumn::new(&c.name, c.data_type.clone()) }
    });
    let columns: Vec<RelColumn> = columns.collect();
    Rel { node: RelNode::Scan { table: table.clone(), fields: (0..columns.len()).collect() }, columns }
}

impl QueryBinder<'_> {
    /// A table, view or WITH name.
    pub(super) fn table(&mut self, path: &Path) -> Result<Rel> {
        if path.hint.is_some() && path.parts.len() == 1 && self.ctes.iter().any(|(n, _)| *n == path.parts[0]) {
            return Err(no_options(&path.parts[0], "a WITH name", path));
        }
        if let [name] = path.parts.as_slice()
            && let Some((_, rel)) = self.ctes.iter().rev().find(|(n, _)| n == name)
        {
            return Ok(rel.clone());
        }
        match self.catalog.get_from(&self.home, path) {
            Ok(CatalogObject::Table(table)) => Ok(scan(&self.catalog.hinted(table, path)?)),
            Ok(CatalogObject::View(view)) => {
                if path.hint.is_some() {
                    return Err(no_options(&view.name, "a view", path));
                }
                let view = view.clone();
                let mut binder = self.nested_view(&view, path.position)?;
                let rel = binder.query(&view.query).map_err(|e| e.context(format!("view `{}`", view.name)))?;
                self.notices.append(&mut binder.notices);
                if view.columns.is_empty() {
                    return Ok(rel);
                }
                let columns = rel.columns.iter().zip(&view.columns).map(|(c, n)| c.renamed(n)).collect();
                Ok(Rel { node: rel.node, columns })
            }
            Err(e) => {
                let mut names: Vec<&str> = self.ctes.iter().map(|(n, _)| n.as_str()).collect();
                if names.is_empty() || path.parts.len() > 1 {
                    return Err(e);
                }
                names.extend(self.catalog.objects().into_iter().map(|(n, _)| n));
                Err(e.hint(suggestion(&path.to_string(), &names, 12)))
            }
        }
    }

    /// The FROM list; several entries are crossed, WHERE joins them later.
    pub(super) fn from(&mut self, from: &[TableWithJoins]) -> Result<(Rel, Scope)> {
        let mut joined: Option<(Rel, Scope)> = None;
        for t in from {
            // A table function sees the entries before it.
            if let Some(call) = super::correlate::table_call(&t.relation) {
                let first = self.correlate(joined, &call, JoinKind::Inner)?;
                joined = Some(self.joined(first, &t.joins)?);
                continue;
            }
            let next = self.table_with_joins(t)?;
            joined = Some(match joined {
                None => next,
                Some(left) => self.crossed(left, next, JoinKind::Inner),
            });
        }
        joined.ok_or_else(|| Error::bug("an empty FROM"))
    }

    fn table_with_joins(&mut self, t: &TableWithJoins) -> Result<(Rel, Scope)> {
        let first = self.factor(&t.relation)?;
        self.joined(first, &t.joins)
    }

    fn joined(&mut self, mut left: (Rel, Scope), joins: &[Join]) -> Result<(Rel, Scope)> {
        for join in joins {
            left = self.join(left, join)?;
        }
        Ok(left)
    }

    fn join(&mut self, left: (Rel, Scope), join: &Join) -> Result<(Rel, Scope)> {
        use JoinOperator as J;
        if let Some(time) = super::lookup::as_of(join) {
            return self.lookup_join(left, join, time);
        }
        if let Some(call) = super::correlate::table_call(&join.relation) {
            return self.correlate_join(left, join, &call);
        }
        let at = position(join.relation.span());
        let (kind, swap, constraint) = match &join.join_operator {
            J::Join(c) | J::Inner(c) => (JoinKind::Inner, false, c),
            J::CrossJoin(c) => (JoinKind::Inner, false, c),
            J::Left(c) | J::LeftOuter(c) => (JoinKind::Left, false, c),
            J::Right(c) | J::RightOuter(c) => (JoinKind::Left, true, c),
            J::FullOuter(c) => (JoinKind::Full, false, c),
            _ => {
                return Err(
                    unsupported("this kind of join", at).hint("there are INNER, LEFT, RIGHT, FULL and CROSS joins")
                );
            }
        };
        let right = self.factor(&join.relation)?;
        let (left_width, right_width) = (left.1.len(), right.1.len());
        let (mut rel, scope) = match swap {
            true => self.crossed(right, left, kind),
            false => self.crossed(left, right, kind),
        };
        // Names are resolved over left columns, then right ones, also when the sides change places.
        let order: Vec<usize> = if swap {
            (right_width..right_width + left_width).chain(0..right_width).collect()
        } else {
            (0..left_width + right_width).collect()
        };
        let place = |i: usize| order.iter().position(|o| *o == i);
        let visible = Scope {
            columns: order.iter().map(|&i| scope.columns[i].clone()).collect(),
            qualifiers: order.iter().map(|&i| scope.qualifiers[i].clone()).collect(),
            star: scope.star.as_ref().map(|s| star_in_order(s, left_width, swap, &place)),
            ..Scope::default()
        };
        let shared = super::using::shared(constraint, &visible, left_width, at)?;
        let on = match &shared {
            Some(shared) => super::using::condition(&visible, shared)?,
            None => join_condition(constraint, &visible)?,
        };
        if let RelNode::Join { condition, .. } = &mut rel.node {
            *condition = on.map(|e| e.replace_columns(&|i| scope.column(order[i])));
        }
        let rel = if swap { rel.select(&order) } else { rel };
        match shared {
            Some(shared) => super::using::merged(rel, visible, &shared, (kind, swap)),
            None => Ok((rel, visible)),
        }
    }

    pub(super) fn factor(&mut self, factor: &TableFactor) -> Result<(Rel, Scope)> {
        let at = position(factor.span());
        match factor {
            TableFactor::Table { name, alias, args, version, sample, .. } => {
                if version.is_some() {
                    let error = unsupported("FOR SYSTEM_TIME AS OF other than behind JOIN", at);
                    return Err(error.hint("write FROM a JOIN t FOR SYSTEM_TIME AS OF a.proctime ON a.id = t.id"));
                }
                if sample.is_some() {
                    return Err(unsupported("TABLESAMPLE", at));
                }
                let rel = match args {
                    Some(args) if is_match_input(name) => self.match_input(args)?,
                    Some(args) => {
                        let list = sqlparser::ast::FunctionArgumentList {
                            duplicate_treatment: None,
                            args: args.args.clone(),
                            clauses: Vec::new(),
                        };
                        self.window_tvf(&function(name, FunctionArguments::List(list)))?
                    }
                    None => self.table(&path(name))?,
                };
                let own = path(name).parts.pop().filter(|_| args.is_none());
                aliased(rel, alias.as_ref(), own.as_deref())
            }
            TableFactor::Derived { lateral: false, subquery, alias, .. } => {
                let rel = self.query(subquery)?;
                aliased(rel, alias.as_ref(), None)
            }
            TableFactor::TableFunction { expr: sqlparser::ast::Expr::Function(f), alias } => {
                let rel = self.window_tvf(f)?;
                aliased(rel, alias.as_ref(), None)
            }
            TableFactor::NestedJoin { table_with_joins, alias: None } => self.table_with_joins(table_with_joins),
            TableFactor::MatchRecognize { .. } => self.match_recognize(factor),
            TableFactor::Derived { .. } | TableFactor::Function { .. } => {
                Err(unsupported("LATERAL (SELECT …)", at).hint("write it as a JOIN"))
            }
            other => Err(unsupported(&format!("`{other}` in FROM"), at)),
        }
    }
}

fn join_condition(constraint: &JoinConstraint, visible: &Scope) -> Result<Option<Expr>> {
    match constraint {
        JoinConstraint::On(e) => ExprBinder::new(visible, "ON").bind_condition(e).map(Some),
        _ => Ok(None),
    }
}

/// The columns of `*` where the sides may have changed places: left ones first.
fn star_in_order(
    star: &[usize],
    left_width: usize,
    right_first: bool,
    place: &dyn Fn(usize) -> Option<usize>,
) -> Vec<usize> {
    let mut out: Vec<usize> = star.iter().filter_map(|i| place(*i)).collect();
    if right_first {
        out =
            out.iter().filter(|i| **i < left_width).chain(out.iter().filter(|i| **i >= left_width)).copied().collect();
    }
    out
}

/// A hint behind a name that stands for no table.
fn no_options(name: &str, what: &str, path: &Path) -> Error {
    let error = Error::user("sql.hint", format!("`{name}` is {what} and takes no hint OPTIONS"));
    place(error.hint("put the hint behind the table inside of it"), path.position)
}

fn function(name: &ObjectName, args: FunctionArguments) -> Function {
    Function {
        name: name.clone(),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args,
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    }
}

/// The relation under its alias, with the alias's column names if it has any.
pub(super) fn aliased(mut rel: Rel, alias: Option<&TableAlias>, own: Option<&str>) -> Result<(Rel, Scope)> {
    let Some(alias) = alias else {
        let scope = Scope::of(&rel, own);
        return Ok((rel, scope));
    };
    if !alias.columns.is_empty() {
        rename(&mut rel, &alias.columns.iter().map(|c| c.name.value.as_str()).collect::<Vec<_>>())
            .map_err(|e| place(e, position(alias.name.span)))?;
    }
    let scope = Scope::of(&rel, Some(&alias.name.value));
    Ok((rel, scope))
}

/// Gives the columns other names; there must be as many.
pub(super) fn rename(rel: &mut Rel, names: &[&str]) -> Result<()> {
    if names.len() != rel.columns.len() {
        return Err(Error::user(
            "sql.columns",
            format!("{} column names are given for {} columns", names.len(), rel.columns.len()),
        ));
    }
    for (c, n) in rel.columns.iter_mut().zip(names) {
        c.name = (*n).to_owned();
    }
    Ok(())
}

/// The product of two relations; the condition is added by the caller. Which attributes its columns keep is settled when all
/// conditions are known.
pub(super) fn cross(left: (Rel, Scope), right: (Rel, Scope), kind: JoinKind) -> (Rel, Scope) {
    let mut scope = left.1.join(right.1);
    let left_width = left.0.columns.len();
    for (i, c) in scope.columns.iter_mut().enumerate() {
        c.window = None;
        c.data_type.nullable |= if i < left_width { kind.right_outer() } else { kind.pads_right() };
        debug_assert!(c.data_type.kind != TypeKind::Null || c.data_type.nullable, "NULL is nullable");
    }
    let columns = scope.columns.clone();
    let (left, right) = (Box::new(left.0), Box::new(right.0));
    let node =
        RelNode::Join { left, right, kind, keys: Vec::new(), condition: None, as_of: None, ttl: SideTtl::default() };
    (Rel { node, columns }, scope)
}

impl QueryBinder<'_> {
    /// The product, with what a STATE_TTL hint says of its sides.
    fn crossed(&self, left: (Rel, Scope), right: (Rel, Scope), kind: JoinKind) -> (Rel, Scope) {
        let hinted = SideTtl { left: self.hints.state_ttl(&left.1), right: self.hints.state_ttl(&right.1) };
        let (mut rel, scope) = cross(left, right, kind);
        if let RelNode::Join { ttl, .. } = &mut rel.node {
            *ttl = hinted;
        }
        (rel, scope)
    }

    /// The columns of a table or view.
    pub(crate) fn table_columns(&mut self, path: &Path) -> Result<Vec<RelColumn>> {
        Ok(self.table(path)?.columns)
    }
}
