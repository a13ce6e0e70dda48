//! Sessions whose aggregates cannot be merged, or whose keys are not those of the GROUP BY: the rows of a session are kept until it is
//! over and aggregated then. Builds relations, no operator.

use flott_core::{Error, Result};
use flott_plan::Expr;
use flott_plan::spec::{WindowKind, WindowProperty};

use super::rel::{Rel, RelNode, TimeAttribute, Window, calc};
use crate::diag::unsupported;

/// Whether the aggregation keeps accumulators while its windows are open: always, but for some over sessions.
pub(super) fn mergeable(rel: &Rel) -> bool {
    let RelNode::WindowAggregate { window, group, aggregates, .. } = &rel.node else { return true };
    if !matches!(window.kind, WindowKind::Session { .. }) {
        return true;
    }
    let same_keys =
        window.partition.iter().all(|p| group.contains(p)) && group.iter().all(|g| window.partition.contains(g));
    same_keys && aggregates.iter().all(|a| !a.distinct && a.user.as_ref().is_none_or(|u| u.function.can_merge()))
}

/// The table function below, and above it an aggregation by the windows that its rows bring along.
pub(super) fn over_rows(rel: &Rel) -> Result<Rel> {
    let RelNode::WindowAggregate { input, window, group, aggregates, properties } = &rel.node else {
        return Err(Error::bug("not a window aggregation"));
    };
    if window.time_attribute == TimeAttribute::Proctime {
        let what = "a SESSION of processing time with DISTINCT, an aggregate without merge, an updating input, or a PARTITION BY \
                    other than the keys of the GROUP BY";
        return Err(unsupported(what, window.position).hint("use an event time, or TUMBLE"));
    }
    let width = input.columns.len();
    let mut columns = input.columns.clone();
    columns
        .extend([WindowProperty::Start, WindowProperty::End, WindowProperty::Time].map(|p| window.property_column(p)));
    let node = RelNode::Window { input: input.clone(), window: window.clone() };
    let rows = Rel { node, columns };
    let mut keys = group.clone();
    keys.push(width);
    let wanted: Vec<WindowProperty> = properties.iter().copied().filter(|p| *p != WindowProperty::Start).collect();
    // The start is a key; the others come behind the aggregates.
    let (before, after) = rel.columns.split_at(group.len());
    let mut columns = before.to_vec();
    columns.push(rows.columns[width].clone());
    columns.extend_from_slice(&after[..aggregates.len()]);
    columns.extend(wanted.iter().map(|p| window.property_column(*p)));
    let attached = Window { kind: WindowKind::Attached, time: width + 1, partition: Vec::new(), ..window.clone() };
    let first_property = keys.len() + aggregates.len();
    let place = |p: &WindowProperty| match wanted.iter().position(|w| w == p) {
        Some(i) => first_property + i,
        None => group.len(),
    };
    let places = (0..group.len()).chain(keys.len()..first_property).chain(properties.iter().map(place));
    let projection = places.map(|i| Expr::column(i, columns[i].data_type.clone())).collect();
    let node = RelNode::WindowAggregate {
        input: Box::new(rows),
        window: attached,
        group: keys,
        aggregates: aggregates.clone(),
        properties: wanted,
    };
    Ok(calc(Rel { node, columns }, None, projection, rel.columns.clone()))
}
