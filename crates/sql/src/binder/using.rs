//! JOIN … USING and NATURAL JOIN: columns that both sides share appear once. Builds relations, runs nothing.

use flott_core::error::Position;
use flott_core::{Error, Result};
use flott_expr::bind_call;
use flott_plan::{Expr, JoinKind};
use sqlparser::ast::{JoinConstraint, ObjectName};

use super::scope::Scope;
use crate::diag::{place, position, suggestion};
use crate::planner::rel::{Rel, and_all};

/// A column that both sides have: its name, and where it is.
pub(super) struct Shared {
    name: String,
    left: usize,
    right: usize,
}

/// The columns that USING names or NATURAL finds; `None` where there is neither.
pub(super) fn shared(
    constraint: &JoinConstraint,
    visible: &Scope,
    left_width: usize,
    at: Option<Position>,
) -> Result<Option<Vec<Shared>>> {
    let stars = visible.stars();
    let names: Vec<(String, Option<Position>)> = match constraint {
        JoinConstraint::Using(names) => names.iter().map(using_name).collect(),
        JoinConstraint::Natural => {
            let name = |i: &usize| visible.columns[*i].name.clone();
            let right: Vec<String> = stars.iter().filter(|i| **i >= left_width).map(name).collect();
            let left = stars.iter().filter(|i| **i < left_width).map(name);
            left.filter(|n| right.contains(n)).map(|n| (n, at)).collect()
        }
        _ => return Ok(None),
    };
    let find = |name: &str, right: bool, at: Option<Position>| {
        let own: Vec<usize> = stars.iter().copied().filter(|i| (*i >= left_width) == right).collect();
        let mut found = own.iter().copied().filter(|i| visible.columns[*i].name == name);
        let side = if right { "right" } else { "left" };
        match (found.next(), found.next()) {
            (Some(i), None) => Ok(i),
            (Some(_), Some(_)) => {
                let message = format!("column `{name}` is ambiguous on the {side} side of the join");
                Err(place(Error::user("sql.ambiguous-column", message), at))
            }
            (None, _) => {
                let names: Vec<&str> = own.iter().map(|i| visible.columns[*i].name.as_str()).collect();
                let message = format!("there is no column `{name}` on the {side} side of the join");
                Err(place(Error::user("sql.unknown-column", message).hint(suggestion(name, &names, 12)), at))
            }
        }
    };
    let mut out = Vec::new();
    for (name, at) in names {
        let (left, right) = (find(&name, false, at)?, find(&name, true, at)?);
        out.push(Shared { name, left, right });
    }
    Ok(Some(out))
}

fn using_name(name: &ObjectName) -> (String, Option<Position>) {
    let ident = name.0.last().and_then(|p| p.as_ident());
    (ident.map(|i| i.value.clone()).unwrap_or_default(), ident.and_then(|i| position(i.span)))
}

/// The shared columns are equal.
pub(super) fn condition(visible: &Scope, shared: &[Shared]) -> Result<Option<Expr>> {
    let equal = |s: &Shared| bind_call("=", vec![visible.column(s.left), visible.column(s.right)]);
    Ok(and_all(shared.iter().map(equal).collect::<Result<Vec<_>>>()?))
}

/// The join with its shared columns behind the others. `*` gives them first and the originals not at all; these can still be
/// named with their table.
pub(super) fn merged(
    rel: Rel,
    mut scope: Scope,
    shared: &[Shared],
    (kind, swap): (JoinKind, bool),
) -> Result<(Rel, Scope)> {
    let width = scope.len();
    let mut exprs = rel.identity();
    let mut names: Vec<String> = rel.columns.iter().map(|c| c.name.clone()).collect();
    for s in shared {
        let (left, right) = (scope.column(s.left), scope.column(s.right));
        exprs.push(match (kind, swap) {
            (JoinKind::Full, _) => bind_call("COALESCE", vec![left, right])?,
            (_, true) => right,
            (_, false) => left,
        });
        names.push(s.name.clone());
    }
    let hidden = |i: &usize| shared.iter().any(|s| s.left == *i || s.right == *i);
    let others = scope.stars().into_iter().filter(|i| !hidden(i));
    let star = (width..width + shared.len()).chain(others).collect();
    let rel = rel.project(exprs, &names);
    for column in &rel.columns[width..] {
        scope.columns.push(column.clone());
        scope.qualifiers.push(None);
    }
    scope.star = Some(star);
    Ok((rel, scope))
}
