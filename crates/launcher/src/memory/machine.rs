//! How much memory the machine or its container has; reads the files of the kernel once and changes nothing.

use std::path::{Component, Path};

/// Assumed where the system does not say.
const UNKNOWN_BYTES: u64 = 4 << 30;

/// What a process may use where nobody said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Size of the process.
    pub process_bytes: u64,
    /// Where that comes from.
    pub reason: String,
}

impl Machine {
    /// This machine.
    pub fn here() -> Self {
        Self::read(&|path| std::fs::read_to_string(path).ok())
    }

    /// A machine whose files `file` returns: the whole limit of the container, else half of the memory.
    pub fn read(file: &dyn Fn(&str) -> Option<String>) -> Self {
        let memory = file("/proc/meminfo").as_deref().and_then(total_of);
        let limit = container_limit(file);
        match (memory, limit) {
            (memory, Some(limit)) if memory.is_none_or(|m| limit < m) => {
                Machine { process_bytes: limit, reason: "the container's limit".to_owned() }
            }
            (Some(memory), _) => {
                let reason = format!("half of the machine's {}", super::size(memory));
                Machine { process_bytes: memory / 2, reason }
            }
            _ => Machine { process_bytes: UNKNOWN_BYTES, reason: "the machine does not say what it has".to_owned() },
        }
    }
}

fn total_of(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The least limit of the control groups that the process is in.
fn container_limit(file: &dyn Fn(&str) -> Option<String>) -> Option<u64> {
    let groups = file("/proc/self/cgroup")?;
    let limits = groups.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        if controllers.is_empty() {
            least(file, "/sys/fs/cgroup", path, "memory.max")
        } else if controllers.split(',').any(|c| c == "memory") {
            least(file, "/sys/fs/cgroup/memory", path, "memory.limit_in_bytes")
        } else {
            None
        }
    });
    limits.min()
}

/// The least limit on the way from the root to `path`. Inside a container the path may be that of the host: then the root alone counts.
fn least(file: &dyn Fn(&str) -> Option<String>, root: &str, path: &str, name: &str) -> Option<u64> {
    let mut dir = root.to_owned();
    let mut limits = Vec::new();
    let parts = Path::new(path).components().filter_map(|c| match c {
        Component::Normal(part) => part.to_str(),
        _ => None,
    });
    for part in std::iter::once(None).chain(parts.map(Some)) {
        if let Some(part) = part {
            dir.push('/');
            dir.push_str(part);
        }
        limits.extend(file(&format!("{dir}/{name}")).and_then(|t| t.trim().parse::<u64>().ok()));
    }
    // Version one says "no limit" with a number near the greatest.
    limits.into_iter().filter(|l| *l > 0 && *l < 1 << 60).min()
}
