//! A segment of up to 4096 values of one namespace with their keys, each shared with snapshots until it is written to. Never knows the
//! hash table that finds its values.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::rows::segment::KeyBlock;
use crate::segments::{SEGMENT_ROWS, Shared};

/// Longer values lie on the heap one by one and are shared with who reads them: what a segment may have to copy is bounded by this.
pub(crate) const INLINE_BYTES_MAX: usize = 4096;
/// Bytes after which no further key is given to a segment.
const BYTES_MAX: usize = 4 << 20;
/// Dead bytes below which tidying up is not worth it.
const DEAD_BYTES_MIN: usize = 4096;
/// Expires never.
pub(crate) const NEVER: i64 = i64::MAX;

/// Where a value lies.
#[derive(Clone, Copy, Default)]
struct Place {
    start: u32,
    len: u32,
    /// Bytes it may grow to where it lies.
    room: u32,
}

/// `start` of values that lie on the heap.
const LARGE: u32 = u32::MAX;

/// Values of a segment, by offset.
#[derive(Clone, Default)]
pub(crate) struct ValueBlock {
    places: Vec<Place>,
    bytes: Vec<u8>,
    dead_bytes: usize,
    large: BTreeMap<u32, Arc<[u8]>>,
    /// When each value is gone, in processing time; empty while none ever is.
    expires_at_ms: Vec<i64>,
}

impl ValueBlock {
    #[inline]
    pub(crate) fn value(&self, offset: usize) -> &[u8] {
        let Place { start, len, .. } = self.places[offset];
        match start {
            LARGE => self.large.get(&(offset as u32)).map_or(&[], |v| v),
            _ => &self.bytes[start as usize..(start + len) as usize],
        }
    }
    /// A long value, to be shared.
    #[inline]
    pub(crate) fn large(&self, offset: usize) -> Option<&Arc<[u8]>> {
        if self.places[offset].start == LARGE { self.large.get(&(offset as u32)) } else { None }
    }
    #[inline]
    pub(crate) fn expires_at_ms(&self, offset: usize) -> i64 {
        self.expires_at_ms.get(offset).copied().unwrap_or(NEVER)
    }
    /// Whether a value may expire.
    pub(crate) fn expires(&self) -> bool {
        !self.expires_at_ms.is_empty()
    }
    fn set_expiry(&mut self, offset: usize, expires_at_ms: i64) {
        if self.expires_at_ms.is_empty() && expires_at_ms == NEVER {
            return;
        }
        self.expires_at_ms.resize(self.places.len(), NEVER);
        self.expires_at_ms[offset] = expires_at_ms;
    }
    fn set(&mut self, offset: usize, value: &[u8]) {
        let place = self.places[offset];
        if place.start != LARGE && value.len() <= INLINE_BYTES_MAX.min(place.room as usize) {
            let start = place.start as usize;
            self.bytes[start..start + value.len()].copy_from_slice(value);
            self.places[offset].len = value.len() as u32;
            return;
        }
        self.forget(offset);
        if value.len() > INLINE_BYTES_MAX {
            self.large.insert(offset as u32, Arc::from(value));
            self.places[offset].start = LARGE;
            return;
        }
        self.compact_if_half_dead();
        // What grew once will grow again.
        let room = if place.len == 0 { value.len() } else { value.len() + value.len() / 4 };
        let start = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.bytes.resize(start + room, 0);
        self.places[offset] = Place { start: start as u32, len: value.len() as u32, room: room as u32 };
    }
    fn forget(&mut self, offset: usize) {
        let place = std::mem::take(&mut self.places[offset]);
        self.dead_bytes += place.room as usize;
        if place.start == LARGE {
            self.large.remove(&(offset as u32));
        }
    }
    fn compact_if_half_dead(&mut self) {
        if self.dead_bytes < DEAD_BYTES_MIN || self.dead_bytes * 2 < self.bytes.len() {
            return;
        }
        let mut bytes = Vec::with_capacity(self.bytes.len() - self.dead_bytes);
        for place in self.places.iter_mut().filter(|p| p.start != LARGE) {
            let from = place.start as usize;
            place.start = bytes.len() as u32;
            bytes.extend_from_slice(&self.bytes[from..from + place.room as usize]);
        }
        self.bytes = bytes;
        self.dead_bytes = 0;
    }
    fn memory_bytes(&self) -> usize {
        let large: usize = self.large.values().map(|v| v.len() + size_of::<(u32, Arc<[u8]>)>()).sum();
        let columns = self.places.capacity() * size_of::<Place>() + self.expires_at_ms.capacity() * 8;
        columns + self.bytes.capacity() + large
    }
}

/// A segment of one namespace.
pub(crate) struct Segment {
    pub(crate) namespace: i64,
    /// Changes with the first write after a cut; never repeats within a table.
    pub(crate) version: u64,
    pub(crate) live: u32,
    keys: Shared<KeyBlock>,
    values: Shared<ValueBlock>,
}

impl Segment {
    pub(crate) fn new(namespace: i64, version: u64) -> Self {
        let (keys, values) = (Shared::Own(KeyBlock::default()), Shared::Own(ValueBlock::default()));
        Segment { namespace, version, live: 0, keys, values }
    }
    #[inline]
    pub(crate) fn keys(&self) -> &KeyBlock {
        self.keys.get()
    }
    #[inline]
    pub(crate) fn values(&self) -> &ValueBlock {
        self.values.get()
    }
    /// Freezes keys and values for a snapshot: two reference counts, no bytes.
    pub(crate) fn freeze(&mut self) -> (Arc<KeyBlock>, Arc<ValueBlock>) {
        (self.keys.freeze(), self.values.freeze())
    }
    /// Bytes on the heap.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.keys().memory_bytes() + self.values().memory_bytes()
    }
    pub(crate) fn has_room(&self) -> bool {
        let keys = self.keys();
        keys.hashes.len() < SEGMENT_ROWS && keys.key_bytes() < BYTES_MAX && self.values().bytes.len() < BYTES_MAX
    }
    /// Whether a removed key's offset may be used for another one.
    pub(crate) fn can_reuse(&self) -> bool {
        self.keys().key_bytes() < 2 * BYTES_MAX
    }

    fn keys_mut(&mut self, versions: &mut u64) -> &mut KeyBlock {
        self.keys.write(&mut self.version, versions)
    }
    #[inline]
    fn values_mut(&mut self, versions: &mut u64) -> &mut ValueBlock {
        self.values.write(&mut self.version, versions)
    }

    /// Appends a key; returns its offset.
    pub(crate) fn push(&mut self, key: &[u8], hash: u64, versions: &mut u64) -> usize {
        let offset = self.keys().hashes.len();
        self.keys_mut(versions).push(key, hash);
        self.values_mut(versions).places.push(Place::default());
        self.live += 1;
        offset
    }
    /// Gives a removed key's offset to another one.
    pub(crate) fn reuse(&mut self, offset: usize, key: &[u8], hash: u64, versions: &mut u64) {
        self.keys_mut(versions).reuse(offset, key, hash);
        self.live += 1;
    }
    /// Sets a value and when it is gone.
    #[inline]
    pub(crate) fn set(&mut self, offset: usize, value: &[u8], expires_at_ms: i64, versions: &mut u64) {
        let values = self.values_mut(versions);
        values.set(offset, value);
        values.set_expiry(offset, expires_at_ms);
    }
    /// A value stays for longer.
    pub(crate) fn renew(&mut self, offset: usize, expires_at_ms: i64, versions: &mut u64) {
        self.values_mut(versions).set_expiry(offset, expires_at_ms);
    }
    pub(crate) fn kill(&mut self, offset: usize, versions: &mut u64) {
        self.keys_mut(versions).kill(offset);
        self.values_mut(versions).forget(offset);
        self.live -= 1;
    }
}
