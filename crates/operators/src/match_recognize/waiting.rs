//! What waits for its time, in keyed state: rows ahead of the watermark, in the order of their times, and keys to be looked at later.
//! Both are maps of the key group whose entries begin with the time; never looks into a row.

use std::collections::BTreeMap;

use flott_core::error::{Error, Result};
use flott_core::key_group::{KeyGroup, KeyGroupRange};
use flott_core::state::{MapRange, MapTable, StateBackend, TableDescriptor, TableId, TableKind};

/// Entries read at once.
const SCAN: usize = 256;

/// Entries by time.
pub(super) struct Waiting {
    name: &'static str,
    table: Option<TableId>,
    /// The earliest time of each key group that has one; derived from state.
    first: BTreeMap<KeyGroup, i64>,
}

/// An entry whose time has come.
pub(super) struct Due {
    pub(super) time: i64,
    /// What stands behind the time.
    pub(super) name: Vec<u8>,
    pub(super) value: std::sync::Arc<[u8]>,
}

fn ordered(time: i64) -> [u8; 8] {
    ((time as u64) ^ (1 << 63)).to_be_bytes()
}

fn time_of(entry: &[u8]) -> Result<i64> {
    let bytes = entry.first_chunk::<8>();
    let bytes = bytes.ok_or_else(|| Error::corrupt("state.match", "an entry of a pattern's state has no time"))?;
    Ok((u64::from_be_bytes(*bytes) ^ (1 << 63)) as i64)
}

impl Waiting {
    /// Entries in the table `name`.
    pub(super) fn new(name: &'static str) -> Self {
        Waiting { name, table: None, first: BTreeMap::new() }
    }

    /// Registers the table and looks for the earliest entries.
    pub(super) fn open(&mut self, schema: &str, groups: KeyGroupRange, state: &mut dyn StateBackend) -> Result<()> {
        let schema = format!("time,{schema}");
        let descriptor = TableDescriptor { name: self.name.to_owned(), kind: TableKind::Map, schema, ttl: None };
        let table = state.register(&descriptor)?;
        self.table = Some(table);
        for group in groups.start..groups.end {
            let group = group as KeyGroup;
            self.look(group, state.map(table))?;
        }
        Ok(())
    }

    fn map<'a>(&self, state: &'a mut dyn StateBackend) -> Result<&'a mut dyn MapTable> {
        Ok(state.map(self.table.ok_or_else(|| Error::bug("an operator was used before it was opened"))?))
    }

    fn look(&mut self, group: KeyGroup, map: &mut dyn MapTable) -> Result<()> {
        let mut entries = Vec::new();
        map.scan(MapRange { namespace: 0, group, key: &[], prefix: &[], after: None }, 1, &mut entries)?;
        match entries.first() {
            Some((entry, _)) => self.first.insert(group, time_of(entry)?),
            None => self.first.remove(&group),
        };
        Ok(())
    }

    /// Adds an entry.
    pub(super) fn put(
        &mut self,
        group: KeyGroup,
        time: i64,
        name: &[&[u8]],
        value: &[u8],
        state: &mut dyn StateBackend,
    ) -> Result<()> {
        let mut entry = ordered(time).to_vec();
        name.iter().for_each(|part| entry.extend_from_slice(part));
        let first = self.first.entry(group).or_insert(time);
        *first = time.min(*first);
        self.map(state)?.put(0, group, &[], &entry, value)
    }

    /// The earliest time of all entries.
    pub(super) fn earliest(&self) -> Option<i64> {
        self.first.values().copied().min()
    }

    /// A key group with entries up to `time`.
    pub(super) fn due_group(&self, time: i64) -> Option<KeyGroup> {
        self.first.iter().find(|(_, first)| **first <= time).map(|(group, _)| *group)
    }

    /// Takes about `limit` entries of `group` up to `time`, in order. Returns whether that is all of them.
    pub(super) fn take(
        &mut self,
        group: KeyGroup,
        time: i64,
        limit: usize,
        state: &mut dyn StateBackend,
        due: &mut Vec<Due>,
    ) -> Result<bool> {
        let map = self.map(state)?;
        let mut left = limit;
        let mut entries = Vec::new();
        loop {
            entries.clear();
            let range = MapRange { namespace: 0, group, key: &[], prefix: &[], after: None };
            let more = map.scan(range, SCAN, &mut entries)?;
            for (entry, value) in entries.drain(..) {
                let at = time_of(&entry)?;
                if at > time || left == 0 {
                    self.first.insert(group, at);
                    return Ok(at > time);
                }
                map.remove(0, group, &[], &entry)?;
                left -= 1;
                due.push(Due { time: at, name: entry[8..].to_vec(), value });
            }
            if !more {
                self.first.remove(&group);
                return Ok(true);
            }
        }
    }
}
