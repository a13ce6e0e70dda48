//! One side of a regular join in state: rows by key, how often each is there, and how many rows of the other side it matches. In a
//! row table, or in an ordered one where state expires. Never emits anything.

use arrow_array::{ArrayRef, RecordBatch};
use flott_core::batch::ChangeBatch;
use flott_core::error::{Error, Result};
use flott_core::key_group::KeyGroup;
use flott_core::state::{KeyBatch, Slot, StateBackend, Ttl};
use flott_core::types::Column;

use super::expiring::ExpiringSide;
use super::rows::RowSide;
use super::store::Keys;

/// How often a row is there, and how many rows of the other side it matches (kept where its own appearance depends on it).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Copies of the row.
    pub(crate) rows: i64,
    /// Rows of the other side.
    pub(crate) matches: i64,
}

/// What finds a row in state again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Id {
    /// Its place in a row table.
    Slot(Slot),
    /// Its bytes, which are its name in an ordered table.
    Entry(Vec<u8>),
}

/// A row that has the key that is looked for.
pub(crate) struct Candidate {
    pub(crate) id: Id,
    pub(crate) counts: Counts,
}

/// A batch whose rows go into state.
pub(crate) struct Changes<'a> {
    pub(crate) batch: &'a ChangeBatch,
    pub(crate) keys: &'a KeyBatch,
    /// Rows with a NULL in a key column stay out.
    pub(crate) null_key: &'a [bool],
    /// Per row the matches it has found; empty where they are not counted.
    pub(crate) matches: &'a [i64],
    pub(crate) max_parallelism: u32,
}

/// The key of one row.
#[derive(Clone, Copy)]
pub(crate) struct Key<'a> {
    pub(crate) group: KeyGroup,
    pub(crate) hash: u64,
    pub(crate) bytes: &'a [u8],
}

/// A side.
pub(crate) enum Side {
    Rows(RowSide),
    Expiring(ExpiringSide),
}

fn foreign() -> Error {
    Error::bug("a row of a join was looked for in a table of another kind")
}

impl Side {
    /// A side with these columns, joined by `keys`.
    pub(crate) fn new(name: &'static str, columns: &[Column], keys: &[usize], ttl: Option<Ttl>) -> Result<Self> {
        Ok(match ttl {
            None => Side::Rows(RowSide::new(name, columns, keys)?),
            Some(ttl) => Side::Expiring(ExpiringSide::new(name, columns, keys, ttl)?),
        })
    }
    /// Registers the table.
    pub(crate) fn open(&mut self, state: &mut dyn StateBackend) -> Result<()> {
        match self {
            Side::Rows(side) => side.open(state),
            Side::Expiring(side) => side.open(state),
        }
    }
    /// The keys of a batch of this side.
    pub(crate) fn keys(&self, rows: &RecordBatch, max_parallelism: u32) -> Result<Keys> {
        match self {
            Side::Rows(side) => side.keys(rows, max_parallelism),
            Side::Expiring(side) => side.keys(rows, max_parallelism),
        }
    }
    /// Appends up to `limit` rows under a key, from after `after`; returns whether there are more.
    pub(crate) fn matches(
        &self,
        key: Key<'_>,
        after: Option<&Id>,
        limit: usize,
        found: &mut Vec<Candidate>,
        state: &mut dyn StateBackend,
    ) -> Result<bool> {
        match (self, after) {
            (Side::Rows(side), None) => side.matches((key.bytes, key.hash), None, limit, found, state),
            (Side::Rows(side), Some(Id::Slot(slot))) => {
                side.matches((key.bytes, key.hash), Some(*slot), limit, found, state)
            }
            (Side::Expiring(side), None) => side.matches(key, None, limit, found, state),
            (Side::Expiring(side), Some(Id::Entry(entry))) => side.matches(key, Some(entry), limit, found, state),
            _ => Err(foreign()),
        }
    }
    /// The counts of a row; `None`: it has expired.
    pub(crate) fn get(&self, key: Key<'_>, id: &Id, state: &mut dyn StateBackend) -> Result<Option<Counts>> {
        match (self, id) {
            (Side::Rows(side), Id::Slot(slot)) => side.get(*slot, state).map(Some),
            (Side::Expiring(side), Id::Entry(entry)) => side.get(key, entry, state),
            _ => Err(foreign()),
        }
    }
    /// Sets how many rows a row matches.
    pub(crate) fn put(&self, key: Key<'_>, id: &Id, counts: Counts, state: &mut dyn StateBackend) -> Result<()> {
        match (self, id) {
            (Side::Rows(side), Id::Slot(slot)) => side.put(*slot, counts, state),
            (Side::Expiring(side), Id::Entry(entry)) => side.put(key, entry, counts, state),
            _ => Err(foreign()),
        }
    }
    /// Adds the rows of a batch, and takes out those that are retracted.
    pub(crate) fn apply(&mut self, changes: &Changes<'_>, state: &mut dyn StateBackend) -> Result<()> {
        match self {
            Side::Rows(side) => side.apply(changes, state),
            Side::Expiring(side) => side.apply(changes, state),
        }
    }
    /// The columns of rows.
    pub(crate) fn decode(&self, found: &[Candidate], state: &mut dyn StateBackend) -> Result<Vec<ArrayRef>> {
        match self {
            Side::Rows(side) => {
                let slots = found.iter().filter_map(|c| match c.id {
                    Id::Slot(slot) => Some(slot),
                    Id::Entry(_) => None,
                });
                side.decode(slots, state)
            }
            Side::Expiring(side) => side.decode(found.iter().filter_map(|c| match &c.id {
                Id::Entry(entry) => Some(entry.as_slice()),
                Id::Slot(_) => None,
            })),
        }
    }
}
