//! What a query's changes become before an upsert sink: nothing, upserts by the sink's key, or rows remembered by it. Creates no
//! sink.

use flott_core::Result;
use flott_core::config::Configuration;
use flott_plan::Partitioner;
use flott_plan::spec::OperatorSpec;

use super::explain;
use super::insert::not_null_columns;
use super::keys::{Key, upsert_keys};
use super::physical::{Changes, Phys, PhysKind, PhysicalPlanner};
use super::rel::Rel;
use crate::catalog::Table;

/// Whether rows are remembered by the sink's key (`table.exec.sink.upsert-materialize`).
fn materialize(config: &Configuration) -> Option<bool> {
    match config.raw("table.exec.sink.upsert-materialize").map(|v| v.trim().to_uppercase()).as_deref() {
        Some("NONE") => Some(false),
        Some("FORCE") => Some(true),
        _ => None,
    }
}

/// The operators of `rel` before an upsert sink of `table`.
pub(crate) fn upserts(planner: &PhysicalPlanner<'_>, rel: &Rel, table: &Table) -> Result<Phys> {
    let sink_columns = table.sink_columns();
    let place = |k: &usize| sink_columns.iter().position(|c| c == k);
    let key: Vec<usize> = table.primary_key.iter().filter_map(place).collect();
    let wanted = materialize(planner.config);
    if key.is_empty() {
        let phys = planner.build(rel, false)?;
        return Ok(if phys.changes.update_before { without_update_before(phys) } else { phys });
    }
    let sink_key: Key = key.iter().copied().collect();
    let keys = upsert_keys(rel);
    if wanted != Some(true) && (keys.contains(&sink_key) || wanted == Some(false)) {
        // A deletion as the source gives it has its key and nothing else: it would not pass a NOT NULL check.
        let checked = not_null_columns(table, &rel.columns, planner.config).map(|(c, _)| c).unwrap_or_default();
        if keys.contains(&sink_key)
            && checked.iter().all(|(column, _)| key.contains(column))
            && let Some(phys) = planner.build_upserts(rel)
        {
            return Ok(phys);
        }
        let phys = planner.build(rel, false)?;
        return Ok(if phys.changes.update_before { to_upsert(phys, key) } else { phys });
    }
    let full = planner.build(rel, true)?;
    if full.changes.is_append() && wanted.is_none() {
        return Ok(full);
    }
    let text = format!("SinkUpsertMaterialize(key=[{}])", explain::names(&key, &full.columns));
    let spec = OperatorSpec::SinkUpsertMaterialize { key: key.clone(), ttl_ms: planner.ttl_ms() };
    let changes = Changes { update_before: false, update_after: true, delete: true };
    Ok(above(full, Partitioner::Hash(key), None, spec, changes, text))
}

fn without_update_before(phys: Phys) -> Phys {
    let (changes, parallelism) = (Changes { update_before: false, ..phys.changes }, phys.parallelism);
    let (spec, text) = (OperatorSpec::DropUpdateBefore, "DropUpdateBefore".to_owned());
    above(phys, Partitioner::Forward, parallelism, spec, changes, text)
}

/// `-U` rows that no row of their key follows are deletions.
fn to_upsert(phys: Phys, key: Vec<usize>) -> Phys {
    let changes = Changes { update_before: false, update_after: true, delete: true };
    let text = format!("ToUpsert(key=[{}])", explain::names(&key, &phys.columns));
    let parallelism = phys.parallelism;
    above(phys, Partitioner::Forward, parallelism, OperatorSpec::ToUpsert { key }, changes, text)
}

fn above(
    phys: Phys,
    partitioner: Partitioner,
    parallelism: Option<u32>,
    spec: OperatorSpec,
    changes: Changes,
    text: String,
) -> Phys {
    let columns = phys.columns.clone();
    Phys { kind: PhysKind::Spec(spec), inputs: vec![(phys, partitioner)], columns, changes, parallelism, text }
}
