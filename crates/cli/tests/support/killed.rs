//! Jobs that are killed on purpose once they have completed some checkpoints.

use std::time::Duration;

use flott_core::{Error, Result};
use flott_launcher::{JobClient, JobStatus};

/// Cancels the job once it has completed so many checkpoints: everything after the last of them is lost.
pub fn kill_after(client: JobClient, checkpoints: u64, timeout: Duration) -> Result<()> {
    let mut waited = Duration::ZERO;
    while client.progress().checkpoints_completed < checkpoints {
        let status = client.wait(Duration::from_millis(2));
        waited += Duration::from_millis(2);
        match status {
            JobStatus::Failed(e) => return Err(e),
            s if s.is_terminal() => return Err(Error::bug(format!("the job ended before it was killed: {s:?}"))),
            _ if waited > timeout => return Err(Error::bug("no checkpoint completes")),
            _ => {}
        }
    }
    client.cancel();
    match client.join() {
        JobStatus::Canceled => Ok(()),
        // It failed by itself before the cancellation reached it.
        JobStatus::Failed(e) => Err(e),
        other => Err(Error::bug(format!("a cancelled job is {other:?}"))),
    }
}
