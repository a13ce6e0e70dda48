//! `JOIN t FOR SYSTEM_TIME AS OF …`: lookup joins. Refuses what is no lookup join; asks no connector.

use flott_core::error::Position;
use flott_core::{Error, Result};
use flott_plan::{ExprKind, JoinKind};
use sqlparser::ast::{Expr as SqlExpr, Join, JoinConstraint, JoinOperator, Spanned, TableFactor, TableVersion};

use super::expr::{ExprBinder, span_position};
use super::from::{aliased, cross, path, scan};
use super::query::QueryBinder;
use super::scope::Scope;
use crate::catalog::CatalogObject;
use crate::diag::{place, position, unsupported};
use crate::planner::rel::{AsOf, Rel, RelNode, TimeAttribute};

/// The time a join's right side is taken as of, if it says so.
pub(super) fn as_of(join: &Join) -> Option<&SqlExpr> {
    match &join.relation {
        TableFactor::Table { version: Some(TableVersion::ForSystemTimeAsOf(e)), .. } => Some(e),
        _ => None,
    }
}

impl QueryBinder<'_> {
    /// A join with rows of a table as of a processing time of the left side.
    pub(super) fn lookup_join(&mut self, left: (Rel, Scope), join: &Join, time: &SqlExpr) -> Result<(Rel, Scope)> {
        let at = position(join.relation.span());
        let TableFactor::Table { name, alias, args: None, .. } = &join.relation else {
            return Err(unsupported("FOR SYSTEM_TIME AS OF behind a table function", at));
        };
        let (kind, constraint) = match &join.join_operator {
            JoinOperator::Join(c) | JoinOperator::Inner(c) => (JoinKind::Inner, c),
            JoinOperator::Left(c) | JoinOperator::LeftOuter(c) => (JoinKind::Left, c),
            _ => {
                let error = unsupported("this kind of join with FOR SYSTEM_TIME AS OF", at);
                return Err(error.hint("there are INNER and LEFT lookup joins"));
            }
        };
        let JoinConstraint::On(condition) = constraint else {
            let error = Error::user("sql.lookup-join", "a join with FOR SYSTEM_TIME AS OF needs ON");
            return Err(place(error.hint("as in ON a.id = t.id"), at));
        };
        if let Some(left_time) = event_time(&left.1, time)? {
            return self.temporal_join(left, join, (kind, condition), left_time);
        }
        let path = path(name);
        let table = match self.catalog.get_from(&self.home, &path)? {
            CatalogObject::Table(table) => self.catalog.hinted(table, &path)?,
            CatalogObject::View(view) => {
                let error = unsupported(&format!("FOR SYSTEM_TIME AS OF over the view `{}`", view.name), at);
                return Err(error.hint("join the table itself, and compute in an outer SELECT"));
            }
        };
        let mut right = scan(&table);
        for c in &mut right.columns {
            c.time = None;
            c.data_type.nullable |= kind == JoinKind::Left;
        }
        let (right, right_scope) = aliased(right, alias.as_ref(), Some(&table.name))?;
        let known = right_scope.qualifiers.first().cloned().flatten().unwrap_or_default();
        let options = self.take_lookup_hint(&known, &table.name)?;
        let scope = left.1.join(right_scope);
        let on = ExprBinder::new(&scope, "ON").bind_condition(condition)?;
        let mut columns = left.0.columns.clone();
        columns.extend(right.columns);
        let fields = (0..table.columns.len()).collect();
        let (input, keys, condition) = (Box::new(left.0), Vec::new(), Some(on));
        let node = RelNode::LookupJoin { input, table, fields, kind, keys, condition, options, position: at };
        Ok((Rel { node, columns }, scope))
    }
}

impl QueryBinder<'_> {
    /// A join with the version of a table or view at an event time of the left side.
    fn temporal_join(
        &mut self,
        left: (Rel, Scope),
        join: &Join,
        (kind, condition): (JoinKind, &SqlExpr),
        left_time: usize,
    ) -> Result<(Rel, Scope)> {
        let at = position(join.relation.span());
        let TableFactor::Table { name, alias, .. } = &join.relation else {
            return Err(unsupported("FOR SYSTEM_TIME AS OF behind this", at));
        };
        let path = path(name);
        let right = self.table(&path)?;
        let own = path.parts.last().cloned();
        let (right, right_scope) = aliased(right, alias.as_ref(), own.as_deref())?;
        let mut times = (0..right.columns.len()).filter(|&i| right.columns[i].time == Some(TimeAttribute::Rowtime));
        let (Some(right_time), None) = (times.next(), times.next()) else {
            let message = format!(
                "`{path}` is joined as of an event time and has no column that says since when its rows are valid"
            );
            let error = Error::user("sql.temporal-join", message)
                .hint("declare a WATERMARK for one of its columns; a view must pass it on as it is");
            return Err(place(error, at));
        };
        let (mut rel, scope) = cross(left, (right, right_scope), kind);
        let on = ExprBinder::new(&scope, "ON").bind_condition(condition)?;
        if let RelNode::Join { condition, as_of, .. } = &mut rel.node {
            *condition = Some(on);
            *as_of = Some(AsOf { left_time, right_time, position: at });
        }
        Ok((rel, scope))
    }
}

/// The event time that the join is as of; `None`: a processing time. It must be an attribute of the left side.
fn event_time(left: &Scope, time: &SqlExpr) -> Result<Option<usize>> {
    let at: Option<Position> = span_position(time);
    let bound = ExprBinder::new(left, "FOR SYSTEM_TIME AS OF").bind(time)?;
    match bound.kind {
        ExprKind::Column(i) if left.columns[i].time == Some(TimeAttribute::Proctime) => Ok(None),
        ExprKind::Column(i) if left.columns[i].time == Some(TimeAttribute::Rowtime) => Ok(Some(i)),
        _ => {
            let message = format!("FOR SYSTEM_TIME AS OF takes a time attribute of the left table, found `{time}`");
            let error = Error::user("sql.time-attribute", message)
                .hint("add a column AS PROCTIME() to the left table, or a WATERMARK, and pass the column on as it is");
            Err(place(error, at))
        }
    }
}
