//! MIN and MAX that do not fit in a row: strings kept beside it, and value multisets for inputs that retract.

use std::sync::Arc;

use flott_core::error::{Error, Result};
use flott_core::key_group::KeyGroup;
use flott_core::state::{MapRange, StateBackend, TableDescriptor, TableId, TableKind, Ttl};

use super::finish::Beside;
use super::layout::{Layout, read_i64};
use super::update::RowsView;
use super::values::{Form, Values};

/// Tables of values kept beside rows, and of multisets.
#[derive(Default)]
pub(crate) struct Extrema {
    beside: Vec<TableId>,
    multisets: Vec<TableId>,
}

/// Where a group lives.
#[derive(Clone, Copy)]
pub(crate) struct GroupKey<'a> {
    /// Namespace.
    pub namespace: i64,
    /// Key group.
    pub group: KeyGroup,
    /// Key bytes.
    pub key: &'a [u8],
}

impl Extrema {
    /// Registers the tables.
    pub(crate) fn open(layout: &Layout, state: &mut dyn StateBackend, ttl: Option<Ttl>) -> Result<Self> {
        let mut register = |name: String, kind, schema: &str| {
            state.register(&TableDescriptor { name, kind, schema: schema.to_owned(), ttl })
        };
        let beside = (0..layout.beside).map(|i| register(format!("extreme-{i}"), TableKind::Values, "value"));
        let beside = beside.collect::<Result<_>>()?;
        let sets = (0..layout.multisets).map(|i| register(format!("values-{i}"), TableKind::Map, "order:count,value"));
        Ok(Extrema { beside, multisets: sets.collect::<Result<_>>()? })
    }
    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.beside.is_empty() && self.multisets.is_empty()
    }
    /// The values beside the rows of a group.
    pub(crate) fn load(&self, at: GroupKey<'_>, state: &mut dyn StateBackend) -> Result<Vec<Beside>> {
        self.beside.iter().map(|&t| state.values(t).get(at.namespace, at.group, at.key)).collect()
    }
    /// Sets the values of one accumulator that changed.
    pub(crate) fn store(&self, index: usize, at: GroupKey<'_>, v: &Beside, state: &mut dyn StateBackend) -> Result<()> {
        let table = state.values(self.beside[index]);
        match v {
            Some(v) => table.put(at.namespace, at.group, at.key, v),
            None => table.remove(at.namespace, at.group, at.key),
        }
    }
    /// Forgets a group.
    pub(crate) fn remove(&self, at: GroupKey<'_>, state: &mut dyn StateBackend) -> Result<()> {
        for &t in &self.beside {
            state.values(t).remove(at.namespace, at.group, at.key)?;
        }
        for &t in &self.multisets {
            state.map(t).clear(at.namespace, at.group, at.key)?;
        }
        Ok(())
    }
    /// Adds the rows of a batch to a multiset, or takes them out.
    pub(crate) fn count<'k>(
        &self,
        index: usize,
        max: bool,
        values: &Values,
        rows: &RowsView<'_>,
        key_of: impl Fn(usize) -> GroupKey<'k>,
        state: &mut dyn StateBackend,
    ) -> Result<()> {
        let table = state.map(self.multisets[index]);
        let (mut entry, mut value, mut failed) = (Vec::new(), Vec::new(), None);
        rows.for_each(|i, _, sign| {
            if failed.is_some() {
                return;
            }
            order_bytes(values, i, max, &mut entry);
            let at = key_of(i);
            let mut change = || -> Result<()> {
                let old = table.get(at.namespace, at.group, at.key, &entry)?;
                let count = old.as_deref().map_or(0, |v| read_i64(v, 0)) + sign;
                if count == 0 {
                    return table.remove(at.namespace, at.group, at.key, &entry);
                }
                value.clear();
                value.extend_from_slice(&count.to_le_bytes());
                raw_bytes(values, i, &mut value);
                table.put(at.namespace, at.group, at.key, &entry, &value)
            };
            failed = change().err();
        });
        failed.map_or(Ok(()), Err)
    }
    /// The first value of a multiset that is there at least once: little-endian for numbers, plain for strings.
    pub(crate) fn first(&self, index: usize, at: GroupKey<'_>, state: &mut dyn StateBackend) -> Result<Beside> {
        let mut entries: Vec<(Vec<u8>, Arc<[u8]>)> = Vec::new();
        let mut after: Option<Vec<u8>> = None;
        loop {
            let range = MapRange {
                namespace: at.namespace,
                group: at.group,
                key: at.key,
                prefix: &[],
                after: after.as_deref(),
            };
            let more = state.map(self.multisets[index]).scan(range, 1, &mut entries)?;
            let Some((entry, value)) = entries.pop() else { return Ok(None) };
            if value.len() < 8 {
                return Err(Error::corrupt("state.row", "a value of MIN or MAX in state is too short"));
            }
            // A value retracted before it came has a negative count.
            if read_i64(&value, 0) > 0 {
                return Ok(Some(value[8..].into()));
            }
            if !more {
                return Ok(None);
            }
            after = Some(entry);
        }
    }
}

fn raw_bytes(values: &Values, i: usize, out: &mut Vec<u8>) {
    match values {
        Values::Int(v) => out.extend_from_slice(&v[i].to_le_bytes()),
        Values::Float(v) => out.extend_from_slice(&v[i].to_bits().to_le_bytes()),
        Values::Decimal(v) => out.extend_from_slice(&v[i].to_le_bytes()),
        Values::Bytes { .. } => out.extend_from_slice(values.bytes(i)),
    }
}

/// Bytes that sort as the values do, or in reverse for MAX, so that the extreme is the first entry.
fn order_bytes(values: &Values, i: usize, max: bool, out: &mut Vec<u8>) {
    out.clear();
    match values {
        Values::Int(v) => out.extend_from_slice(&(v[i] as u64 ^ (1 << 63)).to_be_bytes()),
        Values::Float(v) => {
            let bits = v[i].to_bits();
            let ordered = if bits >> 63 == 1 { !bits } else { bits ^ (1 << 63) };
            out.extend_from_slice(&ordered.to_be_bytes());
        }
        Values::Decimal(v) => out.extend_from_slice(&(v[i] as u128 ^ (1 << 127)).to_be_bytes()),
        Values::Bytes { .. } if !max => out.extend_from_slice(values.bytes(i)),
        Values::Bytes { .. } => {
            // Terminated, so that a prefix comes last once the bytes are inverted.
            for &b in values.bytes(i) {
                out.push(b);
                if b == 0 {
                    out.push(0xFF);
                }
            }
            out.extend_from_slice(&[0, 0]);
        }
    }
    if max {
        out.iter_mut().for_each(|b| *b = !*b);
    }
}

/// Bytes of a fixed-width extreme in its row.
pub(crate) fn fixed_width(form: Form) -> usize {
    if form == Form::Decimal { 16 } else { 8 }
}
