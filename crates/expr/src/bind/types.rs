//! Common types of branches and unions, and the DECIMAL rules of arithmetic, as in Flink's `LogicalTypeMerging`; never touches values.

use flott_core::types::{DataType, TypeKind};

/// The type all of `types` are cast to in CASE, UNION and VALUES; `None` when there is none. Of FLOAT and DOUBLE the first counts, as in
/// Flink, which knows no difference in precision between them.
pub fn common_type(types: &[DataType]) -> Option<DataType> {
    let nullable = types.iter().any(|t| t.nullable || t.kind == TypeKind::Null);
    let mut kinds = types.iter().map(|t| &t.kind);
    let first = kinds.next()?.clone();
    let kind = kinds.try_fold(first, |a, b| common_kind(&a, b))?;
    Some(DataType { kind, nullable })
}

/// [`common_type`] for COALESCE, GREATEST and LEAST, where FLOAT and DOUBLE give DOUBLE.
pub(crate) fn widest_type(types: &[DataType]) -> Option<DataType> {
    let common = common_type(types)?;
    let double = common.kind == TypeKind::Float && types.iter().any(|t| t.kind == TypeKind::Double);
    Some(if double { DataType { kind: TypeKind::Double, ..common } } else { common })
}

/// [`common_type`] of two types.
pub(crate) fn common_kind(a: &TypeKind, b: &TypeKind) -> Option<TypeKind> {
    use TypeKind::*;
    if a == b {
        return Some(a.clone());
    }
    Some(match (a, b) {
        (Null, t) | (t, Null) => t.clone(),
        (Char(n) | VarChar(n), Char(m) | VarChar(m)) => VarChar(*n.max(m)),
        (Binary(n) | VarBinary(n), Binary(m) | VarBinary(m)) => VarBinary(*n.max(m)),
        (Date, t @ (Timestamp(_) | TimestampLtz(_))) | (t @ (Timestamp(_) | TimestampLtz(_)), Date) => t.clone(),
        (Time(p), Time(q)) => Time(*p.max(q)),
        (Timestamp(p), Timestamp(q)) => Timestamp(*p.max(q)),
        (TimestampLtz(p) | Timestamp(p), TimestampLtz(q) | Timestamp(q)) => TimestampLtz(*p.max(q)),
        (Array(x), Array(y)) => Array(Box::new(common_element(x, y)?)),
        (Map(k, v), Map(l, w)) => Map(Box::new(common_element(k, l)?), Box::new(common_element(v, w)?)),
        (Row(x), Row(y)) if x.len() == y.len() => {
            let fields = x.iter().zip(y).map(|((n, s), (_, t))| Some((n.clone(), common_element(s, t)?)));
            Row(fields.collect::<Option<Vec<_>>>()?)
        }
        _ if a.is_numeric() && b.is_numeric() => common_numeric(a, b)?,
        _ => return None,
    })
}

fn common_element(a: &DataType, b: &DataType) -> Option<DataType> {
    Some(DataType { kind: common_kind(&a.kind, &b.kind)?, nullable: a.nullable || b.nullable })
}

fn common_numeric(a: &TypeKind, b: &TypeKind) -> Option<TypeKind> {
    let decimal = matches!(a, TypeKind::Decimal(..)) || matches!(b, TypeKind::Decimal(..));
    let approximate = |t: &TypeKind| matches!(t, TypeKind::Float | TypeKind::Double);
    if approximate(a) || approximate(b) {
        let first = if approximate(a) { a } else { b };
        return Some(if decimal { TypeKind::Double } else { first.clone() });
    }
    if decimal {
        let ((p1, s1), (p2, s2)) = (as_decimal(a)?, as_decimal(b)?);
        let scale = s1.max(s2);
        return Some(adjusted(i32::from((p1 - s1).max(p2 - s2)) + i32::from(scale), i32::from(scale)));
    }
    Some(if rank(a) >= rank(b) { a.clone() } else { b.clone() })
}

fn rank(kind: &TypeKind) -> u8 {
    match kind {
        TypeKind::TinyInt => 0,
        TypeKind::SmallInt => 1,
        TypeKind::Int => 2,
        _ => 3,
    }
}

/// Precision and scale of an exact number seen as DECIMAL.
pub(crate) fn as_decimal(kind: &TypeKind) -> Option<(u8, u8)> {
    Some(match kind {
        TypeKind::TinyInt => (3, 0),
        TypeKind::SmallInt => (5, 0),
        TypeKind::Int => (10, 0),
        TypeKind::BigInt => (19, 0),
        TypeKind::Decimal(p, s) => (*p, *s),
        _ => return None,
    })
}

/// Cuts a precision above 38 to 38, keeping six digits of scale at least where there are as many.
fn adjusted(precision: i32, scale: i32) -> TypeKind {
    if precision <= 38 {
        return TypeKind::Decimal(precision as u8, scale as u8);
    }
    let whole = precision - scale;
    TypeKind::Decimal(38, (38 - whole).max(scale.min(6)) as u8)
}

/// Type of `a op b` for exact numbers of which one at least is DECIMAL.
pub(crate) fn decimal_result(operator: &str, a: (u8, u8), b: (u8, u8)) -> TypeKind {
    let (p1, s1, p2, s2) = (i32::from(a.0), i32::from(a.1), i32::from(b.0), i32::from(b.1));
    match operator {
        "*" => adjusted(p1 + p2 + 1, s1 + s2),
        "/" => {
            let scale = (s1 + p2 + 1).max(6);
            adjusted(p1 - s1 + s2 + scale, scale)
        }
        "%" => {
            let scale = s1.max(s2);
            adjusted((p1 - s1).min(p2 - s2) + scale, scale)
        }
        _ => {
            let scale = s1.max(s2);
            adjusted((p1 - s1).max(p2 - s2) + scale + 1, scale)
        }
    }
}

/// Type of ROUND(DECIMAL(p, s), digits).
pub(crate) fn round_result(precision: u8, scale: u8, digits: i32) -> TypeKind {
    let (p, s) = (i32::from(precision), i32::from(scale));
    if digits >= s {
        TypeKind::Decimal(precision, scale)
    } else if digits < 0 {
        TypeKind::Decimal((1 + p - s).min(38) as u8, 0)
    } else {
        TypeKind::Decimal((1 + p - s + digits).min(38) as u8, digits as u8)
    }
}
