//! Output rows of window aggregations: group columns, results, window columns. Pure.

use std::sync::Arc;

use arrow_array::types::TimestampMillisecondType;
use arrow_array::{ArrayRef, PrimitiveArray, RecordBatch, RecordBatchOptions};
use arrow_schema::{DataType as Arrow, SchemaRef, TimeUnit};
use flott_core::batch::ChangeBatch;
use flott_core::error::{Error, Result};
use flott_core::keys::RowCodec;
use flott_core::types::{Column, arrow_schema};
use flott_plan::spec::WindowProperty;

use crate::aggregate::{Beside, Layout, finish};
use crate::zone::ZoneShift;

/// Builds output batches.
pub(crate) struct Output {
    schema: SchemaRef,
    properties: Vec<WindowProperty>,
}

/// Rows to be built: images, keys and values beside them, one each per row.
#[derive(Default)]
pub(crate) struct Rows {
    /// Images, back to back.
    pub images: Vec<u8>,
    /// Keys, back to back.
    pub keys: Vec<u8>,
    /// Where each key ends.
    pub key_ends: Vec<usize>,
    /// Values beside the rows, by accumulator.
    pub beside: Vec<Vec<Beside>>,
}

impl Rows {
    /// Adds a row.
    pub(crate) fn push(&mut self, key: &[u8], image: &[u8]) {
        self.images.extend_from_slice(image);
        self.keys.extend_from_slice(key);
        self.key_ends.push(self.keys.len());
    }
    /// Number of rows.
    pub(crate) fn len(&self) -> usize {
        self.key_ends.len()
    }
    fn keys(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.key_ends.iter().copied());
        starts.zip(&self.key_ends).map(|(start, &end)| &self.keys[start..end])
    }
}

impl Output {
    /// Output with these columns, of which the last are window properties.
    pub(crate) fn new(output: &[Column], properties: &[WindowProperty]) -> Self {
        Output { schema: arrow_schema(output), properties: properties.to_vec() }
    }
    /// The batch of `rows`; `windows` gives the local start and end of each.
    pub(crate) fn build(
        &self,
        layout: &Layout,
        codec: &RowCodec,
        rows: &Rows,
        windows: &[(i64, i64)],
        shift: &ZoneShift,
    ) -> Result<ChangeBatch> {
        let mut columns = if codec.fields().is_empty() { Vec::new() } else { codec.decode(rows.keys())? };
        columns.extend(finish(layout, &rows.images, &rows.beside)?);
        for property in &self.properties {
            let arrow = self.schema.field(columns.len()).data_type();
            columns.push(column(*property, arrow, windows, shift)?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        Ok(ChangeBatch::append(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?))
    }
}

/// A window column: local time for TIMESTAMP, an instant for TIMESTAMP_LTZ.
pub(crate) fn column(p: WindowProperty, arrow: &Arrow, windows: &[(i64, i64)], shift: &ZoneShift) -> Result<ArrayRef> {
    let Arrow::Timestamp(unit, zone) = arrow else {
        return Err(Error::bug(format!("a window column has type {arrow}")));
    };
    if *unit != TimeUnit::Millisecond {
        return Err(Error::bug("a window column has a precision other than 3"));
    }
    let mut last = None;
    let values = windows.iter().map(|&(start, end)| {
        let local = match p {
            WindowProperty::Start => start,
            WindowProperty::End => end,
            WindowProperty::Time => end - 1,
        };
        match last {
            _ if zone.is_none() => local,
            Some((l, instant)) if l == local => instant,
            _ => {
                let instant = shift.to_instant(local);
                last = Some((local, instant));
                instant
            }
        }
    });
    let array: PrimitiveArray<TimestampMillisecondType> = PrimitiveArray::from_iter_values(values);
    Ok(Arc::new(array.with_data_type(arrow.clone())))
}
