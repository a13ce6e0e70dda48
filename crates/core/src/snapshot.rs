//! What a checkpoint is made of: chunks of bytes, handles to them, and the state of one subtask.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::ids::OperatorId;
use crate::key_group::KeyGroupRange;

/// Who owns a stored chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChunkScope {
    /// This checkpoint alone: goes with it (`chk-N/`), or inside its metadata when small.
    Exclusive,
    /// May be referred to by later checkpoints (`shared/`).
    Shared,
}

/// Where bytes lie.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChunkLocation {
    /// Inside the metadata.
    Inline(#[serde(with = "bytes_serde")] Bytes),
    /// A part of a file.
    File {
        /// Path relative to the job's checkpoint directory, such as `chk-7/1f…` or `shared/9a…`.
        path: String,
        /// First byte of the chunk within the file.
        offset: u64,
    },
}

/// A stored chunk: place, length, checksum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkRef {
    /// Who owns it.
    pub scope: ChunkScope,
    /// Where it lies.
    pub location: ChunkLocation,
    /// Length in bytes.
    pub len: u64,
    /// CRC-32 (IEEE) of the bytes; verified on every read.
    pub crc32: u32,
}

/// Writes the chunks of one checkpoint of one subtask. Called off the task's thread; may block.
pub trait ChunkWriter: Send + Sync {
    /// Stores `bytes` as one file (or inline when below the threshold) and returns once they are durable.
    fn put(&self, scope: ChunkScope, bytes: Bytes) -> Result<ChunkRef>;
}

/// Reads chunks back and checks their checksums.
pub trait ChunkReader: Send + Sync {
    /// The bytes of a chunk; `Corrupt` when they are not what was written.
    fn get(&self, chunk: &ChunkRef) -> Result<Bytes>;
}

/// The cut of a state backend, to be written off the task's thread.
pub trait KeyedSnapshot: Send {
    /// Writes what is not stored yet.
    fn write(self: Box<Self>, writer: &dyn ChunkWriter) -> Result<KeyedStateHandle>;
}

/// Stored keyed state of one operator of one subtask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyedStateHandle {
    /// Format of the chunks, such as `flott-canonical`, and its version.
    pub format: (String, u32),
    /// Key groups the chunks may hold.
    pub key_groups: KeyGroupRange,
    /// Backend's own description of tables and chunks, versioned by `format`.
    #[serde(with = "bytes_serde")]
    pub descriptor: Bytes,
    /// The chunks.
    pub chunks: Vec<ChunkRef>,
    /// Bytes of state that the handle stands for.
    pub state_bytes: u64,
    /// Bytes written by this checkpoint (less than `state_bytes` when incremental).
    pub written_bytes: u64,
}

/// How operator state is spread over subtasks on restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Redistribution {
    /// Items are dealt out round-robin.
    Split,
    /// Every subtask gets all items.
    Union,
    /// All subtasks hold the same; each gets one copy.
    Broadcast,
}

/// One named list of operator state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorStateEntry {
    /// Name, unique within the operator.
    pub name: String,
    /// Spread on restore.
    pub redistribution: Redistribution,
    /// The items.
    #[serde(with = "vec_bytes_serde")]
    pub items: Vec<Bytes>,
}

/// Operator (list) state of one operator: set before a barrier, taken when the operator opens.
#[derive(Clone, Debug, Default)]
pub struct OperatorStateStore {
    current: Vec<OperatorStateEntry>,
    restored: Vec<OperatorStateEntry>,
    is_restored: bool,
}

impl OperatorStateStore {
    /// A store with what a checkpoint held for this subtask, already redistributed; `None` for a fresh start.
    pub fn restored(entries: Option<Vec<OperatorStateEntry>>) -> Self {
        let is_restored = entries.is_some();
        OperatorStateStore { current: Vec::new(), restored: entries.unwrap_or_default(), is_restored }
    }
    /// Whether the job was started from a checkpoint.
    pub fn is_restored(&self) -> bool {
        self.is_restored
    }
    /// Takes the restored items of `name`; empty when there are none.
    pub fn take(&mut self, name: &str) -> Vec<Bytes> {
        let at = self.restored.iter().position(|e| e.name == name);
        at.map(|i| self.restored.swap_remove(i).items).unwrap_or_default()
    }
    /// Sets the items of `name`, from [`crate::operator::OperatorEvent::BeforeBarrier`].
    pub fn set(&mut self, name: &str, redistribution: Redistribution, items: Vec<Bytes>) {
        let entry = OperatorStateEntry { name: name.to_owned(), redistribution, items };
        match self.current.iter_mut().find(|e| e.name == name) {
            Some(e) => *e = entry,
            None => self.current.push(entry),
        }
    }
    /// Runtime: a copy of all entries for the snapshot.
    pub fn snapshot(&self) -> Vec<OperatorStateEntry> {
        self.current.clone()
    }
}

/// The synchronous cut of one operator.
pub struct OperatorCut {
    /// The operator.
    pub operator: OperatorId,
    /// Keyed state still to be written.
    pub keyed: Option<Box<dyn KeyedSnapshot>>,
    /// Operator state, small by nature.
    pub operator_state: Vec<OperatorStateEntry>,
}

/// Stored state of one operator of one subtask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorSubtaskState {
    /// The operator.
    pub operator: OperatorId,
    /// Keyed state.
    pub keyed: Option<KeyedStateHandle>,
    /// Operator state.
    pub operator_state: Vec<OperatorStateEntry>,
}

/// A channel between two subtasks, seen from its consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ChannelAddress {
    /// The operator that reads it: the head of a chain.
    pub operator: OperatorId,
    /// The reading subtask.
    pub subtask: u32,
    /// Which of the operator's input edges, from 0.
    pub edge: u32,
    /// The operator's input that the edge belongs to.
    pub port: u32,
    /// The operator that writes: the last of a chain.
    pub producer: OperatorId,
    /// The writing subtask.
    pub from: u32,
}

/// Where rows were when an unaligned barrier overtook them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum InFlightPlace {
    /// In front of an operator, inside its task.
    Queued {
        /// The operator.
        operator: OperatorId,
        /// Its subtask.
        subtask: u32,
    },
    /// In a channel, or on the way into it.
    Channel {
        /// The channel.
        address: ChannelAddress,
        /// 0: what its reader stored, 1: what its writer stored, which comes later in the stream.
        part: u8,
    },
}

impl InFlightPlace {
    /// The operator that the rows were on their way to.
    pub fn operator(&self) -> OperatorId {
        match self {
            InFlightPlace::Queued { operator, .. } => *operator,
            InFlightPlace::Channel { address, .. } => address.operator,
        }
    }
}

/// Stored rows and watermarks that an unaligned barrier overtook at one place, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InFlightSegment {
    /// Where they were.
    pub place: InFlightPlace,
    /// Rows among them; a segment without rows only says how far time had come.
    pub rows: u64,
    /// Their bytes: a part of a file, or inline.
    pub chunk: ChunkRef,
}

/// What a subtask acknowledges: the state of every operator of its chain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubtaskState {
    /// Head first.
    pub operators: Vec<OperatorSubtaskState>,
    /// What the barrier overtook in this subtask and in the channels it writes to. Empty when the barrier was aligned.
    pub in_flight: Vec<InFlightSegment>,
}

impl SubtaskState {
    /// Bytes of state in all operators.
    pub fn state_bytes(&self) -> u64 {
        self.operators.iter().filter_map(|o| o.keyed.as_ref()).map(|k| k.state_bytes).sum()
    }
    /// Bytes this checkpoint wrote, rows in flight included.
    pub fn written_bytes(&self) -> u64 {
        let keyed: u64 = self.operators.iter().filter_map(|o| o.keyed.as_ref()).map(|k| k.written_bytes).sum();
        keyed + self.persisted_bytes()
    }
    /// Bytes of rows in flight.
    pub fn persisted_bytes(&self) -> u64 {
        self.in_flight.iter().map(|s| s.chunk.len).sum()
    }
    /// All chunks that the state refers to.
    pub fn chunks(&self) -> impl Iterator<Item = &ChunkRef> {
        let keyed = self.operators.iter().filter_map(|o| o.keyed.as_ref()).flat_map(|k| &k.chunks);
        keyed.chain(self.in_flight.iter().map(|s| &s.chunk))
    }
}

/// Statistics a subtask sends with its acknowledgement. Durations in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubtaskCheckpointStats {
    /// Trigger to first barrier at this subtask.
    pub start_delay_ms: u64,
    /// First to last barrier.
    pub alignment_ms: u64,
    /// The synchronous cut.
    pub sync_ms: u64,
    /// Writing off the thread.
    pub async_ms: u64,
    /// Bytes of state.
    pub state_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Bytes of rows that were taken from channels between the first and the last barrier.
    pub processed_bytes: u64,
    /// Bytes of rows that the barrier overtook here: part of the checkpoint.
    pub persisted_bytes: u64,
    /// Whether the barrier overtook rows here.
    pub unaligned: bool,
}

mod bytes_serde {
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(b: &Bytes, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_bytes(b)
    }
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Bytes, D::Error> {
        Vec::<u8>::deserialize(d).map(Bytes::from)
    }
}

mod vec_bytes_serde {
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(v: &[Bytes], s: S) -> Result<S::Ok, S::Error> {
        v.iter().map(|b| b.as_ref()).collect::<Vec<&[u8]>>().serialize(s)
    }
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<Bytes>, D::Error> {
        Ok(Vec::<Vec<u8>>::deserialize(d)?.into_iter().map(Bytes::from).collect())
    }
}
