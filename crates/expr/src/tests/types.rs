//! Result types and nullability, constant folding, aggregates.

use flott_core::types::{Column, TypeKind};
use flott_plan::expr::{ExprKind, Literal};
use flott_plan::spec::AggregateFunction;

use crate::testing::{check_types, parse};
use crate::{aggregate_type, common_type, constant_fold, function_names, is_deterministic};

fn columns() -> Vec<Column> {
    vec![
        Column::new("b", TypeKind::BigInt.nullable()),
        Column::new("i", TypeKind::Int.not_null()),
        Column::new("s", TypeKind::STRING.nullable()),
        Column::new("t", TypeKind::Timestamp(3).not_null()),
        Column::new("p", TypeKind::Decimal(30, 10).not_null()),
    ]
}

#[test]
fn results_have_flinks_types() {
    check_types(
        "
        i + i => INT NOT NULL
        i + b => BIGINT
        b % i => INT
        i / 2 => INT NOT NULL
        i * 1e0 => DOUBLE NOT NULL
        0.908 * b => DECIMAL(23, 3)
        1.1 + 2.22 => DECIMAL(4, 2) NOT NULL
        1.0 / 3 => DECIMAL(13, 12) NOT NULL
        p * p => DECIMAL(38, 6) NOT NULL
        SUBSTRING('abc', 1, 2) => STRING NOT NULL
        SUBSTRING('abc', 1, i) => STRING
        p + i => DECIMAL(31, 10) NOT NULL
        p % p => DECIMAL(30, 10) NOT NULL
        i = b => BOOLEAN
        i IS NULL => BOOLEAN NOT NULL
        'ab' || 'c' => CHAR(3) NOT NULL
        s || 'c' => STRING
        t - INTERVAL '4' SECOND => TIMESTAMP(3) NOT NULL
        t - t => INTERVAL SECOND(3) NOT NULL
        CASE WHEN i = 1 THEN 'a' ELSE 'bcd' END => VARCHAR(3) NOT NULL
        CASE WHEN i = 1 THEN i END => INT
        CASE WHEN i = 1 THEN i ELSE b END => BIGINT
        CASE WHEN i = 1 THEN 1.5 ELSE i END => DECIMAL(11, 1) NOT NULL
        COALESCE(b, 0) => BIGINT NOT NULL
        SPLIT_INDEX('a', ',', 0) => STRING
        ROUND(1.2345, 2) => DECIMAL(4, 2) NOT NULL
        ROUND(i) => INT NOT NULL
        EXTRACT('YEAR', t) => BIGINT NOT NULL
        PROCTIME() => TIMESTAMP_LTZ(3) NOT NULL
        TRY_CAST('1' AS INT) => INT
        CAST(i AS STRING) => STRING NOT NULL
        DATE_FORMAT(t, 'yyyy') => STRING
        ",
        &columns(),
    );
}

#[test]
fn aggregates_have_flinks_types() {
    let types = |f, t: TypeKind| aggregate_type(f, &t.not_null(), true).expect("fits").to_string();
    assert_eq!(types(AggregateFunction::Count, TypeKind::STRING), "BIGINT NOT NULL");
    assert_eq!(types(AggregateFunction::Sum, TypeKind::Int), "INT NOT NULL");
    assert_eq!(types(AggregateFunction::Avg, TypeKind::Int), "INT NOT NULL");
    assert_eq!(types(AggregateFunction::Sum, TypeKind::Decimal(10, 2)), "DECIMAL(38, 2) NOT NULL");
    assert_eq!(types(AggregateFunction::Avg, TypeKind::Decimal(10, 2)), "DECIMAL(38, 6) NOT NULL");
    assert_eq!(types(AggregateFunction::Max, TypeKind::STRING), "STRING NOT NULL");
    let global = aggregate_type(AggregateFunction::Sum, &TypeKind::Int.not_null(), false).expect("fits");
    assert!(global.nullable, "SUM over no rows is NULL");
    let error = aggregate_type(AggregateFunction::Sum, &TypeKind::STRING.nullable(), true).expect_err("text");
    assert_eq!(error.code(), "sql.function");
}

#[test]
fn common_types() {
    let common = |a: TypeKind, b: TypeKind| common_type(&[a.not_null(), b.not_null()]).map(|t| t.to_string());
    assert_eq!(common(TypeKind::Int, TypeKind::Null).as_deref(), Some("INT"));
    assert_eq!(common(TypeKind::Int, TypeKind::Float).as_deref(), Some("FLOAT NOT NULL"));
    assert_eq!(common(TypeKind::Decimal(5, 2), TypeKind::Float).as_deref(), Some("DOUBLE NOT NULL"));
    assert_eq!(common(TypeKind::Decimal(5, 2), TypeKind::BigInt).as_deref(), Some("DECIMAL(21, 2) NOT NULL"));
    assert_eq!(common(TypeKind::Date, TypeKind::Timestamp(3)).as_deref(), Some("TIMESTAMP(3) NOT NULL"));
    assert_eq!(common(TypeKind::Int, TypeKind::STRING), None);
}

#[test]
fn constants_are_folded_but_not_clocks_zones_or_failures() {
    let fold = |sql: &str| constant_fold(&parse(sql, &columns()).expect(sql)).to_string();
    assert_eq!(fold("1 + 2 * 3"), "7");
    assert_eq!(fold("i + (1 + 1)"), "($1 + 2)");
    assert_eq!(fold("i = 1 AND 1 = 1"), "($1 = 1)");
    assert_eq!(fold("i = 1 AND 1 = 2"), "FALSE");
    assert_eq!(fold("CASE WHEN 1 = 2 THEN i ELSE 5 END"), "5");
    assert_eq!(fold("1 / 0"), "(1 / 0)");
    assert_eq!(fold("CURRENT_DATE"), "CURRENT_DATE()");
    assert_eq!(fold("FROM_UNIXTIME(0)"), "FROM_UNIXTIME(0)");
    assert!(!is_deterministic(&parse("i > 1 AND NOW() > NOW()", &columns()).expect("parses")));
    assert!(is_deterministic(&parse("UPPER(s)", &columns()).expect("parses")));
    let interval = constant_fold(&parse("INTERVAL '1' HOUR * 2", &[]).expect("parses"));
    assert_eq!(interval.kind, ExprKind::Literal(Literal::Int(7_200_000)));
}

#[test]
fn every_listed_name_is_known() {
    for name in function_names() {
        let message = match crate::bind_call(name, vec![]) {
            Ok(_) => continue,
            Err(e) => e.to_string(),
        };
        assert!(!message.contains("unknown function"), "{name}: {message}");
    }
}
