//! Reads JSON, one object a line, straight into columns; builds no tree of a record.

use std::fmt;

use arrow_array::ArrayRef;
use flott_core::registry::OptionSpec;
use flott_core::text::java_double_to_string;
use flott_core::types::{Column, DataType, TypeKind};
use flott_core::{Error, Result};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{BadRecord, Block, Decoder, Progress, RECORD_BYTES_MAX, excerpt};
use crate::columns::ColumnBuilder;
use crate::options::{TableOptions, option};

/// Options of the format.
pub const OPTIONS: &[OptionSpec] = &[
    option("json.fail-on-missing-field", "BOOLEAN", "false", false, "A missing member is an error instead of NULL."),
    option(
        "json.ignore-parse-errors",
        "BOOLEAN",
        "false",
        false,
        "Bad records are skipped and counted instead of failing the job.",
    ),
    option("json.timestamp-format.standard", "ENUM(SQL|ISO-8601)", "SQL", false, "How timestamps are written."),
    option(
        "json.map-null-key.mode",
        "ENUM(FAIL|DROP|LITERAL)",
        "FAIL",
        false,
        "What to do when a MAP with a NULL key is written.",
    ),
    option("json.map-null-key.literal", "STRING", "null", false, "The key for NULL in mode LITERAL."),
    option(
        "json.encode.decimal-as-plain-number",
        "BOOLEAN",
        "false",
        false,
        "DECIMAL is never written in scientific notation.",
    ),
    option("json.encode.ignore-null-fields", "BOOLEAN", "false", false, "Members that are NULL are not written."),
];

/// What to do with NULL keys of a MAP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NullKey {
    /// An error.
    Fail,
    /// Leave the entry out.
    Drop,
    /// Write this text.
    Literal(String),
}

/// Options of the format, read.
#[derive(Clone, Debug)]
pub struct JsonOptions {
    /// Missing members are errors.
    pub fail_on_missing_field: bool,
    /// Skip bad records.
    pub ignore_parse_errors: bool,
    /// ISO-8601 rather than SQL timestamps.
    pub iso: bool,
    /// NULL keys.
    pub null_key: NullKey,
    /// Plain decimals.
    pub plain_decimals: bool,
    /// Leave NULL members out.
    pub ignore_null_fields: bool,
}

impl Default for JsonOptions {
    fn default() -> Self {
        JsonOptions {
            fail_on_missing_field: false,
            ignore_parse_errors: false,
            iso: false,
            null_key: NullKey::Fail,
            plain_decimals: false,
            ignore_null_fields: false,
        }
    }
}

impl JsonOptions {
    /// Reads the options of a table.
    pub fn read(o: &TableOptions<'_>) -> Result<Self> {
        let literal = o.text("json.map-null-key.literal").unwrap_or("null").to_owned();
        let options = JsonOptions {
            fail_on_missing_field: o.flag("json.fail-on-missing-field", false)?,
            ignore_parse_errors: o.flag("json.ignore-parse-errors", false)?,
            iso: o.one_of("json.timestamp-format.standard", &["SQL", "ISO-8601"], 0)? == 1,
            null_key: match o.one_of("json.map-null-key.mode", &["FAIL", "DROP", "LITERAL"], 0)? {
                0 => NullKey::Fail,
                1 => NullKey::Drop,
                _ => NullKey::Literal(literal),
            },
            plain_decimals: o.flag("json.encode.decimal-as-plain-number", false)?,
            ignore_null_fields: o.flag("json.encode.ignore-null-fields", false)?,
        };
        if options.fail_on_missing_field && options.ignore_parse_errors {
            return Err(
                o.bad("json.ignore-parse-errors", "possible together with 'json.fail-on-missing-field' = 'true'")
            );
        }
        Ok(options)
    }
}

/// Where and why a record is not what the table declares.
struct Fault {
    path: String,
    problem: String,
}

/// What the seeds share.
struct Shared {
    fail_on_missing: bool,
    fault: Option<Fault>,
}

impl Shared {
    fn refuse<E: serde::de::Error>(&mut self, problem: String) -> E {
        self.fault.get_or_insert(Fault { path: String::new(), problem });
        E::custom("record refused")
    }
    fn within(&mut self, name: &str) {
        if let Some(fault) = &mut self.fault {
            let dot = if fault.path.is_empty() { "" } else { "." };
            fault.path = format!("{name}{dot}{}", fault.path);
        }
    }
}

/// Members of an object, by name, into builders.
struct Members<'a> {
    names: &'a [Name],
    columns: &'a mut [ColumnBuilder],
    shared: &'a mut Shared,
}

/// A member's name, and those of its own members.
struct Name {
    name: String,
    children: Vec<Name>,
}

impl Name {
    fn of(name: &str, t: &DataType) -> Name {
        let children = match &t.kind {
            TypeKind::Row(fields) => fields.iter().map(|(n, t)| Name::of(n, t)).collect(),
            TypeKind::Array(item) => vec![Name::of("element", item)],
            TypeKind::Map(_, value) => vec![Name::of("value", value)],
            _ => Vec::new(),
        };
        Name { name: name.to_owned(), children }
    }
}

impl<'a> Members<'a> {
    fn read<'de, A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let base = self.columns.iter().map(ColumnBuilder::len).min().unwrap_or(0);
        let mut expected = 0;
        while let Some(index) = map.next_key_seed(Key { names: self.names, expected })? {
            let Some(index) = index else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            expected = index + 1;
            let name = &self.names[index];
            // The last of several members with one name counts.
            self.columns[index].truncate(base);
            let value = Value { name, column: &mut self.columns[index], shared: self.shared };
            if let Err(e) = map.next_value_seed(value) {
                self.shared.within(&name.name);
                return Err(e);
            }
        }
        for (name, column) in self.names.iter().zip(self.columns.iter_mut()) {
            if column.len() == base {
                if self.shared.fail_on_missing {
                    let e = self.shared.refuse("the member is missing".into());
                    self.shared.within(&name.name);
                    return Err(e);
                }
                column.append_null();
            }
        }
        Ok(())
    }
}

/// Finds the index of a member's name.
struct Key<'a> {
    names: &'a [Name],
    expected: usize,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Option<usize>;
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        d.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Option<usize>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member's name")
    }
    #[inline]
    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        // Members mostly come in the order of the columns.
        if self.names.get(self.expected).is_some_and(|n| n.name == key) {
            return Ok(Some(self.expected));
        }
        Ok(self.names.iter().position(|n| n.name == key))
    }
}

/// The root object.
struct Root<'a>(Members<'a>);

impl<'de> DeserializeSeed<'de> for Root<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Root<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        self.0.read(map)
    }
}

/// A value into a builder.
struct Value<'a> {
    name: &'a Name,
    column: &'a mut ColumnBuilder,
    shared: &'a mut Shared,
}

impl Value<'_> {
    fn refuse<E: serde::de::Error>(self, found: impl fmt::Display) -> E {
        self.shared.refuse(format!("{found} is not a {}", self.column.kind()))
    }
    fn taken<E: serde::de::Error>(self, taken: bool, found: impl fmt::Display) -> Result<(), E> {
        if taken { Ok(()) } else { Err(self.refuse(found)) }
    }
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        if !matches!(self.column.kind(), TypeKind::Decimal(..)) {
            return d.deserialize_any(self);
        }
        // The digits as written: a double would lose some.
        let raw = <&RawValue>::deserialize(d)?.get();
        if raw == "null" {
            self.column.append_null();
            return Ok(());
        }
        let text = raw.strip_prefix('"').and_then(|r| r.strip_suffix('"')).unwrap_or(raw);
        let taken = self.column.append_text(text);
        self.taken(taken, format_args!("'{}'", excerpt(text.as_bytes())))
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a {}", self.column.kind())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        self.column.append_null();
        Ok(())
    }
    fn visit_bool<E: serde::de::Error>(self, b: bool) -> Result<(), E> {
        let text = if b { "true" } else { "false" };
        let taken =
            if self.column.kind().is_string() { self.column.append_text(text) } else { self.column.append_bool(b) };
        self.taken(taken, text)
    }
    #[inline]
    fn visit_i64<E: serde::de::Error>(self, n: i64) -> Result<(), E> {
        let taken =
            self.column.append_i64(n) || (self.column.kind().is_string() && self.column.append_text(&n.to_string()));
        self.taken(taken, n)
    }
    #[inline]
    fn visit_u64<E: serde::de::Error>(self, n: u64) -> Result<(), E> {
        match (i64::try_from(n), self.column.kind()) {
            (Ok(n), _) => self.visit_i64(n),
            (Err(_), TypeKind::Double | TypeKind::Float) => self.visit_f64(n as f64),
            (Err(_), kind) => {
                let taken = kind.is_string() && self.column.append_text(&n.to_string());
                self.taken(taken, n)
            }
        }
    }
    fn visit_f64<E: serde::de::Error>(self, x: f64) -> Result<(), E> {
        let taken = self.column.append_f64(x)
            || (self.column.kind().is_string() && self.column.append_text(&java_double_to_string(x)));
        self.taken(taken, x)
    }
    #[inline]
    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        let taken = self.column.append_text(text);
        self.taken(taken, format_args!("'{}'", excerpt(text.as_bytes())))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        if self.column.kind().is_string() {
            let tree = serde_json::Value::deserialize(serde::de::value::SeqAccessDeserializer::new(seq))?;
            let taken = self.column.append_text(&tree.to_string());
            return self.taken(taken, "a very long array");
        }
        let Value { name, column, shared } = self;
        if column.items().is_none() {
            return Err(Value { name, column, shared }.refuse("an array"));
        }
        let element = &name.children[0];
        while let Some(items) = column.items() {
            match seq.next_element_seed(Value { name: element, column: items, shared }) {
                Ok(Some(())) => {}
                Ok(None) => break,
                Err(e) => {
                    shared.within("element");
                    return Err(e);
                }
            }
        }
        column.close();
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        if self.column.kind().is_string() {
            let tree = serde_json::Value::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
            let taken = self.column.append_text(&tree.to_string());
            return self.taken(taken, "a very long object");
        }
        let Value { name, column, shared } = self;
        if let Some(columns) = column.row() {
            Members { names: &name.children, columns, shared }.read(map)?;
        } else if let Some((keys, values)) = column.entries() {
            while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
                if !keys.append_text(&key) {
                    return Err(shared.refuse(format!(
                        "the key '{}' is not a {}",
                        excerpt(key.as_bytes()),
                        keys.kind()
                    )));
                }
                let value = Value { name: &name.children[0], column: &mut *values, shared };
                if let Err(e) = map.next_value_seed(value) {
                    shared.within(&key);
                    return Err(e);
                }
            }
        } else {
            return Err(Value { name, column, shared }.refuse("an object"));
        }
        column.close();
        Ok(())
    }
}

/// Decoder of JSON lines.
pub struct JsonDecoder {
    options: JsonOptions,
    names: Vec<Name>,
    columns: Vec<ColumnBuilder>,
    rows: usize,
}

impl JsonDecoder {
    /// A decoder of `columns`.
    pub fn new(options: JsonOptions, columns: &[Column]) -> Result<Self> {
        for column in columns {
            check_keys(&column.name, &column.data_type)?;
        }
        Ok(JsonDecoder {
            options,
            names: columns.iter().map(|c| Name::of(&c.name, &c.data_type)).collect(),
            columns: columns.iter().map(|c| ColumnBuilder::new(&c.data_type)).collect::<Result<_>>()?,
            rows: 0,
        })
    }

    fn record(&mut self, line: &[u8]) -> Result<(), (Option<String>, String)> {
        let mut shared = Shared { fail_on_missing: self.options.fail_on_missing_field, fault: None };
        let Ok(text) = std::str::from_utf8(line) else {
            return Err((None, format!("'{}' is not UTF-8", excerpt(line))));
        };
        let mut de = serde_json::Deserializer::from_str(text);
        let members = Members { names: &self.names, columns: &mut self.columns, shared: &mut shared };
        let read = Root(members).deserialize(&mut de).and_then(|()| de.end());
        match (read, shared.fault) {
            (Ok(()), _) => Ok(()),
            (Err(_), Some(fault)) => Err((Some(fault.path).filter(|p| !p.is_empty()), fault.problem)),
            (Err(e), None) => Err((None, format!("'{}' is not a JSON object as declared: {e}", excerpt(line)))),
        }
    }
}

/// Refuses MAP keys that are not strings.
pub(super) fn check_keys(name: &str, t: &DataType) -> Result<()> {
    match &t.kind {
        TypeKind::Map(key, value) if key.kind.is_string() => check_keys(name, value),
        TypeKind::Map(..) => Err(Error::user(
            "format.json.type",
            format!("column `{name}`: a JSON object cannot carry {t}, its keys are strings"),
        )
        .hint("declare MAP<STRING, …>")),
        TypeKind::Array(item) => check_keys(name, item),
        TypeKind::Row(fields) => fields.iter().try_for_each(|(_, t)| check_keys(name, t)),
        _ => Ok(()),
    }
}

impl Decoder for JsonDecoder {
    fn decode(&mut self, block: Block<'_>) -> Result<Progress, BadRecord> {
        let Block { data, last, stop, rows_max } = block;
        let mut done = Progress::default();
        while done.rows < rows_max && done.consumed < stop && done.consumed < data.len() {
            let rest = &data[done.consumed..];
            let (line, next) = match memchr::memchr(b'\n', rest) {
                Some(end) => (&rest[..end], end + 1),
                None if last || rest.len() >= RECORD_BYTES_MAX => (rest, rest.len()),
                None => break,
            };
            if !line.iter().all(u8::is_ascii_whitespace) {
                if let Err((field, problem)) = self.record(line) {
                    let rows = self.rows;
                    self.columns.iter_mut().for_each(|c| c.truncate(rows));
                    if !self.options.ignore_parse_errors {
                        let skip_option = "json.ignore-parse-errors";
                        return Err(BadRecord { line: done.lines, field, problem, skip_option });
                    }
                    done.skipped += 1;
                } else {
                    self.rows += 1;
                    done.rows += 1;
                }
            }
            done.consumed += next;
            done.lines += 1;
        }
        Ok(done)
    }

    fn rows(&self) -> usize {
        self.rows
    }

    fn finish(&mut self) -> Result<Vec<ArrayRef>> {
        self.rows = 0;
        self.columns.iter_mut().map(ColumnBuilder::finish).collect()
    }
}

#[cfg(test)]
mod tests;
