//! How rows in flight lie in a checkpoint: a version byte, then little-endian fields and length-prefixed batches. Frozen.

use flott_core::batch_codec::{decode_batch, encode_batch};
use flott_core::element::{Element, Signal};
use flott_core::error::{Error, Result};
use flott_core::time::EventTime;

use super::{ChannelMark, InFlightItem, Queued};

const VERSION: u8 = 1;
const BATCH: u8 = 0;
const WATERMARK: u8 = 1;
const IDLE: u8 = 2;
const ACTIVE: u8 = 3;

fn put_len(out: &mut Vec<u8>, n: usize) {
    out.extend_from_slice(&(n as u64).to_le_bytes());
}

fn put_batch(out: &mut Vec<u8>, port: usize, batch: &flott_core::ChangeBatch) -> Result<()> {
    out.push(BATCH);
    put_len(out, port);
    let bytes = encode_batch(batch)?;
    put_len(out, bytes.len());
    out.extend_from_slice(&bytes);
    Ok(())
}

fn put_watermark(out: &mut Vec<u8>, w: EventTime) {
    out.push(WATERMARK);
    out.extend_from_slice(&w.0.to_le_bytes());
}

/// What lay in a channel.
pub(super) fn put_elements(out: &mut Vec<u8>, elements: &[Element]) -> Result<()> {
    out.push(VERSION);
    put_len(out, elements.len());
    for element in elements {
        match element {
            Element::Batch(b) => put_batch(out, 0, b)?,
            Element::Signal(Signal::Watermark(w)) => put_watermark(out, *w),
            Element::Signal(Signal::Idle) => out.push(IDLE),
            Element::Signal(Signal::Active) => out.push(ACTIVE),
            Element::Signal(s) => return Err(Error::bug(format!("{s:?} among the rows in flight"))),
        }
    }
    Ok(())
}

/// What waited in front of an operator.
pub(super) fn put_queued(out: &mut Vec<u8>, queued: &Queued) -> Result<()> {
    out.push(VERSION);
    out.extend_from_slice(&queued.seen.0.to_le_bytes());
    out.extend_from_slice(&queued.combined.0.to_le_bytes());
    put_len(out, queued.marks.len());
    for m in &queued.marks {
        out.extend_from_slice(&m.edge.to_le_bytes());
        out.extend_from_slice(&m.from.to_le_bytes());
        out.extend_from_slice(&m.watermark.0.to_le_bytes());
        out.push(u8::from(m.idle));
    }
    put_len(out, queued.items.len());
    for item in &queued.items {
        match item {
            InFlightItem::Batch { port, batch } => put_batch(out, *port, batch)?,
            InFlightItem::Watermark(w) => put_watermark(out, *w),
        }
    }
    Ok(())
}

/// Reads fields; an error when the bytes are not what was written.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(len).ok_or_else(damaged)?;
        self.0 = tail;
        Ok(head)
    }
    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| damaged())
    }
    fn byte(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }
    fn len(&mut self) -> Result<usize> {
        usize::try_from(u64::from_le_bytes(self.array()?)).map_err(|_| damaged())
    }
    fn time(&mut self) -> Result<EventTime> {
        Ok(EventTime(i64::from_le_bytes(self.array()?)))
    }
    fn version(&mut self) -> Result<()> {
        if self.byte()? == VERSION { Ok(()) } else { Err(damaged()) }
    }
    fn end(self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(damaged()) }
    }
    /// One item, with its port.
    fn element(&mut self) -> Result<(usize, Element)> {
        Ok(match self.byte()? {
            BATCH => {
                let port = self.len()?;
                let len = self.len()?;
                (port, Element::Batch(decode_batch(self.take(len)?)?))
            }
            WATERMARK => (0, Element::Signal(Signal::Watermark(self.time()?))),
            IDLE => (0, Element::Signal(Signal::Idle)),
            ACTIVE => (0, Element::Signal(Signal::Active)),
            _ => return Err(damaged()),
        })
    }
}

/// What lay in a channel.
pub(super) fn read_elements(bytes: &[u8]) -> Result<Vec<Element>> {
    let mut f = Fields(bytes);
    f.version()?;
    let count = f.len()?;
    let mut out = Vec::new();
    for _ in 0..count {
        out.push(f.element()?.1);
    }
    f.end()?;
    Ok(out)
}

/// What waited in front of an operator.
pub(super) fn read_queued(bytes: &[u8]) -> Result<Queued> {
    let mut f = Fields(bytes);
    f.version()?;
    let (seen, combined) = (f.time()?, f.time()?);
    let mut marks = Vec::new();
    for _ in 0..f.len()? {
        let edge = u32::from_le_bytes(f.array()?);
        let from = u32::from_le_bytes(f.array()?);
        marks.push(ChannelMark { edge, from, watermark: f.time()?, idle: f.byte()? != 0 });
    }
    let mut items = Vec::new();
    for _ in 0..f.len()? {
        let (port, element) = f.element()?;
        items.push(InFlightItem::of(port, &element).ok_or_else(damaged)?);
    }
    f.end()?;
    Ok(Queued { seen, items, combined, marks })
}

fn damaged() -> Error {
    Error::corrupt("state.encoding", "rows in flight in the checkpoint cannot be read")
        .detail(format!("expected version {VERSION} of their encoding"))
        .hint("restore from another checkpoint, or with the version of Flott that wrote this one")
}
