//! ORDER BY, OFFSET and LIMIT: at the end of data where there is one; of an unbounded stream by time, or its first rows. Creates sources
//! to ask whether they end, and keeps none.

use flott_core::sink::ChangelogMode;
use flott_core::source::Boundedness;
use flott_core::types::TypeKind;
use flott_core::{Error, Result};
use flott_plan::spec::OperatorSpec;
use flott_plan::{Expr, Literal, Partitioner, SortKey, TemporalSortSpec};

use super::explain;
use super::graph::table_spec;
use super::physical::{Changes, Phys, PhysKind, PhysicalPlanner, updating_node};
use super::rel::{Rel, RelColumn, RelNode, TimeAttribute, plan_columns};
use super::scan::inputs;
use crate::catalog::Table;
use crate::diag::{place, unsupported};

impl PhysicalPlanner<'_> {
    /// Sorted rows.
    pub(super) fn sort(&self, rel: &Rel) -> Result<Phys> {
        let RelNode::Sort { input, keys, offset, limit, position } = &rel.node else {
            return Err(Error::bug("not a sort"));
        };
        let ends = self.ends(input);
        let below = input;
        let input = self.build(input, true)?;
        if ends {
            let (offset, columns) = (*offset, plan_columns(&input.columns));
            let spec = OperatorSpec::SortLimit { keys: keys.clone(), offset, limit: *limit, columns };
            return Ok(single(rel, spec, input, Changes::default(), explain::describe(rel)));
        }
        match limit {
            Some(limit) => first_rows(rel, input, (keys, *offset, *limit)),
            None if *offset > 0 => {
                let error = Error::user("sql.unbounded", "OFFSET without LIMIT needs an input that ends");
                Err(place(error.hint("add LIMIT, or read from a bounded source"), *position))
            }
            None => {
                let first = keys.first().filter(|k| !k.descending);
                let Some(time) = first.and_then(|k| below.columns[k.column].time) else {
                    let error = Error::user("sql.unbounded", "sort on a non-time-attribute field is not supported")
                        .detail("the input does not end, and this column does not come in order")
                        .hint("ORDER BY the time attribute first, ascending; add LIMIT; or read from a bounded source");
                    return Err(place(error, *position));
                };
                if !input.changes.is_append() {
                    let error = unsupported("ORDER BY time over an updating input", *position);
                    return Err(error.detail(format!("its input is produced by {}", updating_node(&input))));
                }
                let rowtime = keys.first().map(|k| k.column).filter(|_| time == TimeAttribute::Rowtime);
                let spec = TemporalSortSpec { rowtime, keys: keys[1..].to_vec() };
                let text = explain::describe(rel).replacen("Sort(", "TemporalSort(", 1);
                Ok(single(rel, OperatorSpec::TemporalSort(spec), input, Changes::default(), text))
            }
        }
    }

    /// Whether every source below ends. One that cannot be asked is refused later, by its own error.
    fn ends(&self, rel: &Rel) -> bool {
        match &rel.node {
            RelNode::Scan { table, .. } => self.source_ends(table),
            _ => inputs(rel).into_iter().all(|r| self.ends(r)),
        }
    }

    fn source_ends(&self, table: &Table) -> bool {
        let spec = table_spec(table, &table.source_columns(), ChangelogMode::Append);
        let factory = self.services.registry.connector(&table.path.to_string(), &table.options);
        let source = factory.and_then(|f| f.source(&spec, self.config));
        source.map_or(true, |s| s.boundedness() == Boundedness::Bounded)
    }
}

/// An operator of one subtask.
fn single(rel: &Rel, spec: OperatorSpec, input: Phys, changes: Changes, text: String) -> Phys {
    let inputs = vec![(input, Partitioner::Global)];
    Phys { kind: PhysKind::Spec(spec), inputs, columns: rel.columns.clone(), changes, parallelism: Some(1), text }
}

/// The first rows of a stream: of those that have come, corrected as others come.
fn first_rows(rel: &Rel, input: Phys, (keys, offset, limit): (&[SortKey], u64, u64)) -> Result<Phys> {
    let append = input.changes.is_append();
    let with_rank = offset > 0;
    let spec = OperatorSpec::TopN {
        partition: Vec::new(),
        order: keys.to_vec(),
        limit: offset.saturating_add(limit),
        with_rank,
        input_mode: if append { ChangelogMode::Append } else { ChangelogMode::Retract },
        update_before: true,
        ttl_ms: None,
    };
    let changes = match (append, with_rank) {
        // In the order of coming no row gives way to another.
        (true, _) if keys.is_empty() => Changes::default(),
        (_, true) => Changes { update_before: true, update_after: true, delete: !append },
        (_, false) => Changes { update_before: false, update_after: false, delete: true },
    };
    let text = explain::describe(rel);
    if !with_rank {
        return Ok(single(rel, spec, input, changes, text));
    }
    let mut ranked = rel.columns.clone();
    ranked.push(RelColumn::new("$rank", TypeKind::BigInt.not_null()));
    let rank = Expr::column(ranked.len() - 1, TypeKind::BigInt.not_null());
    let top = single(&Rel { columns: ranked, ..rel.clone() }, spec, input, changes, text);
    let skipped = Expr::literal(Literal::Int(i64::try_from(offset).unwrap_or(i64::MAX)), TypeKind::BigInt.not_null());
    let filter = Expr::call(">", vec![rank, skipped], TypeKind::Boolean.not_null());
    let names: Vec<&str> = rel.columns.iter().map(|c| c.name.as_str()).collect();
    let text = format!("Calc(select=[{}], where=[{}])", names.join(", "), explain::expr(&filter, &top.columns));
    let spec = OperatorSpec::Calc { filter: Some(filter), projection: rel.identity() };
    let inputs = vec![(top, Partitioner::Forward)];
    let kind = PhysKind::Spec(spec);
    Ok(Phys { kind, inputs, columns: rel.columns.clone(), changes, parallelism: Some(1), text })
}
