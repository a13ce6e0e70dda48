//! Functions that make new text: case, concatenation, padding, replacement; characters are Unicode code points.

use std::sync::Arc;

use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{Array, ArrayRef, StringArray};
use flott_core::Result;
use flott_core::types::DataType;
use flott_plan::expr::Expr;

use super::Compiled;
use super::lift::{TEXT_BYTES_MAX, primitive, rows_text, text};
use crate::compile::Value;

/// The kernel, if `function` is one of these.
pub(super) fn kernel(function: &str, args: &[Expr], _out: &DataType) -> Result<Option<Compiled>> {
    Ok(Some(match function {
        "UPPER" => each(|s, out| case(s, out, u8::to_ascii_uppercase, char::to_uppercase)),
        "LOWER" => each(|s, out| case(s, out, u8::to_ascii_lowercase, char::to_lowercase)),
        "INITCAP" => each(initcap),
        "REVERSE" => each(|s, out| out.extend(s.chars().rev())),
        "CONCAT" => Compiled::total(concat),
        "CONCAT_WS" => Compiled::total(concat_ws),
        "REPLACE" => Compiled::total(|args, n, _| replace(args, n)),
        "OVERLAY" => Compiled::total(|args, n, _| overlay(args, n)),
        "REPEAT" => with_int(|s, count, out| {
            let count = count.max(0) as usize;
            refuse_long("REPEAT", s.len().saturating_mul(count))?;
            out.extend(std::iter::repeat_n(s, count));
            Ok(true)
        }),
        "LPAD" => pad(true),
        "RPAD" => pad(false),
        "CHR" if args.len() == 1 => Compiled::total(|args, n, _| {
            let codes = primitive::<Int64Type>(&args[0])?;
            let m = args[0].row_mask();
            let out = rows_text(&[&args[0]], n, |i, out| {
                let code = codes.value(i & m);
                if code >= 0 {
                    out.push(char::from((code & 0xff) as u8));
                }
                Ok(true)
            })?;
            Ok(Arc::new(out))
        }),
        _ => return Ok(None),
    }))
}

fn each(f: impl Fn(&str, &mut String) + Send + Sync + 'static) -> Compiled {
    Compiled::total(move |args, n, _| {
        let (source, m) = (text(&args[0])?, args[0].row_mask());
        let out = rows_text(&[&args[0]], n, |i, out| {
            f(source.value(i & m), out);
            Ok(true)
        })?;
        Ok(Arc::new(out))
    })
}

fn case<I: Iterator<Item = char>>(s: &str, out: &mut String, ascii: fn(&u8) -> u8, any: fn(char) -> I) {
    if s.is_ascii() {
        out.extend(s.bytes().map(|b| char::from(ascii(&b))));
    } else {
        out.extend(s.chars().flat_map(any));
    }
}

/// Letters and digits of ASCII make words.
fn initcap(s: &str, out: &mut String) {
    let mut inside = false;
    out.extend(s.chars().map(|c| {
        let shown = if inside { c.to_ascii_lowercase() } else { c.to_ascii_uppercase() };
        inside = c.is_ascii_alphanumeric();
        shown
    }));
}

/// Whether Java sees more characters in it than there are: surrogates.
fn beyond_bmp(s: &str) -> bool {
    s.bytes().any(|b| b >= 0xf0)
}

/// UTF-16 units as text; half of a pair is Java's `?`.
fn push_units(units: &[u16], out: &mut String) {
    out.extend(char::decode_utf16(units.iter().copied()).map(|c| c.unwrap_or('?')));
}

fn sources(args: &[Value]) -> Result<Vec<(&StringArray, usize)>> {
    args.iter().map(|a| Ok((text(a)?, a.row_mask()))).collect()
}

fn concat(args: &[Value], rows: usize, _: &crate::compile::EvalContext) -> Result<ArrayRef> {
    let parts = sources(args)?;
    let refs: Vec<&Value> = args.iter().collect();
    let out = rows_text(&refs, rows, |i, out| {
        for (part, m) in &parts {
            out.push_str(part.value(i & m));
        }
        Ok(true)
    })?;
    Ok(Arc::new(out))
}

fn concat_ws(args: &[Value], rows: usize, _: &crate::compile::EvalContext) -> Result<ArrayRef> {
    let parts = sources(args)?;
    let out = rows_text(&[&args[0]], rows, |i, out| {
        let separator = parts[0].0.value(i & parts[0].1);
        let mut first = true;
        for (part, m) in &parts[1..] {
            if part.is_null(i & m) {
                continue;
            }
            if !first {
                out.push_str(separator);
            }
            first = false;
            out.push_str(part.value(i & m));
        }
        Ok(true)
    })?;
    Ok(Arc::new(out))
}

fn replace(args: &[Value], rows: usize) -> Result<ArrayRef> {
    let parts = sources(args)?;
    let refs: Vec<&Value> = args.iter().collect();
    let at = |k: usize, i: usize| parts[k].0.value(i & parts[k].1);
    let out = rows_text(&refs, rows, |i, out| {
        let (s, search, with) = (at(0, i), at(1, i), at(2, i));
        let mut last = 0;
        for (start, found) in s.match_indices(search) {
            out.push_str(&s[last..start]);
            out.push_str(with);
            last = start + found.len();
        }
        out.push_str(&s[last..]);
        Ok(true)
    })?;
    Ok(Arc::new(out))
}

fn overlay(args: &[Value], rows: usize) -> Result<ArrayRef> {
    let (s, with) = (text(&args[0])?, text(&args[1])?);
    let from = primitive::<Int32Type>(&args[2])?;
    let count = args.get(3).map(primitive::<Int32Type>).transpose()?;
    let mask: Vec<usize> = args.iter().map(Value::row_mask).collect();
    let refs: Vec<&Value> = args.iter().collect();
    let out = rows_text(&refs, rows, |i, out| {
        let (s, with) = (s.value(i & mask[0]), with.value(i & mask[1]));
        let from = i64::from(from.value(i & mask[2]));
        let default = with.encode_utf16().count() as i64;
        let count = count.map_or(default, |c| i64::from(c.value(i & mask[3])));
        let length = s.encode_utf16().count() as i64;
        if from <= 0 || from > length {
            out.push_str(s);
            return Ok(true);
        }
        // As Flink: without a length above 0 nothing follows.
        let after = if count > 0 { (from - 1).saturating_add(count).min(length) } else { length };
        if beyond_bmp(s) {
            let units: Vec<u16> = s.encode_utf16().collect();
            push_units(&units[..from as usize - 1], out);
            out.push_str(with);
            push_units(&units[after as usize..], out);
        } else {
            out.extend(s.chars().take(from as usize - 1));
            out.push_str(with);
            out.extend(s.chars().skip(after as usize));
        }
        Ok(true)
    })?;
    Ok(Arc::new(out))
}

fn refuse_long(function: &str, bytes: usize) -> Result<()> {
    if bytes <= TEXT_BYTES_MAX {
        return Ok(());
    }
    Err(super::data_error(format!("{function} would make a text of {bytes} bytes"))
        .detail(format!("expected at most {TEXT_BYTES_MAX}")))
}

fn with_int(f: impl Fn(&str, i32, &mut String) -> Result<bool> + Send + Sync + 'static) -> Compiled {
    Compiled::partial(move |args, n, _| {
        let (source, m) = (text(&args[0])?, args[0].row_mask());
        let (counts, k) = (primitive::<Int32Type>(&args[1])?, args[1].row_mask());
        let out = rows_text(&[&args[0], &args[1]], n, |i, out| f(source.value(i & m), counts.value(i & k), out))?;
        Ok(Arc::new(out))
    })
}

fn pad(left: bool) -> Compiled {
    Compiled::partial(move |args, n, _| {
        let (source, m) = (text(&args[0])?, args[0].row_mask());
        let (lengths, k) = (primitive::<Int32Type>(&args[1])?, args[1].row_mask());
        let (pads, p) = (text(&args[2])?, args[2].row_mask());
        let out = rows_text(&[&args[0], &args[1], &args[2]], n, |i, out| {
            let (s, length, pad) = (source.value(i & m), lengths.value(i & k), pads.value(i & p));
            if length < 0 || pad.is_empty() {
                return Ok(false);
            }
            let length = length as usize;
            refuse_long("LPAD or RPAD", length)?;
            if beyond_bmp(s) || beyond_bmp(pad) {
                pad_units(s, length, pad, left, out);
                return Ok(true);
            }
            let missing = length.saturating_sub(s.chars().count());
            if left {
                out.extend(pad.chars().cycle().take(missing));
            }
            out.extend(s.chars().take(length));
            if !left {
                out.extend(pad.chars().cycle().take(missing));
            }
            Ok(true)
        })?;
        Ok(Arc::new(out))
    })
}

/// [`pad`] in Java's units, for text beyond the basic plane.
fn pad_units(s: &str, length: usize, pad: &str, left: bool, out: &mut String) {
    let (units, pad): (Vec<u16>, Vec<u16>) = (s.encode_utf16().collect(), pad.encode_utf16().collect());
    let filling: Vec<u16> = pad.iter().copied().cycle().take(length.saturating_sub(units.len())).collect();
    let kept = &units[..units.len().min(length)];
    let whole = if left { [&filling, kept].concat() } else { [kept, &filling].concat() };
    push_units(&whole, out);
}
