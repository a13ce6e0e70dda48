//! Values: one byte string under (namespace, key), found by hash. Never serialises itself; see `codec`.

pub(crate) mod codec;
pub(crate) mod segment;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use flott_core::error::{Error, Result};
use flott_core::key_group::{KeyGroup, KeyGroupRange, key_group_of};
use flott_core::state::{ByteRows, FoundValues, KeyBatch, NO_SLOT, Slot, Ttl, ValueTable};
use flott_core::time::SharedClock;

use crate::rows::codec::stored_hash;
use crate::rows::index::SlotIndex;
use crate::rows::segment::KeyBlock;
use crate::rows::{foreign_group, same_key};
use crate::segments::{OFFSET_BITS, add_segment, place};
use segment::{NEVER, Segment, ValueBlock};

/// Longest key; offsets within a segment are 32 bits.
const KEY_BYTES_MAX: usize = 64 << 20;
/// Values looked at per write when sweeping expired ones.
const SWEEP_VALUES: usize = 4;
/// Keys of a batch whose look-ups are touched ahead.
const TOUCH_KEYS: usize = 16;

/// One namespace; it goes with its last value.
#[derive(Default)]
struct Space {
    index: SlotIndex,
    segments: Vec<u32>,
    free: Vec<Slot>,
}

/// A table of values in memory.
pub(crate) struct ValueStore {
    ttl: Option<Ttl>,
    key_groups: KeyGroupRange,
    max_parallelism: u32,
    clock: SharedClock,
    segments: Vec<Option<Segment>>,
    free_segments: Vec<u32>,
    spaces: BTreeMap<i64, Space>,
    versions: u64,
    sweep_at: Slot,
}

/// A key, and where it belongs.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) namespace: i64,
    pub(crate) group: KeyGroup,
    pub(crate) hash: u64,
    pub(crate) key: &'a [u8],
}

#[inline]
fn live(segments: &[Option<Segment>], at: usize) -> &Segment {
    segments[at].as_ref().expect("slots and namespaces refer to live segments")
}

impl ValueStore {
    pub(crate) fn new(ttl: Option<Ttl>, key_groups: KeyGroupRange, max_parallelism: u32, clock: SharedClock) -> Self {
        ValueStore {
            ttl,
            key_groups,
            max_parallelism,
            clock,
            segments: Vec::new(),
            free_segments: Vec::new(),
            spaces: BTreeMap::new(),
            versions: 0,
            sweep_at: 0,
        }
    }
    /// Takes up the TTL of a descriptor. Values restored without one get theirs with their next write.
    pub(crate) fn set_ttl(&mut self, ttl: Option<Ttl>) {
        self.ttl = ttl;
    }
    /// Number of units a cut may hold.
    pub(crate) fn unit_count(&self) -> usize {
        self.segments.len()
    }
    /// The version of a unit; `None` when it is empty.
    pub(crate) fn unit_version(&self, unit: usize) -> Option<u64> {
        self.segments[unit].as_ref().filter(|s| s.live > 0).map(|s| s.version)
    }
    /// Freezes a unit that is not empty.
    pub(crate) fn freeze(&mut self, unit: usize) -> (i64, Arc<KeyBlock>, Arc<ValueBlock>) {
        let segment = self.segments[unit].as_mut().expect("only units with a version are frozen");
        let (keys, values) = segment.freeze();
        (segment.namespace, keys, values)
    }
    /// Bytes on the heap: looks at every segment.
    pub(crate) fn memory_bytes(&self) -> usize {
        let segments: usize = self.segments.iter().flatten().map(|s| s.memory_bytes() + size_of::<Segment>()).sum();
        segments + self.spaces.values().map(|s| s.index.memory_bytes() + s.free.capacity() * 4).sum::<usize>()
    }

    fn place<'a>(&self, namespace: i64, group: KeyGroup, key: &'a [u8]) -> Place<'a> {
        Place { namespace, group, hash: stored_hash(key, group, self.max_parallelism), key }
    }

    /// A key of a batch.
    fn nth<'a>(namespace: i64, keys: &'a KeyBatch, row: u32) -> Place<'a> {
        let i = row as usize;
        Place { namespace, group: keys.groups[i], hash: keys.hashes[i], key: keys.key(i) }
    }

    #[inline]
    fn find(&self, at: Place<'_>) -> Result<Option<Slot>> {
        if !self.key_groups.contains(at.group) {
            return Err(foreign_group(at.group, self.key_groups));
        }
        Ok(self.spaces.get(&at.namespace).and_then(|space| self.find_in(space, at)))
    }

    #[inline]
    fn find_in(&self, space: &Space, at: Place<'_>) -> Option<Slot> {
        space.index.find(at.hash as u32, |slot| {
            let (segment, offset) = place(slot);
            let keys = live(&self.segments, segment).keys();
            same_key(keys.key(offset), at.key) && keys.group(offset, self.max_parallelism) == at.group
        })
    }

    /// Touches what look-ups of these keys will read, so that their cache misses overlap.
    fn touch(&self, namespace: i64, keys: &KeyBatch, rows: &[u32]) {
        let Some(space) = self.spaces.get(&namespace).filter(|s| s.index.is_large()) else { return };
        let mut first = [NO_SLOT; TOUCH_KEYS];
        for (slot, row) in first.iter_mut().zip(rows) {
            *slot = space.index.peek(keys.hashes[*row as usize] as u32);
        }
        let mut sum = 0;
        for &slot in first.iter().filter(|s| **s != NO_SLOT) {
            let (at, offset) = place(slot);
            sum ^= live(&self.segments, at).keys().first_byte(offset);
        }
        std::hint::black_box(sum);
    }

    /// Whether a value is there still; reading it may renew it.
    #[inline]
    fn is_there(&mut self, slot: Slot) -> bool {
        let Some(ttl) = self.ttl else { return true };
        let now = self.clock.now_ms();
        let (at, offset) = place(slot);
        let segment = self.segments[at].as_mut().expect("slots refer to live segments");
        let expires_at_ms = segment.values().expires_at_ms(offset);
        if expires_at_ms <= now {
            return false;
        }
        let renewed = now.saturating_add(ttl.ttl_ms);
        if ttl.update_on_read && expires_at_ms != renewed {
            segment.renew(offset, renewed, &mut self.versions);
        }
        true
    }

    /// Sets the value of a key; whether the key is new.
    fn set(&mut self, at: Place<'_>, value: &[u8], expires_at_ms: i64) -> Result<bool> {
        let found = self.find(at)?;
        let slot = match found {
            Some(slot) => slot,
            None => self.insert(at, value)?,
        };
        let (segment, offset) = place(slot);
        let segment = self.segments[segment].as_mut().expect("slots refer to live segments");
        segment.set(offset, value, expires_at_ms, &mut self.versions);
        Ok(found.is_none())
    }

    fn insert(&mut self, at: Place<'_>, value: &[u8]) -> Result<Slot> {
        if at.key.len() > KEY_BYTES_MAX {
            return Err(Error::user("state.key_too_long", format!("a key of {} bytes cannot be stored", at.key.len()))
                .hint(format!("keys may have up to {KEY_BYTES_MAX} bytes; use a digest of the column as key")));
        }
        check_length(value)?;
        let space = self.spaces.entry(at.namespace).or_default();
        let reusable = space.free.last().is_some_and(|slot| live(&self.segments, place(*slot).0).can_reuse());
        let slot = match space.free.pop_if(|_| reusable) {
            Some(slot) => {
                let (segment, offset) = place(slot);
                let segment = self.segments[segment].as_mut().expect("free slots lie in live segments");
                segment.reuse(offset, at.key, at.hash, &mut self.versions);
                slot
            }
            None => {
                let nth = match space.segments.last() {
                    Some(&last) if live(&self.segments, last as usize).has_room() => last,
                    _ => {
                        self.versions += 1;
                        let segment = Segment::new(at.namespace, self.versions);
                        let nth = add_segment(&mut self.segments, &mut self.free_segments, segment)?;
                        space.segments.push(nth);
                        nth
                    }
                };
                let segment = self.segments[nth as usize].as_mut().expect("made or found above");
                nth << OFFSET_BITS | segment.push(at.key, at.hash, &mut self.versions) as Slot
            }
        };
        space.index.insert(at.hash as u32, slot);
        Ok(slot)
    }

    fn kill(&mut self, slot: Slot) {
        let (at, offset) = place(slot);
        let segment = self.segments[at].as_mut().expect("slots refer to live segments");
        let (namespace, tag) = (segment.namespace, segment.keys().hashes[offset] as u32);
        segment.kill(offset, &mut self.versions);
        let space = self.spaces.get_mut(&namespace).expect("a namespace stays as long as its values");
        space.index.remove(tag, slot);
        space.free.push(slot);
        if space.index.is_empty() {
            for at in self.spaces.remove(&namespace).map(|s| s.segments).unwrap_or_default() {
                self.segments[at as usize] = None;
                self.free_segments.push(at);
            }
        }
    }

    /// When what is written now is gone. Expired values are swept on the way.
    fn expiry_of_writes(&mut self, writes: usize) -> i64 {
        let Some(ttl) = self.ttl else { return NEVER };
        let now = self.clock.now_ms();
        self.sweep(now, SWEEP_VALUES.saturating_mul(writes));
        now.saturating_add(ttl.ttl_ms)
    }

    /// Looks at up to `budget` values, round and round, and removes the expired ones.
    fn sweep(&mut self, now: i64, budget: usize) {
        let (mut at, mut offset) = place(self.sweep_at);
        for _ in 0..budget {
            if at >= self.segments.len() {
                (at, offset) = (0, 0);
                break;
            }
            let values = self.segments[at].as_ref().map_or(0, |s| s.keys().hashes.len());
            if offset >= values {
                (at, offset) = (at + 1, 0);
                continue;
            }
            let segment = live(&self.segments, at);
            if segment.keys().is_live(offset) && segment.values().expires_at_ms(offset) <= now {
                self.kill((at << OFFSET_BITS | offset) as Slot);
            }
            offset += 1;
        }
        self.sweep_at = (at << OFFSET_BITS | offset) as Slot;
    }

    /// Adds a restored value; `false` when the key is already there.
    pub(crate) fn restore_value(&mut self, at: Place<'_>, value: &[u8], expires_at_ms: i64) -> Result<bool> {
        self.set(at, value, expires_at_ms)
    }
}

/// Offsets in a stored unit are 32 bits.
fn check_length(value: &[u8]) -> Result<()> {
    if u32::try_from(value.len()).is_ok() {
        return Ok(());
    }
    Err(Error::user("state.value_too_long", format!("a value of {} bytes cannot be stored", value.len()))
        .hint("a value may have up to 4 GiB; use map state and several entries"))
}

impl ValueTable for ValueStore {
    fn get(&mut self, namespace: i64, group: KeyGroup, key: &[u8]) -> Result<Option<Arc<[u8]>>> {
        let Some(slot) = self.find(self.place(namespace, group, key))?.filter(|s| self.is_there(*s)) else {
            return Ok(None);
        };
        let (at, offset) = place(slot);
        let values = live(&self.segments, at).values();
        Ok(Some(values.large(offset).cloned().unwrap_or_else(|| Arc::from(values.value(offset)))))
    }

    fn put(&mut self, namespace: i64, group: KeyGroup, key: &[u8], value: &[u8]) -> Result<()> {
        check_length(value)?;
        let expires_at_ms = self.expiry_of_writes(1);
        self.set(self.place(namespace, group, key), value, expires_at_ms).map(drop)
    }

    fn remove(&mut self, namespace: i64, group: KeyGroup, key: &[u8]) -> Result<()> {
        if let Some(slot) = self.find(self.place(namespace, group, key))? {
            self.kill(slot);
        }
        Ok(())
    }

    fn get_batch(&mut self, namespace: i64, keys: &KeyBatch, rows: &[u32], values: &mut FoundValues) -> Result<()> {
        values.clear();
        for rows in rows.chunks(TOUCH_KEYS) {
            self.touch(namespace, keys, rows);
            for &row in rows {
                let found = self.find(Self::nth(namespace, keys, row))?;
                let Some(slot) = found.filter(|s| self.is_there(*s)) else {
                    values.push_absent();
                    continue;
                };
                let (at, offset) = place(slot);
                let block = live(&self.segments, at).values();
                match block.large(offset) {
                    Some(value) => values.push_shared(Arc::clone(value)),
                    None => values.push(block.value(offset)),
                }
            }
        }
        Ok(())
    }

    fn put_batch(&mut self, namespace: i64, keys: &KeyBatch, rows: &[u32], values: &ByteRows) -> Result<()> {
        let expires_at_ms = self.expiry_of_writes(rows.len());
        for (&row, value) in rows.iter().zip(values.iter()) {
            self.set(Self::nth(namespace, keys, row), value, expires_at_ms)?;
        }
        Ok(())
    }

    fn for_each(&mut self, f: &mut dyn FnMut(i64, KeyGroup, &[u8], &[u8]) -> Result<()>) -> Result<()> {
        let now = self.ttl.map(|_| self.clock.now_ms());
        let mut order = Vec::new();
        for segment in self.segments.iter().flatten() {
            let (keys, values) = (segment.keys(), segment.values());
            for offset in keys.live_from(0).filter(|o| now.is_none_or(|now| values.expires_at_ms(*o) > now)) {
                let group = key_group_of(keys.hashes[offset], self.max_parallelism);
                order.push((group, segment.namespace, keys.key(offset), values.value(offset)));
            }
        }
        order.sort_unstable_by(|a, b| (a.0, a.1, a.2).cmp(&(b.0, b.1, b.2)));
        order.into_iter().try_for_each(|(group, namespace, key, value)| f(namespace, group, key, value))
    }
}
