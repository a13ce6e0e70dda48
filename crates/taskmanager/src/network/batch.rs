//! A batch as a payload, written from where its columns lie: only row kinds, times, and offsets and bits of slices are copied. Never
//! reads; see `decode`.
//!
//! The schema is not in it: both sides have it from their plan. Little-endian: bytes of the head (u32), rows (u32), flags (u32; 1: kinds,
//! 2: times), then of each column, depth first, its length, its NULLs and the bytes of each of its buffers (u32 each). Then the buffers,
//! kinds and times before the columns', each at a multiple of 16: validity (if there are NULLs), offsets, values.

use std::io::{IoSlice, Write};

use arrow_array::Array;
use arrow_buffer::{BooleanBuffer, Buffer};
use arrow_data::ArrayData;
use arrow_schema::DataType;
use flott_core::batch::ChangeBatch;
use flott_core::error::{Error, Result};

use super::Compression;
use super::frame::{HEADER_BYTES, Header, Kind};

/// Where buffers begin.
pub(super) const ALIGN: usize = 16;
/// Flag: the first buffer holds row kinds.
pub(super) const KINDS: u32 = 1;
/// Flag: the next holds event times.
pub(super) const TIMES: u32 = 2;
/// Payloads below this are not worth compressing.
const COMPRESS_BYTES_MIN: usize = 512;

/// A batch, ready to be written.
pub(super) struct Encoded {
    head: Vec<u8>,
    buffers: Vec<Buffer>,
    /// Bytes of the payload.
    pub(super) len: usize,
}

fn padding(len: usize) -> usize {
    len.next_multiple_of(ALIGN) - len
}

/// Encodes a batch; an error says which type cannot travel.
pub(super) fn encode(batch: &ChangeBatch) -> Result<Encoded> {
    let flag = |is: bool, bit| if is { bit } else { 0 };
    let mut e = Encoded { head: vec![0; 4], buffers: Vec::new(), len: 0 };
    e.number(batch.num_rows())?;
    let flags = flag(batch.kinds.is_some(), KINDS) | flag(batch.times.is_some(), TIMES);
    e.head.extend_from_slice(&flags.to_le_bytes());
    if let Some(kinds) = &batch.kinds {
        e.buffer(Buffer::from_vec(kinds.iter().map(|k| *k as u8).collect::<Vec<u8>>()))?;
    }
    if let Some(times) = &batch.times {
        e.buffer(Buffer::from_vec(times.to_vec()))?;
    }
    for column in batch.rows.columns() {
        e.node(&column.to_data())?;
    }
    let head = e.head.len();
    e.head[..4].copy_from_slice(&(head as u32).to_le_bytes());
    e.len = e.buffers.iter().fold(head + padding(head), |len, b| len + b.len() + padding(b.len()));
    Ok(e)
}

impl Encoded {
    fn number(&mut self, n: usize) -> Result<()> {
        let n = u32::try_from(n).map_err(|_| Error::bug("a batch takes less than 4 GiB"))?;
        self.head.extend_from_slice(&n.to_le_bytes());
        Ok(())
    }
    fn buffer(&mut self, buffer: Buffer) -> Result<()> {
        self.number(buffer.len())?;
        self.buffers.push(buffer);
        Ok(())
    }
    fn node(&mut self, d: &ArrayData) -> Result<()> {
        let (offset, len) = (d.offset(), d.len());
        self.number(len)?;
        let nulls = d.nulls().filter(|n| n.null_count() > 0);
        self.number(nulls.map_or(0, |n| n.null_count()))?;
        if let Some(nulls) = nulls {
            self.buffer(nulls.inner().sliced())?;
        }
        match d.data_type() {
            DataType::Null => Ok(()),
            DataType::Boolean => self.buffer(BooleanBuffer::new(d.buffers()[0].clone(), offset, len).sliced()),
            DataType::Utf8 | DataType::Binary => {
                let (first, last) = self.offsets(d)?;
                self.buffer(d.buffers()[1].slice_with_length(first, last - first))
            }
            DataType::List(_) | DataType::Map(..) => {
                let (first, last) = self.offsets(d)?;
                self.node(&d.child_data()[0].slice(first, last - first))
            }
            // Arrow slices the children of a struct, and leaves the offset standing.
            DataType::Struct(_) => d.child_data().iter().try_for_each(|c| match c.len() == len {
                true => self.node(c),
                false => self.node(&c.slice(offset, len)),
            }),
            t => {
                let fixed = match t {
                    DataType::FixedSizeBinary(n) => usize::try_from(*n).ok(),
                    t => t.primitive_width(),
                };
                let width = fixed.ok_or_else(|| Error::bug(format!("{t} cannot travel between processes")))?;
                self.buffer(d.buffers()[0].slice_with_length(offset * width, len * width))
            }
        }
    }
    /// Writes offsets that begin at 0; where the values they mean begin and end.
    fn offsets(&mut self, d: &ArrayData) -> Result<(usize, usize)> {
        if d.is_empty() {
            self.buffer(Buffer::from_vec(vec![0i32]))?;
            return Ok((0, 0));
        }
        let (from, to) = (d.offset(), d.offset() + d.len());
        let all = &d.buffers()[0].typed_data::<i32>()[from..=to];
        let (first, last) = (all[0], all[all.len() - 1]);
        self.buffer(match first {
            0 => d.buffers()[0].slice_with_length(from * 4, all.len() * 4),
            _ => Buffer::from_vec(all.iter().map(|o| o - first).collect::<Vec<i32>>()),
        })?;
        Ok((first as usize, last as usize))
    }
    /// The pieces of the payload, in order.
    fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let all = std::iter::once(self.head.as_slice()).chain(self.buffers.iter().map(Buffer::as_slice));
        all.flat_map(|piece| [piece, &[0; ALIGN][..padding(piece.len())]]).filter(|piece| !piece.is_empty())
    }
    /// Writes a frame; returns the bytes of its payload.
    pub(super) fn write(&self, to: &mut impl Write, channel: u32, compression: Compression) -> std::io::Result<u32> {
        let header = |compression, len: usize| {
            let len = u32::try_from(len).map_err(|_| std::io::Error::other("a batch of more than 4 GiB"))?;
            Ok::<_, std::io::Error>(Header { kind: Kind::Batch, compression, channel, len })
        };
        if compression != Compression::None && self.len >= COMPRESS_BYTES_MIN {
            let packed = compress(&self.pieces().collect::<Vec<_>>().concat(), compression)?;
            if packed.len() < self.len {
                let header = header(compression, packed.len())?;
                write_all(to, [&header.encode()[..], &packed].into_iter())?;
                return Ok(header.len);
            }
        }
        let header = header(Compression::None, self.len)?;
        write_all(to, std::iter::once(&header.encode()[..]).chain(self.pieces()))?;
        Ok(header.len)
    }
}

/// Bytes before compression (u32), then the compressed ones.
fn compress(bytes: &[u8], with: Compression) -> std::io::Result<Vec<u8>> {
    let packed = match with {
        Compression::Lz4 => lz4_flex::block::compress(bytes),
        _ => zstd::bulk::compress(bytes, 1)?,
    };
    Ok([&(bytes.len() as u32).to_le_bytes()[..], &packed].concat())
}

/// The bytes of a compressed payload, or what is wrong with it.
pub(super) fn decompress(payload: &[u8], with: Compression, bytes_max: u32) -> Result<Vec<u8>, String> {
    let (len, packed) = payload.split_first_chunk::<4>().ok_or("a compressed frame without its length")?;
    let len = u32::from_le_bytes(*len);
    if len > bytes_max {
        return Err(format!("a frame of {len} bytes once decompressed; at most {bytes_max} are taken"));
    }
    let bytes = match with {
        Compression::Lz4 => lz4_flex::block::decompress(packed, len as usize).map_err(|e| e.to_string())?,
        _ => zstd::bulk::decompress(packed, len as usize).map_err(|e| e.to_string())?,
    };
    if bytes.len() == len as usize { Ok(bytes) } else { Err(format!("{} bytes instead of {len}", bytes.len())) }
}

/// Slices given to one system call, at most.
const SLICES_MAX: usize = 256;

/// Writes everything, many slices a call.
fn write_all<'a>(to: &mut impl Write, pieces: impl Iterator<Item = &'a [u8]>) -> std::io::Result<()> {
    let all: Vec<&[u8]> = pieces.collect();
    for some in all.chunks(SLICES_MAX) {
        let mut slices: Vec<IoSlice<'_>> = some.iter().map(|s| IoSlice::new(s)).collect();
        let mut rest = slices.as_mut_slice();
        while !rest.is_empty() {
            match to.write_vectored(rest) {
                Ok(0) => return Err(std::io::ErrorKind::WriteZero.into()),
                Ok(n) => IoSlice::advance_slices(&mut rest, n),
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }
    Ok(())
}

/// Writes a frame with a short payload.
pub(super) fn write_small(to: &mut impl Write, kind: Kind, channel: u32, payload: &[u8]) -> std::io::Result<()> {
    let header = Header { kind, compression: Compression::None, channel, len: payload.len() as u32 };
    let mut frame = Vec::with_capacity(HEADER_BYTES + payload.len());
    frame.extend_from_slice(&header.encode());
    frame.extend_from_slice(payload);
    to.write_all(&frame)
}
