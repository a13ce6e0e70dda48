//! What a published checkpoint says about itself, and what a new job may take from it; never does I/O.

mod assign;
mod codec;
mod fit;

use flott_core::snapshot::{
    ChunkLocation, ChunkRef, InFlightSegment, KeyedStateHandle, OperatorStateEntry, OperatorSubtaskState,
};
use flott_core::{CheckpointId, JobId, OperatorId};
use serde::{Deserialize, Serialize};

pub use assign::assign;
pub use codec::{Frame, METADATA, METADATA_IN_FLIGHT};
pub use fit::graph_fit;

/// The content of `chk-N/_metadata`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointMetadata {
    /// The job.
    pub job: JobId,
    /// Its name.
    pub job_name: String,
    /// The checkpoint.
    pub checkpoint: CheckpointId,
    /// The start of the job that wrote it.
    pub generation: u64,
    /// When it was triggered, milliseconds.
    pub triggered_ms: i64,
    /// When the last subtask acknowledged, milliseconds.
    pub completed_ms: i64,
    /// A savepoint: never dropped by retention.
    pub savepoint: bool,
    /// The final checkpoint of a job that has read all its data: nothing is left to process.
    pub last: bool,
    /// Max parallelism of the job.
    pub max_parallelism: u32,
    /// Every operator of the job, stateless ones included.
    pub operators: Vec<OperatorMetadata>,
    /// State of the enumerators.
    pub coordinator_states: Vec<CoordinatorState>,
    /// Rows that an unaligned barrier overtook. Without them the file has version 1, with them version 2, where they follow.
    #[serde(skip)]
    pub in_flight: Vec<InFlightSegment>,
}

/// One operator in a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorMetadata {
    /// The operator.
    pub id: OperatorId,
    /// Its name, for messages.
    pub name: String,
    /// Number of subtasks it had.
    pub parallelism: u32,
    /// Number of key groups.
    pub max_parallelism: u32,
    /// Subtask index and state, ascending.
    pub subtasks: Vec<(u32, OperatorSubtaskState)>,
}

impl OperatorMetadata {
    /// Whether there is anything to restore.
    pub fn has_state(&self) -> bool {
        self.subtasks.iter().any(|(_, s)| s.keyed.is_some() || s.operator_state.iter().any(|e| !e.items.is_empty()))
    }
}

/// State of one enumerator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoordinatorState {
    /// The source operator.
    pub operator: OperatorId,
    /// The enumerator's own encoding.
    pub state: Vec<u8>,
}

/// What a checkpoint needs to know of the job that takes or restores it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobDescription {
    /// The job.
    pub job: JobId,
    /// Its name.
    pub name: String,
    /// Max parallelism of the job.
    pub max_parallelism: u32,
    /// Every operator.
    pub operators: Vec<OperatorInfo>,
}

/// One operator of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorInfo {
    /// The operator.
    pub id: OperatorId,
    /// Its name, for messages.
    pub name: String,
    /// Number of subtasks.
    pub parallelism: u32,
    /// Number of key groups.
    pub max_parallelism: u32,
}

/// What one subtask of one operator takes over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestoredOperator {
    /// Handles that may hold key groups of this subtask; the backend picks its range out of them.
    pub keyed: Vec<KeyedStateHandle>,
    /// Operator state, redistributed.
    pub operator_state: Vec<OperatorStateEntry>,
    /// The enumerator's state, if the operator is a source: the same for every subtask.
    pub coordinator_state: Option<Vec<u8>>,
}

impl CheckpointMetadata {
    /// All chunks that the checkpoint refers to.
    pub fn chunks(&self) -> impl Iterator<Item = &ChunkRef> {
        let states = self.operators.iter().flat_map(|o| o.subtasks.iter());
        let keyed = states.filter_map(|(_, s)| s.keyed.as_ref()).flat_map(|k| k.chunks.iter());
        keyed.chain(self.in_flight.iter().map(|s| &s.chunk))
    }
    /// Paths of all files that the checkpoint refers to, with repetitions.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.chunks().filter_map(|c| match &c.location {
            ChunkLocation::File { path, .. } => Some(path.as_str()),
            ChunkLocation::Inline(_) => None,
        })
    }
    /// Bytes of keyed state that the checkpoint stands for.
    pub fn state_bytes(&self) -> u64 {
        let states = self.operators.iter().flat_map(|o| o.subtasks.iter());
        states.filter_map(|(_, s)| s.keyed.as_ref()).map(|k| k.state_bytes).sum()
    }
    /// What subtask `index` of `parallelism` takes over; see [`assign`].
    pub fn assign(&self, operator: OperatorId, parallelism: u32, index: u32) -> RestoredOperator {
        assign(self, operator, parallelism, index)
    }
    /// Bytes of rows in flight.
    pub fn in_flight_bytes(&self) -> u64 {
        self.in_flight.iter().map(|s| s.chunk.len).sum()
    }
    /// The file's bytes.
    pub fn encode(&self) -> Vec<u8> {
        match self.in_flight.is_empty() {
            true => METADATA.encode(self),
            false => METADATA_IN_FLIGHT.encode(&(self, &self.in_flight)),
        }
    }
    /// Reads the file's bytes; `path` is named in errors.
    pub fn decode(bytes: &[u8], path: &str) -> flott_core::Result<Self> {
        if METADATA.is_version_of(bytes) {
            return METADATA.decode(bytes, path);
        }
        let (metadata, in_flight): (Self, _) = METADATA_IN_FLIGHT.decode(bytes, path)?;
        Ok(CheckpointMetadata { in_flight, ..metadata })
    }
}

#[cfg(test)]
mod tests;
