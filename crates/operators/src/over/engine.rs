//! The functions of an OVER aggregation over sequences of rows that come and go, one sequence per partition: their results at given
//! points. Knows nothing of frames and times.

use std::sync::Arc;

use arrow_array::{ArrayRef, UInt32Array};
use flott_core::error::{Error, Result};
use flott_core::keys::RowCodec;
use flott_core::state::{KeyBatch, Slot, StateBackend, Ttl};
use flott_core::types::Column;
use flott_plan::{AggregateCall, OverCall, OverFunction};

use super::values::ValueFunction;
use crate::aggregate::{AggregateState, GroupKey, Input, Layout, finish};
use crate::group_aggregate::key_codec;

/// Sequences of rows, one partition behind the other.
#[derive(Default)]
pub(super) struct Events {
    /// The row of each event.
    pub(super) rows: Vec<u32>,
    /// Comes (+1) or leaves (−1).
    pub(super) signs: Vec<i64>,
    /// What tells the rows of a partition apart, ascending with their order.
    pub(super) names: Vec<[u8; 16]>,
    /// Ends of the parts after which results are wanted; a part is of one partition.
    pub(super) points: Vec<usize>,
    /// Partition of each event.
    pub(super) keys: KeyBatch,
    /// Namespace of all events, or of each.
    pub(super) namespaces: Vec<i64>,
}

impl Events {
    /// An event of a row with key number `key` of `keys`.
    pub(super) fn push(&mut self, row: u32, sign: i64, name: [u8; 16], keys: &KeyBatch, key: usize) {
        self.rows.push(row);
        self.signs.push(sign);
        self.names.push(name);
        if self.keys.offsets.is_empty() {
            self.keys.offsets.push(0);
        }
        self.keys.bytes.extend_from_slice(keys.key(key));
        self.keys.offsets.push(self.keys.bytes.len() as u32);
        self.keys.hashes.push(keys.hashes[key]);
        self.keys.groups.push(keys.groups[key]);
    }
    /// Results are wanted here.
    pub(super) fn point(&mut self) {
        self.points.push(self.rows.len());
    }
    /// Where the partition of an event lives.
    pub(super) fn at(&self, i: usize) -> GroupKey<'_> {
        let namespace = if self.namespaces.len() == 1 { self.namespaces[0] } else { self.namespaces[i] };
        GroupKey { namespace, group: self.keys.groups[i], key: self.keys.key(i) }
    }
}

/// Where a result comes from.
#[derive(Clone, Copy)]
enum Source {
    Aggregate(usize),
    Value(usize),
}

/// The functions with their state.
pub(super) struct Engine {
    partition: Vec<usize>,
    input: Vec<Column>,
    /// Partition keys.
    pub(super) codec: RowCodec,
    /// State rows: the owner's header, then the aggregates.
    pub(super) layout: Arc<Layout>,
    values: Vec<ValueFunction>,
    sources: Vec<Source>,
    used: Vec<usize>,
    state: Option<AggregateState>,
}

impl Engine {
    /// The functions of `calls`; `retracts`: rows leave frames. `header` bytes of each partition's state row are the owner's.
    pub(super) fn new(
        partition: &[usize],
        calls: &[OverCall],
        retracts: bool,
        header: usize,
        input: &[Column],
    ) -> Result<Self> {
        let (mut aggregates, mut values, mut sources) = (Vec::new(), Vec::new(), Vec::new());
        for (i, call) in calls.iter().enumerate() {
            match (call.function, call.arg) {
                (OverFunction::Aggregate(function), arg) => {
                    sources.push(Source::Aggregate(aggregates.len()));
                    aggregates.push(AggregateCall {
                        function,
                        user: call.user.clone(),
                        args: arg.into_iter().chain(call.more.iter().copied()).collect(),
                        arg_types: arg.iter().chain(&call.more).map(|&a| input[a].data_type.clone()).collect(),
                        distinct: call.distinct,
                        filter: None,
                        data_type: call.data_type.clone(),
                        name: format!("w0$o{i}"),
                    });
                }
                (function, Some(arg)) => {
                    sources.push(Source::Value(values.len()));
                    values.push(ValueFunction::new(function, arg, retracts, input)?);
                }
                (function, None) => return Err(Error::bug(format!("{function:?} has no argument"))),
            }
        }
        let layout = Arc::new(Layout::new(&aggregates, retracts, header)?);
        let mut used: Vec<usize> = partition.to_vec();
        used.extend(aggregates.iter().flat_map(|a| a.args.iter().copied()));
        used.sort_unstable();
        used.dedup();
        let (partition, codec) = (partition.to_vec(), key_codec(input, partition)?);
        Ok(Engine { partition, input: input.to_vec(), codec, layout, values, sources, used, state: None })
    }

    /// Registers tables.
    pub(super) fn open(&mut self, ttl: Option<Ttl>, state: &mut dyn StateBackend) -> Result<()> {
        self.state = Some(AggregateState::open(self.layout.clone(), &self.codec, &self.input, state, ttl)?);
        self.values.iter_mut().enumerate().try_for_each(|(i, v)| v.open(i, ttl, state))
    }

    /// The state rows of partitions, as far as they exist.
    pub(super) fn slots(&self, keys: &KeyBatch, state: &mut dyn StateBackend, slots: &mut Vec<Slot>) -> Result<()> {
        state.rows(self.opened()?.table).resolve(&[0], keys, false, slots)
    }
    /// A state row.
    pub(super) fn row<'a>(&self, slot: Slot, state: &'a mut dyn StateBackend) -> Result<&'a [u8]> {
        Ok(state.rows(self.opened()?.table).row(slot))
    }
    fn opened(&self) -> Result<&AggregateState> {
        self.state.as_ref().ok_or_else(|| Error::bug("an operator was used before it was opened"))
    }

    /// Takes the events and gives one column per call with a row per point. `columns` are those of the rows events point to. `header`
    /// changes the owner's bytes of each partition, numbered in the order of first appearance; partitions without rows are forgotten.
    pub(super) fn run(
        &mut self,
        columns: &[ArrayRef],
        events: &Events,
        max_parallelism: u32,
        header: &mut dyn FnMut(usize, &mut [u8]),
        state: &mut dyn StateBackend,
    ) -> Result<Vec<ArrayRef>> {
        let at = UInt32Array::from(events.rows.clone());
        let mut taken: Vec<ArrayRef> = columns.to_vec();
        for &column in &self.used {
            taken[column] = arrow_select::take::take(&columns[column], &at, None)?;
        }
        let key_columns: Vec<ArrayRef> = self.partition.iter().map(|&p| taken[p].clone()).collect();
        let leaves = events.signs.iter().any(|s| *s < 0);
        let input = Input {
            namespaces: &events.namespaces,
            keys: &events.keys,
            key_columns: &key_columns,
            columns: &taken,
            signs: leaves.then_some(events.signs.as_slice()),
            rows: events.rows.len(),
            max_parallelism,
        };
        let aggregates = self.state.as_mut().ok_or_else(|| Error::bug("an operator was used before it was opened"))?;
        let running = aggregates.run(&input, &events.points, state)?;
        let results = finish(&self.layout, &running.images, &running.beside)?;
        let values = self.values.iter().map(|v| v.run(columns, events, &aggregates.groups.gids, state));
        let values = values.collect::<Result<Vec<_>>>()?;
        aggregates.store(&input, header, state)?;
        let result = |source: &Source| match source {
            Source::Aggregate(i) => results[*i].clone(),
            Source::Value(i) => values[*i].clone(),
        };
        Ok(self.sources.iter().map(result).collect())
    }

    /// Drops a namespace that held the partitions of `events`.
    pub(super) fn forget(&mut self, events: &Events, namespaces: &[i64], state: &mut dyn StateBackend) -> Result<()> {
        let aggregates = self.state.as_mut().ok_or_else(|| Error::bug("an operator was used before it was opened"))?;
        let mut last: Option<usize> = None;
        for i in 0..events.rows.len() {
            let same =
                |l: usize| events.keys.key(l) == events.keys.key(i) && events.at(l).namespace == events.at(i).namespace;
            if !last.is_some_and(same) {
                if aggregates.has_beside() {
                    aggregates.forget_beside(events.at(i), state)?;
                }
                self.values.iter().try_for_each(|v| v.forget(events.at(i), state))?;
            }
            last = Some(i);
        }
        namespaces.iter().for_each(|n| aggregates.drop_namespace(*n, state));
        Ok(())
    }
}
