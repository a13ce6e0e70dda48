//! A batch of changes as self-describing bytes, for rows that a checkpoint carries; never guesses what foreign bytes mean.
//!
//! Layout, little-endian: magic `FB`, version 1, flags (1: kinds, 2: times), rows (u32), kinds (a byte each), times
//! (i64 each), then an Arrow IPC stream of one schema and one batch.

use std::io::Cursor;

use arrow_array::RecordBatch;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use bytes::Bytes;

use crate::batch::{ChangeBatch, RowKind};
use crate::error::{Error, Result};

const MAGIC: [u8; 3] = [b'F', b'B', 1];
const KINDS: u8 = 1;
const TIMES: u8 = 2;

/// The bytes of a batch. Of sliced columns only the slice is written.
pub fn encode_batch(batch: &ChangeBatch) -> Result<Bytes> {
    let rows = u32::try_from(batch.num_rows()).map_err(|_| Error::bug("a batch of more than 2^32 rows"))?;
    let mut out = Vec::with_capacity(batch.memory_bytes().min(1 << 20) + 64);
    out.extend_from_slice(&MAGIC);
    let flag = |is: bool, bit| if is { bit } else { 0 };
    out.push(flag(batch.kinds.is_some(), KINDS) | flag(batch.times.is_some(), TIMES));
    out.extend_from_slice(&rows.to_le_bytes());
    out.extend(batch.kinds.iter().flat_map(|k| k.iter().map(|k| *k as u8)));
    out.extend(batch.times.iter().flat_map(|t| t.iter().flat_map(|t| t.to_le_bytes())));
    let mut writer = StreamWriter::try_new(&mut out, &batch.schema())?;
    writer.write(&batch.rows)?;
    writer.finish()?;
    drop(writer);
    Ok(out.into())
}

/// The batch of bytes that [`encode_batch`] made; `Corrupt` when they are something else.
pub fn decode_batch(bytes: &[u8]) -> Result<ChangeBatch> {
    read(bytes).ok_or_else(damaged)
}

fn damaged() -> Error {
    Error::corrupt("state.encoding", "rows kept in the checkpoint cannot be read")
        .detail("expected version 1 of their encoding")
        .hint("restore from another checkpoint, or with the version of Flott that wrote this one")
}

fn read(bytes: &[u8]) -> Option<ChangeBatch> {
    let rest = bytes.strip_prefix(&MAGIC)?;
    let (flags, rest) = rest.split_first()?;
    if flags & !(KINDS | TIMES) != 0 {
        return None;
    }
    let (rows, mut rest) = rest.split_at_checked(4)?;
    let rows = usize::try_from(u32::from_le_bytes(rows.try_into().ok()?)).ok()?;
    let (mut kinds, mut times) = (None, None);
    if flags & KINDS != 0 {
        let (head, tail) = rest.split_at_checked(rows)?;
        kinds = Some(head.iter().map(|k| RowKind::from_u8(*k)).collect::<Option<_>>()?);
        rest = tail;
    }
    if flags & TIMES != 0 {
        let (head, tail) = rest.split_at_checked(rows.checked_mul(8)?)?;
        let time = |b: &[u8]| b.try_into().map(i64::from_le_bytes).ok();
        times = Some(head.chunks_exact(8).map(time).collect::<Option<_>>()?);
        rest = tail;
    }
    let batch = read_rows(rest)?;
    (batch.num_rows() == rows).then(|| ChangeBatch::new(batch, kinds, times))
}

fn read_rows(bytes: &[u8]) -> Option<RecordBatch> {
    let mut reader = StreamReader::try_new(Cursor::new(bytes), None).ok()?;
    let batch = reader.next()?.ok()?;
    reader.next().is_none().then_some(batch)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int64Array, ListArray, StringArray, types::Int32Type};

    use super::*;

    fn batch() -> ChangeBatch {
        let a: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(3)]));
        let b: ArrayRef = Arc::new(StringArray::from(vec![Some("x"), Some("yy"), None]));
        let item = |n| Some(vec![Some(n), None]);
        let c: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>([item(1), None, item(2)]));
        let rows = RecordBatch::try_from_iter([("a", a), ("b", b), ("c", c)]).expect("columns of one length");
        let kinds: Arc<[RowKind]> = [RowKind::Insert, RowKind::UpdateAfter, RowKind::Delete].into();
        ChangeBatch::new(rows, Some(kinds), Some([7, -8, 9].into()))
    }

    #[test]
    fn what_is_written_is_read_slices_included() {
        for batch in [batch(), batch().slice(1, 2), batch().slice(3, 0), ChangeBatch::append(batch().rows)] {
            let back = decode_batch(&encode_batch(&batch).expect("encodes")).expect("just written");
            assert_eq!((&back.rows, &back.kinds, &back.times), (&batch.rows, &batch.kinds, &batch.times));
        }
    }

    #[test]
    fn bytes_cut_short_or_foreign_are_refused() {
        let bytes = encode_batch(&batch()).expect("encodes");
        for n in 0..bytes.len() - 16 {
            assert_eq!(decode_batch(&bytes[..n]).expect_err("cut short").code(), "state.encoding", "{n}");
        }
        for (at, byte) in [(0, b'X'), (2, 9), (3, 255), (8, 77)] {
            let mut other = bytes.to_vec();
            other[at] = byte;
            assert!(decode_batch(&other).is_err(), "byte {at}");
        }
    }
}
