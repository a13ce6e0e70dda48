//! A segment as bytes and back: rows in key-group order behind an index of key groups. Never panics on what it reads.

use flott_core::error::Result;
use flott_core::key_group::{KeyGroup, KeyGroupRange, hash_in_group, key_group_of, key_hash};

use super::segment::{KeyBlock, RowBlock};
use super::{RestoredRow, RowStore};
use crate::format::{Cursor, UNIT_ROWS, corrupt};

const HAS_USED_AT: u8 = 1;
const UNIFORM_KEYS: u8 = 2;
/// From this many rows on a counting sort beats a comparison sort.
const COUNTING_SORT_ROWS: usize = 512;

/// What is written of a segment.
pub(crate) struct RowUnit<'a> {
    pub(crate) namespace: i64,
    pub(crate) width: usize,
    pub(crate) keys: &'a KeyBlock,
    pub(crate) rows: &'a RowBlock,
    /// Rows last used at this time or before are left out.
    pub(crate) expired_at_ms: Option<i64>,
    pub(crate) key_groups: KeyGroupRange,
    pub(crate) max_parallelism: u32,
}

/// Buffers kept from one segment to the next.
#[derive(Default)]
pub(crate) struct Scratch {
    unsorted: Vec<u32>,
    order: Vec<u32>,
    counts: Vec<u32>,
}

impl RowUnit<'_> {
    /// Appends the unit; returns its lowest and highest key group.
    pub(crate) fn encode(&self, scratch: &mut Scratch, out: &mut Vec<u8>) -> (u16, u16) {
        self.sort(scratch);
        let order = &scratch.order;
        let uniform = self.keys.uniform_bytes();
        let has_used_at = !self.rows.used_at_ms.is_empty();
        let groups: Vec<(u16, u32)> = order
            .chunk_by(|a, b| a >> 16 == b >> 16)
            .scan(0, |end, run| {
                *end += run.len() as u32;
                Some(((run[0] >> 16) as u16, *end))
            })
            .collect();
        let flags = if has_used_at { HAS_USED_AT } else { 0 } | if uniform.is_some() { UNIFORM_KEYS } else { 0 };
        out.reserve(64 + groups.len() * 8 + order.len() * (self.width + uniform.unwrap_or(16) as usize + 8));
        out.extend_from_slice(&[UNIT_ROWS, flags]);
        out.extend_from_slice(&(groups.len() as u16).to_le_bytes());
        out.extend_from_slice(&(order.len() as u32).to_le_bytes());
        out.extend_from_slice(&(self.width as u32).to_le_bytes());
        out.extend_from_slice(&uniform.unwrap_or(0).to_le_bytes());
        out.extend_from_slice(&self.namespace.to_le_bytes());
        for (group, end) in &groups {
            out.extend_from_slice(&group.to_le_bytes());
            out.extend_from_slice(&end.to_le_bytes());
        }
        let offset = |o: &u32| (o & 0xffff) as usize;
        if has_used_at {
            order.iter().for_each(|o| out.extend_from_slice(&self.rows.used_at_ms[offset(o)].to_le_bytes()));
        }
        if uniform.is_none() {
            let mut end = 0u32;
            for o in order {
                end += self.keys.key(offset(o)).len() as u32;
                out.extend_from_slice(&end.to_le_bytes());
            }
        }
        match self.keys.uniform_keys() {
            Some((keys, len)) => gather(order, keys, len, out),
            None => order.iter().for_each(|o| out.extend_from_slice(self.keys.key(offset(o)))),
        }
        gather(order, &self.rows.bytes, self.width, out);
        let first = groups.first().map_or(self.key_groups.start as u16, |g| g.0);
        (first, groups.last().map_or(first, |g| g.0))
    }

    /// Fills `order` with `group << 16 | offset` of every live row, ascending.
    fn sort(&self, scratch: &mut Scratch) {
        let keep = |o: &usize| self.expired_at_ms.is_none_or(|t| self.rows.used_at_ms[*o] > t);
        let entry = |o: usize| u32::from(self.keys.group(o, self.max_parallelism)) << 16 | o as u32;
        scratch.order.clear();
        scratch.unsorted.clear();
        scratch.unsorted.extend(self.keys.live_from(0).filter(keep).map(entry));
        if scratch.unsorted.len() < COUNTING_SORT_ROWS {
            std::mem::swap(&mut scratch.unsorted, &mut scratch.order);
            scratch.order.sort_unstable();
            return;
        }
        let base = self.key_groups.start;
        scratch.counts.clear();
        scratch.counts.resize(self.key_groups.len() + 1, 0);
        for e in &scratch.unsorted {
            scratch.counts[((e >> 16) - base) as usize + 1] += 1;
        }
        for i in 1..scratch.counts.len() {
            scratch.counts[i] += scratch.counts[i - 1];
        }
        scratch.order.resize(scratch.unsorted.len(), 0);
        for e in &scratch.unsorted {
            let at = &mut scratch.counts[((e >> 16) - base) as usize];
            scratch.order[*at as usize] = *e;
            *at += 1;
        }
    }
}

/// Appends items of `width` bytes in the given order. Common widths are copied by registers rather than by calls.
fn gather(order: &[u32], items: &[u8], width: usize, out: &mut Vec<u8>) {
    match width {
        0 => {}
        8 => gather_fixed::<8>(order, items, out),
        9 => gather_fixed::<9>(order, items, out),
        16 => gather_fixed::<16>(order, items, out),
        24 => gather_fixed::<24>(order, items, out),
        32 => gather_fixed::<32>(order, items, out),
        40 => gather_fixed::<40>(order, items, out),
        48 => gather_fixed::<48>(order, items, out),
        _ => {
            let item = |o: &u32| (o & 0xffff) as usize * width;
            order.iter().for_each(|o| out.extend_from_slice(&items[item(o)..item(o) + width]));
        }
    }
}

fn gather_fixed<const WIDTH: usize>(order: &[u32], items: &[u8], out: &mut Vec<u8>) {
    let (items, _) = items.as_chunks::<WIDTH>();
    let start = out.len();
    out.resize(start + order.len() * WIDTH, 0);
    let (places, _) = out[start..].as_chunks_mut::<WIDTH>();
    for (place, o) in places.iter_mut().zip(order) {
        *place = items[(o & 0xffff) as usize];
    }
}

/// The hash under which a key was stored: it may live in the group of another one (see `hash_in_group`); only its low half finds it.
pub(crate) fn stored_hash(key: &[u8], group: KeyGroup, max_parallelism: u32) -> u64 {
    let own = key_hash(key);
    if key_group_of(own, max_parallelism) == group { own } else { hash_in_group(own, group, max_parallelism) }
}

/// Adds the rows of a unit whose key groups lie in `keep` to the table. `max_parallelism` is the stored one.
pub(crate) fn restore(bytes: &[u8], keep: KeyGroupRange, max_parallelism: u32, into: &mut RowStore) -> Result<()> {
    let mut c = Cursor::new(bytes);
    if c.u8()? != UNIT_ROWS {
        return Err(corrupt("a unit of rows was expected"));
    }
    let flags = c.u8()?;
    let group_count = usize::from(c.u16()?);
    let (rows, width, key_bytes) = (c.u32()? as usize, c.u32()? as usize, c.u32()? as usize);
    let namespace = c.i64()?;
    if width != into.width() || flags & !(HAS_USED_AT | UNIFORM_KEYS) != 0 {
        return Err(corrupt(format!("a unit of rows of {} bytes has rows of {width} bytes", into.width())));
    }
    let groups = c.take_items(group_count, 6)?;
    let used_at = if flags & HAS_USED_AT != 0 { Some(c.take_items(rows, 8)?) } else { None };
    let ends = if flags & UNIFORM_KEYS == 0 { Some(c.take_items(rows, 4)?) } else { None };
    let end_of =
        |ends: &[u8], i: usize| u32::from_le_bytes(ends[i * 4..i * 4 + 4].try_into().expect("4 bytes")) as usize;
    let keys = match ends {
        Some(ends) => c.take(if rows == 0 { 0 } else { end_of(ends, rows - 1) })?,
        None => c.take_items(rows, key_bytes)?,
    };
    let row_bytes = c.take_items(rows, width)?;
    c.end()?;
    let mut start = 0usize;
    let mut previous = None;
    for group in groups.chunks_exact(6) {
        let end = u32::from_le_bytes([group[2], group[3], group[4], group[5]]) as usize;
        let group = u16::from_le_bytes([group[0], group[1]]);
        if end <= start || end > rows || previous.is_some_and(|p| p >= group) {
            return Err(corrupt("the key-group index of a unit of rows is out of order"));
        }
        previous = Some(group);
        for i in if keep.contains(group) { start..end } else { 0..0 } {
            let key = match ends {
                Some(ends) => keys.get(if i == 0 { 0 } else { end_of(ends, i - 1) }..end_of(ends, i)),
                None => Some(&keys[i * key_bytes..(i + 1) * key_bytes]),
            };
            let key = key.ok_or_else(|| corrupt("the keys of a unit of rows overlap"))?;
            let hash = stored_hash(key, group, max_parallelism);
            let used_at_ms = used_at.map(|u| i64::from_le_bytes(u[i * 8..i * 8 + 8].try_into().expect("8 bytes")));
            let bytes = &row_bytes[i * width..(i + 1) * width];
            if !into.restore_row(RestoredRow { namespace, hash, key, bytes, used_at_ms })? {
                return Err(corrupt(format!("a key in key group {group} is stored twice")));
            }
        }
        start = end;
    }
    if start != rows {
        return Err(corrupt("the key-group index of a unit of rows does not cover all rows"));
    }
    Ok(())
}
