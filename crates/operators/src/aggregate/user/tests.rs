//! Aggregates of the user in the operator matrix: groups, windows, sessions and frames, over rows that only come and rows that leave.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, Int64Array, StringArray};
use flott_core::error::{Error, Position, Result};
use flott_core::function::{AggregateChange, ColumnAggregate, Signature};
use flott_core::sink::ChangelogMode;
use flott_core::types::{Column, DataType, TypeKind};
use flott_plan::spec::{AggregateCall, AggregateFunction, OperatorSpec, WindowKind, WindowProperty, WindowSpec};
use flott_plan::{OverCall, OverFrame, OverFunction, OverOrder, OverSpec, UserAggregate};
use flott_runtime::testing::OperatorTest;

use crate::test_support::{columns, rows, verify};

const BIG: TypeKind = TypeKind::BigInt;
const TS: TypeKind = TypeKind::Timestamp(3);

/// Σ value·weight ÷ Σ weight in whole numbers; NULL without weight. Its bytes: a version, then the sums. Rows without value or weight
/// do not count; a weight of 13 is an error, and one of 14 a panic.
struct Weighted;

fn sums(bytes: Option<&[u8]>) -> Result<(i64, i64)> {
    let Some(bytes) = bytes else { return Ok((0, 0)) };
    match bytes.split_first() {
        Some((1, rest)) if rest.len() == 16 => {
            let number = |at: usize| i64::from_le_bytes(rest[at..at + 8].try_into().expect("eight bytes"));
            Ok((number(0), number(8)))
        }
        _ => Err(Error::corrupt("function.state", "not the sums of a weighted average")),
    }
}

fn bytes((value, weight): (i64, i64)) -> Vec<u8> {
    [&[1][..], &value.to_le_bytes(), &weight.to_le_bytes()].concat()
}

impl ColumnAggregate for Weighted {
    fn bind(&self, _: &[DataType]) -> Result<Signature> {
        Ok(Signature { args: vec![BIG.nullable(), BIG.nullable()], result: BIG.nullable() })
    }
    fn can_retract(&self) -> bool {
        true
    }
    fn can_merge(&self) -> bool {
        true
    }
    fn fold(&self, accs: &mut [Option<Vec<u8>>], changes: &[AggregateChange], args: &[ArrayRef]) -> Result<()> {
        let (values, weights) = (args[0].as_primitive::<Int64Type>(), args[1].as_primitive::<Int64Type>());
        for c in changes.iter().filter(|c| values.is_valid(c.row) && weights.is_valid(c.row)) {
            let (value, weight) = (values.value(c.row), weights.value(c.row));
            assert_ne!(weight, 14, "an unlucky weight");
            if weight == 13 {
                return Err(Error::user("test.weight", "a weight of 13"));
            }
            let (sum, total) = sums(accs[c.accumulator].as_deref())?;
            let sign = if c.add { 1 } else { -1 };
            accs[c.accumulator] = Some(bytes((sum + sign * value * weight, total + sign * weight)));
        }
        Ok(())
    }
    fn merge(&self, first: &[u8], second: &[u8]) -> Result<Vec<u8>> {
        let (a, b) = (sums(Some(first))?, sums(Some(second))?);
        Ok(bytes((a.0 + b.0, a.1 + b.1)))
    }
    fn values(&self, accumulators: &[Option<&[u8]>]) -> Result<ArrayRef> {
        let value = |bytes: &Option<&[u8]>| sums(*bytes).map(|(sum, total)| sum.checked_div(total));
        Ok(Arc::new(accumulators.iter().map(value).collect::<Result<Int64Array>>()?))
    }
}

/// As [`Weighted`], but its results are texts.
struct Liar;

impl ColumnAggregate for Liar {
    fn bind(&self, args: &[DataType]) -> Result<Signature> {
        Weighted.bind(args)
    }
    fn fold(&self, accs: &mut [Option<Vec<u8>>], changes: &[AggregateChange], args: &[ArrayRef]) -> Result<()> {
        Weighted.fold(accs, changes, args)
    }
    fn merge(&self, first: &[u8], second: &[u8]) -> Result<Vec<u8>> {
        Weighted.merge(first, second)
    }
    fn values(&self, accumulators: &[Option<&[u8]>]) -> Result<ArrayRef> {
        Ok(Arc::new(StringArray::from(vec!["much"; accumulators.len()])))
    }
}

fn input() -> Vec<Column> {
    columns(&[("k", TypeKind::Int), ("v", BIG), ("w", BIG), ("f", TypeKind::Boolean), ("t", TS)])
}

fn user(function: Arc<dyn ColumnAggregate>) -> UserAggregate {
    UserAggregate { name: "weighted".into(), function, position: Some(Position { line: 3, column: 7 }) }
}

fn weighted() -> AggregateCall {
    AggregateCall {
        function: AggregateFunction::User,
        user: Some(user(Arc::new(Weighted))),
        args: vec![1, 2],
        arg_types: vec![BIG.nullable(), BIG.nullable()],
        distinct: false,
        filter: None,
        data_type: BIG.nullable(),
        name: "x".into(),
    }
}

fn output(types: &[TypeKind]) -> Vec<Column> {
    types.iter().map(|t| Column::new("o", t.clone().nullable())).collect()
}

fn grouped(aggregates: Vec<AggregateCall>, input_mode: ChangelogMode) -> OperatorTest {
    let mut types = vec![TypeKind::Int];
    types.extend(aggregates.iter().map(|_| BIG));
    let spec =
        OperatorSpec::GroupAggregate { group: vec![0], aggregates, input_mode, update_before: true, ttl_ms: None };
    verify(&spec, &[input()], &output(&types)).keys(0, &[0])
}

const FIRST: [&str; 4] =
    ["[1, 10, 1, true, NULL]", "[1, 20, 3, false, NULL]", "[2, 5, NULL, true, NULL]", "[1, 10, 1, true, NULL]"];

#[test]
fn groups_with_distinct_and_filter() {
    let calls = vec![
        weighted(),
        AggregateCall { distinct: true, ..weighted() },
        AggregateCall { filter: Some(3), ..weighted() },
        AggregateCall { distinct: true, filter: Some(3), ..weighted() },
    ];
    let second = ["[1, 40, 5, true, NULL]", "[2, 9, 2, NULL, NULL]", "[1, 20, 3, true, NULL]"];
    // 10·1 + 20·3 + 10·1 + 40·5 + 20·3 of 13; each once: 270 of 9; filtered: 280 of 10; both: 270 of 9.
    grouped(calls, ChangelogMode::Append)
        .input(0, [rows(&input(), &FIRST), rows(&input(), &second)])
        .end()
        .expect_net(&["+I[1, 26, 30, 28, 30]", "+I[2, 9, 9, NULL, NULL]"]);
}

#[test]
fn rows_of_a_changelog_leave_again() {
    let first = ["+I[1, 10, 1, true, NULL]", "+I[1, 20, 3, true, NULL]", "+I[2, 7, 1, true, NULL]"];
    let second = ["-U[1, 20, 3, true, NULL]", "+U[1, 40, 2, true, NULL]", "-D[2, 7, 1, true, NULL]"];
    let calls = || vec![weighted(), AggregateCall { distinct: true, ..weighted() }];
    let test = || grouped(calls(), ChangelogMode::Retract).input(0, [rows(&input(), &first), rows(&input(), &second)]);
    test().end().expect_net(&["+I[1, 30, 30]"]);
    let third = ["-D[1, 10, 1, true, NULL]", "-D[1, 40, 2, true, NULL]"];
    test().input(0, [rows(&input(), &third)]).end().expect_net(&[]);
}

fn windowed(kind: WindowKind) -> OperatorTest {
    let partition = if matches!(kind, WindowKind::Session { .. }) { vec![0] } else { Vec::new() };
    let window = WindowSpec { kind, time: 4, processing_time: false, zone: None, partition };
    let properties = vec![WindowProperty::Start, WindowProperty::End];
    let (group, aggregates) = (vec![0], vec![weighted(), AggregateCall { filter: Some(3), ..weighted() }]);
    let input_mode = ChangelogMode::Append;
    let spec = OperatorSpec::WindowAggregate { window, group, aggregates, properties, input_mode };
    verify(&spec, &[input()], &output(&[TypeKind::Int, BIG, BIG, TS, TS])).keys(0, &[0])
}

fn timed() -> [flott_core::ChangeBatch; 2] {
    let (first, second) = (
        ["[1, 10, 1, true, 1970-01-01T00:00:01]", "[1, 40, 2, false, 1970-01-01T00:00:07]"],
        ["[1, 20, 1, true, 1970-01-01T00:00:04]", "[2, 9, 3, true, 1970-01-01T00:00:06]"],
    );
    [rows(&input(), &first), rows(&input(), &second)]
}

#[test]
fn windows_of_every_kind() {
    let at = |s: i64| format!("1970-01-01T00:00:{s:02}");
    let row = |k: i64, all: &str, some: &str, from, to| format!("+I[{k}, {all}, {some}, {}, {}]", at(from), at(to));
    let expect = |test: OperatorTest, rows: &[String]| {
        test.input(0, timed())
            .watermark(60_000)
            .end()
            .expect_any_order(&rows.iter().map(String::as_str).collect::<Vec<_>>());
    };
    let tumble = WindowKind::Tumble { size_ms: 5_000, offset_ms: 0 };
    expect(windowed(tumble), &[row(1, "15", "15", 0, 5), row(1, "40", "NULL", 5, 10), row(2, "9", "9", 5, 10)]);
    let hop = WindowKind::Hop { size_ms: 10_000, slide_ms: 5_000, offset_ms: 0 };
    let before = |k: i64, all: &str, some: &str| format!("+I[{k}, {all}, {some}, 1969-12-31T23:59:55, {}]", at(5));
    expect(
        windowed(hop),
        &[
            before(1, "15", "15"),
            row(1, "27", "15", 0, 10),
            row(1, "40", "NULL", 5, 15),
            row(2, "9", "9", 0, 10),
            row(2, "9", "9", 5, 15),
        ],
    );
    // The row at 4 joins what were two sessions.
    let session = WindowKind::Session { gap_ms: 4_000 };
    expect(windowed(session), &[row(1, "27", "15", 1, 11), row(2, "9", "9", 6, 10)]);
}

fn over(order: OverOrder, preceding: Option<i64>, input_mode: ChangelogMode) -> OperatorTest {
    let call = OverCall {
        function: OverFunction::Aggregate(AggregateFunction::User),
        arg: Some(1),
        more: vec![2],
        user: Some(user(Arc::new(Weighted))),
        distinct: false,
        data_type: BIG.nullable(),
    };
    let frame = OverFrame { rows: true, preceding };
    let spec =
        OverSpec { partition: vec![0], order, frame, calls: vec![call], input_mode, update_before: true, ttl_ms: None };
    let mut output = input();
    output.push(Column::new("o", BIG.nullable()));
    verify(&OperatorSpec::OverAggregate(spec), &[input()], &output).keys(0, &[0])
}

#[test]
fn frames_by_time_with_and_without_a_bound() {
    let row = |v: i64, w: i64, s: i64, result: i64| format!("+I[1, {v}, {w}, true, 1970-01-01T00:00:{s:02}, {result}]");
    let of = |expected: &[String], preceding| {
        let line = |v: i64, w: i64, s: i64| format!("[1, {v}, {w}, true, 1970-01-01T00:00:{s:02}]");
        let batch = |lines: &[String]| rows(&input(), &lines.iter().map(String::as_str).collect::<Vec<_>>());
        let batches = [batch(&[line(30, 2, 3), line(10, 1, 1)]), batch(&[line(20, 1, 2), line(5, 4, 4)])];
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        over(OverOrder::Rowtime(4), preceding, ChangelogMode::Append)
            .input(0, batches)
            .end()
            .expect_any_order(&expected);
    };
    of(&[row(10, 1, 1, 10), row(20, 1, 2, 15), row(30, 2, 3, 26), row(5, 4, 4, 13)], Some(1));
    of(&[row(10, 1, 1, 10), row(20, 1, 2, 15), row(30, 2, 3, 22), row(5, 4, 4, 13)], None);
}

#[test]
fn frames_over_a_changelog() {
    let key = flott_plan::SortKey { column: 1, descending: false, nulls_first: true };
    let first = ["+I[1, 10, 1, true, NULL]", "+I[1, 30, 1, true, NULL]", "+I[1, 50, 3, true, NULL]"];
    let second = ["-D[1, 30, 1, true, NULL]", "+I[1, 20, 1, true, NULL]"];
    over(OverOrder::Column(key), Some(1), ChangelogMode::Retract)
        .input(0, [rows(&input(), &first), rows(&input(), &second)])
        .end()
        .expect_net(&["+I[1, 10, 1, true, NULL, 10]", "+I[1, 20, 1, true, NULL, 15]", "+I[1, 50, 3, true, NULL, 42]"]);
}

#[test]
fn what_goes_wrong_names_the_function_and_its_place() {
    let run = |call: AggregateCall, row: &str| {
        let test = grouped(vec![call], ChangelogMode::Append).input(0, [rows(&input(), &[row])]);
        test.output().expect_err("it fails").to_string()
    };
    let error = run(weighted(), "[1, 2, 13, true, NULL]");
    assert!(error.contains("line 3, column 7") && error.contains("function `weighted`: a weight of 13"), "{error}");
    let panic = run(weighted(), "[1, 2, 14, true, NULL]");
    assert!(panic.contains("function `weighted` panicked") && panic.contains("an unlucky weight"), "{panic}");
    let liar = AggregateCall { user: Some(user(Arc::new(Liar))), ..weighted() };
    let error = run(liar, "[1, 2, 3, true, NULL]");
    assert!(error.contains("it promised 1 values of Int64 and gave 1 of Utf8"), "{error}");
}
