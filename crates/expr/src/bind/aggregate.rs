//! Result types of aggregates, Flink's; never computes one.

use flott_core::types::{DataType, TypeKind};
use flott_core::{Error, Result};
use flott_plan::spec::AggregateFunction;

/// Type of an aggregate over an argument of type `arg` (of COUNT(*): any). Without GROUP BY the result over no rows is NULL, so only
/// `grouped` aggregates of NOT NULL arguments are NOT NULL.
pub fn aggregate_type(function: AggregateFunction, arg: &DataType, grouped: bool) -> Result<DataType> {
    aggregate_type_of(function, std::slice::from_ref(arg), grouped)
}

/// [`aggregate_type`] of an aggregate with any number of arguments.
pub fn aggregate_type_of(function: AggregateFunction, args: &[DataType], grouped: bool) -> Result<DataType> {
    use AggregateFunction as F;
    let null = TypeKind::Null.nullable();
    let arg = args.first().unwrap_or(&null);
    let nullable = arg.nullable || !grouped;
    let kind = match (function, &arg.kind) {
        (F::Count, _) => return Ok(TypeKind::BigInt.not_null()),
        (F::Sum, TypeKind::Decimal(_, s)) => TypeKind::Decimal(38, *s),
        (F::Avg | F::Deviation { .. }, TypeKind::Decimal(_, s)) => TypeKind::Decimal(38, (*s).max(6)),
        (F::Sum | F::Avg | F::Deviation { .. }, kind) if kind.is_numeric() => {
            // A sample of one row has no deviation.
            let sample = matches!(function, F::Deviation { sample: true, .. });
            return Ok(DataType { kind: kind.clone(), nullable: nullable || sample });
        }
        (F::Min | F::Max, kind) if is_ordered(kind) => kind.clone(),
        (F::FirstValue | F::LastValue | F::SingleValue, kind) => kind.clone(),
        (F::ListAgg, kind) if kind.is_string() && args.iter().all(|a| a.kind.is_string()) => TypeKind::STRING,
        (F::ArrayAgg { .. }, _) => return Ok(TypeKind::Array(Box::new(arg.clone())).nullable()),
        (F::Collect, _) => return Ok(TypeKind::Multiset(Box::new(arg.clone())).not_null()),
        (F::JsonArrayAgg { .. }, _) => return Ok(TypeKind::VarChar(2000).not_null()),
        (F::JsonObjectAgg { .. }, kind) if kind.is_string() && args.len() == 2 => {
            return Ok(TypeKind::VarChar(2000).not_null());
        }
        (F::Percentile, kind) if kind.is_numeric() => match args.get(1).map(|p| &p.kind) {
            Some(TypeKind::Array(p)) if p.kind.is_numeric() => {
                return Ok(TypeKind::Array(Box::new(TypeKind::Double.nullable())).nullable());
            }
            Some(p) if p.is_numeric() => return Ok(TypeKind::Double.nullable()),
            _ => return Err(mismatch(function, args)),
        },
        (F::Bitmap { fold, cardinality }, kind) => {
            let takes_integer = fold == flott_plan::BitmapFold::Build;
            if takes_integer != kind.is_integer() || !takes_integer && *kind != TypeKind::Bitmap {
                return Err(mismatch(function, args));
            }
            if cardinality { TypeKind::BigInt } else { TypeKind::Bitmap }
        }
        _ => return Err(mismatch(function, args)),
    };
    Ok(DataType { kind, nullable })
}

fn mismatch(function: AggregateFunction, args: &[DataType]) -> Error {
    use AggregateFunction as F;
    let expected = match function {
        F::Sum | F::Avg | F::Deviation { .. } => "a number",
        F::ListAgg => "a string and, if wanted, a separator",
        F::JsonObjectAgg { .. } => "a string as key, and a value",
        F::Percentile => "a number, and a percentage between 0 and 1 or an ARRAY of them",
        F::Bitmap { fold: flott_plan::BitmapFold::Build, .. } => "an integer",
        F::Bitmap { .. } => "a BITMAP",
        _ => "a type with an order",
    };
    let types = match args {
        [one] => format!("an argument of type {}", one.kind),
        args => format!("arguments of types {}", super::type_list(args)),
    };
    Error::user("sql.function", format!("cannot apply {} to {types}", function.name()))
        .detail(format!("expected {expected}"))
}

fn is_ordered(kind: &TypeKind) -> bool {
    use TypeKind::*;
    kind.is_numeric()
        || kind.is_string()
        || kind.is_timestamp()
        || matches!(kind, Boolean | Date | Time(_) | IntervalDayTime | IntervalYearMonth)
}
