//! JSON_OBJECT, JSON_ARRAY, JSON_STRING, JSON_QUOTE, JSON_UNQUOTE: SQL values as JSON text. Reads no path.

use std::fmt::Write;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::*;
use arrow_array::{Array, ArrayRef};
use flott_core::types::{DataType, TypeKind};
use flott_core::{Error, Result};
use flott_plan::expr::{Expr, ExprKind};

use super::super::lift::{rows_text, text};
use super::super::{Compiled, constant_text};
use super::tape::{self, Kind, write_string};
use crate::compile::EvalContext;

/// Writes row `i`, which may be NULL.
type JsonWriter<'a> = Box<dyn Fn(usize, &mut String) + 'a>;

/// The kernel, if `function` is one of these.
pub(super) fn kernel(function: &str, args: &[Expr], _out: &DataType) -> Result<Option<Compiled>> {
    Ok(Some(match function {
        "JSON_STRING" => {
            let (kind, raw) = of(&args[0]);
            check(&kind)?;
            Compiled::total(move |args, rows, ctx| {
                let (write, m) = (writer(args[0].array(), &kind, raw, ctx), args[0].row_mask());
                let out = rows_text(&[&args[0]], rows, |i, out| {
                    write(i & m, out);
                    Ok(true)
                })?;
                Ok(Arc::new(out))
            })
        }
        "JSON_ARRAY" | "JSON_OBJECT" => construct(function == "JSON_OBJECT", args)?,
        "JSON_QUOTE" => Compiled::total(|args, rows, _| {
            let (source, m) = (text(&args[0])?, args[0].row_mask());
            let out = rows_text(&[&args[0]], rows, |i, out| {
                quote(source.value(i & m), out);
                Ok(true)
            })?;
            Ok(Arc::new(out))
        }),
        "JSON_UNQUOTE" => Compiled::total(|args, rows, _| {
            let (source, m) = (text(&args[0])?, args[0].row_mask());
            let mut tape = Vec::new();
            let out = rows_text(&[&args[0]], rows, |i, out| {
                let given = source.value(i & m);
                tape.clear();
                tape::parse(given, &mut tape);
                match tape::document(&tape).map(tape::kind) {
                    Some(Kind::String(s)) if given.ends_with('"') => out.push_str(s),
                    _ => out.push_str(given),
                }
                Ok(true)
            })?;
            Ok(Arc::new(out))
        }),
        _ => return Ok(None),
    }))
}

/// In quotes, with everything beyond ASCII as `\uXXXX`.
fn quote(s: &str, out: &mut String) {
    out.push('"');
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '/' => out.push_str("\\/"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            ' '..='~' => out.push(c),
            c => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out.push('"');
}

/// Type of an argument, and whether it is JSON text already.
fn of(arg: &Expr) -> (TypeKind, bool) {
    let mut inner = arg;
    while let ExprKind::Cast { input, .. } = &inner.kind {
        inner = input;
    }
    let raw = matches!(&inner.kind, ExprKind::Call { function, .. }
        if matches!(function.as_str(), "JSON_OBJECT" | "JSON_ARRAY" | "JSON"));
    (arg.data_type.kind.clone(), raw || arg.data_type.kind == TypeKind::Variant)
}

/// Refuses what has no form in JSON.
fn check(kind: &TypeKind) -> Result<()> {
    match kind {
        TypeKind::Map(k, v) if k.kind.is_string() => check(&v.kind),
        TypeKind::Multiset(k) if k.kind.is_string() => Ok(()),
        TypeKind::Map(k, _) | TypeKind::Multiset(k) => {
            let text = format!("JSON has only strings as names, found keys of type {}", k.kind);
            Err(Error::user("sql.function", text).hint("use a MAP with keys of type STRING"))
        }
        TypeKind::Array(t) => check(&t.kind),
        TypeKind::Row(fields) => fields.iter().try_for_each(|(_, t)| check(&t.kind)),
        _ => Ok(()),
    }
}

/// The last argument is what is done with NULL; the others are items, or names and values in turn.
fn construct(object: bool, args: &[Expr]) -> Result<Compiled> {
    let Some((on_null, items)) = args.split_last() else { return Err(Error::bug("no ON NULL clause was bound")) };
    let absent = constant_text(on_null) == Some("ABSENT");
    let kinds: Vec<(TypeKind, bool)> = items.iter().map(of).collect();
    kinds.iter().try_for_each(|(k, _)| check(k))?;
    Ok(Compiled::total(move |args, rows, ctx| {
        let items = &args[..kinds.len()];
        let write: Vec<JsonWriter<'_>> =
            items.iter().zip(&kinds).map(|(a, (k, raw))| writer(a.array(), k, *raw, ctx)).collect();
        let is_null = |k: usize, i: usize| items[k].array().is_null(i & items[k].row_mask());
        // Names come in order, as Jackson writes them.
        let mut order: Vec<usize> = (0..items.len()).step_by(if object { 2 } else { 1 }).collect();
        if object {
            let names = order.iter().map(|&k| text(&items[k])).collect::<Result<Vec<_>>>()?;
            let name = |k: usize| if names[k / 2].is_empty() { "" } else { names[k / 2].value(0) };
            order.sort_by_key(|&k| name(k));
        }
        let out = rows_text(&[], rows, |i, out| {
            let mut first = true;
            out.push(if object { '{' } else { '[' });
            for &k in &order {
                let value = if object { k + 1 } else { k };
                if absent && is_null(value, i) {
                    continue;
                }
                out.push_str(if first { "" } else { "," });
                first = false;
                if object {
                    write[k](i & items[k].row_mask(), out);
                    out.push(':');
                }
                write[value](i & items[value].row_mask(), out);
            }
            out.push(if object { '}' } else { ']' });
            Ok(true)
        })?;
        Ok(Arc::new(out))
    }))
}

fn writer<'a>(array: &'a ArrayRef, kind: &'a TypeKind, raw: bool, ctx: &'a EvalContext) -> JsonWriter<'a> {
    let value = value_writer(array, kind, raw, ctx);
    Box::new(move |i, out| if array.is_null(i) { out.push_str("null") } else { value(i, out) })
}

fn value_writer<'a>(array: &'a ArrayRef, kind: &'a TypeKind, raw: bool, ctx: &'a EvalContext) -> JsonWriter<'a> {
    match kind {
        TypeKind::Boolean => {
            let array = array.as_boolean();
            Box::new(move |i, out| out.push_str(if array.value(i) { "true" } else { "false" }))
        }
        TypeKind::Float => {
            let array = array.as_primitive::<Float32Type>();
            Box::new(move |i, out| {
                number(array.value(i).is_finite(), out, |o| flott_core::text::java_float(array.value(i), o))
            })
        }
        TypeKind::Double => {
            let array = array.as_primitive::<Float64Type>();
            Box::new(move |i, out| {
                number(array.value(i).is_finite(), out, |o| flott_core::text::java_double(array.value(i), o))
            })
        }
        kind if kind.is_numeric() => super::super::cast::text_writer(array, kind, ctx.zone),
        TypeKind::Binary(_) | TypeKind::VarBinary(_) | TypeKind::Bitmap => {
            let array = array.as_binary::<i32>();
            Box::new(move |i, out| {
                out.push('"');
                super::super::codec::base64(array.value(i), out);
                out.push('"');
            })
        }
        TypeKind::Array(item) => {
            let list = array.as_list::<i32>();
            let item = writer(list.values(), &item.kind, false, ctx);
            Box::new(move |i, out| {
                let (start, end) = (list.value_offsets()[i], list.value_offsets()[i + 1]);
                out.push('[');
                for at in start..end {
                    out.push_str(if at > start { "," } else { "" });
                    item(at as usize, out);
                }
                out.push(']');
            })
        }
        TypeKind::Row(fields) => row_writer(array, fields, ctx),
        TypeKind::Map(..) | TypeKind::Multiset(_) => map_writer(array, kind, ctx),
        _ if raw => {
            let array = array.as_string::<i32>();
            Box::new(move |i, out| out.push_str(array.value(i)))
        }
        TypeKind::Null => Box::new(|_, out| out.push_str("null")),
        kind => {
            let print = super::super::cast::text_writer(array, kind, ctx.zone);
            Box::new(move |i, out| {
                let mut text = String::new();
                print(i, &mut text);
                write_string(&text, out);
            })
        }
    }
}

fn number(finite: bool, out: &mut String, write: impl FnOnce(&mut String)) {
    out.push_str(if finite { "" } else { "\"" });
    write(out);
    out.push_str(if finite { "" } else { "\"" });
}

/// Members by the names of the fields, in order.
fn row_writer<'a>(array: &'a ArrayRef, fields: &'a [(String, DataType)], ctx: &'a EvalContext) -> JsonWriter<'a> {
    let columns = array.as_struct().columns();
    let mut parts: Vec<(&str, JsonWriter<'a>)> =
        fields.iter().zip(columns).map(|((n, t), c)| (n.as_str(), writer(c, &t.kind, false, ctx))).collect();
    parts.sort_by_key(|(name, _)| *name);
    Box::new(move |i, out| {
        out.push('{');
        for (k, (name, part)) in parts.iter().enumerate() {
            out.push_str(if k > 0 { "," } else { "" });
            write_string(name, out);
            out.push(':');
            part(i, out);
        }
        out.push('}');
    })
}

fn map_writer<'a>(array: &'a ArrayRef, kind: &'a TypeKind, ctx: &'a EvalContext) -> JsonWriter<'a> {
    let map = array.as_map();
    let value = if let TypeKind::Map(_, value) = kind { &value.kind } else { &TypeKind::Int };
    let (keys, values) = (map.keys().as_string::<i32>(), writer(map.values(), value, false, ctx));
    Box::new(move |i, out| {
        let mut entries: Vec<usize> = (map.value_offsets()[i] as usize..map.value_offsets()[i + 1] as usize).collect();
        entries.sort_by_key(|&at| keys.value(at));
        out.push('{');
        for (k, &at) in entries.iter().enumerate() {
            out.push_str(if k > 0 { "," } else { "" });
            write_string(keys.value(at), out);
            out.push(':');
            values(at, out);
        }
        out.push('}');
    })
}
