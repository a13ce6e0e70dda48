//! Reads csv as Flink (Jackson) does: quotes at the start of a field only, empty lines left out; never trims strings.

use arrow_array::ArrayRef;
use flott_core::registry::OptionSpec;
use flott_core::types::{Column, DataType, TypeKind};
use flott_core::{Error, Result};

use super::{BadRecord, Block, Decoder, Progress, RECORD_BYTES_MAX, excerpt};
use crate::columns::ColumnBuilder;
use crate::options::{TableOptions, option};

/// Options of the format.
pub const OPTIONS: &[OptionSpec] = &[
    option("csv.field-delimiter", "STRING", ",", false, "Character between fields; `\\t` is a tab."),
    option("csv.disable-quote-character", "BOOLEAN", "false", false, "Fields are never quoted."),
    option("csv.quote-character", "STRING", "\"", false, "Character around fields that hold delimiters or line ends."),
    option("csv.allow-comments", "BOOLEAN", "false", false, "Lines that begin with `#` are left out."),
    option(
        "csv.ignore-parse-errors",
        "BOOLEAN",
        "false",
        false,
        "Bad records are skipped and counted instead of failing the job.",
    ),
    option("csv.array-element-delimiter", "STRING", ";", false, "Text between the elements of an ARRAY or ROW."),
    option("csv.escape-character", "STRING", "", false, "The character after it is taken as it is."),
    option("csv.null-literal", "STRING", "", false, "Text that stands for NULL."),
    option(
        "csv.write-bigdecimal-in-scientific-notation",
        "BOOLEAN",
        "true",
        false,
        "Whether DECIMAL is written without trailing zeros, 100000 as 1E+5.",
    ),
    option(
        "csv.ignore-first-line",
        "BOOLEAN",
        "false",
        false,
        "The first line of each file is a heading, not a record (Flott's own option; reading only).",
    ),
];

/// Options of the format, read.
#[derive(Clone, Debug)]
pub struct CsvOptions {
    /// Between fields.
    pub delimiter: u8,
    /// Around fields.
    pub quote: Option<u8>,
    /// Before a literal character.
    pub escape: Option<u8>,
    /// Lines with `#` are left out.
    pub allow_comments: bool,
    /// Skip bad records.
    pub ignore_parse_errors: bool,
    /// Between elements.
    pub array_delimiter: String,
    /// NULL.
    pub null_literal: Option<String>,
    /// DECIMAL in scientific notation.
    pub scientific: bool,
    /// Heading.
    pub ignore_first_line: bool,
}

impl Default for CsvOptions {
    fn default() -> Self {
        CsvOptions {
            delimiter: b',',
            quote: Some(b'"'),
            escape: None,
            allow_comments: false,
            ignore_parse_errors: false,
            array_delimiter: ";".into(),
            null_literal: None,
            scientific: true,
            ignore_first_line: false,
        }
    }
}

impl CsvOptions {
    /// Reads the options of a table.
    pub fn read(o: &TableOptions<'_>) -> Result<Self> {
        let quote = o.character("csv.quote-character")?;
        let no_quote = o.flag("csv.disable-quote-character", false)?;
        if no_quote && quote.is_some() {
            return Err(o.bad("csv.disable-quote-character", "possible together with 'csv.quote-character'"));
        }
        let default = CsvOptions::default();
        let delimiter = o.character("csv.field-delimiter")?.unwrap_or(default.delimiter);
        let quote = if no_quote { None } else { quote.or(default.quote) };
        if quote == Some(delimiter) {
            return Err(o.bad("csv.field-delimiter", "different from the quote character"));
        }
        Ok(CsvOptions {
            delimiter,
            quote,
            escape: o.character("csv.escape-character")?,
            allow_comments: o.flag("csv.allow-comments", false)?,
            ignore_parse_errors: o.flag("csv.ignore-parse-errors", false)?,
            array_delimiter: o.text("csv.array-element-delimiter").unwrap_or(&default.array_delimiter).to_owned(),
            null_literal: o.text("csv.null-literal").map(str::to_owned),
            scientific: o.flag("csv.write-bigdecimal-in-scientific-notation", true)?,
            ignore_first_line: o.flag("csv.ignore-first-line", false)?,
        })
    }
}

/// Refuses types that csv has no text for: MAP, and collections in collections.
pub(super) fn check_types(columns: &[Column]) -> Result<()> {
    fn flat(t: &DataType) -> bool {
        !matches!(t.kind, TypeKind::Array(_) | TypeKind::Row(_) | TypeKind::Map(..) | TypeKind::Multiset(_))
    }
    for column in columns {
        let ok = match &column.data_type.kind {
            TypeKind::Array(t) => flat(t),
            TypeKind::Row(fields) => fields.iter().all(|(_, t)| flat(t)),
            TypeKind::Map(..) | TypeKind::Multiset(_) => false,
            _ => true,
        };
        if !ok {
            return Err(Error::user(
                "format.csv.type",
                format!("column `{}`: csv cannot carry {}", column.name, column.data_type),
            )
            .hint("use 'format' = 'json', or an ARRAY or ROW of simple types"));
        }
    }
    Ok(())
}

/// Where a record or field ended.
enum End {
    /// At the delimiter, which was read.
    Field,
    /// At a line end, which was read.
    Line,
    /// At the end of the data.
    Data,
}

/// Decoder of csv.
pub struct CsvDecoder {
    options: CsvOptions,
    names: Vec<String>,
    columns: Vec<ColumnBuilder>,
    rows: usize,
    scratch: Vec<u8>,
    /// Bytes that end an unquoted field or need care in it.
    special: [bool; 256],
}

/// Why a record was not read.
enum Fault {
    /// The block ends within it.
    Incomplete,
    /// It is not what the table declares.
    Bad(Option<usize>, String),
}

impl CsvDecoder {
    /// A decoder of `columns`.
    pub fn new(options: CsvOptions, columns: &[Column]) -> Result<Self> {
        check_types(columns)?;
        let mut special = [false; 256];
        for b in [Some(options.delimiter), Some(b'\n'), Some(b'\r'), options.escape].into_iter().flatten() {
            special[usize::from(b)] = true;
        }
        Ok(CsvDecoder {
            names: columns.iter().map(|c| c.name.clone()).collect(),
            columns: columns.iter().map(|c| ColumnBuilder::new(&c.data_type)).collect::<Result<_>>()?,
            options,
            rows: 0,
            scratch: Vec::new(),
            special,
        })
    }

    /// Reads the record at `at`; returns where the next one begins.
    fn record(&mut self, data: &[u8], mut at: usize, last: bool) -> Result<usize, Fault> {
        let count = self.columns.len();
        for c in 0..count {
            let (next, end) = self.field(data, at, last, c)?;
            at = next;
            match end {
                End::Field if c + 1 == count => {
                    return Err(Fault::Bad(None, format!("the record has more than the {count} fields declared")));
                }
                End::Line | End::Data if c + 1 < count => {
                    return Err(Fault::Bad(Some(c + 1), format!("the record ends after {} of {count} fields", c + 1)));
                }
                _ => {}
            }
        }
        Ok(at)
    }

    /// Reads a field into column `c`; returns where it ended.
    fn field(&mut self, data: &[u8], start: usize, last: bool, c: usize) -> Result<(usize, End), Fault> {
        if self.options.quote.is_some() && data.get(start).copied() == self.options.quote {
            return self.quoted_field(data, start + 1, last, c);
        }
        let mut at = start;
        let mut escaped = false;
        loop {
            while at < data.len() && !self.special[usize::from(data[at])] {
                at += 1;
            }
            if at < data.len() && Some(data[at]) == self.options.escape {
                if !escaped {
                    self.scratch.clear();
                    self.scratch.extend_from_slice(&data[start..at]);
                    escaped = true;
                }
                let Some(&b) = data.get(at + 1) else { return Err(Fault::Incomplete) };
                self.scratch.push(b);
                at += 2;
                let from = at;
                while at < data.len() && !self.special[usize::from(data[at])] {
                    at += 1;
                }
                self.scratch.extend_from_slice(&data[from..at]);
                continue;
            }
            break;
        }
        let (next, end) = self.end(data, at, last)?;
        if escaped {
            let scratch = std::mem::take(&mut self.scratch);
            let done = self.append(c, &scratch, false);
            self.scratch = scratch;
            done?;
        } else {
            self.append(c, &data[start..at], false)?;
        }
        Ok((next, end))
    }

    /// What stands at `at`, after a field.
    fn end(&self, data: &[u8], at: usize, last: bool) -> Result<(usize, End), Fault> {
        match data.get(at) {
            None if last => Ok((at, End::Data)),
            None => Err(Fault::Incomplete),
            Some(b'\n') => Ok((at + 1, End::Line)),
            Some(b'\r') => match data.get(at + 1) {
                Some(b'\n') => Ok((at + 2, End::Line)),
                None if !last => Err(Fault::Incomplete),
                _ => Ok((at + 1, End::Line)),
            },
            Some(_) => Ok((at + 1, End::Field)),
        }
    }

    fn quoted_field(&mut self, data: &[u8], start: usize, last: bool, c: usize) -> Result<(usize, End), Fault> {
        let quote = self.options.quote.expect("called at a quote");
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        let (mut at, mut from, mut copied) = (start, start, false);
        let text = loop {
            let Some(found) = data[at..].iter().position(|&b| b == quote || Some(b) == self.options.escape) else {
                self.scratch = scratch;
                return Err(if last {
                    Fault::Bad(Some(c), format!("the quote before '{}' is never closed", excerpt(&data[start..])))
                } else {
                    Fault::Incomplete
                });
            };
            at += found;
            let doubled = data.get(at + 1) == Some(&quote);
            let next = data.get(at + 1).copied();
            if data[at] != quote || doubled {
                let Some(next) = next else {
                    self.scratch = scratch;
                    return Err(Fault::Incomplete);
                };
                scratch.extend_from_slice(&data[from..at]);
                scratch.push(next);
                copied = true;
                at += 2;
                from = at;
                continue;
            }
            if next.is_none() && !last {
                self.scratch = scratch;
                return Err(Fault::Incomplete);
            }
            if copied {
                scratch.extend_from_slice(&data[from..at]);
                break &scratch[..];
            }
            break &data[start..at];
        };
        let done = self.append(c, text, true);
        self.scratch = scratch;
        at += 1;
        while data.get(at) == Some(&b' ') && self.options.delimiter != b' ' {
            at += 1;
        }
        match data.get(at) {
            Some(&b) if b != self.options.delimiter && b != b'\n' && b != b'\r' => {
                let line = data[at..].split(|&b| b == b'\n').next().unwrap_or_default();
                Err(Fault::Bad(Some(c), format!("'{}' follows the closing quote", excerpt(line))))
            }
            _ => done.and_then(|()| self.end(data, at, last)),
        }
    }

    /// Appends the text of a field.
    fn append(&mut self, c: usize, bytes: &[u8], quoted: bool) -> Result<(), Fault> {
        let column = &mut self.columns[c];
        let Ok(text) = std::str::from_utf8(bytes) else {
            return Err(Fault::Bad(Some(c), format!("'{}' is not UTF-8", excerpt(bytes))));
        };
        let is_null = match &self.options.null_literal {
            Some(null) => text == null || (text.is_empty() && !column.kind().is_string()),
            None => text.is_empty() && !column.kind().is_string(),
        };
        if is_null {
            column.append_null();
            return Ok(());
        }
        let taken = match column.kind() {
            TypeKind::Array(_) => append_items(column, text, &self.options),
            TypeKind::Row(_) => append_row(column, text, &self.options),
            _ => column.append_text(text),
        };
        if taken {
            return Ok(());
        }
        let quotes = if quoted { " (quoted)" } else { "" };
        Err(Fault::Bad(Some(c), format!("'{}'{quotes} is not a {}", excerpt(bytes), column.kind())))
    }

    fn roll_back(&mut self) {
        let rows = self.rows;
        self.columns.iter_mut().for_each(|c| c.truncate(rows));
    }

    fn bad(&self, line: u64, field: Option<usize>, problem: String) -> BadRecord {
        BadRecord { line, field: field.map(|c| self.names[c].clone()), problem, skip_option: "csv.ignore-parse-errors" }
    }
}

fn append_items(column: &mut ColumnBuilder, text: &str, options: &CsvOptions) -> bool {
    let Some(items) = column.items() else { return false };
    let taken = text.split(options.array_delimiter.as_str()).all(|t| append_element(items, t, options));
    if taken {
        column.close();
    }
    taken
}

fn append_row(column: &mut ColumnBuilder, text: &str, options: &CsvOptions) -> bool {
    let Some(children) = column.row() else { return false };
    let mut parts = text.split(options.array_delimiter.as_str());
    let taken = children.iter_mut().all(|child| parts.next().is_some_and(|t| append_element(child, t, options)));
    let taken = taken && parts.next().is_none();
    if taken {
        column.close();
    }
    taken
}

fn append_element(item: &mut ColumnBuilder, text: &str, options: &CsvOptions) -> bool {
    let null = options.null_literal.as_deref() == Some(text) || (text.is_empty() && !item.kind().is_string());
    if null {
        item.append_null();
    }
    null || item.append_text(text)
}

impl CsvDecoder {
    /// Appends the row of one message: exactly one record. After an error nothing was appended.
    pub(super) fn message(&mut self, message: &[u8]) -> Result<(), BadRecord> {
        let block = Block { data: message, last: true, stop: usize::MAX, rows_max: 1 };
        let before = self.rows;
        let done = self.decode(block)?;
        let rest = &message[done.consumed..];
        if !rest.iter().all(u8::is_ascii_whitespace) {
            self.rows = before;
            self.roll_back();
            return Err(self.bad(0, None, format!("'{}' follows the record: a message is one record", excerpt(rest))));
        }
        if done.rows == 0 && message.is_empty() {
            return Err(self.bad(0, None, "the message is empty".into()));
        }
        Ok(())
    }
}

/// The byte after the next line end.
fn after_line(data: &[u8], at: usize) -> usize {
    memchr::memchr(b'\n', &data[at..]).map_or(data.len(), |n| at + n + 1)
}

impl Decoder for CsvDecoder {
    fn decode(&mut self, block: Block<'_>) -> Result<Progress, BadRecord> {
        let Block { data, last, stop, rows_max } = block;
        let mut done = Progress::default();
        let one_column = self.columns.len() == 1;
        while done.rows < rows_max && done.consumed < stop && done.consumed < data.len() {
            let at = done.consumed;
            let blank = match &data[at..] {
                [b'\n', ..] => 1,
                [b'\r', b'\n', ..] => 2,
                _ => 0,
            };
            if blank > 0 && !one_column {
                done.consumed += blank;
                done.lines += 1;
                continue;
            }
            if self.options.allow_comments && data[at] == b'#' {
                let next = after_line(data, at);
                if next == data.len() && !last && data.last() != Some(&b'\n') {
                    break;
                }
                done.consumed = next;
                done.lines += 1;
                continue;
            }
            match self.record(data, at, last) {
                Ok(next) => {
                    done.lines += memchr::memchr_iter(b'\n', &data[at..next]).count() as u64;
                    done.consumed = next;
                    done.rows += 1;
                    self.rows += 1;
                }
                Err(Fault::Incomplete) if !last && data.len() - at < RECORD_BYTES_MAX => {
                    self.roll_back();
                    break;
                }
                Err(fault) => {
                    self.roll_back();
                    let next = after_line(data, at);
                    if next == data.len() && !last && data.last() != Some(&b'\n') && next - at < RECORD_BYTES_MAX {
                        break;
                    }
                    if !self.options.ignore_parse_errors {
                        return Err(match fault {
                            Fault::Bad(field, problem) => self.bad(done.lines, field, problem),
                            Fault::Incomplete => {
                                self.bad(done.lines, None, "the record does not end; a quote may be unclosed".into())
                            }
                        });
                    }
                    done.skipped += 1;
                    done.lines += 1;
                    done.consumed = next;
                }
            }
        }
        Ok(done)
    }

    fn rows(&self) -> usize {
        self.rows
    }

    fn finish(&mut self) -> Result<Vec<ArrayRef>> {
        self.rows = 0;
        self.columns.iter_mut().map(ColumnBuilder::finish).collect()
    }
}

#[cfg(test)]
mod tests;
