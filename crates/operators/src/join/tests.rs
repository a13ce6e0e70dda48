//! The join in the operator matrix, and against a naive model.

use flott_core::sink::ChangelogMode;
use flott_core::types::{Column, TypeKind};
use flott_plan::expr::Expr;
use flott_plan::spec::{JoinKind, OperatorSpec};
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
    let output: Vec<Column> = left.iter().chain(&right).cloned().collect();
    let inputs = [left.clone(), right.clone()];
    let spec = OperatorSpec::Join {
        kind,
        left_keys: vec![0],
        right_keys: vec![0],
        condition: condition.then_some(less),
        left,
        right,
        left_mode: mode,
        right_mode: mode,
        ttl_ms: None,
    };
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
fn model(left: &[Row], right: &[Row], outer: bool, condition: bool) -> Vec<String> {
    let mut out = Vec::new();
    for l in left {
        let matches = |r: &&Row| l.0.is_some() && l.0 == r.0 && (!condition || l.1 < r.1);
        let found: Vec<&Row> = right.iter().filter(matches).collect();
        let (lk, rk) = (l.0.map_or("NULL".into(), |k| k.to_string()), l.0.unwrap_or(0));
        out.extend(found.iter().map(|r| format!("+I[{lk}, {}, {rk}, {}]", l.1, r.1)));
        if found.is_empty() && outer {
            out.push(format!("+I[{lk}, {}, NULL, NULL]", l.1));
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
        outer: bool,
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
        let kind = if outer { JoinKind::Left } else { JoinKind::Inner };
        let mut test = join(kind, condition, ChangelogMode::Retract).input(1, []);
        for chunk in lines.chunks(size) {
            for (port, side) in columns.iter().enumerate() {
                let part: Vec<&str> = chunk.iter().filter(|l| l.0 == port).map(|l| l.1.as_str()).collect();
                test = test.input(port, (!part.is_empty()).then(|| rows(side, &part)));
            }
        }
        let expected = model(&live[0], &live[1], outer, condition);
        test.end().expect_net(&expected.iter().map(String::as_str).collect::<Vec<_>>());
    }
}
