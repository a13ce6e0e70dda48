//! Avro messages to columns. `arrow-avro` fills its builders a record at a time and cannot take one back, so the messages of a
//! batch are kept until it is finished: after a bad one the good ones before it are decoded again. Never skips a record.

use std::collections::BTreeMap;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_avro::reader::{Decoder, ReaderBuilder};
use arrow_avro::schema::{AvroSchema, Fingerprint, FingerprintAlgorithm, SchemaStore};
use flott_core::types::{Column, TypeKind};
use flott_core::{Error, Result};

use super::registry::{Registry, RegistryError};
use super::{arrays, resolve, schema_error};
use crate::formats::message::{Decoded, MessageDecoder};
use crate::formats::{BadRecord, excerpt};

/// Magic byte and schema id in front of each message.
const FRAME_BYTES: usize = 5;
/// The id of the only schema where there is no registry.
const OWN_ID: u32 = 1;
/// Schemas that are kept; beyond that all are asked for again.
const SCHEMAS_MAX: usize = 1000;
/// More rows than any batch.
const ROWS_MAX: usize = 1 << 30;

/// A writer's schema, and ours with the writer's names: see [`resolve`].
#[derive(Clone, Debug)]
struct Schemas {
    writer: AvroSchema,
    reader: AvroSchema,
}

/// Decoder of Avro messages.
pub struct AvroDecoder {
    columns: Vec<(String, TypeKind)>,
    schema: String,
    registry: Option<Registry>,
    /// Writers' schemas that were met.
    known: BTreeMap<u32, Schemas>,
    decoder: Decoder,
    /// The schemas of what is in the decoder.
    active: (u32, Schemas),
    /// Framed messages in the decoder, and where each ends.
    kept: Vec<u8>,
    ends: Vec<usize>,
    /// Rows that left the decoder.
    parts: Vec<RecordBatch>,
    parts_rows: usize,
    /// The registry did not answer: said by [`MessageDecoder::finish`], as it is no fault of a message.
    failed: Option<Error>,
    /// Messages since then, each of which counts as a row, so that nobody takes it for one without rows.
    undecoded: usize,
    /// The registry was asked for the active schema.
    started: bool,
}

impl AvroDecoder {
    /// A decoder to `columns` by a reader's schema.
    pub fn new(schema: String, registry: Option<Registry>, columns: &[Column]) -> Result<Self> {
        let own = AvroSchema::new(schema.clone());
        let own = Schemas { writer: own.clone(), reader: own };
        let decoder = build(OWN_ID, &own).map_err(|e| schema_error(&schema, e))?;
        Ok(AvroDecoder {
            columns: columns.iter().map(|c| (c.name.clone(), c.data_type.kind.clone())).collect(),
            schema,
            registry,
            known: BTreeMap::new(),
            decoder,
            active: (OWN_ID, own),
            started: false,
            kept: Vec::new(),
            ends: Vec::new(),
            parts: Vec::new(),
            parts_rows: 0,
            failed: None,
            undecoded: 0,
        })
    }

    /// Makes the decoder ready for the schema `id`; `false` when the registry failed, which is remembered.
    fn learn(&mut self, id: u32) -> Result<bool, String> {
        let Some(registry) = &mut self.registry else { return Ok(true) };
        if self.started && self.active.0 == id {
            return Ok(true);
        }
        let schemas = match self.known.get(&id) {
            Some(known) => known.clone(),
            None => {
                let writer = match registry.schema(id) {
                    Ok(schema) => schema,
                    Err(RegistryError::NotThere(problem)) => return Err(problem),
                    Err(RegistryError::Failed(error)) => {
                        self.failed = Some(error);
                        return Ok(false);
                    }
                };
                let (writer, reader) = resolve::schemas(&writer, &self.schema)
                    .map_err(|e| format!("its schema (id {id}) cannot be read as the table's columns: {e}"))?;
                Schemas { writer: AvroSchema::new(writer), reader: AvroSchema::new(reader) }
            }
        };
        let decoder = build(id, &schemas)
            .map_err(|e| format!("its schema (id {id}) cannot be read as the table's columns: {e}"))?;
        if let Err(error) = self.drain() {
            self.failed = Some(error);
            return Ok(false);
        }
        if self.known.len() >= SCHEMAS_MAX {
            self.known.clear();
        }
        self.known.insert(id, schemas.clone());
        self.decoder = decoder;
        self.active = (id, schemas);
        self.started = true;
        Ok(true)
    }

    /// Decodes what stands in `kept` from `start` on: one framed message.
    fn decode_kept(&mut self, start: usize) -> Result<(), String> {
        let frame = &self.kept[start..];
        let before = self.decoder.capacity();
        let read = self.decoder.decode(frame).map_err(|e| e.to_string())?;
        match (read == frame.len(), before - self.decoder.capacity()) {
            (true, 1) => Ok(()),
            (_, 0) => Err("the message ends within the record".into()),
            _ => Err("bytes follow the record".into()),
        }
    }

    /// Decodes the good messages again after a bad one, and puts their rows aside.
    fn recover(&mut self) -> Result<()> {
        let broken = |problem: String| Error::bug(format!("Avro messages that were good are bad: {problem}"));
        self.decoder = build(self.active.0, &self.active.1).map_err(broken)?;
        let mut start = 0;
        for i in 0..self.ends.len() {
            let end = self.ends[i];
            self.decoder.decode(&self.kept[start..end]).map_err(|e| broken(e.to_string()))?;
            start = end;
        }
        self.drain()
    }

    /// Takes the rows out of the decoder.
    fn drain(&mut self) -> Result<()> {
        let flushed = self.decoder.flush();
        match flushed {
            Ok(batch) => {
                self.parts_rows += self.ends.len();
                self.parts.extend(batch);
                self.kept.clear();
                self.ends.clear();
                Ok(())
            }
            Err(e) => Err(self.blame(&e)),
        }
    }

    /// Which message made the columns invalid: text that is not UTF-8 is found only when a batch is finished.
    fn blame(&mut self, error: &dyn std::fmt::Display) -> Error {
        let mut start = 0;
        for &end in &self.ends {
            let message = &self.kept[start..end];
            let alone = build(self.active.0, &self.active.1).ok().map(|mut d| {
                let decoded = d.decode(message).is_ok();
                decoded && d.flush().is_ok()
            });
            if alone == Some(false) {
                let found = excerpt(&message[FRAME_BYTES.min(message.len())..]);
                let message = format!("an Avro message holds text that is not UTF-8: '{found}'");
                return Error::user("format.bad-record", message)
                    .hint("declare the field as bytes in the writer's schema, or correct the writer");
            }
            start = end;
        }
        Error::user("format.bad-record", format!("Avro messages do not make columns: {error}"))
            .hint("compare the writer's schema with the columns of the table")
    }

    fn message(&mut self, message: &[u8]) -> Result<(), String> {
        let id = match (&self.registry, message) {
            (None, _) => OWN_ID,
            (Some(_), [0, a, b, c, d, ..]) => u32::from_be_bytes([*a, *b, *c, *d]),
            (Some(_), _) => {
                return Err(format!(
                    "'{}' does not begin with a zero byte and the id of a schema, as messages of avro-confluent do",
                    excerpt(message)
                ));
            }
        };
        if !self.learn(id)? {
            self.undecoded += 1;
            return Ok(());
        }
        let start = self.kept.len();
        if self.registry.is_none() {
            self.kept.push(0);
            self.kept.extend_from_slice(&OWN_ID.to_be_bytes());
        }
        self.kept.extend_from_slice(message);
        match self.decode_kept(start) {
            Ok(()) => {
                self.ends.push(self.kept.len());
                Ok(())
            }
            Err(problem) => {
                self.kept.truncate(start);
                if let Err(error) = self.recover() {
                    self.failed = Some(error);
                }
                Err(format!("'{}' is not the record that the schema describes: {problem}", excerpt(message)))
            }
        }
    }
}

/// A decoder of messages of one writer's schema.
fn build(id: u32, schemas: &Schemas) -> Result<Decoder, String> {
    let mut store = SchemaStore::new_with_type(FingerprintAlgorithm::Id);
    store.set(Fingerprint::Id(id), schemas.writer.clone()).map_err(|e| e.to_string())?;
    ReaderBuilder::new()
        .with_batch_size(ROWS_MAX)
        .with_writer_schema_store(store)
        .with_active_fingerprint(Fingerprint::Id(id))
        .with_reader_schema(schemas.reader.clone())
        .build_decoder()
        .map_err(|e| e.to_string())
}

impl MessageDecoder for AvroDecoder {
    fn decode(&mut self, message: &[u8]) -> Result<(), BadRecord> {
        if self.failed.is_some() {
            self.undecoded += 1;
            return Ok(());
        }
        self.message(message).map_err(|problem| BadRecord { line: 0, field: None, problem, skip_option: "" })
    }

    fn rows(&self) -> usize {
        self.parts_rows + self.ends.len() + self.undecoded
    }

    fn finish(&mut self) -> Result<Decoded> {
        if let Some(error) = self.failed.take() {
            self.undecoded = 0;
            return Err(error);
        }
        self.drain()?;
        self.parts_rows = 0;
        let parts = std::mem::take(&mut self.parts);
        let mut columns = Vec::with_capacity(self.columns.len());
        for (name, kind) in &self.columns {
            let mut pieces: Vec<ArrayRef> = Vec::with_capacity(parts.len());
            for part in &parts {
                let array =
                    part.column_by_name(name).ok_or_else(|| Error::bug(format!("Avro gave no column `{name}`")))?;
                pieces.push(arrays::adapt(array, kind).map_err(|e| e.context(format_args!("column `{name}`")))?);
            }
            columns.push(match &pieces[..] {
                [one] => ArrayRef::clone(one),
                [] => arrow_array::new_empty_array(&kind.to_arrow()),
                _ => arrow_select::concat::concat(&pieces.iter().map(AsRef::as_ref).collect::<Vec<_>>())?,
            });
        }
        Ok(Decoded { columns, kinds: None })
    }
}
