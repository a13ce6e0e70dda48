//! Literals with Flink's types: numbers, strings, dates, times, intervals. Never reads columns.

use flott_core::error::Position;
use flott_core::text::{parse_date, parse_time, parse_timestamp_units};
use flott_core::types::{DataType, TypeKind};
use flott_core::{Error, Result};
use flott_plan::{Expr, Literal};
use sqlparser::ast::{
    DataType as SqlType, DateTimeField, Expr as SqlExpr, Interval, TypedString, UnaryOperator, Value, ValueWithSpan,
};

use crate::diag::{place, position, unsupported};

const DAY_MS: i64 = 86_400_000;

/// A string constant: CHAR(n) NOT NULL.
pub(crate) fn string(text: &str) -> Expr {
    let length = u32::try_from(text.chars().count()).unwrap_or(u32::MAX);
    Expr::literal(Literal::String(text.to_owned()), TypeKind::Char(length).not_null())
}

/// A plain literal.
pub(crate) fn value(v: &ValueWithSpan) -> Result<Expr> {
    let at = position(v.span);
    match &v.value {
        Value::Number(text, _) => number(text, at),
        Value::SingleQuotedString(s) | Value::UnicodeStringLiteral(s) => Ok(string(s)),
        Value::Boolean(b) => Ok(Expr::boolean(*b)),
        Value::Null => Ok(Expr::literal(Literal::Null, TypeKind::Null.nullable())),
        Value::HexStringLiteral(hex) => bytes(hex, at),
        Value::DoubleQuotedString(s) => {
            let error = Error::user("sql.parse", format!("\"{s}\" is neither a string nor a name in Flink's dialect"));
            Err(place(error.hint("strings take 'single quotes', names take `backticks`"), at))
        }
        _ => Err(unsupported("this kind of literal", at)),
    }
}

fn bytes(hex: &str, at: Option<Position>) -> Result<Expr> {
    let parsed: Option<Vec<u8>> = (hex.len().is_multiple_of(2) && hex.is_ascii())
        .then(|| (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).ok()).collect())
        .flatten();
    match parsed {
        Some(b) => {
            let length = u32::try_from(b.len()).unwrap_or(u32::MAX);
            Ok(Expr::literal(Literal::Bytes(b), TypeKind::Binary(length).not_null()))
        }
        None => Err(place(Error::user("sql.literal", format!("X'{hex}' is not an even number of hex digits")), at)),
    }
}

/// INT or BIGINT by size, DECIMAL with a point or beyond BIGINT, DOUBLE with an exponent.
fn number(text: &str, at: Option<Position>) -> Result<Expr> {
    let bad = || place(Error::user("sql.literal", format!("`{text}` is not a number")), at);
    if text.contains(['e', 'E']) {
        let d: f64 = text.parse().map_err(|_| bad())?;
        return Ok(Expr::literal(Literal::Double(d), TypeKind::Double.not_null()));
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.is_empty()
        && let Ok(i) = whole.parse::<i64>()
    {
        let kind = if i32::try_from(i).is_ok() { TypeKind::Int } else { TypeKind::BigInt };
        return Ok(Expr::literal(Literal::Int(i), kind.not_null()));
    }
    let digits = format!("{whole}{fraction}");
    let unscaled: i128 = digits.parse().map_err(|_| bad())?;
    let too_long = || {
        let error = Error::user("sql.literal", format!("`{text}` has more than the 38 digits of DECIMAL"));
        place(error.hint("write it with an exponent for a DOUBLE"), at)
    };
    // As Calcite: the precision counts every digit written, a leading zero too.
    let precision = u8::try_from(digits.len()).ok().filter(|p| *p <= 38).ok_or_else(too_long)?;
    let scale = u8::try_from(fraction.len()).map_err(|_| too_long())?;
    Ok(Expr::literal(Literal::Decimal(unscaled), TypeKind::Decimal(precision.max(1), scale).not_null()))
}

/// `DATE '…'`, `TIME '…'`, `TIMESTAMP '…'`.
pub(crate) fn typed_string(t: &TypedString) -> Result<Expr> {
    let at = position(t.value.span);
    let Value::SingleQuotedString(text) = &t.value.value else {
        return Err(place(Error::user("sql.literal", "expected a string in single quotes"), at));
    };
    let bad = |form: &str| {
        place(Error::user("sql.literal", format!("'{text}' is not a {} literal", t.data_type)).detail(form), at)
    };
    let (value, kind) = match &t.data_type {
        SqlType::Date => (parse_date(text).ok_or_else(|| bad("expected 'yyyy-MM-dd'"))?, TypeKind::Date),
        SqlType::Time(..) => {
            let nanos = parse_time(text).ok_or_else(|| bad("expected 'HH:mm:ss[.SSS]'"))?;
            (nanos / 1_000_000, TypeKind::Time(fraction_digits(text).min(3)))
        }
        SqlType::Timestamp(..) => {
            let precision = fraction_digits(text);
            let value =
                parse_timestamp_units(text, precision).ok_or_else(|| bad("expected 'yyyy-MM-dd HH:mm:ss[.SSS]'"))?;
            (value, TypeKind::Timestamp(precision))
        }
        other => return Err(unsupported(&format!("a literal of type {other}"), at)),
    };
    Ok(Expr::literal(Literal::Int(value), kind.not_null()))
}

fn fraction_digits(text: &str) -> u8 {
    let digits = text.rsplit_once('.').map_or(0, |(_, f)| f.len());
    u8::try_from(digits).unwrap_or(9).min(9)
}

/// An interval literal: milliseconds, or months.
pub(crate) fn interval(i: &Interval, fallback: Option<Position>) -> Result<Expr> {
    let (text, negative, at) = match i.value.as_ref() {
        SqlExpr::Value(v) => (literal_text(v), false, position(v.span)),
        SqlExpr::UnaryOp { op: UnaryOperator::Minus, expr } => match expr.as_ref() {
            SqlExpr::Value(v) => (literal_text(v), true, position(v.span)),
            _ => (None, true, fallback),
        },
        _ => (None, false, fallback),
    };
    let at = at.or(fallback);
    let Some(text) = text else {
        let error = Error::user("sql.literal", "an INTERVAL takes a string, as in INTERVAL '10' MINUTE");
        return Err(place(error, at));
    };
    let Some(first) = i.leading_field.as_ref().and_then(unit) else {
        let units = "YEAR, QUARTER, MONTH, WEEK, DAY, HOUR, MINUTE or SECOND";
        let error = Error::user("sql.literal", format!("INTERVAL '{text}' needs a unit: {units}"));
        return Err(place(error, at));
    };
    let last = match &i.last_field {
        Some(f) => unit(f),
        None => Some(first),
    };
    let bad = || {
        let units = last.filter(|l| *l != first).map_or(format!("{first:?}"), |l| format!("{first:?} TO {l:?}"));
        let error = Error::user("sql.literal", format!("'{text}' is not an interval of {}", units.to_uppercase()));
        place(
            error.hint(
                "as in INTERVAL '10' MINUTE, INTERVAL '1:30' HOUR TO MINUTE, INTERVAL '1 02:03:04.5' DAY TO SECOND",
            ),
            at,
        )
    };
    let last = last.ok_or_else(bad)?;
    let amount = interval_amount(&text, first, last).ok_or_else(bad)?;
    let amount = if negative { -amount } else { amount };
    let kind = if first.is_month() { TypeKind::IntervalYearMonth } else { TypeKind::IntervalDayTime };
    if kind == TypeKind::IntervalYearMonth && i32::try_from(amount).is_err() {
        return Err(bad());
    }
    Ok(Expr::literal(Literal::Int(amount), DataType { kind, nullable: false }))
}

fn literal_text(v: &ValueWithSpan) -> Option<String> {
    match &v.value {
        Value::SingleQuotedString(s) => Some(s.trim().to_owned()),
        _ => None,
    }
}

/// Units in the order of their fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Unit {
    Year,
    Quarter,
    Month,
    Week,
    Day,
    Hour,
    Minute,
    Second,
}

impl Unit {
    fn is_month(self) -> bool {
        self <= Unit::Month
    }
    /// In months or milliseconds.
    fn factor(self) -> i64 {
        match self {
            Unit::Year => 12,
            Unit::Quarter => 3,
            Unit::Month => 1,
            Unit::Week => 7 * DAY_MS,
            Unit::Day => DAY_MS,
            Unit::Hour => 3_600_000,
            Unit::Minute => 60_000,
            Unit::Second => 1_000,
        }
    }
}

fn unit(f: &DateTimeField) -> Option<Unit> {
    use DateTimeField as F;
    Some(match f {
        F::Year | F::Years => Unit::Year,
        F::Quarter => Unit::Quarter,
        F::Month | F::Months => Unit::Month,
        F::Week(None) | F::Weeks => Unit::Week,
        F::Day | F::Days => Unit::Day,
        F::Hour | F::Hours => Unit::Hour,
        F::Minute | F::Minutes => Unit::Minute,
        F::Second | F::Seconds => Unit::Second,
        _ => return None,
    })
}

fn interval_amount(text: &str, first: Unit, last: Unit) -> Option<i64> {
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let fields: Vec<Unit> = if first == last {
        vec![first]
    } else if first == Unit::Year && last == Unit::Month {
        vec![Unit::Year, Unit::Month]
    } else {
        let days = [Unit::Day, Unit::Hour, Unit::Minute, Unit::Second];
        days.into_iter().filter(|u| *u >= first && *u <= last).collect()
    };
    let separators: &[char] = if first.is_month() { &['-'] } else { &[' ', ':'] };
    let parts: Vec<&str> = text.split(separators).collect();
    if fields.len() < 2 && first != last || parts.len() != fields.len() {
        return None;
    }
    let mut total: i64 = 0;
    for (part, unit) in parts.iter().zip(&fields) {
        let (whole, fraction) = match (unit, part.split_once('.')) {
            (Unit::Second, Some((w, f))) => (w, f),
            _ => (*part, ""),
        };
        let n: i64 = whole.parse().ok().filter(|n: &i64| *n >= 0)?;
        total = total.checked_add(n.checked_mul(unit.factor())?)?;
        if !fraction.is_empty() {
            let digits: String = fraction.chars().chain("000".chars()).take(3).collect();
            total = total.checked_add(digits.parse().ok()?)?;
        }
    }
    Some(if negative { -total } else { total })
}
