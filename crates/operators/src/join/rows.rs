//! One side of a join in a row table, for state that never expires: rows by key through chains of slots, which are derived from state.
//! Finds, adds and takes out a row in constant time; never holds an expired one.

use std::collections::HashSet;

use arrow_array::ArrayRef;
use flott_core::error::Result;
use flott_core::key_group::key_hash;
use flott_core::state::{NO_SLOT, Slot, StateBackend};
use flott_core::types::Column;
use hashbrown::HashTable;

use super::side::{Candidate, Changes, Counts, Id};
use super::store::{Info, Keys, Rows, Store, all, key_of};

/// All rows lie in one namespace.
const NAMESPACE: i64 = 0;

/// The side.
pub(crate) struct RowSide {
    store: Store,
    /// Hash of a key, its first and its last row.
    heads: HashTable<(u64, Slot, Slot)>,
    /// By slot: the rows of the same key before and after it.
    links: Vec<(Slot, Slot)>,
}

impl RowSide {
    /// A side with these columns, joined by `keys`.
    pub(crate) fn new(name: &'static str, columns: &[Column], keys: &[usize]) -> Result<Self> {
        Ok(RowSide { store: Store::new(name, columns, keys)?, heads: HashTable::new(), links: Vec::new() })
    }
    /// Registers the table and finds its rows.
    pub(crate) fn open(&mut self, state: &mut dyn StateBackend) -> Result<()> {
        self.store.open(state)?;
        let slots = all(self.store.table(state)?, NAMESPACE);
        for slot in slots {
            let hash = key_hash(key_of(self.store.table(state)?, slot));
            self.link(hash, slot, state)?;
        }
        Ok(())
    }
    /// The keys of a batch of this side.
    pub(crate) fn keys(&self, rows: &arrow_array::RecordBatch, max_parallelism: u32) -> Result<Keys> {
        self.store.keys(rows, max_parallelism)
    }
    /// Appends up to `limit` rows under a key, from after `after`; returns whether there are more.
    pub(crate) fn matches(
        &self,
        (key, hash): (&[u8], u64),
        after: Option<Slot>,
        limit: usize,
        found: &mut Vec<Candidate>,
        state: &mut dyn StateBackend,
    ) -> Result<bool> {
        let table = self.store.table(state)?;
        let mut at = match after {
            Some(slot) => self.links[slot as usize].1,
            None => {
                let head = self.heads.find(hash, |h| h.0 == hash && key_of(table, h.1) == key);
                head.map_or(NO_SLOT, |h| h.1)
            }
        };
        for _ in 0..limit {
            if at == NO_SLOT {
                return Ok(false);
            }
            let info = Info::read(table.row(at));
            let counts = Counts { rows: i64::from(info.copies), matches: i64::from(info.matched) };
            found.push(Candidate { id: Id::Slot(at), counts });
            at = self.links[at as usize].1;
        }
        Ok(at != NO_SLOT)
    }
    /// How often a row is there now.
    pub(crate) fn get(&self, slot: Slot, state: &mut dyn StateBackend) -> Result<Counts> {
        let info = Info::read(self.store.table(state)?.row(slot));
        Ok(Counts { rows: i64::from(info.copies), matches: i64::from(info.matched) })
    }
    /// Sets how many rows a row matches.
    pub(crate) fn put(&self, slot: Slot, counts: Counts, state: &mut dyn StateBackend) -> Result<()> {
        let row = self.store.table(state)?.row_mut(slot);
        let info = Info { matched: u32::try_from(counts.matches).unwrap_or(u32::MAX), ..Info::read(row) };
        info.write(row);
        Ok(())
    }
    /// Adds the rows of a batch with their matches, and takes out those that are retracted.
    pub(crate) fn apply(&mut self, changes: &Changes<'_>, state: &mut dyn StateBackend) -> Result<()> {
        let wanted = |row: &usize| !changes.null_key[*row];
        let rows: Vec<usize> = (0..changes.batch.num_rows()).filter(wanted).collect();
        let adds = |row: usize| changes.batch.kind(row).is_add();
        // Rows come and go in order: runs of either may be taken together.
        for run in rows.chunk_by(|a, b| adds(*a) == adds(*b)) {
            if adds(run[0]) {
                self.add(changes, run, state)?;
            } else {
                self.remove(changes, run, state)?;
            }
        }
        Ok(())
    }
    fn add(&mut self, changes: &Changes<'_>, of: &[usize], state: &mut dyn StateBackend) -> Result<()> {
        let (keys, max_parallelism) = (changes.keys, changes.max_parallelism);
        let namespaces = vec![NAMESPACE; of.len()];
        let rows = Rows { rows: &changes.batch.rows, keys, of, namespaces: &namespaces, max_parallelism };
        let mut is_new = vec![false; of.len()];
        let slots = self.store.insert(&rows, state, &mut |j, info| {
            is_new[j] = info.copies == 1;
            if is_new[j] {
                info.matched = changes.matches.get(of[j]).map_or(0, |m| u32::try_from(*m).unwrap_or(u32::MAX));
            }
        })?;
        for (j, slot) in slots.iter().enumerate().filter(|(j, _)| is_new[*j]) {
            self.link(keys.hashes[of[j]], *slot, state)?;
        }
        Ok(())
    }
    fn remove(&mut self, changes: &Changes<'_>, of: &[usize], state: &mut dyn StateBackend) -> Result<()> {
        let entries = self.store.entries(&changes.batch.rows, changes.keys, of, changes.max_parallelism)?;
        let mut slots = Vec::new();
        self.store.table(state)?.resolve(&[NAMESPACE], &entries, false, &mut slots)?;
        // What an earlier row of the run took out is not there for a later one.
        let mut gone: HashSet<Slot> = HashSet::new();
        for (j, &slot) in slots.iter().enumerate() {
            if slot == NO_SLOT || gone.contains(&slot) {
                continue;
            }
            let table = self.store.table(state)?;
            let info = Info::read(table.row(slot));
            if info.copies > 1 {
                Info { copies: info.copies - 1, ..info }.write(table.row_mut(slot));
            } else {
                table.remove(slot);
                gone.insert(slot);
                self.unlink(changes.keys.hashes[of[j]], slot);
            }
        }
        Ok(())
    }
    fn link(&mut self, hash: u64, slot: Slot, state: &mut dyn StateBackend) -> Result<()> {
        let table = self.store.table(state)?;
        let key = key_of(table, slot);
        if self.links.len() <= slot as usize {
            self.links.resize(slot as usize + 1, (NO_SLOT, NO_SLOT));
        }
        match self.heads.find_mut(hash, |h| h.0 == hash && key_of(table, h.1) == key) {
            Some(head) => {
                self.links[head.2 as usize].1 = slot;
                self.links[slot as usize] = (head.2, NO_SLOT);
                head.2 = slot;
            }
            None => {
                self.links[slot as usize] = (NO_SLOT, NO_SLOT);
                self.heads.insert_unique(hash, (hash, slot, slot), |h| h.0);
            }
        }
        Ok(())
    }
    fn unlink(&mut self, hash: u64, slot: Slot) {
        let (before, after) = self.links[slot as usize];
        if before != NO_SLOT {
            self.links[before as usize].1 = after;
        }
        if after != NO_SLOT {
            self.links[after as usize].0 = before;
        }
        if before != NO_SLOT && after != NO_SLOT {
            return;
        }
        if let Ok(mut head) = self.heads.find_entry(hash, |h| h.0 == hash && (h.1 == slot || h.2 == slot)) {
            match (before, after) {
                (NO_SLOT, NO_SLOT) => {
                    head.remove();
                }
                (NO_SLOT, first) => head.get_mut().1 = first,
                (last, _) => head.get_mut().2 = last,
            }
        }
    }
    /// The columns of rows.
    pub(crate) fn decode(
        &self,
        slots: impl Iterator<Item = Slot>,
        state: &mut dyn StateBackend,
    ) -> Result<Vec<ArrayRef>> {
        self.store.decode(self.store.table(state)?, slots)
    }
}
