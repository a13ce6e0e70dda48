//! Text and bytes in other forms: character sets, Base64, hexadecimal and binary digits, URL escapes, IPv4 addresses; what cannot be read is NULL.

use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_array::types::Int64Type;
use flott_core::types::DataType;
use flott_core::{Error, Result};
use flott_plan::expr::Expr;

use super::lift::{bytes, primitive, rows_bytes, rows_opt, rows_text, text};
use super::{Compiled, constant_text};
use crate::compile::Value;

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// The kernel, if `function` is one of these.
pub(super) fn kernel(function: &str, args: &[Expr], _out: &DataType) -> Result<Option<Compiled>> {
    Ok(Some(match function {
        "ENCODE" | "DECODE" => {
            let constant = constant_text(&args[1]).map(Charset::parse).transpose()?;
            let encode = function == "ENCODE";
            Compiled {
                fallible: constant.is_none(),
                kernel: Box::new(
                    move |args, n, _| if encode { encoded(args, n, constant) } else { decoded(args, n, constant) },
                ),
            }
        }
        "TO_BASE64" => of_bytes(base64),
        "FROM_BASE64" => optional(|s, out| {
            let mut read = Vec::new();
            let known = from_base64(s.as_bytes(), &mut read);
            out.push_str(&String::from_utf8_lossy(&read));
            known
        }),
        "HEX" if args[0].data_type.kind.is_integer() => of_integer(|v, out| {
            use std::fmt::Write;
            write!(out, "{v:X}").expect("strings accept text");
        }),
        "HEX" => of_bytes(|b, out| {
            for b in b {
                out.push(char::from(HEX[usize::from(b >> 4)]));
                out.push(char::from(HEX[usize::from(b & 15)]));
            }
        }),
        "BIN" => of_integer(|v, out| {
            use std::fmt::Write;
            write!(out, "{v:b}").expect("strings accept text");
        }),
        "UNHEX" => Compiled::total(|args, n, _| {
            let (source, m) = (text(&args[0])?, args[0].row_mask());
            Ok(Arc::new(rows_bytes(&[&args[0]], n, |i, out| Ok(unhex(source.value(i & m).as_bytes(), out)))?))
        }),
        "URL_ENCODE" => optional(|s, out| {
            url_encode(s, out);
            true
        }),
        "URL_DECODE" => optional(url_decode),
        "INET_ATON" => Compiled::total(|args, n, _| {
            let (source, m) = (text(&args[0])?, args[0].row_mask());
            Ok(Arc::new(rows_opt::<Int64Type>(&[&args[0]], n, |i| inet_aton(source.value(i & m)))?))
        }),
        "INET_NTOA" => Compiled::total(|args, n, _| {
            use std::fmt::Write;
            let (source, m) = (primitive::<Int64Type>(&args[0])?, args[0].row_mask());
            let out = rows_text(&[&args[0]], n, |i, out| {
                let Ok(v) = u32::try_from(source.value(i & m)) else { return Ok(false) };
                let [a, b, c, d] = v.to_be_bytes();
                write!(out, "{a}.{b}.{c}.{d}").expect("strings accept text");
                Ok(true)
            })?;
            Ok(Arc::new(out))
        }),
        _ => return Ok(None),
    }))
}

fn of_bytes(f: impl Fn(&[u8], &mut String) + Send + Sync + 'static) -> Compiled {
    Compiled::total(move |args, n, _| {
        let (source, m) = (bytes(&args[0])?, args[0].row_mask());
        let out = rows_text(&[&args[0]], n, |i, out| {
            f(source.value(i & m), out);
            Ok(true)
        })?;
        Ok(Arc::new(out))
    })
}

fn of_integer(f: impl Fn(i64, &mut String) + Send + Sync + 'static) -> Compiled {
    Compiled::total(move |args, n, _| {
        let (source, m) = (primitive::<Int64Type>(&args[0])?, args[0].row_mask());
        let out = rows_text(&[&args[0]], n, |i, out| {
            f(source.value(i & m), out);
            Ok(true)
        })?;
        Ok(Arc::new(out))
    })
}

/// Text of a text, NULL where `f` returns `false`.
fn optional(f: impl Fn(&str, &mut String) -> bool + Send + Sync + 'static) -> Compiled {
    Compiled::total(move |args, n, _| {
        let (source, m) = (text(&args[0])?, args[0].row_mask());
        Ok(Arc::new(rows_text(&[&args[0]], n, |i, out| Ok(f(source.value(i & m), out)))?))
    })
}

/// The character sets that every Java knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Charset {
    Utf8,
    Ascii,
    Latin1,
    Utf16,
    Utf16Be,
    Utf16Le,
}

impl Charset {
    fn parse(name: &str) -> Result<Self> {
        Ok(match name.to_ascii_uppercase().as_str() {
            "UTF-8" | "UTF8" => Charset::Utf8,
            "US-ASCII" | "ASCII" => Charset::Ascii,
            "ISO-8859-1" | "LATIN1" | "ISO8859_1" => Charset::Latin1,
            "UTF-16" | "UTF16" => Charset::Utf16,
            "UTF-16BE" => Charset::Utf16Be,
            "UTF-16LE" => Charset::Utf16Le,
            _ => {
                return Err(Error::user("sql.data", format!("unknown character set '{name}'"))
                    .detail("expected US-ASCII, ISO-8859-1, UTF-8, UTF-16BE, UTF-16LE or UTF-16"));
            }
        })
    }

    fn encode(self, s: &str, out: &mut Vec<u8>) {
        // Java writes what a set lacks as '?'.
        let single = |c: char, max: u32| if u32::from(c) <= max { c as u8 } else { b'?' };
        match self {
            Charset::Utf8 => out.extend_from_slice(s.as_bytes()),
            Charset::Ascii => out.extend(s.chars().map(|c| single(c, 0x7f))),
            Charset::Latin1 => out.extend(s.chars().map(|c| single(c, 0xff))),
            Charset::Utf16Le => out.extend(s.encode_utf16().flat_map(u16::to_le_bytes)),
            Charset::Utf16Be => out.extend(s.encode_utf16().flat_map(u16::to_be_bytes)),
            Charset::Utf16 => {
                if !s.is_empty() {
                    out.extend([0xfe, 0xff]);
                }
                out.extend(s.encode_utf16().flat_map(u16::to_be_bytes));
            }
        }
    }

    fn decode(self, b: &[u8], out: &mut String) {
        match self {
            Charset::Utf8 => out.push_str(&String::from_utf8_lossy(b)),
            Charset::Ascii => out.extend(b.iter().map(|b| if b.is_ascii() { char::from(*b) } else { '\u{fffd}' })),
            Charset::Latin1 => out.extend(b.iter().map(|b| char::from(*b))),
            Charset::Utf16Le => utf16(b, u16::from_le_bytes, out),
            Charset::Utf16Be => utf16(b, u16::from_be_bytes, out),
            Charset::Utf16 => match b {
                [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes, out),
                [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes, out),
                _ => utf16(b, u16::from_be_bytes, out),
            },
        }
    }
}

fn utf16(b: &[u8], unit: fn([u8; 2]) -> u16, out: &mut String) {
    let pairs = b.chunks_exact(2);
    let odd = !pairs.remainder().is_empty();
    let units = pairs.map(|p| unit([p[0], p[1]]));
    out.extend(char::decode_utf16(units).map(|c| c.unwrap_or('\u{fffd}')));
    if odd {
        out.push('\u{fffd}');
    }
}

/// The character set of each row.
fn charset(args: &[Value], i: usize, constant: Option<Charset>) -> Result<Charset> {
    match constant {
        Some(charset) => Ok(charset),
        None => Charset::parse(text(&args[1])?.value(i & args[1].row_mask())),
    }
}

fn encoded(args: &[Value], rows: usize, constant: Option<Charset>) -> Result<ArrayRef> {
    let (source, m) = (text(&args[0])?, args[0].row_mask());
    let out = rows_bytes(&[&args[0], &args[1]], rows, |i, out| {
        charset(args, i, constant)?.encode(source.value(i & m), out);
        Ok(true)
    })?;
    Ok(Arc::new(out))
}

fn decoded(args: &[Value], rows: usize, constant: Option<Charset>) -> Result<ArrayRef> {
    let (source, m) = (bytes(&args[0])?, args[0].row_mask());
    let out = rows_text(&[&args[0], &args[1]], rows, |i, out| {
        charset(args, i, constant)?.decode(source.value(i & m), out);
        Ok(true)
    })?;
    Ok(Arc::new(out))
}

pub(super) fn base64(b: &[u8], out: &mut String) {
    for chunk in b.chunks(3) {
        let n = chunk.iter().fold(0u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for k in 0..4 {
            let digit = BASE64[(n >> (18 - 6 * k) & 63) as usize];
            out.push(if k > chunk.len() { '=' } else { char::from(digit) });
        }
    }
}

/// Reads Base64 with or without its padding.
fn from_base64(s: &[u8], out: &mut Vec<u8>) -> bool {
    let body = s.strip_suffix(b"==").or_else(|| s.strip_suffix(b"=")).unwrap_or(s);
    if body.len() % 4 == 1 || body.len() != s.len() && !s.len().is_multiple_of(4) {
        return false;
    }
    let (mut bits, mut count) = (0u32, 0);
    for b in body {
        let Some(digit) = BASE64.iter().position(|d| d == b) else { return false };
        bits = bits << 6 | digit as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    true
}

/// An odd first digit stands alone.
/// Pairs of digits as bytes. As in Flink, a first digit without a partner counts as a byte of 0.
fn unhex(s: &[u8], out: &mut Vec<u8>) -> bool {
    let digit = |b: u8| char::from(b).to_digit(16);
    let (first, pairs) = s.split_at(s.len() % 2);
    if !first.iter().all(u8::is_ascii_hexdigit) {
        return false;
    }
    out.extend(first.iter().map(|_| 0));
    for part in pairs.chunks(2) {
        let Some(n) = part.iter().try_fold(0, |n, b| Some(n * 16 + digit(*b)?)) else { return false };
        out.push(n as u8);
    }
    true
}

/// As Java's `URLEncoder`: a form, not a path.
fn url_encode(s: &str, out: &mut String) {
    for b in s.bytes() {
        match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'*' | b'_' => out.push(char::from(b)),
            b' ' => out.push('+'),
            _ => {
                out.push('%');
                out.push(char::from(HEX[usize::from(b >> 4)]));
                out.push(char::from(HEX[usize::from(b & 15)]));
            }
        }
    }
}

/// As Java's `URLDecoder`.
pub(super) fn url_decode(s: &str, out: &mut String) -> bool {
    let mut read = Vec::with_capacity(s.len());
    let mut rest = s.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        match first {
            b'+' => read.push(b' '),
            b'%' => {
                if tail.len() < 2 || !unhex(&tail[..2], &mut read) {
                    return false;
                }
                rest = &tail[2..];
            }
            b => read.push(*b),
        }
    }
    out.push_str(&String::from_utf8_lossy(&read));
    true
}

/// `a.b.c.d`, or fewer numbers of which the last fills what is left.
fn inet_aton(s: &str) -> Option<i64> {
    let parts: Vec<i64> = s
        .split('.')
        .map(|p| p.parse().ok().filter(|_| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit())))
        .collect::<Option<_>>()?;
    let (last, first) = parts.split_last()?;
    if first.len() > 3 || first.iter().any(|p| *p > 255) || *last >= 1 << (8 * (4 - first.len())) {
        return None;
    }
    let head = first.iter().fold(0, |n, p| n << 8 | p);
    Some(head << (8 * (4 - first.len())) | last)
}
