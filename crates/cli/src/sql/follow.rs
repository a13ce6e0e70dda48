//! Follows a job to its end: one progress line while it runs, a summary at the end. On standard error only.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use flott_core::error::Result;
use flott_core::memory::size;
use flott_core::time::{SharedClock, SystemClock};
use flott_launcher::{Diagnosis, JobClient, JobStatus, Progress, age};

use super::interrupt;
use crate::output::{event_time, thousands};

/// How often the progress line changes.
const REFRESH: Duration = Duration::from_millis(500);
/// Sentences that are remembered as shown.
const SHOWN_MAX: usize = 64;
/// Sentences that differ in numbers only are shown this far apart; all of them are in the log (`-v`) and in the statistics.
const REPEAT_NS: u64 = 60_000_000_000;

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

    /// The job's id.
    pub fn job_id(&self) -> String {
        self.client.job_id().to_string()
    }

    /// Whether nothing is left to wait for.
    pub fn has_ended(&self) -> bool {
        self.client.status().is_terminal()
    }

    /// A line of a list of jobs.
    pub fn row(&self) -> Vec<String> {
        let p = self.client.progress();
        let status = match self.client.status() {
            JobStatus::Created => "CREATED",
            JobStatus::Running => "RUNNING",
            JobStatus::Restarting => "RESTARTING",
            JobStatus::Finished => "FINISHED",
            JobStatus::Canceled => "CANCELED",
            JobStatus::Suspended => "SUSPENDED",
            JobStatus::Failed(_) => "FAILED",
        };
        let (id, name) = (self.job_id(), self.client.name().to_owned());
        vec![id, name, status.to_owned(), thousands(p.rows_in), thousands(p.rows_out), p.restarts.to_string()]
    }

    /// Asks the job to end for good, and waits for that.
    pub fn cancel(self) {
        self.client.cancel();
        // What it failed of does not matter any more.
        let _ = self.summary(Diagnosed::default());
    }

    /// Ends the job because the process ends, and waits for that: its checkpoints stay.
    pub fn suspend(self) {
        self.client.suspend();
        let _ = self.summary(Diagnosed::default());
    }

    /// Waits for the end, which Ctrl-C brings about; an error when the job failed.
    pub fn finish(self) -> Result<()> {
        let terminal = std::io::stderr().is_terminal();
        let mut last = self.client.progress();
        let (mut told, mut diagnosed) = (0, Diagnosed::default());
        let mut since_ns = self.clock.now_nanos();
        loop {
            let status = self.client.wait(REFRESH);
            if status.is_terminal() {
                break;
            }
            if interrupt::pressed() {
                self.client.suspend();
            }
            let failures = self.client.failures();
            for e in &failures[told.min(failures.len())..] {
                eprintln!("{}the job failed and restarts: {e}", if terminal { "\r\x1b[K" } else { "" });
            }
            told = failures.len();
            diagnosed.show(&self.client, self.clock.now_nanos(), terminal);
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
        diagnosed.show(&self.client, self.clock.now_nanos(), terminal);
        self.summary(diagnosed)
    }

    fn line(&self, status: &JobStatus, now: &Progress, before: &Progress, seconds: f64, terminal: bool) {
        let rate = |a: u64, b: u64| thousands(((a.saturating_sub(b)) as f64 / seconds.max(0.001)) as u64);
        let since = |at_ms: i64| age((self.clock.now_ms() - at_ms).max(0));
        let checkpoint = match (now.checkpoint, now.recovery_point_ms) {
            (Some(c), _) => format!("checkpoint {} ({} ms, {} ago)", c.id, c.duration_ms, since(c.completed_ms)),
            (None, Some(start_ms)) => format!("no checkpoint for {}", since(start_ms)),
            (None, None) => "no checkpoint yet".to_owned(),
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

    fn summary(self, diagnosed: Diagnosed) -> Result<()> {
        let seconds = (self.clock.now_nanos() - self.started_ns) as f64 / 1e9;
        let p = self.client.progress();
        let name = self.client.name().to_owned();
        let status = self.client.join();
        let outcome = match &status {
            JobStatus::Failed(_) => "failed",
            JobStatus::Canceled => "was cancelled",
            JobStatus::Suspended => "was suspended",
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
        let used: Vec<String> = p.memory.iter().filter(|m| m.peak_bytes > 0).map(memory).collect();
        if !self.quiet && !used.is_empty() {
            eprintln!("memory at most: {}", used.join(", "));
        }
        if let Some((last, count)) = diagnosed.last {
            let more = if count > 1 { format!(" (the last of {count} such sentences)") } else { String::new() };
            let late = match p.late_messages {
                0 => String::new(),
                n => format!("; {n} messages came for checkpoints given up before"),
            };
            eprintln!("note: {last}{more}{late}");
        }
        match status {
            JobStatus::Failed(e) => Err(e),
            JobStatus::Canceled | JobStatus::Suspended if interrupt::pressed() => Err(interrupt::error()),
            _ => Ok(()),
        }
    }
}

/// `fetch 60 mb of 64 mb, which 12 times was not enough`.
fn memory(m: &flott_core::memory::MemoryFigures) -> String {
    let limit = match m.limit_bytes {
        usize::MAX => String::new(),
        bytes => format!(" of {}", size(bytes as u64)),
    };
    let refused = match m.refused {
        0 => String::new(),
        n => format!(", waited {} times for room", thousands(n as u64)),
    };
    format!("{} {}{limit}{refused}", m.of.name(), size(m.peak_bytes as u64))
}

/// What was said about checkpoints and memory, and when.
#[derive(Default)]
struct Diagnosed {
    known: usize,
    last: Option<(Diagnosis, usize)>,
    shown: BTreeMap<String, u64>,
}

impl Diagnosed {
    /// Shows what is new.
    fn show(&mut self, client: &JobClient, now_ns: u64, terminal: bool) {
        let (fresh, known) = client.diagnoses(self.known);
        self.known = known;
        for diagnosis in fresh {
            // Other numbers make no other sentence.
            let gist: String = diagnosis.sentence.chars().filter(|c| !c.is_ascii_digit()).collect();
            let due = self.shown.get(&gist).is_none_or(|at| now_ns.saturating_sub(*at) >= REPEAT_NS);
            if due {
                eprintln!("{}warning: {diagnosis}", if terminal { "\r\x1b[K" } else { "" });
                if self.shown.len() >= SHOWN_MAX {
                    self.shown.clear();
                }
                self.shown.insert(gist, now_ns);
            }
            self.last = Some((diagnosis, known));
        }
    }
}
