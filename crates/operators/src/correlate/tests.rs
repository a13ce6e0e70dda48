//! Table functions in the operator matrix: rows that become none, one and many, with and without padding, in a changelog.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use arrow_array::{Array, ArrayRef, Int32Array, UInt32Array};
use flott_core::error::Result;
use flott_core::operator::Operator;
use flott_core::table_function::{BoundTableFunction, TableRows};
use flott_core::types::{Column, TypeKind};
use flott_plan::Expr;
use flott_plan::spec::{CorrelateSpec, JoinKind};
use flott_runtime::testing::{OperatorTest, verify_operator_factory};

use super::Correlate;
use crate::test_support::{columns, rows};

/// 1, 2, … up to the argument.
#[derive(Debug)]
struct Series;

impl BoundTableFunction for Series {
    fn call(&self, args: &[ArrayRef], rows: usize) -> Result<TableRows> {
        let n = args[0].as_primitive::<Int32Type>();
        let (mut from, mut values) = (Vec::new(), Vec::new());
        for row in (0..rows).filter(|&i| n.is_valid(i)) {
            for value in 1..=n.value(row) {
                from.push(row as u32);
                values.push(value);
            }
        }
        Ok(TableRows { rows: UInt32Array::from(from), columns: vec![Arc::new(Int32Array::from(values))] })
    }
}

fn input() -> Vec<Column> {
    columns(&[("k", TypeKind::Int), ("n", TypeKind::Int)])
}

fn test(kind: JoinKind) -> OperatorTest {
    let output = columns(&[("k", TypeKind::Int), ("i", TypeKind::Int)]);
    let arg = Expr::column(1, TypeKind::Int.nullable());
    let spec = CorrelateSpec { kind, args: vec![arg], left: vec![0], right: vec![0] };
    let function: Arc<dyn BoundTableFunction> = Arc::new(Series);
    let create =
        move || -> Result<Box<dyn Operator>> { Ok(Box::new(Correlate::new(&spec, &function, &input(), &output)?)) };
    verify_operator_factory(Arc::new(create)).keys(0, &[0])
}

#[test]
fn every_row_becomes_as_many_rows_as_the_function_gives() {
    let batches = || [rows(&input(), &["[1, 2]", "[2, 0]", "[3, NULL]", "[4, 1]"])];
    test(JoinKind::Inner).input(0, batches()).end().expect(&["+I[1, 1]", "+I[1, 2]", "+I[4, 1]"]);
    test(JoinKind::Left).input(0, batches()).end().expect(&[
        "+I[1, 1]",
        "+I[1, 2]",
        "+I[2, NULL]",
        "+I[3, NULL]",
        "+I[4, 1]",
    ]);
    test(JoinKind::Left).input(0, [rows(&input(), &["[2, 0]"])]).expect(&["+I[2, NULL]"]);
}

#[test]
fn a_retraction_takes_back_all_rows_of_its_row() {
    let batches = [rows(&input(), &["+I[1, 2]"]), rows(&input(), &["-U[1, 2]", "+U[1, 1]", "-D[1, 1]"])];
    test(JoinKind::Inner)
        .input(0, batches)
        .end()
        .expect(&["+I[1, 1]", "+I[1, 2]", "-U[1, 1]", "-U[1, 2]", "+U[1, 1]", "-D[1, 1]"]);
}

#[test]
fn rows_that_explode_leave_in_batches() {
    let many: Vec<String> = (0..600).map(|k| format!("[{k}, 40]")).collect();
    let lines: Vec<&str> = many.iter().map(String::as_str).collect();
    let expected: Vec<String> = (0..600).flat_map(|k| (1..=40).map(move |i| format!("[{k}, {i}]"))).collect();
    let output = test(JoinKind::Inner).input(0, [rows(&input(), &lines)]).output().expect("runs");
    assert_eq!(output.len(), expected.len());
    assert!(output.iter().zip(&expected).all(|(o, e)| o.ends_with(e.as_str())));
}
