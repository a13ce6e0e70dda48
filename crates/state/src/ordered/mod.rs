//! Maps: one persistent ordered map per key group, so that a cut is a pointer per key group. Never copies a map.

pub(crate) mod codec;
#[cfg(test)]
mod tests;

use std::ops::Bound;
use std::sync::Arc;

use flott_core::error::{Error, Result};
use flott_core::key_group::{KeyGroup, KeyGroupRange};
use flott_core::state::{MapRange, MapTable, Ttl};
use flott_core::time::SharedClock;
use imbl::OrdMap;

use crate::rows::foreign_group;
use crate::small_key::SmallKey;

/// Entries looked at per write when sweeping expired ones.
const SWEEP_ENTRIES: usize = 4;
/// What an entry takes besides its bytes: its place in a node of the tree, its expiry, two counts.
const ENTRY_BYTES: usize = size_of::<SmallKey>() + size_of::<Entry>() + 24;
/// Expires never.
const NEVER: i64 = i64::MAX;

/// A value and when it is gone.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) value: Arc<[u8]>,
    pub(crate) expires_at_ms: i64,
}

/// Takes key group, composite key and value.
type Visit<'a> = dyn FnMut(KeyGroup, &[u8], &[u8]) -> Result<()> + 'a;

/// Entries of a key group, by composite key.
pub(crate) type Entries = OrdMap<SmallKey, Entry>;

struct Group {
    entries: Entries,
    version: u64,
    frozen: bool,
}

/// Entries of all key groups under composite keys: the namespace as 8 big-endian bytes with the sign flipped, the key's
/// length (u32, big-endian), the key, the entry's name.
pub(crate) struct OrderedStore {
    groups: Vec<Group>,
    key_groups: KeyGroupRange,
    ttl: Option<Ttl>,
    clock: SharedClock,
    versions: u64,
    sweep_group: usize,
    sweep_after: Option<SmallKey>,
    at: Vec<u8>,
    /// Keys and values on the heap.
    bytes: usize,
}

/// What an entry takes.
fn cost(key: &[u8], value: &[u8]) -> usize {
    ENTRY_BYTES + key.len().saturating_sub(SmallKey::INLINE_BYTES) + value.len()
}

fn put_namespace(namespace: i64, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&((namespace as u64) ^ (1 << 63)).to_be_bytes());
}

fn namespace_of(composite: &[u8]) -> Option<(i64, &[u8])> {
    let (namespace, rest) = composite.split_first_chunk::<8>()?;
    Some(((u64::from_be_bytes(*namespace) ^ (1 << 63)) as i64, rest))
}

fn map_key(namespace: i64, key: &[u8], entry: &[u8], out: &mut Vec<u8>) {
    put_namespace(namespace, out);
    out.extend_from_slice(&(key.len() as u32).to_be_bytes());
    out.extend_from_slice(key);
    out.extend_from_slice(entry);
}

/// Namespace, key and entry name of a map's composite key.
fn split_map_key(composite: &[u8]) -> Option<(i64, &[u8], &[u8])> {
    let (namespace, rest) = namespace_of(composite)?;
    let (len, rest) = rest.split_first_chunk::<4>()?;
    let (key, entry) = rest.split_at_checked(u32::from_be_bytes(*len) as usize)?;
    Some((namespace, key, entry))
}

impl OrderedStore {
    pub(crate) fn new(ttl: Option<Ttl>, key_groups: KeyGroupRange, clock: SharedClock) -> Self {
        let group = |version| Group { entries: OrdMap::new(), version, frozen: false };
        let groups: Vec<Group> = (0..key_groups.len() as u64).map(group).collect();
        let versions = groups.len() as u64;
        OrderedStore {
            groups,
            key_groups,
            ttl,
            clock,
            versions,
            sweep_group: 0,
            sweep_after: None,
            at: Vec::new(),
            bytes: 0,
        }
    }

    /// Takes up the TTL of a descriptor. Entries restored without one get theirs with their next write.
    pub(crate) fn set_ttl(&mut self, ttl: Option<Ttl>) {
        self.ttl = ttl;
    }
    /// Bytes on the heap, as counted entry by entry.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.bytes
    }
    /// Number of units a cut may hold: one per key group.
    pub(crate) fn unit_count(&self) -> usize {
        self.groups.len()
    }
    /// The version of a unit; `None` when it is empty.
    pub(crate) fn unit_version(&self, unit: usize) -> Option<u64> {
        let group = &self.groups[unit];
        (!group.entries.is_empty()).then_some(group.version)
    }
    /// Freezes a unit.
    pub(crate) fn freeze(&mut self, unit: usize) -> (KeyGroup, Entries) {
        let group = &mut self.groups[unit];
        group.frozen = true;
        ((self.key_groups.start as usize + unit) as KeyGroup, group.entries.clone())
    }

    fn index(&self, group: KeyGroup) -> Result<usize> {
        if !self.key_groups.contains(group) {
            return Err(foreign_group(group, self.key_groups));
        }
        Ok((u32::from(group) - self.key_groups.start) as usize)
    }

    fn entries_mut(&mut self, index: usize) -> &mut Entries {
        let group = &mut self.groups[index];
        if group.frozen {
            group.frozen = false;
            self.versions += 1;
            group.version = self.versions;
        }
        &mut group.entries
    }

    fn now_ms(&self) -> i64 {
        if self.ttl.is_some() { self.clock.now_ms() } else { i64::MIN }
    }

    fn read(&mut self, group: KeyGroup) -> Result<Option<Arc<[u8]>>> {
        let index = self.index(group)?;
        let Some(entry) = self.groups[index].entries.get(self.at.as_slice()) else { return Ok(None) };
        let Some(ttl) = self.ttl else { return Ok(Some(entry.value.clone())) };
        let now = self.clock.now_ms();
        if entry.expires_at_ms <= now {
            return Ok(None);
        }
        let value = entry.value.clone();
        let renewed = now.saturating_add(ttl.ttl_ms);
        if ttl.update_on_read && entry.expires_at_ms != renewed {
            let key = SmallKey::new(&self.at);
            self.entries_mut(index).insert(key, Entry { value: value.clone(), expires_at_ms: renewed });
        }
        Ok(Some(value))
    }

    fn write(&mut self, group: KeyGroup, value: &[u8]) -> Result<()> {
        let index = self.index(group)?;
        if u32::try_from(value.len().max(self.at.len())).is_err() {
            return Err(Error::user(
                "state.value_too_long",
                format!("a value of {} bytes cannot be stored", value.len()),
            )
            .hint("a value may have up to 4 GiB; use map state and several entries"));
        }
        let expires_at_ms = match self.ttl {
            Some(ttl) => {
                let now = self.clock.now_ms();
                self.sweep(now);
                now.saturating_add(ttl.ttl_ms)
            }
            None => NEVER,
        };
        let value = if value.is_empty() { Arc::default() } else { Arc::from(value) };
        let key = SmallKey::new(&self.at);
        self.bytes += cost(&self.at, &value);
        if let Some(old) = self.entries_mut(index).insert(key, Entry { value, expires_at_ms }) {
            self.bytes -= cost(&self.at, &old.value);
        }
        Ok(())
    }

    fn erase(&mut self, group: KeyGroup) -> Result<()> {
        let index = self.index(group)?;
        if self.groups[index].entries.contains_key(self.at.as_slice()) {
            let at = std::mem::take(&mut self.at);
            self.remove_entry(index, &at);
            self.at = at;
        }
        Ok(())
    }

    fn remove_entry(&mut self, index: usize, key: &[u8]) {
        if let Some(old) = self.entries_mut(index).remove(key) {
            self.bytes -= cost(key, &old.value);
        }
    }

    /// Adds a restored entry; `false` when the key is already there.
    pub(crate) fn restore_entry(
        &mut self,
        group: KeyGroup,
        key: &[u8],
        value: &[u8],
        expires_at_ms: i64,
    ) -> Result<bool> {
        let index = self.index(group)?;
        let entry = Entry { value: Arc::from(value), expires_at_ms };
        let is_new = self.entries_mut(index).insert(SmallKey::new(key), entry).is_none();
        if is_new {
            self.bytes += cost(key, value);
        }
        Ok(is_new)
    }

    /// Looks at a few entries, round and round, and removes the expired ones.
    fn sweep(&mut self, now: i64) {
        let from = match self.sweep_after.take() {
            Some(key) => Bound::Excluded(key),
            None => Bound::Unbounded,
        };
        let mut expired: [Option<SmallKey>; SWEEP_ENTRIES] = [const { None }; SWEEP_ENTRIES];
        let mut seen = 0;
        let mut last = None;
        for (key, entry) in self.groups[self.sweep_group].entries.range((from, Bound::Unbounded)).take(SWEEP_ENTRIES) {
            if entry.expires_at_ms <= now {
                expired[seen] = Some(key.clone());
            }
            last = Some(key);
            seen += 1;
        }
        let last = last.cloned();
        let index = self.sweep_group;
        if seen < SWEEP_ENTRIES {
            self.sweep_group = (index + 1) % self.groups.len();
        } else {
            self.sweep_after = last;
        }
        for key in expired.into_iter().flatten() {
            self.remove_entry(index, key.as_slice());
        }
    }

    fn visit(&self, f: &mut Visit<'_>) -> Result<()> {
        let now = self.now_ms();
        for (group, entries) in self.key_groups.iter().zip(&self.groups) {
            for (key, entry) in entries.entries.iter() {
                if entry.expires_at_ms > now || self.ttl.is_none() {
                    f(group, key.as_slice(), &entry.value)?;
                }
            }
        }
        Ok(())
    }
}

impl MapTable for OrderedStore {
    fn get(&mut self, namespace: i64, group: KeyGroup, key: &[u8], entry: &[u8]) -> Result<Option<Arc<[u8]>>> {
        map_key(namespace, key, entry, &mut self.at);
        self.read(group)
    }
    fn put(&mut self, namespace: i64, group: KeyGroup, key: &[u8], entry: &[u8], value: &[u8]) -> Result<()> {
        map_key(namespace, key, entry, &mut self.at);
        self.write(group, value)
    }
    fn remove(&mut self, namespace: i64, group: KeyGroup, key: &[u8], entry: &[u8]) -> Result<()> {
        map_key(namespace, key, entry, &mut self.at);
        self.erase(group)
    }
    fn scan(&mut self, at: MapRange<'_>, limit: usize, entries: &mut Vec<(Vec<u8>, Arc<[u8]>)>) -> Result<bool> {
        let index = self.index(at.group)?;
        let inclusive = at.after.is_none_or(|after| after < at.prefix);
        let first = if inclusive { at.prefix } else { at.after.unwrap_or_default() };
        map_key(at.namespace, at.key, first, &mut self.at);
        let named_from = self.at.len() - first.len();
        let now = self.now_ms();
        let from = if inclusive { Bound::Included(self.at.as_slice()) } else { Bound::Excluded(self.at.as_slice()) };
        let mut renewals: Vec<SmallKey> = Vec::new();
        let mut left = limit;
        let mut more = false;
        for (key, entry) in self.groups[index].entries.range::<_, [u8]>((from, Bound::Unbounded)) {
            let composite = key.as_slice();
            let Some(name) = composite.strip_prefix(&self.at[..named_from]) else { break };
            if !name.starts_with(at.prefix) {
                break;
            }
            if self.ttl.is_some() && entry.expires_at_ms <= now {
                continue;
            }
            if left == 0 {
                more = true;
                break;
            }
            if self.ttl.is_some_and(|t| t.update_on_read) {
                renewals.push(key.clone());
            }
            entries.push((name.to_vec(), entry.value.clone()));
            left -= 1;
        }
        let expires_at_ms = now.saturating_add(self.ttl.map_or(0, |t| t.ttl_ms));
        for key in renewals {
            if let Some(entry) = self.entries_mut(index).get_mut(key.as_slice()) {
                entry.expires_at_ms = expires_at_ms;
            }
        }
        Ok(more)
    }
    fn clear(&mut self, namespace: i64, group: KeyGroup, key: &[u8]) -> Result<()> {
        let index = self.index(group)?;
        map_key(namespace, key, &[], &mut self.at);
        let base = self.at.as_slice();
        let range = self.groups[index].entries.range::<_, [u8]>((Bound::Included(base), Bound::Unbounded));
        let doomed: Vec<SmallKey> =
            range.take_while(|(k, _)| k.as_slice().starts_with(base)).map(|(k, _)| k.clone()).collect();
        if !doomed.is_empty() {
            for key in doomed {
                self.remove_entry(index, key.as_slice());
            }
        }
        Ok(())
    }
    fn for_each(&mut self, f: &mut dyn FnMut(i64, KeyGroup, &[u8], &[u8], &[u8]) -> Result<()>) -> Result<()> {
        self.visit(&mut |group, composite, value| {
            let (namespace, key, entry) = split_map_key(composite).expect("checked when written and when restored");
            f(namespace, group, key, entry, value)
        })
    }
}
