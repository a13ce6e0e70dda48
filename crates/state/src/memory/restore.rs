//! Reading stored state back: only chunks and key groups that this backend needs. Never trusts what it reads.

use flott_core::error::{Error, Result};
use flott_core::snapshot::{ChunkReader, KeyedStateHandle};
use flott_core::state::TableDescriptor;

use super::{MemoryStateBackend, Store};
use crate::format::{CHUNK_HEADER_BYTES, FORMAT_NAME, FORMAT_VERSION, Manifest, UnitRef, check_chunk_header, corrupt};
use crate::lists::codec as list_codec;
use crate::ordered::codec as ordered_codec;
use crate::rows::codec as row_codec;
use crate::values::codec as value_codec;

impl MemoryStateBackend {
    pub(super) fn restore_handle(&mut self, handle: &KeyedStateHandle, reader: &dyn ChunkReader) -> Result<()> {
        let (format, version) = (&handle.format.0, handle.format.1);
        if format != FORMAT_NAME || version != FORMAT_VERSION {
            return Err(Error::user(
                "state.format",
                "the keyed state is stored in a format that this backend cannot read",
            )
            .detail(format!("found `{format}` version {version}, expected `{FORMAT_NAME}` version {FORMAT_VERSION}"))
            .hint("restore with the version of Flott and the state backend that wrote the checkpoint"));
        }
        let manifest = Manifest::decode(&handle.descriptor)?;
        if manifest.max_parallelism != self.max_parallelism {
            return Err(Error::user("state.max_parallelism", "the max parallelism of the job has changed")
                .detail(format!(
                    "the checkpoint has {} key groups, the job {}",
                    manifest.max_parallelism, self.max_parallelism
                ))
                .hint("set `pipeline.max-parallelism` to the number of the checkpoint"));
        }
        let tables = manifest.tables.iter().map(|t| self.restored_table(t)).collect::<Result<Vec<usize>>>()?;
        let mut units: Vec<UnitRef> = manifest.units;
        units.sort_by_key(|u| (u.chunk, u.offset));
        for units in units.chunk_by(|a, b| a.chunk == b.chunk) {
            let mine = |u: &&UnitRef| {
                u32::from(u.first_group) < self.key_groups.end && u32::from(u.last_group) >= self.key_groups.start
            };
            let units: Vec<UnitRef> = units.iter().filter(mine).copied().collect();
            if !units.is_empty() {
                self.restore_chunk(handle, &tables, &units, reader)?;
            }
        }
        Ok(())
    }

    /// The table that takes up what is stored under a descriptor.
    fn restored_table(&mut self, stored: &TableDescriptor) -> Result<usize> {
        if let Some(at) = self.position(&stored.name) {
            let known = &self.tables[at].as_ref().expect("position finds live tables").descriptor;
            if known.kind != stored.kind || known.schema != stored.schema {
                return Err(corrupt(format!("two parts of the state `{}` disagree about its schema", stored.name)));
            }
            return Ok(at);
        }
        let table = self.new_table(stored.clone(), false);
        self.tables.push(Some(table));
        Ok(self.tables.len() - 1)
    }

    fn restore_chunk(
        &mut self,
        handle: &KeyedStateHandle,
        tables: &[usize],
        units: &[UnitRef],
        reader: &dyn ChunkReader,
    ) -> Result<()> {
        let chunk = handle.chunks.get(units[0].chunk as usize);
        let chunk = chunk.ok_or_else(|| corrupt("a state manifest refers to a chunk that is not listed"))?;
        let bytes = reader.get(chunk)?;
        if bytes.len() as u64 != chunk.len {
            return Err(corrupt(format!("a state chunk has {} bytes instead of {}", bytes.len(), chunk.len)));
        }
        check_chunk_header(&bytes)?;
        for unit in units {
            let start = usize::try_from(unit.offset).ok().filter(|s| *s >= CHUNK_HEADER_BYTES);
            let end = unit.offset.checked_add(unit.len).and_then(|e| usize::try_from(e).ok());
            let body = start.zip(end).and_then(|(start, end)| bytes.get(start..end));
            let body = body.ok_or_else(|| corrupt("a state manifest refers to bytes beyond the end of a chunk"))?;
            let table = tables.get(unit.table as usize);
            let table = *table.ok_or_else(|| corrupt("a state manifest refers to a table that is not listed"))?;
            self.restore_unit(handle, table, body)?;
        }
        Ok(())
    }

    fn restore_unit(&mut self, handle: &KeyedStateHandle, table: usize, body: &[u8]) -> Result<()> {
        let keep = self.key_groups.intersect(&handle.key_groups);
        let max_parallelism = self.max_parallelism;
        let table = self.tables[table].as_mut().expect("restored just now");
        let restored = match &mut table.store {
            Store::Rows(rows) => row_codec::restore(body, keep, max_parallelism, rows),
            Store::Lists(lists) => list_codec::restore(body, keep, max_parallelism, lists),
            Store::Ordered(entries) => ordered_codec::restore(body, keep, entries),
            Store::Values(values) => value_codec::restore(body, keep, max_parallelism, values),
        };
        restored.map_err(|e| e.context(format!("state `{}`", table.descriptor.name)))
    }
}
