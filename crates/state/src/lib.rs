//! Keyed state: the memory backend, the canonical snapshot format, typed handles and timers for process functions.
//!
//! Never does I/O itself: chunks go out and come in through `flott_core::snapshot`. Never asks the system for the time.

pub mod contract;
mod format;
mod lists;
mod memory;
mod ordered;
mod rows;
mod segments;
mod small_key;
pub mod testing;
pub mod timers;
pub mod typed;
mod values;

pub use format::{FORMAT_NAME, FORMAT_VERSION};
pub use memory::{MemoryBackendFactory, MemoryStateBackend};
