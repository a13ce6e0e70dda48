//! Aggregates that keep their values, and deviations, in the operator matrix and against a naive model.

use flott_core::sink::ChangelogMode;
use flott_core::types::{Column, TypeKind};
use flott_plan::spec::{AggregateCall, AggregateFunction as F, OperatorSpec};
use flott_runtime::testing::OperatorTest;
use proptest::prelude::*;

use crate::test_support::{call, columns, rows, verify};

fn input() -> Vec<Column> {
    columns(&[("k", TypeKind::Int), ("s", TypeKind::STRING), ("separator", TypeKind::STRING), ("v", TypeKind::Double)])
}

fn list_agg() -> AggregateCall {
    let mut listed = call(F::ListAgg, Some(1), &input(), TypeKind::STRING);
    listed.args.push(2);
    listed.arg_types.push(TypeKind::STRING.nullable());
    listed
}

fn test(aggregates: Vec<AggregateCall>, input_mode: ChangelogMode) -> OperatorTest {
    let results = aggregates.iter().map(|a| a.data_type.kind.clone());
    let types = std::iter::once(TypeKind::Int).chain(results);
    let output: Vec<Column> = types.map(|t| Column::new("o", t.nullable())).collect();
    let spec =
        OperatorSpec::GroupAggregate { group: vec![0], aggregates, input_mode, update_before: true, ttl_ms: None };
    verify(&spec, &[input()], &output).keys(0, &[0])
}

fn texts() -> Vec<AggregateCall> {
    let text = |f| call(f, Some(1), &input(), TypeKind::STRING);
    vec![
        list_agg(),
        text(F::FirstValue),
        text(F::LastValue),
        text(F::JsonArrayAgg { absent_on_null: false }),
        text(F::JsonArrayAgg { absent_on_null: true }),
    ]
}

#[test]
fn values_are_kept_in_the_order_they_come() {
    let input = input();
    let first = ["[1, a, +, 1]", "[1, NULL, +, 2]", "[2, NULL, +, NULL]"];
    let second = ["[1, b, +, 3]", "[1, a, -, 6]"];
    test(texts(), ChangelogMode::Append)
        .input(0, [rows(&input, &first), rows(&input, &second)])
        .end()
        .expect_net(&["+I[1, a+b-a, a, a, [a,null,b,a], [a,b,a]]", "+I[2, NULL, NULL, NULL, [null], []]"]);
}

#[test]
fn a_retraction_takes_the_first_equal_value() {
    let input = input();
    let first = ["+I[1, a, +, 1]", "+I[1, b, +, 2]", "+I[1, a, +, 3]", "+I[2, x, +, 1]"];
    let second = ["-D[1, a, +, 1]", "-U[2, x, +, 1]", "+U[2, y, +, 1]"];
    let batches = || [rows(&input, &first), rows(&input, &second)];
    test(texts(), ChangelogMode::Retract)
        .input(0, batches())
        .end()
        .expect_net(&["+I[1, b+a, b, a, [b,a], [b,a]]", "+I[2, y, y, y, [y], [y]]"]);
    let gone = ["-D[1, b, +, 2]", "-D[1, a, +, 3]", "-D[2, y, +, 1]"];
    test(texts(), ChangelogMode::Retract).input(0, batches()).input(0, [rows(&input, &gone)]).end().expect_net(&[]);
}

#[test]
fn deviations_go_forwards_and_backwards() {
    let input = input();
    let spread = |root, sample| call(F::Deviation { root, sample }, Some(3), &input, TypeKind::Double);
    let calls = || vec![spread(false, false), spread(false, true), spread(true, false)];
    let batches = [
        rows(&input, &["+I[1, a, +, 1]", "+I[1, a, +, 9]", "+I[1, a, +, 5]", "+I[2, a, +, 4]"]),
        rows(&input, &["-D[1, a, +, 9]", "+I[1, a, +, NULL]"]),
    ];
    test(calls(), ChangelogMode::Retract)
        .input(0, batches)
        .end()
        .expect_net(&["+I[1, 4.0, 8.0, 2.0]", "+I[2, 0.0, NULL, 0.0]"]);
}

#[test]
fn a_value_of_two_rows_is_an_error() {
    let calls = vec![call(F::SingleValue, Some(1), &input(), TypeKind::STRING)];
    let one = test(calls.clone(), ChangelogMode::Append).input(0, [rows(&input(), &["[1, a, +, 1]"])]);
    assert_eq!(one.output().expect("runs"), ["+I[1, a]"]);
    let two = test(calls, ChangelogMode::Append).input(0, [rows(&input(), &["[1, a, +, 1]", "[1, b, +, 1]"])]);
    assert!(two.output().expect_err("two rows").to_string().contains("more than one row"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Random changes of few keys and values: the list is what is left, in order.
    #[test]
    fn lists_equal_a_naive_model(changes in prop::collection::vec((0i32..2, 0u8..3, any::<bool>()), 1..24)) {
        let mut model: Vec<(i32, String)> = Vec::new();
        let mut lines = Vec::new();
        for (k, v, add) in changes {
            let value = format!("v{v}");
            let known = model.iter().position(|(key, text)| *key == k && *text == value);
            match known.filter(|_| !add) {
                Some(at) => {
                    model.remove(at);
                    lines.push(format!("-D[{k}, {value}, ;, 1]"));
                }
                None => {
                    model.push((k, value.clone()));
                    lines.push(format!("+I[{k}, {value}, ;, 1]"));
                }
            }
        }
        let mut expected = Vec::new();
        for k in 0..2 {
            let of: Vec<&str> = model.iter().filter(|(key, _)| *key == k).map(|(_, v)| v.as_str()).collect();
            if !of.is_empty() {
                expected.push(format!("+I[{k}, {}]", of.join(";")));
            }
        }
        let batches: Vec<_> =
            lines.chunks(5).map(|c| rows(&input(), &c.iter().map(String::as_str).collect::<Vec<_>>())).collect();
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        test(vec![list_agg()], ChangelogMode::Retract).input(0, batches).end().expect_net(&expected);
    }
}
