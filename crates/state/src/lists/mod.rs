//! Lists: values under (namespace, key) that are only added, found by precomputed hashes and read along links. Never serialises itself;
//! see `codec`.
//!
//! The index knows the first value of each list; the first links to the newest, each other one to the one before it. Links and index are
//! derived: a snapshot holds the values and their keys.

pub(crate) mod codec;
pub(crate) mod segment;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use flott_core::error::{Error, Result};
use flott_core::key_group::{KeyGroup, KeyGroupRange, key_group_of};
use flott_core::state::{ByteRows, KeyBatch, ListTable, NO_SLOT, Slot};

use crate::rows::foreign_group;
use crate::rows::index::SlotIndex;
use crate::segments::{OFFSET_BITS, add_segment, place};
use segment::{BYTES_MAX, ListBlock, Segment};

/// Longest key and value together; offsets within a segment are 32 bits.
const VALUE_BYTES_MAX: usize = 1 << 30;
/// Keys of a batch whose look-ups are touched ahead.
const TOUCH_KEYS: usize = 16;

/// One namespace.
#[derive(Default)]
struct Space {
    /// The first value of each list.
    index: SlotIndex,
    segments: Vec<u32>,
}

/// A table of lists in memory.
pub(crate) struct ListStore {
    key_groups: KeyGroupRange,
    max_parallelism: u32,
    segments: Vec<Option<Segment>>,
    free_segments: Vec<u32>,
    spaces: BTreeMap<i64, Space>,
    versions: u64,
    values: usize,
}

fn live(segments: &[Option<Segment>], at: usize) -> &Segment {
    segments[at].as_ref().expect("slots and namespaces refer to live segments")
}

/// The first value of the list of a key.
#[inline]
fn head(space: &Space, segments: &[Option<Segment>], hash: u64, key: &[u8]) -> Option<Slot> {
    space.index.find(hash as u32, |slot| {
        let (at, offset) = place(slot);
        live(segments, at).block().key(offset) == key
    })
}

impl ListStore {
    pub(crate) fn new(key_groups: KeyGroupRange, max_parallelism: u32) -> Self {
        ListStore {
            key_groups,
            max_parallelism,
            segments: Vec::new(),
            free_segments: Vec::new(),
            spaces: BTreeMap::new(),
            versions: 0,
            values: 0,
        }
    }
    /// Number of units a cut may hold.
    pub(crate) fn unit_count(&self) -> usize {
        self.segments.len()
    }
    /// The version of a unit; `None` when it is empty.
    pub(crate) fn unit_version(&self, unit: usize) -> Option<u64> {
        self.segments[unit].as_ref().map(|s| s.version)
    }
    /// Freezes a unit that is not empty.
    pub(crate) fn freeze(&mut self, unit: usize) -> (i64, Arc<ListBlock>) {
        let segment = self.segments[unit].as_mut().expect("only units with a version are frozen");
        (segment.namespace, segment.freeze())
    }
    /// Bytes on the heap: looks at every segment.
    pub(crate) fn memory_bytes(&self) -> usize {
        let segments: usize = self.segments.iter().flatten().map(|s| s.memory_bytes() + size_of::<Segment>()).sum();
        segments + self.spaces.values().map(|s| s.index.memory_bytes()).sum::<usize>()
    }

    /// Adds a value.
    pub(crate) fn add(&mut self, namespace: i64, hash: u64, key: &[u8], value: &[u8]) -> Result<()> {
        let group = key_group_of(hash, self.max_parallelism);
        if !self.key_groups.contains(group) {
            return Err(foreign_group(group, self.key_groups));
        }
        if key.len() + value.len() > VALUE_BYTES_MAX {
            let bytes = key.len() + value.len();
            return Err(Error::user("state.value_too_long", format!("a row of {bytes} bytes cannot be stored"))
                .hint(format!("rows may have up to {VALUE_BYTES_MAX} bytes: leave out the large columns")));
        }
        let space = self.spaces.entry(namespace).or_default();
        let at = match space.segments.last() {
            Some(&last) if live(&self.segments, last as usize).has_room() => last as usize,
            _ => {
                self.versions += 1;
                // A namespace that has filled a segment will fill the next.
                let bytes = if space.segments.is_empty() { 0 } else { BYTES_MAX };
                let segment = Segment::new(namespace, self.versions, bytes);
                let at = add_segment(&mut self.segments, &mut self.free_segments, segment)?;
                space.segments.push(at);
                at as usize
            }
        };
        let found = head(space, &self.segments, hash, key);
        let segment = self.segments[at].as_mut().expect("made or found above");
        let slot = (at << OFFSET_BITS | segment.links.len()) as Slot;
        let offset = segment.push(hash, key, value, slot, &mut self.versions);
        match found {
            None => space.index.insert(hash as u32, slot),
            Some(first) => {
                let (first_at, first_offset) = place(first);
                let first = self.segments[first_at].as_mut().expect("the index refers to live segments");
                let newest = std::mem::replace(&mut first.links[first_offset], slot);
                self.segments[at].as_mut().expect("made or found above").links[offset] = newest;
            }
        }
        self.values += 1;
        Ok(())
    }

    /// Touches what look-ups of these keys will read, so that their cache misses overlap.
    fn touch(&self, space: &Space, hashes: &[u64]) {
        let mut first = [NO_SLOT; TOUCH_KEYS];
        for (slot, hash) in first.iter_mut().zip(hashes) {
            *slot = space.index.peek(*hash as u32);
        }
        let mut sum = 0;
        for &slot in first.iter().filter(|s| **s != NO_SLOT) {
            let (at, offset) = place(slot);
            sum ^= live(&self.segments, at).block().key(offset).first().copied().unwrap_or(0);
        }
        std::hint::black_box(sum);
    }
}

impl ListTable for ListStore {
    fn append(&mut self, namespace: i64, keys: &KeyBatch, rows: &[u32], values: &ByteRows) -> Result<()> {
        for &row in rows {
            let row = row as usize;
            self.add(namespace, keys.hashes[row], keys.key(row), values.get(row))?;
        }
        Ok(())
    }

    fn find(&self, namespace: i64, keys: &KeyBatch, heads: &mut Vec<Slot>) {
        heads.clear();
        let Some(space) = self.spaces.get(&namespace) else {
            heads.resize(keys.len(), NO_SLOT);
            return;
        };
        for i in 0..keys.len() {
            if i.is_multiple_of(TOUCH_KEYS) && space.index.is_large() {
                self.touch(space, &keys.hashes[i..keys.len().min(i + TOUCH_KEYS)]);
            }
            heads.push(head(space, &self.segments, keys.hashes[i], keys.key(i)).unwrap_or(NO_SLOT));
        }
    }

    fn read(&self, head: Slot, from: Slot, limit: usize, slots: &mut Vec<Slot>) -> Slot {
        let mut slot = from;
        for _ in 0..limit {
            slots.push(slot);
            let (at, offset) = place(slot);
            slot = live(&self.segments, at).links[offset];
            if slot == head {
                return NO_SLOT;
            }
        }
        slot
    }

    fn head(&self, namespace: i64, hash: u64, key: &[u8]) -> Slot {
        let space = self.spaces.get(&namespace);
        space.and_then(|space| head(space, &self.segments, hash, key)).unwrap_or(NO_SLOT)
    }

    fn entry(&self, slot: Slot) -> (&[u8], usize) {
        let (at, offset) = place(slot);
        live(&self.segments, at).block().entry(offset)
    }

    fn scan(&self, namespace: i64, slots: &mut Vec<Slot>) {
        for &at in self.spaces.get(&namespace).map(|s| s.segments.as_slice()).unwrap_or_default() {
            let first = at << OFFSET_BITS;
            slots.extend(first..first + live(&self.segments, at as usize).block().len() as Slot);
        }
    }

    fn namespaces(&self) -> Vec<i64> {
        self.spaces.keys().copied().collect()
    }

    fn drop_namespace(&mut self, namespace: i64) {
        for at in self.spaces.remove(&namespace).map(|s| s.segments).unwrap_or_default() {
            self.values -= self.segments[at as usize].take().map_or(0, |s| s.block().len());
            self.free_segments.push(at);
        }
    }

    fn for_each(&self, f: &mut dyn FnMut(i64, KeyGroup, &[u8], &[u8]) -> Result<()>) -> Result<()> {
        for (namespace, space) in &self.spaces {
            for &at in &space.segments {
                let block = live(&self.segments, at as usize).block();
                for i in 0..block.len() {
                    f(*namespace, block.group(i, self.max_parallelism), block.key(i), block.value(i))?;
                }
            }
        }
        Ok(())
    }

    fn len(&self) -> usize {
        self.values
    }
}
