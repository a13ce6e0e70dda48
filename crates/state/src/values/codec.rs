//! A segment of values as bytes and back: in key-group order behind an index of key groups. Reads ordered entries as well, which is how
//! values were stored before. Never panics on what it reads.

use flott_core::error::Result;
use flott_core::key_group::{KeyGroup, KeyGroupRange};

use super::segment::{NEVER, ValueBlock};
use super::{Place, ValueStore};
use crate::format::{Cursor, UNIT_ORDERED, UNIT_VALUES, corrupt};
use crate::ordered::codec as ordered_codec;
use crate::rows::codec::stored_hash;
use crate::rows::segment::KeyBlock;

const HAS_EXPIRY: u8 = 1;

/// What is written of a segment.
pub(crate) struct ValueUnit<'a> {
    pub(crate) namespace: i64,
    pub(crate) keys: &'a KeyBlock,
    pub(crate) values: &'a ValueBlock,
    /// Values that are gone at this time are left out; with TTL only.
    pub(crate) now_ms: Option<i64>,
    pub(crate) max_parallelism: u32,
}

impl ValueUnit<'_> {
    /// Appends the unit; returns its lowest and highest key group.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) -> (u16, u16) {
        let (keys, values) = (self.keys, self.values);
        let keep = |o: &usize| self.now_ms.is_none_or(|now| values.expires_at_ms(*o) > now);
        let entry = |o: usize| (keys.group(o, self.max_parallelism), o);
        let mut order: Vec<(u16, usize)> = keys.live_from(0).filter(keep).map(entry).collect();
        order.sort_unstable();
        let runs: Vec<&[(u16, usize)]> = order.chunk_by(|a, b| a.0 == b.0).collect();
        let has_expiry = self.now_ms.is_some() && values.expires();
        out.extend_from_slice(&[UNIT_VALUES, if has_expiry { HAS_EXPIRY } else { 0 }]);
        out.extend_from_slice(&(runs.len() as u16).to_le_bytes());
        out.extend_from_slice(&(order.len() as u32).to_le_bytes());
        out.extend_from_slice(&self.namespace.to_le_bytes());
        let mut end = 0u32;
        for run in &runs {
            end += run.len() as u32;
            out.extend_from_slice(&run[0].0.to_le_bytes());
            out.extend_from_slice(&end.to_le_bytes());
        }
        for &(_, o) in &order {
            out.extend_from_slice(&(keys.key(o).len() as u32).to_le_bytes());
            out.extend_from_slice(&(values.value(o).len() as u32).to_le_bytes());
        }
        if has_expiry {
            order.iter().for_each(|(_, o)| out.extend_from_slice(&values.expires_at_ms(*o).to_le_bytes()));
        }
        for &(_, o) in &order {
            out.extend_from_slice(keys.key(o));
            out.extend_from_slice(values.value(o));
        }
        let first = order.first().map_or(0, |o| o.0);
        (first, order.last().map_or(first, |o| o.0))
    }
}

/// Adds the values of a unit whose key groups lie in `keep` to the table. `max_parallelism` is the stored one.
pub(crate) fn restore(bytes: &[u8], keep: KeyGroupRange, max_parallelism: u32, into: &mut ValueStore) -> Result<()> {
    let mut add = |namespace: i64, group: KeyGroup, key: &[u8], value: &[u8], expires_at_ms: i64| {
        let hash = stored_hash(key, group, max_parallelism);
        if into.restore_value(Place { namespace, group, hash, key }, value, expires_at_ms)? {
            return Ok(());
        }
        Err(corrupt(format!("a key in key group {group} is stored twice")))
    };
    if bytes.first() == Some(&UNIT_ORDERED) {
        return ordered_codec::read(bytes, keep, &mut |group, composite, value, expires_at_ms| {
            let (namespace, key) = ordered_codec::split_value_key(composite)?;
            add(namespace, group, key, value, expires_at_ms)
        });
    }
    let mut c = Cursor::new(bytes);
    if c.u8()? != UNIT_VALUES {
        return Err(corrupt("a unit of values was expected"));
    }
    let flags = c.u8()?;
    if flags & !HAS_EXPIRY != 0 {
        return Err(corrupt(format!("a unit of values has unknown flags {flags:#x}")));
    }
    let group_count = usize::from(c.u16()?);
    let values = c.u32()? as usize;
    let namespace = c.i64()?;
    let mut groups = Cursor::new(c.take_items(group_count, 6)?);
    let mut lengths = Cursor::new(c.take_items(values, 8)?);
    let mut expiries = Cursor::new(c.take_items(if flags & HAS_EXPIRY != 0 { values } else { 0 }, 8)?);
    let (mut start, mut previous) = (0, None);
    for _ in 0..group_count {
        let (group, end) = (groups.u16()?, groups.u32()? as usize);
        if end <= start || end > values || previous.is_some_and(|p| p >= group) {
            return Err(corrupt("the key-group index of a unit of values is out of order"));
        }
        previous = Some(group);
        for _ in start..end {
            let (key, value) = (lengths.u32()? as usize, lengths.u32()? as usize);
            let (key, value) = (c.take(key)?, c.take(value)?);
            let expires_at_ms = if flags & HAS_EXPIRY != 0 { expiries.i64()? } else { NEVER };
            if keep.contains(group) {
                add(namespace, group, key, value, expires_at_ms)?;
            }
        }
        start = end;
    }
    if start != values {
        return Err(corrupt("the key-group index of a unit of values does not cover all values"));
    }
    c.end()
}
