//! Frames: which rows come and which leave before each result, and the rows that frames with a bound keep in state. Computes nothing.

use std::sync::Arc;

use arrow_array::ArrayRef;
use flott_core::error::{Error, Result};
use flott_core::key_group::KeyGroup;
use flott_core::operator::TARGET_BATCH_ROWS;
use flott_core::state::{KeyBatch, MapRange, NO_SLOT, StateBackend, TableDescriptor, TableId, TableKind};
use flott_plan::OverFrame;

use super::engine::{Engine, Events};
use super::waiting::{Waiting, time_bytes, time_of};
use crate::aggregate::{read_i64, write_i64};
use crate::keyed::{by_group, distinct};

/// Bytes of a partition's state row that frames with a bound own: the last time that gave results, and when its state goes away.
pub(super) const HEADER: usize = 16;

/// Rows in the order of their results.
pub(super) struct RowSet {
    /// All columns.
    pub(super) columns: Vec<ArrayRef>,
    /// Time and sequence number of each.
    pub(super) names: Vec<[u8; 16]>,
    /// Each as bytes, when the frame has a bound.
    pub(super) bytes: Vec<Arc<[u8]>>,
    /// Partition of each.
    pub(super) keys: KeyBatch,
}

/// What is to be computed for a set of rows.
#[derive(Default)]
pub(super) struct Plan {
    /// Rows that come and leave.
    pub(super) events: Events,
    /// The point of each row of the set.
    pub(super) point_of: Vec<u32>,
    /// Rows that left, out of state: they follow those of the set.
    pub(super) left: Vec<Arc<[u8]>>,
    /// The owner's bytes of each partition.
    pub(super) headers: Vec<Header>,
}

/// See [`HEADER`].
#[derive(Clone, Copy)]
pub(super) struct Header {
    pub(super) last: i64,
    pub(super) cleanup: i64,
}

impl Header {
    /// The header of a state row; zeros are before all times.
    pub(super) fn read(image: &[u8]) -> Self {
        Header { last: read_i64(image, 0) ^ i64::MIN, cleanup: read_i64(image, 8) ^ i64::MIN }
    }
    /// Writes it.
    pub(super) fn write(self, image: &mut [u8]) {
        write_i64(image, 0, self.last ^ i64::MIN);
        write_i64(image, 8, self.cleanup ^ i64::MIN);
    }
}

/// The frames of an operator.
pub(super) struct Frames {
    frame: OverFrame,
    /// Rows of one time have one result.
    peers: bool,
    /// State goes away so long after the last row: by the time of rows, or by the clock.
    keep_ms: Option<i64>,
    rows: Option<TableId>,
    /// Partitions, by the time when their state may go away.
    pub(super) expiry: Waiting,
}

/// One partition's part of a set.
struct Part<'a> {
    set: &'a RowSet,
    rows: &'a [u32],
    old: Vec<([u8; 16], Arc<[u8]>)>,
    /// The number of the first old row among the rows events point to.
    first_old: usize,
}

impl Part<'_> {
    /// Row number and name of row `i`, old ones first.
    fn item(&self, i: usize) -> (u32, [u8; 16]) {
        match self.old.get(i) {
            Some((name, _)) => ((self.first_old + i) as u32, *name),
            None => {
                let row = self.rows[i - self.old.len()];
                (row, self.set.names[row as usize])
            }
        }
    }
    fn len(&self) -> usize {
        self.old.len() + self.rows.len()
    }
    fn group_key(&self) -> (KeyGroup, &[u8]) {
        let row = self.rows[0] as usize;
        (self.set.keys.groups[row], self.set.keys.key(row))
    }
}

impl Frames {
    /// Frames of `frame`; `peers`: rows of one time have one result.
    pub(super) fn new(frame: OverFrame, peers: bool, ttl_ms: Option<i64>) -> Self {
        let keep_ms = if frame.rows { ttl_ms } else { frame.preceding };
        let keep_ms = keep_ms.filter(|_| frame.preceding.is_some());
        Frames { frame, peers, keep_ms, rows: None, expiry: Waiting::new("expiry") }
    }
    /// Whether rows leave.
    pub(super) fn is_bounded(&self) -> bool {
        self.frame.preceding.is_some()
    }
    /// Whether the clock says when state goes away, for frames of rows.
    pub(super) fn expires_by_clock(&self) -> bool {
        self.frame.rows && self.keep_ms.is_some()
    }
    /// Registers tables.
    pub(super) fn open(&mut self, types: &str, ctx: &mut flott_core::operator::OperatorContext) -> Result<()> {
        if self.is_bounded() {
            let (name, schema) = ("frame".to_owned(), format!("time,sequence:{types}"));
            self.rows = Some(ctx.state.register(&TableDescriptor { name, kind: TableKind::Map, schema, ttl: None })?);
        }
        match self.keep_ms {
            Some(_) => self.expiry.open("time,key".to_owned(), ctx),
            None => Ok(()),
        }
    }
    fn table(&self) -> Result<TableId> {
        self.rows.ok_or_else(|| Error::bug("an operator was used before it was opened"))
    }

    /// What comes and leaves for the rows of `set`. Rows are kept and removed in state at once.
    pub(super) fn plan(
        &mut self,
        set: &RowSet,
        engine: &Engine,
        now_ms: i64,
        state: &mut dyn StateBackend,
    ) -> Result<Plan> {
        let (rows, starts) = by_group(&set.keys);
        let rows_of_set = set.names.len();
        let mut plan = Plan { point_of: vec![0; rows_of_set], ..Plan::default() };
        plan.events.namespaces = vec![0];
        let mut slots = Vec::new();
        if self.is_bounded() {
            engine.slots(&set.keys, state, &mut slots)?;
        }
        for bounds in starts.windows(2) {
            let rows = &rows[bounds[0]..bounds[1]];
            let first_old = rows_of_set + plan.left.len();
            let mut part = Part { set, rows, old: Vec::new(), first_old };
            let Some(preceding) = self.frame.preceding else {
                self.unbounded(&part, &mut plan);
                continue;
            };
            let image = match slots[rows[0] as usize] {
                NO_SLOT => None,
                slot => Some(engine.row(slot, state)?),
            };
            let mut header = image.map_or(Header { last: i64::MIN, cleanup: i64::MIN }, Header::read);
            let count = image.map_or(0, |i| engine.layout.group_rows(i)) as usize;
            let last = time_of(&set.names[rows[rows.len() - 1] as usize])?;
            let gone = if self.frame.rows {
                let room = usize::try_from(preceding).unwrap_or(usize::MAX).saturating_add(1);
                let leave = (count + rows.len()).saturating_sub(room).min(count);
                part.old = self.oldest(part.group_key(), leave, None, state)?;
                self.by_rows(&part, count, room, &mut plan)
            } else {
                let before = last.saturating_sub(preceding);
                part.old = self.oldest(part.group_key(), usize::MAX, Some(before), state)?;
                self.by_range(&part, preceding, &mut plan)?
            };
            self.keep(&part, gone, state)?;
            header.last = last;
            let base = if self.frame.rows { now_ms } else { last };
            self.renew(&mut header, base, part.group_key(), state)?;
            plan.headers.push(header);
            plan.left.extend(part.old.into_iter().map(|(_, bytes)| bytes));
        }
        Ok(plan)
    }

    fn unbounded(&self, part: &Part<'_>, plan: &mut Plan) {
        for (i, &row) in part.rows.iter().enumerate() {
            let name = part.set.names[row as usize];
            plan.events.push(row, 1, name, &part.set.keys, row as usize);
            plan.point_of[row as usize] = plan.events.points.len() as u32;
            let next = part.rows.get(i + 1).map(|r| &part.set.names[*r as usize][..8]);
            if !self.peers || next != Some(&name[..8]) {
                plan.events.point();
            }
        }
    }

    /// Frames of up to `room` rows; how many left.
    fn by_rows(&self, part: &Part<'_>, count: usize, room: usize, plan: &mut Plan) -> usize {
        let (mut live, mut gone) = (count, 0);
        for &row in part.rows {
            if live == room {
                leave(part, gone, plan);
                (gone, live) = (gone + 1, live - 1);
            }
            come(part, row, plan);
            plan.events.point();
            live += 1;
        }
        gone
    }

    /// Frames of the last `preceding` milliseconds; how many rows left.
    fn by_range(&self, part: &Part<'_>, preceding: i64, plan: &mut Plan) -> Result<usize> {
        let mut gone = 0;
        let name = |i: usize| &part.set.names[part.rows[i] as usize];
        for i in 0..part.rows.len() {
            let time = time_of(name(i))?;
            let starts = i == 0 || name(i)[..8] != name(i - 1)[..8];
            let before = time.saturating_sub(preceding);
            while starts && gone < part.len() && time_of(&part.item(gone).1)? < before {
                leave(part, gone, plan);
                gone += 1;
            }
            come(part, part.rows[i], plan);
            if i + 1 == part.rows.len() || name(i)[..8] != name(i + 1)[..8] {
                plan.events.point();
            }
        }
        Ok(gone)
    }

    /// The first rows of a frame in state: so many at most, and those before a time.
    fn oldest(
        &self,
        (group, key): (KeyGroup, &[u8]),
        limit: usize,
        before: Option<i64>,
        state: &mut dyn StateBackend,
    ) -> Result<Vec<([u8; 16], Arc<[u8]>)>> {
        let (mut rows, mut after): (Vec<([u8; 16], Arc<[u8]>)>, Option<Vec<u8>>) = (Vec::new(), None);
        let mut entries = Vec::new();
        while rows.len() < limit {
            let range = MapRange { namespace: 0, group, key, prefix: &[], after: after.as_deref() };
            let more =
                state.map(self.table()?).scan(range, (limit - rows.len()).min(TARGET_BATCH_ROWS), &mut entries)?;
            after = entries.last().map(|(name, _)| name.clone());
            for (name, row) in entries.drain(..) {
                if before.is_some_and(|b| time_of(&name).is_ok_and(|t| t >= b)) {
                    return Ok(rows);
                }
                let name = name.as_slice().try_into().map_err(|_| damaged())?;
                rows.push((name, row));
            }
            if !more {
                break;
            }
        }
        Ok(rows)
    }

    /// Removes the first `gone` rows of a part from state, and keeps the new ones of the others.
    fn keep(&self, part: &Part<'_>, gone: usize, state: &mut dyn StateBackend) -> Result<()> {
        let (group, key) = part.group_key();
        let map = state.map(self.table()?);
        for (name, _) in &part.old[..gone.min(part.old.len())] {
            map.remove(0, group, key, name)?;
        }
        for &row in &part.rows[gone.saturating_sub(part.old.len())..] {
            map.put(0, group, key, &part.set.names[row as usize], &part.set.bytes[row as usize])?;
        }
        Ok(())
    }

    /// Puts the end of a partition's state off.
    fn renew(
        &mut self,
        header: &mut Header,
        base: i64,
        (group, key): (KeyGroup, &[u8]),
        state: &mut dyn StateBackend,
    ) -> Result<()> {
        let Some(keep) = self.keep_ms.filter(|k| header.cleanup < base.saturating_add(*k).saturating_add(1)) else {
            return Ok(());
        };
        header.cleanup = base.saturating_add(keep).saturating_add(keep / 2).saturating_add(1);
        let mut name = time_bytes(header.cleanup).to_vec();
        name.extend_from_slice(key);
        self.expiry.put(group, &name, &[], state)
    }

    /// Partitions whose state goes away by `until`: their rows, all of which leave. Nothing when it is too early for all.
    pub(super) fn expired(
        &mut self,
        until: i64,
        engine: &Engine,
        max_parallelism: u32,
        state: &mut dyn StateBackend,
    ) -> Result<(Events, Vec<Arc<[u8]>>)> {
        let due = self.expiry.take(until, state)?;
        let mut keys = KeyBatch::default();
        due.iter().for_each(|d| keys.push(&d.name[8..], max_parallelism));
        let mut slots = Vec::new();
        engine.slots(&keys, state, &mut slots)?;
        let (mut events, mut rows) = (Events { namespaces: vec![0], ..Events::default() }, Vec::new());
        let (_, first) = distinct(&keys);
        for i in first.into_iter().map(|i| i as usize) {
            if slots[i] == NO_SLOT || Header::read(engine.row(slots[i], state)?).cleanup > until {
                continue;
            }
            for (name, row) in self.oldest((keys.groups[i], keys.key(i)), usize::MAX, None, state)? {
                events.push(rows.len() as u32, -1, name, &keys, i);
                rows.push(row);
            }
            state.map(self.table()?).clear(0, keys.groups[i], keys.key(i))?;
        }
        Ok((events, rows))
    }
}

fn damaged() -> Error {
    Error::corrupt("state.row", "a row of an OVER frame in state is damaged")
}

fn come(part: &Part<'_>, row: u32, plan: &mut Plan) {
    plan.events.push(row, 1, part.set.names[row as usize], &part.set.keys, row as usize);
    plan.point_of[row as usize] = plan.events.points.len() as u32;
}

fn leave(part: &Part<'_>, i: usize, plan: &mut Plan) {
    let (row, name) = part.item(i);
    plan.events.push(row, -1, name, &part.set.keys, part.rows[0] as usize);
}
