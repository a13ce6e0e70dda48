//! Types of the functions over ARRAY, MAP, ROW, MULTISET, BITMAP and VARIANT; never evaluates.

use flott_core::Result;
use flott_core::types::{DataType, TypeKind};
use flott_plan::expr::Expr;

use super::types::common_type;
use super::{any_nullable, implicit_cast, mismatch};

/// Names bound here.
pub(super) const NAMES: &[&str] = &[
    "ARRAY",
    "MAP",
    "ROW",
    "CARDINALITY",
    "ELEMENT",
    "ELEMENT_AT",
    "ARRAY_APPEND",
    "ARRAY_PREPEND",
    "ARRAY_CONCAT",
    "ARRAY_CONTAINS",
    "ARRAY_DISTINCT",
    "ARRAY_EXCEPT",
    "ARRAY_INTERSECT",
    "ARRAY_JOIN",
    "ARRAY_MAX",
    "ARRAY_MIN",
    "ARRAY_POSITION",
    "ARRAY_REMOVE",
    "ARRAY_REVERSE",
    "ARRAY_SLICE",
    "ARRAY_SORT",
    "ARRAY_UNION",
    "MAP_KEYS",
    "MAP_VALUES",
    "MAP_ENTRIES",
    "MAP_FROM_ARRAYS",
    "MAP_UNION",
    "BITMAP_BUILD",
    "BITMAP_AND",
    "BITMAP_OR",
    "BITMAP_XOR",
    "BITMAP_ANDNOT",
    "BITMAP_CARDINALITY",
    "BITMAP_FROM_BYTES",
    "BITMAP_TO_BYTES",
    "BITMAP_TO_STRING",
    "BITMAP_TO_ARRAY",
];

fn expected(name: &str) -> &'static str {
    match name {
        "ARRAY" => "one value or more of a common type",
        "MAP" => "keys and values in turn, each of a common type",
        "ROW" => "one value or more",
        "CARDINALITY" => "an ARRAY, a MAP or a MULTISET",
        "ELEMENT" | "ARRAY_DISTINCT" | "ARRAY_REVERSE" => "an ARRAY",
        "ELEMENT_AT" => "an ARRAY and an integer, a MAP and a key, or a VARIANT and a name or an integer",
        "ARRAY_JOIN" => "an ARRAY of strings, a separator and, if wanted, a text for NULL",
        "ARRAY_MAX" | "ARRAY_MIN" => "an ARRAY of values with an order",
        "ARRAY_SLICE" => "an ARRAY and one or two integers",
        "ARRAY_SORT" => "an ARRAY and, if wanted, whether ascending, and whether NULL comes first",
        "ARRAY_CONCAT" | "ARRAY_UNION" | "ARRAY_EXCEPT" | "ARRAY_INTERSECT" => "ARRAYs of a common type",
        "MAP_KEYS" | "MAP_VALUES" | "MAP_ENTRIES" => "a MAP",
        "MAP_FROM_ARRAYS" => "an ARRAY of keys and an ARRAY of values",
        "MAP_UNION" => "MAPs of a common type",
        "BITMAP_BUILD" => "an ARRAY<INT>",
        "BITMAP_FROM_BYTES" => "BYTES",
        "BITMAP_AND" | "BITMAP_OR" | "BITMAP_XOR" | "BITMAP_ANDNOT" => "two BITMAPs",
        name if name.starts_with("BITMAP") => "a BITMAP",
        _ => "an ARRAY and an element",
    }
}

fn element(array: &Expr) -> Option<&DataType> {
    match &array.data_type.kind {
        TypeKind::Array(item) => Some(item),
        _ => None,
    }
}

fn array_of(item: DataType) -> TypeKind {
    TypeKind::Array(Box::new(item))
}

fn common(exprs: &[Expr]) -> Option<DataType> {
    common_type(&exprs.iter().map(|e| e.data_type.clone()).collect::<Vec<_>>())
}

fn cast_all(args: &[Expr], kind: &TypeKind) -> Result<Vec<Expr>> {
    args.iter().map(|a| implicit_cast(a.clone(), kind)).collect()
}

/// `None` when `name` is not one of [`NAMES`].
pub(super) fn bind(name: &str, args: &[Expr]) -> Result<Option<Expr>> {
    if !NAMES.contains(&name) {
        return Ok(None);
    }
    let bound = match name {
        "ARRAY" | "MAP" | "ROW" => constructor(name, args)?,
        _ if name.starts_with("ARRAY") => array(name, args)?,
        _ if name.starts_with("MAP") => map(name, args)?,
        _ if name.starts_with("BITMAP") => bitmap(name, args)?,
        _ => access(name, args)?,
    };
    bound.map(Some).ok_or_else(|| mismatch(name, args, expected(name)))
}

fn constructor(name: &str, args: &[Expr]) -> Result<Option<Expr>> {
    if args.is_empty() {
        return Ok(None);
    }
    let call = |args: Vec<Expr>, kind: TypeKind| Some(Expr::call(name, args, kind.not_null()));
    Ok(match name {
        "ARRAY" => {
            let Some(item) = common(args) else { return Ok(None) };
            call(cast_all(args, &item.kind)?, array_of(item))
        }
        "ROW" => {
            let field = |(i, a): (usize, &Expr)| (format!("EXPR${i}"), a.data_type.clone());
            call(args.to_vec(), TypeKind::Row(args.iter().enumerate().map(field).collect()))
        }
        _ if !args.len().is_multiple_of(2) => None,
        _ => {
            let keys: Vec<Expr> = args.iter().step_by(2).cloned().collect();
            let values: Vec<Expr> = args.iter().skip(1).step_by(2).cloned().collect();
            let (Some(key), Some(value)) = (common(&keys), common(&values)) else { return Ok(None) };
            let (keys, values) = (cast_all(&keys, &key.kind)?, cast_all(&values, &value.kind)?);
            let pairs = keys.into_iter().zip(values).flat_map(|(k, v)| [k, v]).collect();
            call(pairs, TypeKind::Map(Box::new(key), Box::new(value)))
        }
    })
}

/// The array with elements, and a value, of their common type.
fn with_element(array: &Expr, value: &Expr) -> Result<Option<(Expr, Expr)>> {
    let Some(item) = element(array) else { return Ok(None) };
    let Some(item) = common_type(&[item.clone(), value.data_type.clone()]) else { return Ok(None) };
    let value = implicit_cast(value.clone(), &item.kind)?;
    Ok(Some((implicit_cast(array.clone(), &array_of(item))?, value)))
}

fn array(name: &str, args: &[Expr]) -> Result<Option<Expr>> {
    let Some(item) = args.first().and_then(element) else { return Ok(None) };
    let own = args[0].data_type.clone();
    let nullable = own.nullable;
    let call =
        |args: Vec<Expr>, kind: TypeKind, nullable: bool| Ok(Some(Expr::call(name, args, DataType { kind, nullable })));
    let flags = |from: usize| args[from..].iter().all(|a| matches!(a.data_type.kind, TypeKind::Boolean));
    match (name, args) {
        ("ARRAY_DISTINCT" | "ARRAY_REVERSE", [a]) => call(vec![a.clone()], own.kind, nullable),
        ("ARRAY_SORT", [_] | [_, _] | [_, _, _]) if flags(1) => call(args.to_vec(), own.kind, any_nullable(args)),
        ("ARRAY_MAX" | "ARRAY_MIN", [a]) if is_scalar(&item.kind) => call(vec![a.clone()], item.kind.clone(), true),
        ("ARRAY_APPEND" | "ARRAY_PREPEND" | "ARRAY_REMOVE" | "ARRAY_CONTAINS" | "ARRAY_POSITION", [a, x]) => {
            let Some((a, x)) = with_element(a, x)? else { return Ok(None) };
            let (kind, nullable) = match name {
                "ARRAY_CONTAINS" => (TypeKind::Boolean, nullable),
                "ARRAY_POSITION" => (TypeKind::Int, any_nullable(args)),
                "ARRAY_REMOVE" => (own.kind, nullable),
                _ => (a.data_type.kind.clone(), nullable),
            };
            // What is taken out leaves the type as it was.
            let a = if name == "ARRAY_REMOVE" { implicit_cast(a, &kind)? } else { a };
            call(vec![a, x], kind, nullable)
        }
        ("ARRAY_CONCAT", [_, ..]) | ("ARRAY_UNION" | "ARRAY_EXCEPT" | "ARRAY_INTERSECT", [_, _]) => {
            match common(args).filter(|t| matches!(t.kind, TypeKind::Array(_))) {
                Some(t) => call(cast_all(args, &t.kind)?, t.kind, any_nullable(args)),
                None => Ok(None),
            }
        }
        ("ARRAY_JOIN", [a, rest @ ..]) if matches!(rest.len(), 1 | 2) && item.kind.is_string() => {
            match rest.iter().all(|r| r.data_type.kind.is_string() || r.data_type.kind == TypeKind::Null) {
                true => {
                    let mut cast = vec![a.clone()];
                    cast.extend(cast_all(rest, &TypeKind::STRING)?);
                    call(cast, TypeKind::STRING, any_nullable(args))
                }
                false => Ok(None),
            }
        }
        ("ARRAY_SLICE", [a, rest @ ..]) if matches!(rest.len(), 1 | 2) => {
            match rest.iter().all(|r| r.data_type.kind.is_integer() || r.data_type.kind == TypeKind::Null) {
                true => {
                    let mut cast = vec![a.clone()];
                    cast.extend(cast_all(rest, &TypeKind::Int)?);
                    call(cast, own.kind, any_nullable(args))
                }
                false => Ok(None),
            }
        }
        _ => Ok(None),
    }
}

fn is_scalar(kind: &TypeKind) -> bool {
    !matches!(kind, TypeKind::Array(_) | TypeKind::Map(..) | TypeKind::Multiset(_) | TypeKind::Row(_))
}

fn map(name: &str, args: &[Expr]) -> Result<Option<Expr>> {
    let nullable = any_nullable(args);
    let call = |args: Vec<Expr>, kind: TypeKind| Ok(Some(Expr::call(name, args, DataType { kind, nullable })));
    match (name, args) {
        ("MAP_FROM_ARRAYS", [k, v]) => match (element(k), element(v)) {
            (Some(key), Some(value)) => {
                call(args.to_vec(), TypeKind::Map(Box::new(key.clone()), Box::new(value.clone())))
            }
            _ => Ok(None),
        },
        ("MAP_UNION", [_, ..]) => match common(args).filter(|t| matches!(t.kind, TypeKind::Map(..))) {
            Some(t) => call(cast_all(args, &t.kind)?, t.kind),
            None => Ok(None),
        },
        (_, [m]) => {
            let TypeKind::Map(key, value) = &m.data_type.kind else { return Ok(None) };
            let item = match name {
                "MAP_KEYS" => key.as_ref().clone(),
                "MAP_VALUES" => value.as_ref().clone(),
                _ => {
                    let fields = [("key", key), ("value", value)];
                    let fields = fields.map(|(n, t)| (n.to_owned(), t.as_ref().clone())).to_vec();
                    TypeKind::Row(fields).nullable()
                }
            };
            call(vec![m.clone()], array_of(item))
        }
        _ => Ok(None),
    }
}

fn bitmap(name: &str, args: &[Expr]) -> Result<Option<Expr>> {
    let takes = |kind: &TypeKind| match name {
        "BITMAP_BUILD" => matches!(kind, TypeKind::Array(t) if t.kind == TypeKind::Int),
        "BITMAP_FROM_BYTES" => matches!(kind, TypeKind::Binary(_) | TypeKind::VarBinary(_)),
        _ => *kind == TypeKind::Bitmap,
    };
    let two = matches!(name, "BITMAP_AND" | "BITMAP_OR" | "BITMAP_XOR" | "BITMAP_ANDNOT");
    if args.len() != if two { 2 } else { 1 } || !args.iter().all(|a| takes(&a.data_type.kind)) {
        return Ok(None);
    }
    let kind = match name {
        "BITMAP_CARDINALITY" => TypeKind::BigInt,
        "BITMAP_TO_BYTES" => TypeKind::BYTES,
        "BITMAP_TO_STRING" => TypeKind::STRING,
        "BITMAP_TO_ARRAY" => array_of(TypeKind::Int.nullable()),
        _ => TypeKind::Bitmap,
    };
    Ok(Some(Expr::call(name, args.to_vec(), DataType { kind, nullable: any_nullable(args) })))
}

fn access(name: &str, args: &[Expr]) -> Result<Option<Expr>> {
    let call = |name: &str, args: Vec<Expr>, data_type: DataType| Ok(Some(Expr::call(name, args, data_type)));
    match (name, args) {
        ("CARDINALITY", [a]) => match a.data_type.kind {
            TypeKind::Array(_) | TypeKind::Map(..) | TypeKind::Multiset(_) => {
                let data_type = DataType { kind: TypeKind::Int, nullable: a.data_type.nullable };
                call(name, args.to_vec(), data_type)
            }
            _ => Ok(None),
        },
        ("ELEMENT", [a]) => match element(a) {
            Some(item) => {
                let item = item.clone();
                let nullable = item.nullable || a.data_type.nullable;
                call(name, args.to_vec(), item.with_nullable(nullable))
            }
            None => Ok(None),
        },
        ("ELEMENT_AT", [a, i]) => match &a.data_type.kind {
            TypeKind::Array(item) if i.data_type.kind.is_integer() => {
                let index = implicit_cast(i.clone(), &TypeKind::Int)?;
                call(name, vec![a.clone(), index], item.kind.clone().nullable())
            }
            TypeKind::Map(key, value) => {
                let Some(common) = common_type(&[key.as_ref().clone(), i.data_type.clone()]) else { return Ok(None) };
                let strings = key.kind.is_string() && i.data_type.kind.is_string();
                if common.kind != key.kind && !strings {
                    return Ok(None);
                }
                let i = if strings { i.clone() } else { implicit_cast(i.clone(), &key.kind)? };
                call(name, vec![a.clone(), i], value.kind.clone().nullable())
            }
            TypeKind::Variant if i.data_type.kind.is_integer() || i.data_type.kind.is_string() => {
                let string = i.data_type.kind.is_string();
                let i = if string { i.clone() } else { implicit_cast(i.clone(), &TypeKind::Int)? };
                call("$VARIANT_AT", vec![a.clone(), i], TypeKind::Variant.nullable())
            }
            _ => Ok(None),
        },
        _ => Ok(None),
    }
}
