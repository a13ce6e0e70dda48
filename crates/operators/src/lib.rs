//! The columnar operators of SQL: built from [`OperatorSpec`], run by the runtime. Never plans, never does I/O, never reads
//! a clock other than the one it is given.

mod aggregate;
mod calc;
mod emit;
mod group_aggregate;
mod join;
mod simple;
mod sort_limit;
mod source_transform;
mod window;
mod zone;

#[cfg(test)]
mod test_support;

use std::sync::Arc;

use flott_core::error::Result;
use flott_core::operator::{Operator, OperatorFactory};
use flott_core::types::Column;
use flott_plan::spec::OperatorSpec;

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
        OperatorSpec::WindowAssign { window } => Box::new(window::WindowAssign::new(window, input, output)?),
        OperatorSpec::WindowAggregate { window, group, aggregates, properties } => {
            window::aggregate(window, group, aggregates, properties, input, output)?
        }
        OperatorSpec::GroupAggregate { group, aggregates, input_mode, update_before, ttl_ms } => {
            let options = group_aggregate::Options {
                group: group.clone(),
                input_mode: *input_mode,
                update_before: *update_before,
                ttl_ms: *ttl_ms,
            };
            Box::new(group_aggregate::GroupAggregate::new(options, aggregates, input, output)?)
        }
        OperatorSpec::Join { .. } => Box::new(join::Join::new(spec, output)?),
        OperatorSpec::Union => Box::new(simple::Union),
        OperatorSpec::SortLimit { keys, offset, limit, columns } => {
            Box::new(sort_limit::SortLimit::new(keys, *offset, *limit, columns)?)
        }
        OperatorSpec::DropUpdateBefore => Box::new(simple::DropUpdateBefore),
        OperatorSpec::NotNullEnforcer { columns, drop } => Box::new(simple::NotNullEnforcer::new(columns, *drop)),
    })
}
