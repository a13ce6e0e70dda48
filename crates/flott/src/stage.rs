//! Operators that need no state, fused: a chain of closures over rows, with Arrow only at its two ends.

use std::sync::Arc;

use arrow_array::RecordBatch;
use flott_core::batch::{ChangeBatch, RowKind};
use flott_core::error::{Error, Result};
use flott_core::operator::{Operator, OperatorContext, OperatorProperties, Progress};
use flott_core::types::arrow_schema;

use crate::record::Record;

/// The event time of a row that has none, in a batch in which others do: Flink's.
pub const NO_TIME: i64 = i64::MIN;

/// Rows with their event times, if they have any.
pub struct Rows<T> {
    /// The rows.
    pub values: Vec<T>,
    /// One per row, or none at all.
    pub times: Option<Vec<i64>>,
}

impl<T> Rows<T> {
    /// The rows one by one with their times.
    pub fn into_pairs(self) -> impl Iterator<Item = (T, Option<i64>)> {
        let times = self.times.unwrap_or_default().into_iter().map(|t| (t != NO_TIME).then_some(t));
        self.values.into_iter().zip(times.chain(std::iter::repeat(None)))
    }
    /// Appends a row with the time of the row it comes from.
    pub fn push(&mut self, value: T, time: Option<i64>) {
        match (time, &mut self.times) {
            (_, Some(times)) => times.push(time.unwrap_or(NO_TIME)),
            (Some(t), None) => {
                let mut times = vec![NO_TIME; self.values.len()];
                times.push(t);
                self.times = Some(times);
            }
            (None, None) => {}
        }
        self.values.push(value);
    }
    /// No rows.
    pub fn empty() -> Self {
        Rows { values: Vec::new(), times: None }
    }
}

/// From a batch to rows of type `T`.
pub trait Stage<T>: Send {
    /// The rows of a batch.
    fn run(&mut self, batch: &ChangeBatch) -> Result<Rows<T>>;
}

impl<T, F: FnMut(&ChangeBatch) -> Result<Rows<T>> + Send> Stage<T> for F {
    fn run(&mut self, batch: &ChangeBatch) -> Result<Rows<T>> {
        self(batch)
    }
}

/// Makes the stage of each subtask.
pub type StageFactory<T> = Arc<dyn Fn() -> Box<dyn Stage<T>> + Send + Sync>;

/// The stage that only reads columns.
pub fn decode<T: Record>() -> StageFactory<T> {
    let width = T::columns().len();
    Arc::new(move || {
        Box::new(move |batch: &ChangeBatch| {
            if batch.kinds.as_ref().is_some_and(|k| k.iter().any(|k| *k != RowKind::Insert)) {
                return Err(Error::user(
                    "datastream.changelog",
                    "the stream holds updates, and this operator takes only inserts",
                )
                .hint("convert it with to_changelog_stream, or aggregate over windows"));
            }
            let values = T::from_arrays(&batch.rows.columns()[..width])?;
            Ok(Rows { values, times: batch.times.as_ref().map(|t| t.to_vec()) })
        })
    })
}

/// Rows to a batch.
pub fn encode<T: Record>(rows: &Rows<T>) -> Result<ChangeBatch> {
    let batch = RecordBatch::try_new(arrow_schema(&T::columns()), T::to_arrays(&rows.values))?;
    Ok(ChangeBatch::new(batch, None, rows.times.as_ref().map(|t| t.as_slice().into())))
}

/// A stage as an operator: encodes what comes out.
pub struct StageOperator<T, E> {
    /// The closures.
    pub stage: Box<dyn Stage<T>>,
    /// How rows become a batch.
    pub encode: E,
}

impl<T, E> Operator for StageOperator<T, E>
where
    T: Send,
    E: FnMut(&Rows<T>) -> Result<ChangeBatch> + Send,
{
    fn open(&mut self, _: &mut OperatorContext) -> Result<OperatorProperties> {
        Ok(OperatorProperties::default())
    }
    fn process(&mut self, _: usize, batch: ChangeBatch, ctx: &mut OperatorContext) -> Result<Progress> {
        let rows = self.stage.run(&batch)?;
        if !rows.values.is_empty() {
            ctx.out.emit((self.encode)(&rows)?);
        }
        Ok(Progress::Done)
    }
}
