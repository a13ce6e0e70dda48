//! The entries of a key group as bytes and back, in the order of their composite keys. Never panics on what it reads.

use flott_core::error::{Error, Result};
use flott_core::key_group::{KeyGroup, KeyGroupRange};

use super::{Entries, NEVER, OrderedStore, namespace_of, split_map_key};
use crate::format::{Cursor, UNIT_ORDERED, corrupt};

const HAS_EXPIRY: u8 = 1;

/// Appends the unit of a key group; entries that are gone at `now_ms` are left out.
pub(crate) fn encode(group: KeyGroup, entries: &Entries, now_ms: Option<i64>, out: &mut Vec<u8>) {
    out.extend_from_slice(&[UNIT_ORDERED, if now_ms.is_some() { HAS_EXPIRY } else { 0 }]);
    out.extend_from_slice(&group.to_le_bytes());
    let count_at = out.len();
    out.extend_from_slice(&[0; 4]);
    let mut count = 0u32;
    for (key, entry) in entries {
        if now_ms.is_some_and(|now| entry.expires_at_ms <= now) {
            continue;
        }
        let key = key.as_slice();
        out.extend_from_slice(&(key.len() as u32).to_le_bytes());
        out.extend_from_slice(&(entry.value.len() as u32).to_le_bytes());
        if now_ms.is_some() {
            out.extend_from_slice(&entry.expires_at_ms.to_le_bytes());
        }
        out.extend_from_slice(key);
        out.extend_from_slice(&entry.value);
        count += 1;
    }
    out[count_at..count_at + 4].copy_from_slice(&count.to_le_bytes());
}

/// Namespace and key of the composite key of a value.
pub(crate) fn split_value_key(composite: &[u8]) -> Result<(i64, &[u8])> {
    namespace_of(composite).ok_or_else(malformed)
}

fn malformed() -> Error {
    corrupt("a composite key in a unit of ordered entries is malformed")
}

/// Adds the entries of a unit to the map if its key group is to be kept.
pub(crate) fn restore(bytes: &[u8], keep: KeyGroupRange, into: &mut OrderedStore) -> Result<()> {
    read(bytes, keep, &mut |group, composite, value, expires_at_ms| {
        split_map_key(composite).ok_or_else(malformed)?;
        if into.restore_entry(group, composite, value, expires_at_ms)? {
            return Ok(());
        }
        Err(corrupt(format!("a key in key group {group} is stored twice")))
    })
}

/// Takes key group, composite key, value and expiry of a stored entry.
pub(crate) type Visit<'a> = dyn FnMut(KeyGroup, &[u8], &[u8], i64) -> Result<()> + 'a;

/// Calls `f` with the entries of a unit if its key group is to be kept.
pub(crate) fn read(bytes: &[u8], keep: KeyGroupRange, f: &mut Visit<'_>) -> Result<()> {
    let mut c = Cursor::new(bytes);
    if c.u8()? != UNIT_ORDERED {
        return Err(corrupt("a unit of ordered entries was expected"));
    }
    let flags = c.u8()?;
    if flags & !HAS_EXPIRY != 0 {
        return Err(corrupt(format!("a unit of ordered entries has unknown flags {flags:#x}")));
    }
    let group = c.u16()?;
    let count = c.u32()?;
    if !keep.contains(group) {
        return Ok(());
    }
    for _ in 0..count {
        let (key_bytes, value_bytes) = (c.u32()? as usize, c.u32()? as usize);
        let expires_at_ms = if flags & HAS_EXPIRY != 0 { c.i64()? } else { NEVER };
        let composite = c.take(key_bytes)?;
        f(group, composite, c.take(value_bytes)?, expires_at_ms)?;
    }
    c.end()
}
