//! Event-time temporal join: each left row meets the version of the right table that was valid at its time, once the watermark has passed
//! that time. Versions that no row can ask for go away; never looks at versions of another key.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow_array::RecordBatch;
use flott_core::batch::{ChangeBatch, RowKind};
use flott_core::error::{Error, Result};
use flott_core::key_group::KeyGroup;
use flott_core::operator::{Operator, OperatorContext, OperatorEvent, OperatorProperties, Progress, TARGET_BATCH_ROWS};
use flott_core::sink::ChangelogMode;
use flott_core::state::{MapRange, MapTable, Slot, StateBackend, TableDescriptor, TableId, TableKind};
use flott_core::types::Column;
use flott_expr::EvalContext;
use flott_plan::{JoinKind, TemporalJoinSpec};

use super::store::{Info, Keys, Rows, Store, all};
use super::{Builder, Source};
use crate::emit::Pending;
use crate::window::{Tracker, milliseconds};
use crate::zone::session_zone;

/// Left rows wait in buckets of this length.
const BUCKET_MS: i64 = 1_000;
/// Versions of a key read at a time.
const SCAN_VERSIONS: usize = 1024;
/// The first byte of a version: a row, or that there is none from then on.
const HERE: u8 = 1;
const GONE: u8 = 0;

/// The operator. State: left rows by bucket of time; right versions, key → time → row.
pub(crate) struct TemporalJoin {
    outer: bool,
    append_only: bool,
    left: Store,
    right: Store,
    versions: Option<TableId>,
    schema: String,
    times: [(usize, String); 2],
    builder: Builder,
    zone: chrono_tz::Tz,
    /// Its progress is the watermark.
    tracker: Tracker,
    /// Rows whose time has come.
    due: Vec<Slot>,
    pending: Pending,
}

/// Times in the order of their bytes.
fn time_name(time_ms: i64) -> [u8; 8] {
    ((time_ms as u64) ^ (1 << 63)).to_be_bytes()
}

fn time_of(name: &[u8]) -> i64 {
    name.first_chunk::<8>().map_or(i64::MIN, |b| (u64::from_be_bytes(*b) ^ (1 << 63)) as i64)
}

impl TemporalJoin {
    /// The operator of a description.
    pub(crate) fn new(spec: &TemporalJoinSpec, output: &[Column]) -> Result<Self> {
        let join = &spec.join;
        let outer = match join.kind {
            JoinKind::Inner => false,
            JoinKind::Left => true,
            _ => return Err(Error::bug("a temporal join is INNER or LEFT")),
        };
        let types: Vec<String> = join.right.iter().map(|c| c.data_type.kind.to_string()).collect();
        let name = |columns: &[Column], i: usize| columns.get(i).map(|c| c.name.clone()).unwrap_or_default();
        Ok(TemporalJoin {
            outer,
            append_only: spec.left_mode == ChangelogMode::Append,
            left: Store::new("left", &join.left, &join.left_keys)?,
            right: Store::new("right", &join.right, &join.right_keys)?,
            versions: None,
            schema: format!("keys{:?},row({}):by time", join.right_keys, types.join(",")),
            times: [
                (spec.left_time, name(&join.left, spec.left_time)),
                (spec.right_time, name(&join.right, spec.right_time)),
            ],
            builder: Builder::new(join, output)?,
            zone: chrono_tz::UTC,
            tracker: Tracker::new(),
            due: Vec::new(),
            pending: Pending::default(),
        })
    }

    fn versions<'s>(&self, state: &'s mut dyn StateBackend) -> Result<&'s mut dyn MapTable> {
        let id = self.versions.ok_or_else(|| Error::bug("a join was used before it was opened"))?;
        Ok(state.map(id))
    }

    /// Left rows wait for the watermark.
    fn take_left(&mut self, batch: &ChangeBatch, keys: &Keys, times: &[i64], ctx: &mut OperatorContext) -> Result<()> {
        let (mut of, mut buckets) = (Vec::new(), Vec::new());
        for (row, time_ms) in times.iter().enumerate() {
            if !keys.has_null[row] {
                of.push(row);
                buckets.push(time_ms.div_euclid(BUCKET_MS).saturating_mul(BUCKET_MS));
            } else if self.outer {
                self.builder.push(batch.kind(row), Source::Input(row as u32), Source::Null, 1);
            }
        }
        let (keys, max_parallelism) = (&keys.keys, ctx.max_parallelism);
        let rows = Rows { rows: &batch.rows, keys, of: &of, namespaces: &buckets, max_parallelism };
        self.left.insert(&rows, &mut *ctx.state, &mut |j, info| {
            info.time_ms = times[of[j]];
            // Rows that go are counted apart.
            if !batch.kind(of[j]).is_add() {
                info.copies = info.copies.saturating_sub(1);
                info.matched = info.matched.saturating_add(1);
            }
        })?;
        if let Some(out) = self.builder.build(0, &batch.rows, &self.right.nothing(), self.append_only)? {
            self.pending.push(out);
        }
        Ok(())
    }

    /// Right rows are versions from their time on.
    fn take_right(&mut self, batch: &ChangeBatch, keys: &Keys, times: &[i64], ctx: &mut OperatorContext) -> Result<()> {
        let of: Vec<usize> = (0..batch.num_rows())
            // The old half of an update says nothing that the new one does not.
            .filter(|&r| !keys.has_null[r] && batch.kind(r) != RowKind::UpdateBefore)
            .collect();
        let entries = self.right.entries(&batch.rows, &keys.keys, &of, ctx.max_parallelism)?;
        let mut value = Vec::new();
        for (j, &row) in of.iter().enumerate() {
            value.clear();
            value.push(if batch.kind(row).is_add() { HERE } else { GONE });
            value.extend_from_slice(entries.key(j));
            let (group, key) = (keys.keys.groups[row], keys.keys.key(row));
            let versions = self.versions(&mut *ctx.state)?;
            versions.put(0, group, key, &time_name(times[row]), &value)?;
            self.forget(group, key, versions)?;
        }
        Ok(())
    }

    /// Removes the versions of a key before the one that is valid at the watermark.
    fn forget(&self, group: KeyGroup, key: &[u8], versions: &mut dyn MapTable) -> Result<()> {
        let mut old = Vec::new();
        let range = MapRange { namespace: 0, group, key, prefix: &[], after: None };
        versions.scan(range, SCAN_VERSIONS, &mut old)?;
        let past = old.iter().take_while(|(name, _)| time_of(name) <= self.tracker.progress).count();
        for (name, _) in old.iter().take(past.saturating_sub(1)) {
            versions.remove(0, group, key, name)?;
        }
        // A version that says there is none is worth nothing as the first one.
        if let Some((name, value)) = past.checked_sub(1).and_then(|i| old.get(i))
            && value.first() == Some(&GONE)
        {
            versions.remove(0, group, key, name)?;
        }
        Ok(())
    }

    /// The version of a key at a time, as its entry.
    fn version_at(
        &self,
        group: KeyGroup,
        key: &[u8],
        time_ms: i64,
        state: &mut dyn StateBackend,
    ) -> Result<Option<Arc<[u8]>>> {
        let table = self.versions(state)?;
        let (mut valid, mut after): (Option<Arc<[u8]>>, Option<Vec<u8>>) = (None, None);
        loop {
            let mut entries = Vec::new();
            let range = MapRange { namespace: 0, group, key, prefix: &[], after: after.as_deref() };
            let more = table.scan(range, SCAN_VERSIONS, &mut entries)?;
            for (name, value) in entries {
                if time_of(&name) > time_ms {
                    return Ok(valid.filter(|v| v.first() == Some(&HERE)));
                }
                valid = Some(value);
                after = Some(name);
            }
            if !more {
                return Ok(valid.filter(|v| v.first() == Some(&HERE)));
            }
        }
    }

    fn run(&mut self, ctx: &mut OperatorContext) -> Result<Progress> {
        loop {
            if self.pending.flush(&mut ctx.out) == Progress::Blocked {
                return Ok(Progress::Blocked);
            }
            if self.due.is_empty() && !self.next_due(&mut *ctx.state)? {
                return Ok(Progress::Done);
            }
            self.join_due(ctx)?;
        }
    }

    /// Finds rows whose time has come; whether there are any.
    fn next_due(&mut self, state: &mut dyn StateBackend) -> Result<bool> {
        let table = self.left.table(state)?;
        for bucket in table.namespaces() {
            if bucket > self.tracker.progress {
                break;
            }
            let mut slots = all(table, bucket);
            slots.retain(|s| Info::read(table.row(*s)).time_ms <= self.tracker.progress);
            if !slots.is_empty() {
                self.due = slots;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Joins a batch of the rows that are due.
    fn join_due(&mut self, ctx: &mut OperatorContext) -> Result<()> {
        let rest = self.due.split_off(self.due.len().min(TARGET_BATCH_ROWS));
        let slots = std::mem::replace(&mut self.due, rest);
        let table = self.left.table(&mut *ctx.state)?;
        let rows: RecordBatch = self.left.batch(table, &slots)?;
        let infos: Vec<Info> = slots.iter().map(|s| Info::read(table.row(*s))).collect();
        for slot in &slots {
            table.remove(*slot);
        }
        let keys = self.left.keys(&rows, ctx.max_parallelism)?.keys;
        let (mut found, mut pairs) = (Vec::new(), Vec::new());
        for (row, info) in infos.iter().enumerate() {
            if let Some(version) = self.version_at(keys.groups[row], keys.key(row), info.time_ms, &mut *ctx.state)? {
                pairs.push((row as u32, found.len() as u32));
                found.push(version);
            }
        }
        let found = self.right.decode_entries(found.iter().map(|v| &v[1..]))?;
        let eval = EvalContext::of(ctx, self.zone);
        let passes = self.builder.judge(0, &rows, &found, pairs.iter().copied(), &eval)?;
        let mut version = vec![None; infos.len()];
        for (i, (row, candidate)) in pairs.iter().enumerate() {
            if passes.as_ref().is_none_or(|p| p.value(i)) {
                version[*row as usize] = Some(*candidate);
            }
        }
        for (row, info) in infos.iter().enumerate() {
            let source = match version[row] {
                Some(candidate) => Source::Found(candidate),
                None if self.outer => Source::Null,
                None => continue,
            };
            let net = i64::from(info.copies) - i64::from(info.matched);
            let kind = if net > 0 { RowKind::Insert } else { RowKind::Delete };
            self.builder.push(kind, Source::Input(row as u32), source, net.abs());
        }
        if let Some(out) = self.builder.build(0, &rows, &found, self.append_only)? {
            self.pending.push(out);
        }
        Ok(())
    }
}

impl Operator for TemporalJoin {
    fn open(&mut self, ctx: &mut OperatorContext) -> Result<OperatorProperties> {
        self.zone = session_zone(&ctx.config)?;
        self.left.open(&mut *ctx.state)?;
        let (name, schema) = ("versions".to_owned(), self.schema.clone());
        self.versions = Some(ctx.state.register(&TableDescriptor { name, kind: TableKind::Map, schema, ttl: None })?);
        self.tracker.open(ctx)?;
        Ok(OperatorProperties::default())
    }

    fn process(&mut self, port: usize, batch: ChangeBatch, ctx: &mut OperatorContext) -> Result<Progress> {
        let (time, name) = self.times.get(port).ok_or_else(|| Error::bug(format!("a join has no input {port}")))?;
        let times = milliseconds(batch.rows.column(*time), name)?;
        let side = if port == 0 { &self.left } else { &self.right };
        let keys = side.keys(&batch.rows, ctx.max_parallelism)?;
        match port {
            0 => self.take_left(&batch, &keys, &times, ctx)?,
            _ => self.take_right(&batch, &keys, &times, ctx)?,
        }
        match self.pending.flush(&mut ctx.out) {
            // What is due waits for the next watermark, which has not come while rows do.
            Progress::Blocked => Ok(Progress::Blocked),
            Progress::Done => Ok(Progress::Done),
        }
    }

    fn on_event(&mut self, event: OperatorEvent, ctx: &mut OperatorContext) -> Result<Progress> {
        let watermark = match event {
            OperatorEvent::Watermark(watermark) => watermark,
            OperatorEvent::BeforeBarrier(_) => {
                self.tracker.store(ctx);
                return Ok(Progress::Done);
            }
            _ => return Ok(Progress::Done),
        };
        self.tracker.progress = self.tracker.progress.max(watermark.0);
        self.run(ctx)
    }

    fn resume(&mut self, ctx: &mut OperatorContext) -> Result<Progress> {
        self.run(ctx)
    }
}
