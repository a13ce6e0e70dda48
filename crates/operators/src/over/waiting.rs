//! Entries that wait for a time, per key group: rows for the watermark or the clock, partitions for the end of their state. They lie
//! in state, sorted by time; in memory is only the first time of each group.

use std::sync::Arc;

use flott_core::error::{Error, Result};
use flott_core::key_group::{KeyGroup, KeyGroupRange};
use flott_core::operator::{OperatorContext, TARGET_BATCH_ROWS};
use flott_core::state::{MapRange, StateBackend, TableDescriptor, TableId, TableKind};

/// The table and the first time of each group.
pub(crate) struct Waiting {
    name: &'static str,
    table: Option<TableId>,
    groups: KeyGroupRange,
    first: Vec<i64>,
}

/// An entry whose time has come. Its name begins with the time.
pub(crate) struct Due {
    /// Time, then what tells entries of one time apart.
    pub(crate) name: Vec<u8>,
    /// What was put there.
    pub(crate) value: Arc<[u8]>,
}

/// Bytes that sort as the times do.
pub(crate) fn time_bytes(time: i64) -> [u8; 8] {
    ((time as u64) ^ (1 << 63)).to_be_bytes()
}

/// The time at the front of a name.
pub(crate) fn time_of(name: &[u8]) -> Result<i64> {
    let bytes = name
        .first_chunk::<8>()
        .ok_or_else(|| Error::corrupt("state.row", "an entry in state that waits for its time has none in its name"))?;
    Ok((u64::from_be_bytes(*bytes) ^ (1 << 63)) as i64)
}

impl Waiting {
    /// Entries of the table `name`.
    pub(crate) fn new(name: &'static str) -> Self {
        Waiting { name, table: None, groups: KeyGroupRange { start: 0, end: 0 }, first: Vec::new() }
    }
    /// Registers the table; `schema` is what its bytes mean.
    pub(crate) fn open(&mut self, schema: String, ctx: &mut OperatorContext) -> Result<()> {
        let descriptor = TableDescriptor { name: self.name.to_owned(), kind: TableKind::Map, schema, ttl: None };
        self.table = Some(ctx.state.register(&descriptor)?);
        self.groups = ctx.key_groups();
        self.first = vec![i64::MAX; self.groups.len()];
        for (index, group) in self.groups.iter().enumerate() {
            let mut entries = Vec::new();
            self.scan(group, &[], None, 1, &mut entries, &mut *ctx.state)?;
            if let Some((name, _)) = entries.first() {
                self.first[index] = time_of(name)?;
            }
        }
        Ok(())
    }
    fn index(&self, group: KeyGroup) -> usize {
        (u32::from(group) - self.groups.start) as usize
    }
    fn table(&self) -> Result<TableId> {
        self.table.ok_or_else(|| Error::bug("an operator was used before it was opened"))
    }
    fn scan(
        &self,
        group: KeyGroup,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
        entries: &mut Vec<(Vec<u8>, Arc<[u8]>)>,
        state: &mut dyn StateBackend,
    ) -> Result<bool> {
        let range = MapRange { namespace: 0, group, key: &[], prefix, after };
        state.map(self.table()?).scan(range, limit, entries)
    }
    /// The first time that something waits for.
    pub(crate) fn first(&self) -> Option<i64> {
        self.first.iter().copied().min().filter(|t| *t < i64::MAX)
    }
    /// Adds an entry under `name`, which begins with its time.
    pub(crate) fn put(
        &mut self,
        group: KeyGroup,
        name: &[u8],
        value: &[u8],
        state: &mut dyn StateBackend,
    ) -> Result<()> {
        let (time, index) = (time_of(name)?, self.index(group));
        self.first[index] = self.first[index].min(time);
        state.map(self.table()?).put(0, group, &[], name, value)
    }
    /// Takes entries whose time is at or before `until`, about a batch of them, sorted by name. All of one group and time come together.
    pub(crate) fn take(&mut self, until: i64, state: &mut dyn StateBackend) -> Result<Vec<Due>> {
        let mut due: Vec<Due> = Vec::new();
        for group in self.groups.iter() {
            let index = self.index(group);
            if self.first[index] > until {
                continue;
            }
            if due.len() >= TARGET_BATCH_ROWS {
                break;
            }
            let mut entries = Vec::new();
            let mut more = self.scan(group, &[], None, TARGET_BATCH_ROWS - due.len() + 1, &mut entries, state)?;
            // Of the last time there may be more than was asked for.
            while more && let Some((name, _)) = entries.last() {
                let (prefix, after, known) = (name[..8].to_vec(), name.clone(), entries.len());
                self.scan(group, &prefix, Some(&after), TARGET_BATCH_ROWS, &mut entries, state)?;
                more = entries.len() > known;
            }
            let mut next = i64::MAX;
            let table = self.table()?;
            for (name, value) in entries {
                let time = time_of(&name)?;
                if time > until {
                    next = time;
                    break;
                }
                state.map(table).remove(0, group, &[], &name)?;
                due.push(Due { name, value });
            }
            if next == i64::MAX {
                let mut rest = Vec::new();
                self.scan(group, &[], None, 1, &mut rest, state)?;
                next = rest.first().map(|(name, _)| time_of(name)).transpose()?.unwrap_or(i64::MAX);
            }
            self.first[index] = next;
        }
        due.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(due)
    }
}
