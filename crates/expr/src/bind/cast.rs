//! Which casts exist, explicit and implicit, and which result types they have; never converts a value.

use flott_core::types::{DataType, TypeKind};
use flott_core::{Error, Result};
use flott_plan::expr::{Expr, ExprKind, Literal};

/// CAST (`safe`: TRY_CAST, which gives NULL where CAST fails). Pairs without a conversion are refused.
pub fn bind_cast(expr: Expr, to: DataType, safe: bool) -> Result<Expr> {
    let from = &expr.data_type;
    if !castable(&from.kind, &to.kind) {
        let error = Error::user("sql.cast", format!("cannot cast {} to {}", from.kind, to.kind))
            .detail(format!("the value is {expr}"));
        return Err(match (&from.kind, &to.kind) {
            (f, t) if f.is_numeric() && t.is_timestamp() => error.hint("use TO_TIMESTAMP_LTZ(number, precision)"),
            (f, t) if f.is_timestamp() && t.is_numeric() => {
                error.hint("use UNIX_TIMESTAMP(CAST(x AS STRING)) or EXTRACT")
            }
            _ => error,
        });
    }
    if from.kind == TypeKind::Variant && !to.kind.is_string() && to.kind != TypeKind::Variant {
        return Ok(Expr::call("$VARIANT_CAST", vec![expr], to.kind.nullable()));
    }
    // A failed TRY_CAST is NULL. So is a DECIMAL that does not fit its target, but as in Flink the type does not say so.
    let nullable = from.nullable || safe;
    let data_type = DataType { kind: to.kind, nullable };
    if expr.data_type.kind == data_type.kind {
        return Ok(Expr { data_type: expr.data_type.clone(), ..expr });
    }
    if let ExprKind::Literal(Literal::Null) = expr.kind {
        return Ok(Expr::literal(Literal::Null, data_type.with_nullable(true)));
    }
    Ok(Expr { kind: ExprKind::Cast { input: Box::new(expr), safe }, data_type })
}

/// Whether a value may be stored in a column of another type without an explicit CAST (INSERT INTO).
pub fn is_implicit_cast(from: &TypeKind, to: &TypeKind) -> bool {
    use TypeKind::*;
    match (from, to) {
        (a, b) if a == b => true,
        (Null, _) => true,
        (a, b) if a.is_numeric() && b.is_numeric() => true,
        (Char(_) | VarChar(_), Char(_) | VarChar(_)) => true,
        (Binary(_) | VarBinary(_), Binary(_) | VarBinary(_)) => true,
        (Date | Timestamp(_) | TimestampLtz(_), Timestamp(_) | TimestampLtz(_)) => true,
        (Timestamp(_) | TimestampLtz(_), Date | Time(_)) => true,
        (Time(_), Time(_)) => true,
        (Array(a), Array(b)) => is_implicit_cast(&a.kind, &b.kind),
        (Map(k, v), Map(l, w)) => is_implicit_cast(&k.kind, &l.kind) && is_implicit_cast(&v.kind, &w.kind),
        (Row(a), Row(b)) => a.len() == b.len() && a.iter().zip(b).all(|(x, y)| is_implicit_cast(&x.1.kind, &y.1.kind)),
        _ => false,
    }
}

fn castable(from: &TypeKind, to: &TypeKind) -> bool {
    use TypeKind::*;
    match (from, to) {
        (a, b) if a == b => true,
        (Null, _) => true,
        (_, Null) => false,
        (_, Char(_) | VarChar(_)) => true,
        (Char(_) | VarChar(_), b) => {
            b.is_numeric() || b.is_timestamp() || matches!(b, Boolean | Date | Time(_) | Binary(_) | VarBinary(_))
        }
        (Boolean, b) => b.is_numeric(),
        (a, Boolean) => a.is_numeric(),
        (a, b) if a.is_numeric() && b.is_numeric() => true,
        (a, IntervalDayTime | IntervalYearMonth) | (IntervalDayTime | IntervalYearMonth, a) => a.is_integer(),
        (Binary(_) | VarBinary(_), Binary(_) | VarBinary(_)) => true,
        (Date | Timestamp(_) | TimestampLtz(_), Date | Timestamp(_) | TimestampLtz(_)) => true,
        (Timestamp(_) | TimestampLtz(_) | Time(_), Time(_)) => true,
        (Array(a), Array(b)) | (Multiset(a), Multiset(b)) => castable(&a.kind, &b.kind),
        (Map(k, v), Map(l, w)) => castable(&k.kind, &l.kind) && castable(&v.kind, &w.kind),
        (Variant, b) => b.is_numeric() || b.is_timestamp() || matches!(b, Boolean | Date),
        (Bitmap, Binary(_) | VarBinary(_)) | (Binary(_) | VarBinary(_), Bitmap) => true,
        (Row(a), Row(b)) => a.len() == b.len() && a.iter().zip(b).all(|(x, y)| castable(&x.1.kind, &y.1.kind)),
        _ => false,
    }
}
