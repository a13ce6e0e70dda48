//! Splits of the generator and the reader that merges them in row order; a row depends on its number alone.
//!
//! Rows are dealt out in blocks to a fixed number of splits, so that a job can be rescaled. A block is a small part of
//! what the rate gives in a second: every split moves on often, and watermarks of splits do not hold each other back.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use flott_core::source::{Boundedness, ReaderContext, ReaderEvent, Source, Split, SplitEnumerator, SplitReader};
use flott_core::types::{Column, arrow_schema};
use flott_core::{ChangeBatch, Result};

use super::field::Field;
use crate::columns::ColumnBuilder;
use crate::pace::Pace;
use crate::wire::{Reader, Writer};

/// Number of splits: the largest useful parallelism.
const SPLITS: u64 = 16;
/// Rows of a batch at most.
const BATCH_ROWS: u64 = 4096;
/// Tag and version of the position.
const TAG: (u8, u8) = (b'D', 1);

/// All columns.
pub struct Generator {
    schema: SchemaRef,
    columns: Vec<Column>,
    fields: Vec<Field>,
}

impl Generator {
    pub(super) fn new(columns: &[Column], fields: Vec<Field>) -> Self {
        Generator { schema: arrow_schema(columns), columns: columns.to_vec(), fields }
    }

    /// Rows `from..from + count`.
    fn rows(&self, from: u64, count: u64, now_ms: i64) -> Result<RecordBatch> {
        let mut text = String::new();
        let mut arrays = Vec::with_capacity(self.fields.len());
        for (column, field) in self.columns.iter().zip(&self.fields) {
            let mut builder = ColumnBuilder::new(&column.data_type)?;
            for n in from..from + count {
                field.append(n, now_ms, &mut text, &mut builder);
            }
            arrays.push(builder.finish()?);
        }
        Ok(RecordBatch::try_new(self.schema.clone(), arrays)?)
    }
}

struct Shared {
    generator: Generator,
    pace: Pace,
    block: u64,
    total: Option<u64>,
}

/// The generator as a source.
pub struct DatagenSource(Arc<Shared>);

impl DatagenSource {
    pub(super) fn new(generator: Generator, per_second: u64, total: Option<u64>) -> Self {
        let block = (per_second / (2 * SPLITS)).clamp(1, BATCH_ROWS);
        DatagenSource(Arc::new(Shared { generator, pace: Pace::new(per_second as f64), block, total }))
    }
}

impl Source for DatagenSource {
    fn boundedness(&self) -> Boundedness {
        if self.0.total.is_some() { Boundedness::Bounded } else { Boundedness::Unbounded }
    }
    fn enumerator(&self) -> Result<Box<dyn SplitEnumerator>> {
        Ok(Box::new(Blocks { block: self.0.block }))
    }
    fn reader(&self, context: ReaderContext) -> Result<Box<dyn SplitReader>> {
        Ok(Box::new(DatagenReader { shared: self.0.clone(), context, open: Vec::new() }))
    }
}

struct Blocks {
    block: u64,
}

impl SplitEnumerator for Blocks {
    fn discover(&mut self, _: u32) -> Result<Vec<Split>> {
        Ok((0..SPLITS).map(|s| Part { id: id(s), next: s * self.block, block: self.block }.encode()).collect())
    }
}

fn id(split: u64) -> Arc<str> {
    format!("datagen-{split}").into()
}

/// A split: every [`SPLITS`]th block.
struct Part {
    id: Arc<str>,
    /// Number of the next row.
    next: u64,
    /// Rows of a block when the job was first started: a changed rate must not deal out rows anew.
    block: u64,
}

impl Part {
    fn encode(&self) -> Split {
        Split { id: self.id.to_string(), state: Writer::new(TAG.0, TAG.1).u64(self.next).u64(self.block).done() }
    }
    fn decode(split: &Split) -> Result<Self> {
        let mut r = Reader::new("datagen position", &split.state, TAG.0, TAG.1)?;
        let part = Part { id: split.id.as_str().into(), next: r.u64()?, block: r.u64()?.max(1) };
        r.end()?;
        Ok(part)
    }
    /// Rows left in the current block.
    fn left(&self) -> u64 {
        self.block - self.next % self.block
    }
    fn advance(&mut self, rows: u64) {
        self.next += rows;
        if self.next.is_multiple_of(self.block) {
            self.next += (SPLITS - 1) * self.block;
        }
    }
}

struct DatagenReader {
    shared: Arc<Shared>,
    context: ReaderContext,
    open: Vec<Part>,
}

impl SplitReader for DatagenReader {
    fn assign(&mut self, splits: Vec<Split>) -> Result<()> {
        for split in &splits {
            self.open.push(Part::decode(split)?);
        }
        Ok(())
    }

    fn poll(&mut self) -> Result<ReaderEvent> {
        let first = self.open.iter().enumerate().min_by_key(|(_, p)| p.next).map(|(i, _)| i);
        let Some(first) = first else { return Ok(ReaderEvent::Drained) };
        let part = &mut self.open[first];
        let total = self.shared.total.unwrap_or(u64::MAX);
        if part.next >= total {
            let split = self.open.remove(first).id;
            return Ok(ReaderEvent::SplitFinished { split });
        }
        let want = part.left().min(total - part.next).min(BATCH_ROWS);
        let now_ms = self.context.clock.now_ms();
        let rows = match self.shared.pace.take(self.context.clock.now_nanos(), want as usize) {
            Ok(rows) => rows as u64,
            Err(wait_ms) => return Ok(ReaderEvent::Wait { until_ms: now_ms.saturating_add(wait_ms) }),
        };
        let batch = self.shared.generator.rows(part.next, rows, now_ms)?;
        part.advance(rows);
        Ok(ReaderEvent::Rows { split: part.id.clone(), batch: ChangeBatch::append(batch) })
    }

    fn snapshot(&mut self) -> Result<Vec<Split>> {
        Ok(self.open.iter().map(Part::encode).collect())
    }
}
