//! TRANSLATE, ELT, SPLIT, STR_TO_MAP, IS_ALPHA and the like: text taken apart or chosen from.

use std::sync::Arc;

use arrow_array::builder::{MapBuilder, MapFieldNames, StringBuilder};
use arrow_array::types::Int32Type;
use arrow_array::{Array, ArrayRef};
use flott_core::Result;
use flott_core::types::DataType;
use flott_plan::expr::Expr;
use regex::Regex;

use super::choose::choose;
use super::java_regex::compile;
use super::lift::{is_valid, primitive, rows_list, rows_text, text, valid};
use super::{Compiled, constant_text};
use crate::compile::{EvalContext, Value};

/// The kernel, if `function` is one of these.
pub(super) fn kernel(function: &str, args: &[Expr], out: &DataType) -> Result<Option<Compiled>> {
    Ok(Some(match function {
        "TRANSLATE" => Compiled::total(translate),
        "ELT" => {
            let arrow = out.kind.to_arrow();
            Compiled::total(move |args, n, _| elt(args, n, &arrow))
        }
        "SPLIT" => Compiled::total(split),
        "STR_TO_MAP" => {
            let pattern = |k: usize, default: &str| match args.get(k) {
                None => compile(default).map(Some),
                Some(e) => constant_text(e).map(compile).transpose(),
            };
            let patterns = [pattern(1, ",")?, pattern(2, "=")?];
            Compiled {
                fallible: patterns.iter().any(Option::is_none),
                kernel: Box::new(move |args, n, _| str_to_map(args, n, &patterns)),
            }
        }
        "IS_ALPHA" => test(|s| !s.is_empty() && s.chars().all(char::is_alphabetic)),
        "IS_DIGIT" => test(|s| !s.is_empty() && s.chars().all(|c| c.is_ascii_digit())),
        "IS_DECIMAL" => test(|s| super::cast::parse::decimal(s, 38, 38).is_some()),
        _ => return Ok(None),
    }))
}

/// A property that NULL does not have.
fn test(f: fn(&str) -> bool) -> Compiled {
    Compiled::total(move |args, n, _| {
        let (source, m) = (text(&args[0])?, args[0].row_mask());
        let bits = arrow_buffer::BooleanBuffer::collect_bool(n, |i| source.is_valid(i & m) && f(source.value(i & m)));
        Ok(Arc::new(arrow_array::BooleanArray::new(bits, None)))
    })
}

/// Characters of the second text become those at the same place of the third; the first place counts.
fn translate(args: &[Value], rows: usize, _: &EvalContext) -> Result<ArrayRef> {
    let parts = args.iter().map(|a| Ok((text(a)?, a.row_mask()))).collect::<Result<Vec<_>>>()?;
    let at = |k: usize, i: usize| parts[k].0.value(i & parts[k].1);
    let refs: Vec<&Value> = args.iter().collect();
    let mut table: (String, String, Vec<(char, Option<char>)>) = Default::default();
    let out = rows_text(&refs, rows, |i, out| {
        let (from, to) = (at(1, i), at(2, i));
        if table.0 != from || table.1 != to {
            let mut targets = to.chars();
            table = (from.to_owned(), to.to_owned(), from.chars().map(|c| (c, targets.next())).collect());
        }
        out.extend(at(0, i).chars().filter_map(|c| match table.2.iter().find(|(f, _)| *f == c) {
            Some((_, to)) => *to,
            None => Some(c),
        }));
        Ok(true)
    })?;
    Ok(Arc::new(out))
}

/// The argument with that number, from 1 on.
fn elt(args: &[Value], rows: usize, arrow: &arrow_schema::DataType) -> Result<ArrayRef> {
    let (index, m) = (primitive::<Int32Type>(&args[0])?, args[0].row_mask());
    let taken: Vec<_> = (1..args.len())
        .map(|k| {
            arrow_buffer::BooleanBuffer::collect_bool(rows, |i| {
                index.is_valid(i & m) && usize::try_from(index.value(i & m)) == Ok(k)
            })
        })
        .collect();
    let mut values = args[1..].to_vec();
    values.push(Value::Scalar(arrow_array::new_null_array(arrow, 1)));
    choose(&values, &taken, rows, arrow)?.into_array(rows)
}

fn split(args: &[Value], rows: usize, _: &EvalContext) -> Result<ArrayRef> {
    let (source, m) = (text(&args[0])?, args[0].row_mask());
    let (delimiters, k) = (text(&args[1])?, args[1].row_mask());
    let out = rows_list(&[&args[0], &args[1]], rows, |i, items| {
        let (s, delimiter) = (source.value(i & m), delimiters.value(i & k));
        if delimiter.is_empty() {
            // Java splits between UTF-16 units: half of a pair is `?`.
            for (at, c) in s.char_indices() {
                match c.len_utf16() {
                    1 => items.append_value(&s[at..at + c.len_utf8()]),
                    _ => (0..2).for_each(|_| items.append_value("?")),
                }
            }
        } else {
            s.split(delimiter).for_each(|part| items.append_value(part));
        }
        Ok(true)
    })?;
    Ok(Arc::new(out))
}

/// Java's `String.split`: no empty parts at the end.
fn java_split<'a>(regex: &'a Regex, s: &'a str) -> Vec<&'a str> {
    let mut parts = Vec::new();
    let mut last = 0;
    for found in regex.find_iter(s) {
        // A match without width at the start gives no empty part.
        if found.end() == 0 {
            continue;
        }
        parts.push(&s[last..found.start()]);
        last = found.end();
    }
    parts.push(&s[last..]);
    if parts.len() > 1 {
        while parts.last().is_some_and(|p| p.is_empty()) {
            parts.pop();
        }
    }
    parts
}

fn str_to_map(args: &[Value], rows: usize, constant: &[Option<Regex>; 2]) -> Result<ArrayRef> {
    let (source, m) = (text(&args[0])?, args[0].row_mask());
    let refs: Vec<&Value> = args.iter().collect();
    let nulls = valid(&refs, rows);
    let names = MapFieldNames { entry: "entries".into(), key: "key".into(), value: "value".into() };
    let mut out = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new());
    for i in 0..rows {
        if !is_valid(&nulls, i) {
            out.append(false)?;
            continue;
        }
        let own: Vec<Option<Regex>> = (0..2)
            .map(|k| match &constant[k] {
                Some(_) => Ok(None),
                None => compile(text(&args[k + 1])?.value(i & args[k + 1].row_mask())).map(Some),
            })
            .collect::<Result<_>>()?;
        let pattern = |k: usize| constant[k].as_ref().or(own[k].as_ref());
        let (Some(pairs), Some(pair)) = (pattern(0), pattern(1)) else { continue };
        let s = source.value(i & m);
        let mut entries: Vec<(&str, Option<&str>)> = Vec::new();
        for part in if s.is_empty() { Vec::new() } else { java_split(pairs, s) } {
            let (key, value) = match pair.find(part) {
                Some(f) => (&part[..f.start()], Some(&part[f.end()..])),
                None => (part, None),
            };
            match entries.iter_mut().find(|(k, _)| *k == key) {
                Some(entry) => entry.1 = value,
                None => entries.push((key, value)),
            }
        }
        for (key, value) in entries {
            out.keys().append_value(key);
            out.values().append_option(value);
        }
        out.append(true)?;
    }
    Ok(Arc::new(out.finish()))
}
