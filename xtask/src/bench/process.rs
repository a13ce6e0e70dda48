//! A child process measured from outside: CPU time, peak memory, wall time, read from /proc.

use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// What a process cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// User and system time in seconds.
    pub cpu_s: f64,
    /// Start to end in seconds.
    pub wall_s: f64,
    /// Peak resident memory in MB (10^6 bytes).
    pub peak_rss_mb: f64,
}

/// A fresh directory under the system's temporary one.
pub fn scratch(name: &str) -> Result<PathBuf, String> {
    let dir = std::env::temp_dir().join(format!("flott-{name}-{}", std::process::id()));
    fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    Ok(dir)
}

/// Touches that much memory and gives it back, so that what runs next finds pages that the machine has at hand: those that a hypervisor
/// has taken back cost ten times as much. A peer that has run before in its process has its heap at hand too.
pub fn touch_mb(mb: f64) {
    let mut pages = vec![0u8; (mb * 1e6) as usize];
    pages.iter_mut().step_by(4096).for_each(|page| *page = 1);
    std::hint::black_box(&pages);
}

/// Runs `command` to its end, looking every `poll`; returns its cost and what it wrote to standard error.
#[allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
pub fn run(mut command: Command, poll: Duration) -> Result<(Usage, String), String> {
    let start = Instant::now();
    let mut child = command.spawn().map_err(|e| format!("{:?}: {e}", command.get_program()))?;
    let mut pipe = child.stderr.take();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        if let Some(p) = pipe.as_mut() {
            let _ = p.read_to_string(&mut text);
        }
        text
    });
    let mut usage = Usage::default();
    // A zombie still has its times in /proc, but no longer its memory: so the peak is the last one seen.
    while !sample(&child, &mut usage) {
        std::thread::sleep(poll);
    }
    usage.wall_s = start.elapsed().as_secs_f64();
    let status = child.wait().map_err(|e| e.to_string())?;
    let stderr = reader.join().map_err(|_| "the reader of standard error panicked".to_owned())?;
    if !status.success() {
        return Err(format!("{:?} ended with {status}:\n{stderr}", command.get_program()));
    }
    Ok((usage, stderr))
}

/// Reads /proc; true when the process has ended.
fn sample(child: &Child, usage: &mut Usage) -> bool {
    let id = child.id();
    let Ok(stat) = fs::read_to_string(format!("/proc/{id}/stat")) else { return true };
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or("").split(' ').collect();
    let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    // Fields 14 and 15 of proc(5), counted after the command's name; 100 ticks a second on every Linux we run on.
    usage.cpu_s = (ticks(11) + ticks(12)) / 100.0;
    if let Ok(status) = fs::read_to_string(format!("/proc/{id}/status")) {
        let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
        let kib = peak.and_then(|l| l.split_whitespace().next()).and_then(|n| n.parse::<f64>().ok());
        usage.peak_rss_mb = kib.map_or(usage.peak_rss_mb, |k| usage.peak_rss_mb.max(k * 1024.0 / 1e6));
    }
    fields.first() == Some(&"Z")
}

/// The last number that stands before `word` in `text`.
pub fn number_before(text: &str, word: &str) -> Option<u64> {
    let at = text.rfind(word)?;
    let digits: Vec<char> = text[..at].chars().rev().take_while(|c| c.is_ascii_digit() || *c == ',').collect();
    digits.into_iter().rev().filter(|c| *c != ',').collect::<String>().parse().ok()
}
