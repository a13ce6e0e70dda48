//! TemporalSort in the operator matrix.

use flott_core::types::{Column, TypeKind};
use flott_plan::TemporalSortSpec;
use flott_plan::spec::{OperatorSpec, SortKey};
use flott_runtime::testing::OperatorTest;

use crate::test_support::{columns, rows, verify};

fn input() -> Vec<Column> {
    columns(&[("ts", TypeKind::Timestamp(3)), ("v", TypeKind::Int)])
}

fn sort(rowtime: Option<usize>) -> OperatorTest {
    let keys = vec![SortKey { column: 1, descending: true, nulls_first: false }];
    verify(&OperatorSpec::TemporalSort(TemporalSortSpec { rowtime, keys }), &[input()], &input())
}

#[test]
fn rows_leave_by_time_and_then_by_the_other_keys() {
    let row = |s: u32, v: &str| format!("[1970-01-01T00:00:{s:02}, {v}]");
    let batch = |of: &[(u32, &str)]| {
        let text: Vec<String> = of.iter().map(|(s, v)| row(*s, v)).collect();
        rows(&input(), &text.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let expected = [(1, "9"), (2, "7"), (2, "3"), (2, "NULL"), (4, "1"), (5, "2"), (8, "6")];
    let expected: Vec<String> = expected.iter().map(|(s, v)| format!("+I{}", row(*s, v))).collect();
    sort(Some(0))
        .input(0, [batch(&[(2, "3"), (5, "2"), (1, "9"), (2, "NULL"), (2, "7")])])
        .watermark(4_500)
        // 2 s has left, 4 s may still come.
        .input(0, [batch(&[(2, "100"), (4, "1"), (8, "6")])])
        .watermark(6_000)
        .end()
        .expect(&expected.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn by_the_clock_rows_of_a_millisecond_leave_when_it_is_over() {
    let row = |v: u32| format!("[1970-01-01T00:00:00, {v}]");
    let batch = |of: &[u32]| {
        let text: Vec<String> = of.iter().map(|v| row(*v)).collect();
        rows(&input(), &text.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let expected: Vec<String> = [5, 3, 9, 1].iter().map(|v| format!("+I{}", row(*v))).collect();
    sort(None)
        .processing_time(10)
        .input(0, [batch(&[3, 5])])
        .processing_time(11)
        .input(0, [batch(&[1, 9])])
        .end()
        .expect(&expected.iter().map(String::as_str).collect::<Vec<_>>());
}
