//! What unaligned barriers overtake: gathered by a task, written beside its state, read and dealt out again on restore. Never
//! looks into rows but to tell whose they are.

mod codec;
mod recover;

use flott_core::batch::ChangeBatch;
use flott_core::element::{Element, Signal};
use flott_core::error::Result;
use flott_core::ids::OperatorId;
use flott_core::snapshot::{ChannelAddress, ChunkRef, ChunkScope, ChunkWriter, InFlightPlace, InFlightSegment};
use flott_core::time::EventTime;

pub use recover::{InFlightData, PortRoute};

/// Bytes after which a file with rows in flight is closed; a segment is never split.
const FILE_BYTES: usize = 8 << 20;

/// Something that waits in front of an operator.
#[derive(Clone, Debug)]
pub enum InFlightItem {
    /// Rows of an input.
    Batch {
        /// The input.
        port: usize,
        /// The rows.
        batch: ChangeBatch,
    },
    /// A watermark of all inputs together.
    Watermark(EventTime),
}

impl InFlightItem {
    /// What of an element inside a chain is stored. Idleness and ends are said anew after a restore.
    pub(crate) fn of(port: usize, element: &Element) -> Option<Self> {
        match element {
            Element::Batch(b) => Some(InFlightItem::Batch { port, batch: b.clone() }),
            Element::Signal(Signal::Watermark(w)) => Some(InFlightItem::Watermark(*w)),
            Element::Signal(_) => None,
        }
    }
}

/// How far time had come on a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelMark {
    /// The reader's input edge.
    pub edge: u32,
    /// The writing subtask.
    pub from: u32,
    /// The channel's watermark.
    pub watermark: EventTime,
    /// Whether it was idle.
    pub idle: bool,
}

/// What waited in front of an operator of a subtask, and how far time had come there.
#[derive(Clone, Debug)]
pub struct Queued {
    /// The last watermark that the operator was given.
    pub seen: EventTime,
    /// What waited, in order.
    pub items: Vec<InFlightItem>,
    /// The combined watermark of the gate behind `items`; the beginning of time when there is no gate.
    pub combined: EventTime,
    /// The channels of the gate behind `items`.
    pub marks: Vec<ChannelMark>,
}

impl Default for Queued {
    fn default() -> Self {
        Queued { seen: EventTime::MIN, items: Vec::new(), combined: EventTime::MIN, marks: Vec::new() }
    }
}

/// Everything that a barrier overtook in a task, not yet written.
#[derive(Debug, Default)]
pub struct InFlightCut {
    pub(crate) queued: Vec<(OperatorId, Queued)>,
    /// What the reader had taken from its channels, and what the writer had put in front of them.
    pub(crate) channels: Vec<(ChannelAddress, u8, Vec<Element>)>,
}

impl InFlightCut {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.queued.is_empty() && self.channels.is_empty()
    }
    /// Writes it as chunks that belong to this checkpoint alone; for subtask `subtask`. Off the task's thread.
    pub fn write(self, subtask: u32, writer: &dyn ChunkWriter) -> Result<Vec<InFlightSegment>> {
        let mut files = Files { writer, open: Vec::new(), parts: Vec::new(), done: Vec::new() };
        for (operator, queued) in &self.queued {
            let rows = queued.items.iter().map(rows_of_item).sum();
            files.add(InFlightPlace::Queued { operator: *operator, subtask }, rows, |out| {
                codec::put_queued(out, queued)
            })?;
        }
        for (address, part, elements) in &self.channels {
            let rows = elements.iter().map(rows_of).sum();
            let place = InFlightPlace::Channel { address: *address, part: *part };
            files.add(place, rows, |out| codec::put_elements(out, elements))?;
        }
        files.close()?;
        Ok(files.done)
    }
}

fn rows_of(element: &Element) -> u64 {
    match element {
        Element::Batch(b) => b.num_rows() as u64,
        Element::Signal(_) => 0,
    }
}

fn rows_of_item(item: &InFlightItem) -> u64 {
    match item {
        InFlightItem::Batch { batch, .. } => batch.num_rows() as u64,
        InFlightItem::Watermark(_) => 0,
    }
}

/// Packs segments into files.
struct Files<'a> {
    writer: &'a dyn ChunkWriter,
    open: Vec<u8>,
    parts: Vec<(InFlightPlace, u64, std::ops::Range<usize>)>,
    done: Vec<InFlightSegment>,
}

impl Files<'_> {
    fn add(&mut self, place: InFlightPlace, rows: u64, put: impl FnOnce(&mut Vec<u8>) -> Result<()>) -> Result<()> {
        let start = self.open.len();
        put(&mut self.open)?;
        self.parts.push((place, rows, start..self.open.len()));
        if self.open.len() >= FILE_BYTES { self.close() } else { Ok(()) }
    }

    fn close(&mut self) -> Result<()> {
        if self.parts.is_empty() {
            return Ok(());
        }
        let bytes = bytes::Bytes::from(std::mem::take(&mut self.open));
        let whole = self.writer.put(ChunkScope::Exclusive, bytes.clone())?;
        for (place, rows, range) in self.parts.drain(..) {
            let part = bytes.slice(range.clone());
            self.done.push(InFlightSegment { place, rows, chunk: part_of(&whole, &part, range) });
        }
        Ok(())
    }
}

fn part_of(whole: &ChunkRef, part: &bytes::Bytes, range: std::ops::Range<usize>) -> ChunkRef {
    use flott_core::snapshot::ChunkLocation::{File, Inline};
    let location = match &whole.location {
        Inline(_) => Inline(bytes::Bytes::copy_from_slice(part)),
        File { path, offset } => File { path: path.clone(), offset: offset + range.start as u64 },
    };
    ChunkRef { scope: whole.scope, location, len: part.len() as u64, crc32: crc32fast::hash(part) }
}

#[cfg(test)]
mod tests;
