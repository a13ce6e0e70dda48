//! The join in the operator matrix, and against a naive model.

use flott_core::sink::ChangelogMode;
use flott_core::types::{Column, TypeKind};
use flott_plan::expr::Expr;
use flott_plan::spec::OperatorSpec;
use flott_plan::{JoinKind, JoinSpec, RegularJoinSpec};
use flott_runtime::testing::OperatorTest;
use proptest::prelude::*;

use crate::test_support::{columns, rows, verify};

fn sides() -> [Vec<Column>; 2] {
    let side = |a, b| columns(&[(a, TypeKind::Int), (b, TypeKind::Int)]);
    [side("lk", "lv"), side("rk", "rv")]
}

fn join(kind: JoinKind, condition: bool, mode: ChangelogMode) -> OperatorTest {
    let [left, right] = sides();
    let int = |i| Expr::column(i, TypeKind::Int.nullable());
    let less = Expr::call("<", vec![int(1), int(3)], TypeKind::Boolean.nullable());
    let right_columns = if kind.projects_right() { right.as_slice() } else { &[] };
    let output: Vec<Column> = left.iter().chain(right_columns).cloned().collect();
    let inputs = [left.clone(), right.clone()];
    let (left_keys, right_keys) = (vec![0], vec![0]);
    let join = JoinSpec { kind, left_keys, right_keys, condition: condition.then_some(less), left, right };
    let (left_mode, right_mode) = (mode, mode);
    let spec = RegularJoinSpec { join, left_mode, right_mode, left_ttl_ms: None, right_ttl_ms: None };
    let spec = OperatorSpec::Join(spec);
    verify(&spec, &inputs, &output).keys(0, &[0]).keys(1, &[0])
}

#[test]
fn inner_join_of_appended_rows() {
    let [left, right] = sides();
    join(JoinKind::Inner, false, ChangelogMode::Append)
        .input(0, [rows(&left, &["[1, 10]", "[1, 10]", "[NULL, 5]"])])
        .input(1, [rows(&right, &["[1, 7]", "[2, 8]", "[NULL, 5]"])])
        .input(0, [rows(&left, &["[2, 20]"])])
        .end()
        .expect(&["+I[1, 10, 1, 7]", "+I[1, 10, 1, 7]", "+I[2, 20, 2, 8]"]);
}

#[test]
fn left_join_takes_the_padded_row_back_and_brings_it_again() {
    let [left, right] = sides();
    join(JoinKind::Left, false, ChangelogMode::Retract)
        .input(0, [rows(&left, &["+I[1, 10]", "+I[NULL, 5]"])])
        .input(1, [rows(&right, &["+I[1, 7]"])])
        .input(1, [rows(&right, &["-D[1, 7]"])])
        .input(0, [rows(&left, &["-D[1, 10]"])])
        .end()
        .expect(&[
            "+I[1, 10, NULL, NULL]",
            "+I[NULL, 5, NULL, NULL]",
            "-D[1, 10, NULL, NULL]",
            "+I[1, 10, 1, 7]",
            "-D[1, 10, 1, 7]",
            "+I[1, 10, NULL, NULL]",
            "-D[1, 10, NULL, NULL]",
        ]);
}

#[test]
fn a_full_join_pads_both_sides() {
    let [left, right] = sides();
    join(JoinKind::Full, false, ChangelogMode::Retract)
        .input(0, [rows(&left, &["+I[1, 10]"])])
        .input(1, [rows(&right, &["+I[2, 7]", "+I[NULL, 8]"])])
        .input(1, [rows(&right, &["+I[1, 9]"])])
        .input(0, [rows(&left, &["-D[1, 10]", "+I[2, 20]"])])
        .end()
        .expect(&[
            "+I[1, 10, NULL, NULL]",
            "+I[NULL, NULL, 2, 7]",
            "+I[NULL, NULL, NULL, 8]",
            "-D[1, 10, NULL, NULL]",
            "+I[1, 10, 1, 9]",
            "-D[1, 10, 1, 9]",
            "+I[NULL, NULL, 1, 9]",
            "-D[NULL, NULL, 2, 7]",
            "+I[2, 20, 2, 7]",
        ]);
}

#[test]
fn semi_and_anti_rows_turn_with_the_first_match_and_the_last() {
    let [left, right] = sides();
    let test = |kind| {
        join(kind, false, ChangelogMode::Retract)
            .input(0, [rows(&left, &["+I[1, 10]", "+I[NULL, 5]"])])
            .input(1, [rows(&right, &["+I[1, 7]", "+I[1, 8]"])])
            .input(1, [rows(&right, &["-D[1, 7]", "-D[1, 8]"])])
            .input(0, [rows(&left, &["-D[1, 10]"])])
            .end()
    };
    test(JoinKind::Semi).expect(&["+I[1, 10]", "-D[1, 10]"]);
    test(JoinKind::Anti).expect(&["+I[1, 10]", "+I[NULL, 5]", "-D[1, 10]", "+I[1, 10]", "-D[1, 10]"]);
}

#[test]
fn a_row_with_more_matches_than_a_batch_comes_out_whole() {
    let [left, right] = sides();
    let many: Vec<String> = (0..9_000).map(|v| format!("[1, {v}]")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let out = join(JoinKind::Left, true, ChangelogMode::Append)
        .input(1, [rows(&right, &many)])
        .input(0, [rows(&left, &["[1, -1]", "[1, 8998]", "[1, 9000]"])])
        .end()
        .output()
        .expect("runs");
    assert_eq!(out.len(), 9_000 + 1 + 1);
    assert_eq!(out.last().map(String::as_str), Some("+I[1, 9000, NULL, NULL]"));
}

type Row = (Option<i32>, i32);

fn text((k, v): Row) -> String {
    format!("[{}, {v}]", k.map_or("NULL".into(), |k| k.to_string()))
}

/// The join by definition.
fn model(left: &[Row], right: &[Row], kind: JoinKind, condition: bool) -> Vec<String> {
    let mut out = Vec::new();
    let matches = |l: &Row, r: &Row| l.0.is_some() && l.0 == r.0 && (!condition || l.1 < r.1);
    let cells = |row: &Row| text(*row).trim_matches(['[', ']']).to_owned();
    for l in left {
        let found: Vec<&Row> = right.iter().filter(|r| matches(l, r)).collect();
        match kind {
            JoinKind::Semi | JoinKind::Anti => {
                if found.is_empty() == (kind == JoinKind::Anti) {
                    out.push(format!("+I[{}]", cells(l)));
                }
            }
            _ => {
                out.extend(found.iter().map(|r| format!("+I[{}, {}]", cells(l), cells(r))));
                if found.is_empty() && kind.pads_right() {
                    out.push(format!("+I[{}, NULL, NULL]", cells(l)));
                }
            }
        }
    }
    for r in right.iter().filter(|_| kind.right_outer()) {
        if !left.iter().any(|l| matches(l, r)) {
            out.push(format!("+I[NULL, NULL, {}]", cells(r)));
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn agrees_with_a_naive_model(
        ops in prop::collection::vec((0..2usize, (prop::option::of(0..2i32), 0..3i32), prop::option::of(0..64usize)), 1..24),
        size in 1..5usize,
        kind in prop::sample::select(vec![JoinKind::Inner, JoinKind::Left, JoinKind::Full, JoinKind::Semi, JoinKind::Anti]),
        condition: bool,
    ) {
        let mut live: [Vec<Row>; 2] = Default::default();
        let mut lines: Vec<(usize, String)> = Vec::new();
        for (port, row, retract) in ops {
            let rows = &mut live[port];
            match retract.filter(|_| !rows.is_empty()) {
                Some(i) => lines.push((port, format!("-D{}", text(rows.swap_remove(i % rows.len()))))),
                None => {
                    lines.push((port, format!("+I{}", text(row))));
                    rows.push(row);
                }
            }
        }
        let columns = sides();
        let mut test = join(kind, condition, ChangelogMode::Retract).input(1, []);
        for chunk in lines.chunks(size) {
            for (port, side) in columns.iter().enumerate() {
                let part: Vec<&str> = chunk.iter().filter(|l| l.0 == port).map(|l| l.1.as_str()).collect();
                test = test.input(port, (!part.is_empty()).then(|| rows(side, &part)));
            }
        }
        let expected = model(&live[0], &live[1], kind, condition);
        test.end().expect_net(&expected.iter().map(String::as_str).collect::<Vec<_>>());
    }
}
