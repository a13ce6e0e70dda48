//! Functions with OVER: what a stream can answer, the operator, its line in EXPLAIN. Creates no connector.

use flott_core::error::Position;
use flott_core::sink::ChangelogMode;
use flott_core::{Error, Result};
use flott_plan::spec::{AggregateFunction, OperatorSpec};
use flott_plan::{OverCall, OverFrame, OverFunction, OverOrder, OverSpec, SortKey};

use super::explain;
use super::physical::{self, Changes, Phys, PhysKind, PhysicalPlanner, keyed, updating_node};
use super::rel::{Rel, RelColumn, RelNode, RelOver, TimeAttribute};
use crate::diag::{place, unsupported};

impl PhysicalPlanner<'_> {
    /// Functions with OVER.
    pub(super) fn over(&self, rel: &Rel, update_before: bool) -> Result<Phys> {
        let RelNode::Over { input, partition, order, frame, calls, position } = &rel.node else {
            return Err(Error::bug("not functions with OVER"));
        };
        if let Some(rank) = calls.iter().find(|c| c.bounded) {
            let error = unsupported(&format!("a Top-N by {} on a stream", rank.name), *position);
            return Err(error.hint("number the rows with ROW_NUMBER; without a bound on it, the rank can be a column"));
        }
        let keys = order.as_slice();
        let order = one_order(keys, &input.columns).map_err(|e| place(e, *position))?;
        let input = self.build(input, true)?;
        let order = match input.changes.is_append() {
            true => appended(order, *frame, &input.columns).map_err(|e| place(e, *position))?,
            false => corrected(order, keys, *frame, &input, *position)?,
        };
        let by_time = !matches!(order, OverOrder::Column(_));
        if frame.preceding.is_some() {
            let users = calls.iter().filter_map(|c| c.user.as_ref());
            physical::refuse_leaving(users, "rows leave the frame of its OVER")?;
        }
        let call = |c: &RelOver| OverCall {
            function: c.function,
            arg: c.arg,
            more: c.more.clone(),
            user: c.user.clone(),
            distinct: c.distinct,
            data_type: c.data_type.clone(),
        };
        let retracting = !input.changes.is_append();
        let spec = OverSpec {
            partition: partition.clone(),
            order,
            frame: *frame,
            calls: calls.iter().map(call).collect(),
            input_mode: if retracting { ChangelogMode::Retract } else { ChangelogMode::Append },
            update_before,
            ttl_ms: self.ttl_ms(),
        };
        let changes = match by_time {
            true => Changes::default(),
            false => Changes { update_before, update_after: true, delete: retracting },
        };
        let text = explain::describe(rel);
        let (partitioner, parallelism) = keyed(partition.clone());
        let inputs = vec![(input, partitioner)];
        let kind = PhysKind::Spec(OperatorSpec::OverAggregate(spec));
        Ok(Phys { kind, inputs, columns: rel.columns.clone(), changes, parallelism, text })
    }

    /// ROW_NUMBER without a bound: an OVER aggregation that counts rows, or nothing when nobody reads the number.
    pub(super) fn numbered(&self, rel: &Rel, update_before: bool) -> Result<Phys> {
        let RelNode::Rank { input, partition, order, with_rank, position, .. } = &rel.node else {
            return Err(Error::bug("not numbered rows"));
        };
        let Some(number) = rel.columns.last().filter(|_| *with_rank) else {
            return self.build(input, update_before);
        };
        let call = RelOver {
            function: OverFunction::Aggregate(AggregateFunction::Count),
            name: "ROW_NUMBER",
            arg: None,
            more: Vec::new(),
            user: None,
            distinct: false,
            data_type: number.data_type.clone(),
            bounded: false,
        };
        let node = RelNode::Over {
            input: input.clone(),
            partition: partition.clone(),
            order: order.clone(),
            frame: OverFrame { rows: true, preceding: None },
            calls: vec![call],
            position: *position,
        };
        let mut columns = rel.columns.clone();
        if order.iter().any(|k| input.columns[k.column].time.is_none()) {
            columns.iter_mut().for_each(|c| (c.time, c.window, c.attached) = (None, None, None));
        }
        self.over(&Rel { node, columns }, update_before)
    }
}

/// The order of an OVER, as far as a stream can follow it.
fn one_order(order: &[SortKey], input: &[RelColumn]) -> Result<OverOrder> {
    let [key] = order else {
        return Err(Error::user("sql.over", "OVER on a stream is ordered by one column")
            .hint("order by the time attribute alone; a Top-N (ROW_NUMBER with a bound) takes several columns"));
    };
    if key.descending {
        return Err(Error::user("sql.over", "OVER on a stream is ordered ascending")
            .hint("leave out DESC; a Top-N (ROW_NUMBER with a bound) takes it"));
    }
    match input[key.column].time {
        Some(TimeAttribute::Rowtime) => Ok(OverOrder::Rowtime(key.column)),
        Some(TimeAttribute::Proctime) => Ok(OverOrder::Proctime),
        None => Ok(OverOrder::Column(*key)),
    }
}

/// The order over appended rows: a bound needs a time, as in Flink.
fn appended(order: OverOrder, frame: OverFrame, input: &[RelColumn]) -> Result<OverOrder> {
    match order {
        OverOrder::Column(key) if frame.preceding.is_some() => {
            let column = &input[key.column];
            let text = format!("OVER with a bound needs an order by time, and `{}` is no time attribute", column.name);
            Err(Error::user("sql.over", text).hint("declare a WATERMARK for it, or use UNBOUNDED PRECEDING"))
        }
        order => Ok(order),
    }
}

/// The order over an input that updates: rows do not wait for their time, results are corrected when a row comes or goes. Corrections
/// reach rows at and behind the time of the change only, so times stay true to the watermark.
fn corrected(
    order: OverOrder,
    keys: &[SortKey],
    frame: OverFrame,
    input: &Phys,
    at: Option<Position>,
) -> Result<OverOrder> {
    let refused = |what: &str, hint: &str| {
        let detail = format!("its input is produced by {}", updating_node(input));
        Err(unsupported(&format!("OVER {what} over an updating input"), at).detail(detail).hint(hint))
    };
    match (order, keys) {
        (OverOrder::Proctime, _) => {
            refused("ordered by processing time", "order by a column that is no processing time")
        }
        (OverOrder::Rowtime(_) | OverOrder::Column(_), _) if frame.preceding.is_some() && !frame.rows => {
            refused("with RANGE and a bound", "use ROWS, or RANGE UNBOUNDED PRECEDING")
        }
        (OverOrder::Rowtime(_), [key]) => Ok(OverOrder::Column(*key)),
        (other, _) => Ok(other),
    }
}

/// `OverAggregate(…)`.
pub(crate) fn describe(rel: &Rel, input: &[RelColumn]) -> String {
    let RelNode::Over { partition, order, frame, calls, .. } = &rel.node else { return String::new() };
    let mut parts = Vec::new();
    if !partition.is_empty() {
        parts.push(format!("partitionBy=[{}]", explain::names(partition, input)));
    }
    let order: Vec<String> = order.iter().map(|k| explain::order_text(k, input)).collect();
    parts.push(format!("orderBy=[{}]", order.join(", ")));
    let units = if frame.rows { "ROWS" } else { "RANGE" };
    let start = frame.preceding.map_or("UNBOUNDED".to_owned(), |n| n.to_string());
    parts.push(format!("window=[{units} BETWEEN {start} PRECEDING AND CURRENT ROW]"));
    let mut select: Vec<String> = input.iter().map(|c| c.name.clone()).collect();
    select.extend(calls.iter().enumerate().map(|(i, c)| format!("{} AS w0$o{i}", call_text(c, input))));
    parts.push(format!("select=[{}]", select.join(", ")));
    format!("OverAggregate({})", parts.join(", "))
}

fn call_text(call: &RelOver, input: &[RelColumn]) -> String {
    let user = call.user.as_ref().map(|u| u.name.as_str());
    let name = match call.function {
        _ if !call.name.is_empty() => call.name,
        _ if user.is_some() => user.unwrap_or_default(),
        OverFunction::Aggregate(function) => function.name(),
        _ => "",
    };
    let args: Vec<&str> = call.arg.iter().chain(&call.more).map(|a| input[*a].name.as_str()).collect();
    let arg = (!args.is_empty()).then(|| args.join(", "));
    let distinct = if call.distinct { "DISTINCT " } else { "" };
    match call.function {
        OverFunction::Lag { offset, default } => {
            let default = default.map(|d| format!(", {}", input[d].name)).unwrap_or_default();
            format!("LAG({}, {offset}{default})", arg.unwrap_or_default())
        }
        _ if arg.is_none() && !call.name.is_empty() => format!("{name}()"),
        _ => format!("{name}({distinct}{})", arg.as_deref().unwrap_or("*")),
    }
}
