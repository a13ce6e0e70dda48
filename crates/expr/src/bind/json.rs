//! Types of the JSON functions, whose clauses come as text constants behind the arguments; never evaluates.

use flott_core::types::{DataType, TypeKind};
use flott_core::{Error, Result};
use flott_plan::expr::{Expr, Literal};

use super::{any_nullable, implicit_cast, mismatch};

/// Names bound here that take no clauses.
pub(super) const NAMES: &[&str] =
    &["JSON_STRING", "JSON_QUOTE", "JSON_UNQUOTE", "JSON", "PARSE_JSON", "TRY_PARSE_JSON"];

/// Names whose clauses the parser reads: for SHOW FUNCTIONS.
pub(super) const WITH_CLAUSES: &[&str] =
    &["IS JSON", "IS NOT JSON", "JSON_VALUE", "JSON_QUERY", "JSON_EXISTS", "JSON_OBJECT", "JSON_ARRAY"];

/// `None` when `name` is not one of [`NAMES`].
pub(super) fn bind(name: &str, args: &[Expr]) -> Result<Option<Expr>> {
    if !NAMES.contains(&name) {
        return Ok(None);
    }
    let fits = |e: &Expr| name == "JSON_STRING" || e.data_type.kind.is_string() || e.data_type.kind == TypeKind::Null;
    let [arg] = args else { return Err(mismatch(name, args, "one argument")) };
    if !fits(arg) {
        return Err(mismatch(name, args, "a string"));
    }
    let null = arg.data_type.kind == TypeKind::Null;
    let arg = if null { implicit_cast(arg.clone(), &TypeKind::STRING)? } else { arg.clone() };
    let nullable = arg.data_type.nullable || name == "TRY_PARSE_JSON";
    let kind = if name.ends_with("PARSE_JSON") { TypeKind::Variant } else { TypeKind::STRING };
    Ok(Some(Expr::call(name, vec![arg], DataType { kind, nullable })))
}

/// What a call of a JSON function says behind its arguments.
#[derive(Clone, Debug, Default)]
pub struct JsonClauses {
    /// RETURNING.
    pub returning: Option<TypeKind>,
    /// `WITHOUT`, `CONDITIONAL` or `UNCONDITIONAL` WRAPPER.
    pub wrapper: Option<String>,
    /// What stands before ON EMPTY.
    pub on_empty: Option<String>,
    /// What stands before ON ERROR.
    pub on_error: Option<String>,
    /// What stands before ON NULL.
    pub on_null: Option<String>,
    /// DEFAULT … ON EMPTY.
    pub default_on_empty: Option<Expr>,
    /// DEFAULT … ON ERROR.
    pub default_on_error: Option<Expr>,
}

fn word(text: &str) -> Expr {
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    Expr::literal(Literal::String(text.to_owned()), TypeKind::Char(length).not_null())
}

/// Binds JSON_VALUE, JSON_QUERY, JSON_EXISTS, JSON_OBJECT, JSON_ARRAY or `IS [NOT] JSON kind`.
pub fn bind_json(name: &str, args: Vec<Expr>, clauses: JsonClauses) -> Result<Expr> {
    let option = |o: &Option<String>, default: &str| word(o.as_deref().unwrap_or(default));
    if let Some(kind) = name.strip_prefix("IS ") {
        let (negated, kind) = match kind.strip_prefix("NOT ") {
            Some(kind) => (true, kind),
            None => (false, kind),
        };
        let args = documents(name, args, 1)?;
        let is = Expr::call(&format!("IS {kind}"), args, TypeKind::Boolean.not_null());
        return if negated { super::bind_call("NOT", vec![is]) } else { Ok(is) };
    }
    let nullable = any_nullable(&args);
    match name {
        "JSON_VALUE" => {
            let mut call = documents(name, args, 2)?;
            let kind = clauses.returning.unwrap_or(TypeKind::STRING);
            let default = |e: Option<Expr>| match e {
                Some(e) => implicit_cast(e, &kind),
                None => Ok(Expr::literal(Literal::Null, kind.clone().nullable())),
            };
            let said = |default: &Option<Expr>, word: &Option<String>| match default {
                Some(_) => "DEFAULT".to_owned(),
                None => word.clone().unwrap_or_else(|| "NULL".to_owned()),
            };
            let on_empty = said(&clauses.default_on_empty, &clauses.on_empty);
            let on_error = said(&clauses.default_on_error, &clauses.on_error);
            call.extend([word(&on_empty), default(clauses.default_on_empty)?]);
            call.extend([word(&on_error), default(clauses.default_on_error)?]);
            Ok(Expr::call(name, call, kind.nullable()))
        }
        "JSON_QUERY" => {
            let mut call = documents(name, args, 2)?;
            call.push(option(&clauses.wrapper, "WITHOUT"));
            call.push(option(&clauses.on_empty, "NULL"));
            call.push(option(&clauses.on_error, "NULL"));
            Ok(Expr::call(name, call, clauses.returning.unwrap_or(TypeKind::STRING).nullable()))
        }
        "JSON_EXISTS" => {
            let mut call = documents(name, args, 2)?;
            let nullable = nullable || clauses.on_error.as_deref() == Some("UNKNOWN");
            call.push(option(&clauses.on_error, "FALSE"));
            Ok(Expr::call(name, call, DataType { kind: TypeKind::Boolean, nullable }))
        }
        "JSON_OBJECT" | "JSON_ARRAY" => {
            let object = name == "JSON_OBJECT";
            if object && !args.iter().step_by(2).all(|k| k.data_type.kind.is_string()) {
                return Err(mismatch(name, &args, "strings as names"));
            }
            let mut call: Vec<Expr> = args.into_iter().map(as_json).collect();
            call.push(option(&clauses.on_null, if object { "NULL" } else { "ABSENT" }));
            Ok(Expr::call(name, call, TypeKind::STRING.not_null()))
        }
        _ => Err(Error::bug(format!("{name} takes no clauses"))),
    }
}

/// The arguments as strings; there must be `count`.
fn documents(name: &str, args: Vec<Expr>, count: usize) -> Result<Vec<Expr>> {
    let fits = |e: &Expr| e.data_type.kind.is_string() || e.data_type.kind == TypeKind::Null;
    if args.len() != count || !args.iter().all(fits) {
        let expected = if count == 1 { "a string" } else { "a JSON text and a path" };
        return Err(mismatch(name, &args, expected));
    }
    args.into_iter()
        .map(|a| if a.data_type.kind == TypeKind::Null { implicit_cast(a, &TypeKind::STRING) } else { Ok(a) })
        .collect()
}

/// What is JSON text already stays as it is inside other JSON: it is a VARIANT there.
fn as_json(arg: Expr) -> Expr {
    match &arg.kind {
        flott_plan::ExprKind::Call { function, .. }
            if matches!(function.as_str(), "JSON_OBJECT" | "JSON_ARRAY" | "JSON") =>
        {
            let nullable = arg.data_type.nullable;
            Expr { kind: arg.kind, data_type: DataType { kind: TypeKind::Variant, nullable } }
        }
        _ => arg,
    }
}
