//! The interval join in the operator matrix, and against a naive model.

use flott_core::types::{Column, TypeKind};
use flott_plan::expr::Expr;
use flott_plan::spec::OperatorSpec;
use flott_plan::{IntervalJoinSpec, JoinKind, JoinSpec};
use flott_runtime::testing::OperatorTest;
use proptest::prelude::*;

use crate::test_support::{columns, rows, verify};

fn sides() -> [Vec<Column>; 2] {
    let side = |k, v, t| columns(&[(k, TypeKind::Int), (v, TypeKind::Int), (t, TypeKind::Timestamp(3))]);
    [side("lk", "lv", "lt"), side("rk", "rv", "rt")]
}

/// Joins where `left time − right time` is within the bounds, in seconds.
fn join(kind: JoinKind, bounds: (i64, i64), change: impl FnOnce(&mut IntervalJoinSpec)) -> OperatorTest {
    let [left, right] = sides();
    let output: Vec<Column> = left.iter().chain(&right).cloned().collect();
    let inputs = [left.clone(), right.clone()];
    let join = JoinSpec { kind, left_keys: vec![0], right_keys: vec![0], condition: None, left, right };
    let mut spec = IntervalJoinSpec {
        join,
        left_time: 2,
        right_time: 2,
        processing_time: false,
        lower_ms: bounds.0 * 1000,
        upper_ms: bounds.1 * 1000,
        keep_left: false,
        keep_right: false,
    };
    change(&mut spec);
    verify(&OperatorSpec::IntervalJoin(spec), &inputs, &output).keys(0, &[0]).keys(1, &[0])
}

fn row(k: Option<i32>, v: i32, second: i64) -> String {
    format!("[{}]", cells(k, v, second))
}

fn cells(k: Option<i32>, v: i32, second: i64) -> String {
    let k = k.map_or("NULL".into(), |k| k.to_string());
    format!("{k}, {v}, 1970-01-01T00:{:02}:{:02}", second / 60, second % 60)
}

#[test]
fn rows_within_the_bounds_match_in_both_directions() {
    let [left, right] = sides();
    let l = |v, s| row(Some(1), v, s);
    join(JoinKind::Inner, (-10, 5), |_| ())
        .input(0, [rows(&left, &[&l(1, 20), &l(2, 20), &row(None, 9, 20)])])
        .input(
            1,
            [rows(&right, &[&l(3, 14), &l(4, 15), &l(5, 30), &l(6, 31), &row(Some(2), 7, 20), &row(None, 8, 20)])],
        )
        .input(0, [rows(&left, &[&l(10, 36)])])
        .end()
        .expect_any_order(&[
            &format!("+I[{}, {}]", cells(Some(1), 1, 20), cells(Some(1), 4, 15)),
            &format!("+I[{}, {}]", cells(Some(1), 2, 20), cells(Some(1), 4, 15)),
            &format!("+I[{}, {}]", cells(Some(1), 1, 20), cells(Some(1), 5, 30)),
            &format!("+I[{}, {}]", cells(Some(1), 2, 20), cells(Some(1), 5, 30)),
            &format!("+I[{}, {}]", cells(Some(1), 10, 36), cells(Some(1), 6, 31)),
        ]);
}

#[test]
fn rows_without_a_match_appear_once_none_can_come() {
    let [left, right] = sides();
    let at = |v, s| row(Some(1), v, s);
    let pad = "NULL, NULL, NULL";
    join(JoinKind::Full, (0, 5), |_| ())
        .input(0, [rows(&left, &[&at(1, 10), &at(1, 10)])])
        .input(1, [rows(&right, &[&at(2, 12)])])
        // The left rows wait for right ones up to second 10, in buckets of 1.25 seconds.
        .watermark(9_000)
        .input(1, [rows(&right, &[&at(3, 8)])])
        .watermark(30_000)
        // Late: nothing waits for them.
        .input(0, [rows(&left, &[&at(4, 11)])])
        .input(1, [rows(&right, &[&at(5, 11)])])
        .watermark(60_000)
        .end()
        .expect(&[
            &format!("+I[{}, {}]", cells(Some(1), 1, 10), cells(Some(1), 3, 8)),
            &format!("+I[{}, {}]", cells(Some(1), 1, 10), cells(Some(1), 3, 8)),
            &format!("+I[{pad}, {}]", cells(Some(1), 2, 12)),
            &format!("+I[{}, {pad}]", cells(Some(1), 4, 11)),
            &format!("+I[{pad}, {}]", cells(Some(1), 5, 11)),
        ]);
}

#[test]
fn the_watermark_stays_behind_what_may_still_come() {
    let [left, _] = sides();
    let at = |v, s| row(Some(1), v, s);
    join(JoinKind::Left, (-4, 0), |_| ())
        .with_signals()
        .input(0, [rows(&left, &[&at(1, 10)])])
        .input(1, [])
        .watermark(20_000)
        .idle()
        .active()
        .end()
        .expect(&[
            &format!("+I[{}, NULL, NULL, NULL]", cells(Some(1), 1, 10)),
            "watermark 15000",
            "idle",
            "active",
            "watermark 9223372036854775807",
        ]);
}

#[test]
fn kept_rows_match_late_ones() {
    let [left, right] = sides();
    let at = |v, s| row(Some(1), v, s);
    join(JoinKind::Inner, (-10, 0), |spec| spec.keep_right = true)
        .input(1, [rows(&right, &[&at(1, 10)])])
        .watermark(100_000)
        .input(0, [rows(&left, &[&at(2, 5)])])
        .end()
        .expect(&[&format!("+I[{}, {}]", cells(Some(1), 2, 5), cells(Some(1), 1, 10))]);
}

#[test]
fn by_processing_time_rows_go_when_the_clock_has_passed() {
    let [left, right] = sides();
    let time = |spec: &mut IntervalJoinSpec| spec.processing_time = true;
    join(JoinKind::Left, (-5, 5), time)
        .processing_time(100_000)
        .input(0, [rows(&left, &[&row(Some(1), 1, 0)])])
        .processing_time(103_000)
        .input(1, [rows(&right, &[&row(Some(1), 2, 0)])])
        .input(0, [rows(&left, &[&row(Some(2), 3, 0)])])
        .processing_time(120_000)
        .input(1, [rows(&right, &[&row(Some(2), 4, 0)])])
        .input(0, [rows(&left, &[&row(Some(3), 5, 0)])])
        .end()
        .expect(&[
            &format!("+I[{}, {}]", cells(Some(1), 1, 0), cells(Some(1), 2, 0)),
            &format!("+I[{}, NULL, NULL, NULL]", cells(Some(2), 3, 0)),
            &format!("+I[{}, NULL, NULL, NULL]", cells(Some(3), 5, 0)),
        ]);
}

type Row = (Option<i32>, i32, i64);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn agrees_with_a_naive_model(
        ops in prop::collection::vec((0..2usize, (prop::option::of(0..2i32), 0..3i32, 0..20i64)), 1..24),
        kind in prop::sample::select(vec![JoinKind::Inner, JoinKind::Left, JoinKind::Full]),
        bounds in (-6..6i64, 0..8i64),
        condition: bool,
    ) {
        let (lower, upper) = (bounds.0, bounds.0 + bounds.1);
        let mut all: [Vec<Row>; 2] = Default::default();
        let int = |i| Expr::column(i, TypeKind::Int.nullable());
        let less = Expr::call("<", vec![int(1), int(4)], TypeKind::Boolean.nullable());
        let mut test = join(kind, (lower, upper), |s| s.join.condition = condition.then_some(less)).input(1, []);
        // The watermark follows the slowest row to come, so none is late.
        for (i, (port, r)) in ops.iter().enumerate() {
            all[*port].push(*r);
            test = test.input(*port, [rows(&sides()[*port], &[&row(r.0, r.1, r.2)])]);
            if let Some(least) = ops[i + 1..].iter().map(|o| o.1.2).min() {
                test = test.watermark(least * 1000 - 1);
            }
        }
        let matches = |l: &Row, r: &Row| {
            l.0.is_some() && l.0 == r.0 && (lower..=upper).contains(&(l.2 - r.2)) && (!condition || l.1 < r.1)
        };
        let pad = "NULL, NULL, NULL";
        let text = |r: &Row| cells(r.0, r.1, r.2);
        let mut expected = Vec::new();
        for l in &all[0] {
            let found: Vec<&Row> = all[1].iter().filter(|r| matches(l, r)).collect();
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
