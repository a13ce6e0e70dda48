//! A segment of up to 4096 rows of one namespace: keys and rows, each shared with snapshots until it is written to. Never
//! knows the hash table that finds its rows.

use std::sync::Arc;

use flott_core::key_group::{KeyGroup, key_group_of};

use crate::segments::{SEGMENT_ROWS, Shared};

/// Key bytes after which a segment counts as full.
const KEY_BYTES_MAX: usize = 64 << 20;

/// Keys of a segment, by offset. Offsets are never moved; the bytes of removed keys are reclaimed when half are dead.
#[derive(Clone, Default)]
pub(crate) struct KeyBlock {
    pub(crate) hashes: Vec<u64>,
    live: Vec<u64>,
    bytes: Vec<u8>,
    /// Start and length of each key; empty while all keys have `uniform_bytes`.
    spans: Vec<(u32, u32)>,
    uniform_bytes: u32,
    dead_bytes: usize,
}

impl KeyBlock {
    #[inline]
    pub(crate) fn key(&self, offset: usize) -> &[u8] {
        if self.spans.is_empty() {
            let len = self.uniform_bytes as usize;
            return &self.bytes[offset * len..(offset + 1) * len];
        }
        let (start, len) = self.spans[offset];
        &self.bytes[start as usize..(start + len) as usize]
    }
    /// A byte of the key, to have it in the cache.
    #[inline]
    pub(crate) fn first_byte(&self, offset: usize) -> u8 {
        let start = match self.spans.get(offset) {
            Some((start, _)) => *start as usize,
            None => offset * self.uniform_bytes as usize,
        };
        self.bytes.get(start).copied().unwrap_or(0)
    }
    #[inline]
    pub(crate) fn is_live(&self, offset: usize) -> bool {
        self.live[offset / 64] >> (offset % 64) & 1 == 1
    }
    /// All key bytes, where keys have one length: offset by offset.
    pub(crate) fn uniform_keys(&self) -> Option<(&[u8], usize)> {
        self.spans.is_empty().then_some((self.bytes.as_slice(), self.uniform_bytes as usize))
    }
    /// Length shared by all keys, if they agree.
    pub(crate) fn uniform_bytes(&self) -> Option<u32> {
        self.spans.is_empty().then_some(self.uniform_bytes)
    }
    /// Bytes of all keys, removed ones included.
    pub(crate) fn key_bytes(&self) -> usize {
        self.bytes.len()
    }
    /// Bytes on the heap.
    pub(crate) fn memory_bytes(&self) -> usize {
        (self.hashes.capacity() + self.live.capacity() + self.spans.capacity()) * 8 + self.bytes.capacity()
    }
    #[inline]
    pub(crate) fn group(&self, offset: usize, max_parallelism: u32) -> KeyGroup {
        key_group_of(self.hashes[offset], max_parallelism)
    }
    /// Offsets of live rows, ascending, from `from` on.
    pub(crate) fn live_from(&self, from: usize) -> impl Iterator<Item = usize> + '_ {
        let first_word = from / 64;
        self.live.iter().enumerate().skip(first_word).flat_map(move |(w, &bits)| {
            let mut bits = if w == first_word { bits & (u64::MAX << (from % 64)) } else { bits };
            std::iter::from_fn(move || {
                let bit = bits.trailing_zeros() as usize;
                bits &= bits.wrapping_sub(1);
                (bit < 64).then_some(w * 64 + bit)
            })
        })
    }
    pub(crate) fn push(&mut self, key: &[u8], hash: u64) {
        let len = key.len() as u32;
        let offset = self.hashes.len();
        if offset == 0 {
            self.uniform_bytes = len;
        } else if self.spans.is_empty() && len != self.uniform_bytes {
            self.make_spans();
        }
        if !self.spans.is_empty() {
            self.spans.push((self.bytes.len() as u32, len));
        }
        self.bytes.extend_from_slice(key);
        self.hashes.push(hash);
        if offset.is_multiple_of(64) {
            self.live.push(0);
        }
        self.live[offset / 64] |= 1 << (offset % 64);
    }
    fn make_spans(&mut self) {
        let len = self.uniform_bytes;
        self.spans = (0..self.hashes.len() as u32).map(|i| (i * len, len)).collect();
    }
    pub(crate) fn reuse(&mut self, offset: usize, key: &[u8], hash: u64) {
        let len = key.len() as u32;
        if self.spans.is_empty() && len != self.uniform_bytes {
            self.make_spans();
        }
        if self.spans.is_empty() {
            let at = offset * key.len();
            self.bytes[at..at + key.len()].copy_from_slice(key);
        } else {
            self.compact_if_half_dead();
            self.spans[offset] = (self.bytes.len() as u32, len);
            self.bytes.extend_from_slice(key);
        }
        self.hashes[offset] = hash;
        self.live[offset / 64] |= 1 << (offset % 64);
    }
    pub(crate) fn kill(&mut self, offset: usize) {
        self.live[offset / 64] &= !(1 << (offset % 64));
        if !self.spans.is_empty() {
            self.dead_bytes += self.spans[offset].1 as usize;
            self.spans[offset] = (0, 0);
        }
    }
    fn compact_if_half_dead(&mut self) {
        if self.dead_bytes < 4096 || self.dead_bytes * 2 < self.bytes.len() {
            return;
        }
        let mut bytes = Vec::with_capacity(self.bytes.len() - self.dead_bytes);
        for (start, len) in &mut self.spans {
            let from = *start as usize;
            *start = bytes.len() as u32;
            bytes.extend_from_slice(&self.bytes[from..from + *len as usize]);
        }
        self.bytes = bytes;
        self.dead_bytes = 0;
    }
}

/// Rows of a segment, by offset.
#[derive(Clone, Default)]
pub(crate) struct RowBlock {
    pub(crate) bytes: Vec<u8>,
    /// When each row was last used, in processing time; empty without TTL.
    pub(crate) used_at_ms: Vec<i64>,
}

/// A segment of one namespace.
pub(crate) struct Segment {
    pub(crate) namespace: i64,
    /// Index of the namespace's entry in the table.
    pub(crate) space: u32,
    /// Changes with the first write after a cut; never repeats within a table.
    pub(crate) version: u64,
    pub(crate) live_rows: u32,
    keys: Shared<KeyBlock>,
    rows: Shared<RowBlock>,
}

impl Segment {
    pub(crate) fn new(namespace: i64, space: u32, version: u64) -> Self {
        let (keys, rows) = (Shared::Own(KeyBlock::default()), Shared::Own(RowBlock::default()));
        Segment { namespace, space, version, live_rows: 0, keys, rows }
    }
    #[inline]
    pub(crate) fn keys(&self) -> &KeyBlock {
        self.keys.get()
    }
    #[inline]
    pub(crate) fn rows(&self) -> &RowBlock {
        self.rows.get()
    }
    /// Rows to write to; `versions` counts on if this is the first write since the cut.
    #[inline]
    pub(crate) fn rows_mut(&mut self, versions: &mut u64) -> &mut RowBlock {
        self.rows.write(&mut self.version, versions)
    }
    fn keys_mut(&mut self, versions: &mut u64) -> &mut KeyBlock {
        self.keys.write(&mut self.version, versions)
    }
    /// Freezes keys and rows for a snapshot: two reference counts, no bytes.
    pub(crate) fn freeze(&mut self) -> (Arc<KeyBlock>, Arc<RowBlock>) {
        (self.keys.freeze(), self.rows.freeze())
    }
    /// Bytes on the heap.
    pub(crate) fn memory_bytes(&self) -> usize {
        let rows = self.rows();
        self.keys().memory_bytes() + rows.used_at_ms.capacity() * 8 + rows.bytes.capacity()
    }
    pub(crate) fn has_room(&self) -> bool {
        let keys = self.keys();
        keys.hashes.len() < SEGMENT_ROWS && keys.bytes.len() < KEY_BYTES_MAX
    }
    /// Whether a removed row's offset may be used for this key.
    pub(crate) fn can_reuse(&self) -> bool {
        self.keys().bytes.len() < 2 * KEY_BYTES_MAX
    }
    /// Appends a zeroed row; returns its offset.
    pub(crate) fn push(&mut self, key: &[u8], hash: u64, row: NewRow, versions: &mut u64) -> usize {
        let offset = self.keys().hashes.len();
        self.keys_mut(versions).push(key, hash);
        let rows = self.rows_mut(versions);
        rows.bytes.resize((offset + 1) * row.width, 0);
        if let Some(now) = row.used_at_ms {
            rows.used_at_ms.push(now);
        }
        self.live_rows += 1;
        offset
    }
    /// Gives a removed row's offset to another key, zeroed.
    pub(crate) fn reuse(&mut self, offset: usize, key: &[u8], hash: u64, row: NewRow, versions: &mut u64) {
        self.keys_mut(versions).reuse(offset, key, hash);
        let rows = self.rows_mut(versions);
        rows.bytes[offset * row.width..(offset + 1) * row.width].fill(0);
        if let Some(now) = row.used_at_ms {
            rows.used_at_ms[offset] = now;
        }
        self.live_rows += 1;
    }
    pub(crate) fn kill(&mut self, offset: usize, versions: &mut u64) {
        self.keys_mut(versions).kill(offset);
        self.live_rows -= 1;
    }
}

/// How a new row looks.
#[derive(Clone, Copy)]
pub(crate) struct NewRow {
    pub(crate) width: usize,
    pub(crate) used_at_ms: Option<i64>,
}
