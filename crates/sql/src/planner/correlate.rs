//! Table functions in the planner: filters below them, their line in EXPLAIN, their operator. Calls none.

use flott_core::{Error, Result};
use flott_plan::spec::CorrelateSpec;
use flott_plan::{Expr, JoinKind, Partitioner};

use super::explain::expr;
use super::optimise::{above, push as push_below, split};
use super::physical::{Phys, PhysKind, PhysicalPlanner};
use super::rel::{Rel, RelColumn, RelNode, conjuncts};

/// Filters on the input go below.
pub(crate) fn push(rel: Rel, filters: Vec<Expr>) -> Rel {
    let columns = rel.columns;
    let RelNode::Correlate { input, call, left, right, kind } = rel.node else {
        return Rel { node: rel.node, columns };
    };
    let filters = filters.into_iter().flat_map(conjuncts).collect();
    let (down, up) = split(filters, |used| !used.is_empty() && used.iter().all(|&i| i < left.len()));
    let down = down.iter().map(|f| f.renumber(&|i| left[i])).collect();
    let input = Box::new(push_below(*input, down));
    above(Rel { node: RelNode::Correlate { input, call, left, right, kind }, columns }, up)
}

/// As in EXPLAIN.
pub(crate) fn text(rel: &Rel, input: &[RelColumn]) -> String {
    let RelNode::Correlate { call, kind, .. } = &rel.node else { return String::new() };
    let args: Vec<String> = call.args.iter().map(|a| expr(a, input)).collect();
    let select: Vec<&str> = rel.columns.iter().map(|c| c.name.as_str()).collect();
    let kind = if *kind == JoinKind::Left { "LEFT" } else { "INNER" };
    let (name, args, select) = (&call.name, args.join(", "), select.join(", "));
    format!("Correlate(invocation=[{name}({args})], select=[{select}], joinType=[{kind}])")
}

impl PhysicalPlanner<'_> {
    /// The operator of a table function: the rows of a row that changes may be fewer, so it wants every `-U`.
    pub(super) fn correlate(&self, rel: &Rel, text: String) -> Result<Phys> {
        let RelNode::Correlate { input, call, left, right, kind } = &rel.node else {
            return Err(Error::bug("not a table function"));
        };
        let input = self.build(input, true)?;
        let spec = CorrelateSpec { kind: *kind, args: call.args.clone(), left: left.clone(), right: right.clone() };
        let (changes, parallelism) = (input.changes, input.parallelism);
        Ok(Phys {
            kind: PhysKind::Correlate(spec, call.function.clone()),
            inputs: vec![(input, Partitioner::Forward)],
            columns: rel.columns.clone(),
            changes,
            parallelism,
            text,
        })
    }
}
