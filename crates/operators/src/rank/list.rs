//! The sorted list of one partition: as it lies in state, and while a batch changes it. Holds at most the limit of rows and a
//! batch's.

use std::sync::Arc;

use bytes::Bytes;
use flott_core::error::{Error, Result};
use flott_core::key_group::KeyGroup;
use flott_core::operator::OperatorContext;
use flott_core::snapshot::Redistribution;
use flott_core::state::{MapRange, MapTable};

const STATE: &str = "sequence";

/// Numbers rows in the order of coming. Operator state: after a restore it goes on behind the greatest number of all subtasks.
#[derive(Default)]
pub(crate) struct Sequence(u64);

impl Sequence {
    /// Takes what was restored.
    pub(crate) fn open(&mut self, ctx: &mut OperatorContext) -> Result<()> {
        for item in ctx.operator_state.take(STATE) {
            let bytes = item.first_chunk::<8>().ok_or_else(damaged)?;
            self.0 = self.0.max(u64::from_le_bytes(*bytes));
        }
        Ok(())
    }
    /// Stores it before a barrier.
    pub(crate) fn store(&self, ctx: &mut OperatorContext) {
        let item = Bytes::copy_from_slice(&self.0.to_le_bytes());
        ctx.operator_state.set(STATE, Redistribution::Union, vec![item]);
    }
    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 += 1;
        self.0
    }
}

pub(super) fn damaged() -> Error {
    Error::corrupt("state.row", "the list of a Top-N in state is damaged")
}

/// A row of the list: its name in state (sort key, then sequence number) and its bytes.
#[derive(Clone)]
pub(crate) struct Entry {
    /// Its name in state.
    pub(crate) name: Vec<u8>,
    /// Its bytes.
    pub(crate) row: Arc<[u8]>,
}

impl Entry {
    /// The sort key.
    pub(crate) fn sort(&self) -> &[u8] {
        &self.name[..self.name.len().saturating_sub(8)]
    }
}

/// The name of a row in state.
pub(super) fn name(sort: &[u8], number: u64) -> Vec<u8> {
    let mut name = Vec::with_capacity(sort.len() + 8);
    name.extend_from_slice(sort);
    name.extend_from_slice(&number.to_be_bytes());
    name
}

/// Up to `limit` first rows of a partition.
pub(crate) fn load(
    map: &mut dyn MapTable,
    namespace: i64,
    group: KeyGroup,
    key: &[u8],
    limit: usize,
) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    map.scan(MapRange { namespace, group, key, prefix: &[], after: None }, limit, &mut entries)?;
    Ok(entries.into_iter().map(|(name, row)| Entry { name, row }).collect())
}

/// Writes what `after` has beyond `before`, and removes what it lacks. Both are sorted by name.
pub(super) fn merge(
    map: &mut dyn MapTable,
    namespace: i64,
    group: KeyGroup,
    key: &[u8],
    before: &[Entry],
    after: &[Entry],
) -> Result<()> {
    for old in before.iter().filter(|e| after.binary_search_by(|a| a.name.cmp(&e.name)).is_err()) {
        map.remove(namespace, group, key, &old.name)?;
    }
    for new in after.iter().filter(|e| before.binary_search_by(|b| b.name.cmp(&e.name)).is_err()) {
        map.put(namespace, group, key, &new.name, &new.row)?;
    }
    Ok(())
}

/// A list that a batch's rows are offered to.
pub(super) struct Top<'a> {
    limit: usize,
    items: Vec<(&'a [u8], Item)>,
    changed: bool,
}

/// Where a row of the list comes from.
#[derive(Clone, Copy)]
pub(super) enum Item {
    /// The place it had.
    Before(usize),
    /// The row of the batch.
    Row(usize),
}

impl<'a> Top<'a> {
    /// An empty list.
    pub(super) fn new(limit: usize) -> Self {
        Top { limit, items: Vec::new(), changed: false }
    }
    /// Begins with these sort keys, the list as it was.
    pub(super) fn begin(&mut self, before: impl Iterator<Item = &'a [u8]>) {
        self.items.clear();
        self.items.extend(before.enumerate().map(|(i, sort)| (sort, Item::Before(i))));
        self.changed = false;
    }
    /// A row comes: behind those that are equal by the order.
    pub(super) fn offer(&mut self, sort: &'a [u8], row: usize) {
        if self.items.len() >= self.limit && self.items.last().is_none_or(|(last, _)| *last <= sort) {
            return;
        }
        let at = self.items.partition_point(|(other, _)| *other <= sort);
        self.items.insert(at, (sort, Item::Row(row)));
        self.items.truncate(self.limit);
        self.changed = true;
    }
    /// The list as it is.
    pub(super) fn items(&self) -> &[(&'a [u8], Item)] {
        &self.items
    }
    /// Whether it is another than before.
    pub(super) fn changed(&self) -> bool {
        self.changed
    }
    /// The list as it is, new rows numbered in the order they came.
    pub(super) fn finish<'b>(
        self,
        before: &[Entry],
        sequence: &mut Sequence,
        bytes: impl Fn(usize) -> &'b [u8],
    ) -> Vec<Entry> {
        let entry = |(sort, item): &(&[u8], Item)| match item {
            Item::Before(i) => before[*i].clone(),
            // Equal rows of one batch follow each other in the list, so numbers rise with it.
            Item::Row(row) => Entry { name: name(sort, sequence.next()), row: Arc::from(bytes(*row)) },
        };
        self.items.iter().map(entry).collect()
    }
}
