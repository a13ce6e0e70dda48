//! What the user should know of a plan before it runs for long: state that grows without end, and updates that cannot be carried out because
//! the values in them do not come again. Plans nothing and refuses nothing.

use std::collections::BTreeSet;

use flott_core::sink::ChangelogMode;
use flott_expr::is_deterministic;
use flott_plan::spec::OperatorSpec;
use flott_plan::{Expr, ExprKind, OverOrder};

use super::physical::{Phys, PhysKind};
use crate::catalog::{ColumnSource, Table};

/// How the time for which state is kept is set.
const TTL: &str =
    "SET 'table.exec.state.ttl' = '1 d' (or another time after which what was not touched may be forgotten)";

const BY_WINDOW: &str = "PARTITION BY window_start, window_end, …";

/// What is to be said of the state of an operator whose inputs end, or do not.
pub(crate) fn state(phys: &Phys, spec: &OperatorSpec, ends: &[bool]) -> Option<String> {
    if ends.iter().all(|e| *e) {
        return None;
    }
    let (what, remedy) = match spec {
        OperatorSpec::GroupAggregate { group, aggregates, ttl_ms: None, .. } => {
            let distinct = aggregates.iter().any(|a| a.distinct);
            if group.is_empty() && !distinct {
                return None;
            }
            let what = if aggregates.is_empty() { "every row it has let pass" } else { "the state of every group" };
            let what = if group.is_empty() { "every distinct value" } else { what };
            let windows = "aggregate in windows, as in FROM TABLE(TUMBLE(…)), whose state ends with them";
            (what.to_owned(), format!("{TTL}, or {windows}"))
        }
        OperatorSpec::Join(join) => {
            let grows = |i: usize, ttl: Option<i64>| !ends.get(i).copied().unwrap_or(true) && ttl.is_none();
            let sides = match (grows(0, join.left_ttl_ms), grows(1, join.right_ttl_ms)) {
                (true, true) => "both inputs",
                (true, false) => "its left input",
                (false, true) => "its right input",
                (false, false) => return None,
            };
            (format!("every row of {sides}"), join_remedy())
        }
        OperatorSpec::IntervalJoin(join) if join.keep_left || join.keep_right => {
            let sides = match (join.keep_left, join.keep_right) {
                (true, true) => "both inputs",
                (true, false) => "its left input",
                _ => "its right input",
            };
            (format!("every row of {sides}"), join_remedy())
        }
        OperatorSpec::TopN { partition, limit, ttl_ms: None, input_mode, .. } => {
            let rows = match input_mode {
                // One list that does not grow.
                ChangelogMode::Append if partition.is_empty() => return None,
                ChangelogMode::Append if *limit == 1 => "1 row of every partition".to_owned(),
                ChangelogMode::Append => format!("{limit} rows of every partition"),
                _ => "every row of its input".to_owned(),
            };
            (rows, format!("{TTL}, or rank within windows: {BY_WINDOW}"))
        }
        OperatorSpec::ChangelogNormalize { ttl_ms: None, .. } => (
            "the last row of every key".to_owned(),
            format!("{TTL}, or read a changelog that brings the old row of an update along, as debezium-json does"),
        ),
        OperatorSpec::Deduplicate { ttl_ms: None, .. } => {
            ("every key".to_owned(), format!("{TTL}, or deduplicate within windows: {BY_WINDOW}"))
        }
        OperatorSpec::OverAggregate(over) if over.ttl_ms.is_none() && matches!(over.order, OverOrder::Column(_)) => {
            ("every row of its input".to_owned(), format!("{TTL}, or order by a time attribute"))
        }
        OperatorSpec::OverAggregate(over)
            if over.ttl_ms.is_none() && over.frame.preceding.is_none() && !over.partition.is_empty() =>
        {
            let bound = "RANGE BETWEEN INTERVAL '1' HOUR PRECEDING AND CURRENT ROW";
            ("the state of every partition".to_owned(), format!("{TTL}, or bound the frame: {bound}"))
        }
        OperatorSpec::SinkUpsertMaterialize { ttl_ms: None, .. } => (
            "every row of the result (the sink's primary key is not the key of the query)".to_owned(),
            "declare as primary key what the query groups or deduplicates by; or, if rows of one key never change places, \
             SET 'table.exec.sink.upsert-materialize' = 'NONE'"
                .to_owned(),
        ),
        _ => return None,
    };
    let name = name(phys);
    Some(format!("{name} keeps {what} for as long as the job runs, and its input does not end (hint: {remedy})"))
}

fn join_remedy() -> String {
    format!(
        "{TTL}, or compare the time attributes of both sides, as in a.ts BETWEEN b.ts - INTERVAL '1' HOUR AND b.ts, so that rows \
         leave when no match can come"
    )
}

/// The operator as EXPLAIN shows it, without the columns it passes on.
fn name(phys: &Phys) -> String {
    match phys.text.split_once(", select=[") {
        Some((before, _)) => format!("{before})"),
        None => phys.text.clone(),
    }
}

/// Columns whose values must be the same when a row is taken back as when it was given.
type Needed = BTreeSet<usize>;

/// What is to be said of updates whose values do not come again: Flink's non-deterministic updates. `key` is the primary key of a sink
/// that finds rows by it; without one every column counts.
pub(crate) fn updates(root: &Phys, key: Option<&[usize]>, sink: &str, out: &mut Vec<String>) {
    let needed = match key {
        Some(key) => key.iter().copied().collect(),
        None => all(root),
    };
    walk(root, needed, sink, out);
}

fn all(phys: &Phys) -> Needed {
    (0..phys.columns.len()).collect()
}

/// `user`: who has to find the rows again.
fn walk(phys: &Phys, needed: Needed, user: &str, out: &mut Vec<String>) {
    // Rows that are never taken back need not come again.
    let needed = if phys.changes.is_append() { Needed::new() } else { needed };
    let updating = phys.inputs.iter().any(|(input, _)| !input.changes.is_append());
    let own = name(phys);
    match &phys.kind {
        PhysKind::Scan { table, fields } => scanned(table, fields, &needed, phys, user, out),
        PhysKind::Spec(OperatorSpec::Calc { filter, projection }) => {
            let mut below = Needed::new();
            for i in needed {
                if updating && let Some(call) = unsteady(&projection[i]) {
                    let column = phys.columns.get(i).map_or("", |c| c.name.as_str());
                    out.push(sentence(&format!("column `{column}` of {own}"), &call, user));
                }
                projection[i].visit_columns(&mut |c| below.extend([c]));
            }
            if let Some(filter) = filter.as_ref().filter(|_| updating) {
                if let Some(call) = unsteady(filter) {
                    out.push(sentence(&format!("the condition of {own}"), &call, user));
                }
                filter.visit_columns(&mut |c| below.extend([c]));
            }
            phys.inputs.iter().for_each(|(input, _)| walk(input, below.clone(), user, out));
        }
        PhysKind::Lookup(parts) => {
            let width = phys.inputs.first().map_or(0, |(input, _)| input.columns.len());
            if updating && let Some(i) = needed.iter().find(|i| **i >= width) {
                let column = phys.columns.get(*i).map_or("", |c| c.name.as_str());
                let what = format!("column `{column}` of {own}");
                out.push(sentence(&what, "asking the table, which may have changed meanwhile", user));
            }
            let mut below: Needed = needed.into_iter().filter(|i| *i < width).collect();
            below.extend(parts.keys.iter().map(|k| k.0));
            phys.inputs.iter().for_each(|(input, _)| walk(input, below.clone(), user, out));
        }
        PhysKind::Spec(spec) => {
            for (input, _) in &phys.inputs {
                let (below, user) = match spec {
                    OperatorSpec::Union | OperatorSpec::DropUpdateBefore | OperatorSpec::NotNullEnforcer { .. } => {
                        (needed.clone(), user)
                    }
                    OperatorSpec::ToUpsert { key } => (needed.iter().chain(key).copied().collect(), user),
                    OperatorSpec::ChangelogNormalize { key, .. } => (key.iter().copied().collect(), own.as_str()),
                    OperatorSpec::GroupAggregate { group, aggregates, .. }
                    | OperatorSpec::WindowAggregate { group, aggregates, .. } => {
                        let used = aggregates.iter().flat_map(|a| a.args.iter().chain(&a.filter));
                        (group.iter().chain(used).copied().collect(), own.as_str())
                    }
                    _ => (all(input), own.as_str()),
                };
                walk(input, below, user, out);
            }
        }
        PhysKind::Values { .. } | PhysKind::Correlate(..) => {
            phys.inputs.iter().for_each(|(input, _)| walk(input, all(input), &own, out));
        }
    }
}

/// Computed columns of a table of changes are computed for each change anew, and metadata is that of the change.
fn scanned(table: &Table, fields: &[usize], needed: &Needed, phys: &Phys, user: &str, out: &mut Vec<String>) {
    for i in needed {
        let Some(column) = fields.get(*i).and_then(|f| table.columns.get(*f)) else { continue };
        let what = || format!("column `{}` of {}", column.name, name(phys));
        match &column.source {
            ColumnSource::Computed(e, _) => {
                if let Some(call) = unsteady(e) {
                    out.push(sentence(&what(), &call, user));
                }
            }
            ColumnSource::Metadata { key, .. } => {
                out.push(sentence(&what(), &format!("the metadata '{key}' of each record"), user));
            }
            ColumnSource::Physical => {}
        }
    }
}

/// The first part of an expression that gives another value the next time.
fn unsteady(e: &Expr) -> Option<String> {
    if is_deterministic(e) {
        return None;
    }
    let inner = e.children().into_iter().find_map(unsteady);
    inner.or_else(|| match &e.kind {
        ExprKind::Call { function, .. } => Some(format!("the function {function}")),
        ExprKind::User { function, .. } => Some(format!("the function {}", function.name)),
        _ => None,
    })
}

fn sentence(what: &str, by: &str, user: &str) -> String {
    format!(
        "{what} is computed by {by}, and gives another value when a row is taken back than when it was given: {user} does not find \
         the row again (hint: leave it out, compute it where rows are only added, or behind the last operator before a sink whose \
         primary key does not hold it)"
    )
}
