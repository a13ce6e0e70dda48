//! Top-N in the operator matrix, and against a naive model.

use std::collections::BTreeMap;

use flott_core::sink::ChangelogMode;
use flott_core::types::{Column, TypeKind};
use flott_plan::spec::{OperatorSpec, SortKey};
use flott_runtime::testing::OperatorTest;
use proptest::prelude::*;

use super::list::Item;
use super::packed::Packed;
use crate::test_support::{columns, rows, verify};

fn input() -> Vec<Column> {
    columns(&[("k", TypeKind::Int), ("v", TypeKind::Int), ("s", TypeKind::STRING)])
}

fn order() -> Vec<SortKey> {
    vec![SortKey { column: 1, descending: true, nulls_first: false }]
}

fn top(limit: u64, with_rank: bool, input_mode: ChangelogMode, update_before: bool) -> OperatorTest {
    top_with(None, limit, with_rank, input_mode, update_before)
}

/// With a TTL, short lists of appended rows lie in state row by row as well.
const LAYOUTS: [Option<i64>; 2] = [None, Some(1 << 40)];

fn top_with(
    ttl_ms: Option<i64>,
    limit: u64,
    with_rank: bool,
    input_mode: ChangelogMode,
    update_before: bool,
) -> OperatorTest {
    let spec =
        OperatorSpec::TopN { partition: vec![0], order: order(), limit, with_rank, input_mode, update_before, ttl_ms };
    let mut output = input();
    if with_rank {
        output.push(Column::new("rn", TypeKind::BigInt.not_null()));
    }
    verify(&spec, &[input()], &output).keys(0, &[0])
}

#[test]
fn a_better_row_moves_the_others_down() {
    let input = input();
    let lines = ["[1, 5, a]", "[1, 7, b]", "[1, 5, c]", "[2, 1, d]", "[1, 6, e]", "[1, 1, f]"];
    let batches = || lines.map(|r| rows(&input, &[r]));
    for ttl in LAYOUTS {
        top_with(ttl, 2, true, ChangelogMode::Append, true).input(0, batches()).end().expect(&[
            "+I[1, 5, a, 1]",
            "-U[1, 5, a, 1]",
            "+U[1, 7, b, 1]",
            "+I[1, 5, a, 2]",
            "+I[2, 1, d, 1]",
            "-U[1, 5, a, 2]",
            "+U[1, 6, e, 2]",
        ]);
        top_with(ttl, 2, true, ChangelogMode::Append, false).input(0, batches()).expect(&[
            "+I[1, 5, a, 1]",
            "+U[1, 7, b, 1]",
            "+I[1, 5, a, 2]",
            "+I[2, 1, d, 1]",
            "+U[1, 6, e, 2]",
        ]);
        top_with(ttl, 2, false, ChangelogMode::Append, true).input(0, batches()).expect(&[
            "+I[1, 5, a]",
            "+I[1, 7, b]",
            "+I[2, 1, d]",
            "-D[1, 5, a]",
            "+I[1, 6, e]",
        ]);
    }
}

#[test]
fn equal_rows_keep_the_order_they_came_in() {
    let input = input();
    let batch = || rows(&input, &["[1, 5, b]", "[1, 5, a]", "[1, NULL, z]", "[1, 5, c]", "[1, 5, a]"]);
    for ttl in LAYOUTS {
        top_with(ttl, 4, true, ChangelogMode::Append, true).input(0, [batch()]).end().expect_net(&[
            "+I[1, 5, b, 1]",
            "+I[1, 5, a, 2]",
            "+I[1, 5, c, 3]",
            "+I[1, 5, a, 4]",
        ]);
    }
}

#[test]
fn a_retracted_row_lets_the_next_one_up() {
    let input = input();
    let lines =
        ["+I[1, 5, a]", "+I[1, 7, b]", "+I[1, 6, c]", "-D[1, 7, b]", "-U[1, 5, a]", "+U[1, 9, a]", "-D[9, 9, x]"];
    let batches = || lines.map(|r| rows(&input, &[r]));
    top(2, true, ChangelogMode::Retract, true).input(0, batches()).end().expect(&[
        "+I[1, 5, a, 1]",
        "-U[1, 5, a, 1]",
        "+U[1, 7, b, 1]",
        "+I[1, 5, a, 2]",
        "-U[1, 5, a, 2]",
        "+U[1, 6, c, 2]",
        "-U[1, 7, b, 1]",
        "+U[1, 6, c, 1]",
        "-U[1, 6, c, 2]",
        "+U[1, 5, a, 2]",
        "-D[1, 5, a, 2]",
        "-U[1, 6, c, 1]",
        "+U[1, 9, a, 1]",
        "+I[1, 6, c, 2]",
    ]);
    top(1, false, ChangelogMode::Retract, true).input(0, batches()).end().expect_net(&["+I[1, 9, a]"]);
}

#[test]
fn more_rows_than_a_batch_come_out_whole() {
    let input = input();
    let lines: Vec<String> = (0..3_000).map(|i| format!("[{}, {i}, x]", i % 2)).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let test = top(5_000, true, ChangelogMode::Append, true);
    let first = rows(&input, &lines);
    let out = test.input(0, [first, rows(&input, &["[0, 5000, y]"])]).output().expect("runs");
    assert_eq!(out.len(), 3_000 + 2 * 1_500 + 1);
    assert_eq!(out[3_001], "+U[0, 5000, y, 1]");
}

fn windows(limit: u64, keep_last: bool) -> (Vec<Column>, OperatorTest) {
    let time = TypeKind::Timestamp(3);
    let input =
        columns(&[("window_start", time.clone()), ("window_end", time), ("k", TypeKind::Int), ("v", TypeKind::Int)]);
    let spec = OperatorSpec::WindowTopN {
        partition: vec![0, 1],
        order: vec![SortKey { column: 3, descending: true, nulls_first: false }],
        limit,
        with_rank: true,
        keep_last,
        window_end: 1,
        processing_time: false,
        zone: None,
    };
    let mut output = input.clone();
    output.push(Column::new("rn", TypeKind::BigInt.not_null()));
    let test = verify(&spec, std::slice::from_ref(&input), &output).keys(0, &[0, 1]);
    (input, test)
}

#[test]
fn a_window_gives_its_first_rows_once_when_it_is_over() {
    let (input, test) = windows(2, false);
    let row = |start: u32, k: u32, v: u32| {
        format!("[1970-01-01T00:00:{start:02}, 1970-01-01T00:00:{:02}, {k}, {v}]", start + 10)
    };
    let batch = |lines: &[String]| rows(&input, &lines.iter().map(String::as_str).collect::<Vec<_>>());
    let out = |start: u32, k: u32, v: u32, rank: u32| {
        let row = row(start, k, v);
        format!("+I{}, {rank}]", row.trim_end_matches(']'))
    };
    let expected = [out(0, 2, 9, 1), out(0, 1, 5, 2), out(10, 7, 1, 1), out(20, 1, 4, 1), out(20, 3, 4, 2)];
    test.input(0, [batch(&[row(0, 1, 5), row(10, 7, 1), row(0, 2, 9)]), batch(&[row(0, 3, 5)])])
        .watermark(9_998)
        .watermark(9_999)
        // Late for the first window, not for the second.
        .input(0, [batch(&[row(0, 4, 99), row(20, 1, 4)])])
        .watermark(25_000)
        .input(0, [batch(&[row(20, 3, 4), row(20, 5, 4)])])
        .end()
        .expect(&expected.iter().map(String::as_str).collect::<Vec<_>>());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn agrees_with_sorting_what_is_there(
        ops in prop::collection::vec((0..3i32, 0..4i32, prop::option::of(0..64usize)), 1..40),
        size in 1..9usize,
        limit in prop_oneof![6 => 1..4u64, 1 => Just(64u64), 1 => Just(65u64)],
        retract: bool,
        with_rank: bool,
        ttl in prop::sample::select(&LAYOUTS[..]),
    ) {
        let mut live: Vec<(i32, i32, usize)> = Vec::new();
        let mut lines = Vec::new();
        for (n, (k, v, out)) in ops.into_iter().enumerate() {
            match out.filter(|_| retract && !live.is_empty()) {
                Some(i) => {
                    let (k, v, n) = live.remove(i % live.len());
                    lines.push(format!("-D[{k}, {v}, r{n}]"));
                }
                None => {
                    live.push((k, v, n));
                    lines.push(format!("+I[{k}, {v}, r{n}]"));
                }
            }
        }
        let mut partitions: BTreeMap<i32, Vec<(i32, usize)>> = BTreeMap::new();
        live.iter().for_each(|&(k, v, n)| partitions.entry(k).or_default().push((v, n)));
        let mut expected = Vec::new();
        for (k, mut rows) in partitions {
            rows.sort_by_key(|&(v, n)| (std::cmp::Reverse(v), n));
            let first = rows.into_iter().take(limit as usize).enumerate();
            let rank = |i: usize| if with_rank { format!(", {}", i + 1) } else { String::new() };
            expected.extend(first.map(|(i, (v, n))| format!("+I[{k}, {v}, r{n}{}]", rank(i))));
        }
        let input = input();
        let mode = if retract { ChangelogMode::Retract } else { ChangelogMode::Append };
        let batches = lines.chunks(size).map(|c| rows(&input, &c.iter().map(String::as_str).collect::<Vec<_>>()));
        top_with(ttl, limit, with_rank, mode, true)
            .input(0, batches)
            .end()
            .expect_net(&expected.iter().map(String::as_str).collect::<Vec<_>>());
    }
}

#[test]
fn of_equal_rows_of_a_window_the_last_one_is_kept_when_that_is_wanted() {
    let (input, test) = windows(1, true);
    let row = |k: u32, v: u32| format!("[1970-01-01T00:00:00, 1970-01-01T00:00:10, {k}, {v}]");
    let batch = |lines: &[String]| rows(&input, &lines.iter().map(String::as_str).collect::<Vec<_>>());
    test.input(0, [batch(&[row(1, 5), row(2, 5)]), batch(&[row(3, 5), row(4, 4)]), batch(&[row(5, 3)])])
        .end()
        .expect(&["+I[1970-01-01T00:00:00, 1970-01-01T00:00:10, 3, 5, 1]"]);
}

#[test]
fn a_list_in_one_value_is_read_as_it_was_written_or_corrupt() {
    let (sorts, rows): (Vec<&[u8]>, Vec<&[u8]>) = (vec![b"a", b"", b"bcd"], vec![b"", b"row", b"another row"]);
    let items: Vec<(&[u8], Item)> = sorts.iter().enumerate().map(|(i, s)| (*s, Item::Row(i))).collect();
    let (mut first, mut second) = (Vec::new(), Vec::new());
    Packed::default().write(&items, &|row| rows[row], &mut first).expect("short");
    let mut list = Packed::default();
    list.read(Some(&first)).expect("as written");
    assert_eq!((list.sorts().collect::<Vec<_>>(), list.rows()), (sorts, &rows[..]));
    let kept: Vec<(&[u8], Item)> = list.sorts().enumerate().map(|(i, s)| (s, Item::Before(i))).collect();
    list.write(&kept, &|_| unreachable!("no row came"), &mut second).expect("short");
    assert_eq!(first, second);
    for cut in 0..first.len() {
        let damaged = Packed::default().read(Some(&first[..cut])).expect_err("truncated");
        assert_eq!(damaged.code(), "state.row", "cut at {cut}");
    }
    list.read(None).expect("no value is an empty list");
    assert!(list.rows().is_empty());
}
