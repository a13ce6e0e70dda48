//! Follows a job to its end: one progress line while it runs, a summary at the end. On standard error only.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use flott_core::error::Result;
use flott_core::time::{SharedClock, SystemClock};
use flott_launcher::{JobClient, JobStatus, Progress};

use crate::output::{event_time, thousands};

/// How often the progress line changes.
const REFRESH: Duration = Duration::from_millis(500);

/// Follows one job.
pub struct Follower {
    client: JobClient,
    quiet: bool,
    clock: SharedClock,
    started_ns: u64,
}

impl Follower {
    /// Follows a job that was just submitted.
    pub fn new(client: JobClient, quiet: bool) -> Self {
        let clock = SystemClock::shared();
        let started_ns = clock.now_nanos();
        if !quiet {
            match client.restored_from() {
                Some(id) => eprintln!("job \"{}\" ({}) goes on from checkpoint {id}", client.name(), client.job_id()),
                None => eprintln!("job \"{}\" ({}) starts", client.name(), client.job_id()),
            }
            if client.was_finished() {
                eprintln!("that checkpoint is the job's last one: everything was done already");
            }
        }
        for notice in client.notices() {
            eprintln!("notice: {notice}");
        }
        Follower { client, quiet, clock, started_ns }
    }

    /// Waits for the end; an error when the job failed.
    pub fn finish(self) -> Result<()> {
        let terminal = std::io::stderr().is_terminal();
        let mut last = self.client.progress();
        let mut told = 0;
        let mut since_ns = self.clock.now_nanos();
        loop {
            let status = self.client.wait(REFRESH);
            if status.is_terminal() {
                break;
            }
            let failures = self.client.failures();
            for e in &failures[told.min(failures.len())..] {
                eprintln!("{}the job failed and restarts: {e}", if terminal { "\r\x1b[K" } else { "" });
            }
            told = failures.len();
            let (now_ns, progress) = (self.clock.now_nanos(), self.client.progress());
            let seconds = (now_ns - since_ns) as f64 / 1e9;
            // Without a terminal a line every ten refreshes is enough for a log.
            let due = terminal || seconds >= REFRESH.as_secs_f64() * 10.0;
            if !self.quiet && due {
                self.line(&status, &progress, &last, seconds, terminal);
                (last, since_ns) = (progress, now_ns);
            }
        }
        if terminal && !self.quiet {
            eprint!("\r\x1b[K");
        }
        self.summary()
    }

    fn line(&self, status: &JobStatus, now: &Progress, before: &Progress, seconds: f64, terminal: bool) {
        let rate = |a: u64, b: u64| thousands(((a.saturating_sub(b)) as f64 / seconds.max(0.001)) as u64);
        let checkpoint = match now.checkpoint {
            Some(c) => format!(
                "checkpoint {} ({} ms, {} ago)",
                c.id,
                c.duration_ms,
                age((self.clock.now_ms() - c.completed_ms).max(0))
            ),
            None => "no checkpoint yet".to_owned(),
        };
        let restarting = if matches!(status, JobStatus::Restarting) { "restarting · " } else { "" };
        let text = format!(
            "{restarting}in {} rows/s · out {} rows/s · watermark {} · late {} · {checkpoint}",
            rate(now.rows_in, before.rows_in),
            rate(now.rows_out, before.rows_out),
            event_time(now.watermark_ms),
            thousands(now.late_rows),
        );
        if terminal {
            eprint!("\r\x1b[K{text}");
            let _ = std::io::stderr().flush();
        } else {
            eprintln!("{text}");
        }
    }

    fn summary(self) -> Result<()> {
        let seconds = (self.clock.now_nanos() - self.started_ns) as f64 / 1e9;
        let p = self.client.progress();
        let name = self.client.name().to_owned();
        let status = self.client.join();
        let outcome = match &status {
            JobStatus::Failed(_) => "failed",
            JobStatus::Canceled => "was cancelled",
            _ => "finished",
        };
        eprintln!(
            "job \"{name}\" {outcome} after {seconds:.1} s: {} rows in, {} rows out, {} late, {} bad; {} checkpoints, {} failed, {} restarts{}",
            thousands(p.rows_in),
            thousands(p.rows_out),
            thousands(p.late_rows),
            thousands(p.bad_rows),
            p.checkpoints_completed,
            p.checkpoints_failed,
            p.restarts,
            p.checkpoint.map(|c| format!("; last state {:.1} MB", c.state_bytes as f64 / 1e6)).unwrap_or_default(),
        );
        match status {
            JobStatus::Failed(e) => Err(e),
            _ => Ok(()),
        }
    }
}

/// Milliseconds as people say them.
fn age(ms: i64) -> String {
    match ms {
        0..=9_999 => format!("{:.1} s", ms as f64 / 1000.0),
        10_000..=119_999 => format!("{} s", ms / 1000),
        _ => format!("{} min", ms / 60_000),
    }
}
