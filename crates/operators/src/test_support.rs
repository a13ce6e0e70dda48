//! What the tests of operators share: columns, calls, and the operator matrix on the memory backend. Test code only.

use flott_core::batch::ChangeBatch;
use flott_core::types::{Column, DataType, TypeKind, arrow_schema};
use flott_plan::spec::{AggregateCall, AggregateFunction, OperatorSpec};
use flott_runtime::testing::{OperatorTest, batch, verify_operator_factory};
use flott_state::MemoryStateBackend;

/// Nullable columns.
pub(crate) fn columns(columns: &[(&str, TypeKind)]) -> Vec<Column> {
    columns.iter().map(|(n, t)| Column::new(*n, t.clone().nullable())).collect()
}

/// A batch of `columns` from text.
pub(crate) fn rows(columns: &[Column], rows: &[&str]) -> ChangeBatch {
    batch(&arrow_schema(columns), rows)
}

/// The operator of `spec` on the memory backend.
pub(crate) fn verify(spec: &OperatorSpec, inputs: &[Vec<Column>], output: &[Column]) -> OperatorTest {
    let factory = crate::factory(spec, inputs, output).expect("a valid operator");
    verify_operator_factory(factory).state_backend(|request| {
        let mut backend = MemoryStateBackend::new(request.key_groups, request.max_parallelism, request.clock);
        backend.restore(request.restored, &*request.chunks)?;
        Ok(Box::new(backend))
    })
}

/// An aggregate over column `arg` of `input`.
pub(crate) fn call(
    function: AggregateFunction,
    arg: Option<usize>,
    input: &[Column],
    result: TypeKind,
) -> AggregateCall {
    let arg_types: Vec<DataType> = arg.iter().map(|&a| input[a].data_type.clone()).collect();
    AggregateCall {
        function,
        user: None,
        args: arg.into_iter().collect(),
        arg_types,
        distinct: false,
        filter: None,
        data_type: result.nullable(),
        name: "x".into(),
    }
}
