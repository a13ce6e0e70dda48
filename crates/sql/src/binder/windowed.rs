//! Aggregation over windows: whether a GROUP BY is by the windows of a table function just below, or by windows that rows brought
//! along from further below. Builds no relation.

use flott_core::types::TypeKind;
use flott_plan::spec::{WindowKind, WindowProperty};
use flott_plan::{Expr, ExprKind};

use super::aggregate::{BoundAggregate, GroupResult, Key, Parts};
use super::grouping::GroupBy;
use crate::planner::rel::{Attached, Rel, RelColumn, RelNode, TimeAttribute, Window, used_columns};

/// The parts of an aggregation: by windows, if it groups by their bounds.
pub(super) fn windowed(rel: Rel, group: &GroupBy, results: &[GroupResult]) -> Parts {
    let column = |k: usize| match group.keys[k].kind {
        ExprKind::Column(i) if group.sets.iter().all(|s| s.contains(&k)) => Some(i),
        _ => None,
    };
    let attached = |k: usize| column(k).and_then(|i| rel.columns[i].attached);
    let found = |p| (0..group.keys.len()).find(|&k| attached(k).is_some_and(|a| a.property == p));
    let (Some(start), Some(end)) = (found(WindowProperty::Start), found(WindowProperty::End)) else {
        return Parts::plain(rel, group, results);
    };
    let of_tvf = |k: usize| column(k).and_then(|i| rel.columns[i].window);
    if of_tvf(start).is_some()
        && of_tvf(end).is_some()
        && let Some(parts) = direct(&rel, group, results)
    {
        return parts;
    }
    // Windows of processing time end whenever the clock of their operator says so: rows may still be on their way.
    let (Some(end_column), Some(a)) = (column(end), attached(end).filter(|a| !a.proctime)) else {
        return Parts::plain(rel, group, results);
    };
    let key = |(k, e): (usize, &Expr)| match attached(k).map(|a| a.property) {
        Some(WindowProperty::End) if k == end => Key::Property(WindowProperty::End),
        Some(WindowProperty::Time) => Key::Property(WindowProperty::Time),
        _ => Key::Expr(e.clone()),
    };
    let keys = group.keys.iter().enumerate().map(key).collect();
    let kind = if a.zoned { TypeKind::TimestampLtz(3) } else { TypeKind::Timestamp(3) };
    let window = Window {
        kind: WindowKind::Attached,
        time: end_column,
        time_attribute: TimeAttribute::Rowtime,
        time_type: kind.not_null(),
        partition: Vec::new(),
        position: None,
    };
    Parts { input: rel, window: Some(window), keys, results: results.to_vec(), partition_by_group: false }
}

/// An aggregation over a window table function, with at most a projection and a filter of the input's columns between: the
/// windows are then cut by the aggregation itself.
fn direct(rel: &Rel, group: &GroupBy, results: &[GroupResult]) -> Option<Parts> {
    let (projection, filter, below) = match &rel.node {
        RelNode::Calc { input, filter, projection } => (projection.clone(), filter.clone(), input.as_ref()),
        _ => (rel.identity(), None, rel),
    };
    let RelNode::Window { input, window } = &below.node else { return None };
    let width = input.columns.len();
    let moved = |e: &Expr| -> Option<Expr> {
        let e = e.replace_columns(&|i| projection[i].clone());
        used_columns([&e]).iter().all(|&i| i < width).then_some(e)
    };
    if filter.iter().any(|f| used_columns([f]).iter().any(|&i| i >= width)) {
        return None;
    }
    let key = |e: &Expr| match e.kind {
        ExprKind::Column(i) if rel.columns[i].window.is_some() => rel.columns[i].window.map(Key::Property),
        _ => moved(e).map(Key::Expr),
    };
    let keys = group.keys.iter().map(key).collect::<Option<Vec<_>>>()?;
    let lacks = |k: usize| group.sets.iter().any(|s| !s.contains(&k));
    if keys.iter().enumerate().any(|(k, key)| matches!(key, Key::Property(_)) && lacks(k)) {
        return None;
    }
    let optional = |e: &Option<Expr>| match e {
        Some(e) => moved(e).map(Some),
        None => Some(None),
    };
    let result = |r: &GroupResult| match r {
        GroupResult::Aggregate(a) => Some(GroupResult::Aggregate(BoundAggregate {
            arg: optional(&a.arg)?,
            more: a.more.iter().map(moved).collect::<Option<_>>()?,
            filter: optional(&a.filter)?,
            ..a.clone()
        })),
        other => Some(other.clone()),
    };
    let results = results.iter().map(result).collect::<Option<Vec<_>>>()?;
    let input = match filter {
        Some(f) => (**input).clone().filter(f),
        None => (**input).clone(),
    };
    Some(Parts { input, window: Some(window.clone()), keys, results, partition_by_group: false })
}

impl Window {
    /// The column that a property of the window is.
    pub(crate) fn property_column(&self, property: WindowProperty) -> RelColumn {
        let timestamp = TypeKind::Timestamp(3).not_null();
        let proctime = self.time_attribute == TimeAttribute::Proctime;
        let zoned = proctime || matches!(self.time_type.kind, TypeKind::TimestampLtz(_));
        let (window, attached) = (Some(property), Some(Attached { property, proctime, zoned }));
        match property {
            WindowProperty::Start => RelColumn { window, attached, ..RelColumn::new("window_start", timestamp) },
            WindowProperty::End => RelColumn { window, attached, ..RelColumn::new("window_end", timestamp) },
            WindowProperty::Time => {
                let data_type = match self.time_attribute {
                    TimeAttribute::Proctime => TypeKind::TimestampLtz(3).not_null(),
                    TimeAttribute::Rowtime => self.time_type.clone(),
                };
                RelColumn {
                    time: Some(self.time_attribute),
                    window,
                    attached,
                    ..RelColumn::new("window_time", data_type)
                }
            }
        }
    }
}
