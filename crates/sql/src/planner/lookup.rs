//! Lookup joins: keys out of conditions, filters to the side where they cost least, columns pruned. Asks no connector.

use std::collections::BTreeSet;
use std::sync::Arc;

use flott_core::error::Position;
use flott_core::{Error, Result};
use flott_plan::spec::LookupJoinOptions;
use flott_plan::{Expr, ExprKind, JoinKind};

use super::optimise::{Side, above, folded};
use super::rel::{Rel, RelColumn, RelNode, and_all, conjuncts, used_columns};
use crate::catalog::{ColumnSource, Table};
use crate::diag::place;

/// The parts of a lookup join.
pub(crate) struct LookupJoin {
    pub(crate) input: Rel,
    pub(crate) table: Arc<Table>,
    pub(crate) fields: Vec<usize>,
    pub(crate) kind: JoinKind,
    pub(crate) keys: Vec<(usize, usize)>,
    pub(crate) condition: Option<Expr>,
    pub(crate) options: LookupJoinOptions,
    pub(crate) position: Option<Position>,
}

impl LookupJoin {
    fn rel(self, columns: Vec<RelColumn>) -> Rel {
        let LookupJoin { input, table, fields, kind, keys, condition, options, position } = self;
        let input = Box::new(input);
        Rel { node: RelNode::LookupJoin { input, table, fields, kind, keys, condition, options, position }, columns }
    }
}

/// The join with `filters` (over its columns) taken in: conditions on the input go below, equalities become keys, what is left
/// is judged after the lookup.
pub(crate) fn push(join: LookupJoin, columns: Vec<RelColumn>, filters: Vec<Expr>) -> Rel {
    let inner = join.kind == JoinKind::Inner;
    let width = join.input.columns.len();
    let LookupJoin { input, table, fields, kind, mut keys, condition, options, position } = join;
    let mut rest = Vec::new();
    let on_input = |e: &Expr| used_columns([e]).iter().all(|&i| i < width);
    let mut input = Side::new(input);
    let (mut on, mut up) = (condition.into_iter().flat_map(conjuncts).collect::<Vec<_>>(), Vec::new());
    for f in filters.into_iter().flat_map(conjuncts) {
        match inner {
            true => on.push(f),
            false if on_input(&f) => input.filters.push(f),
            false => up.push(f),
        }
    }
    for c in folded(on) {
        if inner && on_input(&c) && !used_columns([&c]).is_empty() {
            input.filters.push(c);
        } else if let Some((e, field)) = equality(&c, width, &fields, &table) {
            let key = (input.key(e), field);
            // A second value for one column is a condition like any other.
            match keys.iter().any(|k| k.1 == field) {
                true if keys.contains(&key) => {}
                true => rest.push(c),
                false => keys.push(key),
            }
        } else {
            rest.push(c);
        }
    }
    keys.sort_by_key(|k| k.1);
    let extra = input.extra.len();
    let input = input.finish();
    let moved = |e: &Expr| e.renumber(&|i| if i < width { i } else { i + extra });
    let condition = and_all(rest.iter().map(moved));
    let mut joined: Vec<RelColumn> = columns[..width].to_vec();
    joined.extend(input.columns[width..].iter().cloned());
    joined.extend(columns[width..].iter().cloned());
    let visible: Vec<usize> = (0..width).chain(width + extra..joined.len()).collect();
    let mut rel = LookupJoin { input, table, fields, kind, keys, condition, options, position }.rel(joined);
    if extra > 0 {
        rel = rel.select(&visible);
        rel.columns = columns;
    }
    above(rel, up)
}

/// `input = column` of the table, or `constant = column`: the value, and the table's column.
fn equality(e: &Expr, width: usize, fields: &[usize], table: &Table) -> Option<(Expr, usize)> {
    let ExprKind::Call { function, args } = &e.kind else { return None };
    let [a, b] = args.as_slice() else { return None };
    let strings = a.data_type.kind.is_string() && b.data_type.kind.is_string();
    if function != "=" || (a.data_type.kind != b.data_type.kind && !strings) {
        return None;
    }
    let column = |e: &Expr| match e.kind {
        ExprKind::Column(i) if i >= width => {
            let field = fields[i - width];
            matches!(table.columns[field].source, ColumnSource::Physical).then_some(field)
        }
        _ => None,
    };
    let value = |e: &Expr| used_columns([e]).iter().all(|&i| i < width).then(|| e.clone());
    match (value(a), column(b), value(b), column(a)) {
        (Some(v), Some(c), ..) | (.., Some(v), Some(c)) => Some((v, c)),
        _ => None,
    }
}

/// The columns of the input that the join needs, and those of the table, given what is read above.
pub(crate) fn needed(
    above: &BTreeSet<usize>,
    width: usize,
    keys: &[(usize, usize)],
    condition: Option<&Expr>,
) -> (BTreeSet<usize>, BTreeSet<usize>) {
    let mut all = above.clone();
    all.extend(condition.map(|c| used_columns([c])).unwrap_or_default());
    let mut input: BTreeSet<usize> = all.iter().copied().filter(|&i| i < width).collect();
    input.extend(keys.iter().map(|k| k.0));
    (input, all.into_iter().filter(|&i| i >= width).map(|i| i - width).collect())
}

/// A lookup join without a key cannot be asked.
pub(crate) fn check_keys(keys: &[(usize, usize)], table: &Table, at: Option<Position>) -> Result<()> {
    if !keys.is_empty() {
        return Ok(());
    }
    let message =
        format!("the lookup join with `{}` needs an equality between a column of it and the other side", table.name);
    let error = Error::user("sql.lookup-join", message)
        .detail("only col = value counts, with a column that is not computed and a value of the same type")
        .hint("CAST the other side to the column's type");
    Err(place(error, at))
}
