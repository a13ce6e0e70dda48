//! Windows: table functions, sliced aggregation (TUMBLE, HOP, CUMULATE) and sessions. Never fires a window twice, also after a restore.

mod assign;
mod grid;
mod progress;
mod properties;
mod session;
mod session_assign;
mod sliced;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow_array::{Array, ArrayRef};
use flott_core::batch::ChangeBatch;
use flott_core::error::{Error, Result};
use flott_core::keys::RowCodec;
use flott_core::operator::{Operator, OperatorContext};
use flott_core::sink::ChangelogMode;
use flott_core::types::Column;
use flott_plan::spec::{OperatorSpec, WindowKind, WindowSpec};

use crate::aggregate::{Form, Layout, Values, form_of};
use crate::group_aggregate::key_codec;
use crate::source_transform::null_rowtime;
use crate::zone::ZoneShift;

pub(crate) use progress::{Tracker, fires_up_to};
use properties::Output;

/// What sliced windows and sessions have in common.
struct Common {
    window: WindowSpec,
    time_name: String,
    group: Vec<usize>,
    codec: RowCodec,
    layout: Arc<Layout>,
    input: Vec<Column>,
    output: Output,
    shift: ZoneShift,
}

/// The operator of a window table function.
pub(crate) fn assign(window: &WindowSpec, input: &[Column], output: &[Column]) -> Result<Box<dyn Operator>> {
    Ok(match window.kind {
        WindowKind::Session { gap_ms } => Box::new(session_assign::SessionAssign::new(window, gap_ms, input, output)?),
        _ => Box::new(assign::WindowAssign::new(window, input, output)?),
    })
}

/// The operator for an aggregation over windows.
pub(crate) fn aggregate(spec: &OperatorSpec, input: &[Column], output: &[Column]) -> Result<Box<dyn Operator>> {
    let OperatorSpec::WindowAggregate { window, group, aggregates, properties, input_mode } = spec else {
        return Err(Error::bug("a window aggregation is built from its description"));
    };
    let retracts = *input_mode != ChangelogMode::Append;
    let session = matches!(window.kind, WindowKind::Session { .. });
    let layout = Arc::new(Layout::new(aggregates, retracts, if session { session::HEADER } else { 0 })?);
    let common = Common {
        window: window.clone(),
        time_name: time_column(window, input)?,
        group: group.clone(),
        codec: key_codec(input, group)?,
        layout,
        input: input.to_vec(),
        output: Output::new(output, properties),
        shift: ZoneShift::new(window.zone.as_deref())?,
    };
    Ok(match window.kind {
        WindowKind::Session { gap_ms } => Box::new(session::SessionAggregate::new(common, gap_ms)?),
        _ => Box::new(sliced::SlicedAggregate::new(common)?),
    })
}

/// The name of the time attribute; a `User` error when it cannot be one.
fn time_column(window: &WindowSpec, input: &[Column]) -> Result<String> {
    if window.processing_time {
        return Ok("PROCTIME()".into());
    }
    let column = input.get(window.time).ok_or_else(|| Error::bug("the time attribute is not a column of the input"))?;
    if !column.data_type.kind.is_timestamp() {
        let text = format!("column `{}` of type {} cannot be a time attribute", column.name, column.data_type);
        return Err(Error::user("sql.time-attribute", text).hint("declare a WATERMARK for a TIMESTAMP column"));
    }
    Ok(column.name.clone())
}

/// The window time of each row in local milliseconds: the attribute's, or now (not before `earliest_ms`, should the clock go back).
fn row_times(
    window: &WindowSpec,
    name: &str,
    shift: &mut ZoneShift,
    batch: &ChangeBatch,
    earliest_ms: i64,
    ctx: &OperatorContext,
) -> Result<Vec<i64>> {
    if window.processing_time {
        return Ok(vec![shift.local_of(ctx.clock.now_ms().max(earliest_ms)); batch.num_rows()]);
    }
    let column = batch.rows.column(window.time);
    let mut times = milliseconds(column, name)?;
    // The ends of attached windows are local times already.
    if !shift.is_identity() && window.kind != WindowKind::Attached {
        times.iter_mut().for_each(|t| *t = shift.local_of(*t));
    }
    Ok(times)
}

/// Timestamps in milliseconds, rounded down; NULL is a `User` error.
pub(crate) fn milliseconds(column: &ArrayRef, name: &str) -> Result<Vec<i64>> {
    use arrow_schema::{DataType, TimeUnit};
    if column.null_count() > 0 {
        return Err(null_rowtime(name));
    }
    let per_ms = match column.data_type() {
        DataType::Timestamp(TimeUnit::Microsecond, _) => 1_000,
        DataType::Timestamp(TimeUnit::Nanosecond, _) => 1_000_000,
        other if form_of(other) == Some(Form::Int) => 1,
        other => return Err(Error::bug(format!("time attribute `{name}` has type {other}"))),
    };
    match Values::of(column)? {
        Values::Int(values) if per_ms == 1 => Ok(values.to_vec()),
        Values::Int(values) => Ok(values.iter().map(|v| v.div_euclid(per_ms)).collect()),
        _ => Err(Error::bug(format!("time attribute `{name}` is not a timestamp"))),
    }
}
