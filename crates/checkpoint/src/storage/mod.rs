//! Where checkpoints lie: files, the publish log with its fence, retention; never decides when a checkpoint is taken.
//!
//! ```text
//! {dir}/jobs/NAME                  job id of a job name
//! {dir}/{job-id}/log/SEQ           publish log, 20 digits, dense at its end
//! {dir}/{job-id}/chk-N/_metadata   a checkpoint, once the log names it
//! {dir}/{job-id}/chk-N/…           chunks of that checkpoint alone
//! {dir}/{job-id}/shared/…          chunks that several checkpoints may refer to
//! {dir}/{job-id}/taskowned/        never touched here
//! ```
//!
//! All calls block; none may be made on a thread that drives an async runtime.

mod backend;
mod chunks;
mod directory;
mod files;
mod job;
mod local;
mod location;
mod log;
mod nonce;
mod object;
mod restore;
mod retention;
mod timed;

use flott_core::time::{SharedClock, SystemClock};
use flott_core::{Error, Result};

pub use backend::CheckpointStorage;
pub use chunks::StoredChunks;
pub use directory::{CheckpointDirectory, load};
pub use job::{Generation, JobStorage};
pub use local::LocalStorage;
pub use location::Location;
pub use object::ObjectStorage;
pub use restore::RestorePoint;
pub use timed::{OperationStats, StorageCall, StorageStats, TimedStorage};

/// Largest `execution.checkpointing.data-inline-threshold`.
pub const INLINE_THRESHOLD_MAX_BYTES: usize = 1 << 20;

/// Options of a checkpoint directory.
#[derive(Clone)]
pub struct StorageOptions {
    /// `execution.checkpointing.data-inline-threshold`: smaller chunks go into the metadata.
    pub inline_threshold_bytes: usize,
    /// `execution.checkpointing.num-retained`.
    pub num_retained: usize,
    /// A call that takes longer is told as slow.
    pub slow_call_ms: u64,
    /// Test-only: publishing ignores collisions with other generations. Shows that the fence is what keeps a job exactly once.
    pub fence_disabled: bool,
    /// Times the calls.
    pub clock: SharedClock,
}

impl Default for StorageOptions {
    fn default() -> Self {
        StorageOptions {
            inline_threshold_bytes: 20 * 1024,
            num_retained: 1,
            slow_call_ms: 1_000,
            fence_disabled: false,
            clock: SystemClock::shared(),
        }
    }
}

impl StorageOptions {
    fn validate(&self) -> Result<()> {
        if self.inline_threshold_bytes > INLINE_THRESHOLD_MAX_BYTES {
            return Err(Error::user(
                "checkpoint.inline-threshold",
                format!("execution.checkpointing.data-inline-threshold is {} bytes", self.inline_threshold_bytes),
            )
            .detail(format!("it may be at most {INLINE_THRESHOLD_MAX_BYTES} bytes (1 MB)"))
            .hint("set it to 20 kb, the default"));
        }
        if self.num_retained == 0 {
            return Err(Error::user("checkpoint.num-retained", "execution.checkpointing.num-retained is 0")
                .hint("set it to at least 1: a job needs a checkpoint to restart from"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
