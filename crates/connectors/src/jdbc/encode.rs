//! Values of Arrow columns as parameters of statements; sends nothing.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
};
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType as Arrow;
use flott_core::types::{Column, TypeKind};
use flott_core::{Error, Result, text};

use super::session::Param;
use super::target::Holds;
use super::url::Dialect;
use crate::formats::text::{ScalarStyle, push_decimal, push_scalar, push_timestamp, timestamp_at};

const SCALARS: ScalarStyle = ScalarStyle { iso: false, plain_decimals: true, stripped_decimals: false };

/// Refuses declared types that have no counterpart.
pub fn check_types(table: &str, columns: &[Column]) -> Result<()> {
    for column in columns {
        let kind = &column.data_type.kind;
        if matches!(
            kind,
            TypeKind::Array(_)
                | TypeKind::Map(..)
                | TypeKind::Multiset(_)
                | TypeKind::Row(_)
                | TypeKind::Null
                | TypeKind::IntervalDayTime
                | TypeKind::IntervalYearMonth
        ) {
            return Err(Error::user(
                "jdbc.type",
                format!("table `{table}`: column `{}` of type {kind} cannot be in a table of a database", column.name),
            )
            .hint("write its parts as columns, or as a STRING (JSON_STRING, CAST)"));
        }
    }
    Ok(())
}

/// Whether a session must run in UTC: a column has an instant in it.
pub fn needs_utc(columns: &[Column]) -> bool {
    columns.iter().any(|c| matches!(c.data_type.kind, TypeKind::TimestampLtz(_)))
}

/// The value at `row`, for a column that holds `holds` on a server that speaks `dialect`.
pub fn param(array: &ArrayRef, row: usize, holds: Holds, dialect: Dialect) -> Param {
    if array.is_null(row) {
        return Param::Null;
    }
    match array.data_type() {
        // A number in a column of characters is text already for the server's sake.
        t if holds == Holds::Text && (t.is_numeric() || *t == Arrow::Boolean) => scalar(array, row),
        Arrow::Boolean => match holds {
            Holds::Integer => Param::Int(i64::from(array.as_boolean().value(row))),
            _ => Param::Bool(array.as_boolean().value(row)),
        },
        Arrow::Int8 => int(array.as_primitive::<Int8Type>().value(row).into(), holds, dialect),
        Arrow::Int16 => int(array.as_primitive::<Int16Type>().value(row).into(), holds, dialect),
        Arrow::Int32 => int(array.as_primitive::<Int32Type>().value(row).into(), holds, dialect),
        Arrow::Int64 => int(array.as_primitive::<Int64Type>().value(row), holds, dialect),
        Arrow::Float32 => Param::Float(array.as_primitive::<Float32Type>().value(row)),
        Arrow::Float64 => Param::Double(array.as_primitive::<Float64Type>().value(row)),
        Arrow::Decimal128(_, scale) => {
            let mut out = String::new();
            let unscaled = array.as_primitive::<Decimal128Type>().value(row);
            push_decimal(unscaled, u8::try_from(*scale).unwrap_or(0), true, &mut out);
            Param::Text(out)
        }
        Arrow::Utf8 => Param::Text(array.as_string::<i32>().value(row).to_owned()),
        Arrow::Binary => Param::Bytes(array.as_binary::<i32>().value(row).to_vec()),
        Arrow::Date32 => {
            let mut out = String::new();
            text::format_date(array.as_primitive::<Date32Type>().value(row).into(), &mut out);
            Param::Text(out)
        }
        Arrow::Timestamp(_, zone) => {
            let mut out = String::new();
            if let Some((value, unit)) = timestamp_at(array, row) {
                push_timestamp(value, unit, false, &mut out);
            }
            if zone.is_some() && dialect == Dialect::Postgres {
                out.push_str("+00");
            }
            Param::Text(out)
        }
        _ => scalar(array, row),
    }
}

fn int(n: i64, holds: Holds, dialect: Dialect) -> Param {
    if holds == Holds::Bool && dialect == Dialect::Postgres { Param::Bool(n != 0) } else { Param::Int(n) }
}

fn scalar(array: &ArrayRef, row: usize) -> Param {
    let mut out = String::new();
    push_scalar(array, row, SCALARS, &mut out);
    Param::Text(out)
}

/// Appends bytes that are equal for equal values and different for different ones; the key of a row is all of its columns'.
pub fn push_key(array: &ArrayRef, row: usize, out: &mut Vec<u8>) {
    if array.is_null(row) {
        return out.push(0);
    }
    out.push(1);
    match array.data_type() {
        // Whatever their width, so that an INT finds a BIGINT.
        Arrow::Int8 => push_key_int(array.as_primitive::<Int8Type>().value(row).into(), out),
        Arrow::Int16 => push_key_int(array.as_primitive::<Int16Type>().value(row).into(), out),
        Arrow::Int32 => push_key_int(array.as_primitive::<Int32Type>().value(row).into(), out),
        Arrow::Int64 => push_key_int(array.as_primitive::<Int64Type>().value(row), out),
        Arrow::Utf8 => push_slice(array.as_string::<i32>().value(row).as_bytes(), out),
        Arrow::Binary => push_slice(array.as_binary::<i32>().value(row), out),
        _ => match timestamp_at(array, row) {
            Some((value, _)) => out.extend_from_slice(&value.to_be_bytes()),
            None => match scalar(array, row) {
                Param::Text(text) => push_slice(text.as_bytes(), out),
                _ => out.push(0),
            },
        },
    }
}

fn push_key_int(n: i64, out: &mut Vec<u8>) {
    // In the order of numbers.
    out.extend_from_slice(&(n ^ i64::MIN).to_be_bytes());
}

fn push_slice(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
    out.extend_from_slice(bytes);
}
