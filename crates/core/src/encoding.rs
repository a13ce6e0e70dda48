//! How splits and committables lie in operator state: a version byte, then length-prefixed little-endian fields. Frozen.

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::ids::CheckpointId;
use crate::sink::Committable;
use crate::source::Split;

/// Name of the operator state entry with the positions of a source.
pub const SPLITS_STATE: &str = "splits";

const VERSION: u8 = 1;

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Reads fields; `None` when the bytes end too soon.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(len)?;
        self.0 = tail;
        Some(head)
    }
    fn number(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }
    fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.number()?).ok()?;
        self.take(len)
    }
    fn text(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?.to_vec()).ok()
    }
    fn version(&mut self) -> Option<()> {
        (self.take(1)? == [VERSION]).then_some(())
    }
    fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

/// A split as an item of operator state.
pub fn encode_split(split: &Split) -> Bytes {
    let mut out = vec![VERSION];
    put(&mut out, split.id.as_bytes());
    put(&mut out, &split.state);
    out.into()
}

/// The split of an item of operator state.
pub fn decode_split(bytes: &[u8]) -> Result<Split> {
    let mut f = Fields(bytes);
    let read = |f: &mut Fields<'_>| {
        f.version()?;
        let split = Split { id: f.text()?, state: f.bytes()?.to_vec() };
        f.end().map(|()| split)
    };
    read(&mut f).ok_or_else(|| damaged("a source position"))
}

/// A committable as an item of operator state.
pub fn encode_committable(committable: &Committable) -> Bytes {
    let mut out = vec![VERSION];
    put(&mut out, committable.id.as_bytes());
    out.extend_from_slice(&committable.checkpoint.0.to_le_bytes());
    put(&mut out, &committable.payload);
    out.into()
}

/// The committable of an item of operator state.
pub fn decode_committable(bytes: &[u8]) -> Result<Committable> {
    let mut f = Fields(bytes);
    let read = |f: &mut Fields<'_>| {
        f.version()?;
        let id = f.text()?;
        let checkpoint = CheckpointId(f.number()?);
        let committable = Committable { id, checkpoint, payload: f.bytes()?.to_vec() };
        f.end().map(|()| committable)
    };
    read(&mut f).ok_or_else(|| damaged("a sink's pending commit"))
}

fn damaged(what: &str) -> Error {
    Error::corrupt("state.encoding", format!("{what} in the checkpoint cannot be read"))
        .detail(format!("expected version {VERSION} of its encoding"))
        .hint("restore from another checkpoint, or with the version of Flott that wrote this one")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let split = Split { id: "file é".into(), state: vec![0, 1, 255] };
        let bytes = encode_split(&split);
        assert_eq!(decode_split(&bytes).expect("just written"), split);
        let c = Committable { id: "part-0".into(), checkpoint: CheckpointId(7), payload: vec![9] };
        let committed = encode_committable(&c);
        assert_eq!(decode_committable(&committed).expect("just written"), c);
        for n in 0..bytes.len() {
            assert_eq!(decode_split(&bytes[..n]).expect_err("cut short").code(), "state.encoding");
        }
        for n in 0..committed.len() {
            assert_eq!(decode_committable(&committed[..n]).expect_err("cut short").code(), "state.encoding");
        }
        let mut longer = bytes.to_vec();
        longer.push(0);
        assert!(decode_split(&longer).is_err());
        longer[0] = 9;
        assert!(decode_split(&longer[..bytes.len()]).is_err());
    }
}
