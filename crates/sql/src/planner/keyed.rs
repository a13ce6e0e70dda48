//! Operators that remember rows by key, and lookup joins: sources of upserts, Top-N, deduplication. Creates no connector.

use std::sync::Arc;

use flott_core::sink::ChangelogMode;
use flott_core::{Error, Result};
use flott_plan::spec::OperatorSpec;
use flott_plan::{Expr, Literal, Partitioner};

use super::explain;
use super::physical::{Changes, Phys, PhysKind, PhysicalPlanner, keyed};
use super::rank::Ranking;
use super::rel::{Rel, RelNode};
use crate::catalog::Table;

impl PhysicalPlanner<'_> {
    /// A scan with the changes of its source; upserts are completed to a full changelog.
    pub(super) fn scan(&self, rel: &Rel, update_before: bool) -> Result<Phys> {
        let RelNode::Scan { table, fields } = &rel.node else { return Err(Error::bug("not a scan")) };
        let scan = self.raw_scan(rel, table, fields);
        let duplicates = self.config.raw("table.exec.source.cdc-events-duplicate").is_some_and(|v| v.trim() == "true");
        let normalize = match table.source_mode {
            ChangelogMode::Append => false,
            ChangelogMode::Upsert => true,
            ChangelogMode::Retract => duplicates,
        };
        if !normalize {
            return Ok(scan);
        }
        let key: Option<Vec<usize>> = table.primary_key.iter().map(|k| fields.iter().position(|f| f == k)).collect();
        let key = key.filter(|k| !k.is_empty()).ok_or_else(|| {
            let message = format!("table `{}` gives updates by key and has no PRIMARY KEY", table.name);
            Error::user("table.primary-key", message).hint("declare PRIMARY KEY (…) NOT ENFORCED")
        })?;
        let text = format!("ChangelogNormalize(key=[{}])", explain::names(&key, &rel.columns));
        let spec = OperatorSpec::ChangelogNormalize { key: key.clone(), update_before, ttl_ms: self.ttl_ms() };
        let changes = Changes { update_before, update_after: true, delete: true };
        let (partitioner, parallelism) = keyed(key);
        let inputs = vec![(scan, partitioner)];
        Ok(Phys { kind: PhysKind::Spec(spec), inputs, columns: rel.columns.clone(), changes, parallelism, text })
    }

    fn raw_scan(&self, rel: &Rel, table: &Arc<Table>, fields: &[usize]) -> Phys {
        let changes = match table.source_mode {
            ChangelogMode::Append => Changes::default(),
            ChangelogMode::Upsert => Changes { update_before: false, update_after: true, delete: true },
            ChangelogMode::Retract => Changes::ALL,
        };
        Phys {
            kind: PhysKind::Scan { table: table.clone(), fields: fields.to_vec() },
            inputs: Vec::new(),
            columns: rel.columns.clone(),
            changes,
            parallelism: table.options.get("scan.parallelism").and_then(|p| p.parse().ok()),
            text: explain::describe(rel),
        }
    }

    /// Upserts as the source gives them, where nothing but projections lies above it; `None` otherwise.
    pub(super) fn build_upserts(&self, rel: &Rel) -> Option<Phys> {
        match &rel.node {
            RelNode::Scan { table, fields } if table.source_mode == ChangelogMode::Upsert => {
                Some(self.raw_scan(rel, table, fields))
            }
            RelNode::Calc { input, filter: None, projection } => {
                let input = self.build_upserts(input)?;
                let spec = OperatorSpec::Calc { filter: None, projection: projection.clone() };
                let (changes, parallelism) = (input.changes, input.parallelism);
                let (inputs, text) = (vec![(input, Partitioner::Forward)], explain::describe(rel));
                let columns = rel.columns.clone();
                Some(Phys { kind: PhysKind::Spec(spec), inputs, columns, changes, parallelism, text })
            }
            _ => None,
        }
    }

    /// Numbered rows.
    pub(super) fn rank(&self, rel: &Rel, update_before: bool) -> Result<Phys> {
        let RelNode::Rank { input, partition, order, limit, with_rank, position } = &rel.node else {
            return Err(Error::bug("not numbered rows"));
        };
        let input = self.build(input, true)?;
        let ranking = Ranking {
            partition,
            order,
            limit: *limit,
            with_rank: *with_rank,
            input: &input.columns,
            input_changes: input.changes,
            update_before,
            ttl_ms: self.ttl_ms(),
            zone: self.zone(),
            position: *position,
        };
        let (spec, has_rank, changes, name) = ranking.operator()?;
        let text = rank_text(rel, &spec, name, input.changes.is_append());
        let (partitioner, parallelism) = keyed(partition.clone());
        let mut columns = rel.columns.clone();
        let number = columns.pop().filter(|_| *with_rank);
        if !*with_rank || has_rank {
            columns.clone_from(&rel.columns);
        }
        let inputs = vec![(input, partitioner)];
        let phys = Phys { kind: PhysKind::Spec(spec), inputs, columns, changes, parallelism, text };
        let (Some(number), false) = (number, has_rank) else { return Ok(phys) };
        // The number of the one row of a key is a constant.
        let mut projection: Vec<Expr> =
            phys.columns.iter().enumerate().map(|(i, c)| Expr::column(i, c.data_type.clone())).collect();
        projection.push(Expr::literal(Literal::Int(1), number.data_type));
        let text = format!(
            "Calc(select=[{}, 1 AS w0$o0])",
            explain::names(&(0..phys.columns.len()).collect::<Vec<_>>(), &phys.columns)
        );
        let spec = OperatorSpec::Calc { filter: None, projection };
        let inputs = vec![(phys, Partitioner::Forward)];
        Ok(Phys { kind: PhysKind::Spec(spec), inputs, columns: rel.columns.clone(), changes, parallelism, text })
    }

    /// A lookup join.
    pub(super) fn lookup(&self, rel: &Rel, update_before: bool) -> Result<Phys> {
        let RelNode::LookupJoin { input, table, fields, kind, keys, condition, options, position } = &rel.node else {
            return Err(Error::bug("not a lookup join"));
        };
        super::lookup::check_keys(keys, table, *position)?;
        // Rows may come to have a match, or lose it, between an update's two halves.
        let input = self.build(input, true)?;
        let changes = Changes { update_before: input.changes.update_before || update_before, ..input.changes };
        let changes = if input.changes.is_append() { Changes::default() } else { changes };
        let parts = LookupParts {
            table: table.clone(),
            fields: fields.clone(),
            kind: *kind,
            keys: keys.clone(),
            condition: condition.clone(),
            options: *options,
            input_mode: input.changes.mode(),
            position: *position,
        };
        let (parallelism, text) = (input.parallelism, explain::describe(rel));
        let inputs = vec![(input, Partitioner::Forward)];
        let kind = PhysKind::Lookup(Box::new(parts));
        Ok(Phys { kind, inputs, columns: rel.columns.clone(), changes, parallelism, text })
    }
}

/// A lookup join before its connector is asked for.
#[derive(Clone, Debug)]
pub(crate) struct LookupParts {
    pub(crate) table: Arc<Table>,
    pub(crate) fields: Vec<usize>,
    pub(crate) kind: flott_plan::JoinKind,
    pub(crate) keys: Vec<(usize, usize)>,
    pub(crate) condition: Option<Expr>,
    pub(crate) options: flott_plan::LookupJoinOptions,
    pub(crate) input_mode: ChangelogMode,
    pub(crate) position: Option<flott_core::error::Position>,
}

fn rank_text(rel: &Rel, spec: &OperatorSpec, name: &str, append: bool) -> String {
    let RelNode::Rank { input, partition, order, .. } = &rel.node else { return name.to_owned() };
    match spec {
        OperatorSpec::Deduplicate { order: by, keep_last, .. } if matches!(order.as_slice(), [one] if input.columns[one.column].time.is_some()) =>
        {
            let keep = if *keep_last { "LastRow" } else { "FirstRow" };
            let time = if by.is_empty() { "PROCTIME" } else { "ROWTIME" };
            format!("Deduplicate(keep=[{keep}], key=[{}], order=[{time}])", explain::names(partition, &input.columns))
        }
        OperatorSpec::WindowTopN { limit: 1, .. } if matches!(order.as_slice(), [one] if input.columns[one.column].time.is_some()) =>
        {
            let keep = if order[0].descending { "LastRow" } else { "FirstRow" };
            let key = explain::names(partition, &input.columns);
            format!("WindowDeduplicate(keep=[{keep}], partitionKeys=[{key}], order=[ROWTIME])")
        }
        OperatorSpec::WindowTopN { .. } => explain::describe(rel).replacen("Rank(strategy=[?], ", "WindowRank(", 1),
        _ => {
            let strategy = if append { "AppendFastStrategy" } else { "RetractStrategy" };
            explain::describe(rel).replacen('?', strategy, 1)
        }
    }
}
