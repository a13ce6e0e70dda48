//! Result types of aggregates, Flink's; never computes one.

use flott_core::types::{DataType, TypeKind};
use flott_core::{Error, Result};
use flott_plan::spec::AggregateFunction;

/// Type of an aggregate over an argument of type `arg` (of COUNT(*): any). Without GROUP BY the result over no rows is NULL, so only
/// `grouped` aggregates of NOT NULL arguments are NOT NULL.
pub fn aggregate_type(function: AggregateFunction, arg: &DataType, grouped: bool) -> Result<DataType> {
    let nullable = arg.nullable || !grouped;
    let kind = match (function, &arg.kind) {
        (AggregateFunction::Count, _) => return Ok(TypeKind::BigInt.not_null()),
        (AggregateFunction::Sum, TypeKind::Decimal(_, s)) => TypeKind::Decimal(38, *s),
        (AggregateFunction::Avg, TypeKind::Decimal(_, s)) => TypeKind::Decimal(38, (*s).max(6)),
        (AggregateFunction::Sum | AggregateFunction::Avg, kind) if kind.is_numeric() => kind.clone(),
        (AggregateFunction::Min | AggregateFunction::Max, kind) if is_ordered(kind) => kind.clone(),
        (_, kind) => {
            let (name, expected) = match function {
                AggregateFunction::Sum => ("SUM", "a number"),
                AggregateFunction::Avg => ("AVG", "a number"),
                AggregateFunction::Min => ("MIN", "a type with an order"),
                _ => ("MAX", "a type with an order"),
            };
            return Err(Error::user("sql.function", format!("cannot apply {name} to an argument of type {kind}"))
                .detail(format!("expected {expected}")));
        }
    };
    Ok(DataType { kind, nullable })
}

fn is_ordered(kind: &TypeKind) -> bool {
    use TypeKind::*;
    kind.is_numeric()
        || kind.is_string()
        || kind.is_timestamp()
        || matches!(kind, Boolean | Date | Time(_) | IntervalDayTime | IntervalYearMonth)
}
