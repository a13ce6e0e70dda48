//! Writes rows as JSON objects, one a line, members in the order of the columns; keeps no tree.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::DataType as Arrow;
use flott_core::types::{Column, DataType, TypeKind};
use flott_core::{Error, Result};

use super::json::{JsonOptions, NullKey, check_keys};
use super::text::{ScalarStyle, is_bare, push_scalar};
use super::{Encoder, Format};

/// Encoder of JSON lines.
pub struct JsonEncoder {
    options: JsonOptions,
    members: Vec<Member>,
}

/// `"name":` of a member, and its own members: of the fields, the element or the value.
struct Member {
    name: String,
    children: Vec<Member>,
}

impl Member {
    fn of(name: &str, t: &DataType) -> Member {
        let children = match &t.kind {
            TypeKind::Row(fields) => fields.iter().map(|(n, t)| Member::of(n, t)).collect(),
            TypeKind::Array(item) => vec![Member::of("", item)],
            TypeKind::Map(_, value) => vec![Member::of("", value)],
            TypeKind::Multiset(_) => vec![Member { name: String::new(), children: Vec::new() }],
            _ => Vec::new(),
        };
        let mut text = String::new();
        push_string(name, &mut text);
        text.push(':');
        Member { name: text, children }
    }
}

impl JsonEncoder {
    /// An encoder of `columns`.
    pub fn new(options: JsonOptions, columns: &[Column]) -> Result<Self> {
        for column in columns {
            check_keys(&column.name, &column.data_type)?;
        }
        Ok(JsonEncoder { options, members: columns.iter().map(|c| Member::of(&c.name, &c.data_type)).collect() })
    }

    fn style(&self) -> ScalarStyle {
        ScalarStyle { iso: self.options.iso, plain_decimals: self.options.plain_decimals, stripped_decimals: false }
    }

    /// Appends one row as an object, without a line end.
    pub(crate) fn row(&self, columns: &[ArrayRef], row: usize, out: &mut String) -> Result<()> {
        self.object(&self.members, columns, row, out)
    }

    fn object(&self, members: &[Member], columns: &[ArrayRef], row: usize, out: &mut String) -> Result<()> {
        out.push('{');
        let mut first = true;
        for (member, column) in members.iter().zip(columns) {
            if self.options.ignore_null_fields && column.is_null(row) {
                continue;
            }
            if !std::mem::take(&mut first) {
                out.push(',');
            }
            out.push_str(&member.name);
            self.value(&member.children, column, row, out)?;
        }
        out.push('}');
        Ok(())
    }

    fn value(&self, children: &[Member], array: &ArrayRef, row: usize, out: &mut String) -> Result<()> {
        if array.is_null(row) {
            out.push_str("null");
            return Ok(());
        }
        match array.data_type() {
            Arrow::Utf8 => push_string(array.as_string::<i32>().value(row), out),
            Arrow::Float64 if !array.as_primitive::<Float64Type>().value(row).is_finite() => {
                self.quoted(array, row, out);
            }
            Arrow::Float32 if !array.as_primitive::<Float32Type>().value(row).is_finite() => {
                self.quoted(array, row, out);
            }
            t if is_bare(t) => {
                push_scalar(array, row, self.style(), out);
            }
            Arrow::Binary => {
                out.push('"');
                crate::base64::encode(array.as_binary::<i32>().value(row), out);
                out.push('"');
            }
            Arrow::List(_) => {
                let items = array.as_list::<i32>().value(row);
                out.push('[');
                for i in 0..items.len() {
                    if i > 0 {
                        out.push(',');
                    }
                    self.value(&children[0].children, &items, i, out)?;
                }
                out.push(']');
            }
            Arrow::Map(..) => self.map(&children[0], array, row, out)?,
            Arrow::Struct(_) => self.object(children, array.as_struct().columns(), row, out)?,
            _ => self.quoted(array, row, out),
        }
        Ok(())
    }

    fn quoted(&self, array: &ArrayRef, row: usize, out: &mut String) {
        out.push('"');
        push_scalar(array, row, self.style(), out);
        out.push('"');
    }

    fn map(&self, value: &Member, array: &ArrayRef, row: usize, out: &mut String) -> Result<()> {
        let entries = array.as_map().value(row);
        let (keys, values) = (entries.column(0), Arc::clone(entries.column(1)));
        out.push('{');
        let mut first = true;
        for i in 0..entries.len() {
            let key = match &self.options.null_key {
                _ if keys.is_valid(i) => keys.as_string::<i32>().value(i),
                NullKey::Literal(literal) => literal,
                NullKey::Drop => continue,
                NullKey::Fail => {
                    return Err(Error::user("format.json.null-key", "a MAP with a NULL key cannot be written as JSON")
                        .hint("set 'json.map-null-key.mode' = 'DROP' or 'LITERAL'"));
                }
            };
            if !std::mem::take(&mut first) {
                out.push(',');
            }
            push_string(key, out);
            out.push(':');
            self.value(&value.children, &values, i, out)?;
        }
        out.push('}');
        Ok(())
    }
}

/// Appends a JSON string: only `"`, `\` and controls are escaped.
pub fn push_string(text: &str, out: &mut String) {
    out.push('"');
    let bytes = text.as_bytes();
    let mut from = 0;
    for (i, &b) in bytes.iter().enumerate() {
        if b >= 0x20 && b != b'"' && b != b'\\' {
            continue;
        }
        out.push_str(&text[from..i]);
        from = i + 1;
        match b {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            0x08 => out.push_str("\\b"),
            0x0c => out.push_str("\\f"),
            _ => {
                out.push_str("\\u00");
                let hex = b"0123456789ABCDEF";
                out.push(char::from(hex[usize::from(b >> 4)]));
                out.push(char::from(hex[usize::from(b & 15)]));
            }
        }
    }
    out.push_str(&text[from..]);
    out.push('"');
}

impl Encoder for JsonEncoder {
    fn encode(&mut self, batch: &RecordBatch, out: &mut String) -> Result<()> {
        for row in 0..batch.num_rows() {
            self.row(batch.columns(), row, out)?;
            out.push('\n');
        }
        Ok(())
    }
}

/// One batch as JSON lines with default options: for results on a screen.
pub fn to_json_lines(columns: &[Column], batch: &RecordBatch) -> Result<String> {
    let mut out = String::new();
    Format::Json(JsonOptions::default()).encoder(columns)?.encode(batch, &mut out)?;
    Ok(out)
}
