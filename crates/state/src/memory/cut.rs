//! Cuts of the memory backend: what to keep from confirmed checkpoints, what to write, and writing it packed into chunks.
//! Never refers to a chunk of a checkpoint that was not confirmed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use flott_core::error::Result;
use flott_core::ids::CheckpointId;
use flott_core::key_group::{KeyGroup, KeyGroupRange};
use flott_core::snapshot::{ChunkRef, ChunkScope, ChunkWriter, KeyedSnapshot, KeyedStateHandle};
use flott_core::state::{TableDescriptor, Ttl};

use super::{MemoryStateBackend, Store, Table};
use crate::format::{CHUNK_HEADER_BYTES, FORMAT_NAME, FORMAT_VERSION, Manifest, UnitRef, chunk_header};
use crate::lists::codec as list_codec;
use crate::lists::segment::ListBlock;
use crate::ordered::codec as ordered_codec;
use crate::rows::codec::{RowUnit, Scratch};
use crate::rows::segment::{KeyBlock, RowBlock};
use crate::values::codec::ValueUnit;
use crate::values::segment::ValueBlock;

/// A chunk is stored once it has grown to this.
const CHUNK_BYTES: usize = 16 << 20;
/// From this many kept chunks on, those below `SMALL_CHUNK_BYTES` are rewritten into one.
const KEPT_CHUNKS_MAX: usize = 64;
const SMALL_CHUNK_BYTES: u64 = 1 << 20;

/// A chunk of a confirmed checkpoint.
struct StoredChunk {
    id: u64,
    chunk: ChunkRef,
    /// Bytes of all units in it.
    unit_bytes: u64,
}

/// Where a version of a unit lies.
#[derive(Clone)]
struct Stored {
    version: u64,
    checkpoint: CheckpointId,
    chunk: Arc<StoredChunk>,
    at: UnitRef,
}

/// What is known of the stored versions of a unit.
#[derive(Default)]
pub(super) struct UnitState {
    stored: Option<Stored>,
    /// The last checkpoint that wrote it, and the version it wrote.
    written: Option<(CheckpointId, u64)>,
}

/// What a cut wrote; empty until it is written.
#[derive(Default)]
pub(super) struct Outcome(Mutex<Option<WrittenCut>>);

struct WrittenCut {
    chunks: Vec<ChunkRef>,
    units: Vec<WrittenUnit>,
}

struct WrittenUnit {
    table: usize,
    unit: usize,
    version: u64,
    /// With `chunk` counting the chunks written by this cut.
    at: UnitRef,
}

enum Content {
    Rows { namespace: i64, width: usize, keys: Arc<KeyBlock>, rows: Arc<RowBlock> },
    Ordered { group: KeyGroup, entries: crate::ordered::Entries },
    Lists { namespace: i64, block: Arc<ListBlock> },
    Values { namespace: i64, keys: Arc<KeyBlock>, values: Arc<ValueBlock> },
}

/// Units to be written, by table and unit.
struct CutUnit {
    /// Index into the manifest's tables.
    listed: usize,
    table: usize,
    unit: usize,
    version: u64,
    content: Content,
}

struct CutTable {
    descriptor: TableDescriptor,
    ttl: Option<Ttl>,
}

/// The synchronous cut of a memory backend.
struct MemoryCut {
    key_groups: KeyGroupRange,
    max_parallelism: u32,
    now_ms: i64,
    scope: ChunkScope,
    tables: Vec<CutTable>,
    kept: Vec<(usize, Stored)>,
    fresh: Vec<CutUnit>,
    outcome: Arc<Outcome>,
}

impl Table {
    fn unit_count(&self) -> usize {
        match &self.store {
            Store::Rows(rows) => rows.unit_count(),
            Store::Ordered(entries) => entries.unit_count(),
            Store::Lists(lists) => lists.unit_count(),
            Store::Values(values) => values.unit_count(),
        }
    }
    fn unit_version(&self, unit: usize) -> Option<u64> {
        match &self.store {
            Store::Rows(rows) => rows.unit_version(unit),
            Store::Ordered(entries) => entries.unit_version(unit),
            Store::Lists(lists) => lists.unit_version(unit),
            Store::Values(values) => values.unit_version(unit),
        }
    }
    /// The unit's content and the reference counts that took.
    fn freeze(&mut self, unit: usize) -> (Content, usize) {
        match &mut self.store {
            Store::Rows(rows) => {
                let width = rows.width();
                let (namespace, keys, rows) = rows.freeze(unit);
                (Content::Rows { namespace, width, keys, rows }, 2)
            }
            Store::Ordered(entries) => {
                let (group, entries) = entries.freeze(unit);
                (Content::Ordered { group, entries }, 1)
            }
            Store::Lists(lists) => {
                let (namespace, block) = lists.freeze(unit);
                (Content::Lists { namespace, block }, 1)
            }
            Store::Values(values) => {
                let (namespace, keys, values) = values.freeze(unit);
                (Content::Values { namespace, keys, values }, 2)
            }
        }
    }
}

impl MemoryStateBackend {
    pub(super) fn cut(&mut self, checkpoint: CheckpointId) -> impl KeyedSnapshot + use<> {
        let given_up = if self.incremental { self.chunks_to_rewrite() } else { Vec::new() };
        let outcome = Arc::new(Outcome::default());
        let mut cut = MemoryCut {
            key_groups: self.key_groups,
            max_parallelism: self.max_parallelism,
            now_ms: self.clock.now_ms(),
            scope: if self.incremental { ChunkScope::Shared } else { ChunkScope::Exclusive },
            tables: Vec::new(),
            kept: Vec::new(),
            fresh: Vec::new(),
            outcome: outcome.clone(),
        };
        self.last_cut_shares = 0;
        for (id, table) in self.tables.iter_mut().enumerate() {
            let Some(table) = table else { continue };
            let listed = cut.tables.len();
            cut.tables.push(CutTable { descriptor: table.descriptor.clone(), ttl: table.descriptor.ttl });
            table.units.resize_with(table.unit_count(), UnitState::default);
            for unit in 0..table.unit_count() {
                let Some(version) = table.unit_version(unit) else { continue };
                let kept = table.units[unit].usable(version, &self.pending).filter(|_| self.incremental);
                if let Some(stored) = kept.filter(|s| given_up.binary_search(&s.chunk.id).is_err()) {
                    cut.kept.push((listed, stored.clone()));
                    continue;
                }
                let (content, shares) = table.freeze(unit);
                self.last_cut_shares += shares;
                table.units[unit].written = Some((checkpoint, version));
                cut.fresh.push(CutUnit { listed, table: id, unit, version, content });
            }
        }
        if self.incremental {
            self.pending.insert(checkpoint, outcome);
        }
        cut
    }

    /// Chunks, by ascending id, of which too little lives or which are too small and too many.
    fn chunks_to_rewrite(&self) -> Vec<u64> {
        let mut live: BTreeMap<u64, (u64, &StoredChunk)> = BTreeMap::new();
        for table in self.tables.iter().flatten() {
            for unit in 0..table.unit_count().min(table.units.len()) {
                let Some(version) = table.unit_version(unit) else { continue };
                if let Some(stored) = table.units[unit].usable(version, &self.pending) {
                    live.entry(stored.chunk.id).or_insert((0, stored.chunk.as_ref())).0 += stored.at.len;
                }
            }
        }
        let many = live.len() > KEPT_CHUNKS_MAX;
        let too_little = |(live, chunk): &(u64, &StoredChunk)| {
            live * 2 < chunk.unit_bytes || (many && chunk.chunk.len < SMALL_CHUNK_BYTES)
        };
        live.iter().filter(|(_, l)| too_little(l)).map(|(id, _)| *id).collect()
    }

    /// A checkpoint was published: later cuts may refer to what it wrote. Older ones are past.
    pub(super) fn confirm(&mut self, checkpoint: CheckpointId) {
        let outcome = self.pending.remove(&checkpoint);
        self.pending.retain(|id, _| *id > checkpoint);
        let Some(written) = outcome.and_then(|o| o.0.lock().unwrap_or_else(PoisonError::into_inner).take()) else {
            return;
        };
        let mut unit_bytes = vec![0; written.chunks.len()];
        for unit in &written.units {
            unit_bytes[unit.at.chunk as usize] += unit.at.len;
        }
        let chunks: Vec<Arc<StoredChunk>> = (self.chunks_known..)
            .zip(written.chunks)
            .zip(unit_bytes)
            .map(|((id, chunk), unit_bytes)| Arc::new(StoredChunk { id, chunk, unit_bytes }))
            .collect();
        self.chunks_known += chunks.len() as u64;
        for unit in written.units {
            let state = self.tables[unit.table].as_mut().and_then(|t| t.units.get_mut(unit.unit));
            if let Some(state) = state {
                let chunk = chunks[unit.at.chunk as usize].clone();
                state.stored = Some(Stored { version: unit.version, checkpoint, chunk, at: unit.at });
            }
        }
    }
}

impl UnitState {
    /// The stored form of `version`, if a later cut may refer to it.
    ///
    /// While a newer cut that wrote the same version again is undecided, it may not: once that one is published, the store may
    /// delete the older chunk before the cut that refers to it is published itself.
    fn usable(&self, version: u64, pending: &BTreeMap<CheckpointId, Arc<Outcome>>) -> Option<&Stored> {
        let stored = self.stored.as_ref().filter(|s| s.version == version)?;
        let (last, _) = self.written.filter(|(_, v)| *v == version)?;
        (last == stored.checkpoint || !pending.contains_key(&last)).then_some(stored)
    }
}

/// Chunks as they are filled and stored.
struct Packer<'a> {
    writer: &'a dyn ChunkWriter,
    scope: ChunkScope,
    open: Vec<u8>,
    chunks: Vec<ChunkRef>,
}

impl Packer<'_> {
    fn begin_unit(&mut self) -> usize {
        if self.open.is_empty() {
            self.open.extend_from_slice(&chunk_header());
        }
        self.open.len()
    }
    fn end_unit(&mut self) -> Result<()> {
        if self.open.len() >= CHUNK_BYTES { self.flush() } else { Ok(()) }
    }
    fn flush(&mut self) -> Result<()> {
        if self.open.len() > CHUNK_HEADER_BYTES {
            let capacity = self.open.len();
            let bytes =
                std::mem::replace(&mut self.open, Vec::with_capacity(capacity.min(CHUNK_BYTES + CHUNK_BYTES / 8)));
            self.chunks.push(self.writer.put(self.scope, Bytes::from(bytes))?);
        }
        Ok(())
    }
}

impl MemoryCut {
    fn encode(&self, unit: &CutUnit, scratch: &mut Scratch, out: &mut Vec<u8>) -> (u16, u16) {
        let ttl = self.tables[unit.listed].ttl;
        match &unit.content {
            Content::Rows { namespace, width, keys, rows } => {
                let (namespace, width) = (*namespace, *width);
                let expired_at_ms = ttl.map(|t| self.now_ms.saturating_sub(t.ttl_ms));
                let (key_groups, max_parallelism) = (self.key_groups, self.max_parallelism);
                RowUnit { namespace, width, keys, rows, expired_at_ms, key_groups, max_parallelism }
                    .encode(scratch, out)
            }
            Content::Ordered { group, entries } => {
                ordered_codec::encode(*group, entries, ttl.map(|_| self.now_ms), out);
                (*group, *group)
            }
            Content::Lists { namespace, block } => list_codec::encode(*namespace, block, self.max_parallelism, out),
            Content::Values { namespace, keys, values } => {
                let (namespace, max_parallelism) = (*namespace, self.max_parallelism);
                ValueUnit { namespace, keys, values, now_ms: ttl.map(|_| self.now_ms), max_parallelism }.encode(out)
            }
        }
    }
}

impl KeyedSnapshot for MemoryCut {
    fn write(mut self: Box<Self>, writer: &dyn ChunkWriter) -> Result<KeyedStateHandle> {
        let mut packer = Packer { writer, scope: self.scope, open: Vec::new(), chunks: Vec::new() };
        let mut scratch = Scratch::default();
        let mut units = Vec::with_capacity(self.fresh.len() + self.kept.len());
        let mut written = Vec::with_capacity(self.fresh.len());
        for unit in std::mem::take(&mut self.fresh) {
            let start = packer.begin_unit();
            let (first_group, last_group) = self.encode(&unit, &mut scratch, &mut packer.open);
            let len = (packer.open.len() - start) as u64;
            let (table, chunk, offset) = (unit.listed as u32, packer.chunks.len() as u32, start as u64);
            let at = UnitRef { table, chunk, offset, len, first_group, last_group };
            units.push(at);
            written.push(WrittenUnit { table: unit.table, unit: unit.unit, version: unit.version, at });
            packer.end_unit()?;
        }
        packer.flush()?;
        let fresh_chunks = packer.chunks;
        let written_bytes = fresh_chunks.iter().map(|c| c.len).sum();
        let mut chunks = fresh_chunks.clone();
        let mut listed: BTreeMap<u64, u32> = BTreeMap::new();
        for (table, stored) in &self.kept {
            let chunk = *listed.entry(stored.chunk.id).or_insert_with(|| {
                chunks.push(stored.chunk.chunk.clone());
                (chunks.len() - 1) as u32
            });
            units.push(UnitRef { table: *table as u32, chunk, ..stored.at });
        }
        let state_bytes = units.iter().map(|u| u.len).sum();
        let tables = self.tables.into_iter().map(|t| t.descriptor).collect();
        let descriptor = Manifest { max_parallelism: self.max_parallelism, tables, units }.encode()?;
        *self.outcome.0.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(WrittenCut { chunks: fresh_chunks, units: written });
        Ok(KeyedStateHandle {
            format: (FORMAT_NAME.to_owned(), FORMAT_VERSION),
            key_groups: self.key_groups,
            descriptor,
            chunks,
            state_bytes,
            written_bytes,
        })
    }
}
