//! Writes the cuts of tasks off their threads and reports the state that came of them.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use flott_checkpoint::JobStorage;
use flott_core::element::Barrier;
use flott_core::error::{Error, Result};
use flott_core::ids::SubtaskId;
use flott_core::snapshot::{ChunkWriter, OperatorCut, OperatorSubtaskState, SubtaskCheckpointStats, SubtaskState};
use flott_core::task::TaskReport;
use flott_core::time::SharedClock;
use flott_jobmanager::{JobEvent, WorkThreads, caught};
use flott_runtime::{InFlightCut, TaskCut};

/// Writes cuts at the same time at most.
const THREADS: usize = 2;

/// The threads that write.
pub struct Uploads {
    work: WorkThreads,
    storage: Arc<JobStorage>,
    /// Whether a later process can find the checkpoints.
    durable: bool,
    clock: SharedClock,
    sender: SyncSender<JobEvent>,
}

impl Uploads {
    /// Starts them. `durable`: whether checkpoints outlive the process.
    pub fn start(
        storage: Arc<JobStorage>,
        durable: bool,
        clock: &SharedClock,
        sender: &SyncSender<JobEvent>,
    ) -> Result<Arc<Self>> {
        let work = WorkThreads::start("checkpoint-io", THREADS)
            .map_err(|e| Error::retry("job.threads", format!("cannot start a thread: {e}")))?;
        Ok(Arc::new(Uploads { work, storage, durable, clock: clock.clone(), sender: sender.clone() }))
    }

    /// Says that a task has cut its state, and has that written.
    pub fn submit(&self, subtask: SubtaskId, attempt: u32, cut: TaskCut) {
        let Barrier { checkpoint, options, .. } = cut.barrier;
        let sender = self.sender.clone();
        let report = move |report| {
            // The job master outlives its tasks; if it is gone, so is the process.
            let _ = sender.send(JobEvent::Task { subtask, attempt, report });
        };
        report(TaskReport::Cut {
            checkpoint,
            start_delay_ms: cut.start_delay_ms,
            alignment_ms: cut.alignment_ms,
            sync_ms: cut.sync_ms,
        });
        // Now, not when a thread gets to it: from here on the storage keeps the files that the cut refers to.
        let (writer, clock) = (self.storage.chunk_writer(checkpoint), self.clock.clone());
        // All data is read and handed on: keyed state can only matter to a later process, and without a directory there is
        // none that could find it. What sinks have to commit is operator state.
        let needless = options.last && !self.durable;
        self.work.submit(move || {
            let mut cut = cut;
            if needless {
                cut.cuts.iter_mut().for_each(|c| c.keyed = None);
            }
            let start = clock.now_nanos();
            let result = caught(|| write(cut.cuts, cut.in_flight, subtask.index, &*writer?));
            report(match result {
                Ok(state) => {
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
                    TaskReport::Acknowledged { checkpoint, state, stats }
                }
                Err(e) => TaskReport::Declined { checkpoint, storing: true, reason: e.to_string() },
            });
        });
    }
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
