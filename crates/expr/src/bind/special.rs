//! Functions whose result type or parameters depend on the arguments: operators, conditionals, rounding, EXTRACT; never evaluates.

use flott_core::Result;
use flott_core::types::{DataType, MAX_LENGTH, TypeKind};
use flott_plan::expr::{Expr, ExprKind, Literal};

use super::arithmetic::{bind_binary, bind_comparison, comparable};
use super::types::{round_result, widest_type};
use super::{any_nullable, bind_case, implicit_cast, mismatch};

/// Names bound here.
pub(super) const NAMES: &[&str] = &[
    "+",
    "-",
    "*",
    "/",
    "%",
    "MOD",
    "=",
    "<>",
    "!=",
    "<",
    "<=",
    ">",
    ">=",
    "IS DISTINCT FROM",
    "IS NOT DISTINCT FROM",
    "IS NULL",
    "IS NOT NULL",
    "||",
    "ABS",
    "SIGN",
    "FLOOR",
    "CEIL",
    "CEILING",
    "ROUND",
    "TRUNCATE",
    "GREATEST",
    "LEAST",
    "COALESCE",
    "IFNULL",
    "NULLIF",
    "IF",
    "EXTRACT",
    "TIMESTAMPDIFF",
    "TIMESTAMPADD",
    "TO_TIMESTAMP_LTZ",
    "CURRENT_WATERMARK",
];

/// Units of EXTRACT, FLOOR … TO, TIMESTAMPDIFF and TIMESTAMPADD.
const UNITS: &[&str] = &[
    "MILLENNIUM",
    "CENTURY",
    "DECADE",
    "YEAR",
    "QUARTER",
    "MONTH",
    "WEEK",
    "DAY",
    "DOW",
    "ISODOW",
    "DOY",
    "ISOYEAR",
    "HOUR",
    "MINUTE",
    "SECOND",
    "MILLISECOND",
    "MICROSECOND",
    "NANOSECOND",
    "EPOCH",
];

/// `None` when `name` is not one of [`NAMES`].
pub(super) fn bind(name: &str, args: &[Expr]) -> Result<Option<Expr>> {
    if !NAMES.contains(&name) {
        return Ok(None);
    }
    let expr = match (name, args) {
        ("-", [a]) => negate(a)?,
        ("+", [a]) => a.clone(),
        ("+" | "-" | "*" | "/" | "%", [_, _]) => bind_binary(name, args)?,
        ("MOD", [_, _]) => bind_binary("%", args)?,
        ("!=", [_, _]) => bind_comparison("<>", args)?,
        ("=" | "<>" | "<" | "<=" | ">" | ">=" | "IS DISTINCT FROM" | "IS NOT DISTINCT FROM", [_, _]) => {
            bind_comparison(name, args)?
        }
        ("IS NULL" | "IS NOT NULL", [a]) => Expr::call(name, vec![a.clone()], TypeKind::Boolean.not_null()),
        ("||", [a, b]) => concat(a, b)?,
        ("ABS" | "SIGN", [a]) if a.data_type.kind.is_numeric() => {
            Expr::call(name, vec![a.clone()], a.data_type.clone())
        }
        ("ABS", [a]) if super::arithmetic::is_interval(&a.data_type.kind) => {
            Expr::call(name, vec![a.clone()], a.data_type.clone())
        }
        ("FLOOR" | "CEIL" | "CEILING", _) => floor_ceil(name, args)?,
        ("ROUND" | "TRUNCATE", [_] | [_, _]) => round(name, args)?,
        ("GREATEST" | "LEAST", [_, ..]) => {
            let target = common(name, args)?;
            let args = cast_all(args, &target.kind)?;
            Expr::call(name, args, target)
        }
        ("COALESCE", [_, ..]) | ("IFNULL", [_, _]) => {
            let nullable = args.iter().all(|a| a.data_type.nullable);
            let target = common(name, args)?.with_nullable(nullable);
            Expr::call("COALESCE", cast_all(args, &target.kind)?, target)
        }
        ("NULLIF", [a, b]) => {
            let same = bind_comparison("=", &[a.clone(), b.clone()])?;
            let null = Expr::literal(Literal::Null, a.data_type.clone().with_nullable(true));
            bind_case(vec![(same, null)], Some(a.clone()))?
        }
        ("IF", [c, a, b]) => {
            let bound = bind_case(vec![(c.clone(), a.clone())], Some(b.clone()))?;
            // Unlike CASE, a condition that may be NULL makes the result so.
            let nullable = bound.data_type.nullable || c.data_type.nullable;
            Expr { data_type: bound.data_type.with_nullable(nullable), kind: bound.kind }
        }
        ("EXTRACT", [unit, x]) => {
            let unit = unit_literal(name, args, unit)?;
            let x = temporal(name, args, x)?;
            let data_type = DataType { kind: TypeKind::BigInt, nullable: x.data_type.nullable };
            Expr::call("EXTRACT", vec![unit, x], data_type)
        }
        ("TIMESTAMPDIFF", [unit, a, b]) => timestamp_diff(args, unit, a, b)?,
        ("TIMESTAMPADD", [unit, n, t]) => timestamp_add(args, unit, n, t)?,
        ("TO_TIMESTAMP_LTZ", [x, rest @ ..]) if rest.len() <= 2 => to_timestamp_ltz(args, x, rest)?,
        ("CURRENT_WATERMARK", [a]) if a.data_type.kind.is_timestamp() => {
            let kind = match a.data_type.kind {
                TypeKind::TimestampLtz(_) => TypeKind::TimestampLtz(3),
                _ => TypeKind::Timestamp(3),
            };
            Expr::call(name, vec![a.clone()], kind.nullable())
        }
        _ => return Err(mismatch(&quoted(name), args, expected(name))),
    };
    Ok(Some(expr))
}

fn quoted(name: &str) -> String {
    if name.starts_with(|c: char| c.is_ascii_alphabetic()) { name.to_owned() } else { format!("'{name}'") }
}

fn expected(name: &str) -> &'static str {
    match name {
        "IS NULL" | "IS NOT NULL" => "one value",
        "||" => "two strings",
        "ABS" | "SIGN" => "one number",
        "GREATEST" | "LEAST" | "COALESCE" => "one value or more",
        "IF" => "IF(BOOLEAN, a value, a value)",
        "EXTRACT" => "EXTRACT(unit FROM a time)",
        "TIMESTAMPDIFF" => "TIMESTAMPDIFF(unit, a time, a time)",
        "TIMESTAMPADD" => "TIMESTAMPADD(unit, an integer, a time)",
        "TO_TIMESTAMP_LTZ" => {
            "TO_TIMESTAMP_LTZ(a number, a precision of 0 to 9) or TO_TIMESTAMP_LTZ(a string, a pattern, a zone)"
        }
        "ROUND" | "TRUNCATE" => "a number and, if wanted, a number of digits",
        "CURRENT_WATERMARK" => "an event-time attribute",
        _ => "two values",
    }
}

fn negate(a: &Expr) -> Result<Expr> {
    let kind = &a.data_type.kind;
    if let (ExprKind::Literal(literal), true) = (&a.kind, kind.is_numeric()) {
        let negated = match literal {
            Literal::Int(i) if *i != i64::MIN => Some(Literal::Int(-i)),
            Literal::Double(d) => Some(Literal::Double(-d)),
            Literal::Decimal(d) => Some(Literal::Decimal(-d)),
            _ => None,
        };
        if let Some(literal) = negated {
            return Ok(Expr::literal(literal, a.data_type.clone()));
        }
    }
    if kind.is_numeric() || super::arithmetic::is_interval(kind) {
        return Ok(Expr::call("-", vec![a.clone()], a.data_type.clone()));
    }
    Err(mismatch("'-'", std::slice::from_ref(a), "a number or an interval"))
}

fn concat(a: &Expr, b: &Expr) -> Result<Expr> {
    let args = [a.clone(), b.clone()];
    let length = |e: &Expr| match e.data_type.kind {
        TypeKind::Char(n) | TypeKind::VarChar(n) => Some(n),
        TypeKind::Null => Some(MAX_LENGTH),
        _ => None,
    };
    let (Some(n), Some(m)) = (length(a), length(b)) else {
        return Err(mismatch("'||'", &args, "two strings").hint("CAST the other values to STRING"));
    };
    let sum = n.saturating_add(m).min(MAX_LENGTH);
    let fixed = matches!((&a.data_type.kind, &b.data_type.kind), (TypeKind::Char(_), TypeKind::Char(_)));
    let kind = if fixed { TypeKind::Char(sum) } else { TypeKind::VarChar(sum) };
    let nullable = any_nullable(&args);
    let args = args.into_iter().map(|e| match e.data_type.kind {
        TypeKind::Null => implicit_cast(e, &TypeKind::STRING),
        _ => Ok(e),
    });
    Ok(Expr::call("CONCAT", args.collect::<Result<_>>()?, DataType { kind, nullable }))
}

fn common(name: &str, args: &[Expr]) -> Result<DataType> {
    let types: Vec<DataType> = args.iter().map(|a| a.data_type.clone()).collect();
    widest_type(&types).ok_or_else(|| mismatch(name, args, "arguments with a common type"))
}

fn cast_all(args: &[Expr], kind: &TypeKind) -> Result<Vec<Expr>> {
    args.iter().map(|a| implicit_cast(a.clone(), kind)).collect()
}

fn unit_literal(name: &str, args: &[Expr], unit: &Expr) -> Result<Expr> {
    let text = match &unit.kind {
        ExprKind::Literal(Literal::String(s)) => s.to_ascii_uppercase(),
        _ => return Err(mismatch(name, args, "a unit such as DAY first")),
    };
    let text = text.strip_prefix("SQL_TSI_").unwrap_or(&text);
    if !UNITS.contains(&text) {
        return Err(mismatch(name, args, &format!("one of the units {}", UNITS.join(", ")))
            .hint(format!("{text} is not a unit")));
    }
    Ok(Expr::literal(Literal::String(text.to_owned()), unit.data_type.clone()))
}

fn temporal(name: &str, args: &[Expr], x: &Expr) -> Result<Expr> {
    let kind = &x.data_type.kind;
    if kind.is_string() || *kind == TypeKind::Null {
        return implicit_cast(x.clone(), &TypeKind::Timestamp(3));
    }
    let interval = super::arithmetic::is_interval(kind) && name == "EXTRACT";
    if kind.is_timestamp() || matches!(kind, TypeKind::Date | TypeKind::Time(_)) || interval {
        return Ok(x.clone());
    }
    Err(mismatch(name, args, "a DATE, TIME or TIMESTAMP"))
}

fn floor_ceil(name: &str, args: &[Expr]) -> Result<Expr> {
    let name = if name == "CEILING" { "CEIL" } else { name };
    match args {
        [a] if a.data_type.kind.is_numeric() => {
            let data_type = match a.data_type.kind {
                TypeKind::Decimal(p, s) if s > 0 => {
                    DataType { kind: TypeKind::Decimal(p, 0), nullable: a.data_type.nullable }
                }
                _ => a.data_type.clone(),
            };
            Ok(Expr::call(name, vec![a.clone()], data_type))
        }
        [a, unit] if !a.data_type.kind.is_numeric() => {
            let unit = unit_literal(name, args, unit)?;
            let a = temporal(name, args, a)?;
            let data_type = a.data_type.clone();
            Ok(Expr::call(name, vec![a, unit], data_type))
        }
        _ => Err(mismatch(name, args, "a number, or a time and TO unit")),
    }
}

fn round(name: &str, args: &[Expr]) -> Result<Expr> {
    let a = &args[0];
    let digits = match args.get(1) {
        Some(e) if e.data_type.kind.is_integer() => implicit_cast(e.clone(), &TypeKind::Int)?,
        Some(_) => return Err(mismatch(name, args, expected(name))),
        None => Expr::literal(Literal::Int(0), TypeKind::Int.not_null()),
    };
    let constant = match super::constant_fold(&digits).kind {
        ExprKind::Literal(Literal::Int(d)) => i32::try_from(d).ok(),
        _ => None,
    };
    let kind = match (&a.data_type.kind, constant) {
        (TypeKind::Decimal(p, s), Some(d)) => round_result(*p, *s, d),
        (kind, _) if kind.is_numeric() => kind.clone(),
        _ => return Err(mismatch(name, args, expected(name))),
    };
    let nullable = any_nullable(args);
    Ok(Expr::call(name, vec![a.clone(), digits], DataType { kind, nullable }))
}

fn timestamp_diff(args: &[Expr], unit: &Expr, a: &Expr, b: &Expr) -> Result<Expr> {
    let unit = unit_literal("TIMESTAMPDIFF", args, unit)?;
    let (a, b) = (temporal("TIMESTAMPDIFF", args, a)?, temporal("TIMESTAMPDIFF", args, b)?);
    let Some((a, b)) = comparable(&a, &b)? else {
        return Err(mismatch("TIMESTAMPDIFF", args, "two times that can be compared"));
    };
    let nullable = any_nullable(args);
    Ok(Expr::call("TIMESTAMPDIFF", vec![unit, a, b], DataType { kind: TypeKind::Int, nullable }))
}

fn timestamp_add(args: &[Expr], unit: &Expr, n: &Expr, t: &Expr) -> Result<Expr> {
    let unit = unit_literal("TIMESTAMPADD", args, unit)?;
    if !n.data_type.kind.is_integer() {
        return Err(mismatch("TIMESTAMPADD", args, expected("TIMESTAMPADD")));
    }
    let t = temporal("TIMESTAMPADD", args, t)?;
    let is_unit =
        |units: &[&str]| matches!(&unit.kind, ExprKind::Literal(Literal::String(s)) if units.contains(&s.as_str()));
    let least = if is_unit(&["MILLISECOND"]) { 3 } else { 0 };
    let kind = match t.data_type.kind {
        TypeKind::Date if is_unit(&["HOUR", "MINUTE", "SECOND", "MILLISECOND"]) => TypeKind::Timestamp(6),
        TypeKind::Timestamp(p) => TypeKind::Timestamp(p.max(least)),
        TypeKind::TimestampLtz(p) => TypeKind::TimestampLtz(p.max(least)),
        ref other => other.clone(),
    };
    let nullable = any_nullable(args);
    let call = vec![unit, implicit_cast(n.clone(), &TypeKind::BigInt)?, implicit_cast(t, &kind)?];
    Ok(Expr::call("TIMESTAMPADD", call, DataType { kind, nullable }))
}

fn to_timestamp_ltz(args: &[Expr], x: &Expr, rest: &[Expr]) -> Result<Expr> {
    let name = "TO_TIMESTAMP_LTZ";
    if x.data_type.kind.is_string() && rest.iter().all(|p| p.data_type.kind.is_string()) {
        return Ok(Expr::call(name, args.to_vec(), TypeKind::TimestampLtz(3).nullable()));
    }
    let precision = match rest {
        [] => 3,
        [Expr { kind: ExprKind::Literal(Literal::Int(p @ 0..=9)), .. }] => *p,
        _ => return Err(mismatch(name, args, expected(name))),
    };
    let x = match &x.data_type.kind {
        kind if kind.is_integer() || *kind == TypeKind::Null => implicit_cast(x.clone(), &TypeKind::BigInt)?,
        kind if kind.is_numeric() => implicit_cast(x.clone(), &TypeKind::Double)?,
        _ => return Err(mismatch(name, args, expected(name))),
    };
    let kind = TypeKind::TimestampLtz((precision as u8).max(3));
    let precision = Expr::literal(Literal::Int(precision), TypeKind::Int.not_null());
    Ok(Expr::call(name, vec![x, precision], kind.nullable()))
}
