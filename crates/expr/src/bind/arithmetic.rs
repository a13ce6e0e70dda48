//! Types of `+ - * / %`, comparisons and temporal arithmetic, with their implicit casts; never computes.

use flott_core::Result;
use flott_core::types::{DataType, TypeKind};
use flott_plan::expr::{Expr, ExprKind, Literal};

use super::types::{as_decimal, common_kind, decimal_result};
use super::{any_nullable, implicit_cast, mismatch};

/// `a op b` with `op` one of `+ - * / %`.
pub(super) fn bind_binary(operator: &str, args: &[Expr]) -> Result<Expr> {
    let (a, b) = (&args[0], &args[1]);
    let nullable = any_nullable(args);
    let call = |a: Expr, b: Expr, kind: TypeKind, nullable: bool| {
        Ok(Expr::call(operator, vec![a, b], DataType { kind, nullable }))
    };
    if let Some(kind) = temporal_result(operator, &a.data_type.kind, &b.data_type.kind) {
        // The kernel takes the point in time first and the interval second.
        let swap = operator == "+" && is_interval(&a.data_type.kind) && !is_interval(&b.data_type.kind)
            || operator == "*" && is_interval(&b.data_type.kind);
        let (a, b) = if swap { (b, a) } else { (a, b) };
        let b =
            if operator == "*" || operator == "/" { implicit_cast(b.clone(), &TypeKind::BigInt)? } else { b.clone() };
        let a = if operator == "-" && !is_interval(&b.data_type.kind) {
            let point = common_kind(&a.data_type.kind, &b.data_type.kind).unwrap_or(TypeKind::Timestamp(3));
            return call(implicit_cast(a.clone(), &point)?, implicit_cast(b, &point)?, kind, nullable);
        } else {
            a.clone()
        };
        return call(a, b, kind, nullable);
    }
    let (a, b) = (numeric_operand(a, b)?, numeric_operand(b, a)?);
    let (x, y) = (&a.data_type.kind, &b.data_type.kind);
    if !x.is_numeric() || !y.is_numeric() {
        return Err(mismatch(&format!("'{operator}'"), args, "two numbers, or a time and an interval"));
    }
    let is_decimal = |k: &TypeKind| matches!(k, TypeKind::Decimal(..));
    if let (true, Some(p), Some(q)) = (is_decimal(x) || is_decimal(y), as_decimal(x), as_decimal(y)) {
        let kind = decimal_result(operator, p, q);
        let (a, b) = (implicit_cast(a, &TypeKind::Decimal(p.0, p.1))?, implicit_cast(b, &TypeKind::Decimal(q.0, q.1))?);
        // An overflow is NULL, but as in Flink the type does not say so: a sink refuses it where it is NOT NULL.
        return call(a, b, kind, nullable);
    }
    let common = common_kind(x, y).ok_or_else(|| mismatch(operator, args, "two numbers"))?;
    let result = if operator == "%" && x.is_integer() && y.is_integer() { y.clone() } else { common.clone() };
    let bound = call(implicit_cast(a, &common)?, implicit_cast(b, &common)?, common, nullable)?;
    implicit_cast(bound, &result)
}

/// A bare NULL takes the type of the other side; a string literal beside a number is read as DOUBLE.
fn numeric_operand(expr: &Expr, other: &Expr) -> Result<Expr> {
    match &expr.data_type.kind {
        TypeKind::Null if other.data_type.kind.is_numeric() => implicit_cast(expr.clone(), &other.data_type.kind),
        TypeKind::Null => implicit_cast(expr.clone(), &TypeKind::Int),
        kind if kind.is_string() && other.data_type.kind.is_numeric() && is_literal(expr) => {
            implicit_cast(expr.clone(), &TypeKind::Double)
        }
        _ => Ok(expr.clone()),
    }
}

fn is_literal(expr: &Expr) -> bool {
    matches!(expr.kind, ExprKind::Literal(Literal::String(_)))
}

pub(super) fn is_interval(kind: &TypeKind) -> bool {
    matches!(kind, TypeKind::IntervalDayTime | TypeKind::IntervalYearMonth)
}

fn temporal_result(operator: &str, a: &TypeKind, b: &TypeKind) -> Option<TypeKind> {
    use TypeKind::*;
    let point = |k: &TypeKind| k.is_timestamp() || matches!(k, Date | Time(_));
    match operator {
        // As in Flink also where the type has no room for the interval's fractions.
        "+" | "-" if point(a) && is_interval(b) => Some(a.clone()),
        "+" if is_interval(a) && point(b) => Some(b.clone()),
        "+" | "-" if is_interval(a) && a == b => Some(a.clone()),
        "-" if point(a) && point(b) && common_kind(a, b).is_some() => Some(IntervalDayTime),
        "*" | "/" if is_interval(a) && b.is_integer() => Some(a.clone()),
        "*" if a.is_integer() && is_interval(b) => Some(b.clone()),
        _ => None,
    }
}

/// `a op b` with `op` a comparison.
pub(super) fn bind_comparison(operator: &str, args: &[Expr]) -> Result<Expr> {
    let nullable = any_nullable(args) && !operator.starts_with("IS ");
    if let Some((a, b)) = float_and_double(operator, &args[0], &args[1])? {
        return Ok(Expr::call(operator, vec![a, b], DataType { kind: TypeKind::Boolean, nullable }));
    }
    let Some((a, b)) = comparable(&args[0], &args[1])? else {
        return Err(mismatch(&format!("'{operator}'"), args, "two values of comparable types").hint("cast one side"));
    };
    let ordered = !matches!(operator, "=" | "<>") && !operator.starts_with("IS ");
    if ordered && matches!(a.data_type.kind, TypeKind::Array(_) | TypeKind::Map(..) | TypeKind::Row(_)) {
        return Err(mismatch(&format!("'{operator}'"), args, "values with an order"));
    }
    Ok(Expr::call(operator, vec![a, b], DataType { kind: TypeKind::Boolean, nullable }))
}

/// FLOAT beside DOUBLE: as in Flink `=` and `<>` compare as the first side's type, or as FLOAT with a constant; others compare as DOUBLE.
fn float_and_double(operator: &str, a: &Expr, b: &Expr) -> Result<Option<(Expr, Expr)>> {
    let kind = match (&a.data_type.kind, &b.data_type.kind) {
        (TypeKind::Float, TypeKind::Double) | (TypeKind::Double, TypeKind::Float) => match operator {
            "<" | "<=" | ">" | ">=" => TypeKind::Double,
            _ if matches!(a.kind, ExprKind::Literal(_)) => TypeKind::Float,
            _ => a.data_type.kind.clone(),
        },
        _ => return Ok(None),
    };
    Ok(Some((implicit_cast(a.clone(), &kind)?, implicit_cast(b.clone(), &kind)?)))
}

/// Both sides cast to where they can be compared.
pub(super) fn comparable(a: &Expr, b: &Expr) -> Result<Option<(Expr, Expr)>> {
    let (x, y) = (&a.data_type.kind, &b.data_type.kind);
    if x.is_string() && y.is_string() || matches!((x, y), (TypeKind::Decimal(..), TypeKind::Decimal(..))) {
        return Ok(Some((a.clone(), b.clone())));
    }
    let decimal = matches!(x, TypeKind::Decimal(..)) || matches!(y, TypeKind::Decimal(..));
    if let (true, Some((p, s)), Some((q, t))) = (decimal, as_decimal(x), as_decimal(y)) {
        let a = implicit_cast(a.clone(), &TypeKind::Decimal(p, s))?;
        return Ok(Some((a, implicit_cast(b.clone(), &TypeKind::Decimal(q, t))?)));
    }
    if let Some(common) = common_kind(x, y) {
        let common = if common == TypeKind::Null { TypeKind::Boolean } else { common };
        return Ok(Some((implicit_cast(a.clone(), &common)?, implicit_cast(b.clone(), &common)?)));
    }
    let scalar = |k: &TypeKind| {
        k.is_numeric() || k.is_timestamp() || matches!(k, TypeKind::Boolean | TypeKind::Date | TypeKind::Time(_))
    };
    // A string beside another scalar is read as that scalar.
    if x.is_string() && scalar(y) {
        return Ok(Some((implicit_cast(a.clone(), &string_target(y))?, implicit_cast(b.clone(), &string_target(y))?)));
    }
    if y.is_string() && scalar(x) {
        return Ok(Some((implicit_cast(a.clone(), &string_target(x))?, implicit_cast(b.clone(), &string_target(x))?)));
    }
    Ok(None)
}

fn string_target(kind: &TypeKind) -> TypeKind {
    match kind {
        k if k.is_integer() => TypeKind::BigInt,
        other => other.clone(),
    }
}
