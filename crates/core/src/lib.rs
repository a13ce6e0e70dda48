//! Nouns and contracts of Flott: every crate imports this one, and it imports none of them.
//!
//! No I/O, no threads, no async runtime, no clock: what happens at the edge comes in through traits.

pub mod batch;
pub mod batch_codec;
pub mod config;
pub mod crash_point;
pub mod element;
pub mod encoding;
pub mod error;
pub mod function;
pub mod ids;
pub mod key_group;
pub mod keys;
pub mod lookup;
pub mod memory;
pub mod metrics;
pub mod operator;
pub mod registry;
pub mod sink;
pub mod snapshot;
pub mod source;
pub mod state;
pub mod table_function;
pub mod task;
pub mod text;
pub mod time;
pub mod time_pattern;
pub mod types;

pub use batch::{ChangeBatch, RowKind, RowKinds};
pub use element::{Barrier, Element, Signal};
pub use error::{Error, ErrorKind, Result};
pub use ids::{CheckpointId, JobId, OperatorId, SubtaskId, VertexId};
pub use key_group::{KeyGroup, KeyGroupRange};
pub use time::{Clock, EventTime};
