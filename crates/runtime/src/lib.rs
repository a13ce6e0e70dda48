//! The engine of one process: tasks as state machines, channels between them, barriers, watermarks, sources and sinks.
//!
//! Knows operators, connectors and state only through the contracts of `flott-core`; coordinates no checkpoint and starts
//! no job: `launcher` does. See `docs/design/runtime.md`.

pub mod aligner;
pub mod alignment;
mod chain;
pub mod channel;
mod driver;
mod gate;
mod head;
pub mod in_flight;
mod mailbox;
mod output;
mod panics;
pub mod sink;
mod source_head;
pub mod task;
pub mod testing;
pub mod valve;
mod waker;

pub use alignment::AlignmentGroup;
pub use channel::{ChannelOptions, ChannelReceiver, ChannelSender, Taken, TrySendError, channel, channel_at};
pub use driver::spawn_task;
pub use in_flight::{InFlightCut, InFlightData, PortRoute, Queued};
pub use output::HashRoute;
pub use sink::{SinkOperator, SinkOptions};
pub use task::{
    ChainedOperator, MailboxError, OutputSpec, Recovered, SourceHeadSpec, Task, TaskCut, TaskEvent, TaskHandle,
    TaskHead, TaskListener, TaskOptions, TaskProgress, TaskSpec,
};
pub use waker::TaskWaker;
