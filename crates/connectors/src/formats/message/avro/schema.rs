//! The Avro schema of a table's columns, as Flink makes it, and whether a given one fits; never parses more of Avro than that.

use flott_core::types::{Column, DataType, TypeKind};
use flott_core::{Error, Result};
use serde_json::{Value, json};

use super::schema_error;

/// The name of the record, as in Flink: whoever registers schemas under it must not change it.
const ROOT: &str = "org.apache.flink.avro.generated.record";

/// The schema of `columns`.
pub fn of_columns(columns: &[Column], legacy: bool) -> Result<Value> {
    let fields: Vec<_> = columns.iter().map(|c| (c.name.as_str(), &c.data_type)).collect();
    record(&fields, ROOT, legacy)
}

fn record(fields: &[(&str, &DataType)], name: &str, legacy: bool) -> Result<Value> {
    let field = |(field, t): &(&str, &DataType)| {
        let schema =
            of_type(t, &format!("{name}_{field}"), legacy).map_err(|e| e.context(format_args!("column `{field}`")))?;
        Ok(match t.nullable {
            true => json!({"name": field, "type": schema, "default": null}),
            false => json!({"name": field, "type": schema}),
        })
    };
    let fields = fields.iter().map(field).collect::<Result<Vec<_>>>()?;
    let (namespace, short) = name.rsplit_once('.').unwrap_or(("", name));
    Ok(json!({"type": "record", "name": short, "namespace": namespace, "fields": fields}))
}

fn of_type(t: &DataType, name: &str, legacy: bool) -> Result<Value> {
    let schema = of_kind(&t.kind, name, legacy)?;
    Ok(if t.nullable && schema != json!("null") { json!(["null", schema]) } else { schema })
}

fn of_kind(kind: &TypeKind, name: &str, legacy: bool) -> Result<Value> {
    let refuse =
        |hint: &str| Err(Error::user("format.avro.type", format!("Avro has no type for {kind}")).hint(hint.to_owned()));
    let logical = |base: &str, logical: &str| json!({"type": base, "logicalType": logical});
    Ok(match kind {
        TypeKind::Null => json!("null"),
        TypeKind::Boolean => json!("boolean"),
        TypeKind::TinyInt | TypeKind::SmallInt | TypeKind::Int => json!("int"),
        TypeKind::BigInt => json!("long"),
        TypeKind::Float => json!("float"),
        TypeKind::Double => json!("double"),
        TypeKind::Char(_) | TypeKind::VarChar(_) => json!("string"),
        TypeKind::Binary(_) | TypeKind::VarBinary(_) => json!("bytes"),
        TypeKind::Date => logical("int", "date"),
        TypeKind::Time(0..=3) => logical("int", "time-millis"),
        TypeKind::Time(_) => return refuse("declare TIME(3)"),
        TypeKind::Decimal(p, s) => json!({"type": "bytes", "logicalType": "decimal", "precision": p, "scale": s}),
        TypeKind::Timestamp(0..=3) if legacy => logical("long", "timestamp-millis"),
        TypeKind::Timestamp(_) if legacy => {
            return refuse("declare TIMESTAMP(3), or set 'avro.timestamp_mapping.legacy' = 'false'");
        }
        TypeKind::TimestampLtz(_) if legacy => {
            return refuse("declare TIMESTAMP(3), or set 'avro.timestamp_mapping.legacy' = 'false'");
        }
        TypeKind::Timestamp(0..=3) => logical("long", "local-timestamp-millis"),
        TypeKind::Timestamp(4..=6) => logical("long", "local-timestamp-micros"),
        TypeKind::TimestampLtz(0..=3) => logical("long", "timestamp-millis"),
        TypeKind::TimestampLtz(4..=6) => logical("long", "timestamp-micros"),
        TypeKind::Timestamp(_) | TypeKind::TimestampLtz(_) => return refuse("declare a precision of at most 6"),
        TypeKind::IntervalDayTime
        | TypeKind::IntervalYearMonth
        | TypeKind::Multiset(_)
        | TypeKind::Variant
        | TypeKind::Bitmap => return refuse("convert it in the query"),
        TypeKind::Array(item) => json!({"type": "array", "items": of_type(item, name, legacy)?}),
        TypeKind::Map(key, value) if key.kind.is_string() => {
            json!({"type": "map", "values": of_type(value, name, legacy)?})
        }
        TypeKind::Map(..) => return refuse("the keys of a map are strings: declare MAP<STRING, …>"),
        TypeKind::Row(fields) => {
            let fields: Vec<_> = fields.iter().map(|(n, t)| (n.as_str(), t)).collect();
            record(&fields, name, legacy)?
        }
    })
}

/// Refuses a given schema that does not have the shape of the derived one; names, defaults and documentation may differ.
pub fn check(given: &str, derived: &Value) -> Result<()> {
    let parsed: Value = serde_json::from_str(given).map_err(|e| schema_error(given, format!("it is not JSON: {e}")))?;
    same(&parsed, derived, "the record").map_err(|problem| schema_error(given, problem))
}

/// The branch of a union with null, and whether it was one.
fn without_null(schema: &Value) -> (Option<&Value>, bool) {
    let Value::Array(branches) = schema else { return (Some(schema), false) };
    let others: Vec<_> = branches.iter().filter(|b| *b != "null").collect();
    match others[..] {
        [one] => (Some(one), others.len() < branches.len()),
        _ => (None, true),
    }
}

fn type_name(schema: &Value) -> &str {
    schema.as_str().or_else(|| schema["type"].as_str()).unwrap_or("?")
}

fn same(given: &Value, derived: &Value, place: &str) -> Result<(), String> {
    let (Some(given), (Some(derived), _)) = (without_null(given).0, without_null(derived)) else {
        return Err(format!("{place} is a union of several types, and a column has one"));
    };
    let logical = |schema: &Value| schema["logicalType"].as_str().unwrap_or_default().to_owned();
    // `{"type": {"type": "long", …}}` is written too.
    let given = if given["type"].is_object() { &given["type"] } else { given };
    let (found, expected) = (type_name(given), type_name(derived));
    let alike =
        found == expected || (expected == "string" && found == "enum") || (expected == "bytes" && found == "fixed");
    let local = |name: String| name.strip_prefix("local-").map(str::to_owned).unwrap_or(name);
    let (found_logical, expected_logical) = (logical(given), logical(derived));
    if !alike || (!expected_logical.is_empty() && local(found_logical) != local(expected_logical)) {
        return Err(format!("{place} is {given}, and the column needs {derived}"));
    }
    for key in ["precision", "scale"] {
        if expected == "bytes" && given[key].as_i64().unwrap_or(0) != derived[key].as_i64().unwrap_or(0) {
            return Err(format!("{place} has another {key} than the column: {given}, and not {derived}"));
        }
    }
    match expected {
        "array" => same(&given["items"], &derived["items"], &format!("the element of {place}")),
        "map" => same(&given["values"], &derived["values"], &format!("the value of {place}")),
        "record" => {
            let none = Vec::new();
            let fields = |schema: &Value| schema["fields"].as_array().unwrap_or(&none).clone();
            let (given, derived) = (fields(given), fields(derived));
            for field in &derived {
                let name = field["name"].as_str().unwrap_or_default();
                let Some(found) = given.iter().find(|f| f["name"] == field["name"]) else {
                    return Err(format!("it has no field `{name}`, which is a column"));
                };
                same(&found["type"], &field["type"], &format!("field `{name}`"))?;
            }
            match given.iter().find(|f| !derived.iter().any(|d| d["name"] == f["name"])) {
                Some(more) => Err(format!("its field {} is not a column", more["name"])),
                None => Ok(()),
            }
        }
        _ => Ok(()),
    }
}
