//! OVER aggregation in the operator matrix, and against a naive model.

use std::sync::Arc;

use flott_core::sink::ChangelogMode;
use flott_core::types::{Column, TypeKind};
use flott_plan::spec::{AggregateFunction, OperatorSpec, SortKey};
use flott_plan::{OverCall, OverFrame, OverFunction, OverOrder, OverSpec};
use flott_runtime::testing::{BackendRequest, OperatorHarness, OperatorTest};
use flott_state::MemoryStateBackend;
use proptest::prelude::*;

use crate::test_support::{columns, rows, verify};

const RANGE: OverFrame = OverFrame { rows: false, preceding: None };
const ROWS: OverFrame = OverFrame { rows: true, preceding: None };
const SUM: OverFunction = OverFunction::Aggregate(AggregateFunction::Sum);
const COUNT: OverFunction = OverFunction::Aggregate(AggregateFunction::Count);
const MIN: OverFunction = OverFunction::Aggregate(AggregateFunction::Min);
const MAX: OverFunction = OverFunction::Aggregate(AggregateFunction::Max);

fn input() -> Vec<Column> {
    columns(&[("k", TypeKind::STRING), ("v", TypeKind::Int), ("ts", TypeKind::Timestamp(3)), ("s", TypeKind::STRING)])
}

fn call(function: OverFunction, arg: Option<usize>) -> OverCall {
    let data_type = match function {
        COUNT => TypeKind::BigInt.not_null(),
        _ => input()[arg.expect("only COUNT counts rows")].data_type.clone(),
    };
    OverCall { function, arg, more: Vec::new(), user: None, distinct: false, data_type }
}

fn over(spec: OverSpec) -> OperatorTest {
    let mut output = input();
    output.extend(spec.calls.iter().enumerate().map(|(i, c)| Column::new(format!("w0$o{i}"), c.data_type.clone())));
    verify(&OperatorSpec::OverAggregate(spec), &[input()], &output).keys(0, &[0])
}

fn spec(order: OverOrder, frame: OverFrame, calls: &[OverCall]) -> OverSpec {
    OverSpec {
        partition: vec![0],
        order,
        frame,
        calls: calls.to_vec(),
        input_mode: ChangelogMode::Append,
        update_before: true,
        ttl_ms: None,
    }
}

fn by_time(frame: OverFrame, calls: &[OverCall]) -> OperatorTest {
    over(spec(OverOrder::Rowtime(2), frame, calls))
}

fn line(k: &str, v: &str, ms: i64, s: &str) -> String {
    let fraction = if ms % 1_000 == 0 { String::new() } else { format!(".{:03}", ms % 1_000) };
    format!("[{k}, {v}, 1970-01-01T00:00:{:02}{fraction}, {s}]", ms / 1_000)
}

/// Lines of `(k, v, ms, s)` with the results behind them.
fn lines(of: &[(&str, &str, i64, &str, &str)]) -> Vec<String> {
    of.iter().map(|(k, v, ms, s, out)| line(k, v, *ms, s).replace(']', &format!(", {out}]"))).collect()
}

fn batch(of: &[(&str, &str, i64, &str)]) -> flott_core::batch::ChangeBatch {
    let text: Vec<String> = of.iter().map(|(k, v, ms, s)| line(k, v, *ms, s)).collect();
    rows(&input(), &text.iter().map(String::as_str).collect::<Vec<_>>())
}

fn expect(test: OperatorTest, of: &[(&str, &str, i64, &str, &str)]) {
    let lines: Vec<String> = lines(of).into_iter().map(|l| format!("+I{l}")).collect();
    test.expect_any_order(&lines.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn rows_wait_for_the_watermark_and_peers_share_a_result() {
    let calls = [call(SUM, Some(1)), call(COUNT, None)];
    let first = [("a", "1", 1_000, "x"), ("b", "5", 2_000, "x"), ("a", "3", 3_000, "x"), ("a", "2", 1_000, "y")];
    let test = by_time(RANGE, &calls)
        .input(0, [batch(&first)])
        .watermark(2_000)
        // Behind the watermark: late.
        .input(0, [batch(&[("a", "9", 2_000, "z"), ("a", "NULL", 2_500, "z")])])
        .watermark(3_000)
        .input(0, [batch(&[("b", "1", 9_000, "z")])])
        .end();
    expect(
        test,
        &[
            ("a", "1", 1_000, "x", "3, 2"),
            ("a", "2", 1_000, "y", "3, 2"),
            ("b", "5", 2_000, "x", "5, 1"),
            ("a", "NULL", 2_500, "z", "3, 3"),
            ("a", "3", 3_000, "x", "6, 4"),
            ("b", "1", 9_000, "z", "6, 2"),
        ],
    );
}

#[test]
fn rows_of_one_time_count_one_by_one_with_rows() {
    let calls = [call(SUM, Some(1)), call(MAX, Some(3)), call(OverFunction::Lag { offset: 1, default: None }, Some(1))];
    let test = by_time(ROWS, &calls)
        .input(0, [batch(&[("a", "1", 1_000, "x"), ("a", "2", 1_000, "w"), ("a", "4", 500, "b")])])
        .watermark(1_500)
        .input(0, [batch(&[("a", "8", 2_000, "z")])])
        .end();
    expect(
        test,
        &[
            ("a", "4", 500, "b", "4, b, NULL"),
            ("a", "1", 1_000, "x", "5, x, 4"),
            ("a", "2", 1_000, "w", "7, x, 1"),
            ("a", "8", 2_000, "z", "15, z, 2"),
        ],
    );
}

#[test]
fn aggregates_without_a_fixed_size_follow_the_frame() {
    let deviation = OverFunction::Aggregate(AggregateFunction::Deviation { root: false, sample: false });
    let list = OverFunction::Aggregate(AggregateFunction::ListAgg);
    let array = OverFunction::Aggregate(AggregateFunction::ArrayAgg { ignore_nulls: false });
    let bag = OverFunction::Aggregate(AggregateFunction::Collect);
    let text = |function, more: &[usize]| OverCall { more: more.to_vec(), ..call(function, Some(3)) };
    let of = |call: OverCall, kind: TypeKind| OverCall { data_type: kind.nullable(), ..call };
    let strings = Box::new(TypeKind::STRING.nullable());
    let calls = [
        call(deviation, Some(1)),
        of(text(list, &[0]), TypeKind::STRING),
        of(OverCall { distinct: true, ..text(list, &[0]) }, TypeKind::STRING),
        of(text(array, &[]), TypeKind::Array(strings.clone())),
        of(OverCall { distinct: true, ..text(array, &[]) }, TypeKind::Array(strings.clone())),
        of(text(bag, &[]), TypeKind::Multiset(strings)),
    ];
    let input = [
        ("a", "1", 1_000, "x"),
        ("a", "5", 2_000, "x"),
        ("b", "7", 2_500, "NULL"),
        ("a", "9", 3_000, "y"),
        ("b", "1", 3_500, "NULL"),
        ("a", "9", 4_000, "x"),
    ];
    let feed = |test: OperatorTest| test.input(0, [batch(&input)]).watermark(2_700).watermark(3_200).end();
    expect(
        feed(by_time(OverFrame { rows: true, preceding: Some(1) }, &calls)),
        &[
            ("a", "1", 1_000, "x", "0, x, x, [x], [x], {x: 1}"),
            ("a", "5", 2_000, "x", "4, xax, x, [x, x], [x], {x: 2}"),
            ("b", "7", 2_500, "NULL", "0, NULL, NULL, [NULL], [NULL], {}"),
            ("a", "9", 3_000, "y", "4, xay, xay, [x, y], [x, y], {x: 1, y: 1}"),
            ("b", "1", 3_500, "NULL", "9, NULL, NULL, [NULL, NULL], [NULL], {}"),
            ("a", "9", 4_000, "x", "0, yax, yax, [y, x], [y, x], {y: 1, x: 1}"),
        ],
    );
    expect(
        feed(by_time(RANGE, &calls[..2])),
        &[
            ("a", "1", 1_000, "x", "0, x"),
            ("a", "5", 2_000, "x", "4, xax"),
            ("b", "7", 2_500, "NULL", "0, NULL"),
            ("a", "9", 3_000, "y", "10, xaxay"),
            ("b", "1", 3_500, "NULL", "9, NULL"),
            ("a", "9", 4_000, "x", "11, xaxayax"),
        ],
    );
}

#[test]
fn a_bounded_frame_takes_back_what_leaves_it() {
    let calls = [
        call(SUM, Some(1)),
        call(MIN, Some(1)),
        call(MAX, Some(3)),
        call(OverFunction::FirstValue, Some(1)),
        call(OverFunction::LastValue, Some(1)),
        OverCall { distinct: true, ..call(COUNT, Some(3)) },
    ];
    let input = [
        ("a", "1", 1_000, "x"),
        ("a", "NULL", 2_000, "y"),
        ("b", "7", 2_500, "y"),
        ("a", "3", 3_000, "x"),
        ("a", "2", 4_000, "w"),
    ];
    let later = [("a", "9", 30_000, "q"), ("b", "NULL", 31_000, "r")];
    let feed = |test: OperatorTest| {
        test.input(0, [batch(&input)]).watermark(2_700).watermark(20_000).input(0, [batch(&later)]).end()
    };
    expect(
        feed(by_time(OverFrame { rows: true, preceding: Some(1) }, &calls)),
        &[
            ("a", "1", 1_000, "x", "1, 1, x, 1, 1, 1"),
            ("a", "NULL", 2_000, "y", "1, 1, y, 1, 1, 2"),
            ("b", "7", 2_500, "y", "7, 7, y, 7, 7, 1"),
            ("a", "3", 3_000, "x", "3, 3, y, 3, 3, 2"),
            ("a", "2", 4_000, "w", "5, 2, x, 3, 2, 2"),
            ("a", "9", 30_000, "q", "11, 2, w, 2, 9, 2"),
            ("b", "NULL", 31_000, "r", "7, 7, y, 7, 7, 2"),
        ],
    );
    expect(
        feed(by_time(OverFrame { rows: false, preceding: Some(2_000) }, &calls)),
        &[
            ("a", "1", 1_000, "x", "1, 1, x, 1, 1, 1"),
            ("a", "NULL", 2_000, "y", "1, 1, y, 1, 1, 2"),
            ("b", "7", 2_500, "y", "7, 7, y, 7, 7, 1"),
            ("a", "3", 3_000, "x", "4, 1, y, 1, 3, 2"),
            ("a", "2", 4_000, "w", "5, 2, y, 3, 2, 3"),
            ("a", "9", 30_000, "q", "9, 9, q, 9, 9, 1"),
            ("b", "NULL", 31_000, "r", "NULL, NULL, r, NULL, NULL, 1"),
        ],
    );
}

#[test]
fn a_bounded_frame_drops_what_its_partition_has_passed() {
    let frame = OverFrame { rows: false, preceding: Some(10_000) };
    let test = by_time(frame, &[call(COUNT, None)])
        .input(0, [batch(&[("a", "1", 5_000, "x")])])
        .watermark(8_000)
        // Behind the watermark, but `b` has come no further, and `a` to 5 s.
        .input(0, [batch(&[("a", "2", 5_000, "late"), ("a", "3", 6_000, "x"), ("b", "4", 1_000, "x")])])
        .end();
    expect(test, &[("a", "1", 5_000, "x", "1"), ("a", "3", 6_000, "x", "2"), ("b", "4", 1_000, "x", "1")]);
}

#[test]
fn processing_time_answers_at_once() {
    let lag = OverFunction::Lag { offset: 2, default: Some(1) };
    let calls = [call(SUM, Some(1)), call(lag, Some(1))];
    let input = [("a", "1", 0, "x"), ("b", "2", 0, "x"), ("a", "3", 0, "x"), ("a", "5", 0, "x")];
    let test = over(spec(OverOrder::Proctime, RANGE, &calls)).input(0, [batch(&input)]);
    expect(
        test,
        &[
            ("a", "1", 0, "x", "1, 1"),
            ("b", "2", 0, "x", "2, 2"),
            ("a", "3", 0, "x", "4, 3"),
            ("a", "5", 0, "x", "9, 1"),
        ],
    );
    let two = OverFrame { rows: true, preceding: Some(1) };
    let test = over(spec(OverOrder::Proctime, two, &calls[..1])).input(0, [batch(&input)]);
    let expected = [("a", "1", 0, "x", "1"), ("b", "2", 0, "x", "2"), ("a", "3", 0, "x", "4"), ("a", "5", 0, "x", "8")];
    expect(test, &expected);
}

#[test]
fn a_range_of_processing_time_waits_for_the_millisecond_to_end() {
    let frame = OverFrame { rows: false, preceding: Some(1_000) };
    let test = over(spec(OverOrder::Proctime, frame, &[call(SUM, Some(1))]))
        .processing_time(100)
        .input(0, [batch(&[("a", "1", 0, "x"), ("a", "2", 0, "x")])])
        .processing_time(101)
        .input(0, [batch(&[("a", "4", 0, "x")])])
        .processing_time(1_101)
        .input(0, [batch(&[("a", "8", 0, "x")])])
        .processing_time(9_000)
        .input(0, [batch(&[("a", "16", 0, "x")])])
        .end();
    expect(
        test,
        &[
            ("a", "1", 0, "x", "3"),
            ("a", "2", 0, "x", "3"),
            ("a", "4", 0, "x", "7"),
            ("a", "8", 0, "x", "12"),
            ("a", "16", 0, "x", "16"),
        ],
    );
}

fn by_value(frame: OverFrame, calls: &[OverCall], input_mode: ChangelogMode) -> OperatorTest {
    let order = OverOrder::Column(SortKey { column: 1, descending: false, nulls_first: true });
    over(OverSpec { input_mode, ..spec(order, frame, calls) })
}

#[test]
fn a_row_between_others_corrects_the_later_ones() {
    let calls = [call(SUM, Some(1)), call(MAX, Some(3))];
    let (one, two) = (batch(&[("a", "5", 0, "x"), ("a", "1", 0, "y")]), batch(&[("a", "3", 0, "z")]));
    let one_by_one = one.slice(0, 1);
    by_value(RANGE, &calls, ChangelogMode::Append).input(0, [one_by_one, one.slice(1, 1), two]).expect(&[
        "+I[a, 5, 1970-01-01T00:00:00, x, 5, x]",
        "+I[a, 1, 1970-01-01T00:00:00, y, 1, y]",
        "-U[a, 5, 1970-01-01T00:00:00, x, 5, x]",
        "+U[a, 5, 1970-01-01T00:00:00, x, 6, y]",
        "+I[a, 3, 1970-01-01T00:00:00, z, 4, z]",
        "-U[a, 5, 1970-01-01T00:00:00, x, 6, y]",
        "+U[a, 5, 1970-01-01T00:00:00, x, 9, z]",
    ]);
}

fn harness(spec: OverSpec) -> OperatorHarness {
    let mut output = input();
    output.extend(spec.calls.iter().map(|c| Column::new("x", c.data_type.clone())));
    let factory = crate::factory(&OperatorSpec::OverAggregate(spec), &[input()], &output).expect("a valid operator");
    let backend = |request: BackendRequest<'_>| -> flott_core::Result<Box<dyn flott_core::state::StateBackend>> {
        Ok(Box::new(MemoryStateBackend::new(request.key_groups, request.max_parallelism, request.clock)))
    };
    OperatorHarness::builder(factory).backend(Arc::new(backend)).build().expect("opens")
}

fn state_bytes(harness: &mut OperatorHarness) -> u64 {
    harness.checkpoint().expect("a checkpoint").keyed.map_or(0, |k| k.state_bytes)
}

fn calls_with_state_beside() -> Vec<OverCall> {
    let distinct = OverCall { distinct: true, ..call(COUNT, Some(3)) };
    vec![call(MIN, Some(3)), call(MAX, Some(1)), call(OverFunction::FirstValue, Some(3)), distinct]
}

#[test]
fn the_state_of_a_range_goes_away_once_the_frame_has_passed() {
    let frame = OverFrame { rows: false, preceding: Some(2_000) };
    let mut harness = harness(spec(OverOrder::Rowtime(2), frame, &calls_with_state_beside()));
    harness
        .batch(0, batch(&[("a", "1", 1_000, "x"), ("a", "2", 1_500, "y"), ("b", "3", 2_000, "z")]))
        .expect("takes rows");
    harness.watermark(4_000).expect("goes on");
    assert!(state_bytes(&mut harness) > 0, "rows may still count");
    harness.watermark(5_001).expect("goes on");
    assert_eq!(state_bytes(&mut harness), 0);
}

#[test]
fn the_state_of_rows_goes_away_with_its_ttl() {
    let frame = OverFrame { rows: true, preceding: Some(5) };
    let ttl = OverSpec { ttl_ms: Some(1_000), ..spec(OverOrder::Proctime, frame, &calls_with_state_beside()) };
    let mut harness = harness(ttl.clone());
    harness.batch(0, batch(&[("a", "1", 0, "x"), ("b", "2", 0, "y")])).expect("takes rows");
    harness.processing_time(1_400).expect("goes on");
    harness.batch(0, batch(&[("b", "3", 0, "z")])).expect("takes rows");
    harness.processing_time(1_501).expect("goes on");
    assert!(state_bytes(&mut harness) > 0, "`b` has come again");
    harness.processing_time(10_000).expect("goes on");
    assert_eq!(state_bytes(&mut harness), 0);

    let sums = OverSpec { calls: vec![call(SUM, Some(1))], ..ttl };
    let test = over(sums)
        .input(0, [batch(&[("a", "1", 0, "x")])])
        .processing_time(900)
        .input(0, [batch(&[("a", "2", 0, "x")])])
        .processing_time(9_000)
        .input(0, [batch(&[("a", "4", 0, "x")])]);
    expect(test, &[("a", "1", 0, "x", "1"), ("a", "2", 0, "x", "3"), ("a", "4", 0, "x", "4")]);
}

type Row = (usize, i64, i64);

/// The results of a frame over rows in their order, naively: sum, count, smallest, first of the frame.
fn model(rows: &[Row], frame: OverFrame, time: impl Fn(&Row) -> i64) -> Vec<String> {
    let result = |i: usize| {
        let end = match frame.rows {
            true => i,
            false => (i..rows.len()).take_while(|j| time(&rows[*j]) == time(&rows[i])).last().unwrap_or(i),
        };
        let start = match (frame.rows, frame.preceding) {
            (_, None) => 0,
            (true, Some(n)) => i.saturating_sub(n as usize),
            (false, Some(ms)) => rows.partition_point(|r| time(r) < time(&rows[i]) - ms),
        };
        let values: Vec<i64> = rows[start..=end].iter().map(|r| r.1).collect();
        let (sum, least) = (values.iter().sum::<i64>(), values.iter().min().copied().unwrap_or(0));
        format!("{sum}, {}, {least}, {}, {}", values.len(), values[0], values[values.len() - 1])
    };
    (0..rows.len()).map(result).collect()
}

fn model_calls() -> Vec<OverCall> {
    vec![
        call(SUM, Some(1)),
        call(COUNT, None),
        call(MIN, Some(1)),
        call(OverFunction::FirstValue, Some(1)),
        call(OverFunction::LastValue, Some(1)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn frames_by_time_agree_with_the_model(
        input in prop::collection::vec((0..3usize, 0..50i64, 0..12i64), 1..30),
        by_rows: bool,
        preceding in prop::option::of(0..4i64),
        size in 1..9usize,
    ) {
        let frame = OverFrame { rows: by_rows, preceding: preceding.map(|p| if by_rows { p } else { p * 1_000 }) };
        let mut expected = Vec::new();
        for k in 0..3 {
            let mut of_k: Vec<Row> = input.iter().filter(|r| r.0 == k).copied().collect();
            of_k.sort_by_key(|r| r.2);
            for (row, result) in of_k.iter().zip(model(&of_k, frame, |r| r.2 * 1_000)) {
                let text = line(&k.to_string(), &row.1.to_string(), row.2 * 1_000, "s");
                expected.push(format!("+I{}", text.replace(']', &format!(", {result}]"))));
            }
        }
        let mut test = by_time(frame, &model_calls());
        for chunk in input.chunks(size) {
            let text: Vec<String> =
                chunk.iter().map(|r| line(&r.0.to_string(), &r.1.to_string(), r.2 * 1_000, "s")).collect();
            test = test.input(0, [rows(&self::input(), &text.iter().map(String::as_str).collect::<Vec<_>>())]);
        }
        test.end().expect_any_order(&expected.iter().map(String::as_str).collect::<Vec<_>>());
    }

    #[test]
    fn frames_by_value_agree_with_the_model(
        ops in prop::collection::vec((0..2usize, 0..9i64, prop::option::of(0..64usize)), 1..25),
        by_rows: bool,
        preceding in prop::option::of(0..4i64),
        size in 1..9usize,
    ) {
        let frame = if by_rows { OverFrame { rows: true, preceding } } else { RANGE };
        let (mut live, mut text): (Vec<(Row, String)>, Vec<String>) = (Vec::new(), Vec::new());
        for (n, (k, v, out)) in ops.into_iter().enumerate() {
            match out.filter(|_| !live.is_empty()) {
                Some(i) => {
                    let (_, gone) = live.remove(i % live.len());
                    text.push(format!("-D{gone}"));
                }
                None => {
                    let row = line(&k.to_string(), &v.to_string(), 0, &format!("s{n}"));
                    text.push(format!("+I{row}"));
                    live.push(((k, v, n as i64), row));
                }
            }
        }
        let mut expected = Vec::new();
        for k in 0..2 {
            let mut of_k: Vec<&(Row, String)> = live.iter().filter(|r| r.0.0 == k).collect();
            of_k.sort_by_key(|r| r.0.1);
            let only: Vec<Row> = of_k.iter().map(|r| r.0).collect();
            for (row, result) in of_k.iter().zip(model(&only, frame, |r| r.1)) {
                expected.push(format!("+I{}", row.1.replace(']', &format!(", {result}]"))));
            }
        }
        let batches = text.chunks(size).map(|c| rows(&input(), &c.iter().map(String::as_str).collect::<Vec<_>>()));
        by_value(frame, &model_calls(), ChangelogMode::Retract)
            .input(0, batches)
            .end()
            .expect_net(&expected.iter().map(String::as_str).collect::<Vec<_>>());
    }
}
