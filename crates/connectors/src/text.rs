//! Rows as text: as Flink's `Row#toString` prints them, or as SQL results show them; writes to no stream.

use arrow_array::cast::AsArray;
use arrow_array::types::Time32MillisecondType;
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType as Arrow, TimeUnit};
use flott_core::RowKind;
use flott_core::text;

use crate::formats::text::{ScalarStyle, push_int, push_scalar, timestamp_at, timestamp_parts};

/// How values look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// As Java objects: timestamps `2013-01-01T05:15`, rows `+I[1, a]`, NULL `null`. What the print sink writes.
    Java,
    /// As CAST to STRING: timestamps `2013-01-01 05:15:00.000`, rows `(1, a)`, NULL `<NULL>` on the outside, else `NULL`.
    Sql,
}

/// Appends the value at `row`.
pub fn render_value(array: &ArrayRef, row: usize, style: Style, out: &mut String) {
    if array.is_null(row) {
        return out.push_str(if style == Style::Java { "null" } else { "NULL" });
    }
    match array.data_type() {
        Arrow::Utf8 => out.push_str(array.as_string::<i32>().value(row)),
        Arrow::Binary => render_bytes(array.as_binary::<i32>().value(row), style, out),
        Arrow::Timestamp(_, zone) => {
            let Some((value, unit)) = timestamp_at(array, row) else { return };
            render_timestamp(value, unit, zone.is_some(), style, out);
        }
        Arrow::Time32(_) => {
            let ms = i64::from(array.as_primitive::<Time32MillisecondType>().value(row));
            match style {
                Style::Java => render_java_time(ms * 1_000_000, false, out),
                Style::Sql => text::format_time(ms * 1_000_000, if ms % 1000 == 0 { 0 } else { 3 }, out),
            }
        }
        Arrow::List(_) => {
            let items = array.as_list::<i32>().value(row);
            out.push('[');
            for i in 0..items.len() {
                out.push_str(if i > 0 { ", " } else { "" });
                render_value(&items, i, style, out);
            }
            out.push(']');
        }
        Arrow::Map(..) => {
            let entries = array.as_map().value(row);
            out.push('{');
            for i in 0..entries.len() {
                out.push_str(if i > 0 { ", " } else { "" });
                render_value(entries.column(0), i, style, out);
                out.push('=');
                render_value(entries.column(1), i, style, out);
            }
            out.push('}');
        }
        Arrow::Struct(_) => {
            let columns = array.as_struct().columns();
            let (open, close) = if style == Style::Java { ("+I[", ']') } else { ("(", ')') };
            out.push_str(open);
            render_columns(columns, row, style, out);
            out.push(close);
        }
        Arrow::Null => out.push_str(if style == Style::Java { "null" } else { "NULL" }),
        _ => {
            let scalars = ScalarStyle { iso: false, plain_decimals: style == Style::Sql, stripped_decimals: false };
            if style == Style::Sql && matches!(array.data_type(), Arrow::Boolean) {
                return out.push_str(if array.as_boolean().value(row) { "TRUE" } else { "FALSE" });
            }
            push_scalar(array, row, scalars, out);
        }
    }
}

fn render_columns(columns: &[ArrayRef], row: usize, style: Style, out: &mut String) {
    for (i, column) in columns.iter().enumerate() {
        out.push_str(if i > 0 { ", " } else { "" });
        render_value(column, row, style, out);
    }
}

/// Appends a row as Flink's `Row#toString`: `+I[1, a]`.
pub fn render_row(rows: &RecordBatch, row: usize, kind: RowKind, out: &mut String) {
    out.push_str(kind.short());
    out.push('[');
    render_columns(rows.columns(), row, Style::Java, out);
    out.push(']');
}

fn render_bytes(bytes: &[u8], style: Style, out: &mut String) {
    if style == Style::Sql {
        out.push_str("x'");
        for b in bytes {
            let hex = b"0123456789abcdef";
            out.push(char::from(hex[usize::from(b >> 4)]));
            out.push(char::from(hex[usize::from(b & 15)]));
        }
        return out.push('\'');
    }
    out.push('[');
    for (i, b) in bytes.iter().enumerate() {
        out.push_str(if i > 0 { ", " } else { "" });
        push_int(i64::from(*b as i8), out);
    }
    out.push(']');
}

fn render_timestamp(value: i64, unit: TimeUnit, zone: bool, style: Style, out: &mut String) {
    let (seconds, nanos) = timestamp_parts(value, unit);
    let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400) * 1_000_000_000 + nanos);
    text::format_date(days, out);
    match style {
        Style::Java => {
            out.push('T');
            render_java_time(of_day, zone, out);
            out.push_str(if zone { "Z" } else { "" });
        }
        Style::Sql => {
            out.push(' ');
            let digits = match unit {
                TimeUnit::Second => 0,
                TimeUnit::Millisecond => 3,
                TimeUnit::Microsecond => 6,
                TimeUnit::Nanosecond => 9,
            };
            text::format_time(of_day, digits, out);
        }
    }
}

/// `LocalTime#toString`: seconds only when there are any (always in an `Instant`), fractions in groups of three digits.
fn render_java_time(nanos_of_day: i64, instant: bool, out: &mut String) {
    let nanos = nanos_of_day.rem_euclid(1_000_000_000);
    let digits = match nanos {
        0 => 0,
        n if n % 1_000_000 == 0 => 3,
        n if n % 1_000 == 0 => 6,
        _ => 9,
    };
    let from = out.len();
    text::format_time(nanos_of_day, digits, out);
    if !instant && digits == 0 && out[from..].ends_with(":00") {
        out.truncate(out.len() - 3);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn java(value_ms: i64, zone: bool) -> String {
        let mut out = String::new();
        render_timestamp(value_ms, TimeUnit::Millisecond, zone, Style::Java, &mut out);
        out
    }

    #[test]
    fn timestamps_look_as_java_prints_them() {
        assert_eq!(java(0, false), "1970-01-01T00:00");
        assert_eq!(java(0, true), "1970-01-01T00:00:00Z");
        assert_eq!(java(61_020, false), "1970-01-01T00:01:01.020");
        let mut out = String::new();
        render_timestamp(61_020, TimeUnit::Millisecond, false, Style::Sql, &mut out);
        assert_eq!(out, "1970-01-01 00:01:01.020");
    }
}
