//! Functions whose parameters are of many types or any number: TYPEOF, ELT, PRINTF, HEX, OVERLAPS, BETWEEN SYMMETRIC; never evaluates.

use flott_core::Result;
use flott_core::types::{DataType, MAX_LENGTH, TypeKind};
use flott_plan::expr::{Expr, ExprKind, Literal};

use super::arithmetic::{bind_binary, bind_comparison, comparable, is_interval};
use super::{any_nullable, bind_call, bind_case, common_type, implicit_cast, mismatch};

/// Names bound here.
pub(super) const NAMES: &[&str] = &["BETWEEN SYMMETRIC", "ELT", "HEX", "OVERLAPS", "PRINTF", "TYPEOF"];

/// `None` when `name` is not one of [`NAMES`].
pub(super) fn bind(name: &str, args: &[Expr]) -> Result<Option<Expr>> {
    let string = |nullable| DataType { kind: TypeKind::STRING, nullable };
    Ok(Some(match (name, args) {
        ("TYPEOF", [x]) => text_literal(x.data_type.to_string()),
        ("TYPEOF", [x, full]) => match full.kind {
            ExprKind::Literal(Literal::Boolean(true)) => text_literal(serializable(&x.data_type)),
            ExprKind::Literal(Literal::Boolean(false)) => text_literal(x.data_type.to_string()),
            _ => return Err(mismatch(name, args, "a value and, if wanted, the constant TRUE or FALSE")),
        },
        ("ELT", [index, values @ ..]) if index.data_type.kind.is_integer() && !values.is_empty() => {
            elt(args, index, values)?
        }
        ("PRINTF", [format, values @ ..]) if format.data_type.kind.is_string() => {
            let values = values.iter().map(|v| match v.data_type.kind {
                TypeKind::Null => implicit_cast(v.clone(), &TypeKind::STRING),
                _ => Ok(v.clone()),
            });
            let all = std::iter::once(Ok(format.clone())).chain(values).collect::<Result<Vec<_>>>()?;
            Expr::call(name, all, string(true))
        }
        ("HEX", [x]) if x.data_type.kind.is_integer() => {
            Expr::call(name, vec![implicit_cast(x.clone(), &TypeKind::BigInt)?], string(x.data_type.nullable))
        }
        ("HEX", [x]) if x.data_type.kind.is_string() => Expr::call(name, args.to_vec(), string(x.data_type.nullable)),
        ("BETWEEN SYMMETRIC", [x, a, b]) => {
            let within = |low: &Expr, high: &Expr| {
                let above = bind_comparison(">=", &[x.clone(), low.clone()])?;
                bind_call("AND", vec![above, bind_comparison("<=", &[x.clone(), high.clone()])?])
            };
            bind_call("OR", vec![within(a, b)?, within(b, a)?])?
        }
        ("OVERLAPS", [a, b, c, d]) => overlaps(args, [a, b], [c, d])?,
        _ if NAMES.contains(&name) => return Err(mismatch(name, args, expected(name))),
        _ => return Ok(None),
    }))
}

fn expected(name: &str) -> &'static str {
    match name {
        "ELT" => "an integer and texts or binary values",
        "PRINTF" => "a format and its values",
        "HEX" => "an integer or a string",
        "OVERLAPS" => "(a time, a time or an interval) OVERLAPS (a time, a time or an interval)",
        _ => "one value",
    }
}

fn text_literal(text: String) -> Expr {
    Expr::literal(Literal::String(text), TypeKind::STRING.nullable())
}

/// The type as DDL takes it: `VARCHAR(2147483647)` for STRING.
fn serializable(data_type: &DataType) -> String {
    let kind = match &data_type.kind {
        TypeKind::VarChar(MAX_LENGTH) => format!("VARCHAR({MAX_LENGTH})"),
        TypeKind::VarBinary(MAX_LENGTH) => format!("VARBINARY({MAX_LENGTH})"),
        TypeKind::TimestampLtz(p) => format!("TIMESTAMP({p}) WITH LOCAL TIME ZONE"),
        TypeKind::Array(t) => format!("ARRAY<{}>", serializable(t)),
        TypeKind::Map(k, v) => format!("MAP<{}, {}>", serializable(k), serializable(v)),
        TypeKind::Row(fields) => {
            let fields: Vec<String> = fields.iter().map(|(n, t)| format!("`{n}` {}", serializable(t))).collect();
            format!("ROW<{}>", fields.join(", "))
        }
        other => other.to_string(),
    };
    kind + if data_type.nullable { "" } else { " NOT NULL" }
}

fn elt(args: &[Expr], index: &Expr, values: &[Expr]) -> Result<Expr> {
    let binary = |k: &TypeKind| matches!(k, TypeKind::Binary(_) | TypeKind::VarBinary(_));
    let types: Vec<DataType> = values.iter().map(|v| v.data_type.clone()).collect();
    let Some(common) = common_type(&types).filter(|t| t.kind.is_string() || binary(&t.kind)) else {
        return Err(mismatch("ELT", args, expected("ELT")));
    };
    let mut all = vec![implicit_cast(index.clone(), &TypeKind::Int)?];
    for value in values {
        all.push(implicit_cast(value.clone(), &common.kind)?);
    }
    Ok(Expr::call("ELT", all, common.kind.nullable()))
}

/// As Calcite: the ends belong to the periods, and either end may come first.
fn overlaps(args: &[Expr], first: [&Expr; 2], second: [&Expr; 2]) -> Result<Expr> {
    let period = |[start, end]: [&Expr; 2]| -> Result<(Expr, Expr)> {
        let end = match is_interval(&end.data_type.kind) {
            true => bind_binary("+", &[start.clone(), end.clone()])?,
            false => end.clone(),
        };
        let Some((start, end)) = comparable(start, &end)? else {
            return Err(mismatch("OVERLAPS", args, expected("OVERLAPS")));
        };
        let ordered = bind_comparison("<=", &[start.clone(), end.clone()])?;
        let low = bind_case(vec![(ordered.clone(), start.clone())], Some(end.clone()))?;
        Ok((low, bind_case(vec![(ordered, end)], Some(start))?))
    };
    if any_nullable(args) && args.iter().any(|a| a.data_type.kind == TypeKind::Null) {
        return Err(mismatch("OVERLAPS", args, expected("OVERLAPS")));
    }
    let ((s0, e0), (s1, e1)) = (period(first)?, period(second)?);
    bind_call("AND", vec![bind_comparison(">=", &[e0, s1])?, bind_comparison(">=", &[e1, s0])?])
}
