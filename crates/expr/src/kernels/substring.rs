//! Functions that find or cut parts of text: results are slices of the argument, positions count code points from 1.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use arrow_array::{Array, ArrayRef, Int32Array, StringArray};
use flott_core::Result;
use flott_core::types::DataType;
use flott_plan::expr::Expr;
use memchr::{memchr_iter, memmem};

use super::Compiled;
use super::lift::{bytes, primitive, rows_bool, rows_opt, rows_slice, text};
use crate::compile::Value;

/// The kernel, if `function` is one of these.
pub(super) fn kernel(function: &str, _args: &[Expr], _out: &DataType) -> Result<Option<Compiled>> {
    Ok(Some(match function {
        "CHAR_LENGTH" => int_of(|s| if s.is_ascii() { s.len() } else { s.chars().count() } as i32),
        "OCTET_LENGTH" => int_of(|s| s.len() as i32),
        "ASCII" => int_of(|s| s.as_bytes().first().map_or(0, |b| i32::from(*b as i8))),
        "SUBSTRING" => Compiled::total(substring),
        "LEFT" => side(|s, n| cut(s, 0, n)),
        "RIGHT" => side(|s, n| {
            let length = s.chars().count();
            cut(s, length.saturating_sub(n), n)
        }),
        "TRIM" => trim(true, true),
        "LTRIM" => trim(true, false),
        "RTRIM" => trim(false, true),
        "POSITION" | "LOCATE" => position(0, 1),
        "INSTR" => position(1, 0),
        "SPLIT_INDEX" => Compiled::total(split_index),
        "STARTSWITH" => test(|s, t| s.starts_with(t)),
        "ENDSWITH" => test(|s, t| s.ends_with(t)),
        _ => return Ok(None),
    }))
}

fn int_of(f: impl Fn(&str) -> i32 + Send + Sync + 'static) -> Compiled {
    Compiled::total(move |args, n, _| {
        let (source, m) = (text(&args[0])?, args[0].row_mask());
        Ok(Arc::new(rows_opt::<Int32Type>(&[&args[0]], n, |i| Some(f(source.value(i & m))))?))
    })
}

fn test(f: impl Fn(&[u8], &[u8]) -> bool + Send + Sync + 'static) -> Compiled {
    Compiled::total(move |args, n, _| {
        let (a, m) = (bytes(&args[0])?, args[0].row_mask());
        let (b, k) = (bytes(&args[1])?, args[1].row_mask());
        Ok(Arc::new(rows_bool(&[&args[0], &args[1]], n, |i| f(a.value(i & m), b.value(i & k)))))
    })
}

/// `count` code points from the code point `start` (from 0).
fn cut(s: &str, start: usize, count: usize) -> &str {
    if s.is_ascii() {
        let start = start.min(s.len());
        return &s[start..start.saturating_add(count).min(s.len())];
    }
    let mut at = s.char_indices().map(|(at, _)| at).skip(start);
    let Some(from) = at.next() else { return "" };
    let to = if count == 0 { Some(from) } else { at.nth(count - 1) };
    &s[from..to.unwrap_or(s.len())]
}

fn side(f: impl Fn(&str, usize) -> &str + Send + Sync + 'static) -> Compiled {
    Compiled::total(move |args, n, _| {
        let (source, m) = (text(&args[0])?, args[0].row_mask());
        let (counts, k) = (primitive::<Int32Type>(&args[1])?, args[1].row_mask());
        let out =
            rows_slice(&[&args[0], &args[1]], n, |i| Some(f(source.value(i & m), counts.value(i & k).max(0) as usize)));
        Ok(Arc::new(out))
    })
}

fn substring(args: &[Value], rows: usize, _: &crate::compile::EvalContext) -> Result<ArrayRef> {
    let (source, m) = (text(&args[0])?, args[0].row_mask());
    let (from, k) = (primitive::<Int32Type>(&args[1])?, args[1].row_mask());
    let count =
        args.get(2).map(|c| Ok::<_, flott_core::Error>((primitive::<Int32Type>(c)?, c.row_mask()))).transpose()?;
    let refs: Vec<&Value> = args.iter().collect();
    let out = rows_slice(&refs, rows, |i| {
        let count = match count {
            Some((counts, c)) => usize::try_from(counts.value(i & c)).ok()?,
            None => usize::MAX,
        };
        let s = source.value(i & m);
        let start = match from.value(i & k) {
            0 => 0,
            n @ 1.. => n as usize - 1,
            n => match s.chars().count().checked_sub(n.unsigned_abs() as usize) {
                Some(start) => start,
                None => return Some(""),
            },
        };
        Some(cut(s, start, count))
    });
    Ok(Arc::new(out))
}

fn trim(left: bool, right: bool) -> Compiled {
    Compiled::total(move |args, n, _| {
        let (source, m) = (text(&args[0])?, args[0].row_mask());
        let set = args.get(1).map(|s| Ok::<_, flott_core::Error>((text(s)?, s.row_mask()))).transpose()?;
        let refs: Vec<&Value> = args.iter().collect();
        let out = rows_slice(&refs, n, |i| {
            let set = set.map_or(" ", |(s, k)| s.value(i & k));
            let mut s = source.value(i & m);
            if left {
                s = s.trim_start_matches(|c| set.contains(c));
            }
            if right {
                s = s.trim_end_matches(|c| set.contains(c));
            }
            Some(s)
        });
        Ok(Arc::new(out))
    })
}

/// Where argument `needle` is in argument `hay`, from the position in the third argument; 0: nowhere.
fn position(needle: usize, hay: usize) -> Compiled {
    Compiled::total(move |args, n, _| {
        let (needles, k) = (text(&args[needle])?, args[needle].row_mask());
        let (hays, m) = (text(&args[hay])?, args[hay].row_mask());
        let from =
            args.get(2).map(|f| Ok::<_, flott_core::Error>((primitive::<Int32Type>(f)?, f.row_mask()))).transpose()?;
        let refs: Vec<&Value> = args.iter().collect();
        let out: Int32Array = rows_opt::<Int32Type>(&refs, n, |i| {
            let (needle, hay) = (needles.value(i & k), hays.value(i & m));
            // Nothing is found at the first place, wherever the search begins; what begins before the text begins with it.
            if needle.is_empty() {
                return Some(1);
            }
            let skipped = from.map_or(0, |(f, c)| f.value(i & c).saturating_sub(1).max(0)) as usize;
            let rest = cut(hay, skipped, usize::MAX);
            Some(rest.find(needle).map_or(0, |at| (skipped + rest[..at].chars().count() + 1) as i32))
        })?;
        Ok(Arc::new(out))
    })
}

/// Separators given by their codes: from 1 to 255, others are NULL. Nothing when they are texts.
fn separators_of_codes(value: &Value) -> Option<Value> {
    let codes = value.array().as_primitive_opt::<Int32Type>()?;
    let texts: StringArray = codes
        .iter()
        .map(|code| code.and_then(|c| u8::try_from(c).ok()).filter(|c| *c > 0).map(|c| char::from(c).to_string()))
        .collect();
    let texts: ArrayRef = Arc::new(texts);
    Some(if value.is_scalar() { Value::Scalar(texts) } else { Value::Array(texts) })
}

/// Part `index` (from 0) between separators; NULL where there is none, as of empty text.
fn split_index(args: &[Value], rows: usize, _: &crate::compile::EvalContext) -> Result<ArrayRef> {
    let codes = separators_of_codes(&args[1]);
    let args = [&args[0], codes.as_ref().unwrap_or(&args[1]), &args[2]];
    let (source, m) = (text(args[0])?, args[0].row_mask());
    let (separators, k) = (text(args[1])?, args[1].row_mask());
    let (indices, c) = (primitive::<Int32Type>(args[2])?, args[2].row_mask());
    let refs = args;
    let single = (args[1].is_scalar() && args[2].is_scalar() && separators.is_valid(0) && indices.is_valid(0))
        .then(|| (separators.value(0).as_bytes(), indices.value(0)));
    if let Some(([separator], index @ 0..)) = single {
        let (separator, index) = (*separator, index as usize);
        return Ok(Arc::new(split_bytes(source, m, rows, &refs, separator, index)));
    }
    let out = rows_slice(&refs, rows, |i| {
        let (s, separator) = (source.value(i & m), separators.value(i & k));
        let index = usize::try_from(indices.value(i & c)).ok()?;
        if s.is_empty() {
            return None;
        }
        if separator.is_empty() {
            return s.split_whitespace().nth(index);
        }
        let mut start = 0;
        let mut ends = memmem::find_iter(s.as_bytes(), separator.as_bytes());
        for _ in 0..index {
            start = ends.next()? + separator.len();
        }
        Some(&s[start..ends.next().unwrap_or(s.len())])
    });
    Ok(Arc::new(out))
}

fn split_bytes(
    source: &StringArray,
    mask: usize,
    rows: usize,
    refs: &[&Value],
    separator: u8,
    index: usize,
) -> StringArray {
    rows_slice(refs, rows, |i| {
        let s = source.value(i & mask);
        if s.is_empty() {
            return None;
        }
        let mut ends = memchr_iter(separator, s.as_bytes());
        let start = if index == 0 { 0 } else { ends.nth(index - 1)? + 1 };
        Some(&s[start..ends.next().unwrap_or(s.len())])
    })
}
