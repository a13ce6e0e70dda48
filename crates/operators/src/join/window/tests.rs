//! The window join in the operator matrix, and against a naive model.

use flott_core::types::{Column, TypeKind};
use flott_plan::expr::Expr;
use flott_plan::spec::OperatorSpec;
use flott_plan::{JoinKind, JoinSpec, WindowJoinSpec};
use flott_runtime::testing::OperatorTest;
use proptest::prelude::*;

use crate::test_support::{columns, rows, verify};

fn sides() -> [Vec<Column>; 2] {
    let side = |k, v, e| columns(&[(k, TypeKind::Int), (v, TypeKind::Int), (e, TypeKind::Timestamp(3))]);
    [side("lk", "lv", "lend"), side("rk", "rv", "rend")]
}

fn join(kind: JoinKind, condition: bool, processing_time: bool) -> OperatorTest {
    let [left, right] = sides();
    let int = |i| Expr::column(i, TypeKind::Int.nullable());
    let less = Expr::call("<", vec![int(1), int(4)], TypeKind::Boolean.nullable());
    let right_columns = if kind.projects_right() { right.as_slice() } else { &[] };
    let output: Vec<Column> = left.iter().chain(right_columns).cloned().collect();
    let inputs = [left.clone(), right.clone()];
    let (left_keys, right_keys) = (vec![0, 2], vec![0, 2]);
    let join = JoinSpec { kind, left_keys, right_keys, condition: condition.then_some(less), left, right };
    let spec = WindowJoinSpec { join, left_window_end: 2, right_window_end: 2, processing_time, zone: None };
    verify(&OperatorSpec::WindowJoin(spec), &inputs, &output).keys(0, &[0, 2]).keys(1, &[0, 2])
}

fn cells(k: Option<i32>, v: i32, second: i64) -> String {
    let k = k.map_or("NULL".into(), |k| k.to_string());
    format!("{k}, {v}, 1970-01-01T00:{:02}:{:02}", second / 60, second % 60)
}

fn row(k: Option<i32>, v: i32, second: i64) -> String {
    format!("[{}]", cells(k, v, second))
}

#[test]
fn windows_join_once_when_they_are_over() {
    let [left, right] = sides();
    join(JoinKind::Inner, false, false)
        .input(0, [rows(&left, &[&row(Some(1), 10, 10), &row(Some(1), 10, 10), &row(Some(1), 11, 20)])])
        .input(1, [rows(&right, &[&row(Some(1), 7, 10), &row(Some(2), 8, 10)])])
        .watermark(9_998)
        .input(1, [rows(&right, &[&row(Some(1), 9, 10)])])
        .watermark(9_999)
        // Late for the first window.
        .input(1, [rows(&right, &[&row(Some(1), 6, 10), &row(Some(1), 5, 20)])])
        .watermark(20_000)
        .end()
        .expect_any_order(&[
            &format!("+I[{}, {}]", cells(Some(1), 10, 10), cells(Some(1), 7, 10)),
            &format!("+I[{}, {}]", cells(Some(1), 10, 10), cells(Some(1), 7, 10)),
            &format!("+I[{}, {}]", cells(Some(1), 10, 10), cells(Some(1), 9, 10)),
            &format!("+I[{}, {}]", cells(Some(1), 10, 10), cells(Some(1), 9, 10)),
            &format!("+I[{}, {}]", cells(Some(1), 11, 20), cells(Some(1), 5, 20)),
        ]);
}

#[test]
fn rows_without_a_match_in_their_window() {
    let [left, right] = sides();
    let test = |kind| {
        join(kind, false, false)
            .input(0, [rows(&left, &[&row(Some(1), 10, 10), &row(Some(2), 20, 10), &row(None, 30, 10)])])
            .input(1, [rows(&right, &[&row(Some(1), 7, 10), &row(Some(2), 8, 20), &row(None, 9, 10)])])
            .watermark(60_000)
            .end()
    };
    let pad = "NULL, NULL, NULL";
    let pair = format!("+I[{}, {}]", cells(Some(1), 10, 10), cells(Some(1), 7, 10));
    let (two, null) = (cells(Some(2), 20, 10), cells(None, 30, 10));
    test(JoinKind::Full).expect_any_order(&[
        &pair,
        &format!("+I[{two}, {pad}]"),
        &format!("+I[{null}, {pad}]"),
        &format!("+I[{pad}, {}]", cells(None, 9, 10)),
        &format!("+I[{pad}, {}]", cells(Some(2), 8, 20)),
    ]);
    test(JoinKind::Semi).expect_any_order(&[&format!("+I[{}]", cells(Some(1), 10, 10))]);
    test(JoinKind::Anti).expect_any_order(&[&format!("+I[{two}]"), &format!("+I[{null}]")]);
}

#[test]
fn a_window_larger_than_a_batch_comes_out_whole() {
    let [left, right] = sides();
    let many: Vec<String> = (0..9_000).map(|v| row(Some(1), v, 10)).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let out = join(JoinKind::Left, true, false)
        .input(1, [rows(&right, &many)])
        .input(0, [rows(&left, &[&row(Some(1), -1, 10), &row(Some(1), 8_998, 10), &row(Some(1), 9_000, 10)])])
        .watermark(10_000)
        .end()
        .output()
        .expect("runs");
    assert_eq!(out.len(), 9_000 + 1 + 1);
}

#[test]
fn windows_of_processing_time_end_by_the_clock() {
    let [left, right] = sides();
    join(JoinKind::Inner, false, true)
        .processing_time(1_000)
        .input(0, [rows(&left, &[&row(Some(1), 1, 10), &row(Some(1), 2, 20)])])
        .input(1, [rows(&right, &[&row(Some(1), 3, 10), &row(Some(1), 4, 20)])])
        .processing_time(10_000)
        .end()
        .expect(&[
            &format!("+I[{}, {}]", cells(Some(1), 1, 10), cells(Some(1), 3, 10)),
            &format!("+I[{}, {}]", cells(Some(1), 2, 20), cells(Some(1), 4, 20)),
        ]);
}

type Row = (Option<i32>, i32, i64);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn agrees_with_a_naive_model(
        ops in prop::collection::vec((0..2usize, (prop::option::of(0..2i32), 0..3i32, 1..4i64)), 1..24),
        kind in prop::sample::select(vec![JoinKind::Inner, JoinKind::Left, JoinKind::Full, JoinKind::Semi, JoinKind::Anti]),
        condition: bool,
    ) {
        let mut all: [Vec<Row>; 2] = Default::default();
        let mut test = join(kind, condition, false).input(1, []);
        for (i, (port, r)) in ops.iter().enumerate() {
            all[*port].push(*r);
            test = test.input(*port, [rows(&sides()[*port], &[&row(r.0, r.1, r.2 * 10)])]);
            if let Some(least) = ops[i + 1..].iter().map(|o| o.1.2).min() {
                test = test.watermark(least * 10_000 - 2);
            }
        }
        let matches = |l: &Row, r: &Row| l.0.is_some() && l.0 == r.0 && l.2 == r.2 && (!condition || l.1 < r.1);
        let pad = "NULL, NULL, NULL";
        let text = |r: &Row| cells(r.0, r.1, r.2 * 10);
        let mut expected = Vec::new();
        for l in &all[0] {
            let found: Vec<&Row> = all[1].iter().filter(|r| matches(l, r)).collect();
            if !kind.projects_right() {
                expected.extend((found.is_empty() == (kind == JoinKind::Anti)).then(|| format!("+I[{}]", text(l))));
                continue;
            }
            expected.extend(found.iter().map(|r| format!("+I[{}, {}]", text(l), text(r))));
            if found.is_empty() && kind.pads_right() {
                expected.push(format!("+I[{}, {pad}]", text(l)));
            }
        }
        for r in all[1].iter().filter(|_| kind.right_outer()) {
            if !all[0].iter().any(|l| matches(l, r)) {
                expected.push(format!("+I[{pad}, {}]", text(r)));
            }
        }
        test.watermark(1_000_000).end().expect_any_order(&expected.iter().map(String::as_str).collect::<Vec<_>>());
    }
}
