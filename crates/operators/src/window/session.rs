//! SESSION aggregation: per key, rows closer than the gap form one session. The first open session of a key lives in
//! namespace 0, further ones in namespaces 1, 2, …; an end-ordered heap of timers is derived and rebuilt at restore.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use arrow_array::ArrayRef;
use arrow_buffer::BooleanBuffer;
use flott_core::batch::ChangeBatch;
use flott_core::error::{Error, Result};
use flott_core::key_group::{key_group_of, key_hash};
use flott_core::operator::{Operator, OperatorContext, OperatorEvent, OperatorProperties, Progress, TARGET_BATCH_ROWS};
use flott_core::state::{KeyBatch, NO_SLOT, Slot, StateBackend, TableId};
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use super::progress::{Tracker, fires_up_to};
use super::properties::Rows;
use super::{Common, row_times};
use crate::aggregate::{
    AggregateState, Beside, GroupKey, Grouping, merge_beside, merge_image, read_i64, update_beside, update_images,
    write_i64,
};
use crate::emit::Pending;
use crate::group_aggregate::encode_keys;

/// Bytes before the accumulators: time of the first and of the last row.
pub(crate) const HEADER: usize = 16;
const NONE: u32 = u32::MAX;
const NEW: i64 = i64::MAX;

/// By slot.
pub(super) type SlotMap<V> = HashMap<Slot, V, std::hash::BuildHasherDefault<SlotHasher>>;

/// Slots are dense: one multiplication spreads them.
#[derive(Default)]
pub(super) struct SlotHasher(u64);

impl std::hash::Hasher for SlotHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|b| self.write_u32(u32::from(*b)));
    }
    fn write_u32(&mut self, n: u32) {
        self.0 = (self.0 ^ u64::from(n)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 ^= self.0 >> 32;
    }
}

/// The operator.
pub(crate) struct SessionAggregate {
    common: Common,
    gap: i64,
    table: TableId,
    /// Tables of the values beside the rows.
    aggregates: Option<AggregateState>,
    tracker: Tracker,
    target: i64,
    /// When to look at a session again; one valid entry per open session, see `scheduled`.
    timers: BinaryHeap<Reverse<(i64, Slot)>>,
    scheduled: SlotMap<i64>,
    /// Further sessions of a key: slot in namespace 0 → (namespace, slot).
    further: SlotMap<Vec<(i64, Slot)>>,
    /// The way back.
    first_of: SlotMap<Slot>,
    groups: Grouping,
    keys: KeyBatch,
    slots: Vec<Slot>,
    pending: Pending,
}

/// A session while a batch is worked in.
struct Live {
    start: i64,
    last: i64,
    /// Namespace, or [`NEW`].
    namespace: i64,
    slot: Slot,
    group: u32,
    /// Next session of the same key, or [`NONE`].
    next: u32,
    /// The session this one became part of, or [`NONE`].
    into: u32,
}

impl SessionAggregate {
    /// The operator for sessions with this gap.
    pub(crate) fn new(common: Common, gap: i64) -> Result<Self> {
        let same = |a: &[usize], b: &[usize]| a.iter().all(|x| b.contains(x));
        let partition = &common.window.partition;
        if !common.layout.distinct.is_empty() || common.layout.multisets > 0 {
            return Err(Error::bug("aggregates that do not merge were planned over sessions without their rows"));
        }
        if !(same(partition, &common.group) && same(&common.group, partition)) {
            return Err(Error::bug("sessions were planned for keys other than their own"));
        }
        Ok(SessionAggregate {
            common,
            gap,
            table: TableId(0),
            aggregates: None,
            tracker: Tracker::new(),
            target: i64::MIN,
            timers: BinaryHeap::new(),
            scheduled: SlotMap::default(),
            further: SlotMap::default(),
            first_of: SlotMap::default(),
            groups: Grouping::default(),
            keys: KeyBatch::default(),
            slots: Vec::new(),
            pending: Pending::default(),
        })
    }

    /// The open sessions of the keys of the batch, and the first of each key.
    fn load(&self, state: &mut dyn StateBackend) -> (Vec<Live>, Vec<u32>, Vec<u8>) {
        let width = self.common.layout.width;
        let (mut live, mut heads) = (Vec::with_capacity(self.groups.len()), vec![NONE; self.groups.len()]);
        let mut images = Vec::with_capacity(self.groups.images.len());
        let mut add = |group: usize, namespace, slot, image: &[u8]| {
            let (start, last) = (read_i64(image, 0), read_i64(image, 8));
            let next = std::mem::replace(&mut heads[group], live.len() as u32);
            live.push(Live { start, last, namespace, slot, group: group as u32, next, into: NONE });
            images.extend_from_slice(image);
        };
        for (group, image) in self.groups.images.chunks_exact(width).enumerate() {
            if self.common.layout.group_rows(image) > 0 {
                add(group, 0, self.groups.slots[group], image);
            }
        }
        if !self.further.is_empty() {
            let table = state.rows(self.table);
            for (group, slot) in self.groups.slots.iter().enumerate() {
                for &(namespace, slot) in self.further.get(slot).into_iter().flatten() {
                    add(group, namespace, slot, table.row(slot));
                }
            }
        }
        (live, heads, images)
    }

    /// The key of a session's group, and where its values lie.
    fn at(&self, group: u32, namespace: i64) -> GroupKey<'_> {
        let row = self.groups.first_rows[group as usize] as usize;
        GroupKey { namespace, group: self.keys.groups[row], key: self.keys.key(row) }
    }

    /// The values beside the rows of the open sessions, by accumulator, then session.
    fn load_beside(&self, live: &[Live], state: &mut dyn StateBackend) -> Result<Vec<Vec<Beside>>> {
        let mut beside = vec![Vec::with_capacity(live.len()); self.common.layout.beside];
        if beside.is_empty() {
            return Ok(beside);
        }
        let aggregates = self.aggregates.as_ref().expect("opened");
        for session in live {
            let values = aggregates.load(self.at(session.group, session.namespace), state)?;
            beside.iter_mut().zip(values).for_each(|(column, v)| column.push(v));
        }
        Ok(beside)
    }

    /// Adds image and values of session `i` to the one it became part of.
    fn merge(&self, live: &[Live], i: usize, images: &mut [u8], beside: &mut [Vec<Beside>]) -> Result<()> {
        let (layout, width) = (&self.common.layout, self.common.layout.width);
        let target = root(live, i as u32) as usize;
        let source = images[i * width..(i + 1) * width].to_vec();
        if !beside.is_empty() {
            let of = |k: usize| -> Vec<Beside> { beside.iter().map(|v| v[k].clone()).collect() };
            let earlier = read_i64(&source, 0) < read_i64(&images[target * width..], 0);
            let (a, b) = if earlier { (of(i), of(target)) } else { (of(target), of(i)) };
            let merged = merge_beside(layout, &a, &b)?;
            beside.iter_mut().zip(merged).for_each(|(column, v)| column[target] = v);
        }
        merge_image(layout, &mut images[target * width..(target + 1) * width], &source);
        Ok(())
    }

    /// Writes the values of the sessions that are left; `store` has given new ones their namespace.
    fn store_beside(&self, live: &[Live], beside: &[Vec<Beside>], state: &mut dyn StateBackend) -> Result<()> {
        if beside.is_empty() {
            return Ok(());
        }
        let aggregates = self.aggregates.as_ref().expect("opened");
        for (i, session) in live.iter().enumerate().filter(|(_, s)| s.into == NONE) {
            let values: Vec<Beside> = beside.iter().map(|column| column[i].clone()).collect();
            aggregates.store_beside(self.at(session.group, session.namespace), &values, state)?;
        }
        Ok(())
    }

    /// Puts each row into a session: its number, or [`NONE`] for late rows.
    fn place(&self, times: &[i64], live: &mut Vec<Live>, heads: &mut [u32]) -> Vec<u32> {
        let place = |(&group, &time): (&u32, &i64)| {
            let head = &mut heads[group as usize];
            let (mut found, mut at) = (NONE, *head);
            while at != NONE {
                let (session, next) = (&live[at as usize], live[at as usize].next);
                let touches = session.into == NONE
                    && time <= session.last.saturating_add(self.gap)
                    && time.saturating_add(self.gap) >= session.start;
                if touches {
                    found = if found == NONE { at } else { unite(live, found, at) };
                    let session = &mut live[found as usize];
                    (session.start, session.last) = (session.start.min(time), session.last.max(time));
                }
                at = next;
            }
            if found == NONE {
                if self.tracker.has_fired(time.saturating_add(self.gap), &self.common.shift) {
                    return NONE;
                }
                found = live.len() as u32;
                let next = std::mem::replace(head, found);
                live.push(Live { start: time, last: time, namespace: NEW, slot: NO_SLOT, group, next, into: NONE });
            }
            found
        };
        self.groups.gids.iter().zip(times).map(place).collect()
    }

    /// Writes the sessions of the batch back; those that became part of another one go away.
    fn store(&mut self, live: &mut [Live], images: &mut [u8], state: &mut dyn StateBackend) -> Result<()> {
        let width = self.common.layout.width;
        for session in live.iter().filter(|s| s.into != NONE && s.slot != NO_SLOT) {
            if self.common.layout.beside > 0 {
                let at = self.at(session.group, session.namespace);
                self.aggregates.as_ref().expect("opened").forget_beside(at, state)?;
            }
            self.close(session.slot, state);
        }
        let mut taken = vec![false; self.groups.len()];
        for session in live.iter().filter(|s| s.into == NONE && s.namespace == 0) {
            taken[session.group as usize] = true;
        }
        for (i, session) in live.iter_mut().enumerate().filter(|(_, s)| s.into == NONE) {
            let image = &mut images[i * width..(i + 1) * width];
            write_i64(image, 0, session.start);
            write_i64(image, 8, session.last);
            let first = self.groups.slots[session.group as usize];
            if session.namespace == NEW {
                if std::mem::replace(&mut taken[session.group as usize], true) {
                    self.open_further(session, first, state)?;
                } else {
                    (session.namespace, session.slot) = (0, first);
                }
                self.schedule(session.last + self.gap, session.slot);
            }
        }
        let kept: Vec<usize> = (0..live.len()).filter(|&i| live[i].into == NONE).collect();
        let slots: Vec<Slot> = kept.iter().map(|&i| live[i].slot).collect();
        state.rows(self.table).update(&slots, &mut |j, row| row.copy_from_slice(&images[kept[j] * width..][..width]));
        self.remove_unused(&taken, state);
        Ok(())
    }

    fn open_further(&mut self, session: &mut Live, first: Slot, state: &mut dyn StateBackend) -> Result<()> {
        let others = self.further.entry(first).or_default();
        let namespace = (1..).find(|n| others.iter().all(|o| o.0 != *n)).expect("numbers do not end");
        let row = self.groups.first_rows[session.group as usize] as usize;
        let mut key = KeyBatch::default();
        key.clear();
        key.bytes.extend_from_slice(self.keys.key(row));
        key.offsets.push(key.bytes.len() as u32);
        key.hashes.push(self.keys.hashes[row]);
        key.groups.push(self.keys.groups[row]);
        let mut slots = Vec::new();
        state.rows(self.table).resolve(&[namespace], &key, true, &mut slots)?;
        (session.namespace, session.slot) = (namespace, slots[0]);
        others.push((namespace, slots[0]));
        self.first_of.insert(slots[0], first);
        Ok(())
    }

    fn schedule(&mut self, end: i64, slot: Slot) {
        self.timers.push(Reverse((end, slot)));
        self.scheduled.insert(slot, end);
    }

    /// Forgets a session. A row in namespace 0 stays, empty, as long as its key has further sessions or is being worked on.
    fn close(&mut self, slot: Slot, state: &mut dyn StateBackend) {
        self.scheduled.remove(&slot);
        match self.first_of.remove(&slot) {
            None => state.rows(self.table).row_mut(slot).fill(0),
            Some(first) => {
                state.rows(self.table).remove(slot);
                if let Entry::Occupied(mut others) = self.further.entry(first) {
                    others.get_mut().retain(|o| o.1 != slot);
                    if others.get().is_empty() {
                        others.remove();
                    }
                }
            }
        }
    }

    /// Rows of namespace 0 that the batch created, or emptied, and nobody needs.
    fn remove_unused(&mut self, taken: &[bool], state: &mut dyn StateBackend) {
        for (group, &slot) in self.groups.slots.iter().enumerate() {
            if !taken[group] && !self.further.contains_key(&slot) {
                state.rows(self.table).remove(slot);
            }
        }
    }

    /// Fires what is due, as far as there is room.
    fn run(&mut self, ctx: &mut OperatorContext) -> Result<Progress> {
        loop {
            if self.pending.flush(&mut ctx.out) == Progress::Blocked {
                return Ok(Progress::Blocked);
            }
            let slots = self.due(&mut *ctx.state);
            if slots.is_empty() {
                break;
            }
            let (mut rows, mut windows) = (Rows::default(), Vec::with_capacity(slots.len()));
            let table = ctx.state.rows(self.table);
            for &slot in &slots {
                let (key, image) = (table.key(slot), table.row(slot));
                windows.push((read_i64(image, 0), read_i64(image, 8).saturating_add(self.gap)));
                rows.push(key, image);
            }
            self.take_beside(&slots, &mut rows, ctx)?;
            let Common { layout, codec, output, shift, .. } = &self.common;
            self.pending.push(output.build(layout, codec, &rows, &windows, shift)?);
            for slot in slots {
                let first = self.first_of.get(&slot).copied().unwrap_or(slot);
                self.close(slot, &mut *ctx.state);
                let table = ctx.state.rows(self.table);
                if !self.further.contains_key(&first) && self.common.layout.group_rows(table.row(first)) == 0 {
                    table.remove(first);
                }
            }
        }
        let processing_time = self.common.window.processing_time;
        if !processing_time || self.target < i64::MAX {
            self.tracker.progress = self.tracker.progress.max(self.target);
        }
        self.wake(ctx);
        Ok(Progress::Done)
    }

    /// Moves the values beside the rows of sessions that fire out of state.
    fn take_beside(&self, slots: &[Slot], rows: &mut Rows, ctx: &mut OperatorContext) -> Result<()> {
        rows.beside = vec![Vec::with_capacity(slots.len()); self.common.layout.beside];
        if rows.beside.is_empty() {
            return Ok(());
        }
        let aggregates = self.aggregates.as_ref().expect("opened");
        for slot in slots {
            let first = self.first_of.get(slot);
            let further = first.and_then(|f| self.further.get(f)).into_iter().flatten();
            let namespace = further.copied().find(|(_, s)| s == slot).map_or(0, |(namespace, _)| namespace);
            let key = ctx.state.rows(self.table).key(*slot).to_vec();
            let at = GroupKey { namespace, group: key_group_of(key_hash(&key), ctx.max_parallelism), key: &key };
            let values = aggregates.load(at, &mut *ctx.state)?;
            rows.beside.iter_mut().zip(values).for_each(|(column, v)| column.push(v));
            aggregates.forget_beside(at, &mut *ctx.state)?;
        }
        Ok(())
    }

    /// The next sessions to fire, at most a batch of them.
    fn due(&mut self, state: &mut dyn StateBackend) -> Vec<Slot> {
        let table = state.rows(self.table);
        let mut due = Vec::new();
        while let Some(&Reverse((end, slot))) = self.timers.peek() {
            if due.len() >= TARGET_BATCH_ROWS || !Tracker::is_due(end, self.target, &self.common.shift) {
                break;
            }
            self.timers.pop();
            if self.scheduled.get(&slot) != Some(&end) {
                continue;
            }
            let now_ends = read_i64(table.row(slot), 8).saturating_add(self.gap);
            if now_ends > end {
                self.timers.push(Reverse((now_ends, slot)));
                self.scheduled.insert(slot, now_ends);
            } else {
                self.scheduled.remove(&slot);
                due.push(slot);
            }
        }
        due
    }

    fn wake(&self, ctx: &mut OperatorContext) {
        if let (true, Some(Reverse((end, _)))) = (self.common.window.processing_time, self.timers.peek()) {
            ctx.out.wake_at(self.common.shift.timer_instant(end - 1).saturating_add(1));
        }
    }

    /// Derives timers and further sessions from state.
    fn rebuild(&mut self, state: &mut dyn StateBackend, max_parallelism: u32) -> Result<()> {
        let mut found = Vec::new();
        for namespace in state.rows(self.table).namespaces() {
            let mut cursor = Some(0);
            while let Some(from) = cursor {
                cursor = state.rows(self.table).scan(namespace, from, TARGET_BATCH_ROWS, &mut found);
            }
            for slot in std::mem::take(&mut found) {
                let table = state.rows(self.table);
                let image = table.row(slot);
                if self.common.layout.group_rows(image) > 0 {
                    let end = read_i64(image, 8).saturating_add(self.gap);
                    self.schedule(end, slot);
                }
                if namespace > 0 {
                    let mut key = KeyBatch::default();
                    key.push(table.key(slot), max_parallelism);
                    let mut first = Vec::new();
                    table.resolve(&[0], &key, true, &mut first)?;
                    self.further.entry(first[0]).or_default().push((namespace, slot));
                    self.first_of.insert(slot, first[0]);
                }
            }
        }
        Ok(())
    }
}

/// Makes two sessions of a key one and returns it: the older in state, so that the row in namespace 0 stays in use.
fn unite(live: &mut [Live], a: u32, b: u32) -> u32 {
    let (keep, gone) = if live[a as usize].namespace <= live[b as usize].namespace { (a, b) } else { (b, a) };
    let (start, last) = (live[gone as usize].start, live[gone as usize].last);
    live[gone as usize].into = keep;
    let session = &mut live[keep as usize];
    (session.start, session.last) = (session.start.min(start), session.last.max(last));
    keep
}

fn root(live: &[Live], mut at: u32) -> u32 {
    while live[at as usize].into != NONE {
        at = live[at as usize].into;
    }
    at
}

impl Operator for SessionAggregate {
    fn open(&mut self, ctx: &mut OperatorContext) -> Result<OperatorProperties> {
        let Common { layout, codec, input, .. } = &self.common;
        let aggregates = AggregateState::open(layout.clone(), codec, input, &mut *ctx.state, None)?;
        self.table = aggregates.table;
        self.aggregates = Some(aggregates);
        self.tracker.open(ctx)?;
        self.rebuild(&mut *ctx.state, ctx.max_parallelism)?;
        self.wake(ctx);
        Ok(OperatorProperties::default())
    }

    fn process(&mut self, _port: usize, batch: ChangeBatch, ctx: &mut OperatorContext) -> Result<Progress> {
        let Common { window, time_name, shift, .. } = &mut self.common;
        let times = row_times(window, time_name, shift, &batch, self.tracker.earliest(), ctx)?;
        let columns = batch.rows.columns();
        let key_columns: Vec<ArrayRef> = self.common.group.iter().map(|&g| columns[g].clone()).collect();
        encode_keys(&self.common.codec, &key_columns, times.len(), ctx.max_parallelism, &mut self.keys)?;
        let layout = self.common.layout.clone();
        let table = ctx.state.rows(self.table);
        table.resolve(&[0], &self.keys, true, &mut self.slots)?;
        self.groups.assign(&self.slots);
        self.groups.gather(layout.width, table);
        let (mut live, mut heads, mut images) = self.load(&mut *ctx.state);
        let mut beside = self.load_beside(&live, &mut *ctx.state)?;
        let mut placed = self.place(&times, &mut live, &mut heads);
        images.resize(live.len() * layout.width, 0);
        beside.iter_mut().for_each(|column| column.resize(live.len(), None));
        let late = placed.iter().filter(|p| **p == NONE).count();
        ctx.metrics.late_dropped.add(late as u64);
        let selected = (late > 0).then(|| BooleanBuffer::collect_bool(placed.len(), |i| placed[i] != NONE));
        placed.iter_mut().for_each(|p| *p = if *p == NONE { 0 } else { root(&live, *p) });
        for i in (0..live.len()).filter(|&i| live[i].into != NONE && live[i].slot != NO_SLOT) {
            self.merge(&live, i, &mut images, &mut beside)?;
        }
        if late < placed.len() {
            update_images(&layout, &mut images, &placed, columns, selected.as_ref())?;
            update_beside(&layout, &mut beside, &placed, columns, selected.as_ref())?;
        }
        self.store(&mut live, &mut images, &mut *ctx.state)?;
        self.store_beside(&live, &beside, &mut *ctx.state)?;
        self.wake(ctx);
        Ok(Progress::Done)
    }

    fn on_event(&mut self, event: OperatorEvent, ctx: &mut OperatorContext) -> Result<Progress> {
        if let OperatorEvent::BeforeBarrier(_) = event {
            self.tracker.store(ctx);
        }
        let Some(target) = fires_up_to(event, self.common.window.processing_time) else { return Ok(Progress::Done) };
        self.target = target;
        self.run(ctx)
    }

    fn resume(&mut self, ctx: &mut OperatorContext) -> Result<Progress> {
        self.run(ctx)
    }
}
