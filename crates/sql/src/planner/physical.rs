//! Relations to operators: changelog inference, exchanges, parallelism. Refuses what cannot run; creates no connector.

use std::sync::Arc;

use flott_core::config::{Configuration, keys};
use flott_core::sink::ChangelogMode;
use flott_core::table_function::BoundTableFunction;
use flott_core::{Error, Result};
use flott_plan::spec::{AggregateCall, CorrelateSpec, OperatorSpec, WindowKind, WindowSpec};
use flott_plan::{Expr, Partitioner, UserAggregate};

use super::explain;
use super::keyed::LookupParts;
use super::rel::{HintedTtl, Rel, RelAggregate, RelColumn, RelNode, TimeAttribute, Window};
use super::sessions;
use crate::catalog::Table;
use crate::diag::place;
use crate::session::PlanServices;

/// Which kinds of rows beside inserts a stream holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    pub(crate) update_before: bool,
    pub(crate) update_after: bool,
    pub(crate) delete: bool,
}

impl Changes {
    pub(crate) const ALL: Changes = Changes { update_before: true, update_after: true, delete: true };

    /// Whether every row is an insert.
    pub(crate) fn is_append(self) -> bool {
        self == Changes::default()
    }
    /// The mode that says so to operators and sinks.
    pub(crate) fn mode(self) -> ChangelogMode {
        match self {
            _ if self.is_append() => ChangelogMode::Append,
            Changes { update_after: true, update_before: false, .. } => ChangelogMode::Upsert,
            _ => ChangelogMode::Retract,
        }
    }
    /// `[I,UB,UA,D]`
    pub(crate) fn text(self) -> String {
        let kinds = [(true, "I"), (self.update_before, "UB"), (self.update_after, "UA"), (self.delete, "D")];
        let kinds: Vec<&str> = kinds.into_iter().filter(|k| k.0).map(|k| k.1).collect();
        format!("[{}]", kinds.join(","))
    }
    pub(super) fn union(self, other: Changes) -> Changes {
        Changes {
            update_before: self.update_before || other.update_before,
            update_after: self.update_after || other.update_after,
            delete: self.delete || other.delete,
        }
    }
}

/// An operator with its inputs.
#[derive(Clone, Debug)]
pub(crate) struct Phys {
    pub(crate) kind: PhysKind,
    pub(crate) inputs: Vec<(Phys, Partitioner)>,
    pub(crate) columns: Vec<RelColumn>,
    pub(crate) changes: Changes,
    pub(crate) parallelism: Option<u32>,
    /// As in EXPLAIN.
    pub(crate) text: String,
}

/// What an operator is.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "a handful per query")]
pub(crate) enum PhysKind {
    Scan {
        table: Arc<Table>,
        fields: Vec<usize>,
    },
    Values {
        rows: Vec<Vec<Expr>>,
    },
    Spec(OperatorSpec),
    /// A lookup join, whose connector is asked for when the graph is built.
    Lookup(Box<LookupParts>),
    /// A table function.
    Correlate(CorrelateSpec, Arc<dyn BoundTableFunction>),
}

/// Builds operators with the session's options.
pub(crate) struct PhysicalPlanner<'a> {
    pub(crate) config: &'a Configuration,
    /// The connectors, to ask whether a source ends.
    pub(crate) services: &'a PlanServices,
}

impl PhysicalPlanner<'_> {
    /// How long state that is not touched stays.
    pub(super) fn ttl_ms(&self) -> Option<i64> {
        self.config.duration_ms(keys::STATE_TTL).filter(|ms| *ms > 0)
    }

    /// The same under a hint, whose 0 means for ever.
    pub(super) fn hinted_ttl_ms(&self, hint: HintedTtl) -> Option<i64> {
        hint.map_or_else(|| self.ttl_ms(), |ms| Some(ms).filter(|ms| *ms > 0))
    }

    /// The session's zone.
    pub(crate) fn zone(&self) -> String {
        self.config.string(keys::LOCAL_TIME_ZONE).unwrap_or_else(|| "default".to_owned())
    }

    /// The operators of `rel`; `update_before`: whether the consumer wants `-U` rows.
    pub(crate) fn build(&self, rel: &Rel, update_before: bool) -> Result<Phys> {
        let text = explain::describe(rel);
        let columns = rel.columns.clone();
        match &rel.node {
            RelNode::Scan { .. } => self.scan(rel, update_before),
            RelNode::LookupJoin { .. } => self.lookup(rel, update_before),
            RelNode::Rank { limit: None, .. } => self.numbered(rel, update_before),
            RelNode::Correlate { .. } => self.correlate(rel, text),
            RelNode::Rank { .. } => self.rank(rel, update_before),
            RelNode::Over { .. } => self.over(rel, update_before),
            RelNode::Match { input, spec, position } => self.pattern(rel, spec, input, *position),
            RelNode::Values { rows } => Ok(Phys {
                kind: PhysKind::Values { rows: rows.clone() },
                inputs: Vec::new(),
                columns,
                changes: Changes::default(),
                parallelism: Some(1),
                text,
            }),
            RelNode::Calc { input, filter, projection } => {
                // A filter may let the old row pass and not the new one: then only `-U` tells.
                let input = self.build(input, update_before || filter.is_some())?;
                let spec = OperatorSpec::Calc { filter: filter.clone(), projection: projection.clone() };
                let (changes, parallelism) = (input.changes, input.parallelism);
                let inputs = vec![(input, Partitioner::Forward)];
                Ok(Phys { kind: PhysKind::Spec(spec), inputs, columns, changes, parallelism, text })
            }
            RelNode::Expand { input, projections } => {
                let input = self.build(input, true)?;
                let spec = OperatorSpec::Expand { projections: projections.clone() };
                let (changes, parallelism) = (input.changes, input.parallelism);
                let inputs = vec![(input, Partitioner::Forward)];
                Ok(Phys { kind: PhysKind::Spec(spec), inputs, columns, changes, parallelism, text })
            }
            RelNode::Window { input, window } => {
                let input = self.build(input, true)?;
                let spec = OperatorSpec::WindowAssign { window: self.window_spec(window) };
                let (changes, parallelism, partitioner) = match window.kind {
                    WindowKind::Session { .. } => {
                        let (partitioner, parallelism) = keyed(window.partition.clone());
                        (Changes::default(), parallelism, partitioner)
                    }
                    _ => (input.changes, input.parallelism, Partitioner::Forward),
                };
                let inputs = vec![(input, partitioner)];
                Ok(Phys { kind: PhysKind::Spec(spec), inputs, columns, changes, parallelism, text })
            }
            RelNode::WindowAggregate { .. } => self.window_aggregate(rel, update_before, text),
            RelNode::Aggregate { input, group, aggregates, ttl } => {
                self.aggregate(rel, (input, group, aggregates, *ttl), update_before, text)
            }
            RelNode::Join { .. } => self.join(rel),
            RelNode::Repeat { input, count } => {
                let input = self.build(input, true)?;
                let (changes, parallelism) = (input.changes, input.parallelism);
                let kind = PhysKind::Spec(OperatorSpec::Repeat { count: *count });
                Ok(Phys { kind, inputs: vec![(input, Partitioner::Forward)], columns, changes, parallelism, text })
            }
            RelNode::Union { inputs } => self.union(rel, inputs, update_before, text),
            RelNode::Sort { .. } => self.sort(rel),
        }
    }

    fn window_aggregate(&self, rel: &Rel, update_before: bool, text: String) -> Result<Phys> {
        let RelNode::WindowAggregate { input, window, group, aggregates, properties } = &rel.node else {
            return Err(Error::bug("not a window aggregation"));
        };
        let columns = rel.columns.clone();
        if !sessions::mergeable(rel) {
            return self.build(&sessions::over_rows(rel)?, update_before);
        }
        let input = self.build(input, true)?;
        if !input.changes.is_append() && matches!(window.kind, WindowKind::Session { .. }) {
            return self.build(&sessions::over_rows(rel)?, update_before);
        }
        if !input.changes.is_append() {
            refuse_leaving(aggregates.iter().filter_map(|a| a.user.as_ref()), "its input updates")?;
        }
        let spec = OperatorSpec::WindowAggregate {
            window: self.window_spec(window),
            group: group.clone(),
            aggregates: calls(aggregates, &input.columns),
            properties: properties.clone(),
            input_mode: input.changes.mode(),
        };
        let (partitioner, parallelism) = keyed(group.clone());
        let inputs = vec![(input, partitioner)];
        Ok(Phys { kind: PhysKind::Spec(spec), inputs, columns, changes: Changes::default(), parallelism, text })
    }

    fn aggregate(
        &self,
        rel: &Rel,
        (input, group, aggregates, ttl): (&Rel, &[usize], &[RelAggregate], HintedTtl),
        update_before: bool,
        text: String,
    ) -> Result<Phys> {
        let columns = rel.columns.clone();
        let input = self.build(input, true)?;
        let retracting = !input.changes.is_append();
        if retracting {
            refuse_leaving(aggregates.iter().filter_map(|a| a.user.as_ref()), "its input updates")?;
        }
        let spec = OperatorSpec::GroupAggregate {
            group: group.to_vec(),
            aggregates: calls(aggregates, &input.columns),
            input_mode: input.changes.mode(),
            update_before,
            ttl_ms: self.hinted_ttl_ms(ttl),
        };
        let changes = Changes { update_before, update_after: true, delete: retracting };
        let (partitioner, parallelism) = keyed(group.to_vec());
        let inputs = vec![(input, partitioner)];
        Ok(Phys { kind: PhysKind::Spec(spec), inputs, columns, changes, parallelism, text })
    }

    fn union(&self, rel: &Rel, inputs: &[Rel], update_before: bool, text: String) -> Result<Phys> {
        let columns = rel.columns.clone();
        let inputs = inputs.iter().map(|r| self.build(r, update_before)).collect::<Result<Vec<_>>>()?;
        let changes = inputs.iter().fold(Changes::default(), |c, p| c.union(p.changes));
        let first = inputs.first().and_then(|p| p.parallelism);
        let equal = inputs.iter().all(|p| p.parallelism == first);
        // Spreading an updating input anew would mix up the order of a key's changes.
        let parallelism = match (equal, changes.is_append()) {
            (true, _) => first,
            (false, true) => None,
            (false, false) => Some(1),
        };
        let inputs = inputs.into_iter().map(|p| (p, Partitioner::Forward)).collect();
        Ok(Phys { kind: PhysKind::Spec(OperatorSpec::Union), inputs, columns, changes, parallelism, text })
    }

    fn window_spec(&self, window: &Window) -> WindowSpec {
        let processing_time = window.time_attribute == TimeAttribute::Proctime;
        let zoned = processing_time || matches!(window.time_type.kind, flott_core::types::TypeKind::TimestampLtz(_));
        WindowSpec {
            kind: window.kind,
            time: window.time,
            processing_time,
            zone: zoned.then(|| self.zone()),
            partition: window.partition.clone(),
        }
    }
}

/// How rows reach an operator with these keys; without keys there is one subtask.
pub(super) fn keyed(keys: Vec<usize>) -> (Partitioner, Option<u32>) {
    if keys.is_empty() { (Partitioner::Global, Some(1)) } else { (Partitioner::Hash(keys), None) }
}

fn calls(aggregates: &[RelAggregate], input: &[RelColumn]) -> Vec<AggregateCall> {
    let call = |(i, a): (usize, &RelAggregate)| AggregateCall {
        function: a.function,
        user: a.user.clone(),
        args: a.arg.iter().chain(&a.more).copied().collect(),
        arg_types: a.arg.iter().chain(&a.more).map(|&c| input[c].data_type.clone()).collect(),
        distinct: a.distinct,
        filter: a.filter,
        data_type: a.data_type.clone(),
        name: format!("EXPR${i}"),
    };
    aggregates.iter().enumerate().map(call).collect()
}

/// Aggregates of the user whose rows leave again must know how.
pub(super) fn refuse_leaving<'a>(mut users: impl Iterator<Item = &'a UserAggregate>, why: &str) -> Result<()> {
    let Some(user) = users.find(|u| !u.function.can_retract()) else { return Ok(()) };
    let error =
        Error::user("function.retract", format!("aggregate function `{}` has no retract, and {why}", user.name));
    let hint = "give it a retract and RETRACTS = true, or aggregate rows that only come";
    Err(place(error.hint(hint), user.position))
}

/// The description of the operator that makes a stream updating.
pub(crate) fn updating_node(phys: &Phys) -> &str {
    let passes_on = matches!(
        phys.kind,
        PhysKind::Lookup(_)
            | PhysKind::Correlate(..)
            | PhysKind::Spec(OperatorSpec::Calc { .. } | OperatorSpec::Expand { .. } | OperatorSpec::Union)
    );
    match phys.inputs.iter().map(|(p, _)| p).find(|p| !p.changes.is_append()) {
        Some(input) if passes_on => updating_node(input),
        _ => &phys.text,
    }
}
