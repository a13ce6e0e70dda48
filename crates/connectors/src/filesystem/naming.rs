//! Names of part files, hidden and final, and the rule that says whose hidden files may go; touches no file.
//!
//! A file is `.NAME.JOB-OPERATOR.RUN-ATTEMPT.inprogress` while it is written, `….pending` once a barrier has passed it,
//! and `NAME` = `part-JOB-OPERATOR-RUN-ATTEMPT-SUBTASK-COUNTER.FORMAT` once it is committed. Run and attempt are in the
//! final name too, so that a start after a kill never writes a name that an earlier start may have committed.

use flott_core::sink::SinkContext;

/// Suffix of a file that is being written.
pub const IN_PROGRESS: &str = "inprogress";
/// Suffix of a file that waits for its checkpoint.
pub const PENDING: &str = "pending";

/// Final name of a part file.
pub fn final_name(context: &SinkContext, counter: u64, suffix: &str) -> String {
    let (job, operator) = (context.job.to_string(), context.operator.to_string());
    format!(
        "part-{}-{}-{:016x}-{}-{}-{counter}.{suffix}",
        &job[..8],
        &operator[..8],
        context.run,
        context.attempt,
        context.subtask
    )
}

/// Hidden name of a part file.
pub fn hidden_name(context: &SinkContext, final_name: &str, suffix: &str) -> String {
    format!(".{final_name}.{}-{}.{:016x}-{}.{suffix}", context.job, context.operator, context.run, context.attempt)
}

/// What a hidden name tells about a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hidden {
    /// Whether a barrier has passed it, so that a checkpoint may name it.
    pub pending: bool,
    /// Whether the attempt that wrote it is dead: of an earlier run, or earlier in this one.
    pub dead: bool,
}

/// Reads a hidden name; `None` for files of other jobs, other operators and other programs.
pub fn read_hidden(context: &SinkContext, name: &str) -> Option<Hidden> {
    let mut parts = name.strip_prefix(".part-")?.rsplit('.');
    let pending = match parts.next()? {
        PENDING => true,
        IN_PROGRESS => false,
        _ => return None,
    };
    let (run, attempt) = parts.next()?.split_once('-')?;
    let (run, attempt) = (u64::from_str_radix(run, 16).ok()?, attempt.parse::<u32>().ok()?);
    if parts.next()? != format!("{}-{}", context.job, context.operator) {
        return None;
    }
    let dead = (run, attempt) < (context.run, context.attempt);
    Some(Hidden { pending, dead })
}

/// Writes a partition value as a directory name: what is unsafe in a path becomes `%XX`.
pub fn escape(value: &str, out: &mut String) {
    for c in value.chars() {
        let unsafe_char = c.is_ascii_control()
            || matches!(
                c,
                '"' | '#' | '%' | '\'' | '*' | '/' | ':' | '=' | '?' | '\\' | '{' | '[' | ']' | '^' | '\u{7f}'
            );
        if unsafe_char {
            out.push_str(&format!("%{:02X}", c as u32));
        } else {
            out.push(c);
        }
    }
}

/// The partition value of a directory name.
pub fn unescape(name: &str) -> String {
    let mut out = Vec::with_capacity(name.len());
    let bytes = name.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%').then(|| name.get(at + 1..at + 3)).flatten();
        if let Some(b) = hex.and_then(|h| u8::from_str_radix(h, 16).ok()) {
            out.push(b);
            at += 3;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::sink_context;

    #[test]
    fn only_dead_attempts_of_this_job_are_recognised() {
        let old = sink_context(0, 1, 3, 77);
        let name = hidden_name(&old, &final_name(&old, 5, "json.gz"), PENDING);
        assert!(name.starts_with(".part-") && name.len() < 255, "{name}");
        assert_eq!(read_hidden(&old, &name), Some(Hidden { pending: true, dead: false }));
        assert_eq!(read_hidden(&sink_context(1, 2, 3, 77), &name), Some(Hidden { pending: true, dead: false }));
        assert_eq!(read_hidden(&sink_context(0, 1, 4, 77), &name), Some(Hidden { pending: true, dead: true }));
        assert_eq!(read_hidden(&sink_context(0, 1, 3, 78), &name), Some(Hidden { pending: true, dead: true }));
        assert_eq!(read_hidden(&sink_context(0, 1, 0, 78), &name), Some(Hidden { pending: true, dead: true }));
        assert_eq!(read_hidden(&sink_context(0, 1, 9, 76), &name), Some(Hidden { pending: true, dead: false }));
        let mut other = sink_context(0, 1, 9, 1);
        other.job = flott_core::JobId(2);
        assert_eq!(read_hidden(&other, &name), None);
        assert_eq!(read_hidden(&old, ".part-of-something-else"), None);
    }

    #[test]
    fn partition_values_survive_the_file_system() {
        for value in ["a/b", "10:00", "100%", "x=y", "ü ✓", "%3A"] {
            let mut name = String::new();
            escape(value, &mut name);
            assert!(!name.contains('/') && unescape(&name) == value, "{name}");
        }
    }
}
