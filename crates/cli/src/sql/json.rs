//! One row of a result as a JSON object: `op` first, then the columns in order. Exact: DECIMAL is a string with its full
//! scale, TIMESTAMP a string with its full precision, bytes a string of hexadecimal digits.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    Time32MillisecondType, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
};
use arrow_array::{Array, ArrayRef};
use flott_core::RowKind;
use flott_core::text::{format_date, format_decimal, format_time, format_timestamp};
use flott_core::types::{Column, DataType, TypeKind};
use serde_json::{Map, Value};

/// The object of row `i`.
pub fn row(kind: RowKind, columns: &[Column], arrays: &[ArrayRef], i: usize) -> Value {
    let mut object = Map::with_capacity(columns.len() + 1);
    object.insert("op".to_owned(), Value::from(kind.short()));
    for (column, array) in columns.iter().zip(arrays) {
        object.insert(column.name.clone(), value(array, i, &column.data_type));
    }
    Value::Object(object)
}

fn value(array: &ArrayRef, i: usize, data_type: &DataType) -> Value {
    if array.is_null(i) {
        return Value::Null;
    }
    match &data_type.kind {
        TypeKind::Null => Value::Null,
        TypeKind::Boolean => Value::from(array.as_boolean().value(i)),
        TypeKind::TinyInt => Value::from(array.as_primitive::<Int8Type>().value(i)),
        TypeKind::SmallInt => Value::from(array.as_primitive::<Int16Type>().value(i)),
        TypeKind::Int | TypeKind::IntervalYearMonth => Value::from(array.as_primitive::<Int32Type>().value(i)),
        TypeKind::BigInt | TypeKind::IntervalDayTime => Value::from(array.as_primitive::<Int64Type>().value(i)),
        TypeKind::Float => number(f64::from(array.as_primitive::<Float32Type>().value(i))),
        TypeKind::Double => number(array.as_primitive::<Float64Type>().value(i)),
        TypeKind::Decimal(_, scale) => {
            let unscaled = array.as_primitive::<Decimal128Type>().value(i);
            text(|out| format_decimal(unscaled, *scale, out))
        }
        TypeKind::Char(_) | TypeKind::VarChar(_) | TypeKind::Variant => Value::from(array.as_string::<i32>().value(i)),
        TypeKind::Binary(_) | TypeKind::VarBinary(_) | TypeKind::Bitmap => {
            let bytes = array.as_binary::<i32>().value(i);
            text(|out| bytes.iter().for_each(|b| out.push_str(&format!("{b:02x}"))))
        }
        TypeKind::Date => {
            let days = array.as_primitive::<Date32Type>().value(i);
            text(|out| format_date(i64::from(days), out))
        }
        TypeKind::Time(p) => {
            let ms = array.as_primitive::<Time32MillisecondType>().value(i);
            text(|out| format_time(i64::from(ms) * 1_000_000, *p, out))
        }
        TypeKind::Timestamp(p) => text(|out| format_timestamp(timestamp(array, i, *p), *p, out)),
        TypeKind::TimestampLtz(p) => text(|out| {
            format_timestamp(timestamp(array, i, *p), *p, out);
            out.push('Z');
        }),
        TypeKind::Array(item) => {
            let items = array.as_list::<i32>().value(i);
            Value::Array((0..items.len()).map(|j| value(&items, j, item)).collect())
        }
        TypeKind::Multiset(t) => {
            let map = DataType { kind: TypeKind::Map(t.clone(), Box::new(TypeKind::Int.not_null())), nullable: true };
            value(array, i, &map)
        }
        TypeKind::Map(k, v) => {
            let entries = array.as_map().value(i);
            let pairs = (0..entries.len()).map(|j| {
                let key = match value(entries.column(0), j, k) {
                    Value::String(s) => s,
                    other => other.to_string(),
                };
                (key, value(entries.column(1), j, v))
            });
            Value::Object(pairs.collect())
        }
        TypeKind::Row(fields) => {
            let row = array.as_struct();
            let members = fields.iter().enumerate().map(|(f, (name, t))| (name.clone(), value(row.column(f), i, t)));
            Value::Object(members.collect())
        }
    }
}

/// NaN and the infinities have no JSON number: they are strings.
fn number(x: f64) -> Value {
    serde_json::Number::from_f64(x).map_or_else(|| Value::from(x.to_string()), Value::Number)
}

fn text(write: impl FnOnce(&mut String)) -> Value {
    let mut out = String::new();
    write(&mut out);
    Value::String(out)
}

fn timestamp(array: &ArrayRef, i: usize, precision: u8) -> i64 {
    match precision {
        0..=3 => array.as_primitive::<TimestampMillisecondType>().value(i),
        4..=6 => array.as_primitive::<TimestampMicrosecondType>().value(i),
        _ => array.as_primitive::<TimestampNanosecondType>().value(i),
    }
}
