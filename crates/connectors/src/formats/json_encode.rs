//! Writes rows as JSON objects, one a line, members in the order of the columns; keeps no tree.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::DataType as Arrow;
use flott_core::types::Column;
use flott_core::{Error, Result};

use super::json::{JsonOptions, NullKey, check_keys};
use super::text::{ScalarStyle, is_bare, push_scalar};
use super::{Encoder, Format};

/// Encoder of JSON lines.
pub struct JsonEncoder {
    options: JsonOptions,
    /// `"name":` of each column.
    names: Vec<String>,
}

impl JsonEncoder {
    /// An encoder of `columns`.
    pub fn new(options: JsonOptions, columns: &[Column]) -> Result<Self> {
        let mut names = Vec::with_capacity(columns.len());
        for column in columns {
            check_keys(&column.name, &column.data_type)?;
            names.push(member(&column.name));
        }
        Ok(JsonEncoder { options, names })
    }

    fn style(&self) -> ScalarStyle {
        ScalarStyle { iso: self.options.iso, plain_decimals: self.options.plain_decimals, stripped_decimals: false }
    }

    fn object(&self, names: &[String], columns: &[ArrayRef], row: usize, out: &mut String) -> Result<()> {
        out.push('{');
        let mut first = true;
        for (name, column) in names.iter().zip(columns) {
            if self.options.ignore_null_fields && column.is_null(row) {
                continue;
            }
            if !std::mem::take(&mut first) {
                out.push(',');
            }
            out.push_str(name);
            self.value(column, row, out)?;
        }
        out.push('}');
        Ok(())
    }

    fn value(&self, array: &ArrayRef, row: usize, out: &mut String) -> Result<()> {
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
                    self.value(&items, i, out)?;
                }
                out.push(']');
            }
            Arrow::Map(..) => self.map(array, row, out)?,
            Arrow::Struct(fields) => {
                let names: Vec<_> = fields.iter().map(|f| member(f.name())).collect();
                self.object(&names, array.as_struct().columns(), row, out)?;
            }
            _ => self.quoted(array, row, out),
        }
        Ok(())
    }

    fn quoted(&self, array: &ArrayRef, row: usize, out: &mut String) {
        out.push('"');
        push_scalar(array, row, self.style(), out);
        out.push('"');
    }

    fn map(&self, array: &ArrayRef, row: usize, out: &mut String) -> Result<()> {
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
            self.value(&values, i, out)?;
        }
        out.push('}');
        Ok(())
    }
}

fn member(name: &str) -> String {
    let mut text = String::new();
    push_string(name, &mut text);
    text.push(':');
    text
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
            self.object(&self.names, batch.columns(), row, out)?;
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
