//! The job master: a pure state machine over the attempts of one job; it never reads a clock, takes a lock or does I/O.
//!
//! The driver feeds [`Event`]s in and carries [`Action`]s out, in order, all of one step before the next event. The checkpoint
//! coordinator and the restart strategy are parts of it; the enumerators of sources are not, what they find comes as an event.

mod attempts;
mod event;
mod splits;
mod state;
mod step;

pub use event::{Action, Deployed, Event};
pub use splits::{SourceStart, decode_known};
pub use state::{JobMaster, VertexTasks};

#[cfg(test)]
mod tests;
