//! The memory budget of the process: Flink's sizes, summed by Flink's rules, or what the machine has. Never enforces anything.
//!
//! The table in `docs/design/memory.md` says which of Flink's parts becomes which budget.

mod machine;
#[cfg(test)]
mod tests;

use std::fmt;

use flott_core::config::{Configuration, keys};
use flott_core::error::{Error, Result};
use flott_core::memory::{MemoryBudget, MemoryUse, size};

pub use machine::Machine;

/// The process size at which Flink's absolute defaults make sense: those of its own configuration file. Below, they shrink
/// in proportion, so that a small process needs no list of sizes.
const REFERENCE_PROCESS_BYTES: f64 = (1728 << 20) as f64;
/// The same for the total without reserves.
const REFERENCE_FLINK_BYTES: f64 = (1280 << 20) as f64;

/// Where a size comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The user said so.
    Set,
    /// Flink's default.
    Default,
    /// What the others leave, or a share of them.
    Derived,
}

/// One of Flink's parts of the memory of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Flink's key.
    pub key: &'static str,
    /// Its size.
    pub bytes: u64,
    /// Where that comes from.
    pub origin: Origin,
}

/// Flink's parts of the memory of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Framework heap, task heap, managed, framework off-heap, task off-heap, network: they add up to Flink's total.
    pub flink: [Part; 6],
    /// Metaspace and overhead: with Flink's total they add up to the process.
    pub reserves: [Part; 2],
    /// Why the total is what it is, such as `the container's limit`.
    pub total: String,
    /// Whether the user set any size.
    pub is_set: bool,
}

impl MemoryPlan {
    /// The plan of a configuration on a machine; a `User` error with the sum when the sizes contradict each other.
    pub fn of(config: &Configuration, machine: &Machine) -> Result<Self> {
        let set = |key: &str| config.is_set(key).then(|| config.memory_bytes(key)).flatten();
        let is_set = config.iter().any(|(key, _)| key.starts_with("taskmanager.memory.") && key.ends_with(".size"));
        let (process, flink) = (set(keys::MEMORY_PROCESS), set(keys::MEMORY_FLINK));
        let fine = set(keys::MEMORY_TASK_HEAP).zip(set(keys::MEMORY_MANAGED));
        let (total, scale) = match (flink, process, fine) {
            (Some(f), _, _) => (format!("{} = {}", keys::MEMORY_FLINK, size(f)), shrink(f, REFERENCE_FLINK_BYTES)),
            (_, Some(p), _) => (format!("{} = {}", keys::MEMORY_PROCESS, size(p)), shrink(p, REFERENCE_PROCESS_BYTES)),
            (_, _, Some(_)) => (format!("{} and {}", keys::MEMORY_TASK_HEAP, keys::MEMORY_MANAGED), 1.0),
            _ if is_set => (machine.reason.clone(), shrink(machine.process_bytes, REFERENCE_PROCESS_BYTES)),
            // Nobody said anything: the defaults grow with the machine as well.
            _ => (machine.reason.clone(), machine.process_bytes as f64 / REFERENCE_PROCESS_BYTES),
        };
        let sizes = Sizes { config, scale };
        let of_machine = (flink.is_none() && fine.is_none()).then_some(machine.process_bytes);
        let process = process.or(of_machine);
        let (flink, reserves) = match (flink, process) {
            (None, Some(process)) if fine.is_none() => {
                let reserves = sizes.reserves_of_process(process)?;
                let total = process - sum(&reserves);
                (sizes.parts_of_total(total)?, reserves)
            }
            (flink, process) => {
                let parts = match flink {
                    Some(total) => sizes.parts_of_total(total)?,
                    None => sizes.parts_of_heap_and_managed()?,
                };
                let reserves = sizes.reserves_of_flink(&parts, process)?;
                (parts, reserves)
            }
        };
        Ok(MemoryPlan { flink, reserves, total, is_set })
    }

    /// Memory of the whole process.
    pub fn process_bytes(&self) -> u64 {
        sum(&self.flink) + sum(&self.reserves)
    }

    /// What one use may hold.
    pub fn limit_bytes(&self, of: MemoryUse) -> u64 {
        let part = |key: &str| self.flink.iter().find(|p| p.key == key).map_or(0, |p| p.bytes);
        let off_heap = part(keys::MEMORY_TASK_OFF_HEAP) + part(keys::MEMORY_FRAMEWORK_OFF_HEAP);
        match of {
            MemoryUse::State => part(keys::MEMORY_TASK_HEAP) + part(keys::MEMORY_MANAGED),
            MemoryUse::Network => part(NETWORK),
            MemoryUse::Sink => off_heap / 2,
            MemoryUse::Fetch => off_heap - off_heap / 2,
        }
    }

    /// The budget.
    pub fn budget(&self) -> MemoryBudget {
        MemoryBudget::new(|of| usize::try_from(self.limit_bytes(of)).unwrap_or(usize::MAX))
    }
}

impl fmt::Display for MemoryPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", size(self.process_bytes()), self.total)?;
        for of in MemoryUse::ALL {
            write!(f, ", {} {}", of.name(), size(self.limit_bytes(of)))?;
        }
        let reserve: u64 = sum(&self.reserves) + self.flink[0].bytes;
        write!(f, ", reserve {}", size(reserve))
    }
}

/// The network part has no key of its own.
const NETWORK: &str = "taskmanager.memory.network.*";
/// Nor has the overhead.
const OVERHEAD: &str = "taskmanager.memory.jvm-overhead.*";

fn shrink(total: u64, reference: f64) -> f64 {
    (total as f64 / reference).min(1.0)
}

fn sum(parts: &[Part]) -> u64 {
    parts.iter().fold(0, |sum: u64, p| sum.saturating_add(p.bytes))
}

/// Reads sizes from a configuration.
struct Sizes<'a> {
    config: &'a Configuration,
    /// Factor of absolute defaults.
    scale: f64,
}

impl Sizes<'_> {
    /// What was set, or the default.
    fn absolute(&self, key: &'static str) -> Part {
        let bytes = self.config.memory_bytes(key).unwrap_or(0);
        if self.config.is_set(key) {
            return Part { key, bytes, origin: Origin::Set };
        }
        Part { key, bytes: scaled(bytes, self.scale), origin: Origin::Default }
    }

    /// The parts do not fit into their total. Names the total that the user set: the other follows from it.
    fn exceeds(&self, total_key: &str, total: u64, parts: &[Part]) -> Error {
        let needed = sum(parts);
        let what = format!("the parts of `{total_key}` add up to {}, which is more than {}", size(needed), size(total));
        let largest = parts.iter().max_by_key(|p| (p.origin == Origin::Set, p.bytes)).map_or("a part", |p| p.key);
        let follows = self.config.is_set(keys::MEMORY_PROCESS) && !self.config.is_set(keys::MEMORY_FLINK);
        let raise = match follows && total_key == keys::MEMORY_FLINK {
            true => format!("`{}` by more than {}", keys::MEMORY_PROCESS, size(needed - total)),
            false => format!("`{total_key}` to {} or more", size(needed)),
        };
        contradiction(what, &format!("raise {raise}, or lower `{largest}`")).detail(table(total_key, total, parts))
    }

    fn fraction(&self, key: &str) -> f64 {
        self.config.double(key).unwrap_or(0.0)
    }

    /// Least and greatest of a part.
    fn range(&self, min: &'static str, max: &'static str) -> Result<(u64, u64)> {
        let (low, high) = (self.absolute(min), self.absolute(max));
        if low.bytes > high.bytes && low.origin == Origin::Set && high.origin == Origin::Set {
            return Err(contradiction(
                format!("`{min}` = {} is above `{max}` = {}", size(low.bytes), size(high.bytes)),
                "set the least size at or below the greatest",
            ));
        }
        // A default gives way to what was set.
        match high.origin {
            Origin::Set => Ok((low.bytes.min(high.bytes), high.bytes)),
            _ => Ok((low.bytes, high.bytes.max(low.bytes))),
        }
    }

    fn network_range(&self) -> Result<(u64, u64)> {
        self.range(keys::MEMORY_NETWORK_MIN, keys::MEMORY_NETWORK_MAX)
    }

    fn overhead_range(&self) -> Result<(u64, u64)> {
        self.range(keys::MEMORY_OVERHEAD_MIN, keys::MEMORY_OVERHEAD_MAX)
    }

    fn managed_of(&self, total: u64) -> Part {
        if self.config.is_set(keys::MEMORY_MANAGED) {
            return self.absolute(keys::MEMORY_MANAGED);
        }
        let bytes = scaled(total, self.fraction(keys::MEMORY_MANAGED_FRACTION));
        Part { key: keys::MEMORY_MANAGED, bytes, origin: Origin::Derived }
    }

    /// The parts of a total that is given.
    fn parts_of_total(&self, total: u64) -> Result<[Part; 6]> {
        let framework = self.absolute(keys::MEMORY_FRAMEWORK_HEAP);
        let framework_off = self.absolute(keys::MEMORY_FRAMEWORK_OFF_HEAP);
        let task_off = self.absolute(keys::MEMORY_TASK_OFF_HEAP);
        let managed = self.managed_of(total);
        let (min, max) = self.network_range()?;
        let derived = |key, bytes| Part { key, bytes, origin: Origin::Derived };
        if self.config.is_set(keys::MEMORY_TASK_HEAP) {
            let heap = self.absolute(keys::MEMORY_TASK_HEAP);
            let others = [framework, heap, managed, framework_off, task_off];
            let rest =
                total.checked_sub(sum(&others)).ok_or_else(|| self.exceeds(keys::MEMORY_FLINK, total, &others))?;
            if !(min..=max).contains(&rest) {
                let what = format!(
                    "the other parts leave {} to the network, which may have {} to {}",
                    size(rest),
                    size(min),
                    size(max)
                );
                return Err(contradiction(what, "change `taskmanager.memory.network.min` and `.max`, or another part")
                    .detail(table(keys::MEMORY_FLINK, total, &others)));
            }
            return Ok([framework, heap, managed, framework_off, task_off, derived(NETWORK, rest)]);
        }
        let network =
            derived(NETWORK, scaled(total, self.fraction(keys::MEMORY_NETWORK_FRACTION)).clamp(min, max.max(min)));
        let others = [framework, managed, framework_off, task_off, network];
        let rest = total.checked_sub(sum(&others)).ok_or_else(|| self.exceeds(keys::MEMORY_FLINK, total, &others))?;
        Ok([framework, derived(keys::MEMORY_TASK_HEAP, rest), managed, framework_off, task_off, network])
    }

    /// The parts where the total follows from task heap and managed memory.
    fn parts_of_heap_and_managed(&self) -> Result<[Part; 6]> {
        let parts = [
            self.absolute(keys::MEMORY_FRAMEWORK_HEAP),
            self.absolute(keys::MEMORY_TASK_HEAP),
            self.absolute(keys::MEMORY_MANAGED),
            self.absolute(keys::MEMORY_FRAMEWORK_OFF_HEAP),
            self.absolute(keys::MEMORY_TASK_OFF_HEAP),
        ];
        let (min, max) = self.network_range()?;
        let fraction = self.fraction(keys::MEMORY_NETWORK_FRACTION);
        let bytes = scaled(sum(&parts), fraction / (1.0 - fraction)).clamp(min, max.max(min));
        let [a, b, c, d, e] = parts;
        Ok([a, b, c, d, e, Part { key: NETWORK, bytes, origin: Origin::Derived }])
    }

    /// The reserves of a process whose size is given.
    fn reserves_of_process(&self, process: u64) -> Result<[Part; 2]> {
        let metaspace = self.absolute(keys::MEMORY_METASPACE);
        let (min, max) = self.overhead_range()?;
        let bytes = scaled(process, self.fraction(keys::MEMORY_OVERHEAD_FRACTION)).clamp(min, max.max(min));
        let reserves = [metaspace, Part { key: OVERHEAD, bytes, origin: Origin::Derived }];
        if sum(&reserves) > process {
            return Err(self.exceeds(keys::MEMORY_PROCESS, process, &reserves));
        }
        Ok(reserves)
    }

    /// The reserves beside parts that are known, in a process whose size may be given.
    fn reserves_of_flink(&self, parts: &[Part; 6], process: Option<u64>) -> Result<[Part; 2]> {
        let metaspace = self.absolute(keys::MEMORY_METASPACE);
        let (min, max) = self.overhead_range()?;
        let below = sum(parts) + metaspace.bytes;
        let Some(process) = process else {
            let fraction = self.fraction(keys::MEMORY_OVERHEAD_FRACTION);
            let bytes = scaled(below, fraction / (1.0 - fraction)).clamp(min, max.max(min));
            return Ok([metaspace, Part { key: OVERHEAD, bytes, origin: Origin::Derived }]);
        };
        let mut all = parts.to_vec();
        all.push(metaspace);
        let rest = process.checked_sub(below).ok_or_else(|| self.exceeds(keys::MEMORY_PROCESS, process, &all))?;
        if !(min..=max).contains(&rest) {
            let what = format!(
                "the other parts leave {} to the overhead, which may have {} to {}",
                size(rest),
                size(min),
                size(max)
            );
            let hint = format!("leave out `{}` or `{}`", keys::MEMORY_PROCESS, keys::MEMORY_FLINK);
            return Err(contradiction(what, &hint).detail(table(keys::MEMORY_PROCESS, process, &all)));
        }
        Ok([metaspace, Part { key: OVERHEAD, bytes: rest, origin: Origin::Derived }])
    }
}

fn scaled(bytes: u64, by: f64) -> u64 {
    // Saturates: the greatest size stays the greatest.
    (bytes as f64 * by) as u64
}

fn contradiction(what: String, hint: &str) -> Error {
    Error::user("config.memory", format!("the memory sizes contradict each other: {what}")).hint(hint)
}

/// The sum, a part a line.
fn table(total_key: &str, total: u64, parts: &[Part]) -> String {
    let line = |name: &str, bytes: u64, note: &str| format!("\n    {name:<45} {:>10}  {note}", size(bytes));
    let note = |origin| match origin {
        Origin::Set => "set",
        Origin::Default => "default",
        Origin::Derived => "derived",
    };
    let mut out: String = parts.iter().map(|p| line(p.key, p.bytes, note(p.origin))).collect();
    out += &line("sum", sum(parts), "");
    out += &line(total_key, total, "to hold them");
    out
}
