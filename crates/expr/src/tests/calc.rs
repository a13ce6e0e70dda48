//! Filters and projections over rows in rows, as the benchmark's wide table has them.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray, StructArray};
use arrow_buffer::NullBuffer;
use flott_core::types::{Column, TypeKind};
use flott_plan::expr::Expr;

use crate::CompiledCalc;
use crate::testing::{batch, context, evaluate, parse};

/// event_type 0, 1, 2, 2; one of `person` and `bid` is there per row. The children of an absent ROW hold rubbish.
fn events() -> (Vec<Column>, RecordBatch) {
    let row = |valid: Vec<bool>, values: Vec<i64>| {
        let kind = TypeKind::Row(vec![
            ("id".into(), TypeKind::BigInt.not_null()),
            ("name".into(), TypeKind::STRING.nullable()),
        ]);
        let names = StringArray::from_iter_values(values.iter().map(|v| format!("n{v}")));
        let children: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(values)), Arc::new(names)];
        let arrow_schema::DataType::Struct(fields) = kind.to_arrow() else { panic!("a ROW is a struct") };
        let array: ArrayRef = Arc::new(StructArray::new(fields, children, Some(NullBuffer::from(valid))));
        (kind, array)
    };
    let (kind, person) = row(vec![true, false, false, false], vec![10, 666, 666, 666]);
    let (_, bid) = row(vec![false, false, true, true], vec![666, 666, 30, 40]);
    let event_type: ArrayRef = Arc::new(Int32Array::from(vec![0, 1, 2, 2]));
    batch(
        vec![
            (Column::new("event_type", TypeKind::Int.not_null()), event_type),
            (Column::new("person", kind.clone().nullable()), person),
            (Column::new("bid", kind.nullable()), bid),
        ],
        4,
    )
}

fn expr(sql: &str, columns: &[Column]) -> Expr {
    parse(sql, columns).expect(sql)
}

#[test]
fn fields_of_absent_rows_are_null() {
    let (columns, batch) = events();
    let rows = |sql: &str| evaluate(&expr(sql, &columns), &columns, &batch).expect(sql);
    assert_eq!(rows("bid.id"), ["NULL", "NULL", "30", "40"]);
    assert_eq!(rows("person.name"), ["n10", "NULL", "NULL", "NULL"]);
    assert_eq!(
        rows("CASE WHEN event_type = 0 THEN person.id WHEN event_type = 1 THEN 7 ELSE bid.id END"),
        ["10", "7", "30", "40"]
    );
    assert_eq!(
        rows("CASE WHEN event_type = 0 THEN person.name WHEN event_type = 2 THEN bid.name END"),
        ["n10", "NULL", "n30", "n40"]
    );
}

#[test]
fn a_filter_keeps_the_rows_of_its_mask() {
    let (columns, batch) = events();
    let projection = [expr("bid.id * 2", &columns), expr("bid.name", &columns), expr("'x'", &columns)];
    let filter = expr("event_type = 2 AND bid.id > 30", &columns);
    let names = ["a".to_owned(), "b".to_owned(), "c".to_owned()];
    let calc = CompiledCalc::compile(Some(&filter), &projection, &columns, &names).expect("compiles");
    let (rows, mask) = calc.apply(&batch, &context()).expect("runs").expect("one row");
    assert_eq!(rows.num_rows(), 1);
    assert_eq!(rows.schema().field(0).name(), "a");
    assert_eq!(rows.column(0).as_primitive::<Int64Type>().value(0), 80);
    assert_eq!(rows.column(1).as_string::<i32>().value(0), "n40");
    assert_eq!(rows.column(2).as_string::<i32>().value(0), "x");
    let mask = mask.expect("some rows were dropped");
    assert_eq!(mask.values().set_indices().collect::<Vec<_>>(), [3]);
    let none = expr("event_type = 9", &columns);
    let calc = CompiledCalc::compile(Some(&none), &projection, &columns, &names).expect("compiles");
    assert!(calc.apply(&batch, &context()).expect("runs").is_none());
}

#[test]
fn all_rows_pass_without_a_copy() {
    let (columns, batch) = events();
    let filter = expr("event_type >= 0", &columns);
    let projection = [expr("event_type", &columns)];
    let calc = CompiledCalc::compile(Some(&filter), &projection, &columns, &["e".to_owned()]).expect("compiles");
    let (rows, mask) = calc.apply(&batch, &context()).expect("runs").expect("rows");
    assert!(mask.is_none());
    assert_eq!(rows.column(0).to_data().buffers()[0].as_ptr(), batch.column(0).to_data().buffers()[0].as_ptr());
}

#[test]
fn what_may_fail_is_evaluated_only_where_it_is_asked_for() {
    let (columns, batch) = events();
    let rows = |sql: &str| evaluate(&expr(sql, &columns), &columns, &batch);
    assert_eq!(
        rows("CASE WHEN event_type = 0 THEN -1 ELSE 10 / event_type END").expect("no zero"),
        ["-1", "10", "5", "5"]
    );
    assert_eq!(rows("event_type <> 0 AND 10 / event_type > 5").expect("no zero"), ["FALSE", "TRUE", "FALSE", "FALSE"]);
    assert_eq!(rows("COALESCE(person.id, 10 / event_type)").expect("no zero"), ["10", "10", "5", "5"]);
    let error = rows("10 / event_type").expect_err("a zero");
    assert_eq!(error.code(), "sql.data");
    let filter = expr("event_type > 0", &columns);
    let calc =
        CompiledCalc::compile(Some(&filter), &[expr("10 / event_type", &columns)], &columns, &[]).expect("compiles");
    let (rows, _) = calc.apply(&batch, &context()).expect("the filter comes first").expect("rows");
    assert_eq!(rows.num_rows(), 3);
}
