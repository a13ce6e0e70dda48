//! A segment of up to 4096 values of one namespace with their keys, shared with snapshots until the next value comes. Never knows which
//! values make a list beyond a link from one to the next.

use std::sync::Arc;

use flott_core::key_group::{KeyGroup, key_group_of};
use flott_core::state::Slot;

use crate::segments::{SEGMENT_ROWS, Shared};

/// Bytes after which a segment counts as full: what a value that follows a cut may have to copy.
pub(super) const BYTES_MAX: usize = 1 << 20;
/// A segment that a snapshot reads and that has grown to this share is left alone.
const SEALED_SHARE: usize = 4;

/// Values and their keys, in the order they came.
#[derive(Clone, Default)]
pub(crate) struct ListBlock {
    pub(crate) hashes: Vec<u64>,
    /// Where each key, and the value behind it, ends in `bytes`.
    ends: Vec<(u32, u32)>,
    bytes: Vec<u8>,
}

impl ListBlock {
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }
    #[inline]
    fn start(&self, offset: usize) -> usize {
        if offset == 0 { 0 } else { self.ends[offset - 1].1 as usize }
    }
    #[inline]
    pub(crate) fn key(&self, offset: usize) -> &[u8] {
        &self.bytes[self.start(offset)..self.ends[offset].0 as usize]
    }
    #[inline]
    pub(crate) fn value(&self, offset: usize) -> &[u8] {
        let (start, end) = self.ends[offset];
        &self.bytes[start as usize..end as usize]
    }
    #[inline]
    pub(crate) fn entry(&self, offset: usize) -> (&[u8], usize) {
        let (start, (key_end, end)) = (self.start(offset), self.ends[offset]);
        (&self.bytes[start..end as usize], key_end as usize - start)
    }
    pub(crate) fn group(&self, offset: usize, max_parallelism: u32) -> KeyGroup {
        key_group_of(self.hashes[offset], max_parallelism)
    }
    fn push(&mut self, hash: u64, key: &[u8], value: &[u8]) {
        self.bytes.extend_from_slice(key);
        let key_end = self.bytes.len() as u32;
        self.bytes.extend_from_slice(value);
        self.hashes.push(hash);
        self.ends.push((key_end, self.bytes.len() as u32));
    }
}

/// A segment of one namespace.
pub(crate) struct Segment {
    pub(crate) namespace: i64,
    /// Changes with the first value after a cut; never repeats within a table.
    pub(crate) version: u64,
    block: Shared<ListBlock>,
    /// By value: the next of its list.
    pub(crate) links: Vec<Slot>,
}

impl Segment {
    /// An empty one with room for so many `bytes` and what they end up as.
    pub(crate) fn new(namespace: i64, version: u64, bytes: usize) -> Self {
        let mut block = ListBlock::default();
        // The value that makes it full lies beyond.
        block.bytes.reserve(bytes + bytes / 16);
        Segment { namespace, version, block: Shared::Own(block), links: Vec::new() }
    }
    #[inline]
    pub(crate) fn block(&self) -> &ListBlock {
        self.block.get()
    }
    pub(crate) fn freeze(&mut self) -> Arc<ListBlock> {
        self.block.freeze()
    }
    /// Whether another value fits, and whether adding it is cheap enough: a block that a snapshot holds is copied for it.
    pub(crate) fn has_room(&self) -> bool {
        let block = self.block();
        let share = if matches!(self.block, Shared::Frozen(_)) { SEALED_SHARE } else { 1 };
        block.len() < SEGMENT_ROWS / share && block.bytes.len() < BYTES_MAX / share
    }
    /// Appends a value that is a list of its own; returns its offset.
    pub(crate) fn push(&mut self, hash: u64, key: &[u8], value: &[u8], own: Slot, versions: &mut u64) -> usize {
        let block = self.block.write(&mut self.version, versions);
        block.push(hash, key, value);
        self.links.push(own);
        block.len() - 1
    }
    /// Bytes on the heap.
    pub(crate) fn memory_bytes(&self) -> usize {
        let block = self.block();
        (block.hashes.capacity() + block.ends.capacity()) * 8 + block.bytes.capacity() + self.links.capacity() * 4
    }
}
