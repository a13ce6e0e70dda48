//! Reads JSON, one object a line, straight into columns; builds no tree of a record.

mod options;

use std::fmt;

use arrow_array::ArrayRef;
use flott_core::text::java_double_to_string;
use flott_core::types::{Column, DataType, TypeKind};
use flott_core::{Error, Result};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{BadRecord, Block, Decoder, Progress, excerpt};
use crate::columns::ColumnBuilder;

pub use options::{JsonOptions, NullKey, OPTIONS};

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

impl Members<'_> {
    fn read<'de, A: MapAccess<'de>>(mut self, map: A) -> Result<(), A::Error> {
        let base = self.columns.iter().map(ColumnBuilder::len).min().unwrap_or(0);
        self.members(base, map)?;
        self.fill(base)
    }

    /// Reads members into row `base`; a later one takes the place of an earlier one with the same name.
    fn members<'de, A: MapAccess<'de>>(&mut self, base: usize, mut map: A) -> Result<(), A::Error> {
        let mut expected = 0;
        while let Some(index) = map.next_key_seed(Key { names: self.names, expected })? {
            let Some(index) = index else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            expected = index + 1;
            let name = &self.names[index];
            self.columns[index].truncate(base);
            let value = Value { name, column: &mut self.columns[index], shared: self.shared };
            if let Err(e) = map.next_value_seed(value) {
                self.shared.within(&name.name);
                return Err(e);
            }
        }
        Ok(())
    }

    /// Makes members that did not come NULL.
    fn fill<E: serde::de::Error>(self, base: usize) -> Result<(), E> {
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

/// The root: an object, or where `arrays` are allowed an array of objects. Returns the number of rows.
struct Root<'a> {
    members: Members<'a>,
    arrays: bool,
}

impl<'de> DeserializeSeed<'de> for Root<'_> {
    type Value = usize;
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<usize, D::Error> {
        if self.arrays { d.deserialize_any(self) } else { d.deserialize_map(self) }
    }
}

impl<'de> Visitor<'de> for Root<'_> {
    type Value = usize;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<usize, A::Error> {
        self.members.read(map)?;
        Ok(1)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<usize, A::Error> {
        let Members { names, columns, shared } = self.members;
        let mut rows = 0;
        loop {
            let members = Members { names, columns: &mut *columns, shared: &mut *shared };
            match seq.next_element_seed(Root { members, arrays: false })? {
                Some(more) => rows += more,
                None => return Ok(rows),
            }
        }
    }
}

/// Members of an object into row `base`, others left as they are.
struct Overlay<'a> {
    members: Members<'a>,
    base: usize,
}

impl<'de> DeserializeSeed<'de> for Overlay<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Overlay<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }
    fn visit_map<A: MapAccess<'de>>(mut self, map: A) -> Result<(), A::Error> {
        self.members.members(self.base, map)
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

/// A found text for messages, cut short only when it is shown: most values are taken.
struct Excerpt<'a>(&'a str);

impl fmt::Display for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}'", excerpt(self.0.as_bytes()))
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
        self.taken(taken, Excerpt(text))
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
        self.taken(taken, Excerpt(text))
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

/// A single value of JSON after another, for metadata of messages.
pub(super) struct Cells {
    name: Name,
    column: ColumnBuilder,
}

impl Cells {
    /// Values of a type.
    pub(super) fn new(name: &str, t: &DataType) -> Result<Self> {
        Ok(Cells { name: Name::of(name, t), column: ColumnBuilder::new(t)? })
    }
    /// The builder behind it.
    pub(super) fn column(&mut self) -> &mut ColumnBuilder {
        &mut self.column
    }
    /// Appends a value; NULL where it is not of the type.
    pub(super) fn append(&mut self, json: &str) {
        let before = self.column.len();
        let mut shared = Shared { fail_on_missing: false, fault: None };
        let value = Value { name: &self.name, column: &mut self.column, shared: &mut shared };
        if value.deserialize(&mut serde_json::Deserializer::from_str(json)).is_err() {
            self.column.truncate(before);
            self.column.append_null();
        }
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

    /// Appends the rows of one record and says how many; after an error the builders may hold parts of it.
    fn record(&mut self, line: &[u8], arrays: bool) -> Result<usize, (Option<String>, String)> {
        let mut shared = Shared { fail_on_missing: self.options.fail_on_missing_field, fault: None };
        let Ok(text) = std::str::from_utf8(line) else {
            return Err((None, format!("'{}' is not UTF-8", excerpt(line))));
        };
        let mut de = serde_json::Deserializer::from_str(text);
        let members = Members { names: &self.names, columns: &mut self.columns, shared: &mut shared };
        let read = Root { members, arrays }.deserialize(&mut de).and_then(|rows| de.end().map(|()| rows));
        match (read, shared.fault) {
            (Ok(rows), _) => Ok(rows),
            (Err(_), Some(fault)) => Err((Some(fault.path).filter(|p| !p.is_empty()), fault.problem)),
            (Err(e), None) => Err((None, format!("'{}' is not a JSON object as declared: {e}", excerpt(line)))),
        }
    }

    fn roll_back(&mut self) {
        let rows = self.rows;
        self.columns.iter_mut().for_each(|c| c.truncate(rows));
    }

    /// Appends the rows of one message: an object, or an array of objects. After an error nothing was appended.
    pub(super) fn message(&mut self, message: &[u8]) -> Result<(), (Option<String>, String)> {
        let read = self.record(message, true);
        match read {
            Ok(rows) => self.rows += rows,
            Err(_) => self.roll_back(),
        }
        read.map(|_| ())
    }

    /// Appends one row: the members of `object`, and over them those of `over`. After an error nothing was appended.
    pub(super) fn object(&mut self, object: &str, over: Option<&str>) -> Result<(), (Option<String>, String)> {
        let base = self.rows;
        let mut shared = Shared { fail_on_missing: self.options.fail_on_missing_field, fault: None };
        let mut members = Members { names: &self.names, columns: &mut self.columns, shared: &mut shared };
        let mut read = Ok(());
        for text in [Some(object), over].into_iter().flatten() {
            let Members { names, columns, shared } = &mut members;
            let members = Members { names, columns, shared };
            let mut de = serde_json::Deserializer::from_str(text);
            read = read.and_then(|()| Overlay { members, base }.deserialize(&mut de)).and_then(|()| de.end());
        }
        let read: Result<(), serde_json::Error> = read.and_then(|()| members.fill(base));
        let Err(e) = read else {
            self.rows += 1;
            return Ok(());
        };
        let fault = shared.fault.take();
        self.roll_back();
        Err(match fault {
            Some(fault) => (Some(fault.path).filter(|p| !p.is_empty()), fault.problem),
            None => (None, format!("'{}' is not a JSON object as declared: {e}", excerpt(object.as_bytes()))),
        })
    }

    /// Forgets all rows from `rows` on.
    pub(super) fn truncate(&mut self, rows: usize) {
        self.rows = self.rows.min(rows);
        self.roll_back();
    }
}

/// Refuses MAP keys that are not strings.
pub(super) fn check_keys(name: &str, t: &DataType) -> Result<()> {
    match &t.kind {
        TypeKind::Map(key, value) if key.kind.is_string() => check_keys(name, value),
        TypeKind::Multiset(key) if key.kind.is_string() => Ok(()),
        TypeKind::Map(..) | TypeKind::Multiset(_) => Err(Error::user(
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
        let Block { data, stop, rows_max, .. } = block;
        let mut done = Progress::default();
        while done.rows < rows_max && done.consumed < stop && done.consumed < data.len() {
            let Some((line, next)) = block.line(done.consumed) else { break };
            if !line.iter().all(u8::is_ascii_whitespace) {
                if let Err((field, problem)) = self.record(line, false) {
                    self.roll_back();
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
