//! A segment of lists as bytes and back: values in key-group order behind an index of key groups. Never panics on what it reads.

use flott_core::error::Result;
use flott_core::key_group::KeyGroupRange;

use super::ListStore;
use super::segment::ListBlock;
use crate::format::{Cursor, UNIT_LISTS, corrupt};
use crate::rows::codec::stored_hash;

/// Appends the unit; returns its lowest and highest key group.
pub(crate) fn encode(namespace: i64, block: &ListBlock, max_parallelism: u32, out: &mut Vec<u8>) -> (u16, u16) {
    let mut order: Vec<(u16, u32)> = (0..block.len()).map(|i| (block.group(i, max_parallelism), i as u32)).collect();
    order.sort_unstable();
    let runs: Vec<&[(u16, u32)]> = order.chunk_by(|a, b| a.0 == b.0).collect();
    out.extend_from_slice(&[UNIT_LISTS, 0]);
    out.extend_from_slice(&(runs.len() as u16).to_le_bytes());
    out.extend_from_slice(&(order.len() as u32).to_le_bytes());
    out.extend_from_slice(&namespace.to_le_bytes());
    let mut end = 0u32;
    for run in &runs {
        end += run.len() as u32;
        out.extend_from_slice(&run[0].0.to_le_bytes());
        out.extend_from_slice(&end.to_le_bytes());
    }
    for &(_, i) in &order {
        out.extend_from_slice(&(block.key(i as usize).len() as u32).to_le_bytes());
        out.extend_from_slice(&(block.value(i as usize).len() as u32).to_le_bytes());
    }
    for &(_, i) in &order {
        out.extend_from_slice(block.key(i as usize));
        out.extend_from_slice(block.value(i as usize));
    }
    let first = order.first().map_or(0, |o| o.0);
    (first, order.last().map_or(first, |o| o.0))
}

/// Adds the values of a unit whose key groups lie in `keep` to the table. `max_parallelism` is the stored one.
pub(crate) fn restore(bytes: &[u8], keep: KeyGroupRange, max_parallelism: u32, into: &mut ListStore) -> Result<()> {
    let mut c = Cursor::new(bytes);
    if c.u8()? != UNIT_LISTS || c.u8()? != 0 {
        return Err(corrupt("a unit of lists was expected"));
    }
    let group_count = usize::from(c.u16()?);
    let values = c.u32()? as usize;
    let namespace = c.i64()?;
    let mut groups = Cursor::new(c.take_items(group_count, 6)?);
    let mut lengths = Cursor::new(c.take_items(values, 8)?);
    let (mut start, mut previous) = (0, None);
    for _ in 0..group_count {
        let (group, end) = (groups.u16()?, groups.u32()? as usize);
        if end <= start || end > values || previous.is_some_and(|p| p >= group) {
            return Err(corrupt("the key-group index of a unit of lists is out of order"));
        }
        previous = Some(group);
        for _ in start..end {
            let (key, value) = (lengths.u32()? as usize, lengths.u32()? as usize);
            let (key, value) = (c.take(key)?, c.take(value)?);
            if keep.contains(group) {
                into.add(namespace, stored_hash(key, group, max_parallelism), key, value)?;
            }
        }
        start = end;
    }
    if start != values {
        return Err(corrupt("the key-group index of a unit of lists does not cover all values"));
    }
    c.end()
}
