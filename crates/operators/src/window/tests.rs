//! Windows in the operator matrix.

use flott_core::sink::ChangelogMode;
use flott_core::types::{Column, TypeKind};
use flott_plan::spec::{AggregateCall, AggregateFunction as F, OperatorSpec, WindowKind, WindowProperty, WindowSpec};
use flott_runtime::testing::OperatorTest;

use crate::test_support::{call, columns, rows, verify};

const BIG: TypeKind = TypeKind::BigInt;
const TS: TypeKind = TypeKind::Timestamp(3);

fn input() -> Vec<Column> {
    columns(&[("k", TypeKind::Int), ("v", BIG), ("s", TypeKind::STRING), ("t", TS)])
}

fn window(kind: WindowKind) -> WindowSpec {
    let partition = if matches!(kind, WindowKind::Session { .. }) { vec![0] } else { Vec::new() };
    WindowSpec { kind, time: 3, processing_time: false, zone: None, partition }
}

fn tumble(seconds: i64) -> WindowKind {
    WindowKind::Tumble { size_ms: seconds * 1000, offset_ms: 0 }
}

fn hop(size: i64, slide: i64) -> WindowKind {
    WindowKind::Hop { size_ms: size * 1000, slide_ms: slide * 1000, offset_ms: 0 }
}

fn cumulate(size: i64, step: i64) -> WindowKind {
    WindowKind::Cumulate { size_ms: size * 1000, step_ms: step * 1000, offset_ms: 0 }
}

fn session(seconds: i64) -> WindowKind {
    WindowKind::Session { gap_ms: seconds * 1000 }
}

/// COUNT(*) and SUM(v) per key and window, with start and end.
fn counted(window: WindowSpec) -> OperatorTest {
    let input = input();
    let calls = vec![call(F::Count, None, &input, BIG), call(F::Sum, Some(1), &input, BIG)];
    test(window, calls, &[BIG, BIG])
}

fn test(window: WindowSpec, aggregates: Vec<AggregateCall>, results: &[TypeKind]) -> OperatorTest {
    build(window, aggregates, results, ChangelogMode::Append)
}

fn build(
    window: WindowSpec,
    aggregates: Vec<AggregateCall>,
    results: &[TypeKind],
    input_mode: ChangelogMode,
) -> OperatorTest {
    let properties = vec![WindowProperty::Start, WindowProperty::End];
    let types = [TypeKind::Int].iter().chain(results).chain(&[TS, TS]).cloned().collect::<Vec<_>>();
    let output: Vec<Column> = types.iter().map(|t| Column::new("c", t.clone().nullable())).collect();
    let spec = OperatorSpec::WindowAggregate { window, group: vec![0], aggregates, properties, input_mode };
    verify(&spec, &[input()], &output).keys(0, &[0])
}

/// The same over a changelog.
fn changed(window: WindowSpec, aggregates: Vec<AggregateCall>, results: &[TypeKind]) -> OperatorTest {
    build(window, aggregates, results, ChangelogMode::Retract)
}

/// Rows `(key, value, second)`.
fn at(list: &[(i32, i64, i64)]) -> flott_core::ChangeBatch {
    let text = |&(k, v, t): &(i32, i64, i64)| format!("[{k}, {v}, s{v}, 1970-01-01T00:{:02}:{:02}]", t / 60, t % 60);
    let lines: Vec<String> = list.iter().map(text).collect();
    rows(&input(), &lines.iter().map(String::as_str).collect::<Vec<_>>())
}

fn line(k: i32, results: &str, start: i64, end: i64) -> String {
    let time = |t: i64| format!("1970-01-01T00:{:02}:{:02}", t / 60, t % 60);
    format!("+I[{k}, {results}, {}, {}]", time(start), time(end))
}

fn expect(test: OperatorTest, lines: &[String]) {
    test.expect_any_order(&lines.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn tumbling_windows_fire_once_and_drop_late_rows() {
    let lines = [line(1, "2, 30", 0, 10), line(2, "1, 5", 0, 10), line(1, "1, 7", 10, 20), line(1, "1, 3", 30, 40)];
    let test = counted(window(tumble(10)))
        .input(0, [at(&[(1, 10, 1), (1, 20, 9), (2, 5, 0), (1, 7, 10)])])
        .watermark(9_998)
        .watermark(9_999)
        .input(0, [at(&[(1, 100, 9), (1, 3, 35)])])
        .watermark(20_000)
        .end();
    expect(test, &lines);
}

#[test]
fn hopping_windows_share_slices() {
    let lines = [line(1, "1, 1", 0, 10), line(1, "2, 3", 5, 15), line(1, "2, 6", 10, 20), line(1, "1, 4", 15, 25)];
    // Rows at 9, 12 and 17: windows of 10 s every 5 s.
    let test = counted(window(hop(10, 5)))
        .input(0, [at(&[(1, 1, 9), (1, 2, 12)])])
        .watermark(12_000)
        .input(0, [at(&[(1, 4, 17)])])
        .end();
    expect(test, &lines);
}

#[test]
fn a_row_late_for_some_windows_counts_in_the_others() {
    let lines = [line(1, "1, 1", 0, 10), line(1, "2, 3", 5, 15)];
    let test = counted(window(hop(10, 5)))
        .input(0, [at(&[(1, 1, 6)])])
        .watermark(10_000)
        .input(0, [at(&[(1, 2, 7), (1, 50, 4)])])
        .end();
    expect(test, &lines);
}

#[test]
fn distinct_and_strings_over_hops() {
    let input = input();
    let distinct = AggregateCall { distinct: true, ..call(F::Count, Some(1), &input, BIG) };
    let calls = vec![distinct, call(F::Max, Some(2), &input, TypeKind::STRING)];
    let lines = [line(1, "2, s2", 0, 10), line(1, "2, s3", 5, 15), line(1, "1, s3", 10, 20)];
    let test = test(window(hop(10, 5)), calls, &[BIG, TypeKind::STRING])
        .input(0, [at(&[(1, 2, 4), (1, 1, 3), (1, 2, 7)])])
        .watermark(4_999)
        .input(0, [at(&[(1, 3, 12)])])
        .end();
    let first = line(1, "2, s2", 0, 5).replace("00:00:00, 1970-01-01T00:00:05", "23:59:55, 1970-01-01T00:00:05");
    let first = first.replace("1970-01-01T23", "1969-12-31T23");
    expect(test, &[&lines[..], &[first]].concat());
}

#[test]
fn cumulating_windows_fire_at_each_step_with_what_they_hold_so_far() {
    let lines = [
        line(1, "1, 1", 0, 5),
        line(1, "3, 7", 0, 10),
        line(1, "3, 7", 0, 15),
        line(2, "1, 9", 0, 15),
        line(2, "1, 8", 15, 20),
        line(2, "1, 8", 15, 25),
        line(2, "1, 8", 15, 30),
    ];
    let test = counted(window(cumulate(15, 5)))
        .input(0, [at(&[(1, 1, 1), (1, 2, 6), (2, 8, 15)])])
        .watermark(4_999)
        // Late for the first window, not for the others.
        .input(0, [at(&[(1, 4, 3)])])
        .watermark(9_999)
        .input(0, [at(&[(2, 9, 12)])])
        .watermark(14_999)
        .input(0, [at(&[(1, 100, 14)])])
        .end();
    expect(test, &lines);
}

#[test]
fn distinct_values_and_strings_over_cumulating_windows() {
    let input = input();
    let distinct = AggregateCall { distinct: true, ..call(F::Count, Some(1), &input, BIG) };
    let calls = vec![distinct, call(F::Min, Some(2), &input, TypeKind::STRING)];
    let lines = [line(1, "1, s2", 0, 5), line(1, "2, s1", 0, 10)];
    let test = test(window(cumulate(10, 5)), calls, &[BIG, TypeKind::STRING])
        .input(0, [at(&[(1, 2, 4), (1, 1, 8), (1, 2, 7)])])
        .watermark(4_999)
        .end();
    expect(test, &lines);
}

#[test]
fn retracted_rows_leave_their_windows_and_an_empty_window_says_nothing() {
    let input = input();
    let calls = || {
        let distinct = AggregateCall { distinct: true, ..call(F::Count, Some(1), &input, BIG) };
        vec![call(F::Count, None, &input, BIG), distinct, call(F::Max, Some(1), &input, BIG)]
    };
    let batch = |lines: &[&str]| rows(&input, lines);
    let (a, b) = ("[1, 5, x, 1970-01-01T00:00:01]", "[1, 7, x, 1970-01-01T00:00:02]");
    let changes = |kind: WindowKind| {
        changed(window(kind), calls(), &[BIG, BIG, BIG])
            .input(0, [batch(&[&format!("+I{a}"), &format!("+I{b}")]), batch(&[&format!("-U{b}"), &format!("+U{a}")])])
            .input(0, [batch(&["+I[2, 1, x, 1970-01-01T00:00:03]", "-D[2, 1, x, 1970-01-01T00:00:03]"])])
            .end()
    };
    expect(changes(tumble(10)), &[line(1, "2, 1, 5", 0, 10)]);
    let earlier =
        line(1, "2, 1, 5", 0, 5).replace("[1, 2, 1, 5, 1970-01-01T00:00:00", "[1, 2, 1, 5, 1969-12-31T23:59:55");
    expect(changes(hop(10, 5)), &[line(1, "2, 1, 5", 0, 10), earlier]);
    expect(changes(cumulate(10, 5)), &[line(1, "2, 1, 5", 0, 5), line(1, "2, 1, 5", 0, 10)]);
}

#[test]
fn sums_and_counts_of_a_changelog_merge_from_slices() {
    let lines = [line(1, "1, 5", 5, 15), line(1, "1, 5", 0, 10)];
    let input = input();
    let calls = vec![call(F::Count, None, &input, BIG), call(F::Sum, Some(1), &input, BIG)];
    let test = changed(window(hop(10, 5)), calls, &[BIG, BIG])
        .input(0, [rows(&input, &["+I[1, 5, x, 1970-01-01T00:00:06]", "+I[1, 2, x, 1970-01-01T00:00:01]"])])
        .input(0, [rows(&input, &["-D[1, 2, x, 1970-01-01T00:00:01]"])])
        .watermark(6_000)
        .end();
    expect(test, &lines);
}

#[test]
fn windows_that_rows_bring_along_fire_at_their_ends() {
    let lines = [line(1, "2, 3", 9, 10), line(2, "1, 4", 9, 10), line(1, "1, 8", 19, 20)];
    let test = counted(window(WindowKind::Attached))
        .input(0, [at(&[(1, 1, 10), (1, 2, 10), (2, 4, 10), (1, 8, 20)])])
        .watermark(9_999)
        .input(0, [at(&[(1, 100, 10)])])
        .end();
    let known = |l: &String| l.replace("00:00:09, ", "00:00:09.999, ").replace("00:00:19, ", "00:00:19.999, ");
    expect(test, &lines.iter().map(known).collect::<Vec<_>>());
}

#[test]
fn processing_time_windows_follow_the_clock_and_the_end_of_data() {
    let mut spec = window(tumble(10));
    spec.processing_time = true;
    let lines = [line(1, "2, 3", 0, 10), line(2, "1, 4", 10, 20), line(1, "1, 8", 20, 30)];
    let test = counted(spec)
        .input(0, [at(&[(1, 1, 500), (1, 2, 3)])])
        .processing_time(10_000)
        .input(0, [at(&[(2, 4, 0)])])
        .processing_time(25_000)
        .input(0, [at(&[(1, 8, 0)])])
        .end();
    expect(test, &lines);
}

#[test]
fn more_groups_than_a_batch_come_out_in_pieces() {
    let list: Vec<(i32, i64, i64)> = (0..10_000).map(|k| (k, 1, 5)).collect();
    let output = test_output(&list);
    assert_eq!(output.len(), 10_000);
}

fn test_output(list: &[(i32, i64, i64)]) -> Vec<String> {
    let batches: Vec<_> = list.chunks(4_096).map(at).collect();
    counted(window(tumble(10))).input(0, batches).end().output().expect("runs")
}

#[test]
fn sessions_merge_and_a_gap_of_exactly_the_gap_does_not_split() {
    let lines = [line(1, "3, 111", 0, 25), line(1, "1, 7", 26, 36), line(2, "2, 3", 5, 24), line(3, "3, 6", 40, 68)];
    let test = counted(window(session(10)))
        .input(0, [at(&[(1, 1, 0), (1, 10, 10), (1, 100, 15), (1, 7, 26), (2, 1, 5), (2, 2, 14)])])
        .watermark(20_000)
        // Two sessions that a third row joins.
        .input(0, [at(&[(3, 1, 40), (3, 2, 58), (3, 3, 49)])])
        .watermark(50_000)
        .end();
    expect(test, &lines);
}

#[test]
fn late_rows_join_an_open_session_only() {
    let lines = [line(1, "2, 3", 11, 30), line(2, "1, 1", 0, 10)];
    let test = counted(window(session(10)))
        .input(0, [at(&[(1, 1, 20), (2, 1, 0)])])
        .watermark(22_000)
        .input(0, [at(&[(1, 2, 11), (2, 50, 3)])])
        .end();
    expect(test, &lines);
}

#[test]
fn several_sessions_of_one_key_fire_in_order_of_their_ends() {
    let lines = [line(1, "1, 3", 0, 10), line(1, "1, 2", 30, 40), line(1, "2, 5", 60, 75)];
    let test = counted(window(session(10)))
        .input(0, [at(&[(1, 1, 60), (1, 2, 30), (1, 3, 0)])])
        .watermark(9_999)
        .watermark(45_000)
        .input(0, [at(&[(1, 4, 65)])])
        .end();
    expect(test, &lines);
}

/// The rows of sessions by key, with their windows.
fn session_rows(gap: i64) -> OperatorTest {
    let input = input();
    let mut output = input.clone();
    output.extend(columns(&[("window_start", TS), ("window_end", TS), ("window_time", TS)]));
    let window = window(session(gap));
    verify(&OperatorSpec::WindowAssign { window }, std::slice::from_ref(&input), &output).keys(0, &[0])
}

fn row_of_session((k, v, t): (i32, i64, i64), start: i64, end: i64) -> String {
    let time = |t: i64| format!("1970-01-01T00:{:02}:{:02}", t / 60, t % 60);
    let last = format!("{}.999", time(end - 1));
    format!("+I[{k}, {v}, s{v}, {}, {}, {}, {last}]", time(t), time(start), time(end))
}

#[test]
fn rows_of_a_session_come_when_it_is_over() {
    let lines = [
        row_of_session((1, 1, 0), 0, 25),
        row_of_session((1, 2, 10), 0, 25),
        row_of_session((1, 3, 15), 0, 25),
        row_of_session((1, 4, 26), 26, 36),
        row_of_session((2, 5, 14), 14, 24),
        row_of_session((3, 6, 40), 40, 68),
        row_of_session((3, 7, 49), 40, 68),
        row_of_session((3, 8, 58), 40, 68),
    ];
    let test = session_rows(10)
        .input(0, [at(&[(1, 1, 0), (1, 3, 15), (1, 2, 10), (1, 4, 26), (2, 5, 14)])])
        .watermark(20_000)
        .input(0, [at(&[(3, 6, 40), (3, 8, 58), (3, 7, 49)])])
        .watermark(50_000)
        // Late: its session is over.
        .input(0, [at(&[(1, 100, 27)])])
        .end();
    expect(test, &lines);
}

#[test]
fn a_late_row_joins_an_open_session_and_a_retracted_one_leaves_its_extent() {
    let lines = [row_of_session((1, 1, 20), 11, 40), row_of_session((1, 2, 11), 11, 40)];
    let input = input();
    let gone = "[1, 9, s9, 1970-01-01T00:00:30]";
    let test = session_rows(10)
        .input(0, [at(&[(1, 1, 20)])])
        .watermark(22_000)
        .input(0, [at(&[(1, 2, 11), (2, 50, 3)])])
        .input(0, [rows(&input, &[&format!("+I{gone}")]), rows(&input, &[&format!("-D{gone}")])])
        .end();
    expect(test, &lines);
}

#[test]
fn null_in_the_time_attribute_is_an_error_that_names_it() {
    let test = counted(window(tumble(10))).input(0, [rows(&input(), &["[1, 1, a, NULL]"])]);
    let error = test.output().expect_err("refused");
    assert_eq!((error.kind(), error.code()), (flott_core::ErrorKind::User, "sql.null-rowtime"));
    assert!(error.message().contains("`t`"), "{error}");
}

#[test]
fn window_table_functions_append_columns() {
    let input = columns(&[("t", TS)]);
    let mut output = input.clone();
    output.extend(columns(&[("window_start", TS), ("window_end", TS), ("window_time", TS)]));
    let window = WindowSpec { time: 0, ..window(hop(10, 5)) };
    verify(&OperatorSpec::WindowAssign { window }, std::slice::from_ref(&input), &output)
        .input(0, [rows(&input, &["[1970-01-01T00:00:12]", "[1970-01-01T00:00:05]"])])
        .expect(&[
            "+I[1970-01-01T00:00:12, 1970-01-01T00:00:05, 1970-01-01T00:00:15, 1970-01-01T00:00:14.999]",
            "+I[1970-01-01T00:00:12, 1970-01-01T00:00:10, 1970-01-01T00:00:20, 1970-01-01T00:00:19.999]",
            "+I[1970-01-01T00:00:05, 1970-01-01T00:00:00, 1970-01-01T00:00:10, 1970-01-01T00:00:09.999]",
            "+I[1970-01-01T00:00:05, 1970-01-01T00:00:05, 1970-01-01T00:00:15, 1970-01-01T00:00:14.999]",
        ]);
}

#[test]
fn sessions_that_merge_put_their_values_together() {
    let input = input();
    let text = |f| call(f, Some(2), &input, TypeKind::STRING);
    let spread = call(F::Deviation { root: false, sample: false }, Some(1), &input, BIG);
    let calls = vec![text(F::FirstValue), text(F::LastValue), text(F::Min), text(F::Max), spread];
    let types = [TypeKind::STRING, TypeKind::STRING, TypeKind::STRING, TypeKind::STRING, BIG];
    let lines = [
        line(1, "s5, s1, s1, s9, 10", 0, 25),
        line(1, "s3, s3, s3, s3, 0", 100, 110),
        line(2, "s2, s2, s2, s2, 0", 5, 15),
    ];
    let results = test(window(session(10)), calls, &types)
        .input(0, [at(&[(1, 5, 0), (2, 2, 5)]), at(&[(1, 9, 15)])])
        // Two sessions that a third row joins, and one of the same key beside them.
        .input(0, [at(&[(1, 3, 100)]), at(&[(1, 1, 7)])])
        .watermark(200_000)
        .end();
    expect(results, &lines);
}
