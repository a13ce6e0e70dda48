//! Writes the cut of a task off its thread and answers with an event.

use flott_core::element::Barrier;
use flott_core::error::Result;
use flott_core::ids::SubtaskId;
use flott_core::snapshot::{ChunkWriter, OperatorCut, OperatorSubtaskState, SubtaskCheckpointStats, SubtaskState};
use flott_runtime::TaskCut;

use super::{JobEvent, JobMaster};

impl JobMaster {
    /// Hands the cut to the work threads.
    pub(super) fn upload(&mut self, subtask: SubtaskId, cut: TaskCut) {
        let Barrier { checkpoint, .. } = cut.barrier;
        let writer = match self.parts.storage.chunk_writer(checkpoint) {
            Ok(w) => w,
            Err(e) => {
                let _ = self.sender.try_send(JobEvent::Uploaded { subtask, checkpoint, result: Err(e) });
                return;
            }
        };
        let (clock, sender) = (self.parts.clock.clone(), self.sender.clone());
        self.work.submit(move || {
            let start = clock.now_nanos();
            let result = write(cut.cuts, &*writer).map(|state| {
                let stats = SubtaskCheckpointStats {
                    start_delay_ms: cut.start_delay_ms,
                    alignment_ms: cut.alignment_ms,
                    sync_ms: cut.sync_ms,
                    async_ms: (clock.now_nanos() - start) / 1_000_000,
                    state_bytes: state.state_bytes(),
                    written_bytes: state.written_bytes(),
                };
                (state, stats)
            });
            let _ = sender.send(JobEvent::Uploaded { subtask, checkpoint, result });
        });
    }
}

fn write(cuts: Vec<OperatorCut>, writer: &dyn ChunkWriter) -> Result<SubtaskState> {
    let operators = cuts.into_iter().map(|cut| {
        let keyed = cut.keyed.map(|k| k.write(writer)).transpose()?;
        Ok(OperatorSubtaskState { operator: cut.operator, keyed, operator_state: cut.operator_state })
    });
    Ok(SubtaskState { operators: operators.collect::<Result<_>>()? })
}
