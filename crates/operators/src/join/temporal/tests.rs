//! The temporal join in the operator matrix.

use flott_core::sink::ChangelogMode;
use flott_core::types::{Column, TypeKind};
use flott_plan::expr::Expr;
use flott_plan::spec::OperatorSpec;
use flott_plan::{JoinKind, JoinSpec, TemporalJoinSpec};
use flott_runtime::testing::OperatorTest;

use crate::test_support::{columns, rows, verify};

fn sides() -> [Vec<Column>; 2] {
    let side = |k, v, t| columns(&[(k, TypeKind::Int), (v, TypeKind::Int), (t, TypeKind::Timestamp(3))]);
    [side("lk", "lv", "lt"), side("rk", "rv", "rt")]
}

fn join(kind: JoinKind, left_mode: ChangelogMode, condition: bool) -> OperatorTest {
    let [left, right] = sides();
    let output: Vec<Column> = left.iter().chain(&right).cloned().collect();
    let inputs = [left.clone(), right.clone()];
    let int = |i| Expr::column(i, TypeKind::Int.nullable());
    let less = Expr::call("<", vec![int(1), int(4)], TypeKind::Boolean.nullable());
    let (left_keys, right_keys) = (vec![0], vec![0]);
    let join = JoinSpec { kind, left_keys, right_keys, condition: condition.then_some(less), left, right };
    let spec = TemporalJoinSpec { join, left_time: 2, right_time: 2, left_mode };
    verify(&OperatorSpec::TemporalJoin(spec), &inputs, &output).keys(0, &[0]).keys(1, &[0])
}

fn cells(k: Option<i32>, v: i32, second: i64) -> String {
    let k = k.map_or("NULL".into(), |k| k.to_string());
    format!("{k}, {v}, 1970-01-01T00:{:02}:{:02}", second / 60, second % 60)
}

fn row(kind: &str, v: i32, second: i64) -> String {
    format!("{kind}[{}]", cells(Some(1), v, second))
}

fn pair(kind: &str, left: (i32, i64), right: (i32, i64)) -> String {
    format!("{kind}[{}, {}]", cells(Some(1), left.0, left.1), cells(Some(1), right.0, right.1))
}

#[test]
fn rows_meet_the_version_of_their_time() {
    let [left, right] = sides();
    join(JoinKind::Left, ChangelogMode::Append, false)
        .input(1, [rows(&right, &[&row("+I", 10, 5), &row("-U", 10, 5), &row("+U", 20, 15), &row("-D", 20, 40)])])
        .input(0, [rows(&left, &[&row("+I", 1, 4), &row("+I", 2, 14), &row("+I", 3, 15), &row("+I", 4, 50)])])
        .watermark(14_000)
        .input(0, [rows(&left, &[&row("+I", 5, 39), &format!("[{}]", cells(None, 6, 30))])])
        .watermark(60_000)
        .end()
        .expect_any_order(&[
            &format!("+I[{}, NULL, NULL, NULL]", cells(Some(1), 1, 4)),
            &pair("+I", (2, 14), (10, 5)),
            &format!("+I[{}, NULL, NULL, NULL]", cells(None, 6, 30)),
            &pair("+I", (3, 15), (20, 15)),
            &format!("+I[{}, NULL, NULL, NULL]", cells(Some(1), 4, 50)),
            &pair("+I", (5, 39), (20, 15)),
        ]);
}

#[test]
fn a_version_that_fails_the_condition_hides_the_older_ones() {
    let [left, right] = sides();
    join(JoinKind::Inner, ChangelogMode::Append, true)
        .input(1, [rows(&right, &[&row("+I", 10, 5), &row("+U", 1, 15), &row("+U", 30, 25)])])
        .input(0, [rows(&left, &[&row("+I", 5, 10), &row("+I", 5, 20), &row("+I", 5, 30)])])
        .watermark(60_000)
        .end()
        .expect_any_order(&[&pair("+I", (5, 10), (10, 5)), &pair("+I", (5, 30), (30, 25))]);
}

#[test]
fn old_versions_go_and_the_valid_one_stays() {
    let [left, right] = sides();
    join(JoinKind::Inner, ChangelogMode::Append, false)
        .input(1, [rows(&right, &[&row("+I", 10, 5), &row("+U", 20, 15)])])
        .input(0, [])
        .watermark(20_000)
        .input(1, [rows(&right, &[&row("+U", 30, 30)])])
        // Late rows meet what is left: the version of second 5 is gone.
        .input(0, [rows(&left, &[&row("+I", 1, 10), &row("+I", 2, 25)])])
        .watermark(60_000)
        .end()
        .expect_net(&[&pair("+I", (2, 25), (20, 15))]);
}

#[test]
fn a_changelog_on_the_left_is_joined_by_its_net_effect() {
    let [left, right] = sides();
    join(JoinKind::Inner, ChangelogMode::Retract, false)
        .input(1, [rows(&right, &[&row("+I", 10, 5)])])
        .input(0, [rows(&left, &[&row("+I", 1, 10), &row("-U", 1, 10), &row("+U", 2, 10)])])
        .watermark(20_000)
        .input(0, [rows(&left, &[&row("-D", 2, 10)])])
        .watermark(30_000)
        .end()
        .expect(&[&pair("+I", (2, 10), (10, 5)), &pair("-D", (2, 10), (10, 5))]);
}
