//! `JOIN t FOR SYSTEM_TIME AS OF …`: lookup joins. Refuses what is no lookup join; asks no connector.

use flott_core::error::Position;
use flott_core::{Error, Result};
use flott_plan::{ExprKind, JoinKind};
use sqlparser::ast::{Expr as SqlExpr, Join, JoinConstraint, JoinOperator, Spanned, TableFactor, TableVersion};

use super::expr::{ExprBinder, span_position};
use super::from::{aliased, path, scan};
use super::query::QueryBinder;
use super::scope::Scope;
use crate::catalog::CatalogObject;
use crate::diag::{place, position, unsupported};
use crate::planner::rel::{Rel, RelNode, TimeAttribute};

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
        check_time(&left.1, time)?;
        let table = match self.catalog.get(&path(name))? {
            CatalogObject::Table(table) => table.clone(),
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

/// The time must be a processing-time attribute of the left side.
fn check_time(left: &Scope, time: &SqlExpr) -> Result<()> {
    let at: Option<Position> = span_position(time);
    let bound = ExprBinder::new(left, "FOR SYSTEM_TIME AS OF").bind(time)?;
    let attribute = match bound.kind {
        ExprKind::Column(i) => left.columns[i].time,
        _ => None,
    };
    match attribute {
        Some(TimeAttribute::Proctime) => Ok(()),
        Some(TimeAttribute::Rowtime) => {
            let error = unsupported("FOR SYSTEM_TIME AS OF an event time (a temporal join)", at);
            Err(error.hint("join as of a processing time: add a column AS PROCTIME() to the left table"))
        }
        None => {
            let message =
                format!("FOR SYSTEM_TIME AS OF takes a processing-time attribute of the left table, found `{time}`");
            let error = Error::user("sql.time-attribute", message)
                .hint("add a column AS PROCTIME() to the left table, and pass it on as it is");
            Err(place(error, at))
        }
    }
}
