//! MATCH_RECOGNIZE in the operator matrix: order of time, late rows, time constraints, conditions over several rows, measures.

use flott_core::batch::ChangeBatch;
use flott_core::types::{Column, DataType, TypeKind};
use flott_plan::expr::{Expr, Literal};
use flott_plan::pattern::{AfterMatch, MatchExpr, MatchReference, MatchSpec, PatternVariable};
use flott_plan::spec::{AggregateFunction, OperatorSpec, SortKey};
use flott_runtime::testing::OperatorTest;
use proptest::prelude::*;

use crate::test_support::{columns, rows, verify};

fn input() -> Vec<Column> {
    columns(&[("k", TypeKind::STRING), ("t", TypeKind::Timestamp(3)), ("v", TypeKind::Int)])
}

/// Rows of the input, their times in milliseconds.
fn events(lines: &[&str]) -> ChangeBatch {
    let timed = |line: &&str| {
        let mut cells: Vec<String> = line.split(", ").map(str::to_owned).collect();
        let ms: i64 = cells[1].parse().expect("milliseconds");
        cells[1] = format!("1970-01-01 00:{:02}:{:02}.{:03}", ms / 60_000, ms / 1000 % 60, ms % 1000);
        cells.join(", ")
    };
    let lines: Vec<String> = lines.iter().map(timed).collect();
    rows(&input(), &lines.iter().map(String::as_str).collect::<Vec<_>>())
}

fn value(variable: usize, first: bool, offset: u32) -> MatchReference {
    let data_type = TypeKind::Int.nullable();
    MatchReference::Column { variable: Some(variable), first, offset, column: 2, data_type }
}

fn of(references: &[MatchReference], build: impl Fn(&[Expr]) -> Expr) -> MatchExpr {
    let columns =
        references.iter().enumerate().map(|(i, r)| Expr::column(i, r.data_type().clone())).collect::<Vec<_>>();
    MatchExpr { expr: build(&columns), references: references.to_vec() }
}

fn boolean(function: &str, args: &[Expr]) -> Expr {
    Expr::call(function, args.to_vec(), TypeKind::Boolean.nullable())
}

fn int(value: i64) -> Expr {
    Expr::literal(Literal::Int(value), TypeKind::Int.not_null())
}

fn variable(name: &str, (min, max): (u32, Option<u32>), condition: Option<MatchExpr>) -> PatternVariable {
    PatternVariable { name: name.to_owned(), min, max, greedy: true, condition }
}

/// `A B+ C`, B below the row before it and C above the last B; the first, the least and the last value, and the sum.
fn valley(skip: AfterMatch, within_ms: Option<i64>) -> MatchSpec {
    let sum = |v| MatchReference::Aggregate {
        variable: v,
        function: AggregateFunction::Sum,
        argument: Some(Expr::column(2, TypeKind::Int.nullable())),
        data_type: TypeKind::Int.nullable(),
    };
    let below = of(&[value(1, false, 1), value(1, false, 0), value(0, false, 0)], |c| {
        let first = boolean("AND", &[boolean("IS NULL", &c[..1]), boolean("<", &[c[1].clone(), c[2].clone()])]);
        boolean("OR", &[first, boolean("<", &[c[1].clone(), c[0].clone()])])
    });
    let above = of(&[value(2, false, 0), value(1, false, 0)], |c| boolean(">", c));
    let plain = |r: MatchReference| of(&[r], |c| c[0].clone());
    MatchSpec {
        partition: vec![0],
        time: Some(1),
        order: Vec::new(),
        variables: vec![
            variable("A", (1, Some(1)), None),
            variable("B", (1, None), Some(below)),
            variable("C", (1, Some(1)), Some(above)),
        ],
        within_ms,
        skip,
        measures: vec![
            plain(value(0, false, 0)),
            plain(value(1, false, 0)),
            plain(value(2, false, 0)),
            plain(sum(None)),
            plain(MatchReference::Rowtime { data_type: TypeKind::Timestamp(3).not_null() }),
        ],
    }
}

fn output(spec: &MatchSpec) -> Vec<Column> {
    let measured =
        spec.measures.iter().enumerate().map(|(i, m)| Column::new(format!("m{i}"), m.expr.data_type.clone()));
    spec.partition.iter().map(|&p| input()[p].clone()).chain(measured).collect()
}

fn test(spec: MatchSpec) -> OperatorTest {
    let output = output(&spec);
    verify(&OperatorSpec::Match(Box::new(spec)), &[input()], &output).keys(0, &[0])
}

#[test]
fn rows_are_taken_in_the_order_of_time_and_late_ones_are_dropped() {
    let first = events(&["[a, 5000, 9]", "[b, 1000, 5]", "[a, 1000, 7]", "[a, 3000, 2]", "[b, 2000, 1]"]);
    let second = events(&["[a, 2000, 4]", "[b, 9000, 3]", "[a, 4000, 3]", "[a, 7000, 1]", "[a, 8000, 6]"]);
    let late = events(&["[b, 2500, 0]", "[a, 2500, 0]"]);
    test(valley(AfterMatch::PastLastRow, None))
        .input(0, [first])
        .watermark(500)
        .input(0, [second])
        .watermark(3000)
        .input(0, [late])
        .watermark(9000)
        .watermark(i64::MAX)
        .end()
        .expect_any_order(&[
            "+I[a, 7, 2, 3, 16, 1970-01-01T00:00:04]",
            "+I[a, 9, 1, 6, 16, 1970-01-01T00:00:08]",
            "+I[b, 5, 1, 3, 9, 1970-01-01T00:00:09]",
        ]);
}

#[test]
fn overlapping_matches_are_found_when_the_search_goes_on_at_the_next_row() {
    let batch = events(&["[a, 1000, 7]", "[a, 2000, 4]", "[a, 3000, 2]", "[a, 4000, 3]", "[NULL, 4000, 3]"]);
    test(valley(AfterMatch::ToNextRow, None))
        .input(0, [batch])
        .watermark(i64::MAX)
        .end()
        .expect(&["+I[a, 7, 2, 3, 16, 1970-01-01T00:00:04]", "+I[a, 4, 2, 3, 9, 1970-01-01T00:00:04]"]);
}

#[test]
fn a_match_must_fit_into_its_time() {
    let batches = ["[a, 1000, 7]", "[a, 2000, 4]", "[a, 3000, 2]", "[a, 4000, 3]"].map(|r| events(&[r]));
    let test = |ms| {
        let [a, b, c, d] = batches.clone();
        test(valley(AfterMatch::PastLastRow, Some(ms)))
            .input(0, [a, b])
            .watermark(2500)
            .input(0, [c, d])
            .watermark(3500)
            .watermark(60_000)
            .end()
    };
    test(3001).expect(&["+I[a, 7, 2, 3, 16, 1970-01-01T00:00:04]"]);
    test(3000).expect(&["+I[a, 4, 2, 3, 9, 1970-01-01T00:00:04]"]);
    test(2000).expect(&[]);
}

#[test]
fn a_match_that_waits_for_an_earlier_one_is_told_when_that_is_given_up() {
    let near = of(&[value(1, false, 0), value(0, false, 0)], |c| {
        boolean(">", &[c[0].clone(), Expr::call("-", vec![c[1].clone(), int(10)], TypeKind::Int.nullable())])
    });
    let far = of(&[value(2, false, 0), value(0, false, 0)], |c| {
        boolean("<", &[c[0].clone(), Expr::call("-", vec![c[1].clone(), int(10)], TypeKind::Int.nullable())])
    });
    let mut spec = valley(AfterMatch::PastLastRow, Some(10_000));
    spec.variables[1] = variable("B", (0, None), Some(near));
    spec.variables[2].condition = Some(far);
    let batch = events(&["[a, 1000, 20]", "[a, 2000, 30]", "[a, 3000, 15]"]);
    test(spec)
        .input(0, [batch])
        .watermark(3000)
        .watermark(10_999)
        .watermark(11_000)
        .watermark(20_000)
        .end()
        .expect(&["+I[a, 30, NULL, 15, 45, 1970-01-01T00:00:11]"]);
}

#[test]
fn aggregates_in_conditions_see_the_current_row() {
    let average = MatchReference::Aggregate {
        variable: Some(0),
        function: AggregateFunction::Avg,
        argument: Some(Expr::column(2, TypeKind::Int.nullable())),
        data_type: TypeKind::Int.nullable(),
    };
    let mut spec = valley(AfterMatch::PastLastRow, None);
    let low = of(std::slice::from_ref(&average), |c| boolean("<", &[c[0].clone(), int(15)]));
    spec.variables = vec![variable("A", (1, None), Some(low)), variable("B", (1, Some(1)), None)];
    let plain = |r: MatchReference| of(&[r], |c| c[0].clone());
    spec.measures = vec![plain(value(0, true, 0)), plain(value(0, false, 0)), plain(average)];
    let prices = [12, 17, 13, 16, 25, 2, 4, 10, 15, 25, 25, 30];
    let lines: Vec<String> = prices.iter().enumerate().map(|(i, p)| format!("[a, {}, {p}]", i * 1000)).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    test(spec)
        .input(0, [events(&lines[..7]), events(&lines[7..])])
        .watermark(6000)
        .watermark(i64::MAX)
        .end()
        .expect(&["+I[a, 12, 16, 14]", "+I[a, 2, 25, 13]"]);
}

#[test]
fn what_may_fail_is_only_computed_where_it_counts() {
    // 10 / v, where v is 0 in a row that is never taken for B.
    let divided = |r: MatchReference| {
        of(&[r], |c| {
            let type_of = |nullable| DataType { kind: TypeKind::Int, nullable };
            boolean("=", &[Expr::call("/", vec![int(10), c[0].clone()], type_of(true)), int(5)])
        })
    };
    let mut spec = valley(AfterMatch::PastLastRow, None);
    let one = of(&[value(0, false, 0)], |c| boolean("=", &[c[0].clone(), int(1)]));
    spec.variables =
        vec![variable("A", (1, Some(1)), Some(one)), variable("B", (1, Some(1)), Some(divided(value(1, false, 0))))];
    spec.measures = vec![of(&[value(1, false, 0)], |c| c[0].clone())];
    let batch = events(&["[a, 1000, 0]", "[a, 2000, 1]", "[a, 3000, 2]", "[a, 4000, 0]"]);
    test(spec).input(0, [batch]).watermark(i64::MAX).end().expect(&["+I[a, 2]"]);
}

#[test]
fn by_processing_time_rows_are_taken_as_they_come() {
    let mut spec = valley(AfterMatch::PastLastRow, Some(1000));
    spec.time = None;
    spec.order = vec![SortKey { column: 2, descending: true, nulls_first: false }];
    spec.measures.pop();
    let line = |r: &str| [events(&[r])];
    let output = output(&spec);
    verify(&OperatorSpec::Match(Box::new(spec)), &[self::input()], &output)
        .keys(0, &[0])
        .processing_time(100)
        .input(0, line("[a, 1000, 7]"))
        .processing_time(200)
        .input(0, line("[a, 0, 4]"))
        .processing_time(300)
        .input(0, line("[a, 0, 5]"))
        .processing_time(400)
        .input(0, line("[a, 0, 3]"))
        .processing_time(2000)
        .input(0, line("[a, 0, 9]"))
        .end()
        .expect(&["+I[a, 7, 4, 5, 16]"]);
}

#[test]
fn a_null_time_is_refused_by_name() {
    let input = input();
    let batch = rows(&input, &["[a, NULL, 7]"]);
    let error = test(valley(AfterMatch::PastLastRow, None)).input(0, [batch]).output().expect_err("refused");
    assert_eq!(error.code(), "sql.null-rowtime");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Falls that begin behind one another: A, then B as long as it falls, then C.
    #[test]
    fn valleys_are_those_of_a_naive_search(values in prop::collection::vec(0..6i32, 1..30), size in 1..9usize) {
        let (mut expected, mut from) = (Vec::new(), 0);
        while from < values.len() {
            let mut end = from;
            while end + 1 < values.len() && values[end + 1] < values[end] {
                end += 1;
            }
            let ends = end > from && end + 1 < values.len() && values[end + 1] > values[end];
            if ends {
                let sum: i32 = values[from..=end + 1].iter().sum();
                let (a, b, c) = (values[from], values[end], values[end + 1]);
                expected.push(format!("+I[a, {a}, {b}, {c}, {sum}]"));
            }
            from = if ends { end + 2 } else { from + 1 };
        }
        let mut spec = valley(AfterMatch::PastLastRow, None);
        spec.measures.pop();
        let lines: Vec<String> = values.iter().enumerate().map(|(i, v)| format!("[a, {i}, {v}]")).collect();
        let mut test = test(spec);
        for (i, chunk) in lines.chunks(size).enumerate() {
            let chunk: Vec<&str> = chunk.iter().map(String::as_str).collect();
            test = test.input(0, [events(&chunk)]).watermark((i * size) as i64);
        }
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        test.watermark(i64::MAX).end().expect(&expected);
    }
}
