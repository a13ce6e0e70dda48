//! Windows over keyed streams: tumbling, sliding and sessions. A window fires once, when the watermark (or processing time) passes
//! its end; rows that come after that are dropped and counted, or go to a stream of their own. Never emits early.

mod fold;
mod grid;
mod late;
mod session;

use std::marker::PhantomData;
use std::sync::Arc;

use flott_core::error::{Error, Result};
use flott_core::operator::Operator;
use flott_state::timers::TimeDomain;
use flott_state::typed::StateType;

use crate::keyed::KeyedStream;
use crate::record::Record;
use crate::state::AggregateFunction;
use crate::stream::DataStream;
use fold::{Aggregating, Fold, Reducing};
use grid::GridOperator;
pub use late::LateWindowedStream;
use session::SessionOperator;

/// A window: from `start_ms`, included, to `end_ms`, excluded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TimeWindow {
    /// First millisecond.
    pub start_ms: i64,
    /// One past the last millisecond.
    pub end_ms: i64,
}

impl TimeWindow {
    /// The last millisecond: the event time of the window's result.
    pub fn max_timestamp_ms(&self) -> i64 {
        self.end_ms - 1
    }
}

/// Which windows a row belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowAssigner {
    kind: Kind,
    domain: TimeDomain,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Grid { size_ms: i64, slide_ms: i64, offset_ms: i64 },
    Session { gap_ms: i64 },
}

/// Windows of one size, end to end, in event time.
pub struct TumblingEventTimeWindows;

impl TumblingEventTimeWindows {
    /// Windows of `size_ms`, aligned to the epoch.
    pub fn of(size_ms: i64) -> WindowAssigner {
        SlidingEventTimeWindows::of(size_ms, size_ms)
    }
}

/// Windows of one size, end to end, in processing time. Windows still open at the end of all data fire then.
pub struct TumblingProcessingTimeWindows;

impl TumblingProcessingTimeWindows {
    /// Windows of `size_ms`, aligned to the epoch.
    pub fn of(size_ms: i64) -> WindowAssigner {
        WindowAssigner { domain: TimeDomain::ProcessingTime, ..TumblingEventTimeWindows::of(size_ms) }
    }
}

/// Windows of one size that begin every `slide_ms`, in event time.
pub struct SlidingEventTimeWindows;

impl SlidingEventTimeWindows {
    /// Windows of `size_ms`, aligned to the epoch.
    pub fn of(size_ms: i64, slide_ms: i64) -> WindowAssigner {
        WindowAssigner { kind: Kind::Grid { size_ms, slide_ms, offset_ms: 0 }, domain: TimeDomain::EventTime }
    }
}

/// Windows that end when a key has had no row for a while, in event time.
pub struct EventTimeSessionWindows;

impl EventTimeSessionWindows {
    /// Rows at most `gap_ms` apart are in one session.
    pub fn with_gap(gap_ms: i64) -> WindowAssigner {
        WindowAssigner { kind: Kind::Session { gap_ms }, domain: TimeDomain::EventTime }
    }
}

impl WindowAssigner {
    /// Shifts the grid: a daily window with an offset of −8 h begins at midnight in UTC+8. Sessions have no grid.
    pub fn with_offset(mut self, by_ms: i64) -> Self {
        if let Kind::Grid { offset_ms, .. } = &mut self.kind {
            *offset_ms = by_ms;
        }
        self
    }
    pub(crate) fn check(&self) -> Result<()> {
        let (sizes, what) = match self.kind {
            Kind::Grid { size_ms, slide_ms, .. } => ([size_ms, slide_ms], "size and slide"),
            Kind::Session { gap_ms } => ([gap_ms, gap_ms], "gap"),
        };
        if sizes.iter().all(|ms| *ms > 0) {
            return Ok(());
        }
        let error = Error::user("datastream.window", format!("a window's {what} must be positive"));
        Err(error.detail(format!("found {} ms", sizes[0].min(sizes[1]))).hint("give milliseconds above 0"))
    }
}

/// Windows that fit on a grid.
#[derive(Clone, Copy, Debug)]
struct Grid {
    size_ms: i64,
    slide_ms: i64,
    offset_ms: i64,
}

impl Grid {
    /// Ends of the windows a time belongs to, the latest first; `None` out of the range of time.
    fn ends(&self, time_ms: i64) -> Option<impl Iterator<Item = i64> + use<>> {
        let since = time_ms.checked_sub(self.offset_ms)?.rem_euclid(self.slide_ms);
        let last_start = time_ms.checked_sub(since)?;
        let (last_end, first) = (last_start.checked_add(self.size_ms)?, time_ms.checked_sub(self.size_ms)?);
        let (size_ms, slide_ms) = (self.size_ms, self.slide_ms);
        let ends = (0..).map_while(move |i: i64| last_end.checked_sub(i.checked_mul(slide_ms)?));
        Some(ends.take_while(move |end| end - size_ms > first))
    }
    fn window(&self, end_ms: i64) -> TimeWindow {
        TimeWindow { start_ms: end_ms - self.size_ms, end_ms }
    }
}

fn no_time(name: &str) -> Error {
    Error::user("datastream.no-event-time", format!("rows without event time reached `{name}`"))
        .hint("call assign_timestamps_and_watermarks before the window, or use processing time")
}

fn out_of_range(time_ms: i64) -> Error {
    Error::user("datastream.time-range", format!("the event time {time_ms} ms is out of range"))
        .hint("event times are milliseconds since 1970")
}

/// Makes an output row of a late one.
pub(crate) type LateRow<T, U> = fn(T) -> U;

/// What windows do with rows: fold them, and say what comes out; without `late`, late rows are dropped and counted.
pub(crate) struct WindowRows<F: Fold, E, U> {
    pub(crate) fold: F,
    pub(crate) emit: E,
    pub(crate) late: Option<LateRow<F::In, U>>,
}

/// A keyed stream in windows.
pub struct WindowedStream<K: Record, T: Record> {
    keyed: KeyedStream<K, T>,
    assigner: WindowAssigner,
    types: PhantomData<fn() -> (K, T)>,
}

impl<K: Record, T: Record> WindowedStream<K, T> {
    pub(crate) fn new(keyed: KeyedStream<K, T>, assigner: WindowAssigner) -> Self {
        WindowedStream { keyed, assigner, types: PhantomData }
    }

    /// Folds the rows of each window into one.
    pub fn reduce(self, f: impl Fn(T, T) -> T + Clone + Send + Sync + 'static) -> DataStream<T>
    where
        T: StateType,
    {
        self.fold("WindowReduce", Reducing::new(f), |_, _, row| row, None)
    }

    /// Aggregates the rows of each window; `emit` makes the output row of key, window and result.
    pub fn aggregate<F, U>(
        self,
        function: F,
        emit: impl Fn(&K, TimeWindow, F::Out) -> U + Clone + Send + Sync + 'static,
    ) -> DataStream<U>
    where
        F: AggregateFunction<In = T>,
        U: Record,
    {
        self.fold("WindowAggregate", Aggregating(function), emit, None)
    }

    /// Gives late rows a stream of their own instead of dropping them.
    pub fn side_output_late_data(self) -> LateWindowedStream<K, T> {
        LateWindowedStream::new(self)
    }

    fn fold<F, U>(
        self,
        name: &str,
        fold: F,
        emit: impl Fn(&K, TimeWindow, F::Out) -> U + Clone + Send + Sync + 'static,
        late: Option<LateRow<T, U>>,
    ) -> DataStream<U>
    where
        F: Fold<In = T>,
        U: Record,
    {
        let (width, WindowAssigner { kind, domain }) = (self.keyed.width(), self.assigner);
        let factory = move || -> Result<Box<dyn Operator>> {
            let rows = WindowRows { fold: fold.clone(), emit: emit.clone(), late };
            Ok(match kind {
                Kind::Grid { size_ms, slide_ms, offset_ms } => {
                    let grid = Grid { size_ms, slide_ms, offset_ms };
                    Box::new(GridOperator::<K, F, _, U>::new(grid, domain, width, rows)?)
                }
                Kind::Session { gap_ms } => Box::new(SessionOperator::<K, F, _, U>::new(gap_ms, width, rows)?),
            })
        };
        self.keyed.operator(name, U::columns(), Arc::new(factory))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Flink's own cases: the grid is aligned to the epoch also before it, and shifted by the offset.
    #[test]
    fn windows_of_a_grid() {
        let ends = |size_ms, slide_ms, offset_ms, t| {
            Grid { size_ms, slide_ms, offset_ms }.ends(t).map(|e| e.collect::<Vec<_>>())
        };
        assert_eq!(ends(10, 10, 0, 0), Some(vec![10]));
        assert_eq!(ends(10, 10, 0, -1), Some(vec![0]));
        assert_eq!(ends(10, 10, 3, 2), Some(vec![3]));
        assert_eq!(ends(10, 4, 0, 9), Some(vec![18, 14, 10]));
        assert_eq!(ends(10, 5, 0, 10), Some(vec![20, 15]));
        assert_eq!(ends(2, 5, 0, 3), Some(vec![]), "a slide above the size leaves holes");
        assert_eq!(ends(10, 10, 0, i64::MAX), None);
        assert_eq!(ends(10, 10, 0, i64::MIN), None);
    }
}
