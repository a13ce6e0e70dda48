//! JSON_VALUE, JSON_QUERY, JSON_EXISTS, IS JSON and the text of JSON values. A document is parsed once per row, however many functions
//! read it: they share the node `$JSON`.

mod build;
mod path;
mod tape;

use std::cell::RefCell;
use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, ListBuilder, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, BooleanArray};
use flott_core::types::{DataType, TypeKind};
use flott_core::{Error, Result};
use flott_plan::expr::Expr;

pub use tape::write_string as write_json_string;

use self::path::{Found, Path};
use self::tape::{Kind, Node};
use super::lift::{is_valid, rows_text, text, try_rows_bool, valid};
use super::{Compiled, constant_text, data_error};
use crate::compile::Value;

/// The function that makes the form in which the others take a document.
pub(crate) const PARSED: &str = "$JSON";

/// Whether the first argument of the function is a document to be parsed.
pub(crate) fn takes_document(function: &str) -> bool {
    matches!(function, "JSON_VALUE" | "JSON_QUERY" | "JSON_EXISTS" | "JSON" | "PARSE_JSON" | "TRY_PARSE_JSON")
        || function.starts_with("IS JSON")
        || function.starts_with("$VARIANT")
}

/// The kernel, if `function` is one of these.
pub(super) fn kernel(function: &str, args: &[Expr], out: &DataType) -> Result<Option<Compiled>> {
    let option = |i: usize| args.get(i).and_then(constant_text).unwrap_or("NULL").to_owned();
    Ok(Some(match function {
        PARSED => Compiled::total(|args, n, _| parse(args, n)),
        "JSON_VALUE" => json_value(args, &option(2), &option(4), out)?,
        "JSON_QUERY" => json_query(args, Query::new(&option(2), &option(3), &option(4)), out)?,
        "JSON_EXISTS" => json_exists(args, option(2))?,
        "JSON" | "PARSE_JSON" => Compiled::partial(json_text(true)),
        "TRY_PARSE_JSON" => Compiled::partial(json_text(false)),
        "$VARIANT_AT" => Compiled::total(variant_at),
        "$VARIANT_CAST" => variant_cast(out)?,
        _ => match function.strip_prefix("IS JSON ") {
            Some(kind) => is_json(kind),
            None => return build::kernel(function, args, out),
        },
    }))
}

fn parse(args: &[Value], rows: usize) -> Result<ArrayRef> {
    let (source, m) = (text(&args[0])?, args[0].row_mask());
    let mut out = BinaryBuilder::with_capacity(rows, rows * 32);
    let mut tape = Vec::new();
    for i in 0..rows {
        if source.is_null(i & m) {
            out.append_null();
            continue;
        }
        tape.clear();
        tape::parse(source.value(i & m), &mut tape);
        if out.values_slice().len() + tape.len() > i32::MAX as usize {
            return Err(data_error("the JSON documents of one batch are longer than 2 GB"));
        }
        out.append_value(&tape);
    }
    Ok(Arc::new(out.finish()))
}

/// The paths of a call: one constant, or read again when they change.
struct Paths<'a> {
    texts: &'a arrow_array::StringArray,
    mask: usize,
    last: RefCell<Option<(String, Option<Arc<Path>>)>>,
}

impl<'a> Paths<'a> {
    fn of(value: &'a Value) -> Result<Self> {
        Ok(Paths { texts: text(value)?, mask: value.row_mask(), last: RefCell::new(None) })
    }
    fn at(&self, i: usize) -> Option<Arc<Path>> {
        let text = self.texts.value(i & self.mask);
        let mut last = self.last.borrow_mut();
        match &*last {
            Some((known, path)) if known == text => path.clone(),
            _ => {
                let path = Path::parse(text).map(Arc::new);
                *last = Some((text.to_owned(), path.clone()));
                path
            }
        }
    }
}

/// What a path gives, with the mode's idea of what is empty and what is wrong.
enum Answer<'a> {
    Value(Found<'a>),
    Empty,
    Wrong,
}

fn answer<'a>(tape: &'a [u8], path: Option<&Path>) -> (Answer<'a>, bool) {
    let Some(path) = path else { return (Answer::Wrong, false) };
    let missing = if path.lax { Answer::Empty } else { Answer::Wrong };
    let Some(root) = tape::document(tape) else { return (missing, path.lax) };
    let found = match path.find(root) {
        Ok(Found::One(node)) if matches!(tape::kind(node), Kind::Null) => missing,
        Ok(found) => Answer::Value(found),
        Err(_) => missing,
    };
    (found, path.lax)
}

fn is_container(node: Node<'_>) -> bool {
    matches!(tape::kind(node), Kind::Array(_) | Kind::Object(_))
}

/// A scalar as text.
fn push_scalar(node: Node<'_>, out: &mut String) {
    match tape::kind(node) {
        Kind::String(s) => out.push_str(s),
        _ => tape::write(node, out),
    }
}

fn wrong(function: &str, what: &str) -> Error {
    data_error(format!("{function}: {what}")).hint("say what is wanted instead: NULL ON ERROR, DEFAULT x ON ERROR")
}

fn tapes(value: &Value) -> Result<&arrow_array::BinaryArray> {
    value.array().as_binary_opt::<i32>().ok_or_else(|| Error::bug("a kernel for JSON got something else"))
}

/// JSON_VALUE as text first, converted behind; defaults have the result's type already.
fn json_value(args: &[Expr], on_empty: &str, on_error: &str, out: &DataType) -> Result<Compiled> {
    let (on_empty, on_error, kind) = (on_empty.to_owned(), on_error.to_owned(), out.kind.clone());
    let returning = if kind.is_string() { None } else { Some(scalar_reader(&kind)?) };
    debug_assert!(args.len() >= 2, "the binder gives a document and a path");
    Ok(Compiled::partial(move |args, rows, ctx| {
        let (documents, m, paths) = (tapes(&args[0])?, args[0].row_mask(), Paths::of(&args[1])?);
        let nulls = valid(&[&args[0], &args[1]], rows);
        // Where each row's value comes from: 0 the document, 1 the default on empty, 2 that on error.
        let mut from = vec![0u8; rows];
        let mut texts = StringBuilder::with_capacity(rows, rows * 16);
        let mut buffer = String::new();
        for (i, from) in from.iter_mut().enumerate() {
            buffer.clear();
            if !is_valid(&nulls, i) {
                texts.append_null();
                continue;
            }
            let (found, lax) = answer(documents.value(i & m), paths.at(i).as_deref());
            let failed = match found {
                Answer::Value(Found::One(node)) if !is_container(node) => {
                    push_scalar(node, &mut buffer);
                    match &returning {
                        Some(read) if !read(node, &mut buffer) => Some((false, "the value has another type")),
                        _ => None,
                    }
                }
                Answer::Empty => Some((true, "nothing is there")),
                Answer::Value(_) if lax => Some((true, "there is no scalar")),
                Answer::Value(_) => Some((false, "there is an array or an object")),
                Answer::Wrong => Some((false, "the document or the path is wrong, or nothing is there")),
            };
            let Some((empty, what)) = failed else {
                texts.append_value(&buffer);
                continue;
            };
            texts.append_null();
            match if empty { on_empty.as_str() } else { on_error.as_str() } {
                "ERROR" => return Err(wrong("JSON_VALUE", what)),
                "DEFAULT" => *from = if empty { 1 } else { 2 },
                _ => {}
            }
        }
        let values: ArrayRef = Arc::new(texts.finish());
        let values = super::cast::convert(&TypeKind::STRING, &kind, values, ctx)?;
        with_defaults(values, &from, args, rows)
    }))
}

fn with_defaults(values: ArrayRef, from: &[u8], args: &[Value], rows: usize) -> Result<ArrayRef> {
    if from.iter().all(|f| *f == 0) {
        return Ok(values);
    }
    let (empty, error) = (args[3].array(), args[5].array());
    let masks = [usize::MAX, args[3].row_mask(), args[5].row_mask()];
    let at: Vec<(usize, usize)> = (0..rows).map(|i| (from[i] as usize, i & masks[from[i] as usize])).collect();
    Ok(arrow_select::interleave::interleave(&[values.as_ref(), empty.as_ref(), error.as_ref()], &at)?)
}

/// Rewrites a scalar's text to what a cast reads; `false` when the value has no such form.
type ScalarReader = Box<dyn Fn(Node<'_>, &mut String) -> bool + Send + Sync>;

fn scalar_reader(kind: &TypeKind) -> Result<ScalarReader> {
    let whole = |bits: u32| -> ScalarReader {
        Box::new(move |_, text| {
            let head = text.trim().split('.').next().unwrap_or_default();
            let number = head.parse::<i128>().ok().or_else(|| text.trim().parse::<f64>().ok().map(|d| d as i128));
            let limit = 1i128 << (bits - 1);
            match number.filter(|n| (-limit..limit).contains(n)) {
                Some(n) => {
                    *text = n.to_string();
                    true
                }
                None => false,
            }
        })
    };
    Ok(match kind {
        TypeKind::Boolean => Box::new(|node, text| match tape::kind(node) {
            Kind::Bool(_) => true,
            Kind::String(s) => match s.trim().to_ascii_lowercase().as_str() {
                "true" | "t" | "yes" | "1" => {
                    "true".clone_into(text);
                    true
                }
                "false" | "f" | "no" | "0" => {
                    "false".clone_into(text);
                    true
                }
                _ => false,
            },
            _ => false,
        }),
        TypeKind::TinyInt => whole(8),
        TypeKind::SmallInt => whole(16),
        TypeKind::Int => whole(32),
        TypeKind::BigInt => whole(64),
        TypeKind::Float | TypeKind::Double | TypeKind::Decimal(..) => Box::new(|node, text| {
            !matches!(tape::kind(node), Kind::Bool(_)) && text.trim().parse::<f64>().is_ok_and(f64::is_finite)
        }),
        other => {
            let error = Error::user("sql.function", format!("JSON_VALUE cannot return {other}"));
            return Err(error.hint("return STRING, BOOLEAN or a number, and CAST it"));
        }
    })
}

/// The clauses of JSON_QUERY.
struct Query {
    wrapper: String,
    on_empty: String,
    on_error: String,
}

impl Query {
    fn new(wrapper: &str, on_empty: &str, on_error: &str) -> Self {
        Query { wrapper: wrapper.to_owned(), on_empty: on_empty.to_owned(), on_error: on_error.to_owned() }
    }
    /// The values at the path with the wrapper around them, as text; `Err`: what is said instead.
    fn text(&self, found: &Found<'_>, lax: bool, out: &mut String) -> std::result::Result<(), bool> {
        let many = |all: &[Node<'_>], out: &mut String| {
            out.push('[');
            for (i, node) in all.iter().enumerate() {
                out.push_str(if i > 0 { "," } else { "" });
                tape::write(node, out);
            }
            out.push(']');
        };
        let array = match found {
            Found::Many(_) => true,
            Found::One(node) => matches!(tape::kind(node), Kind::Array(_)),
        };
        let wrap = self.wrapper == "UNCONDITIONAL" || self.wrapper == "CONDITIONAL" && !array;
        if let (false, Found::One(node)) = (wrap, found)
            && !is_container(node)
        {
            return Err(lax);
        }
        out.push_str(if wrap { "[" } else { "" });
        match found {
            Found::One(node) => tape::write(node, out),
            Found::Many(all) => many(all, out),
        }
        out.push_str(if wrap { "]" } else { "" });
        Ok(())
    }
    /// The text for a row; `None`: NULL.
    fn row(&self, document: &[u8], path: Option<&Path>, out: &mut String) -> Result<bool> {
        let (found, lax) = answer(document, path);
        let empty = match &found {
            Answer::Value(found) => match self.text(found, lax, out) {
                Ok(()) => return Ok(true),
                Err(empty) => empty,
            },
            Answer::Empty => true,
            Answer::Wrong => false,
        };
        match if empty { self.on_empty.as_str() } else { self.on_error.as_str() } {
            "ERROR" => Err(wrong("JSON_QUERY", "there is no array and no object")),
            "EMPTY ARRAY" => {
                out.push_str("[]");
                Ok(true)
            }
            "EMPTY OBJECT" => {
                out.push_str("{}");
                Ok(true)
            }
            _ => Ok(false),
        }
    }
}

fn json_query(args: &[Expr], query: Query, out: &DataType) -> Result<Compiled> {
    debug_assert!(args.len() >= 2, "the binder gives a document and a path");
    let list = match &out.kind {
        TypeKind::Array(item) if item.kind.is_string() => true,
        kind if kind.is_string() => false,
        other => {
            let error = Error::user("sql.function", format!("JSON_QUERY cannot return {other}"));
            return Err(error.hint("return STRING or ARRAY<STRING>"));
        }
    };
    let arrow = out.kind.to_arrow();
    Ok(Compiled::partial(move |args, rows, _| {
        let (documents, m, paths) = (tapes(&args[0])?, args[0].row_mask(), Paths::of(&args[1])?);
        let texts = rows_text(&[&args[0], &args[1]], rows, |i, out| {
            query.row(documents.value(i & m), paths.at(i).as_deref(), out)
        })?;
        if list { items_as_text(&texts, &arrow) } else { Ok(Arc::new(texts)) }
    }))
}

/// JSON arrays as arrays of text; what is no array is NULL.
fn items_as_text(texts: &arrow_array::StringArray, arrow: &arrow_schema::DataType) -> Result<ArrayRef> {
    let arrow_schema::DataType::List(field) = arrow else { return Err(Error::bug("an ARRAY is a list")) };
    let mut out = ListBuilder::new(StringBuilder::new()).with_field(Arc::clone(field));
    let (mut tape, mut buffer) = (Vec::new(), String::new());
    for text in texts {
        tape.clear();
        tape::parse(text.unwrap_or("null"), &mut tape);
        let Kind::Array(items) = tape::kind(&tape) else {
            out.append_null();
            continue;
        };
        for item in items {
            buffer.clear();
            push_scalar(item, &mut buffer);
            let null = matches!(tape::kind(item), Kind::Null);
            out.values().append_option((!null).then_some(&buffer));
        }
        out.append(true);
    }
    Ok(Arc::new(out.finish()))
}

fn json_exists(args: &[Expr], on_error: String) -> Result<Compiled> {
    debug_assert!(args.len() >= 2, "the binder gives a document and a path");
    Ok(Compiled::partial(move |args, rows, _| {
        let (documents, m, paths) = (tapes(&args[0])?, args[0].row_mask(), Paths::of(&args[1])?);
        let out = try_rows_bool(&[&args[0], &args[1]], rows, |i| {
            match answer(documents.value(i & m), paths.at(i).as_deref()).0 {
                Answer::Value(_) => Ok(Some(true)),
                Answer::Empty => Ok(Some(false)),
                Answer::Wrong => match on_error.as_str() {
                    "ERROR" => Err(wrong("JSON_EXISTS", "the document or the path is wrong, or nothing is there")),
                    "TRUE" => Ok(Some(true)),
                    "UNKNOWN" => Ok(None),
                    _ => Ok(Some(false)),
                },
            }
        })?;
        Ok(Arc::new(out))
    }))
}

fn is_json(kind: &str) -> Compiled {
    let kind = kind.to_owned();
    Compiled::total(move |args, rows, _| {
        let (documents, m) = (tapes(&args[0])?, args[0].row_mask());
        let fits = |i: usize| {
            if documents.is_null(i & m) {
                return false;
            }
            let Some(node) = tape::document(documents.value(i & m)) else { return false };
            match (kind.as_str(), tape::kind(node)) {
                ("OBJECT", found) => matches!(found, Kind::Object(_)),
                ("ARRAY", found) => matches!(found, Kind::Array(_)),
                ("SCALAR", found) => !matches!(found, Kind::Object(_) | Kind::Array(_)),
                _ => true,
            }
        };
        Ok(Arc::new(BooleanArray::from_iter((0..rows).map(|i| Some(fits(i))))))
    })
}

/// The document written anew; where it is not JSON an error, or NULL.
fn json_text(strict: bool) -> impl Fn(&[Value], usize, &crate::compile::EvalContext) -> Result<ArrayRef> + Send + Sync {
    move |args, rows, _| {
        let (documents, m) = (tapes(&args[0])?, args[0].row_mask());
        let out = rows_text(&[&args[0]], rows, |i, out| match tape::document(documents.value(i & m)) {
            Some(node) => {
                tape::write(node, out);
                Ok(true)
            }
            None if strict => Err(data_error("a text is not JSON").hint("TRY_PARSE_JSON gives NULL instead")),
            None => Ok(false),
        })?;
        Ok(Arc::new(out))
    }
}

/// Member by name or item by position (from 1) of a VARIANT.
fn variant_at(args: &[Value], rows: usize, _: &crate::compile::EvalContext) -> Result<ArrayRef> {
    let (documents, m, k) = (tapes(&args[0])?, args[0].row_mask(), args[1].row_mask());
    let names = args[1].array().as_string_opt::<i32>();
    let positions = args[1].array().as_primitive_opt::<arrow_array::types::Int32Type>();
    let out = rows_text(&[&args[0], &args[1]], rows, |i, out| {
        let found = match (tape::document(documents.value(i & m)).map(tape::kind), names, positions) {
            (Some(Kind::Object(members)), Some(names), _) => members.get(names.value(i & k)),
            (Some(Kind::Array(mut items)), _, Some(at)) => {
                usize::try_from(at.value(i & k)).ok().and_then(|at| at.checked_sub(1)).and_then(|at| items.nth(at))
            }
            _ => None,
        };
        let Some(node) = found else { return Ok(false) };
        tape::write(node, out);
        Ok(true)
    })?;
    Ok(Arc::new(out))
}

/// A scalar VARIANT as another type: its text, read as CAST reads it.
fn variant_cast(out: &DataType) -> Result<Compiled> {
    let kind = out.kind.clone();
    Ok(Compiled::partial(move |args, rows, ctx| {
        let (documents, m) = (tapes(&args[0])?, args[0].row_mask());
        let texts = rows_text(&[&args[0]], rows, |i, out| match tape::document(documents.value(i & m)) {
            Some(node) if !matches!(tape::kind(node), Kind::Null) => {
                push_scalar(node, out);
                Ok(true)
            }
            _ => Ok(false),
        })?;
        super::cast::convert(&TypeKind::STRING, &kind, Arc::new(texts), ctx)
    }))
}
