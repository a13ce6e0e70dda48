//! Scans shared within a job: every use of a table reads the union of the columns that all uses need. Changes no result.

use std::collections::{BTreeMap, BTreeSet};

use super::rel::{Rel, RelNode, calc};
use crate::binder::scan_of;

/// Columns of each table that some scan of the job reads.
pub(crate) type ScanColumns = BTreeMap<String, BTreeSet<usize>>;

/// Adds the columns that the scans of `rel` read.
pub(crate) fn collect(rel: &Rel, columns: &mut ScanColumns) {
    if let RelNode::Scan { table, fields } = &rel.node {
        columns.entry(table.scan_key()).or_default().extend(fields.iter().copied());
    }
    for input in inputs(rel) {
        collect(input, columns);
    }
}

/// The inputs of a relation.
pub(crate) fn inputs(rel: &Rel) -> Vec<&Rel> {
    match &rel.node {
        RelNode::Scan { .. } | RelNode::Values { .. } => Vec::new(),
        RelNode::Calc { input, .. }
        | RelNode::Expand { input, .. }
        | RelNode::Window { input, .. }
        | RelNode::WindowAggregate { input, .. }
        | RelNode::Aggregate { input, .. }
        | RelNode::LookupJoin { input, .. }
        | RelNode::Correlate { input, .. }
        | RelNode::Rank { input, .. }
        | RelNode::Over { input, .. }
        | RelNode::Repeat { input, .. }
        | RelNode::Match { input, .. }
        | RelNode::Sort { input, .. } => vec![input],
        RelNode::Join { left, right, .. } => vec![left, right],
        RelNode::Union { inputs } => inputs.iter().collect(),
    }
}

/// The relation with scans of these columns; where a scan had fewer, a projection narrows it again.
pub(crate) fn widen(rel: Rel, columns: &ScanColumns) -> Rel {
    let own = rel.columns;
    let boxed = |r: Box<Rel>| Box::new(widen(*r, columns));
    let node = match rel.node {
        RelNode::Scan { table, fields } => {
            let all: Vec<usize> =
                columns.get(&table.scan_key()).map_or(fields.clone(), |c| c.iter().copied().collect());
            if all == fields {
                return Rel { node: RelNode::Scan { table, fields }, columns: own };
            }
            let full = scan_of(&table);
            let wide = all.iter().map(|&i| full.columns[i].clone()).collect();
            let places: Vec<usize> = fields.iter().filter_map(|f| all.iter().position(|a| a == f)).collect();
            return Rel { node: RelNode::Scan { table, fields: all }, columns: wide }.select(&places);
        }
        node @ RelNode::Values { .. } => node,
        RelNode::Calc { input, filter, projection } => {
            return calc(*boxed(input), filter, projection, own);
        }
        RelNode::Expand { input, projections } => RelNode::Expand { input: boxed(input), projections },
        RelNode::Window { input, window } => RelNode::Window { input: boxed(input), window },
        RelNode::WindowAggregate { input, window, group, aggregates, properties } => {
            RelNode::WindowAggregate { input: boxed(input), window, group, aggregates, properties }
        }
        RelNode::Aggregate { input, group, aggregates, ttl } => {
            RelNode::Aggregate { input: boxed(input), group, aggregates, ttl }
        }
        RelNode::Sort { input, keys, offset, limit, position } => {
            RelNode::Sort { input: boxed(input), keys, offset, limit, position }
        }
        RelNode::LookupJoin { input, table, fields, kind, keys, condition, options, position } => {
            let input = boxed(input);
            RelNode::LookupJoin { input, table, fields, kind, keys, condition, options, position }
        }
        RelNode::Correlate { input, call, left, right, kind } => {
            RelNode::Correlate { input: boxed(input), call, left, right, kind }
        }
        RelNode::Rank { input, partition, order, limit, with_rank, position } => {
            RelNode::Rank { input: boxed(input), partition, order, limit, with_rank, position }
        }
        RelNode::Over { input, partition, order, frame, calls, position } => {
            RelNode::Over { input: boxed(input), partition, order, frame, calls, position }
        }
        RelNode::Match { input, spec, position } => RelNode::Match { input: boxed(input), spec, position },
        RelNode::Join { left, right, kind, keys, condition, as_of, ttl } => {
            RelNode::Join { left: boxed(left), right: boxed(right), kind, keys, condition, as_of, ttl }
        }
        RelNode::Repeat { input, count } => RelNode::Repeat { input: boxed(input), count },
        RelNode::Union { inputs } => RelNode::Union { inputs: inputs.into_iter().map(|r| widen(r, columns)).collect() },
    };
    Rel { node, columns: own }
}
