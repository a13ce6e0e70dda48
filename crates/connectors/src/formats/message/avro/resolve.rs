//! Makes a writer's schema and ours fit for `arrow-avro`, which matches records by name and takes a reference to a named type for
//! whatever the reader expects there: names are made one, references are replaced by what they stand for, and what would be
//! misread is refused. Bytes of messages do not depend on names.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// Most types in a schema after references are replaced.
const TYPES_MAX: usize = 10_000;
const PRIMITIVES: [&str; 8] = ["null", "boolean", "int", "long", "float", "double", "bytes", "string"];
/// The namespace of the writer's types, all of which get new names.
const NAMESPACE: &str = "writer";

/// The writer's schema and the reader's, in this order.
pub fn schemas(writer: &str, reader: &str) -> Result<(String, String), String> {
    let parse = |text: &str| serde_json::from_str::<Value>(text).map_err(|e| format!("it is not JSON: {e}"));
    let mut expander = Expander::default();
    let writer = expander.expand(&parse(writer)?, "")?;
    let mut reader = parse(reader)?;
    adopt(&mut reader, &writer, "the record")?;
    Ok((writer.to_string(), reader.to_string()))
}

#[derive(Default)]
struct Expander {
    /// Named types and the namespaces that are valid inside them.
    named: BTreeMap<String, (Value, String)>,
    /// Names of the types around the present one.
    open: Vec<String>,
    types: usize,
}

impl Expander {
    fn expand(&mut self, schema: &Value, outer: &str) -> Result<Value, String> {
        self.types += 1;
        if self.types > TYPES_MAX {
            return Err(format!("it has more than {TYPES_MAX} types"));
        }
        match schema {
            Value::String(name) if PRIMITIVES.contains(&name.as_str()) => Ok(schema.clone()),
            Value::String(name) => self.reference(name, outer),
            Value::Array(branches) => branches.iter().map(|b| self.expand(b, outer)).collect(),
            Value::Object(_) => self.object(schema, outer),
            other => Err(format!("{other} is not a type")),
        }
    }

    fn reference(&mut self, name: &str, outer: &str) -> Result<Value, String> {
        let full = full_name(name, outer);
        // A name without a dot may also be one of no namespace.
        let found = [full.as_str(), name].into_iter().find(|n| self.named.contains_key(*n)).map(str::to_owned);
        let Some(found) = found else { return Err(format!("the type `{full}` is nowhere defined")) };
        if self.open.contains(&found) {
            return Err(format!("the type `{found}` is recursive, and columns are not"));
        }
        let (schema, namespace) = self.named[&found].clone();
        self.object(&schema, &namespace)
    }

    fn object(&mut self, schema: &Value, outer: &str) -> Result<Value, String> {
        let kind = &schema["type"];
        let Some(kind) = kind.as_str() else { return self.expand(kind, outer) };
        match kind {
            "array" => Ok(json!({"type": kind, "items": self.expand(&schema["items"], outer)?})),
            "map" => Ok(json!({"type": kind, "values": self.expand(&schema["values"], outer)?})),
            "record" | "error" | "enum" | "fixed" => self.named(kind, schema, outer),
            name if PRIMITIVES.contains(&name) => Ok(with_logical_type(json!({"type": kind}), schema)),
            name => self.reference(name, outer),
        }
    }

    fn named(&mut self, kind: &str, schema: &Value, outer: &str) -> Result<Value, String> {
        let name = schema["name"].as_str().unwrap_or_default();
        let outer = schema["namespace"].as_str().unwrap_or(outer);
        let full = full_name(name, outer);
        let namespace = full.rsplit_once('.').map_or("", |(namespace, _)| namespace).to_owned();
        self.named.insert(full.clone(), (schema.clone(), outer.to_owned()));
        let new_name = format!("T{}", self.types);
        let mut out = json!({"type": kind, "name": new_name, "namespace": NAMESPACE});
        match kind {
            "enum" => {
                out["symbols"] = schema["symbols"].clone();
                if !schema["default"].is_null() {
                    out["default"] = schema["default"].clone();
                }
            }
            "fixed" => {
                out["size"] = schema["size"].clone();
                out = with_logical_type(out, schema);
            }
            _ => {
                self.open.push(full);
                let mut fields = Vec::new();
                for field in schema["fields"].as_array().into_iter().flatten() {
                    let t = self.expand(&field["type"], &namespace)?;
                    fields.push(json!({"name": field["name"], "type": t}));
                }
                self.open.pop();
                out["type"] = json!("record");
                out["fields"] = Value::Array(fields);
            }
        }
        Ok(out)
    }
}

fn full_name(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") }
}

fn with_logical_type(mut out: Value, schema: &Value) -> Value {
    for key in ["logicalType", "precision", "scale"] {
        if !schema[key].is_null() {
            out[key] = schema[key].clone();
        }
    }
    out
}

/// The only branch that is not null, if it is a union; of other unions the whole.
fn branch(schema: &Value) -> &Value {
    let Value::Array(branches) = schema else { return schema };
    let others: Vec<_> = branches.iter().filter(|b| *b != "null").collect();
    match others[..] {
        [one] => one,
        _ => schema,
    }
}

/// Gives the reader's types the writer's names as aliases, and refuses what Avro would read as something else.
fn adopt(reader: &mut Value, writer: &Value, place: &str) -> Result<(), String> {
    if let Value::Array(branches) = reader {
        return branches.iter_mut().filter(|b| *b != "null").try_for_each(|b| adopt(b, writer, place));
    }
    let writer = branch(writer);
    if !writer.is_object() || !reader.is_object() {
        return Ok(());
    }
    let logical = |schema: &Value| {
        let name = schema["logicalType"].as_str().unwrap_or_default();
        name.strip_prefix("local-").unwrap_or(name).to_owned()
    };
    let (found, expected) = (logical(writer), logical(reader));
    if !found.is_empty() && !expected.is_empty() && found != expected {
        return Err(format!("{place} is {found}, and the column is read as {expected}"));
    }
    if expected == "decimal" && found == "decimal" && writer["scale"].as_i64() != reader["scale"].as_i64() {
        let (found, expected) = (writer["scale"].as_i64().unwrap_or(0), reader["scale"].as_i64().unwrap_or(0));
        return Err(format!("{place} is a decimal of scale {found}, and the column has scale {expected}"));
    }
    if let (Some(name), true) = (writer["name"].as_str(), reader["name"].is_string()) {
        reader["aliases"] = json!([format!("{NAMESPACE}.{name}")]);
    }
    for key in ["items", "values"] {
        if !reader[key].is_null() && !writer[key].is_null() {
            adopt(&mut reader[key], &writer[key], place)?;
        }
    }
    for field in reader["fields"].as_array_mut().into_iter().flatten() {
        let name = field["name"].as_str().unwrap_or_default().to_owned();
        let found = writer["fields"].as_array().into_iter().flatten().find(|f| f["name"] == field["name"]);
        if let Some(found) = found {
            adopt(&mut field["type"], &found["type"], &format!("field `{name}`"))?;
        }
    }
    Ok(())
}
