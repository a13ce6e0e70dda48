//! The checkpoint coordinator: a pure state machine; it never reads a clock, takes a lock or does I/O.
//!
//! The driver feeds [`Event`]s in and carries [`Action`]s out, in order, all of one step before the next event: what an action
//! brings about is queued. It may publish on any thread, but it must not
//! choose a restore point while [`CheckpointCoordinator::publishing`] names a checkpoint: that one may still come to be.

mod action;
mod options;
mod reason;
mod state;
mod step;

pub use action::{Action, Event, PendingMetadata, Published};
pub use options::CheckpointOptions;
pub use reason::FailureReason;
pub use state::CheckpointCoordinator;

#[cfg(test)]
mod tests;
