//! WindowAssign: appends window columns to each row, once per window it falls into. Drops nothing, keeps no state.

use arrow_array::{RecordBatch, UInt32Array};
use arrow_schema::SchemaRef;
use flott_core::batch::ChangeBatch;
use flott_core::error::{Error, Result};
use flott_core::operator::{Operator, OperatorContext, OperatorProperties, Progress, TARGET_BATCH_ROWS};
use flott_core::types::{Column, arrow_schema};
use flott_plan::spec::{WindowProperty, WindowSpec};

use super::grid::Grid;
use super::properties::column;
use super::{row_times, time_column};
use crate::zone::ZoneShift;

/// The operator.
pub(crate) struct WindowAssign {
    window: WindowSpec,
    time_name: String,
    grid: Grid,
    shift: ZoneShift,
    output: SchemaRef,
    /// What is left of the current batch, with the time of each of its rows.
    rest: Option<(ChangeBatch, Vec<i64>)>,
}

impl WindowAssign {
    /// Appends `window_start`, `window_end` and `window_time`: the last three columns of `output`.
    pub(crate) fn new(window: &WindowSpec, input: &[Column], output: &[Column]) -> Result<Self> {
        if output.len() != input.len() + 3 {
            return Err(Error::bug(format!(
                "a window table function over {} columns has {}",
                input.len(),
                output.len()
            )));
        }
        Ok(WindowAssign {
            window: window.clone(),
            time_name: time_column(window, input)?,
            grid: Grid::new(window.kind)?,
            shift: ZoneShift::new(window.zone.as_deref())?,
            output: arrow_schema(output),
            rest: None,
        })
    }

    fn expand(&self, batch: &ChangeBatch, times: &[i64]) -> Result<ChangeBatch> {
        let (mut rows, mut windows) = (Vec::new(), Vec::new());
        for (row, &time) in times.iter().enumerate() {
            let slice = self.grid.slice_end(time);
            let mut end = self.grid.first_window(slice);
            while end <= self.grid.last_window(slice) {
                rows.push(row as u32);
                windows.push((self.grid.start(end), end));
                end += self.grid.slide;
            }
        }
        let one_each = rows.len() == times.len() && rows.iter().enumerate().all(|(i, &r)| i as u32 == r);
        let taken = if one_each { batch.clone() } else { batch.take(&UInt32Array::from(rows))? };
        let mut columns = taken.rows.columns().to_vec();
        for property in [WindowProperty::Start, WindowProperty::End, WindowProperty::Time] {
            let arrow = self.output.field(columns.len()).data_type();
            columns.push(column(property, arrow, &windows, &self.shift)?);
        }
        Ok(ChangeBatch::new(RecordBatch::try_new(self.output.clone(), columns)?, taken.kinds, taken.times))
    }
}

impl Operator for WindowAssign {
    fn open(&mut self, _ctx: &mut OperatorContext) -> Result<OperatorProperties> {
        Ok(OperatorProperties::default())
    }
    fn process(&mut self, _port: usize, batch: ChangeBatch, ctx: &mut OperatorContext) -> Result<Progress> {
        let times = row_times(&self.window, &self.time_name, &mut self.shift, &batch, i64::MIN, ctx)?;
        self.rest = Some((batch, times));
        self.resume(ctx)
    }
    fn resume(&mut self, ctx: &mut OperatorContext) -> Result<Progress> {
        while let Some((batch, times)) = self.rest.take() {
            if !ctx.out.has_room() {
                self.rest = Some((batch, times));
                return Ok(Progress::Blocked);
            }
            let rows = batch.num_rows();
            let now = (TARGET_BATCH_ROWS / self.grid.windows_per_row()).clamp(1, rows.max(1));
            let now = if self.grid.windows_per_row() == 1 { rows } else { now.min(rows) };
            ctx.out.emit(self.expand(&batch.slice(0, now), &times[..now])?);
            if now < rows {
                self.rest = Some((batch.slice(now, rows - now), times[now..].to_vec()));
            }
        }
        Ok(Progress::Done)
    }
}
