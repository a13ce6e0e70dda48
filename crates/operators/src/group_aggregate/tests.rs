//! GroupAggregate in the operator matrix, and against a naive model.

use std::collections::BTreeMap;

use flott_core::sink::ChangelogMode;
use flott_core::types::{Column, TypeKind};
use flott_plan::spec::{AggregateCall, AggregateFunction as F, OperatorSpec};
use proptest::prelude::*;

use crate::test_support::{call, columns, rows, verify};

fn input() -> Vec<Column> {
    columns(&[
        ("k", TypeKind::Int),
        ("v", TypeKind::BigInt),
        ("s", TypeKind::STRING),
        ("d", TypeKind::Decimal(10, 2)),
        ("f", TypeKind::Boolean),
    ])
}

fn spec(group: &[usize], aggregates: &[AggregateCall], input_mode: ChangelogMode, update_before: bool) -> OperatorSpec {
    let (group, aggregates) = (group.to_vec(), aggregates.to_vec());
    OperatorSpec::GroupAggregate { group, aggregates, input_mode, update_before, ttl_ms: None }
}

fn output(types: &[TypeKind]) -> Vec<Column> {
    types.iter().enumerate().map(|(i, t)| Column::new(format!("o{i}"), t.clone().nullable())).collect()
}

const INT: TypeKind = TypeKind::Int;
const BIG: TypeKind = TypeKind::BigInt;

#[test]
fn every_function_over_appended_rows() {
    let input = input();
    let mut filtered = call(F::Count, None, &input, BIG);
    filtered.filter = Some(4);
    let calls = [
        call(F::Count, None, &input, BIG),
        filtered,
        call(F::Count, Some(1), &input, BIG),
        call(F::Sum, Some(1), &input, BIG),
        call(F::Avg, Some(1), &input, BIG),
        call(F::Min, Some(1), &input, BIG),
        call(F::Max, Some(2), &input, TypeKind::STRING),
        call(F::Min, Some(2), &input, TypeKind::STRING),
        call(F::Sum, Some(3), &input, TypeKind::Decimal(38, 2)),
        call(F::Avg, Some(3), &input, TypeKind::Decimal(38, 6)),
    ];
    let (s, d) = (TypeKind::STRING, TypeKind::Decimal(38, 2));
    let output = output(&[INT, BIG, BIG, BIG, BIG, BIG, BIG, s.clone(), s, d, TypeKind::Decimal(38, 6)]);
    let first = ["[1, 7, b, 1.50, true]", "[1, NULL, abc, NULL, false]", "[2, NULL, NULL, NULL, NULL]"];
    let second = ["[1, -10, bb, 1.00, true]", "[1, -1, a, 0.17, NULL]"];
    verify(&spec(&[0], &calls, ChangelogMode::Append, true), std::slice::from_ref(&input), &output)
        .keys(0, &[0])
        .input(0, [rows(&input, &first), rows(&input, &second)])
        .end()
        .expect_net(&[
            "+I[1, 4, 2, 3, -4, -1, -10, bb, a, 2.67, 0.890000]",
            "+I[2, 1, 0, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL]",
        ]);
}

#[test]
fn one_change_per_touched_group_and_none_when_nothing_changed() {
    let input = columns(&[("k", INT), ("v", BIG)]);
    let calls = [call(F::Max, Some(1), &input, BIG)];
    let output = output(&[INT, BIG]);
    let make =
        |before| verify(&spec(&[0], &calls, ChangelogMode::Append, before), std::slice::from_ref(&input), &output);
    let one = |r| rows(&input, &[r]);
    let batches = [one("[1, 5]"), one("[1, 3]"), one("[2, 1]"), one("[1, 9]")];
    make(true).keys(0, &[0]).input(0, batches.clone()).expect(&["+I[1, 5]", "+I[2, 1]", "-U[1, 5]", "+U[1, 9]"]);
    make(false).keys(0, &[0]).input(0, batches).expect(&["+I[1, 5]", "+I[2, 1]", "+U[1, 9]"]);
    let folded = make(true).input(0, [rows(&input, &["[1, 5]", "[1, 7]", "[2, 1]"])]).output().expect("runs");
    assert_eq!(folded, ["+I[1, 7]", "+I[2, 1]"]);
}

#[test]
fn groups_whose_last_row_is_retracted_are_deleted() {
    let input = columns(&[("k", INT), ("v", BIG)]);
    let calls = [call(F::Sum, Some(1), &input, BIG), call(F::Max, Some(1), &input, BIG)];
    let output = output(&[INT, BIG, BIG]);
    let one = |r| rows(&input, &[r]);
    verify(&spec(&[0], &calls, ChangelogMode::Retract, true), std::slice::from_ref(&input), &output)
        .keys(0, &[0])
        .input(0, [one("+I[1, 5]"), one("+I[1, 9]"), one("-D[1, 9]"), one("-D[1, 5]"), one("+I[1, 2]")])
        .expect(&[
            "+I[1, 5, 5]",
            "-U[1, 5, 5]",
            "+U[1, 14, 9]",
            "-U[1, 14, 9]",
            "+U[1, 5, 5]",
            "-D[1, 5, 5]",
            "+I[1, 2, 2]",
        ]);
}

#[test]
fn a_string_replaced_by_another_in_one_batch_is_a_change() {
    let input = columns(&[("k", INT), ("s", TypeKind::STRING)]);
    let calls = [call(F::Max, Some(1), &input, TypeKind::STRING)];
    let output = output(&[INT, TypeKind::STRING]);
    let batches = [rows(&input, &["+I[1, ab]"]), rows(&input, &["-U[1, ab]", "+U[1, a]"])];
    let test = verify(&spec(&[0], &calls, ChangelogMode::Retract, true), std::slice::from_ref(&input), &output);
    test.input(0, batches).end().expect_net(&["+I[1, a]"]);
}

#[test]
fn a_global_aggregate_is_silent_without_rows() {
    let input = columns(&[("v", BIG)]);
    let calls = [call(F::Count, None, &input, BIG)];
    let make =
        || verify(&spec(&[], &calls, ChangelogMode::Append, true), std::slice::from_ref(&input), &output(&[BIG]));
    make().end().expect(&[]);
    make().input(0, [rows(&input, &["[1]", "[NULL]"])]).end().expect_net(&["+I[2]"]);
}

#[test]
fn sums_wrap_and_decimals_overflow_to_null() {
    let input = columns(&[("i", INT), ("d", TypeKind::Decimal(38, 0))]);
    let calls = [call(F::Sum, Some(0), &input, INT), call(F::Sum, Some(1), &input, TypeKind::Decimal(38, 0))];
    let big = "99999999999999999999999999999999999999";
    let batch = rows(&input, &[&format!("[2147483647, {big}]"), "[1, 1]"]);
    verify(
        &spec(&[], &calls, ChangelogMode::Append, true),
        std::slice::from_ref(&input),
        &output(&[INT, TypeKind::Decimal(38, 0)]),
    )
    .input(0, [batch])
    .end()
    .expect_net(&["+I[-2147483648, NULL]"]);
}

#[test]
fn min_over_a_row_is_refused_by_name() {
    let input = vec![Column::new("r", TypeKind::Row(vec![("a".into(), INT.nullable())]).nullable())];
    let calls = [call(F::Min, Some(0), &input, BIG)];
    let spec = spec(&[], &calls, ChangelogMode::Append, true);
    let error = crate::factory(&spec, std::slice::from_ref(&input), &output(&[BIG])).err().expect("refused");
    assert_eq!((error.kind(), error.code()), (flott_core::ErrorKind::User, "sql.aggregate-type"));
}

/// One row: key, value, text, passes the filter.
type Row = (i32, Option<i64>, Option<&'static str>, Option<bool>);

fn row_text((k, v, s, f): &Row) -> String {
    let v = v.map_or("NULL".into(), |v| v.to_string());
    let f = f.map_or("NULL".into(), |f| f.to_string());
    format!("[{k}, {v}, {}, NULL, {f}]", s.unwrap_or("NULL"))
}

fn row() -> impl Strategy<Value = Row> {
    let text = prop::option::of(prop::sample::select(vec!["a", "ab", "b", "é", "zz"]));
    (0..3i32, prop::option::of(-3..4i64), text, prop::option::of(any::<bool>()))
}

/// What the calls of [`model_calls`] give for the rows of one group.
fn model(key: i32, rows: &[Row]) -> String {
    let show = |v: Option<i64>| v.map_or("NULL".into(), |v| v.to_string());
    let values: Vec<i64> = rows.iter().filter_map(|r| r.1).collect();
    let texts: Vec<&str> = rows.iter().filter_map(|r| r.2).collect();
    let distinct = |pass: &dyn Fn(&Row) -> bool| {
        let mut v: Vec<i64> = rows.iter().filter(|r| pass(r)).filter_map(|r| r.1).collect();
        v.sort_unstable();
        v.dedup();
        v
    };
    let all = distinct(&|_| true);
    let passing = distinct(&|r| r.3 == Some(true));
    let sum = |v: &[i64]| (!v.is_empty()).then(|| v.iter().sum());
    format!(
        "+I[{key}, {}, {}, {}, {}, {}, {}, {}, {}]",
        rows.len(),
        show(sum(&values)),
        show(values.iter().min().copied()),
        show(values.iter().max().copied()),
        texts.iter().max().unwrap_or(&"NULL"),
        all.len(),
        passing.len(),
        show(sum(&all)),
    )
}

fn model_calls(input: &[Column]) -> (Vec<AggregateCall>, Vec<Column>) {
    let distinct = |f, filter| AggregateCall { distinct: true, filter, ..call(f, Some(1), input, BIG) };
    let calls = vec![
        call(F::Count, None, input, BIG),
        call(F::Sum, Some(1), input, BIG),
        call(F::Min, Some(1), input, BIG),
        call(F::Max, Some(1), input, BIG),
        call(F::Max, Some(2), input, TypeKind::STRING),
        distinct(F::Count, None),
        distinct(F::Count, Some(4)),
        distinct(F::Sum, None),
    ];
    (calls, output(&[INT, BIG, BIG, BIG, BIG, TypeKind::STRING, BIG, BIG, BIG]))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn agrees_with_a_naive_model(ops in prop::collection::vec((row(), prop::option::of(0..64usize)), 1..30), size in 1..9usize) {
        let input = input();
        let (mut live, mut lines): (Vec<Row>, Vec<String>) = (Vec::new(), Vec::new());
        for (row, retract) in ops {
            match retract.filter(|_| !live.is_empty()) {
                Some(i) => lines.push(format!("-D{}", row_text(&live.swap_remove(i % live.len())))),
                None => {
                    lines.push(format!("+I{}", row_text(&row)));
                    live.push(row);
                }
            }
        }
        let mut groups: BTreeMap<i32, Vec<Row>> = BTreeMap::new();
        live.iter().for_each(|r| groups.entry(r.0).or_default().push(*r));
        let expected: Vec<String> = groups.iter().map(|(k, r)| model(*k, r)).collect();
        let (calls, output) = model_calls(&input);
        let batches = lines.chunks(size).map(|c| rows(&input, &c.iter().map(String::as_str).collect::<Vec<_>>()));
        verify(&spec(&[0], &calls, ChangelogMode::Retract, true), std::slice::from_ref(&input), &output)
            .keys(0, &[0])
            .input(0, batches)
            .end()
            .expect_net(&expected.iter().map(String::as_str).collect::<Vec<_>>());
    }
}
