//! Change logs in JSON (Debezium, Canal, Maxwell) to rows with kinds; never guesses a row that a message does not hold.

use std::borrow::Cow;
use std::fmt;

use flott_core::Result;
use flott_core::batch::RowKind;
use flott_core::types::Column;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::dialect::{ChangelogOptions, Dialect, MEMBERS_MAX, Metadata, Read, SCHEMA};
use super::{Decoded, MessageDecoder};
use crate::formats::json::{Cells, JsonDecoder};
use crate::formats::{BadRecord, Decoder, excerpt};

/// Values of the members that are looked at, as written.
type Found<'a> = [Option<&'a RawValue>; MEMBERS_MAX];

/// Finds members of an object without reading their values.
struct Find<'a, 'de> {
    names: &'a [&'a str],
    found: &'a mut Found<'de>,
}

impl<'de> DeserializeSeed<'de> for Find<'_, 'de> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Find<'_, 'de> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            match self.names.iter().position(|n| *n == key) {
                Some(index) => {
                    let value: &'de RawValue = map.next_value()?;
                    self.found[index] = (value.get() != "null").then_some(value);
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

fn find<'de>(text: &'de str, names: &[&str], found: &mut Found<'de>) -> Result<(), serde_json::Error> {
    let mut de = serde_json::Deserializer::from_str(text);
    Find { names, found }.deserialize(&mut de)?;
    de.end()
}

/// The text of a JSON string.
fn string(raw: &RawValue) -> Option<Cow<'_, str>> {
    let mut de = serde_json::Deserializer::from_str(raw.get());
    Cow::deserialize(&mut de).ok()
}

/// A column of metadata.
struct MetadataColumn {
    place: usize,
    metadata: Metadata,
    cells: Cells,
}

impl MetadataColumn {
    fn append(&mut self, found: &Found<'_>) {
        let mut inner = Found::default();
        let outer = found[self.metadata.member];
        let raw = match (outer, self.metadata.inner) {
            (Some(object), Some(name)) => match find(object.get(), &[name], &mut inner) {
                Ok(()) => inner[0],
                Err(_) => None,
            },
            (outer, _) => outer,
        };
        let Some(raw) = raw else { return self.cells.column().append_null() };
        let taken = match self.metadata.read {
            Read::Millis => raw.get().parse().is_ok_and(|ms| self.cells.column().append_raw(ms)),
            Read::Text => self.cells.column().append_text(raw.get()),
            _ => {
                self.cells.append(raw.get());
                true
            }
        };
        if !taken {
            self.cells.column().append_null();
        }
    }
}

/// Decoder of change logs.
pub struct ChangelogDecoder {
    options: ChangelogOptions,
    rows: JsonDecoder,
    metadata: Vec<MetadataColumn>,
    kinds: Vec<RowKind>,
    skip_option: &'static str,
}

/// Column and problem.
type Fault = (Option<String>, String);

fn fault<T>(problem: impl Into<String>) -> Result<T, Fault> {
    Err((None, problem.into()))
}

impl ChangelogDecoder {
    /// A decoder of `columns`; `skip_option` is named where a record is bad.
    pub fn new(options: ChangelogOptions, columns: &[Column], skip_option: &'static str) -> Result<Self> {
        let (mut physical, mut metadata) = (Vec::new(), Vec::new());
        for (place, column) in columns.iter().enumerate() {
            let Some(key) = &column.metadata_key else {
                physical.push(column.clone());
                continue;
            };
            let key = key.strip_prefix("value.").unwrap_or(key);
            let known = options.dialect.metadata().iter().find(|m| m.key == key);
            let Some(known) = known else { return Err(super::unknown_metadata(options.dialect.name(), column)) };
            let cells = Cells::new(&column.name, &known.read.data_type())?;
            metadata.push(MetadataColumn { place, metadata: *known, cells });
        }
        let rows = JsonDecoder::new(options.json.clone(), &physical)?;
        Ok(ChangelogDecoder { options, rows, metadata, kinds: Vec::new(), skip_option })
    }

    fn row(&mut self, kind: RowKind, object: &str, over: Option<&str>, found: &Found<'_>) -> Result<(), Fault> {
        self.rows.object(object, over)?;
        self.kinds.push(kind);
        self.metadata.iter_mut().for_each(|m| m.append(found));
        Ok(())
    }

    fn message(&mut self, message: &[u8]) -> Result<(), Fault> {
        let Ok(text) = std::str::from_utf8(message) else {
            return fault(format!("'{}' is not UTF-8", excerpt(message)));
        };
        let dialect = self.options.dialect;
        let not_json = |e: serde_json::Error| {
            (None, format!("'{}' is not a message of {}: {e}", excerpt(message), dialect.name()))
        };
        let mut found = Found::default();
        if self.options.schema_include {
            let mut outer = Found::default();
            find(text, &["schema", "payload"], &mut outer).map_err(not_json)?;
            let Some(payload) = outer[1] else {
                return fault("there is no `payload`, although 'debezium-json.schema-include' = 'true'");
            };
            find(payload.get(), dialect.members(), &mut found).map_err(not_json)?;
            found[SCHEMA] = outer[0];
        } else {
            find(text, dialect.members(), &mut found).map_err(not_json)?;
        }
        let Some(op) = found[2] else {
            let hint = if text.contains("\"payload\"") && dialect == Dialect::Debezium {
                "; if the rows are in `payload`, set 'debezium-json.schema-include' = 'true'"
            } else {
                ""
            };
            let name = dialect.members()[2];
            return fault(format!(
                "'{}' has no `{name}`, so it is no message of {}{hint}",
                excerpt(message),
                dialect.name()
            ));
        };
        let op = string(op).unwrap_or_else(|| Cow::Borrowed(op.get()));
        match dialect {
            Dialect::Debezium => self.debezium(&op, &found),
            Dialect::Maxwell => self.maxwell(&op, &found),
            Dialect::Canal => self.canal(&op, &found),
        }
    }

    fn debezium(&mut self, op: &str, found: &Found<'_>) -> Result<(), Fault> {
        let [before, after] = [found[0], found[1]].map(|raw| raw.map(RawValue::get));
        let identity = |what: &str| {
            format!(
                "`before` of a message with op '{op}' ({what}) is null; if it comes from Debezium's PostgreSQL connector, \
                 set the table's REPLICA IDENTITY to FULL"
            )
        };
        let no_after = || format!("`after` of a message with op '{op}' is null");
        match op {
            "c" | "r" => {
                let Some(after) = after else { return fault(no_after()) };
                self.row(RowKind::Insert, after, None, found)
            }
            "u" => {
                let Some(before) = before else { return fault(identity("UPDATE")) };
                let Some(after) = after else { return fault(no_after()) };
                self.row(RowKind::UpdateBefore, before, None, found)?;
                self.row(RowKind::UpdateAfter, after, None, found)
            }
            "d" => {
                let Some(before) = before else { return fault(identity("DELETE")) };
                self.row(RowKind::Delete, before, None, found)
            }
            _ => fault(format!("op '{}' is not one of c, r, u, d", excerpt(op.as_bytes()))),
        }
    }

    fn maxwell(&mut self, op: &str, found: &Found<'_>) -> Result<(), Fault> {
        let [old, data] = [found[0], found[1]].map(|raw| raw.map(RawValue::get));
        let Some(data) = data else { return fault(format!("`data` of a message with type '{op}' is null")) };
        match op {
            "insert" | "bootstrap-insert" => self.row(RowKind::Insert, data, None, found),
            "update" => {
                let Some(old) = old else { return fault("`old` of a message with type 'update' is null") };
                self.row(RowKind::UpdateBefore, data, Some(old), found)?;
                self.row(RowKind::UpdateAfter, data, None, found)
            }
            "delete" => self.row(RowKind::Delete, data, None, found),
            _ => fault(format!("type '{}' is not one of insert, update, delete", excerpt(op.as_bytes()))),
        }
    }

    fn canal(&mut self, op: &str, found: &Found<'_>) -> Result<(), Fault> {
        for (pattern, member) in [(&self.options.database, 3), (&self.options.table, 4)] {
            let name = found[member].and_then(string);
            if pattern.as_ref().is_some_and(|p| !name.is_some_and(|n| p.is_match(&n))) {
                return Ok(());
            }
        }
        let objects = |member: usize| -> Result<Vec<&RawValue>, Fault> {
            let Some(raw) = found[member] else { return Ok(Vec::new()) };
            let name = Dialect::Canal.members()[member];
            serde_json::from_str(raw.get()).or_else(|_| fault(format!("`{name}` is not an array of objects")))
        };
        let (data, old) = (objects(1)?, objects(0)?);
        match op {
            "INSERT" => data.iter().try_for_each(|d| self.row(RowKind::Insert, d.get(), None, found)),
            "DELETE" => data.iter().try_for_each(|d| self.row(RowKind::Delete, d.get(), None, found)),
            "UPDATE" if data.len() == old.len() => data.iter().zip(&old).try_for_each(|(d, o)| {
                self.row(RowKind::UpdateBefore, d.get(), Some(o.get()), found)?;
                self.row(RowKind::UpdateAfter, d.get(), None, found)
            }),
            "UPDATE" => fault(format!("`data` has {} objects and `old` has {}", data.len(), old.len())),
            // A statement such as CREATE or ALTER TABLE says nothing about rows.
            "CREATE" | "ALTER" | "ERASE" | "QUERY" | "TRUNCATE" | "RENAME" | "CINDEX" | "DINDEX" => Ok(()),
            _ => fault(format!("type '{}' is not one of INSERT, UPDATE, DELETE", excerpt(op.as_bytes()))),
        }
    }
}

impl MessageDecoder for ChangelogDecoder {
    fn decode(&mut self, message: &[u8]) -> Result<(), BadRecord> {
        // Debezium follows a delete with an empty message, for Kafka's compaction.
        if message.is_empty() {
            return Ok(());
        }
        let before = self.rows.rows();
        self.message(message).map_err(|(field, problem)| {
            self.rows.truncate(before);
            self.kinds.truncate(before);
            self.metadata.iter_mut().for_each(|m| m.cells.column().truncate(before));
            BadRecord { line: 0, field, problem, skip_option: self.skip_option }
        })
    }
    fn rows(&self) -> usize {
        self.rows.rows()
    }
    fn finish(&mut self) -> Result<Decoded> {
        let mut columns = self.rows.finish()?;
        for m in &mut self.metadata {
            columns.insert(m.place, m.cells.column().finish()?);
        }
        let kinds = std::mem::take(&mut self.kinds);
        Ok(Decoded { columns, kinds: Some(kinds.into()) })
    }
}
