//! The columnar operators of SQL: built from [`OperatorSpec`], run by the runtime. Never plans, never does I/O, never reads
//! a clock other than the one it is given.

mod aggregate;
mod calc;
mod correlate;
mod emit;
mod expand;
mod group_aggregate;
mod join;
mod keyed;
mod lookup;
mod match_recognize;
mod over;
mod pattern;
mod rank;
mod repeat;
mod simple;
mod sort_limit;
mod source_transform;
mod temporal_sort;
mod window;
mod zone;

#[cfg(test)]
mod test_support;

use std::sync::Arc;

use flott_core::error::{Error, Result};
use flott_core::lookup::LookupSource;
use flott_core::operator::{Operator, OperatorFactory};
use flott_core::sink::ChangelogMode;
use flott_core::table_function::BoundTableFunction;
use flott_core::types::Column;
use flott_plan::OverOrder;
use flott_plan::spec::{CorrelateSpec, LookupJoinSpec, OperatorSpec, SortKey};

pub use source_transform::{source_transform, source_transform_with};

/// The factory of the operator that `spec` describes. `inputs` are the columns of each input port (UNION: of any one),
/// `output` those of the result. What cannot run is refused here, before the job starts.
pub fn factory(spec: &OperatorSpec, inputs: &[Vec<Column>], output: &[Column]) -> Result<Arc<dyn OperatorFactory>> {
    let (spec, inputs, output) = (spec.clone(), inputs.to_vec(), output.to_vec());
    let create = move || create(&spec, &inputs, &output);
    create()?;
    Ok(Arc::new(create))
}

fn create(spec: &OperatorSpec, inputs: &[Vec<Column>], output: &[Column]) -> Result<Box<dyn Operator>> {
    let input = inputs.first().map(Vec::as_slice).unwrap_or_default();
    Ok(match spec {
        OperatorSpec::Calc { filter, projection } => {
            Box::new(calc::Calc::new(filter.as_ref(), projection, input, output)?)
        }
        OperatorSpec::Expand { projections } => Box::new(expand::Expand::new(projections, input, output)?),
        OperatorSpec::WindowAssign { window } => window::assign(window, input, output)?,
        OperatorSpec::WindowAggregate { .. } => window::aggregate(spec, input, output)?,
        OperatorSpec::GroupAggregate { group, aggregates, input_mode, update_before, ttl_ms } => {
            let options = group_aggregate::Options {
                group: group.clone(),
                input_mode: *input_mode,
                update_before: *update_before,
                ttl_ms: *ttl_ms,
            };
            Box::new(group_aggregate::GroupAggregate::new(options, aggregates, input, output)?)
        }
        OperatorSpec::Join(spec) if join::AppendJoin::fits(spec) => Box::new(join::AppendJoin::new(spec, output)?),
        OperatorSpec::Join(spec) => Box::new(join::Join::new(spec, output)?),
        OperatorSpec::IntervalJoin(spec) => Box::new(join::IntervalJoin::new(spec, output)?),
        OperatorSpec::WindowJoin(spec) => Box::new(join::WindowJoin::new(spec, output)?),
        OperatorSpec::TemporalJoin(spec) => Box::new(join::TemporalJoin::new(spec, output)?),
        OperatorSpec::Repeat { count } => Box::new(repeat::Repeat::new(*count, output)),
        OperatorSpec::Union => Box::new(simple::Union),
        OperatorSpec::SortLimit { keys, offset, limit, columns } => {
            Box::new(sort_limit::SortLimit::new(keys, *offset, *limit, columns)?)
        }
        OperatorSpec::OverAggregate(spec) => match spec.order {
            OverOrder::Column(_) => Box::new(over::OrderedOver::new(spec, input, output)?),
            _ => Box::new(over::OverAggregate::new(spec, input, output)?),
        },
        OperatorSpec::TemporalSort(spec) => Box::new(temporal_sort::TemporalSort::new(spec, input)?),
        OperatorSpec::TopN { .. } | OperatorSpec::WindowTopN { .. } => top_n(spec, input, output)?,
        OperatorSpec::Deduplicate { key, order, keep_last, update_before, ttl_ms } => {
            let options = keyed::DeduplicateOptions {
                key: key.clone(),
                order: order.clone(),
                keep_last: *keep_last,
                update_before: *update_before,
                ttl_ms: *ttl_ms,
            };
            Box::new(keyed::Deduplicate::new(options, input)?)
        }
        OperatorSpec::Match(spec) => Box::new(match_recognize::MatchRecognize::new(spec, input, output)?),
        OperatorSpec::ChangelogNormalize { key, update_before, ttl_ms } => {
            Box::new(keyed::ChangelogNormalize::new(key, *update_before, *ttl_ms, input)?)
        }
        OperatorSpec::SinkUpsertMaterialize { key, ttl_ms } => {
            Box::new(keyed::SinkUpsertMaterialize::new(key, *ttl_ms, input)?)
        }
        OperatorSpec::ToUpsert { key } => Box::new(keyed::ToUpsert::new(key, input)?),
        OperatorSpec::DropUpdateBefore => Box::new(simple::DropUpdateBefore),
        OperatorSpec::NotNullEnforcer { columns, drop } => Box::new(simple::NotNullEnforcer::new(columns, *drop)),
    })
}

fn top_n(spec: &OperatorSpec, input: &[Column], output: &[Column]) -> Result<Box<dyn Operator>> {
    let base = |partition: &[usize], order: &[SortKey], limit: u64, with_rank: bool| rank::Options {
        partition: partition.to_vec(),
        order: order.to_vec(),
        limit,
        with_rank,
        input_mode: ChangelogMode::Append,
        update_before: false,
        ttl_ms: None,
    };
    match spec {
        OperatorSpec::TopN { partition, order, limit, with_rank, input_mode, update_before, ttl_ms } => {
            let options = rank::Options {
                input_mode: *input_mode,
                update_before: *update_before,
                ttl_ms: *ttl_ms,
                ..base(partition, order, *limit, *with_rank)
            };
            Ok(Box::new(rank::TopN::new(options, input, output)?))
        }
        OperatorSpec::WindowTopN { .. } => Ok(Box::new(rank::WindowTopN::new(spec, input, output)?)),
        _ => Err(Error::bug("a Top-N is built from a Top-N's description")),
    }
}

/// The operator of a lookup join, one per subtask; `inputs` and `output` as for [`factory`].
pub fn lookup_join(
    spec: &LookupJoinSpec,
    source: &Arc<dyn LookupSource>,
    inputs: &[Vec<Column>],
    output: &[Column],
) -> Result<Box<dyn Operator>> {
    let input = inputs.first().map(Vec::as_slice).unwrap_or_default();
    Ok(Box::new(lookup::LookupJoin::new(spec, source, input, output)?))
}

/// The operator of a table function; `inputs` and `output` as for [`factory`].
pub fn correlate(
    spec: &CorrelateSpec,
    function: &Arc<dyn BoundTableFunction>,
    inputs: &[Vec<Column>],
    output: &[Column],
) -> Result<Box<dyn Operator>> {
    let input = inputs.first().map(Vec::as_slice).unwrap_or_default();
    Ok(Box::new(correlate::Correlate::new(spec, function, input, output)?))
}
