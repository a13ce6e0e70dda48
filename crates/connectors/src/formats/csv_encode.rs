//! Writes rows as csv lines, quoted where Flink (Jackson) quotes; writes no heading.

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::DataType as Arrow;
use flott_core::Result;
use flott_core::types::Column;

use super::Encoder;
use super::csv::{CsvOptions, check_types};
use super::text::{ScalarStyle, is_bare, push_scalar};

/// Longer fields are quoted without a look at their characters.
const LOOK_MAX: usize = 24;

/// Encoder of csv.
pub struct CsvEncoder {
    options: CsvOptions,
    /// Characters below this one cause quotes.
    safe_from: u8,
    field: String,
}

impl CsvEncoder {
    /// An encoder of `columns`.
    pub fn new(options: CsvOptions, columns: &[Column]) -> Result<Self> {
        check_types(columns)?;
        let safe_from = options.delimiter.max(options.quote.unwrap_or(0)).max(b'\r') + 1;
        Ok(CsvEncoder { options, safe_from, field: String::new() })
    }

    /// The text of a value that is not NULL.
    fn text(&self, array: &ArrayRef, row: usize, out: &mut String) {
        let style = ScalarStyle { iso: false, plain_decimals: true, stripped_decimals: self.options.scientific };
        match array.data_type() {
            Arrow::Utf8 => out.push_str(array.as_string::<i32>().value(row)),
            Arrow::Binary => crate::base64::encode(array.as_binary::<i32>().value(row), out),
            Arrow::List(_) => {
                let items = array.as_list::<i32>().value(row);
                for i in 0..items.len() {
                    self.element(&items, i, i, out);
                }
            }
            Arrow::Struct(_) => {
                for (i, child) in array.as_struct().columns().iter().enumerate() {
                    self.element(child, row, i, out);
                }
            }
            _ => {
                push_scalar(array, row, style, out);
            }
        }
    }

    fn element(&self, array: &ArrayRef, row: usize, index: usize, out: &mut String) {
        if index > 0 {
            out.push_str(&self.options.array_delimiter);
        }
        if array.is_null(row) {
            out.push_str(self.options.null_literal.as_deref().unwrap_or(""));
        } else {
            self.text(array, row, out);
        }
    }

    fn push_field(&self, text: &str, out: &mut String) {
        let Some(quote) = self.options.quote else { return self.push_unquoted(text, out) };
        let risky =
            |b: u8| b < self.safe_from || b == quote || b == self.options.delimiter || Some(b) == self.options.escape;
        if text.len() <= LOOK_MAX && !text.bytes().any(risky) {
            return out.push_str(text);
        }
        out.push(char::from(quote));
        for c in text.chars() {
            if c == char::from(quote) {
                out.push(self.options.escape.map_or(c, char::from));
            } else if self.options.escape.is_some_and(|e| c == char::from(e)) {
                out.push(c);
            }
            out.push(c);
        }
        out.push(char::from(quote));
    }

    /// Without quotes only the escape character can protect a delimiter.
    fn push_unquoted(&self, text: &str, out: &mut String) {
        for c in text.chars() {
            if let Some(e) = self.options.escape
                && [self.options.delimiter, e, b'\n', b'\r'].iter().any(|&b| c == char::from(b))
            {
                out.push(char::from(e));
            }
            out.push(c);
        }
    }
}

impl CsvEncoder {
    /// Appends one row, without a line end.
    pub(super) fn row(&mut self, columns: &[ArrayRef], row: usize, out: &mut String) {
        let mut field = std::mem::take(&mut self.field);
        for (c, column) in columns.iter().enumerate() {
            if c > 0 {
                out.push(char::from(self.options.delimiter));
            }
            if column.is_null(row) {
                out.push_str(self.options.null_literal.as_deref().unwrap_or(""));
            } else if is_bare(column.data_type()) {
                self.text(column, row, out);
            } else {
                field.clear();
                self.text(column, row, &mut field);
                self.push_field(&field, out);
            }
        }
        self.field = field;
    }
}

impl Encoder for CsvEncoder {
    fn encode(&mut self, batch: &RecordBatch, out: &mut String) -> Result<()> {
        for row in 0..batch.num_rows() {
            self.row(batch.columns(), row, out);
            out.push('\n');
        }
        Ok(())
    }
}
