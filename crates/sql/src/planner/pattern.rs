//! MATCH_RECOGNIZE in the planner: pruning, the operator, EXPLAIN, and the warning about matches that are never given up.

use std::collections::BTreeSet;

use flott_core::Result;
use flott_core::error::Position;
use flott_plan::pattern::{AfterMatch, MatchExpr, MatchReference, MatchSpec};
use flott_plan::spec::OperatorSpec;

use super::explain;
use super::physical::{Changes, Phys, PhysKind, PhysicalPlanner, keyed, updating_node};
use super::rel::{Rel, RelColumn};
use crate::diag::unsupported;

/// The columns of the input that a specification reads.
pub(super) fn needed(spec: &MatchSpec) -> BTreeSet<usize> {
    let mut needed = BTreeSet::new();
    spec.visit_columns(&mut |i| {
        needed.insert(i);
    });
    needed
}

/// The specification over renumbered columns.
pub(super) fn moved(mut spec: MatchSpec, to: &dyn Fn(usize) -> usize) -> MatchSpec {
    spec.partition.iter_mut().for_each(|c| *c = to(*c));
    spec.time = spec.time.map(to);
    spec.order.iter_mut().for_each(|k| k.column = to(k.column));
    for reference in spec.expressions_mut().flat_map(|e| &mut e.references) {
        match reference {
            MatchReference::Column { column, .. } => *column = to(*column),
            MatchReference::Aggregate { argument: Some(argument), .. } => *argument = argument.renumber(to),
            _ => {}
        }
    }
    spec
}

impl PhysicalPlanner<'_> {
    /// The operator of a pattern.
    pub(super) fn pattern(&self, rel: &Rel, spec: &MatchSpec, input: &Rel, at: Option<Position>) -> Result<Phys> {
        let text = explain::describe(rel);
        let input = self.build(input, true)?;
        if !input.changes.is_append() {
            let error = unsupported("MATCH_RECOGNIZE over an updating input", at);
            return Err(error.detail(format!("its input is produced by {}", updating_node(&input))).hint(
                "look for patterns in rows that are only added: before the aggregation, or behind a window aggregation",
            ));
        }
        let (partitioner, parallelism) = keyed(spec.partition.clone());
        let kind = PhysKind::Spec(OperatorSpec::Match(Box::new(spec.clone())));
        let (inputs, columns) = (vec![(input, partitioner)], rel.columns.clone());
        Ok(Phys { kind, inputs, columns, changes: Changes::default(), parallelism, text })
    }
}

/// What is to be said about the patterns of a plan.
pub(crate) fn warnings(phys: &Phys, out: &mut Vec<String>) {
    if let PhysKind::Spec(OperatorSpec::Match(spec)) = &phys.kind
        && spec.within_ms.is_none()
    {
        out.push(format!(
            "MATCH_RECOGNIZE with {} keeps the rows of a match that has begun until the match ends, however long that takes \
             (hint: bound its state with WITHIN behind the pattern, as in {0} WITHIN INTERVAL '1' HOUR)",
            pattern_text(spec)
        ));
    }
    phys.inputs.iter().for_each(|(input, _)| warnings(input, out));
}

fn pattern_text(spec: &MatchSpec) -> String {
    let variables: Vec<String> =
        spec.variables.iter().map(|v| format!("{}{}", v.name, quantifier(v.min, v.max, v.greedy))).collect();
    format!("PATTERN ({})", variables.join(" "))
}

/// The operator as EXPLAIN shows it.
pub(super) fn text(spec: &MatchSpec, rel: &Rel, input: &[RelColumn]) -> String {
    let mut parts = Vec::new();
    if !spec.partition.is_empty() {
        parts.push(format!("partitionBy=[{}]", explain::names(&spec.partition, input)));
    }
    let time = spec.time.map_or("PROCTIME()".to_owned(), |t| input[t].name.clone());
    let order = spec.order.iter().map(|k| explain::order_text(k, input));
    let order: Vec<String> = std::iter::once(format!("{time} ASC")).chain(order).collect();
    parts.push(format!("orderBy=[{}]", order.join(", ")));
    let names = rel.columns.iter().skip(spec.partition.len()).map(|c| c.name.as_str());
    let measures: Vec<String> =
        spec.measures.iter().zip(names).map(|(m, n)| format!("{} AS {n}", value(m, spec, input))).collect();
    parts.push(format!("measures=[{}]", measures.join(", ")));
    parts.push("rowsPerMatch=[ONE ROW PER MATCH]".to_owned());
    parts.push(format!("after=[{}]", after(spec)));
    parts.push(format!("pattern=[{}]", pattern_text(spec).trim_start_matches("PATTERN ")));
    if let Some(ms) = spec.within_ms {
        parts.push(format!("within=[{}]", explain::duration(ms)));
    }
    let define = spec
        .variables
        .iter()
        .filter_map(|v| Some(format!("{} AS {}", v.name, value(v.condition.as_ref()?, spec, input))));
    parts.push(format!("define=[{}]", define.collect::<Vec<_>>().join(", ")));
    format!("Match({})", parts.join(", "))
}

fn after(spec: &MatchSpec) -> String {
    let name = |v: usize| &spec.variables[v].name;
    match spec.skip {
        AfterMatch::PastLastRow => "SKIP PAST LAST ROW".to_owned(),
        AfterMatch::ToNextRow => "SKIP TO NEXT ROW".to_owned(),
        AfterMatch::ToFirst(v) => format!("SKIP TO FIRST {}", name(v)),
        AfterMatch::ToLast(v) => format!("SKIP TO LAST {}", name(v)),
    }
}

fn quantifier(min: u32, max: Option<u32>, greedy: bool) -> String {
    let mut text = match (min, max) {
        (1, Some(1)) => return String::new(),
        (0, None) => "*".to_owned(),
        (1, None) => "+".to_owned(),
        (0, Some(1)) => "?".to_owned(),
        (n, None) => format!("{{{n},}}"),
        (n, Some(m)) if n == m => format!("{{{n}}}"),
        (n, Some(m)) => format!("{{{n},{m}}}"),
    };
    if !greedy {
        text.push('?');
    }
    text
}

/// An expression with what its references are called.
fn value(e: &MatchExpr, spec: &MatchSpec, input: &[RelColumn]) -> String {
    let of = |variable: Option<usize>, column: &str| match variable {
        Some(v) => format!("{}.{column}", spec.variables[v].name),
        None => column.to_owned(),
    };
    let name = |r: &MatchReference| match r {
        MatchReference::Column { variable, first, offset, column, .. } => {
            let column = of(*variable, &input[*column].name);
            match (*first, *offset) {
                (false, 0) => column,
                (first, 0) => format!("{}({column})", if first { "FIRST" } else { "LAST" }),
                (first, n) => format!("{}({column}, {n})", if first { "FIRST" } else { "LAST" }),
            }
        }
        MatchReference::Aggregate { variable, function, argument, .. } => {
            let columns: Vec<RelColumn> =
                input.iter().map(|c| RelColumn::new(of(*variable, &c.name), c.data_type.clone())).collect();
            let argument = argument.as_ref().map_or("*".to_owned(), |a| explain::expr(a, &columns));
            format!("{}({argument})", format!("{function:?}").to_uppercase())
        }
        MatchReference::Rowtime { .. } => "MATCH_ROWTIME()".to_owned(),
    };
    let columns: Vec<RelColumn> = e.references.iter().map(|r| RelColumn::new(name(r), r.data_type().clone())).collect();
    explain::expr(&e.expr, &columns)
}
