//! FIRST_VALUE, LAST_VALUE and LAG while rows come and go: values of any type, as bytes in state per partition.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef};
use flott_core::error::{Error, Result};
use flott_core::keys::RowCodec;
use flott_core::state::{MapRange, StateBackend, TableDescriptor, TableId, TableKind, Ttl};
use flott_core::types::Column;
use flott_plan::OverFunction;

use super::engine::Events;
use crate::aggregate::GroupKey;
use crate::group_aggregate::key_codec;
use crate::keyed::{push_prefixed, split_prefixed};

/// One such function. State: of FIRST_VALUE over a frame that rows leave, name of a row → value, for values that are not NULL; of the
/// others a list, each with its length: the name and the value of FIRST_VALUE and LAST_VALUE, the last values of LAG.
pub(super) struct ValueFunction {
    function: OverFunction,
    arg: usize,
    codec: RowCodec,
    type_text: String,
    /// Rows leave the frame.
    bounded: bool,
    table: Option<TableId>,
}

impl ValueFunction {
    /// `function` of column `arg`.
    pub(super) fn new(function: OverFunction, arg: usize, bounded: bool, input: &[Column]) -> Result<Self> {
        let (codec, type_text) = (key_codec(input, &[arg])?, input[arg].data_type.kind.to_string());
        Ok(ValueFunction { function, arg, codec, type_text, bounded, table: None })
    }
    fn is_map(&self) -> bool {
        self.bounded && self.function == OverFunction::FirstValue
    }
    /// Registers its table.
    pub(super) fn open(&mut self, index: usize, ttl: Option<Ttl>, state: &mut dyn StateBackend) -> Result<()> {
        let kind = if self.is_map() { TableKind::Map } else { TableKind::Values };
        let (name, schema) = (format!("function-{index}"), format!("{:?} of {}", self.function, self.type_text));
        self.table = Some(state.register(&TableDescriptor { name, kind, schema, ttl })?);
        Ok(())
    }
    fn table(&self) -> Result<TableId> {
        self.table.ok_or_else(|| Error::bug("an operator was used before it was opened"))
    }

    /// The value at each point. `columns` are those of the rows that events point to; `gids` the group of each event.
    pub(super) fn run(
        &self,
        columns: &[ArrayRef],
        events: &Events,
        gids: &[u32],
        state: &mut dyn StateBackend,
    ) -> Result<ArrayRef> {
        let encoded = Encoded::new(&self.codec, &columns[self.arg])?;
        let null = [0u8];
        let mut out: Vec<Arc<[u8]>> = Vec::with_capacity(events.points.len());
        let defaults = match self.function {
            OverFunction::Lag { default: Some(column), .. } => Some(Encoded::new(&self.codec, &columns[column])?),
            _ => None,
        };
        let mut held: Vec<Option<VecDeque<Vec<u8>>>> = Vec::new();
        let mut first: Vec<usize> = Vec::new();
        let mut from = 0;
        for &to in &events.points {
            for (i, &gid) in gids.iter().enumerate().take(to).skip(from) {
                let (group, row) = (gid as usize, events.rows[i] as usize);
                let value = (!columns[self.arg].is_null(row)).then(|| encoded.row(row));
                if self.is_map() {
                    self.change(events, i, value, state)?;
                    continue;
                }
                if held.len() <= group {
                    held.resize(group + 1, None);
                    first.resize(group + 1, 0);
                }
                if held[group].is_none() {
                    held[group] = Some(self.load(events.at(i), state)?);
                    first[group] = i;
                }
                if let Some(list) = &mut held[group] {
                    self.remember(list, events, i, value);
                }
            }
            let last = to - 1;
            let list = held.get(gids[last] as usize).and_then(Option::as_ref);
            out.push(match (self.function, list) {
                _ if self.is_map() => self.first(events.at(last), state)?.unwrap_or_else(|| null.into()),
                (OverFunction::Lag { offset, .. }, Some(list)) => match list.len().checked_sub(offset as usize + 1) {
                    Some(i) => list[i].as_slice().into(),
                    None => defaults.as_ref().map_or(&null[..], |d| d.row(events.rows[last] as usize)).into(),
                },
                (_, Some(list)) => list.get(1).map_or(&null[..], Vec::as_slice).into(),
                (_, None) => null.into(),
            });
            from = to;
        }
        self.finish(from, events, state)?;
        for (group, list) in held.iter().enumerate().filter_map(|(g, l)| l.as_ref().map(|l| (g, l))) {
            self.save(list, events.at(first[group]), state)?;
        }
        let mut columns = self.codec.decode(out.iter().map(|v| &**v))?;
        columns.pop().ok_or_else(|| Error::bug("a codec of one column gave none"))
    }

    /// Rows behind the last point: they only leave.
    fn finish(&self, from: usize, events: &Events, state: &mut dyn StateBackend) -> Result<()> {
        for i in from..events.rows.len() {
            let at = events.at(i);
            match self.is_map() {
                true => state.map(self.table()?).remove(at.namespace, at.group, at.key, &events.names[i])?,
                false => state.values(self.table()?).remove(at.namespace, at.group, at.key)?,
            }
        }
        Ok(())
    }

    fn change(&self, events: &Events, i: usize, value: Option<&[u8]>, state: &mut dyn StateBackend) -> Result<()> {
        let (Some(value), at) = (value, events.at(i)) else { return Ok(()) };
        let map = state.map(self.table()?);
        match events.signs[i] > 0 {
            true => map.put(at.namespace, at.group, at.key, &events.names[i], value),
            false => map.remove(at.namespace, at.group, at.key, &events.names[i]),
        }
    }

    fn first(&self, at: GroupKey<'_>, state: &mut dyn StateBackend) -> Result<Option<Arc<[u8]>>> {
        let range = MapRange { namespace: at.namespace, group: at.group, key: at.key, prefix: &[], after: None };
        let mut entries = Vec::new();
        state.map(self.table()?).scan(range, 1, &mut entries)?;
        Ok(entries.pop().map(|(_, value)| value))
    }

    fn remember(&self, list: &mut VecDeque<Vec<u8>>, events: &Events, i: usize, value: Option<&[u8]>) {
        let pair = |value: &[u8]| [events.names[i].to_vec(), value.to_vec()].into();
        match (self.function, value) {
            (OverFunction::Lag { offset, .. }, value) => {
                list.push_back(value.unwrap_or(&[0]).to_vec());
                if list.len() > offset as usize + 1 {
                    list.pop_front();
                }
            }
            // Rows leave in the order they came: no other value is left.
            _ if events.signs[i] < 0 && list.front().is_some_and(|name| **name == events.names[i]) => list.clear(),
            _ if events.signs[i] < 0 => {}
            (OverFunction::LastValue, Some(value)) => *list = pair(value),
            (OverFunction::FirstValue, Some(value)) if list.is_empty() => *list = pair(value),
            _ => {}
        }
    }

    fn load(&self, at: GroupKey<'_>, state: &mut dyn StateBackend) -> Result<VecDeque<Vec<u8>>> {
        let stored = state.values(self.table()?).get(at.namespace, at.group, at.key)?;
        let (mut rest, mut list) = (stored.as_deref().unwrap_or_default(), VecDeque::new());
        while !rest.is_empty() {
            let (value, behind) = split_prefixed(rest)?;
            list.push_back(value.to_vec());
            rest = behind;
        }
        Ok(list)
    }

    fn save(&self, list: &VecDeque<Vec<u8>>, at: GroupKey<'_>, state: &mut dyn StateBackend) -> Result<()> {
        let table = state.values(self.table()?);
        if list.is_empty() {
            return table.remove(at.namespace, at.group, at.key);
        }
        let mut bytes = Vec::new();
        list.iter().try_for_each(|value| push_prefixed(&mut bytes, value))?;
        table.put(at.namespace, at.group, at.key, &bytes)
    }

    /// Forgets a partition.
    pub(super) fn forget(&self, at: GroupKey<'_>, state: &mut dyn StateBackend) -> Result<()> {
        match self.is_map() {
            true => state.map(self.table()?).clear(at.namespace, at.group, at.key),
            false => state.values(self.table()?).remove(at.namespace, at.group, at.key),
        }
    }
}

/// A column, each value as bytes.
struct Encoded {
    offsets: Vec<u32>,
    bytes: Vec<u8>,
}

impl Encoded {
    fn new(codec: &RowCodec, column: &ArrayRef) -> Result<Self> {
        let (mut offsets, mut bytes) = (Vec::new(), Vec::new());
        codec.encode_rows(std::slice::from_ref(column), &mut offsets, &mut bytes)?;
        Ok(Encoded { offsets, bytes })
    }
    fn row(&self, row: usize) -> &[u8] {
        &self.bytes[self.offsets[row] as usize..self.offsets[row + 1] as usize]
    }
}
