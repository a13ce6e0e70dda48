//! Deduplication, normalisation and materialisation in the operator matrix, and against naive models.

use std::collections::BTreeMap;

use flott_core::types::{Column, TypeKind};
use flott_plan::spec::{OperatorSpec, SortKey};
use flott_runtime::testing::OperatorTest;
use proptest::prelude::*;

use crate::test_support::{columns, rows, verify};

fn input() -> Vec<Column> {
    columns(&[("k", TypeKind::Int), ("v", TypeKind::Int), ("s", TypeKind::STRING)])
}

fn test(spec: &OperatorSpec) -> OperatorTest {
    verify(spec, &[input()], &input()).keys(0, &[0])
}

fn normalize(update_before: bool) -> OperatorTest {
    test(&OperatorSpec::ChangelogNormalize { key: vec![0], update_before, ttl_ms: None })
}

fn deduplicate(order: &[(usize, bool)], keep_last: bool, update_before: bool) -> OperatorTest {
    let key = |&(column, descending): &(usize, bool)| SortKey { column, descending, nulls_first: !descending };
    let order = order.iter().map(key).collect();
    test(&OperatorSpec::Deduplicate { key: vec![0], order, keep_last, update_before, ttl_ms: None })
}

#[test]
fn upserts_become_a_changelog_that_tells_every_old_row() {
    let input = input();
    let one = |r| rows(&input, &[r]);
    let batches = || {
        let lines =
            ["+I[1, 5, a]", "+U[1, 6, a]", "+U[1, 6, a]", "+U[2, 1, NULL]", "-D[1, NULL, NULL]", "-D[3, NULL, NULL]"];
        lines.map(one)
    };
    normalize(true).input(0, batches()).end().expect(&[
        "+I[1, 5, a]",
        "-U[1, 5, a]",
        "+U[1, 6, a]",
        "+I[2, 1, NULL]",
        "-D[1, 6, a]",
    ]);
    normalize(false).input(0, batches()).expect(&["+I[1, 5, a]", "+U[1, 6, a]", "+I[2, 1, NULL]", "-D[1, 6, a]"]);
    let repeated = ["+I[1, 5, a]", "-U[1, 5, a]", "+U[1, 6, a]", "-U[1, 5, a]", "+U[1, 6, a]"].map(one);
    normalize(true).input(0, repeated).expect(&["+I[1, 5, a]", "-U[1, 5, a]", "+U[1, 6, a]"]);
    let folded = normalize(true).input(0, [rows(&input, &["+I[1, 5, a]", "-D[1, NULL, NULL]", "+U[1, 7, b]"])]);
    assert_eq!(folded.output().expect("runs"), ["+I[1, 7, b]"]);
}

#[test]
fn a_row_that_comes_again_renews_its_time_to_live() {
    let spec = OperatorSpec::ChangelogNormalize { key: vec![0], update_before: true, ttl_ms: Some(100) };
    let input = input();
    let row = || [rows(&input, &["+U[1, 5, a]"])];
    test(&spec).input(0, row()).processing_time(80).input(0, row()).processing_time(150).input(0, row()).expect(&[
        "+I[1, 5, a]",
        "-U[1, 5, a]",
        "+U[1, 5, a]",
        "-U[1, 5, a]",
        "+U[1, 5, a]",
    ]);
}

#[test]
fn the_first_to_come_stays_and_nothing_else_is_said() {
    let input = input();
    let batches = [rows(&input, &["[1, 5, a]", "[1, 1, b]"]), rows(&input, &["[2, 9, c]", "[1, 0, d]", "[2, 9, e]"])];
    deduplicate(&[], false, true).input(0, batches).end().expect(&["+I[1, 5, a]", "+I[2, 9, c]"]);
}

#[test]
fn of_equal_times_the_last_wins_when_the_last_is_kept() {
    let input = input();
    let batches = || ["[1, 5, a]", "[1, 5, b]", "[1, 4, c]", "[1, 6, d]"].map(|r| rows(&input, &[r]));
    deduplicate(&[(1, true)], true, true).input(0, batches()).end().expect(&[
        "+I[1, 5, a]",
        "-U[1, 5, a]",
        "+U[1, 5, b]",
        "-U[1, 5, b]",
        "+U[1, 6, d]",
    ]);
    deduplicate(&[(1, true)], true, false).input(0, batches()).expect(&["+I[1, 5, a]", "+U[1, 5, b]", "+U[1, 6, d]"]);
    deduplicate(&[(1, false)], false, true).input(0, batches()).expect(&["+I[1, 5, a]", "-U[1, 5, a]", "+U[1, 4, c]"]);
    deduplicate(&[], true, false).input(0, batches()).expect(&[
        "+I[1, 5, a]",
        "+U[1, 5, b]",
        "+U[1, 4, c]",
        "+U[1, 6, d]",
    ]);
}

#[test]
fn a_deletion_by_the_sinks_key_brings_the_row_before_back() {
    let spec = OperatorSpec::SinkUpsertMaterialize { key: vec![0], ttl_ms: None };
    let input = input();
    let lines =
        ["+I[1, 5, a]", "+I[1, 6, b]", "-U[1, 5, a]", "+U[2, 5, a]", "-D[1, 6, b]", "-D[2, 5, a]", "-D[2, 5, a]"];
    test(&spec).input(0, lines.map(|r| rows(&input, &[r]))).end().expect(&[
        "+I[1, 5, a]",
        "+U[1, 6, b]",
        "+I[2, 5, a]",
        "-D[1, 6, b]",
        "-D[2, 5, a]",
    ]);
    let lines = ["+I[1, 5, a]", "+I[1, 6, b]", "+I[1, 5, a]", "-D[1, 5, a]", "-D[1, 6, b]"];
    test(&spec).input(0, lines.map(|r| rows(&input, &[r]))).expect(&[
        "+I[1, 5, a]",
        "+U[1, 6, b]",
        "+U[1, 5, a]",
        "+U[1, 6, b]",
        "+U[1, 5, a]",
    ]);
}

#[test]
fn only_the_last_change_of_a_key_is_written_and_lost_rows_are_deleted() {
    let spec = OperatorSpec::ToUpsert { key: vec![0] };
    let input = input();
    let batch =
        rows(&input, &["+I[1, 5, a]", "-U[1, 5, a]", "-U[2, 1, b]", "+U[1, 6, a]", "+I[3, 1, c]", "-D[4, 1, d]"]);
    let out = test(&spec).input(0, [batch]).output().expect("runs");
    assert_eq!(out, ["-D[2, 1, b]", "+U[1, 6, a]", "+I[3, 1, c]", "-D[4, 1, d]"]);
    test(&spec)
        .input(0, ["-U[1, 5, a]", "+U[1, 6, a]"].map(|r| rows(&input, &[r])))
        .expect(&["-D[1, 5, a]", "+U[1, 6, a]"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_remains_is_the_last_row_of_every_key(
        ops in prop::collection::vec((0..4i32, prop::option::of(0..3i32)), 1..40),
        size in 1..9usize,
    ) {
        let mut live: BTreeMap<i32, i32> = BTreeMap::new();
        let mut lines = Vec::new();
        for (k, v) in ops {
            match v {
                Some(v) => {
                    live.insert(k, v);
                    lines.push(format!("+U[{k}, {v}, x]"));
                }
                None => {
                    live.remove(&k);
                    lines.push(format!("-D[{k}, NULL, NULL]"));
                }
            }
        }
        let input = input();
        let batches = lines.chunks(size).map(|c| rows(&input, &c.iter().map(String::as_str).collect::<Vec<_>>()));
        let expected: Vec<String> = live.iter().map(|(k, v)| format!("+I[{k}, {v}, x]")).collect();
        normalize(true).input(0, batches).end().expect_net(&expected.iter().map(String::as_str).collect::<Vec<_>>());
    }
}
