//! Writes the cut of a task off its thread and answers with an event.

use flott_checkpoint::stats::CutRecord;
use flott_core::element::Barrier;
use flott_core::error::{Error, Result};
use flott_core::ids::SubtaskId;
use flott_core::snapshot::{ChunkWriter, OperatorCut, OperatorSubtaskState, SubtaskCheckpointStats, SubtaskState};
use flott_runtime::{InFlightCut, TaskCut};

use super::{JobEvent, JobMaster};

impl JobMaster {
    /// Hands the cut to the work threads.
    pub(super) fn upload(&mut self, subtask: SubtaskId, cut: TaskCut) {
        let Barrier { checkpoint, .. } = cut.barrier;
        let passed = CutRecord {
            at_ms: self.now(),
            start_delay_ms: cut.start_delay_ms,
            alignment_ms: cut.alignment_ms,
            sync_ms: cut.sync_ms,
        };
        self.parts.coordinator.stats_mut().cut(checkpoint, subtask, passed);
        let writer = match self.parts.storage.chunk_writer(checkpoint) {
            Ok(w) => w,
            Err(e) => {
                let _ = self.sender.try_send(JobEvent::Uploaded { subtask, checkpoint, result: Err(e) });
                return;
            }
        };
        let (clock, sender) = (self.parts.clock.clone(), self.sender.clone());
        // All data is read and handed on: keyed state can only matter to a later process, and without a directory there is
        // none that could find it. What sinks have to commit is operator state.
        let needless = cut.barrier.options.last && self.parts.options.checkpoint_dir.is_none();
        self.work.submit(move || {
            let mut cut = cut;
            if needless {
                cut.cuts.iter_mut().for_each(|c| c.keyed = None);
            }
            let start = clock.now_nanos();
            let result = caught(|| write(cut.cuts, cut.in_flight, subtask.index, &*writer)).map(|state| {
                let stats = SubtaskCheckpointStats {
                    start_delay_ms: cut.start_delay_ms,
                    alignment_ms: cut.alignment_ms,
                    sync_ms: cut.sync_ms,
                    async_ms: (clock.now_nanos() - start) / 1_000_000,
                    state_bytes: state.state_bytes(),
                    written_bytes: state.written_bytes(),
                    processed_bytes: cut.processed_bytes,
                    persisted_bytes: state.persisted_bytes(),
                    unaligned: cut.unaligned,
                };
                (state, stats)
            });
            let _ = sender.send(JobEvent::Uploaded { subtask, checkpoint, result });
        });
    }
}

/// Calls `f`; a panic comes back as an error, so that whoever waits for the answer gets one.
pub(super) fn caught<T>(f: impl FnOnce() -> Result<T>) -> Result<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(f))
        .unwrap_or_else(|_| Err(Error::bug("storing a checkpoint panicked; the place is on standard error")))
}

fn write(
    cuts: Vec<OperatorCut>,
    in_flight: InFlightCut,
    subtask: u32,
    writer: &dyn ChunkWriter,
) -> Result<SubtaskState> {
    let operators = cuts.into_iter().map(|cut| {
        let keyed = cut.keyed.map(|k| k.write(writer)).transpose()?;
        Ok(OperatorSubtaskState { operator: cut.operator, keyed, operator_state: cut.operator_state })
    });
    let operators = operators.collect::<Result<_>>()?;
    Ok(SubtaskState { operators, in_flight: in_flight.write(subtask, writer)? })
}
