//! The hot table: fixed-width rows under (namespace, key), found by precomputed hashes. Never serialises itself; see `codec`.

pub(crate) mod codec;
pub(crate) mod index;
pub(crate) mod segment;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use flott_core::error::{Error, Result};
use flott_core::key_group::{KeyGroup, KeyGroupRange, key_group_of};
use flott_core::state::{KeyBatch, NO_SLOT, RowTable, Slot, Ttl};
use flott_core::time::SharedClock;
use index::SlotIndex;
use segment::{KeyBlock, NewRow, RowBlock, Segment};

use crate::segments::{OFFSET_BITS, add_segment, offset_of, segment_of};

/// Longest key; offsets within a segment are 32 bits.
const KEY_BYTES_MAX: usize = 64 << 20;
/// Entries of the namespace cache: a power of two.
const NAMESPACE_CACHE: usize = 64;
/// Rows that have been gone for this long may be swept. Slots of a running call stay valid meanwhile.
const SWEEP_GRACE_MS: i64 = 1_000;
/// Keys of a batch whose look-ups are touched ahead.
const TOUCH_KEYS: usize = 16;
const NO_SPACE: u32 = u32::MAX;

/// One namespace.
#[derive(Default)]
struct Space {
    namespace: i64,
    index: SlotIndex,
    segments: Vec<u32>,
    free: Vec<Slot>,
}

/// A table of rows in memory.
pub(crate) struct RowStore {
    width: usize,
    ttl: Option<Ttl>,
    key_groups: KeyGroupRange,
    max_parallelism: u32,
    clock: SharedClock,
    segments: Vec<Option<Segment>>,
    free_segments: Vec<u32>,
    spaces: Vec<Space>,
    free_spaces: Vec<u32>,
    by_namespace: BTreeMap<i64, u32>,
    recent: [(i64, u32); NAMESPACE_CACHE],
    versions: u64,
    live_rows: usize,
    sweep_at: Slot,
}

/// Equality of keys; most are 8 to 16 bytes, where a call to memcmp costs more than two loads.
#[inline]
pub(crate) fn same_key(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    if let (8..=16, Some(a0), Some(b0), Some(a1), Some(b1)) =
        (a.len(), a.first_chunk::<8>(), b.first_chunk::<8>(), a.last_chunk::<8>(), b.last_chunk::<8>())
    {
        return u64::from_ne_bytes(*a0) == u64::from_ne_bytes(*b0)
            && u64::from_ne_bytes(*a1) == u64::from_ne_bytes(*b1);
    }
    a == b
}

#[inline]
fn cache_line(namespace: i64) -> usize {
    ((namespace as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58) as usize
}

impl RowStore {
    pub(crate) fn new(
        width: u32,
        ttl: Option<Ttl>,
        key_groups: KeyGroupRange,
        max_parallelism: u32,
        clock: SharedClock,
    ) -> Self {
        RowStore {
            width: width as usize,
            ttl,
            key_groups,
            max_parallelism,
            clock,
            segments: Vec::new(),
            free_segments: Vec::new(),
            spaces: Vec::new(),
            free_spaces: Vec::new(),
            by_namespace: BTreeMap::new(),
            recent: [(0, NO_SPACE); NAMESPACE_CACHE],
            versions: 0,
            live_rows: 0,
            sweep_at: 0,
        }
    }

    /// Takes up the TTL of a descriptor: rows restored without one count as used now.
    pub(crate) fn set_ttl(&mut self, ttl: Option<Ttl>) {
        if self.ttl.is_none() && ttl.is_some() {
            let now = self.clock.now_ms();
            for segment in self.segments.iter_mut().flatten() {
                let rows = segment.keys().hashes.len();
                segment.rows_mut(&mut self.versions).used_at_ms = vec![now; rows];
            }
        } else if ttl.is_none() && self.ttl.is_some() {
            for segment in self.segments.iter_mut().flatten() {
                segment.rows_mut(&mut self.versions).used_at_ms = Vec::new();
            }
        }
        self.ttl = ttl;
    }

    /// Number of units a cut may hold.
    pub(crate) fn unit_count(&self) -> usize {
        self.segments.len()
    }
    /// The version of a unit; `None` when it is empty.
    pub(crate) fn unit_version(&self, unit: usize) -> Option<u64> {
        self.segments[unit].as_ref().filter(|s| s.live_rows > 0).map(|s| s.version)
    }
    /// Freezes a unit that is not empty.
    pub(crate) fn freeze(&mut self, unit: usize) -> (i64, Arc<KeyBlock>, Arc<RowBlock>) {
        let segment = self.segments[unit].as_mut().expect("only units with a version are frozen");
        let (keys, rows) = segment.freeze();
        (segment.namespace, keys, rows)
    }
    /// Bytes on the heap: looks at every segment.
    pub(crate) fn memory_bytes(&self) -> usize {
        let segments: usize = self.segments.iter().flatten().map(|s| s.memory_bytes() + size_of::<Segment>()).sum();
        segments + self.spaces.iter().map(|s| s.index.memory_bytes() + s.free.capacity() * 4).sum::<usize>()
    }
    /// Bytes per row.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    #[inline]
    fn segment(&self, slot: Slot) -> &Segment {
        self.segments[segment_of(slot)].as_ref().expect("a slot is used only while its row lives")
    }

    #[inline]
    fn space_of(&mut self, namespace: i64) -> Option<usize> {
        let line = cache_line(namespace);
        let (cached, space) = self.recent[line];
        if cached == namespace && space != NO_SPACE {
            return Some(space as usize);
        }
        let space = *self.by_namespace.get(&namespace)?;
        self.recent[line] = (namespace, space);
        Some(space as usize)
    }

    fn make_space(&mut self, namespace: i64) -> usize {
        let space = self.free_spaces.pop().unwrap_or_else(|| {
            self.spaces.push(Space::default());
            (self.spaces.len() - 1) as u32
        });
        self.spaces[space as usize].namespace = namespace;
        self.by_namespace.insert(namespace, space);
        self.recent[cache_line(namespace)] = (namespace, space);
        space as usize
    }

    #[inline]
    fn find(&self, space: usize, hash: u64, key: &[u8]) -> Option<Slot> {
        let is_it = |slot| same_key(self.segment(slot).keys().key(offset_of(slot)), key);
        self.spaces[space].index.find(hash as u32, is_it)
    }

    /// Touches what look-ups of these keys will read, so that their cache misses overlap.
    fn touch(&self, space: usize, hashes: &[u64]) {
        let index = &self.spaces[space].index;
        let mut first = [NO_SLOT; TOUCH_KEYS];
        for (slot, hash) in first.iter_mut().zip(hashes) {
            *slot = index.peek(*hash as u32);
        }
        let mut sum = 0;
        for &slot in first.iter().filter(|s| **s != NO_SLOT) {
            sum ^= self.segment(slot).keys().first_byte(offset_of(slot));
        }
        std::hint::black_box(sum);
    }

    fn insert(&mut self, space: usize, hash: u64, key: &[u8], used_at_ms: Option<i64>) -> Result<Slot> {
        let group = key_group_of(hash, self.max_parallelism);
        if !self.key_groups.contains(group) {
            return Err(foreign_group(group, self.key_groups));
        }
        if key.len() > KEY_BYTES_MAX {
            return Err(Error::user("state.key_too_long", format!("a key of {} bytes cannot be stored", key.len()))
                .hint(format!("keys may have up to {KEY_BYTES_MAX} bytes; use a digest of the column as key")));
        }
        let row = NewRow { width: self.width, used_at_ms };
        let slot = match self.reusable_slot(space) {
            Some(slot) => {
                let segment = self.segments[segment_of(slot)].as_mut().expect("free slots lie in live segments");
                segment.reuse(offset_of(slot), key, hash, row, &mut self.versions);
                slot
            }
            None => {
                let at = self.segment_with_room(space)?;
                let segment = self.segments[at].as_mut().expect("segment_with_room returns a live one");
                let offset = segment.push(key, hash, row, &mut self.versions);
                (at << OFFSET_BITS | offset) as Slot
            }
        };
        self.spaces[space].index.insert(hash as u32, slot);
        self.live_rows += 1;
        Ok(slot)
    }

    fn reusable_slot(&mut self, space: usize) -> Option<Slot> {
        let slot = *self.spaces[space].free.last()?;
        if !self.segment(slot).can_reuse() {
            return None;
        }
        self.spaces[space].free.pop()
    }

    fn segment_with_room(&mut self, space: usize) -> Result<usize> {
        if let Some(&last) = self.spaces[space].segments.last()
            && self.segments[last as usize].as_ref().is_some_and(Segment::has_room)
        {
            return Ok(last as usize);
        }
        self.versions += 1;
        let segment = Segment::new(self.spaces[space].namespace, space as u32, self.versions);
        let at = add_segment(&mut self.segments, &mut self.free_segments, segment)?;
        self.spaces[space].segments.push(at);
        Ok(at as usize)
    }

    /// Adds a restored row; `false` when the key is already there.
    pub(crate) fn restore_row(&mut self, row: RestoredRow<'_>) -> Result<bool> {
        let space = match self.space_of(row.namespace) {
            Some(space) => space,
            None => self.make_space(row.namespace),
        };
        if self.find(space, row.hash, row.key).is_some() {
            return Ok(false);
        }
        let used_at_ms = self.ttl.map(|_| row.used_at_ms.unwrap_or_else(|| self.clock.now_ms()));
        let slot = self.insert(space, row.hash, row.key, used_at_ms)?;
        self.row_mut_silently(slot).copy_from_slice(row.bytes);
        Ok(true)
    }

    fn row_mut_silently(&mut self, slot: Slot) -> &mut [u8] {
        let segment = self.segments[segment_of(slot)].as_mut().expect("a slot is used only while its row lives");
        let at = offset_of(slot) * self.width;
        &mut segment.rows_mut(&mut self.versions).bytes[at..at + self.width]
    }

    /// Applies TTL to freshly resolved slots: expired rows are zeroed or absent, the others renewed.
    fn renew(&mut self, ttl: Ttl, now: i64, create: bool, slots: &mut [Slot]) {
        for slot in slots.iter_mut().filter(|s| **s != NO_SLOT) {
            let (at, offset) = (segment_of(*slot), offset_of(*slot));
            let segment = self.segments[at].as_mut().expect("resolved slots are live");
            let used_at = segment.rows().used_at_ms[offset];
            let expired = used_at.saturating_add(ttl.ttl_ms) <= now;
            if expired && !create {
                *slot = NO_SLOT;
                continue;
            }
            if used_at != now && (create || ttl.update_on_read) {
                let rows = segment.rows_mut(&mut self.versions);
                rows.used_at_ms[offset] = now;
                if expired {
                    rows.bytes[offset * self.width..(offset + 1) * self.width].fill(0);
                }
            }
        }
    }

    /// Looks at up to `budget` rows, round and round, and removes those that expired a while ago.
    fn sweep(&mut self, ttl: Ttl, now: i64, budget: usize) {
        let mut expired: Vec<Slot> = Vec::new();
        let (mut left, mut at, mut offset) = (budget, segment_of(self.sweep_at), offset_of(self.sweep_at));
        while left > 0 && !self.segments.is_empty() {
            if at >= self.segments.len() {
                (at, offset) = (0, 0);
                break;
            }
            let rows = self.segments[at].as_ref().map_or(0, |s| s.keys().hashes.len());
            if offset >= rows {
                (at, offset, left) = (at + 1, 0, left - 1);
                continue;
            }
            let segment = self.segments[at].as_ref().expect("it has rows");
            let gone_at = segment.rows().used_at_ms[offset].saturating_add(ttl.ttl_ms).saturating_add(SWEEP_GRACE_MS);
            if segment.keys().is_live(offset) && gone_at <= now {
                expired.push((at << OFFSET_BITS | offset) as Slot);
            }
            (offset, left) = (offset + 1, left - 1);
        }
        self.sweep_at = (at << OFFSET_BITS | offset) as Slot;
        for slot in expired {
            self.remove(slot);
        }
    }

    fn is_expired(&self, segment: &Segment, offset: usize, now: i64) -> bool {
        self.ttl.is_some_and(|t| segment.rows().used_at_ms[offset].saturating_add(t.ttl_ms) <= now)
    }
}

/// A key group that another subtask owns.
pub(crate) fn foreign_group(group: KeyGroup, range: KeyGroupRange) -> Error {
    Error::bug(format!("key group {group} is written by the subtask of key groups {}..{}", range.start, range.end))
}

/// A row as a restore finds it.
pub(crate) struct RestoredRow<'a> {
    pub(crate) namespace: i64,
    pub(crate) hash: u64,
    pub(crate) key: &'a [u8],
    pub(crate) bytes: &'a [u8],
    pub(crate) used_at_ms: Option<i64>,
}

impl RowTable for RowStore {
    fn resolve(&mut self, namespaces: &[i64], keys: &KeyBatch, create: bool, slots: &mut Vec<Slot>) -> Result<()> {
        if namespaces.len() != 1 && namespaces.len() != keys.len() {
            return Err(Error::bug(format!("{} namespaces are given for {} keys", namespaces.len(), keys.len())));
        }
        slots.clear();
        slots.reserve(keys.len());
        let now = self.ttl.map(|_| self.clock.now_ms());
        if let (Some(ttl), Some(now), true) = (self.ttl, now, create) {
            self.sweep(ttl, now, 64 + keys.len() / 2);
        }
        let one_namespace = namespaces.len() == 1;
        let mut current = None;
        for i in 0..keys.len() {
            let space = if one_namespace && i > 0 { current } else { self.space_of(namespaces[i]) };
            current = space;
            if one_namespace
                && i.is_multiple_of(TOUCH_KEYS)
                && let Some(space) = space.filter(|s| self.spaces[*s].index.is_large())
            {
                self.touch(space, &keys.hashes[i..keys.len().min(i + TOUCH_KEYS)]);
            }
            let (hash, key) = (keys.hashes[i], keys.key(i));
            let found = space.and_then(|s| self.find(s, hash, key));
            slots.push(match found {
                Some(slot) => slot,
                None if create => {
                    let namespace = if one_namespace { namespaces[0] } else { namespaces[i] };
                    let space = space.unwrap_or_else(|| self.make_space(namespace));
                    current = Some(space);
                    self.insert(space, hash, key, now)?
                }
                None => NO_SLOT,
            });
        }
        if let (Some(ttl), Some(now)) = (self.ttl, now) {
            self.renew(ttl, now, create, slots);
        }
        Ok(())
    }

    #[inline]
    fn row(&self, slot: Slot) -> &[u8] {
        let at = offset_of(slot) * self.width;
        &self.segment(slot).rows().bytes[at..at + self.width]
    }

    fn row_mut(&mut self, slot: Slot) -> &mut [u8] {
        if self.ttl.is_some() {
            let now = self.clock.now_ms();
            let segment = self.segments[segment_of(slot)].as_mut().expect("a slot is used only while its row lives");
            segment.rows_mut(&mut self.versions).used_at_ms[offset_of(slot)] = now;
        }
        self.row_mut_silently(slot)
    }

    fn update(&mut self, slots: &[Slot], f: &mut dyn FnMut(usize, &mut [u8])) {
        let now = self.ttl.map(|_| self.clock.now_ms());
        let width = self.width;
        for (i, &slot) in slots.iter().enumerate() {
            if slot == NO_SLOT {
                continue;
            }
            let segment = self.segments[segment_of(slot)].as_mut().expect("a slot is used only while its row lives");
            let rows = segment.rows_mut(&mut self.versions);
            let offset = offset_of(slot);
            if let Some(now) = now {
                rows.used_at_ms[offset] = now;
            }
            f(i, &mut rows.bytes[offset * width..(offset + 1) * width]);
        }
    }

    fn key(&self, slot: Slot) -> &[u8] {
        self.segment(slot).keys().key(offset_of(slot))
    }

    fn remove(&mut self, slot: Slot) {
        let offset = offset_of(slot);
        let Some(segment) = self.segments.get_mut(segment_of(slot)).and_then(Option::as_mut) else { return };
        if offset >= segment.keys().hashes.len() || !segment.keys().is_live(offset) {
            return;
        }
        let tag = segment.keys().hashes[offset] as u32;
        segment.kill(offset, &mut self.versions);
        self.live_rows -= 1;
        let space = &mut self.spaces[segment.space as usize];
        space.index.remove(tag, slot);
        space.free.push(slot);
        if space.index.is_empty() {
            let namespace = space.namespace;
            self.drop_namespace(namespace);
        }
    }

    fn namespaces(&self) -> Vec<i64> {
        let live = self.by_namespace.iter().filter(|(_, s)| !self.spaces[**s as usize].index.is_empty());
        live.map(|(n, _)| *n).collect()
    }

    fn scan(&self, namespace: i64, cursor: u64, limit: usize, slots: &mut Vec<Slot>) -> Option<u64> {
        let space = &self.spaces[*self.by_namespace.get(&namespace)? as usize];
        let now = if self.ttl.is_some() { self.clock.now_ms() } else { 0 };
        let (mut nth, mut from) = ((cursor >> OFFSET_BITS) as usize, offset_of(cursor as Slot & 0xfff));
        let mut left = limit;
        while let Some(&at) = space.segments.get(nth) {
            let segment = self.segments[at as usize].as_ref().expect("segments of a namespace are live");
            for offset in segment.keys().live_from(from) {
                if self.is_expired(segment, offset, now) {
                    continue;
                }
                if left == 0 {
                    return Some((nth << OFFSET_BITS | offset) as u64);
                }
                slots.push(at << OFFSET_BITS | offset as Slot);
                left -= 1;
            }
            (nth, from) = (nth + 1, 0);
        }
        None
    }

    fn drop_namespace(&mut self, namespace: i64) {
        let Some(space) = self.by_namespace.remove(&namespace) else { return };
        self.recent[cache_line(namespace)] = (0, NO_SPACE);
        let dropped = std::mem::take(&mut self.spaces[space as usize]);
        self.live_rows -= dropped.index.len();
        for at in dropped.segments {
            self.segments[at as usize] = None;
            self.free_segments.push(at);
        }
        self.free_spaces.push(space);
    }

    fn len(&self) -> usize {
        self.live_rows
    }
}
