//! Windows whose late rows get a stream of their own. The operator has one output; its rows are either results or late rows, and
//! each of the two streams reads its own. Never drops a row.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, BooleanArray, UInt32Array};
use arrow_select::take::take;
use flott_core::batch::ChangeBatch;
use flott_core::error::{Error, Result};
use flott_core::types::Column;
use flott_state::typed::StateType;

use super::fold::{Aggregating, Fold, Reducing};
use super::{TimeWindow, WindowedStream};
use crate::record::Record;
use crate::stage::{Rows, StageFactory, decode};
use crate::state::AggregateFunction;
use crate::stream::DataStream;

/// A row of the operator's output: a column that says which, the columns of `U`, the columns of `T`; those that do not count are NULL.
#[derive(Clone)]
enum Tagged<U, T> {
    Result(U),
    Late(T),
}

/// Which rows of the output a part consists of, and where they are in it.
struct Places {
    part: UInt32Array,
    whole: UInt32Array,
}

impl Places {
    fn new(is_late: impl Iterator<Item = bool>, late: bool) -> Self {
        let (mut whole, mut part) = (Vec::new(), Vec::new());
        for (i, is_late) in is_late.enumerate() {
            let mine = is_late == late;
            part.push(mine.then_some(whole.len() as u32));
            if mine {
                whole.push(i as u32);
            }
        }
        Places { part: part.into(), whole: whole.into() }
    }
    /// Columns of the part, with NULL where the other part has its rows.
    fn spread(&self, arrays: &[ArrayRef]) -> Vec<ArrayRef> {
        let spread = |a: &ArrayRef| take(a, &self.part, None).expect("every place is within the array");
        arrays.iter().map(spread).collect()
    }
    fn pick(&self, arrays: &[ArrayRef]) -> Result<Vec<ArrayRef>> {
        arrays.iter().map(|a| take(a, &self.whole, None).map_err(Error::from)).collect()
    }
}

fn flags(arrays: &[ArrayRef]) -> Result<&BooleanArray> {
    let flags = arrays.first().and_then(|a| a.as_any().downcast_ref::<BooleanArray>());
    flags.filter(|f| f.null_count() == 0).ok_or_else(|| Error::bug("the column that tells late rows apart is missing"))
}

impl<U: Record, T: Record> Record for Tagged<U, T> {
    fn columns() -> Vec<Column> {
        let part = |prefix: &'static str, columns: Vec<Column>| {
            columns.into_iter().map(move |c| Column::new(format!("{prefix}.{}", c.name), c.data_type.kind.nullable()))
        };
        let flag = Column::new("late", flott_core::types::TypeKind::Boolean.not_null());
        [flag].into_iter().chain(part("result", U::columns())).chain(part("late", T::columns())).collect()
    }
    fn to_arrays(rows: &[Self]) -> Vec<ArrayRef> {
        let is_late = || rows.iter().map(|r| matches!(r, Tagged::Late(_)));
        let (mut results, mut late) = (Vec::new(), Vec::new());
        for row in rows {
            match row {
                Tagged::Result(row) => results.push(row.clone()),
                Tagged::Late(row) => late.push(row.clone()),
            }
        }
        let mut arrays: Vec<ArrayRef> = vec![Arc::new(is_late().map(Some).collect::<BooleanArray>())];
        arrays.extend(Places::new(is_late(), false).spread(&U::to_arrays(&results)));
        arrays.extend(Places::new(is_late(), true).spread(&T::to_arrays(&late)));
        arrays
    }
    fn from_arrays(arrays: &[ArrayRef]) -> Result<Vec<Self>> {
        let is_late = flags(arrays)?;
        let (results, late) = arrays[1..].split_at(U::columns().len());
        let mut results = U::from_arrays(&Places::new(is_late.values().iter(), false).pick(results)?)?.into_iter();
        let mut late = T::from_arrays(&Places::new(is_late.values().iter(), true).pick(late)?)?.into_iter();
        let row = |is_late| if is_late { late.next().map(Tagged::Late) } else { results.next().map(Tagged::Result) };
        let rows: Option<Vec<Self>> = is_late.values().iter().map(row).collect();
        rows.ok_or_else(|| Error::bug("late rows and results do not add up"))
    }
}

/// The rows of one part, with their times.
fn part<R: Record, U: Record, T: Record>(of: fn(Tagged<U, T>) -> Option<R>) -> StageFactory<R> {
    let stage = decode::<Tagged<U, T>>();
    Arc::new(move || {
        let mut stage = stage();
        Box::new(move |batch: &ChangeBatch| {
            let mut rows = Rows::empty();
            for (row, time) in stage.run(batch)?.into_pairs() {
                if let Some(row) = of(row) {
                    rows.push(row, time);
                }
            }
            Ok(rows)
        })
    })
}

/// A keyed stream in windows whose late rows are kept: two streams come out.
pub struct LateWindowedStream<K: Record, T: Record> {
    windows: WindowedStream<K, T>,
    uid: Option<String>,
}

impl<K: Record, T: Record> LateWindowedStream<K, T> {
    pub(super) fn new(windows: WindowedStream<K, T>) -> Self {
        LateWindowedStream { windows, uid: None }
    }

    /// The address of the windows' state, kept when the program changes.
    pub fn uid(mut self, uid: &str) -> Self {
        self.uid = Some(uid.to_owned());
        self
    }

    /// Folds the rows of each window into one. The second stream has the late rows.
    pub fn reduce(self, f: impl Fn(T, T) -> T + Clone + Send + Sync + 'static) -> (DataStream<T>, DataStream<T>)
    where
        T: StateType,
    {
        self.fold("WindowReduce", Reducing::new(f), |_, _, row| row)
    }

    /// Aggregates the rows of each window; `emit` makes the output row of key, window and result. The second stream has the late
    /// rows.
    pub fn aggregate<F, U>(
        self,
        function: F,
        emit: impl Fn(&K, TimeWindow, F::Out) -> U + Clone + Send + Sync + 'static,
    ) -> (DataStream<U>, DataStream<T>)
    where
        F: AggregateFunction<In = T>,
        U: Record,
    {
        self.fold("WindowAggregate", Aggregating(function), emit)
    }

    fn fold<F, U>(
        self,
        name: &str,
        fold: F,
        emit: impl Fn(&K, TimeWindow, F::Out) -> U + Clone + Send + Sync + 'static,
    ) -> (DataStream<U>, DataStream<T>)
    where
        F: Fold<In = T>,
        U: Record,
    {
        let emit = move |key: &K, window: TimeWindow, result: F::Out| Tagged::<U, T>::Result(emit(key, window, result));
        let mut both = self.windows.fold(name, fold, emit, Some(Tagged::Late));
        if let Some(uid) = &self.uid {
            both = both.uid(uid);
        }
        let results = |row| match row {
            Tagged::<U, T>::Result(row) => Some(row),
            Tagged::Late(_) => None,
        };
        let late = |row| match row {
            Tagged::<U, T>::Late(row) => Some(row),
            Tagged::Result(_) => None,
        };
        (both.clone().part("Results", part(results)), both.part("Late", part(late)))
    }
}
