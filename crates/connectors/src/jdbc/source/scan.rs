//! The thread of a scan: runs the query of one range after the other and hands batches over; goes on after a lost connection.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Decimal128Type, Int8Type, Int16Type, Int32Type, Int64Type};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType as Arrow, SchemaRef};
use flott_core::memory::{MemoryUse, Reservation};
use flott_core::source::ReaderContext;
use flott_core::types::arrow_schema;
use flott_core::{ChangeBatch, Error, Result};

use super::{Item, Monitor, Position, READY_MAX, Range, ScanTable, State};
use crate::columns::ColumnBuilder;
use crate::flusher::Stop;
use crate::jdbc::encode::needs_utc;
use crate::jdbc::lookup::is_bytes;
use crate::jdbc::session::{DbErrorKind, Param, Place, ReadError, RowQuery, Session, connect};
use crate::jdbc::statements::select;
use crate::jdbc::target::{Target, TargetError, Use, quote, resolve};
use crate::jdbc::url::Dialect;

/// Rows of one value of the partition column, in fetches, that are held back at most.
const EQUAL_FETCHES_MAX: usize = 64;
/// Pauses between two tries to reach the server.
const BACKOFF_MS: (u64, u64) = (100, 5_000);
/// How soon the memory budget is asked again.
const MEMORY_MS: u64 = 5;

/// What the thread works with.
pub(super) struct Scan {
    table: Arc<ScanTable>,
    context: ReaderContext,
    shared: Arc<Monitor<State>>,
    place: Place,
    schema: SchemaRef,
}

/// Why reading a range ended early.
enum Ended {
    /// Stopped from outside.
    Stopped,
    /// The server; the range goes on where it was.
    Lost(Error),
    Failed(Error),
}

impl Scan {
    pub(super) fn new(table: Arc<ScanTable>, context: ReaderContext, shared: Arc<Monitor<State>>) -> Self {
        let (place, schema) = (Place::of(&table.jdbc), arrow_schema(&table.spec.columns));
        Scan { table, context, shared, place, schema }
    }

    pub(super) fn run(&self, stop: &Stop) {
        let mut connected = None;
        while let Some(range) = self.next() {
            match self.whole(range, &mut connected, stop) {
                Ok(()) => {}
                Err(Ended::Stopped) => break,
                Err(Ended::Lost(error) | Ended::Failed(error)) => {
                    self.shared.lock().failed = Some(error);
                    break;
                }
            }
        }
        stop.on_stop(None);
        // Whoever polls must find the error, not an ended thread: the error is there before this returns.
    }

    fn next(&self) -> Option<Range> {
        let mut state = self.shared.lock();
        loop {
            if state.stopped {
                return None;
            }
            if let Some(range) = state.todo.pop_front() {
                return Some(range);
            }
            state = self.shared.wait(state);
        }
    }

    /// Reads a range to its end, over as many connections as it takes.
    fn whole(
        &self,
        mut range: Range,
        connected: &mut Option<(Box<dyn Session>, Target)>,
        stop: &Stop,
    ) -> Result<(), Ended> {
        let split: Arc<str> = range.id().into();
        let (mut lost_since_ms, mut pause_ms) = (None, BACKOFF_MS.0);
        loop {
            let before = range.position;
            let error = match self.read(&split, &mut range, connected, stop) {
                Ok(()) => return self.hand_over(Item::Finished(split)),
                Err(Ended::Lost(error)) => error,
                Err(other) => return Err(other),
            };
            *connected = None;
            if range.position != before {
                (lost_since_ms, pause_ms) = (None, BACKOFF_MS.0);
            }
            let now_ms = self.context.clock.now_ms();
            let since_ms = *lost_since_ms.get_or_insert(now_ms);
            if now_ms - since_ms >= self.table.jdbc.unreachable_ms {
                return Err(Ended::Failed(error));
            }
            tracing::warn!(%split, %error, pause_ms, "a scan lost its server and goes on when it is back");
            self.context.metrics.external.retries.add(1);
            if !stop.sleep_ms(pause_ms) {
                return Err(Ended::Stopped);
            }
            pause_ms = (pause_ms * 2).min(BACKOFF_MS.1);
        }
    }

    fn lost_or_failed(&self, what: &str, e: &crate::jdbc::session::DbError) -> Ended {
        let error = self.place.error(what, e);
        match e.kind {
            DbErrorKind::Gone | DbErrorKind::Conflict => Ended::Lost(error),
            _ => Ended::Failed(error),
        }
    }

    fn open(&self, stop: &Stop) -> Result<(Box<dyn Session>, Target), Ended> {
        let (jdbc, spec) = (&self.table.jdbc, &self.table.spec);
        let autocommit = self.table.scan.auto_commit;
        let failed = |e| self.lost_or_failed("connect", &e);
        let mut session = connect(jdbc, needs_utc(&spec.columns), autocommit).map_err(failed)?;
        stop.on_stop(Some(session.cancel()));
        if jdbc.url.dialect == Dialect::MySql {
            // A source that is held back by what follows must not lose its connection for that.
            session.command("SET net_write_timeout = 86400").map_err(failed)?;
        }
        let target = resolve(session.as_mut(), jdbc, spec, Use::Read).map_err(|e| match e {
            TargetError::Db(e) => self.lost_or_failed("look at the table", &e),
            TargetError::Misfit(e) => Ended::Failed(e),
        })?;
        Ok((session, target))
    }

    fn query(&self, target: &Target, range: &Range) -> (String, Vec<Param>) {
        let columns = &self.table.spec.columns;
        // Names in ORDER BY are qualified: alone they would mean the columns of the result, which may be text.
        let mut sql = select(target, |i| is_bytes(&columns[i].data_type.kind));
        let mut params = Vec::new();
        let placeholder = |n: usize| match target.dialect {
            Dialect::MySql => "?".to_owned(),
            Dialect::Postgres => format!("${n}"),
        };
        if let (Some((lower, upper)), Some(p)) = (range.bounds, &self.table.scan.partitions) {
            let name = quote(target.dialect, &target.names[p.column]);
            let (from, above) = range.position.last.map_or((lower, ">="), |last| (last, ">"));
            sql.push_str(&format!(
                " WHERE {name} {above} {} AND {name} <= {} ORDER BY {}.{name}",
                placeholder(1),
                placeholder(2),
                target.table_sql
            ));
            params.extend([Param::Int(from), Param::Int(upper)]);
        } else if !self.table.spec.primary_key.is_empty() {
            let column = |k: &usize| format!("{}.{}", target.table_sql, quote(target.dialect, &target.names[*k]));
            let key = self.table.spec.primary_key.iter().map(column);
            sql.push_str(&format!(" ORDER BY {}", key.collect::<Vec<_>>().join(", ")));
        }
        (sql, params)
    }

    fn read(
        &self,
        split: &Arc<str>,
        range: &mut Range,
        connected: &mut Option<(Box<dyn Session>, Target)>,
        stop: &Stop,
    ) -> Result<(), Ended> {
        if connected.is_none() {
            *connected = Some(self.open(stop)?);
        }
        let Some((session, target)) = connected else { return Ok(()) };
        let (sql, params) = self.query(target, range);
        let mut builders =
            self.table.spec.columns.iter().map(|c| ColumnBuilder::new(&c.data_type)).collect::<Result<Vec<_>>>();
        let builders = builders.as_mut().map_err(|e| Ended::Failed(e.clone()))?;
        let mut cutter = Cutter {
            column: self.table.scan.partitions.as_ref().map(|p| p.column),
            held: None,
            skip: if range.bounds.is_some() { 0 } else { range.position.rows },
            rows_max: self.table.scan.fetch_rows.saturating_mul(EQUAL_FETCHES_MAX),
        };
        let failed = |e| self.lost_or_failed("scan", &e);
        if !self.table.scan.auto_commit {
            session.begin().map_err(failed)?;
        }
        let mut ended = None;
        let query = RowQuery { sql: &sql, params, fetch_rows: self.table.scan.fetch_rows };
        let hand = |batch: RecordBatch, position: &mut Position, last: Option<i64>| {
            position.last = last;
            position.rows += batch.num_rows() as u64;
            let held = self.reserve(batch.get_array_memory_size(), stop)?;
            let batch = ChangeBatch::append(batch);
            self.hand_over(Item::Rows { split: Arc::clone(split), batch, position: *position, held })
        };
        let result = session.rows(query, builders, &mut |builders| {
            let arrays = builders.iter_mut().map(ColumnBuilder::finish).collect::<Result<Vec<ArrayRef>>>()?;
            let batch = RecordBatch::try_new(Arc::clone(&self.schema), arrays)?;
            if let Some((batch, last)) = cutter.take(batch)?
                && let Err(e) = hand(batch, &mut range.position, last)
            {
                ended = Some(e);
                return Ok(false);
            }
            Ok(!stop.is_stopped())
        });
        if let Some(e) = ended {
            return Err(e);
        }
        match result {
            Ok(()) if stop.is_stopped() => return Err(Ended::Stopped),
            Ok(()) => {}
            Err(ReadError::Db(e)) => return Err(failed(e)),
            Err(ReadError::Local(e)) => return Err(Ended::Failed(e)),
        }
        if let Some((batch, last)) = cutter.rest().map_err(Ended::Failed)? {
            hand(batch, &mut range.position, last)?;
        }
        if !self.table.scan.auto_commit {
            session.commit().map_err(failed)?;
        }
        Ok(())
    }

    fn reserve(&self, bytes: usize, stop: &Stop) -> Result<Reservation, Ended> {
        loop {
            if let Some(held) = self.context.memory.try_reserve(MemoryUse::Fetch, bytes) {
                return Ok(held);
            }
            // With nothing of ours on the way, waiting would wait for others for ever.
            if self.shared.lock().ready.is_empty() {
                return Ok(self.context.memory.reserve(MemoryUse::Fetch, bytes));
            }
            if !stop.sleep_ms(MEMORY_MS) {
                return Err(Ended::Stopped);
            }
        }
    }

    /// Waits for room.
    fn hand_over(&self, item: Item) -> Result<(), Ended> {
        let mut state = self.shared.lock();
        while state.ready.len() >= READY_MAX && !state.stopped {
            state = self.shared.wait(state);
        }
        if state.stopped {
            return Err(Ended::Stopped);
        }
        state.ready.push_back(item);
        Ok(())
    }
}

/// Cuts fetches where the value of the partition column changes, so that a position is the last value alone; without one, drops
/// the rows that were handed out before.
struct Cutter {
    column: Option<usize>,
    held: Option<RecordBatch>,
    skip: u64,
    rows_max: usize,
}

impl Cutter {
    fn take(&mut self, batch: RecordBatch) -> Result<Option<(RecordBatch, Option<i64>)>> {
        let Some(column) = self.column else {
            let drop = usize::try_from(self.skip).unwrap_or(usize::MAX).min(batch.num_rows());
            self.skip -= drop as u64;
            let rest = batch.slice(drop, batch.num_rows() - drop);
            return Ok((rest.num_rows() > 0).then_some((rest, None)));
        };
        if batch.num_rows() == 0 {
            return Ok(None);
        }
        let whole = match self.held.take() {
            Some(held) => arrow_select::concat::concat_batches(&batch.schema(), [&held, &batch])?,
            None => batch,
        };
        let values = whole.column(column);
        let rows = whole.num_rows();
        let last = value(values, rows - 1)?;
        if value(values, 0)? > last {
            return Err(Error::bug("rows of a scan do not come in the order of the partition column"));
        }
        // The first row with the last value.
        let (mut from, mut to) = (0, rows - 1);
        while from < to {
            let middle = usize::midpoint(from, to);
            if value(values, middle)? < last { from = middle + 1 } else { to = middle }
        }
        if rows - from > self.rows_max {
            return Err(Error::user(
                "jdbc.partition-column",
                format!("more than {} rows have the value {last} in the partition column", self.rows_max),
            )
            .hint("name a column with more different values in 'scan.partition.column', or raise 'scan.fetch-size'"));
        }
        self.held = Some(whole.slice(from, rows - from));
        if from == 0 {
            return Ok(None);
        }
        Ok(Some((whole.slice(0, from), Some(value(values, from - 1)?))))
    }

    /// What is left at the end.
    fn rest(&mut self) -> Result<Option<(RecordBatch, Option<i64>)>> {
        let Some(held) = self.held.take() else { return Ok(None) };
        let last = self.column.map(|c| value(held.column(c), held.num_rows() - 1)).transpose()?;
        Ok(Some((held, last)))
    }
}

fn value(array: &ArrayRef, row: usize) -> Result<i64> {
    Ok(match array.data_type() {
        Arrow::Int8 => array.as_primitive::<Int8Type>().value(row).into(),
        Arrow::Int16 => array.as_primitive::<Int16Type>().value(row).into(),
        Arrow::Int32 => array.as_primitive::<Int32Type>().value(row).into(),
        Arrow::Int64 => array.as_primitive::<Int64Type>().value(row),
        Arrow::Decimal128(..) => i64::try_from(array.as_primitive::<Decimal128Type>().value(row))
            .map_err(|_| Error::user("jdbc.value", "a value of the partition column is larger than 64 bits"))?,
        other => return Err(Error::bug(format!("a partition column of type {other}"))),
    })
}
