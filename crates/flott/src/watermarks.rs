//! Watermark strategies: from rows to event times, and from event times to watermarks.

use std::sync::Arc;

use flott_core::batch::ChangeBatch;
use flott_core::element::Signal;
use flott_core::error::Result;
use flott_core::operator::{Operator, OperatorContext, OperatorEvent, OperatorProperties, Progress};
use flott_core::source::{SourceTransform, SourceTransformFactory, WatermarkAlignment, WatermarkOptions};
use flott_core::time::EventTime;
use flott_plan::stream_graph::NodeKind;

use crate::record::{Record, Timestamp};
use crate::stage::{Rows, Stage, StageFactory, decode, encode};
use crate::stream::DataStream;

type Extract<T> = Arc<dyn Fn(&T) -> Timestamp + Send + Sync>;

/// How event times and watermarks come about.
#[derive(Clone)]
pub struct WatermarkStrategy<T> {
    bound_ms: i64,
    extract: Extract<T>,
    options: WatermarkOptions,
}

impl<T: Record> WatermarkStrategy<T> {
    /// Rows may be up to `bound_ms` older than the newest one seen.
    pub fn bounded_out_of_orderness(bound_ms: i64, extract: impl Fn(&T) -> Timestamp + Send + Sync + 'static) -> Self {
        WatermarkStrategy { bound_ms, extract: Arc::new(extract), options: WatermarkOptions::default() }
    }
    /// Rows come in order.
    pub fn monotonous(extract: impl Fn(&T) -> Timestamp + Send + Sync + 'static) -> Self {
        Self::bounded_out_of_orderness(0, extract)
    }
    /// A split without rows for so long no longer holds the watermark back.
    pub fn with_idleness(mut self, timeout_ms: i64) -> Self {
        self.options.idle_timeout_ms = Some(timeout_ms);
        self
    }
    /// Sources of one group read at most `max_drift_ms` ahead of the slowest.
    pub fn with_alignment(mut self, group: &str, max_drift_ms: i64) -> Self {
        self.options.alignment = Some(WatermarkAlignment { group: group.to_owned(), max_drift_ms });
        self
    }
}

struct Timed<T> {
    stage: Box<dyn Stage<T>>,
    extract: Extract<T>,
    bound_ms: i64,
    newest_ms: i64,
}

impl<T: Record> Timed<T> {
    /// The batch with event times, and the watermark if it rose. As in Flink, a watermark is 1 ms below the bound.
    fn apply(&mut self, batch: &ChangeBatch) -> Result<(Rows<T>, Option<i64>)> {
        let mut rows = self.stage.run(batch)?;
        let times: Vec<i64> = rows.values.iter().map(|r| (self.extract)(r).0).collect();
        let newest = times.iter().copied().max().unwrap_or(i64::MIN);
        rows.times = Some(times);
        if newest <= self.newest_ms {
            return Ok((rows, None));
        }
        self.newest_ms = newest;
        Ok((rows, Some(newest.saturating_sub(self.bound_ms).saturating_sub(1))))
    }
}

impl<T: Record> SourceTransform for Timed<T> {
    fn apply(&mut self, batch: ChangeBatch) -> Result<(ChangeBatch, Option<i64>)> {
        let (rows, watermark) = Timed::apply(self, &batch)?;
        Ok((ChangeBatch::new(batch.rows, None, rows.times.map(Into::into)), watermark))
    }
}

struct Transform<T> {
    stage: StageFactory<T>,
    strategy: WatermarkStrategy<T>,
}

impl<T: Record> Transform<T> {
    fn timed(&self) -> Timed<T> {
        let (extract, bound_ms) = (Arc::clone(&self.strategy.extract), self.strategy.bound_ms);
        Timed { stage: (self.stage)(), extract, bound_ms, newest_ms: i64::MIN }
    }
}

impl<T: Record> SourceTransformFactory for Transform<T> {
    fn create(&self) -> Result<Box<dyn SourceTransform>> {
        Ok(Box::new(self.timed()))
    }
    fn has_watermarks(&self) -> bool {
        true
    }
}

/// In the middle of a stream: one watermark per subtask; those from upstream end here, but for the last.
struct WatermarkOperator<T>(Timed<T>);

impl<T: Record> Operator for WatermarkOperator<T> {
    fn open(&mut self, _: &mut OperatorContext) -> Result<OperatorProperties> {
        Ok(OperatorProperties { forwards_watermarks: false, forwards_idleness: false })
    }
    fn process(&mut self, _: usize, batch: ChangeBatch, ctx: &mut OperatorContext) -> Result<Progress> {
        let (rows, watermark) = self.0.apply(&batch)?;
        ctx.out.emit(encode(&rows)?);
        if let Some(w) = watermark {
            ctx.out.emit_signal(Signal::Watermark(EventTime(w)));
        }
        Ok(Progress::Done)
    }
    fn on_event(&mut self, event: OperatorEvent, ctx: &mut OperatorContext) -> Result<Progress> {
        if let OperatorEvent::Watermark(EventTime::MAX) = event {
            ctx.out.emit_signal(Signal::Watermark(EventTime::MAX));
        }
        Ok(Progress::Done)
    }
}

pub(crate) fn assign<T: Record>(stream: DataStream<T>, strategy: WatermarkStrategy<T>) -> Result<DataStream<T>> {
    let transform = Transform { stage: stream.stage(), strategy };
    if stream.is_source() {
        stream.env.with_graph(|g| {
            if let NodeKind::Source(source) = &mut g.nodes[stream.node.0].kind {
                source.watermarks = transform.strategy.options.clone();
                source.transform = Some(Arc::new(transform));
            }
        });
        return Ok(stream);
    }
    let factory = move || -> Result<Box<dyn Operator>> { Ok(Box::new(WatermarkOperator(transform.timed()))) };
    let node = stream.append(&stream.name_with("TimestampsAndWatermarks"), T::columns(), Arc::new(factory));
    Ok(DataStream::of_node(stream.env, node, decode::<T>()))
}
