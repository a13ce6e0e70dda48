//! A job as a process that a harness watches, stops and kills. Never used by the product.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

pub use crate::services::signal;

/// A small deterministic generator: the seed is printed, so a failure can be repeated.
pub struct Random(u64);

impl Random {
    /// Equal seeds, equal numbers.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }
    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// A process and what it wrote to standard error.
pub struct Running {
    /// The process.
    pub child: Child,
    lines: Receiver<String>,
    /// The lines seen so far.
    pub text: String,
}

/// How waiting ended.
pub enum Wait {
    /// The line came.
    Seen,
    /// The patience is over.
    TimedOut,
    /// The process ended; whether well.
    Ended(bool),
}

impl Running {
    /// Starts the process with its standard error in our hands.
    pub fn spawn(command: &mut Command) -> Result<Self, String> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|e| format!("{:?}: {e}", command.get_program()))?;
        let stderr = child.stderr.take().ok_or("no standard error")?;
        let (send, lines) = sync_channel(1024);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Running { child, lines, text: String::new() })
    }

    /// SIGKILL, and the end.
    pub fn kill(&mut self) -> Result<(), String> {
        self.child.kill().map_err(|e| e.to_string())?;
        self.child.wait().map(drop).map_err(|e| e.to_string())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A harness that gives up leaves no job behind.
        if let Ok(None) = self.child.try_wait() {
            let _ = self.kill();
        }
    }
}

/// Waits until a line is `seen`, the process ends, or `patience` is over.
#[allow(clippy::disallowed_methods, reason = "a harness of real processes reads the clock")]
pub fn wait_for(running: &mut Running, seen: impl Fn(&str) -> bool, patience: Duration) -> Result<Wait, String> {
    let deadline = Instant::now() + patience;
    loop {
        while let Ok(line) = running.lines.recv_timeout(Duration::from_millis(10)) {
            let hit = seen(&line);
            running.text += &line;
            running.text.push('\n');
            if hit {
                return Ok(Wait::Seen);
            }
            if Instant::now() >= deadline {
                break;
            }
        }
        if let Some(status) = running.child.try_wait().map_err(|e| e.to_string())? {
            return Ok(Wait::Ended(status.success()));
        }
        if Instant::now() >= deadline {
            return Ok(Wait::TimedOut);
        }
    }
}

/// Waits for the end, killing at `patience`; whether it ended well, and its standard error.
pub fn end(running: &mut Running, patience: Duration) -> Result<(bool, String), String> {
    let ok = match wait_for(running, |_| false, patience)? {
        Wait::Ended(ok) => ok,
        Wait::Seen | Wait::TimedOut => {
            running.kill()?;
            false
        }
    };
    Ok((ok, running.text.clone()))
}
