//! All rows of a partition in state, sorted, and where each lies, so that a retraction finds its row without a search.

use flott_core::error::{Error, Result};
use flott_core::key_group::KeyGroup;
use flott_core::state::{StateBackend, TableDescriptor, TableId, TableKind, Ttl};

use super::list::{Sequence, name};

/// Key group and key of a row's partition, the row's sort key, the row.
pub(crate) type At<'a> = (KeyGroup, &'a [u8], &'a [u8], &'a [u8]);

/// Partition → row → its sequence numbers. Kept only where rows are retracted.
pub(crate) struct Places {
    retracts: bool,
    table: Option<TableId>,
}

/// Registers the sorted list: partition → sort key and sequence number → row.
pub(crate) fn open_list(sort: &str, types: &str, ttl: Option<Ttl>, state: &mut dyn StateBackend) -> Result<TableId> {
    let (name, schema) = ("top".to_owned(), format!("{sort},sequence:{types}"));
    state.register(&TableDescriptor { name, kind: TableKind::Map, schema, ttl })
}

impl Places {
    /// Of an input that `retracts` or does not.
    pub(crate) fn new(retracts: bool) -> Self {
        Places { retracts, table: None }
    }
    /// Registers the table.
    pub(crate) fn open(&mut self, types: &str, ttl: Option<Ttl>, state: &mut dyn StateBackend) -> Result<()> {
        if self.retracts {
            let (name, schema) = ("places".to_owned(), format!("{types}:sequences"));
            self.table = Some(state.register(&TableDescriptor { name, kind: TableKind::Map, schema, ttl })?);
        }
        Ok(())
    }
    /// A row comes.
    pub(crate) fn add(
        &self,
        list: TableId,
        (group, key, sort, row): At<'_>,
        sequence: &mut Sequence,
        state: &mut dyn StateBackend,
    ) -> Result<()> {
        let number = sequence.next();
        state.map(list).put(0, group, key, &name(sort, number), row)?;
        let Some(places) = self.table else { return Ok(()) };
        let known = state.map(places).get(0, group, key, row)?;
        let mut known = known.as_deref().unwrap_or_default().to_vec();
        known.extend_from_slice(&number.to_be_bytes());
        state.map(places).put(0, group, key, row, &known)
    }
    /// A row goes, the first to come of equal ones. One that is not there is passed over: its TTL passed.
    pub(crate) fn remove(
        &self,
        list: TableId,
        (group, key, sort, row): At<'_>,
        state: &mut dyn StateBackend,
    ) -> Result<()> {
        let places = self.table.ok_or_else(|| Error::bug("a retraction of rows that are never retracted"))?;
        let known = state.map(places).get(0, group, key, row)?;
        let known = known.as_deref().unwrap_or_default();
        let Some((number, rest)) = known.split_first_chunk::<8>() else { return Ok(()) };
        state.map(list).remove(0, group, key, &name(sort, u64::from_be_bytes(*number)))?;
        match rest.is_empty() {
            true => state.map(places).remove(0, group, key, row),
            false => state.map(places).put(0, group, key, row, rest),
        }
    }
}
