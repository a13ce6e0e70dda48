//! One sentence on what held a checkpoint up and what to do about it, with a stable code. Says what was reported, never what might be.

use flott_core::{CheckpointId, Error, SubtaskId, VertexId};
use serde::{Deserialize, Serialize};

use super::figures::{ExternalLoad, Load, TaskLoad};
use super::path::{CriticalPath, Phase, Segment};
use super::{CheckpointRecord, CheckpointStatsHistory};
use crate::storage::StorageCall;

/// Subtasks named in a sentence; the rest is counted.
const NAMED_MAX: usize = 4;
/// A call that has lasted this share of the time is what everything waits for.
const STALLED: f64 = 0.5;
/// And it has lasted so many times longer than those before it.
const UNUSUAL: f64 = 3.0;

/// A sentence with its code, as CLI, log and REST show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// A code of the catalogue, such as `checkpoint.expired`.
    pub code: String,
    /// What happened, why, and what to do.
    pub sentence: String,
}

impl From<Error> for Diagnosis {
    fn from(e: Error) -> Self {
        Diagnosis { code: e.code().to_owned(), sentence: e.message().to_owned() }
    }
}

impl std::fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} [{}]", self.sentence, self.code)
    }
}

/// What a sentence is made of: a cause, and a remedy where one is known.
struct Cause {
    text: String,
    remedy: String,
}

impl CheckpointStatsHistory {
    /// The sentence of a checkpoint that was given up; `message` is what was reported besides.
    pub(super) fn failure_sentence(
        &self,
        record: &CheckpointRecord,
        (reason, message): (&str, &str),
        path: &CriticalPath,
        load: &Load,
    ) -> Diagnosis {
        let (id, took) = (record.id, total(record.duration_ms()));
        if reason == "CHECKPOINT_EXPIRED" {
            let why = self
                .cause_of(record, path, load)
                .map(|(ms, c)| format!(": {} {}{}", time(ms), c.text, then(&c.remedy)));
            let text =
                format!("checkpoint {id} expired after {took}{}{}", why.unwrap_or_default(), self.missing(record));
            return Error::retry("checkpoint.expired", text).into();
        }
        let told = if message.is_empty() { String::new() } else { format!(": {}", message.trim_end_matches('.')) };
        let call = slow_call(load).map(|c| format!("; {}", c.sentence())).unwrap_or_default();
        let text = format!("checkpoint {id} failed after {took} ({reason}){told}{call}{}", self.missing(record));
        Error::retry("checkpoint.failed", text).into()
    }

    /// The sentence of a checkpoint that completed, or is under way, and takes long.
    pub(super) fn slow_sentence(
        &self,
        record: &CheckpointRecord,
        path: &CriticalPath,
        load: &Load,
        now_ms: i64,
    ) -> Diagnosis {
        let (id, took) = (record.id, total(record.end_ms.unwrap_or(now_ms) - record.triggered_ms));
        let done = record.end_ms.is_some();
        let how = if done { format!("took {took}") } else { format!("has been under way for {took}") };
        let why =
            self.cause_of(record, path, load).map(|(ms, c)| format!(": {} {}{}", time(ms), c.text, then(&c.remedy)));
        let missing = if done { String::new() } else { self.missing(record) };
        Error::retry("checkpoint.slow", format!("checkpoint {id} {how}{}{missing}", why.unwrap_or_default())).into()
    }

    /// The sentence of a commit that has been waiting for a server.
    pub(super) fn commit_sentence(
        &self,
        (id, took_ms): (CheckpointId, i64),
        endpoint: &str,
        what: &str,
        waited_ms: i64,
    ) -> Diagnosis {
        let text = format!(
            "checkpoint {} completed in {} but its commit has been waiting {} for {endpoint} ({what}): look for a lock or a \
             stall there",
            id,
            time(took_ms),
            total(waited_ms)
        );
        Error::retry("checkpoint.commit-waiting", text).into()
    }

    /// The sentence of a job that could not go on from anything recent.
    pub(super) fn stale_sentence(&self, age_ms: i64, last: Option<&Diagnosis>) -> Diagnosis {
        let why = last.map_or_else(|| "no checkpoint has completed".to_owned(), |d| d.sentence.clone());
        Error::retry("checkpoint.no-recovery-point", format!("no recovery point for {}: {why}", age(age_ms))).into()
    }

    /// The sentence of checkpoints that take longer than their interval, one after another.
    pub(super) fn overrun_sentence(&self, count: u32, interval_ms: i64, took_ms: i64) -> Diagnosis {
        let text = format!(
            "{count} checkpoints in a row took longer than their interval of {} (the last one {}), so the job is never without one: raise \
             execution.checkpointing.interval, or set execution.checkpointing.min-pause",
            time(interval_ms),
            time(took_ms)
        );
        Error::retry("checkpoint.interval", text).into()
    }

    fn cause_of(&self, record: &CheckpointRecord, path: &CriticalPath, load: &Load) -> Option<(i64, Cause)> {
        let s = path.dominant()?;
        Some((s.ms, self.cause(record, &s, load)))
    }

    fn cause(&self, record: &CheckpointRecord, s: &Segment, load: &Load) -> Cause {
        let at = s.at.map_or_else(|| "the job".to_owned(), |a| format!("\"{}\"", self.subtask_name(a)));
        let state = |s: SubtaskId| {
            let report = record.vertices.get(&s.vertex).and_then(|v| v.get(s.index as usize)).and_then(Option::as_ref);
            report.map_or_else(String::new, |r| format!(" ({})", bytes(r.stats.state_bytes)))
        };
        match s.phase {
            Phase::Trigger => plain("capturing the state of the sources' enumerators", ""),
            Phase::Source | Phase::BehindData | Phase::Alignment => self.waiting(s, &at, load),
            Phase::Flush if s.behind.is_some() => self.waiting(s, &at, load),
            Phase::Flush => {
                let call = s.at.and_then(|a| load.tasks.get(&a)).and_then(TaskLoad::calling);
                let call =
                    call.map(|(e, what, _)| format!(", which waits for {} ({what})", e.endpoint)).unwrap_or_default();
                plain(format!("until {at} was ready to be cut after the barrier had come{call}"), "")
            }
            Phase::Sync => plain(
                format!("cutting the state of {at}{}, which stops its rows", s.at.map(state).unwrap_or_default()),
                "raise its parallelism so that each subtask holds less",
            ),
            Phase::Upload => {
                self.storing(&format!("writing the state of {at}{}", s.at.map(state).unwrap_or_default()), load)
            }
            Phase::Acknowledge => plain(
                format!("in which {at} neither cut nor wrote its state: its turn to write, or its answer, had to wait"),
                "",
            ),
            Phase::Publish => {
                self.storing(&format!("publishing its metadata ({})", bytes(record.metadata_bytes)), load)
            }
            Phase::Commit => plain("committing", ""),
        }
    }

    fn storing(&self, what: &str, load: &Load) -> Cause {
        let to =
            if load.storage_endpoint.is_empty() { String::new() } else { format!(" to {}", load.storage_endpoint) };
        let call = slow_call(load).map(|c| format!(": {}", c.sentence())).unwrap_or_default();
        plain(format!("{what}{to}{call}"), "look at that storage")
    }

    fn waiting(&self, s: &Segment, at: &str, load: &Load) -> Cause {
        let aligning =
            if s.phase == Phase::Alignment { format!(" while {at} aligned its inputs") } else { String::new() };
        let Some(vertex) = s.behind else {
            if load.tasks.is_empty() {
                return plain(format!("until the barrier reached {at}{aligning}"), "");
            }
            let busiest = load.tasks.iter().max_by(|a, b| a.1.busy.total_cmp(&b.1.busy));
            let busiest =
                busiest.map(|(s, t)| format!(": the busiest was \"{}\" ({})", self.subtask_name(*s), percent(t.busy)));
            return plain(
                format!(
                    "until the barrier reached {at}{aligning}, although no task was busy{}",
                    busiest.unwrap_or_default()
                ),
                "",
            );
        };
        let Cause { text, remedy } = self.culprit(vertex, load);
        Cause { text: format!("waiting behind {text}{aligning}"), remedy }
    }

    /// The vertex that everybody waits for, with its figures.
    fn culprit(&self, vertex: VertexId, load: &Load) -> Cause {
        let (name, is_sink) = self.label(vertex);
        let tasks: Vec<(SubtaskId, &TaskLoad)> = load.of(vertex).collect();
        // A sink has nobody downstream: what it waits for is its server, and that keeps it as busy as work does.
        let ends = self.topology.vertex(vertex).is_none_or(|v| v.outputs.is_empty());
        let engaged = |t: &TaskLoad| if ends { t.busy + t.backpressured } else { t.busy.max(t.backpressured) };
        let worst = tasks.iter().copied().max_by(|a, b| engaged(a.1).total_cmp(&engaged(b.1)));
        let stalled = tasks.iter().filter_map(|(s, t)| t.calling().map(|c| (*s, c))).max_by_key(|(_, (_, _, ms))| *ms);
        if let Some((subtask, (server, what, ms))) = stalled
            && is_stalled(server, ms, load)
        {
            let one = if tasks.len() > 1 {
                format!(" subtask {} of {}", subtask.index + 1, tasks.len())
            } else {
                String::new()
            };
            let text = format!("{name}{one}, which has been waiting {} for {} ({what})", time(ms), server.endpoint);
            return Cause { text, remedy: "look for a lock or a stall there".to_owned() };
        }
        let rows: u64 = tasks.iter().map(|(_, t)| t.rows_in).sum();
        let Some((subtask, task)) = worst else { return plain(name, "") };
        if let Some(skew) = skewed(&tasks, subtask, task, engaged, rows) {
            let text = format!("{name} subtask {} of {} ({skew})", subtask.index + 1, tasks.len());
            return plain(text, "few keys hold most rows: add to the key, or aggregate before the exchange");
        }
        let per_second = rows as f64 * 1000.0 / load.elapsed_ms.max(1) as f64;
        let mut figures = format!("busy {}, {} rows/s in", percent(engaged(task)), thousands(per_second));
        let servers = sum_of_calls(&tasks, load.elapsed_ms, is_sink);
        let remedy = match servers {
            Some(server) => {
                figures += &server;
                if is_sink {
                    "raise its parallelism or its batch size"
                } else {
                    "raise its parallelism or cache its answers"
                }
            }
            None => "raise its parallelism",
        };
        plain(format!("{name} ({figures})"), remedy)
    }

    fn label(&self, vertex: VertexId) -> (String, bool) {
        match self.topology.vertex(vertex) {
            Some(v) => match &v.sink {
                Some(sink) => (format!("sink \"{sink}\""), true),
                None => (format!("operator \"{}\"", v.name), false),
            },
            None => (
                format!("operator \"{}\"", self.names.get(&vertex).cloned().unwrap_or_else(|| vertex.to_string())),
                false,
            ),
        }
    }

    /// `; 2 of 3 subtasks had not acknowledged: a#0, b#1`; empty when all had.
    fn missing(&self, record: &CheckpointRecord) -> String {
        let missing = record.missing();
        if missing.is_empty() {
            return String::new();
        }
        let mut names: Vec<String> = missing.iter().take(NAMED_MAX).map(|s| self.subtask_name(*s)).collect();
        if missing.len() > NAMED_MAX {
            names.push(format!("{} more", missing.len() - NAMED_MAX));
        }
        let had = if record.end_ms.is_some() { "had" } else { "have" };
        format!("; {} of {} subtasks {had} not acknowledged: {}", missing.len(), record.subtasks().0, names.join(", "))
    }

    pub(crate) fn subtask_name(&self, subtask: SubtaskId) -> String {
        match self.names.get(&subtask.vertex) {
            Some(name) => format!("{name}#{}", subtask.index),
            None => subtask.to_string(),
        }
    }
}

/// Whether a call has lasted for much of the time and for longer than those before it.
fn is_stalled(server: &ExternalLoad, ms: i64, load: &Load) -> bool {
    let usual_ms = server.usual.map_or(0.0, |(ms, _)| ms);
    ms as f64 >= STALLED * load.elapsed_ms as f64 && ms as f64 >= UNUSUAL * usual_ms
}

/// What calls to servers took, when they took much of the time.
fn sum_of_calls(tasks: &[(SubtaskId, &TaskLoad)], elapsed_ms: i64, is_sink: bool) -> Option<String> {
    let mut servers = tasks.iter().flat_map(|(_, t)| &t.external);
    let first = servers.next()?;
    let zero = ExternalLoad { endpoint: first.endpoint.clone(), ..ExternalLoad::default() };
    let same = tasks.iter().flat_map(|(_, t)| &t.external).filter(|e| e.endpoint == first.endpoint);
    let sum = same.fold(zero, |sum, e| ExternalLoad {
        calls: sum.calls + e.calls,
        call_ms: sum.call_ms + e.call_ms,
        rows: sum.rows + e.rows,
        retries: sum.retries + e.retries,
        ..sum
    });
    let (per_call, rows) = match (sum.calls, first.usual) {
        (0, Some((ms, rows))) if first.calling.is_some() => (ms as i64, rows),
        (calls, _) if calls > 0 && sum.call_ms >= elapsed_ms as f64 * 0.3 => {
            ((sum.call_ms / calls as f64) as i64, sum.rows / calls)
        }
        _ => return None,
    };
    let retried = if sum.retries > 0 { format!(", {} calls tried again", sum.retries) } else { String::new() };
    let call = if is_sink { "flush" } else { "call" };
    Some(format!(", {} per {call} of {rows} rows to {}{retried}", time(per_call), sum.endpoint))
}

/// Whether one subtask of several has most of the work: `busy 100 %, 62 % of the rows; the others are busy 11 %`.
fn skewed(
    tasks: &[(SubtaskId, &TaskLoad)],
    worst: SubtaskId,
    task: &TaskLoad,
    engaged: impl Fn(&TaskLoad) -> f64,
    rows: u64,
) -> Option<String> {
    let others: Vec<f64> = tasks.iter().filter(|(s, _)| *s != worst).map(|(_, t)| engaged(t)).collect();
    if others.is_empty() || rows == 0 {
        return None;
    }
    let mean = others.iter().sum::<f64>() / others.len() as f64;
    let share = task.rows_in as f64 / rows as f64;
    let fair = 1.0 / tasks.len() as f64;
    (engaged(task) >= 0.8 && mean <= engaged(task) / 2.0 && share >= fair * 1.5).then(|| {
        format!(
            "busy {}, {} of the rows; the others are busy {}",
            percent(engaged(task)),
            percent(share),
            percent(mean)
        )
    })
}

fn slow_call(load: &Load) -> Option<&StorageCall> {
    load.storage.iter().max_by_key(|c| c.took_ms)
}

fn plain(text: impl Into<String>, remedy: &str) -> Cause {
    Cause { text: text.into(), remedy: remedy.to_owned() }
}

fn then(remedy: &str) -> String {
    if remedy.is_empty() { String::new() } else { format!(": {remedy}") }
}

fn percent(share: f64) -> String {
    format!("{:.0} %", (share * 100.0).min(100.0))
}

/// `119.0 s`, `0.4 s`, `20 ms`.
fn time(ms: i64) -> String {
    if ms < 100 { format!("{ms} ms") } else { format!("{:.1} s", ms as f64 / 1_000.0) }
}

/// As [`time`], without tenths where they say nothing.
fn total(ms: i64) -> String {
    if ms >= 10_000 { format!("{:.0} s", ms as f64 / 1_000.0) } else { time(ms) }
}

/// Milliseconds as people say them: `58 s`, `35 min`, `2.5 h`.
pub fn age(ms: i64) -> String {
    match ms {
        ..10_000 => time(ms),
        10_000..120_000 => format!("{} s", ms / 1_000),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        _ => format!("{:.1} h", ms as f64 / 3_600_000.0),
    }
}

fn bytes(n: u64) -> String {
    match n {
        0..1_024 => format!("{n} bytes"),
        1_024..1_048_576 => format!("{:.1} KiB", n as f64 / 1_024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", n as f64 / 1_048_576.0),
        _ => format!("{:.1} GiB", n as f64 / 1_073_741_824.0),
    }
}

fn thousands(n: f64) -> String {
    let digits = format!("{n:.0}");
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}
