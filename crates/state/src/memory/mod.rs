//! The memory backend: tables of one operator of one subtask, and what the last checkpoints stored of them. Never writes or
//! reads chunks on the task's thread, except to restore.

mod cut;
mod restore;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use flott_core::error::{Error, Result};
use flott_core::ids::CheckpointId;
use flott_core::key_group::KeyGroupRange;
use flott_core::metrics::OperatorMetrics;
use flott_core::snapshot::{ChunkReader, KeyedSnapshot, KeyedStateHandle};
use flott_core::state::{ListTable, MapTable, RowTable, StateBackend, TableDescriptor, TableId, TableKind, ValueTable};
use flott_core::time::SharedClock;

use crate::lists::ListStore;
use crate::ordered::OrderedStore;
use crate::rows::RowStore;
use crate::values::ValueStore;
use cut::{Outcome, UnitState};

/// Makes memory backends for the subtasks of a process.
#[derive(Clone)]
pub struct MemoryBackendFactory {
    /// Processing time, for TTL.
    pub clock: SharedClock,
    /// Whether checkpoints refer to what earlier ones stored.
    pub incremental: bool,
}

impl MemoryBackendFactory {
    /// A backend for one operator of one subtask, holding what lies in `handles` for its key groups.
    pub fn create(
        &self,
        key_groups: KeyGroupRange,
        max_parallelism: u32,
        handles: &[KeyedStateHandle],
        reader: &dyn ChunkReader,
    ) -> Result<Box<dyn StateBackend>> {
        let backend = MemoryStateBackend::new(key_groups, max_parallelism, self.clock.clone());
        let mut backend = backend.with_incremental(self.incremental);
        backend.restore(handles, reader)?;
        Ok(Box::new(backend))
    }
}

enum Store {
    Rows(Box<RowStore>),
    Ordered(Box<OrderedStore>),
    Lists(Box<ListStore>),
    Values(Box<ValueStore>),
}

struct Table {
    descriptor: TableDescriptor,
    registered: bool,
    store: Store,
    units: Vec<UnitState>,
}

/// Keyed state in memory.
///
/// Cuts are copy-on-write: a cut costs two reference counts per segment of rows or values and one pointer per key group of maps,
/// and only for what changed since the last confirmed checkpoint.
pub struct MemoryStateBackend {
    key_groups: KeyGroupRange,
    max_parallelism: u32,
    clock: SharedClock,
    incremental: bool,
    /// `None` for tables dropped.
    tables: Vec<Option<Table>>,
    /// Cuts whose fate is unknown.
    pending: BTreeMap<CheckpointId, Arc<Outcome>>,
    chunks_known: u64,
    last_cut_shares: usize,
    metrics: Option<Arc<OperatorMetrics>>,
    /// Accesses until the tables are weighed again.
    unweighed: usize,
}

/// Accesses to tables, batches most of them, between two looks at their sizes; with many segments proportionally more.
const WEIGH_EVERY: usize = 64;

impl MemoryStateBackend {
    /// An empty, incremental backend for these key groups.
    pub fn new(key_groups: KeyGroupRange, max_parallelism: u32, clock: SharedClock) -> Self {
        MemoryStateBackend {
            key_groups,
            max_parallelism,
            clock,
            incremental: true,
            tables: Vec::new(),
            pending: BTreeMap::new(),
            chunks_known: 0,
            last_cut_shares: 0,
            metrics: None,
            unweighed: 0,
        }
    }

    /// Tells the size of the state to these counters.
    pub fn with_metrics(mut self, metrics: Arc<OperatorMetrics>) -> Self {
        self.metrics = Some(metrics);
        self
    }

    /// Bytes of all tables on the heap. Looks at every segment of rows.
    pub fn memory_bytes(&self) -> usize {
        let bytes = |t: &Table| match &t.store {
            Store::Rows(rows) => rows.memory_bytes(),
            Store::Ordered(entries) => entries.memory_bytes(),
            Store::Lists(lists) => lists.memory_bytes(),
            Store::Values(values) => values.memory_bytes(),
        };
        self.tables.iter().flatten().map(bytes).sum()
    }

    fn weigh(&mut self) {
        let Some(metrics) = &self.metrics else { return };
        metrics.state_bytes.set(self.memory_bytes() as u64);
        let segments = |t: &Table| match &t.store {
            Store::Rows(rows) => rows.unit_count(),
            Store::Lists(lists) => lists.unit_count(),
            Store::Values(values) => values.unit_count(),
            Store::Ordered(_) => 0,
        };
        self.unweighed = WEIGH_EVERY.max(self.tables.iter().flatten().map(segments).sum::<usize>() / 16);
    }

    fn touched(&mut self) {
        match self.unweighed.checked_sub(1) {
            Some(left) => self.unweighed = left,
            None => self.weigh(),
        }
    }

    /// `false`: every checkpoint stands alone and owns all its chunks.
    pub fn with_incremental(mut self, incremental: bool) -> Self {
        self.incremental = incremental;
        self
    }

    /// Reads the parts of `handles` that lie in this backend's key groups. Called once, before the first `register`.
    pub fn restore(&mut self, handles: &[KeyedStateHandle], reader: &dyn ChunkReader) -> Result<()> {
        for handle in handles {
            self.restore_handle(handle, reader)?;
        }
        self.weigh();
        Ok(())
    }

    /// Names of restored tables that nobody registered: they are carried over from checkpoint to checkpoint.
    pub fn unregistered_tables(&self) -> Vec<String> {
        let tables = self.tables.iter().flatten().filter(|t| !t.registered);
        tables.map(|t| t.descriptor.name.clone()).collect()
    }

    /// Drops a restored table that nobody registered; `false` when there is none of that name.
    pub fn drop_unregistered(&mut self, name: &str) -> bool {
        let found =
            self.tables.iter_mut().find(|t| t.as_ref().is_some_and(|t| !t.registered && t.descriptor.name == name));
        found.is_some_and(|t| t.take().is_some())
    }

    /// Reference counts taken by the last cut: what its cost is proportional to.
    pub fn last_cut_shares(&self) -> usize {
        self.last_cut_shares
    }

    fn new_table(&self, descriptor: TableDescriptor, registered: bool) -> Table {
        let store = match descriptor.kind {
            TableKind::Rows { width } => Store::Rows(Box::new(RowStore::new(
                width,
                descriptor.ttl,
                self.key_groups,
                self.max_parallelism,
                self.clock.clone(),
            ))),
            TableKind::Values => Store::Values(Box::new(ValueStore::new(
                descriptor.ttl,
                self.key_groups,
                self.max_parallelism,
                self.clock.clone(),
            ))),
            TableKind::Map => {
                Store::Ordered(Box::new(OrderedStore::new(descriptor.ttl, self.key_groups, self.clock.clone())))
            }
            TableKind::Lists => Store::Lists(Box::new(ListStore::new(self.key_groups, self.max_parallelism))),
        };
        Table { descriptor, registered, store, units: Vec::new() }
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.tables.iter().position(|t| t.as_ref().is_some_and(|t| t.descriptor.name == name))
    }

    fn table(&mut self, id: TableId) -> &mut Table {
        self.tables.get_mut(id.0).and_then(Option::as_mut).expect("table ids come from register of the same backend")
    }
}

fn kind_text(kind: TableKind) -> String {
    match kind {
        TableKind::Rows { width } => format!("rows of {width} bytes"),
        TableKind::Values => "values".to_owned(),
        TableKind::Map => "map".to_owned(),
        TableKind::Lists => "lists".to_owned(),
    }
}

fn check_schema(restored: &TableDescriptor, asked: &TableDescriptor) -> Result<()> {
    if restored.kind == asked.kind && restored.schema == asked.schema {
        return Ok(());
    }
    Err(Error::user("state.schema", format!("the restored state `{}` does not fit the job", asked.name))
        .detail(format!(
            "the checkpoint holds {} of `{}`, the job wants {} of `{}`",
            kind_text(restored.kind),
            restored.schema,
            kind_text(asked.kind),
            asked.schema
        ))
        .hint(
            "restore with the job that wrote the checkpoint, give the changed operator a new uid, or start without it",
        ))
}

impl StateBackend for MemoryStateBackend {
    fn register(&mut self, descriptor: &TableDescriptor) -> Result<TableId> {
        if descriptor.kind == TableKind::Lists && descriptor.ttl.is_some() {
            return Err(Error::bug(format!("the lists `{}` are registered with a TTL", descriptor.name)));
        }
        let Some(at) = self.position(&descriptor.name) else {
            let table = self.new_table(descriptor.clone(), true);
            self.tables.push(Some(table));
            return Ok(TableId(self.tables.len() - 1));
        };
        let table = self.table(TableId(at));
        if table.registered {
            return Err(Error::user("state.duplicate", format!("the state `{}` is registered twice", descriptor.name))
                .hint("state names must be unique within an operator: rename one of the two"));
        }
        check_schema(&table.descriptor, descriptor)?;
        table.registered = true;
        match &mut table.store {
            Store::Rows(rows) => rows.set_ttl(descriptor.ttl),
            Store::Ordered(entries) => entries.set_ttl(descriptor.ttl),
            Store::Values(values) => values.set_ttl(descriptor.ttl),
            Store::Lists(_) => {}
        }
        table.descriptor = descriptor.clone();
        Ok(TableId(at))
    }

    fn rows(&mut self, id: TableId) -> &mut dyn RowTable {
        self.touched();
        match &mut self.table(id).store {
            Store::Rows(rows) => rows.as_mut(),
            _ => panic!("state table {} was not registered as rows", id.0),
        }
    }

    fn values(&mut self, id: TableId) -> &mut dyn ValueTable {
        self.touched();
        match &mut self.table(id).store {
            Store::Values(values) => values.as_mut(),
            _ => panic!("state table {} was not registered as values", id.0),
        }
    }

    fn map(&mut self, id: TableId) -> &mut dyn MapTable {
        self.touched();
        match &mut self.table(id).store {
            Store::Ordered(entries) => entries.as_mut(),
            _ => panic!("state table {} was not registered as a map", id.0),
        }
    }

    fn lists(&mut self, id: TableId) -> &mut dyn ListTable {
        self.touched();
        match &mut self.table(id).store {
            Store::Lists(lists) => lists.as_mut(),
            _ => panic!("state table {} was not registered as lists", id.0),
        }
    }

    fn snapshot(&mut self, checkpoint: CheckpointId) -> Result<Option<Box<dyn KeyedSnapshot>>> {
        if self.tables.iter().flatten().next().is_none() {
            return Ok(None);
        }
        self.weigh();
        Ok(Some(Box::new(self.cut(checkpoint))))
    }

    fn notify(&mut self, checkpoint: CheckpointId, completed: bool) {
        if completed {
            self.confirm(checkpoint);
        } else {
            self.pending.remove(&checkpoint);
        }
    }
}
