//! The source behind VALUES and SELECT without FROM: literal rows, once. Never reads anything.

use std::sync::Arc;

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::Schema;
use flott_core::source::{Boundedness, ReaderContext, ReaderEvent, Source, Split, SplitEnumerator, SplitReader};
use flott_core::types::Column;
use flott_core::{ChangeBatch, Error, Result};
use flott_expr::{CompiledCalc, EvalContext};
use flott_plan::Expr;

const SPLIT: &str = "values";

/// Literal rows.
pub(crate) struct ValuesSource {
    rows: Arc<Vec<CompiledCalc>>,
    zone: chrono_tz::Tz,
}

impl ValuesSource {
    /// The rows, each an expression per column; refuses what does not compile.
    pub(crate) fn new(rows: Vec<Vec<Expr>>, columns: Vec<Column>, zone: &str) -> Result<Self> {
        let names: Vec<String> = columns.iter().map(|c| c.name.clone()).collect();
        let rows = rows.iter().map(|r| CompiledCalc::compile(None, r, &[], &names)).collect::<Result<Vec<_>>>()?;
        Ok(ValuesSource { rows: Arc::new(rows), zone: flott_expr::parse_zone(zone).unwrap_or(chrono_tz::Tz::UTC) })
    }
}

impl Source for ValuesSource {
    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }
    fn enumerator(&self) -> Result<Box<dyn SplitEnumerator>> {
        Ok(Box::new(OneSplit))
    }
    fn reader(&self, context: ReaderContext) -> Result<Box<dyn SplitReader>> {
        Ok(Box::new(ValuesReader { rows: self.rows.clone(), zone: self.zone, context, stage: Stage::Unassigned }))
    }
}

struct OneSplit;

impl SplitEnumerator for OneSplit {
    fn discover(&mut self, _parallelism: u32) -> Result<Vec<Split>> {
        Ok(vec![Split { id: SPLIT.to_owned(), state: Vec::new() }])
    }
}

/// How far the reader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Unassigned,
    Assigned,
    Emitted,
    Finished,
}

struct ValuesReader {
    rows: Arc<Vec<CompiledCalc>>,
    zone: chrono_tz::Tz,
    context: ReaderContext,
    stage: Stage,
}

impl ValuesReader {
    fn batch(&self) -> Result<ChangeBatch> {
        let options = RecordBatchOptions::new().with_row_count(Some(1));
        let one = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options)?;
        let eval = EvalContext::new(self.context.clock.now_ms(), self.zone);
        let mut parts = Vec::with_capacity(self.rows.len());
        for row in self.rows.iter() {
            let (rows, _) = row.apply(&one, &eval)?.ok_or_else(|| Error::bug("a row of VALUES was filtered"))?;
            parts.push(ChangeBatch::append(rows));
        }
        ChangeBatch::concat(&parts)
    }
}

impl SplitReader for ValuesReader {
    fn assign(&mut self, splits: Vec<Split>) -> Result<()> {
        if let Some(split) = splits.first() {
            self.stage = if split.state.is_empty() { Stage::Assigned } else { Stage::Emitted };
        }
        Ok(())
    }
    fn poll(&mut self) -> Result<ReaderEvent> {
        match self.stage {
            Stage::Assigned if !self.rows.is_empty() => {
                let batch = self.batch()?;
                self.stage = Stage::Emitted;
                Ok(ReaderEvent::Rows { split: SPLIT.into(), batch })
            }
            Stage::Assigned | Stage::Emitted => {
                self.stage = Stage::Finished;
                Ok(ReaderEvent::SplitFinished { split: SPLIT.into() })
            }
            Stage::Unassigned | Stage::Finished => Ok(ReaderEvent::Drained),
        }
    }
    fn snapshot(&mut self) -> Result<Vec<Split>> {
        let split = |state| vec![Split { id: SPLIT.to_owned(), state }];
        Ok(match self.stage {
            Stage::Assigned => split(Vec::new()),
            Stage::Emitted => split(vec![1]),
            Stage::Unassigned | Stage::Finished => Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use flott_core::config::Configuration;
    use flott_core::memory::MemoryBudget;
    use flott_core::metrics::OperatorMetrics;
    use flott_core::time::ManualClock;
    use flott_core::types::TypeKind;
    use flott_plan::Literal;

    use super::*;

    fn reader() -> Box<dyn SplitReader> {
        let cell = |i| vec![Expr::literal(Literal::Int(i), TypeKind::Int.not_null())];
        let columns = vec![Column::new("a", TypeKind::Int.not_null())];
        let source = ValuesSource::new(vec![cell(1), cell(2)], columns, "UTC").expect("compiles");
        let context = ReaderContext {
            subtask: 0,
            parallelism: 1,
            clock: ManualClock::at(0),
            config: Arc::new(Configuration::default()),
            metrics: Arc::new(OperatorMetrics::default()),
            memory: MemoryBudget::unlimited(),
        };
        source.reader(context).expect("a reader")
    }

    #[test]
    fn emits_once_and_not_again_after_a_restore() {
        let mut first = reader();
        assert!(matches!(first.poll(), Ok(ReaderEvent::Drained)), "nothing is assigned yet");
        first.assign(OneSplit.discover(1).expect("splits")).expect("assigned");
        assert_eq!(first.snapshot().expect("position")[0].state, Vec::<u8>::new());
        match first.poll().expect("rows") {
            ReaderEvent::Rows { batch, .. } => assert_eq!(batch.num_rows(), 2),
            other => panic!("expected rows, got {other:?}"),
        }
        let position = first.snapshot().expect("position");
        let mut second = reader();
        second.assign(position).expect("assigned");
        assert!(matches!(second.poll(), Ok(ReaderEvent::SplitFinished { .. })));
        assert!(matches!(second.poll(), Ok(ReaderEvent::Drained)));
        assert!(second.snapshot().expect("position").is_empty());
    }
}
