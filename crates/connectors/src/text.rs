//! Rows as text, as Flink's `Row#toString` prints them; writes to no stream.

use arrow_array::cast::AsArray;
use arrow_array::types::Time32MillisecondType;
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType as Arrow, TimeUnit};
use flott_core::RowKind;
use flott_core::text;

use crate::formats::text::{ScalarStyle, push_int, push_scalar, timestamp_at, timestamp_parts};

/// Appends the value at `row` as the Java object prints: timestamps `2013-01-01T05:15`, rows `+I[1, a]`, NULL `null`.
pub fn render_value(array: &ArrayRef, row: usize, out: &mut String) {
    if array.is_null(row) {
        return out.push_str("null");
    }
    match array.data_type() {
        Arrow::Utf8 => out.push_str(array.as_string::<i32>().value(row)),
        Arrow::Binary => render_bytes(array.as_binary::<i32>().value(row), out),
        Arrow::Timestamp(_, zone) => {
            let Some((value, unit)) = timestamp_at(array, row) else { return };
            render_timestamp(value, unit, zone.is_some(), out);
        }
        Arrow::Time32(_) => {
            let ms = i64::from(array.as_primitive::<Time32MillisecondType>().value(row));
            render_java_time(ms * 1_000_000, false, out);
        }
        Arrow::List(_) => {
            let items = array.as_list::<i32>().value(row);
            out.push('[');
            for i in 0..items.len() {
                out.push_str(if i > 0 { ", " } else { "" });
                render_value(&items, i, out);
            }
            out.push(']');
        }
        Arrow::Map(..) => {
            let entries = array.as_map().value(row);
            out.push('{');
            for i in 0..entries.len() {
                out.push_str(if i > 0 { ", " } else { "" });
                render_value(entries.column(0), i, out);
                out.push('=');
                render_value(entries.column(1), i, out);
            }
            out.push('}');
        }
        Arrow::Struct(_) => {
            let columns = array.as_struct().columns();
            out.push_str("+I[");
            render_columns(columns, row, out);
            out.push(']');
        }
        Arrow::Null => out.push_str("null"),
        _ => {
            let scalars = ScalarStyle { iso: false, plain_decimals: false, stripped_decimals: false };
            push_scalar(array, row, scalars, out);
        }
    }
}

fn render_columns(columns: &[ArrayRef], row: usize, out: &mut String) {
    for (i, column) in columns.iter().enumerate() {
        out.push_str(if i > 0 { ", " } else { "" });
        render_value(column, row, out);
    }
}

/// Appends a row as Flink's `Row#toString`: `+I[1, a]`.
pub fn render_row(rows: &RecordBatch, row: usize, kind: RowKind, out: &mut String) {
    out.push_str(kind.short());
    out.push('[');
    render_columns(rows.columns(), row, out);
    out.push(']');
}

fn render_bytes(bytes: &[u8], out: &mut String) {
    out.push('[');
    for (i, b) in bytes.iter().enumerate() {
        out.push_str(if i > 0 { ", " } else { "" });
        push_int(i64::from(*b as i8), out);
    }
    out.push(']');
}

fn render_timestamp(value: i64, unit: TimeUnit, zone: bool, out: &mut String) {
    let (seconds, nanos) = timestamp_parts(value, unit);
    let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400) * 1_000_000_000 + nanos);
    text::format_date(days, out);
    out.push('T');
    render_java_time(of_day, zone, out);
    out.push_str(if zone { "Z" } else { "" });
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
        render_timestamp(value_ms, TimeUnit::Millisecond, zone, &mut out);
        out
    }

    #[test]
    fn timestamps_look_as_java_prints_them() {
        assert_eq!(java(0, false), "1970-01-01T00:00");
        assert_eq!(java(0, true), "1970-01-01T00:00:00Z");
        assert_eq!(java(61_020, false), "1970-01-01T00:01:01.020");
    }
}
