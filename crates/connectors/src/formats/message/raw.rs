//! The `raw` format: a message is the value of the only column, without any frame; never adds or removes a byte.

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type};
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType as Arrow;
use flott_core::batch::ChangeBatch;
use flott_core::registry::OptionSpec;
use flott_core::types::{Column, TypeKind};
use flott_core::{Error, Result};

use super::{Decoded, MessageDecoder, MessageEncoder, Messages};
use crate::columns::ColumnBuilder;
use crate::formats::{BadRecord, excerpt};
use crate::options::{TableOptions, option};

/// Options of the format.
pub const OPTIONS: &[OptionSpec] = &[
    option("raw.charset", "STRING", "UTF-8", false, "How text is written as bytes."),
    option("raw.endianness", "ENUM(big-endian|little-endian)", "big-endian", false, "The order of bytes of numbers."),
];

/// How text is written as bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charset {
    /// UTF-8.
    Utf8,
    /// Bytes below 128 only.
    Ascii,
    /// ISO-8859-1: every byte is a character.
    Latin1,
    /// UTF-16, the higher byte first.
    Utf16Be,
    /// UTF-16, the lower byte first.
    Utf16Le,
}

/// Options of the format, read.
#[derive(Clone, Copy, Debug)]
pub struct RawOptions {
    /// Of text.
    pub charset: Charset,
    /// Numbers with the lowest byte first.
    pub little_endian: bool,
}

impl RawOptions {
    /// Reads the options of a table.
    pub fn read(o: &TableOptions<'_>) -> Result<Self> {
        let charset = match o.text("raw.charset").unwrap_or("UTF-8").trim().to_ascii_uppercase().as_str() {
            "UTF-8" | "UTF8" => Charset::Utf8,
            "US-ASCII" | "ASCII" => Charset::Ascii,
            "ISO-8859-1" | "ISO8859_1" | "LATIN1" => Charset::Latin1,
            "UTF-16BE" => Charset::Utf16Be,
            "UTF-16LE" => Charset::Utf16Le,
            _ => return Err(o.bad("raw.charset", "one of UTF-8, US-ASCII, ISO-8859-1, UTF-16BE, UTF-16LE")),
        };
        let little_endian = o.one_of("raw.endianness", &["big-endian", "little-endian"], 0)? == 1;
        Ok(RawOptions { charset, little_endian })
    }
}

/// The only column, of a type that has a raw form.
fn only_column(columns: &[Column]) -> Result<&Column> {
    let [column] = columns else {
        let names: Vec<_> = columns.iter().map(|c| c.name.as_str()).collect();
        return Err(Error::user(
            "format.raw.type",
            format!("the format 'raw' carries one column, and here are {}: {}", columns.len(), names.join(", ")),
        )
        .hint("declare one physical column, or use another format; metadata columns do not count"));
    };
    let plain = column.data_type.kind.is_string() || column.data_type.kind.is_integer();
    let plain = plain
        || matches!(
            column.data_type.kind,
            TypeKind::Boolean | TypeKind::Float | TypeKind::Double | TypeKind::Binary(_) | TypeKind::VarBinary(_)
        );
    if !plain {
        return Err(Error::user(
            "format.raw.type",
            format!("column `{}`: the format 'raw' has no bytes for {}", column.name, column.data_type),
        )
        .hint("use STRING, BYTES, BOOLEAN, TINYINT, SMALLINT, INT, BIGINT, FLOAT or DOUBLE"));
    }
    Ok(column)
}

/// Decoder of raw messages.
pub struct RawDecoder {
    options: RawOptions,
    name: String,
    column: ColumnBuilder,
    text: String,
}

impl RawDecoder {
    /// A decoder of the only column.
    pub fn new(options: RawOptions, columns: &[Column]) -> Result<Self> {
        let column = only_column(columns)?;
        let builder = ColumnBuilder::new(&column.data_type)?;
        Ok(RawDecoder { options, name: column.name.clone(), column: builder, text: String::new() })
    }

    /// Appends the value; what is wrong otherwise.
    fn append(&mut self, message: &[u8]) -> Result<(), String> {
        if self.column.kind().is_string() {
            return self.append_text(message);
        }
        let little = self.options.little_endian;
        let wrong = |expected: usize| format!("{} bytes, and a value has {expected}", message.len());
        fn fixed<const N: usize>(message: &[u8], little: bool) -> Result<[u8; N], usize> {
            let mut bytes: [u8; N] = message.try_into().map_err(|_| N)?;
            if !little {
                bytes.reverse();
            }
            Ok(bytes)
        }
        let taken = match self.column.kind() {
            TypeKind::Boolean => match message {
                [b] => self.column.append_bool(*b != 0),
                _ => return Err(wrong(1)),
            },
            TypeKind::TinyInt => {
                self.column.append_i64(i8::from_le_bytes(fixed(message, little).map_err(wrong)?).into())
            }
            TypeKind::SmallInt => {
                self.column.append_i64(i16::from_le_bytes(fixed(message, little).map_err(wrong)?).into())
            }
            TypeKind::Int => self.column.append_i64(i32::from_le_bytes(fixed(message, little).map_err(wrong)?).into()),
            TypeKind::BigInt => self.column.append_i64(i64::from_le_bytes(fixed(message, little).map_err(wrong)?)),
            TypeKind::Float => {
                self.column.append_f64(f32::from_le_bytes(fixed(message, little).map_err(wrong)?).into())
            }
            TypeKind::Double => self.column.append_f64(f64::from_le_bytes(fixed(message, little).map_err(wrong)?)),
            _ => self.column.append_bytes(message),
        };
        if taken { Ok(()) } else { Err("it is too long for one batch".into()) }
    }

    fn append_text(&mut self, message: &[u8]) -> Result<(), String> {
        let not = |charset: &str| format!("'{}' is not {charset}", excerpt(message));
        self.text.clear();
        let text = match self.options.charset {
            Charset::Utf8 => std::str::from_utf8(message).map_err(|_| not("UTF-8"))?,
            Charset::Ascii if !message.is_ascii() => return Err(not("US-ASCII")),
            Charset::Ascii => std::str::from_utf8(message).map_err(|_| not("US-ASCII"))?,
            Charset::Latin1 => {
                self.text.extend(message.iter().map(|&b| char::from(b)));
                &self.text
            }
            Charset::Utf16Be | Charset::Utf16Le => {
                let (pairs, rest) = message.as_chunks::<2>();
                let big = self.options.charset == Charset::Utf16Be;
                let units = pairs.iter().map(|p| if big { u16::from_be_bytes(*p) } else { u16::from_le_bytes(*p) });
                for c in char::decode_utf16(units) {
                    self.text.push(c.map_err(|_| not("UTF-16"))?);
                }
                if !rest.is_empty() {
                    return Err(not("UTF-16"));
                }
                &self.text
            }
        };
        if self.column.append_bytes(text.as_bytes()) { Ok(()) } else { Err("it is too long for one batch".into()) }
    }
}

impl MessageDecoder for RawDecoder {
    fn decode(&mut self, message: &[u8]) -> Result<(), BadRecord> {
        self.append(message).map_err(|problem| BadRecord {
            line: 0,
            field: Some(self.name.clone()),
            problem,
            skip_option: "",
        })
    }
    fn rows(&self) -> usize {
        self.column.len()
    }
    fn finish(&mut self) -> Result<Decoded> {
        Ok(Decoded { columns: vec![self.column.finish()?], kinds: None })
    }
}

/// Encoder of raw messages. NULL makes no message.
pub struct RawEncoder {
    options: RawOptions,
    name: String,
}

impl RawEncoder {
    /// An encoder of the only column.
    pub fn new(options: RawOptions, columns: &[Column]) -> Result<Self> {
        Ok(RawEncoder { options, name: only_column(columns)?.name.clone() })
    }

    fn text(&self, text: &str, out: &mut Vec<u8>) -> Result<()> {
        let cannot = |c: char, charset: &str| {
            Error::user("format.raw.charset", format!("column `{}`: {charset} has no character '{c}'", self.name))
                .hint("set 'raw.charset' = 'UTF-8', or replace such characters in the query")
        };
        match self.options.charset {
            Charset::Utf8 => out.extend_from_slice(text.as_bytes()),
            Charset::Ascii => match text.chars().find(|c| !c.is_ascii()) {
                Some(c) => return Err(cannot(c, "US-ASCII")),
                None => out.extend_from_slice(text.as_bytes()),
            },
            Charset::Latin1 => {
                for c in text.chars() {
                    out.push(u8::try_from(u32::from(c)).map_err(|_| cannot(c, "ISO-8859-1"))?);
                }
            }
            Charset::Utf16Be => text.encode_utf16().for_each(|u| out.extend_from_slice(&u.to_be_bytes())),
            Charset::Utf16Le => text.encode_utf16().for_each(|u| out.extend_from_slice(&u.to_le_bytes())),
        }
        Ok(())
    }

    fn value(&self, array: &ArrayRef, row: usize, out: &mut Vec<u8>) -> Result<()> {
        let mut number = |little: &[u8]| match self.options.little_endian {
            true => out.extend_from_slice(little),
            false => out.extend(little.iter().rev()),
        };
        match array.data_type() {
            Arrow::Utf8 => return self.text(array.as_string::<i32>().value(row), out),
            Arrow::Binary => out.extend_from_slice(array.as_binary::<i32>().value(row)),
            Arrow::Boolean => out.push(u8::from(array.as_boolean().value(row))),
            Arrow::Int8 => number(&array.as_primitive::<Int8Type>().value(row).to_le_bytes()),
            Arrow::Int16 => number(&array.as_primitive::<Int16Type>().value(row).to_le_bytes()),
            Arrow::Int32 => number(&array.as_primitive::<Int32Type>().value(row).to_le_bytes()),
            Arrow::Int64 => number(&array.as_primitive::<Int64Type>().value(row).to_le_bytes()),
            Arrow::Float32 => number(&array.as_primitive::<Float32Type>().value(row).to_le_bytes()),
            Arrow::Float64 => number(&array.as_primitive::<Float64Type>().value(row).to_le_bytes()),
            other => return Err(Error::bug(format!("raw cannot write {other}"))),
        }
        Ok(())
    }
}

impl MessageEncoder for RawEncoder {
    fn encode(&mut self, batch: &ChangeBatch, out: &mut Messages) -> Result<()> {
        let Some(column) = batch.rows.columns().first() else { return Err(Error::bug("raw without a column")) };
        for row in 0..batch.num_rows() {
            if column.is_null(row) {
                out.skip();
            } else {
                self.value(column, row, &mut out.bytes)?;
                out.end();
            }
        }
        Ok(())
    }
}
