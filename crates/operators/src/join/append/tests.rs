//! The append-only join in the operator matrix, against the join that counts.

use flott_core::sink::ChangelogMode;
use flott_core::types::{Column, TypeKind};
use flott_plan::expr::Expr;
use flott_plan::spec::OperatorSpec;
use flott_plan::{JoinKind, JoinSpec, RegularJoinSpec};
use flott_runtime::testing::OperatorTest;
use proptest::prelude::*;

use super::AppendJoin;
use crate::test_support::{columns, rows, verify};

fn sides() -> [Vec<Column>; 2] {
    let side = |a, b| columns(&[(a, TypeKind::Int), (b, TypeKind::STRING)]);
    [side("lk", "lv"), side("rk", "rv")]
}

fn spec(condition: bool, mode: ChangelogMode) -> RegularJoinSpec {
    let [left, right] = sides();
    let string = |i| Expr::column(i, TypeKind::STRING.nullable());
    let less = Expr::call("<", vec![string(1), string(3)], TypeKind::Boolean.nullable());
    let condition = condition.then_some(less);
    let join = JoinSpec { kind: JoinKind::Inner, left_keys: vec![0], right_keys: vec![0], condition, left, right };
    RegularJoinSpec { join, left_mode: mode, right_mode: mode, left_ttl_ms: None, right_ttl_ms: None }
}

fn join(condition: bool, mode: ChangelogMode) -> OperatorTest {
    let spec = spec(condition, mode);
    let output: Vec<Column> = sides().concat();
    verify(&OperatorSpec::Join(spec), &sides(), &output).keys(0, &[0]).keys(1, &[0])
}

#[test]
fn only_inner_joins_of_appended_rows_without_expiry_fit() {
    assert!(AppendJoin::fits(&spec(false, ChangelogMode::Append)));
    assert!(!AppendJoin::fits(&spec(false, ChangelogMode::Retract)));
    assert!(!AppendJoin::fits(&RegularJoinSpec { left_ttl_ms: Some(1), ..spec(false, ChangelogMode::Append) }));
    let mut outer = spec(false, ChangelogMode::Append);
    outer.join.kind = JoinKind::Left;
    assert!(!AppendJoin::fits(&outer));
}

#[test]
fn equal_rows_and_null_keys() {
    let [left, right] = sides();
    join(false, ChangelogMode::Append)
        .input(0, [rows(&left, &["[1, a]", "[1, a]", "[NULL, a]"])])
        .input(1, [rows(&right, &["[1, b]", "[2, c]", "[NULL, a]"])])
        .input(0, [rows(&left, &["[2, NULL]", "[3, x]"])])
        .end()
        .expect(&["+I[1, a, 1, b]", "+I[1, a, 1, b]", "+I[2, NULL, 2, c]"]);
}

/// One key on both sides: more matches than a batch of output holds, so reading stops within the list of one row.
#[test]
fn a_batch_that_explodes_is_resumable() {
    let [left, right] = sides();
    let side = |n: usize, v: &str| (0..n).map(|i| format!("[7, {v}{i}]")).collect::<Vec<_>>();
    let (many, few) = (side(5_000, "l"), side(3, "r"));
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let few: Vec<&str> = few.iter().map(String::as_str).collect();
    let mut found = join(false, ChangelogMode::Append)
        .input(0, [rows(&left, &many)])
        .input(1, [rows(&right, &few)])
        .output()
        .expect("runs");
    found.sort();
    let mut expected: Vec<String> =
        (0..3).flat_map(|r| (0..5_000).map(move |l| format!("+I[7, l{l}, 7, r{r}]"))).collect();
    expected.sort();
    assert_eq!(found.len(), 15_000);
    assert_eq!(found, expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn it_gives_what_the_counting_join_gives(
        batches in prop::collection::vec((0..2usize, prop::collection::vec((0..6i32, 0..4u8), 1..12)), 1..6),
        condition: bool,
    ) {
        let run = |mode| {
            let [left, right] = sides();
            let mut test = join(condition, mode);
            for (port, batch) in &batches {
                // 5 stands for NULL.
                let key = |k: &i32| if *k == 5 { "NULL".to_owned() } else { k.to_string() };
                let text: Vec<String> = batch.iter().map(|(k, v)| format!("+I[{}, {}]", key(k), ["a", "b", "c", "NULL"][*v as usize])).collect();
                let text: Vec<&str> = text.iter().map(String::as_str).collect();
                test = test.input(*port, [rows(if *port == 0 { &left } else { &right }, &text)]);
            }
            let mut rows = test.end().output().expect("runs");
            rows.sort();
            rows
        };
        prop_assert_eq!(run(ChangelogMode::Append), run(ChangelogMode::Retract));
    }
}
