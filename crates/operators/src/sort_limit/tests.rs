//! SortLimit and the operators without state in the operator matrix.

use flott_core::types::{Column, TypeKind};
use flott_plan::expr::{Expr, Literal};
use flott_plan::spec::{OperatorSpec, SortKey};
use flott_runtime::testing::OperatorTest;

use crate::test_support::{columns, rows, verify};

fn input() -> Vec<Column> {
    columns(&[("a", TypeKind::Int), ("b", TypeKind::STRING)])
}

fn sort(keys: &[(usize, bool, bool)], offset: u64, limit: Option<u64>) -> OperatorTest {
    let key = |&(column, descending, nulls_first): &(usize, bool, bool)| SortKey { column, descending, nulls_first };
    let spec = OperatorSpec::SortLimit { keys: keys.iter().map(key).collect(), offset, limit, columns: input() };
    verify(&spec, &[input()], &input())
}

#[test]
fn sorts_at_the_end_of_data_once() {
    let input = input();
    let first = rows(&input, &["[2, x]", "[NULL, y]", "[1, b]", "[1, a]", "[1, a]"]);
    sort(&[(0, true, false), (1, false, true)], 0, None).input(0, [first.clone()]).end().end_of_data().expect(&[
        "+I[2, x]",
        "+I[1, a]",
        "+I[1, a]",
        "+I[1, b]",
        "+I[NULL, y]",
    ]);
    sort(&[(0, false, true), (1, false, true)], 1, Some(2)).input(0, [first]).end().expect(&["+I[1, a]", "+I[1, a]"]);
}

#[test]
fn takes_changelogs() {
    let input = input();
    sort(&[(0, false, true)], 0, Some(10))
        .input(0, [rows(&input, &["+I[1, a]", "+I[2, b]", "-U[1, a]", "+U[3, a]"]), rows(&input, &["-D[2, b]"])])
        .end()
        .expect(&["+I[3, a]"]);
}

#[test]
fn a_limit_over_many_rows_keeps_the_first_ones() {
    let input = input();
    let batches = (0..20).rev().map(|i| {
        let lines: Vec<String> = (0..4_000).map(|j| format!("[{}, x]", i * 4_000 + j)).collect();
        rows(&input, &lines.iter().map(String::as_str).collect::<Vec<_>>())
    });
    let out = sort(&[(0, false, true)], 1, Some(2)).input(0, batches).end().output().expect("runs");
    assert_eq!(out, ["+I[1, x]", "+I[2, x]"]);
}

#[test]
fn calc_filters_and_projects_with_kinds() {
    let input = input();
    let column = |i: usize| Expr::column(i, input[i].data_type.clone());
    let two = Expr::literal(Literal::Int(2), TypeKind::Int.not_null());
    let filter = Some(Expr::call(">=", vec![column(0), two], TypeKind::Boolean.nullable()));
    let spec = OperatorSpec::Calc { filter, projection: vec![column(1)] };
    let output = columns(&[("b", TypeKind::STRING)]);
    verify(&spec, std::slice::from_ref(&input), &output)
        .input(0, [rows(&input, &["+I[1, a]", "-U[2, b]", "+U[3, c]", "+I[NULL, d]"])])
        .end()
        .expect(&["-U[b]", "+U[c]"]);
}

#[test]
fn rows_pass_or_are_dropped_without_state() {
    let input = input();
    let change = rows(&input, &["+I[1, a]", "-U[1, a]", "+U[NULL, b]", "-D[2, NULL]"]);
    let make =
        |spec: OperatorSpec| verify(&spec, std::slice::from_ref(&input), &input).input(0, [change.clone()]).end();
    make(OperatorSpec::Union).expect(&["+I[1, a]", "-U[1, a]", "+U[NULL, b]", "-D[2, NULL]"]);
    make(OperatorSpec::DropUpdateBefore).expect(&["+I[1, a]", "+U[NULL, b]", "-D[2, NULL]"]);
    let enforcer = |drop| OperatorSpec::NotNullEnforcer { columns: vec![(0, "a".into())], drop };
    make(enforcer(true)).expect(&["+I[1, a]", "-U[1, a]", "-D[2, NULL]"]);
    let error = make(enforcer(false)).output().expect_err("refused");
    assert_eq!(error.code(), "sink.not-null");
    assert!(error.message().contains("`a`"), "{error}");
}
