//! Columns to Avro messages, registered with the schema registry before the first; never writes a record without its schema.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_avro::schema::SCHEMA_METADATA_KEY;
use arrow_avro::writer::format::AvroBinaryFormat;
use arrow_avro::writer::{Encoder, WriterBuilder};
use arrow_schema::{Schema, SchemaRef};
use flott_core::batch::ChangeBatch;
use flott_core::types::{Column, DataType, TypeKind, arrow_schema};
use flott_core::{Error, Result};

use super::registry::Registry;
use super::schema_error;
use crate::formats::message::{MessageEncoder, MessageEnd, Messages};

/// Encoder of Avro messages.
pub struct AvroEncoder {
    schema: String,
    registry: Option<Registry>,
    /// What stands in front of each message once the schema is registered.
    prefix: Option<Vec<u8>>,
    columns: Vec<Column>,
    carrier: SchemaRef,
    encoder: Encoder,
}

impl AvroEncoder {
    /// An encoder of `columns` by a schema.
    pub fn new(schema: String, registry: Option<Registry>, columns: &[Column]) -> Result<Self> {
        let carrier = arrow_schema(columns);
        let encoder = WriterBuilder::new(self::carrier(&schema, columns)?)
            .build_encoder::<AvroBinaryFormat>()
            .map_err(|e| schema_error(&schema, e))?;
        let prefix = registry.is_none().then(Vec::new);
        Ok(AvroEncoder { schema, registry, prefix, columns: columns.to_vec(), carrier, encoder })
    }

    fn prefix(&mut self) -> Result<&[u8]> {
        if let (None, Some(registry)) = (&self.prefix, &mut self.registry) {
            let id = registry.register(&self.schema)?;
            let mut prefix = vec![0];
            prefix.extend_from_slice(&id.to_be_bytes());
            self.prefix = Some(prefix);
        }
        Ok(self.prefix.as_deref().unwrap_or_default())
    }
}

/// Whether there are NULLs that a schema without a union cannot carry; `outer` of them belong to rows that are NULL themselves.
fn has_stray_null(array: &ArrayRef, t: &DataType, outer: usize) -> bool {
    let nulls = array.null_count();
    if !t.nullable && nulls > outer {
        return true;
    }
    match &t.kind {
        TypeKind::Array(item) => array.as_list_opt::<i32>().is_some_and(|l| has_stray_null(l.values(), item, 0)),
        TypeKind::Map(_, value) => array.as_map_opt().is_some_and(|m| has_stray_null(m.values(), value, 0)),
        TypeKind::Row(fields) => array
            .as_struct_opt()
            .is_some_and(|s| s.columns().iter().zip(fields).any(|(c, (_, t))| has_stray_null(c, t, nulls))),
        _ => false,
    }
}

/// The columns as Arrow's schema, with Avro's as a note.
pub(super) fn carrier(schema: &str, columns: &[Column]) -> Result<Schema> {
    let metadata = HashMap::from([(SCHEMA_METADATA_KEY.to_owned(), schema.to_owned())]);
    Ok(Schema::new_with_metadata(arrow_schema(columns).fields().clone(), metadata))
}

/// Refuses NULLs that a schema without a union cannot carry.
pub(super) fn check_nulls(columns: &[Column], arrays: &[ArrayRef]) -> Result<()> {
    for (column, array) in columns.iter().zip(arrays) {
        if has_stray_null(array, &column.data_type, 0) {
            let t = &column.data_type;
            let message = format!("column `{}` holds NULL where its type {t} does not allow it", column.name);
            let hint = "declare the column nullable, or filter such rows";
            return Err(Error::user("format.avro.encode", message).hint(hint));
        }
    }
    Ok(())
}

impl MessageEncoder for AvroEncoder {
    fn encode(&mut self, batch: &ChangeBatch, out: &mut Messages) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        check_nulls(&self.columns, batch.rows.columns())?;
        let prefix = self.prefix()?.to_vec();
        let rows = RecordBatch::try_new(Arc::clone(&self.carrier), batch.rows.columns().to_vec())?;
        self.encoder.encode(&rows).map_err(|e| {
            Error::user("format.avro.encode", format!("rows cannot be written as Avro: {e}"))
                .hint("compare the schema with the columns of the table")
        })?;
        let encoded = self.encoder.flush();
        out.bytes.reserve(encoded.bytes().len() + prefix.len() * encoded.len());
        for ends in encoded.offsets().windows(2) {
            out.bytes.extend_from_slice(&prefix);
            out.bytes.extend_from_slice(&encoded.bytes()[ends[0]..ends[1]]);
            out.entries.push(MessageEnd { end: out.bytes.len(), is_message: true });
        }
        Ok(())
    }
}
