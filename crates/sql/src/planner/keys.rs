//! Upsert keys: which columns of a relation tell its rows apart, so that updates can be applied by them. Changes nothing.

use std::collections::BTreeSet;

use flott_core::types::TypeKind;
use flott_plan::{Expr, ExprKind, JoinKind};

use super::rel::{Rel, RelNode};

/// A key: no two rows agree in all of its columns.
pub(crate) type Key = BTreeSet<usize>;

/// Keys looked at per relation; joins multiply them.
const KEYS_MAX: usize = 8;

/// The keys of a relation that are known.
pub(crate) fn upsert_keys(rel: &Rel) -> Vec<Key> {
    let mut keys = match &rel.node {
        RelNode::Scan { table, fields } => {
            let place = |c: &usize| fields.iter().position(|f| f == c);
            let key: Option<Key> = table.primary_key.iter().map(place).collect();
            key.filter(|_| !table.primary_key.is_empty()).into_iter().collect()
        }
        RelNode::Values { .. }
        | RelNode::Union { .. }
        | RelNode::Repeat { .. }
        | RelNode::Expand { .. }
        | RelNode::Match { .. }
        | RelNode::Correlate { .. } => Vec::new(),
        RelNode::Calc { input, projection, .. } => {
            let place = |c: &usize| projection.iter().position(|e| carries(e, *c));
            upsert_keys(input).iter().filter_map(|key| key.iter().map(place).collect()).collect()
        }
        RelNode::Window { input, .. } => {
            let start = input.columns.len();
            upsert_keys(input).into_iter().map(|k| k.into_iter().chain([start]).collect()).collect()
        }
        RelNode::WindowAggregate { group, aggregates, properties, .. } => {
            let first = group.len() + aggregates.len();
            properties.iter().enumerate().map(|(i, _)| (0..group.len()).chain([first + i]).collect()).collect()
        }
        RelNode::Aggregate { group, .. } => vec![(0..group.len()).collect()],
        RelNode::Join { left, kind: JoinKind::Semi | JoinKind::Anti, .. }
        | RelNode::Join { left, as_of: Some(_), .. } => upsert_keys(left),
        RelNode::Join { left, right, keys, kind, .. } => {
            let width = left.columns.len();
            let (left_keys, right_keys) = (upsert_keys(left), upsert_keys(right));
            let on: (Key, Key) = keys.iter().copied().unzip();
            let mut out: Vec<Key> = Vec::new();
            // A side with one match at most per row of the other adds no rows; padding has no key.
            if *kind != JoinKind::Full && right_keys.iter().any(|k| k.is_subset(&on.1)) {
                out.extend(left_keys.iter().cloned());
            }
            if *kind == JoinKind::Inner && left_keys.iter().any(|k| k.is_subset(&on.0)) {
                out.extend(right_keys.iter().map(|k| k.iter().map(|c| c + width).collect()));
            }
            for l in &left_keys {
                out.extend(right_keys.iter().map(|r| l.iter().copied().chain(r.iter().map(|c| c + width)).collect()));
            }
            out
        }
        RelNode::LookupJoin { input, table, keys, .. } => {
            let on: Key = keys.iter().map(|k| k.1).collect();
            let unique = !table.primary_key.is_empty() && table.primary_key.iter().all(|c| on.contains(c));
            if unique { upsert_keys(input) } else { Vec::new() }
        }
        RelNode::Rank { input, partition, limit, with_rank, .. } => {
            let mut out = upsert_keys(input);
            let partition: Key = partition.iter().copied().collect();
            if *limit == Some(1) {
                out.insert(0, partition);
            } else if *with_rank {
                out.insert(0, partition.into_iter().chain([input.columns.len()]).collect());
            }
            out
        }
        RelNode::Over { input, .. } | RelNode::Sort { input, .. } => upsert_keys(input),
    };
    keys.truncate(KEYS_MAX);
    keys
}

/// Whether the expression gives column `column` back, or all of what tells its values apart.
fn carries(e: &Expr, column: usize) -> bool {
    match &e.kind {
        ExprKind::Column(i) => *i == column,
        ExprKind::Cast { input, .. } => {
            input.kind == ExprKind::Column(column) && widens(&input.data_type.kind, &e.data_type.kind)
        }
        _ => false,
    }
}

/// Whether different values stay different.
fn widens(from: &TypeKind, to: &TypeKind) -> bool {
    use TypeKind as T;
    let rank = |t: &TypeKind| match t {
        T::TinyInt => Some(1),
        T::SmallInt => Some(2),
        T::Int => Some(3),
        T::BigInt => Some(4),
        _ => None,
    };
    match (from, to) {
        (T::VarChar(a), T::VarChar(b)) => a <= b,
        (a, b) if a == b => true,
        (a, b) => matches!((rank(a), rank(b)), (Some(a), Some(b)) if a <= b),
    }
}
