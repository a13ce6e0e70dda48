//! The canonical snapshot format: names, the descriptor of a handle, and checked reading of bytes. Never trusts a length.
//!
//! The layout is described in `docs/design/state-format.md`.

use bytes::Bytes;
use flott_core::error::{Error, Result};
use flott_core::state::TableDescriptor;
use serde::{Deserialize, Serialize};

/// Name of the format in [`flott_core::snapshot::KeyedStateHandle::format`].
pub const FORMAT_NAME: &str = "flott-canonical";
/// Its version.
pub const FORMAT_VERSION: u32 = 1;

/// First bytes of every chunk.
pub(crate) const CHUNK_MAGIC: [u8; 4] = *b"FLKS";
/// Magic, version (u16) and two zero bytes.
pub(crate) const CHUNK_HEADER_BYTES: usize = 8;
/// First byte of a unit of rows.
pub(crate) const UNIT_ROWS: u8 = 1;
/// First byte of a unit of map entries; once of values, too.
pub(crate) const UNIT_ORDERED: u8 = 2;
/// First byte of a unit of lists.
pub(crate) const UNIT_LISTS: u8 = 3;
/// First byte of a unit of values.
pub(crate) const UNIT_VALUES: u8 = 4;

/// What a handle's descriptor holds, encoded with postcard and followed by its CRC-32.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) max_parallelism: u32,
    pub(crate) tables: Vec<TableDescriptor>,
    pub(crate) units: Vec<UnitRef>,
}

/// Where a unit lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UnitRef {
    /// Index into the manifest's tables.
    pub(crate) table: u32,
    /// Index into the handle's chunks.
    pub(crate) chunk: u32,
    /// First byte within the chunk.
    pub(crate) offset: u64,
    /// Length in bytes.
    pub(crate) len: u64,
    /// Lowest key group in the unit.
    pub(crate) first_group: u16,
    /// Highest key group in the unit.
    pub(crate) last_group: u16,
}

impl Manifest {
    pub(crate) fn encode(&self) -> Result<Bytes> {
        let mut bytes = postcard::to_stdvec(self).map_err(|e| Error::bug(format!("encode a state manifest: {e}")))?;
        let crc = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        Ok(bytes.into())
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        let (body, crc) = bytes.split_last_chunk::<4>().ok_or_else(|| corrupt("the state manifest is truncated"))?;
        if crc32fast::hash(body) != u32::from_le_bytes(*crc) {
            return Err(corrupt("the state manifest does not match its checksum"));
        }
        let (manifest, rest) =
            postcard::take_from_bytes(body).map_err(|e| corrupt(format!("the state manifest cannot be read: {e}")))?;
        if !rest.is_empty() {
            return Err(corrupt(format!("the state manifest is followed by {} foreign bytes", rest.len())));
        }
        Ok(manifest)
    }
}

/// The header that every chunk starts with.
pub(crate) fn chunk_header() -> [u8; CHUNK_HEADER_BYTES] {
    let [a, b, c, d] = CHUNK_MAGIC;
    let [v0, v1] = (FORMAT_VERSION as u16).to_le_bytes();
    [a, b, c, d, v0, v1, 0, 0]
}

/// Checks the header of a chunk.
pub(crate) fn check_chunk_header(bytes: &[u8]) -> Result<()> {
    if bytes.get(..CHUNK_HEADER_BYTES) == Some(&chunk_header()[..]) {
        return Ok(());
    }
    if bytes.get(..4) != Some(&CHUNK_MAGIC[..]) {
        return Err(corrupt("a state chunk does not begin with `FLKS`").hint("the file is not a state chunk of Flott"));
    }
    Err(corrupt(format!("a state chunk is not of version {FORMAT_VERSION} of the canonical format")))
}

/// A `Corrupt` error of stored state.
pub(crate) fn corrupt(message: impl Into<String>) -> Error {
    Error::corrupt("state.corrupt", message)
}

/// Reads little-endian numbers and slices, `Corrupt` at the end of the bytes.
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Cursor { bytes }
    }
    pub(crate) fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        if n > self.bytes.len() {
            return Err(corrupt(format!("a state unit ends early: {n} bytes expected, {} left", self.bytes.len())));
        }
        let (head, tail) = self.bytes.split_at(n);
        self.bytes = tail;
        Ok(head)
    }
    /// `count` items of `size` bytes each; the product may not overflow.
    pub(crate) fn take_items(&mut self, count: usize, size: usize) -> Result<&'a [u8]> {
        let n = count.checked_mul(size).ok_or_else(|| corrupt("a length in a state unit overflows"))?;
        self.take(n)
    }
    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(self.take(N)?.try_into().expect("take returns as many bytes as asked"))
    }
    pub(crate) fn u8(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }
    pub(crate) fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_le_bytes(self.array()?))
    }
    pub(crate) fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }
    pub(crate) fn i64(&mut self) -> Result<i64> {
        Ok(i64::from_le_bytes(self.array()?))
    }
    pub(crate) fn end(&self) -> Result<()> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        Err(corrupt(format!("a state unit is followed by {} foreign bytes", self.bytes.len())))
    }
}
