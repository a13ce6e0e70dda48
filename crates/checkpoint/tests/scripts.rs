//! Protocol scripts of the coordinator: text in, text out. `UPDATE_SCRIPTS=1` rewrites the expectations.
//!
//! A script opens with its reason (`#`), sets `options`, then lists events as `t=MS event`; lines with `->` are the actions that follow.
//! Enumerators answer at once unless the options say `manual-capture`, the storage unless they say `manual-publish`.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;

use bytes::Bytes;
use flott_checkpoint::coordinator::Published;
use flott_checkpoint::{Action, CheckpointCoordinator, CheckpointOptions, Event, FailureReason};
use flott_core::snapshot::{
    ChunkLocation, ChunkRef, ChunkScope, KeyedStateHandle, OperatorSubtaskState, SubtaskCheckpointStats, SubtaskState,
};
use flott_core::{CheckpointId, Error, KeyGroupRange, OperatorId, SubtaskId, VertexId};

struct Script {
    coordinator: Option<CheckpointCoordinator>,
    options: CheckpointOptions,
    next: u64,
    auto_capture: bool,
    auto_publish: bool,
    names: BTreeMap<VertexId, String>,
}

#[test]
#[allow(clippy::disallowed_methods, reason = "a switch of this test alone")]
fn scripts() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scripts");
    let update = std::env::var("UPDATE_SCRIPTS").is_ok();
    let mut paths: Vec<_> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    paths.retain(|p| p.extension().is_some_and(|e| e == "txt"));
    paths.sort();
    assert!(paths.len() >= 10, "the scripts are missing");
    let mut wrong = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("# "), "{}: a script opens with its reason", path.display());
        let found = run(&text);
        if found == text {
            continue;
        }
        if update {
            std::fs::write(&path, found).unwrap();
        } else {
            let (expected, got) =
                text.lines().zip(found.lines()).find(|(a, b)| a != b).unwrap_or(("the end", "more or fewer lines"));
            wrong.push(format!("{}: expected `{expected}`, got `{got}`\n{found}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn run(text: &str) -> String {
    let mut script = Script {
        coordinator: None,
        options: CheckpointOptions::default(),
        next: 1,
        auto_capture: true,
        auto_publish: true,
        names: BTreeMap::new(),
    };
    let mut out = String::new();
    for line in text.lines().filter(|l| !l.trim_start().starts_with("->")) {
        writeln!(out, "{line}").expect("strings take everything");
        if let Some(options) = line.strip_prefix("options") {
            options.split_whitespace().for_each(|o| script.option(o));
        } else if let Some(event) = line.strip_prefix("t=") {
            let (now, event) = event.split_once(' ').expect("t=MS event");
            script.event(now.parse().expect("milliseconds"), event, &mut out);
        } else {
            assert!(line.is_empty() || line.starts_with('#'), "what is `{line}`?");
        }
    }
    out
}

impl Script {
    fn option(&mut self, text: &str) {
        let (key, value) = text.split_once('=').unwrap_or((text, "1"));
        let number: i64 = value.parse().expect("a number");
        let count = u32::try_from(number).unwrap_or(0);
        let o = &mut self.options;
        match key {
            "interval" => o.interval_ms = Some(number),
            "min-pause" => o.min_pause_ms = number,
            "timeout" => o.timeout_ms = number,
            "max-concurrent" => o.max_concurrent = count,
            "tolerable" => o.tolerable_failures = count,
            "at-least-once" => o.at_least_once = true,
            "stop-after-finish" => o.checkpoints_after_tasks_finish = false,
            "next" => self.next = u64::from(count),
            "manual-capture" => self.auto_capture = false,
            "manual-publish" => self.auto_publish = false,
            _ => panic!("what is option `{key}`?"),
        }
    }

    fn event(&mut self, now: i64, text: &str, out: &mut String) {
        let words: Vec<&str> = text.split_whitespace().collect();
        let event = match words[..] {
            ["start", ..] => Event::Started { subtasks: words[1..].iter().map(|w| self.subtask(w)).collect() },
            ["tick"] => Event::Tick,
            ["manual"] => Event::ManualTrigger { savepoint: false },
            ["savepoint"] => Event::ManualTrigger { savepoint: true },
            ["captured", id] => Event::CoordinatorState { checkpoint: checkpoint(id), states: Vec::new() },
            ["capture-failed", id] => {
                Event::CaptureFailed { checkpoint: checkpoint(id), message: "no splits".to_owned() }
            }
            ["ack", id, subtask] => self.ack(id, subtask, SubtaskState::default(), 0),
            ["ack", id, subtask, "delay", ms] => {
                self.ack(id, subtask, SubtaskState::default(), ms.parse().expect("milliseconds"))
            }
            ["ack", id, subtask, "file", path] => self.ack(id, subtask, state_in(path), 0),
            ["decline", id, subtask, reason] => Event::Declined {
                subtask: self.subtask(subtask),
                checkpoint: checkpoint(id),
                reason: *FailureReason::ALL.iter().find(|r| r.name() == reason).expect("a reason"),
                message: "told so".to_owned(),
            },
            ["published", id] => Event::Published { checkpoint: checkpoint(id), result: Ok(published(id)) },
            ["publish-failed", id] => Event::Published {
                checkpoint: checkpoint(id),
                result: Err(Error::retry("storage.io", "the disk is gone")),
            },
            ["fenced", id] => {
                Event::Published { checkpoint: checkpoint(id), result: Err(Error::fenced("started again")) }
            }
            ["end", subtask] => Event::SubtaskReachedEnd { subtask: self.subtask(subtask) },
            ["suspend"] => Event::Suspended,
            ["stop"] => Event::Stop,
            _ => panic!("what is `{text}`?"),
        };
        self.step(now, event, out);
    }

    /// As a driver does: all actions of one event, then the events they brought about.
    fn step(&mut self, now: i64, event: Event, out: &mut String) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let (options, next, names) = (self.options.clone(), self.next, self.names.clone());
            let coordinator =
                self.coordinator.get_or_insert_with(|| CheckpointCoordinator::new(options, CheckpointId(next), names));
            let actions = coordinator.step(now, event);
            coordinator.check_invariants().expect("invariants hold");
            for action in actions {
                writeln!(out, "  -> {}", self.show(&action)).expect("strings take everything");
                match action {
                    Action::CaptureCoordinatorState { checkpoint } if self.auto_capture => {
                        events.push_back(Event::CoordinatorState { checkpoint, states: Vec::new() });
                    }
                    Action::Publish(p) if self.auto_publish => {
                        let result = Ok(published(&p.checkpoint.to_string()));
                        events.push_back(Event::Published { checkpoint: p.checkpoint, result });
                    }
                    _ => {}
                }
            }
        }
    }

    fn ack(&mut self, id: &str, subtask: &str, state: SubtaskState, start_delay_ms: u64) -> Event {
        let stats = SubtaskCheckpointStats { start_delay_ms, ..SubtaskCheckpointStats::default() };
        Event::Ack { subtask: self.subtask(subtask), checkpoint: checkpoint(id), state, stats }
    }

    /// `a0`: subtask 0 of vertex `a`.
    fn subtask(&mut self, text: &str) -> SubtaskId {
        let vertex = VertexId(u128::from(text.as_bytes()[0]));
        self.names.entry(vertex).or_insert_with(|| text[..1].to_owned());
        SubtaskId { vertex, index: text[1..].parse().expect("an index") }
    }

    fn show(&self, action: &Action) -> String {
        let name = |s: &SubtaskId| format!("{}{}", self.names[&s.vertex], s.index);
        match action {
            Action::CaptureCoordinatorState { checkpoint } => format!("capture {checkpoint}"),
            Action::TriggerSources(b) => {
                let o = b.options;
                let flags = [(o.at_least_once, " at-least-once"), (o.savepoint, " savepoint"), (o.last, " last")];
                let flags: String = flags.into_iter().filter(|(on, _)| *on).map(|(_, f)| f).collect();
                format!("trigger {} at {}{flags}", b.checkpoint, b.triggered_ms)
            }
            Action::Publish(p) => format!("publish {} of {} subtasks", p.checkpoint, p.subtasks.len()),
            Action::NotifyCompleted(id) => format!("completed {id}"),
            Action::NotifyAborted(id) => {
                let stats = self.coordinator.as_ref().map(CheckpointCoordinator::stats);
                let told = stats.and_then(|s| s.get(*id)).and_then(|r| r.failure.clone()).unwrap_or_default();
                format!("aborted {id}: {} {}", told.0, told.1)
            }
            Action::DiscardState { checkpoint, subtask, .. } => format!("discard {checkpoint} of {}", name(subtask)),
            Action::FailJob(e) => format!("fail job: {e}"),
            Action::WakeAt(ms) => format!("wake at {ms}"),
            Action::FinalCheckpointCompleted(id) => format!("final {id}"),
            Action::LateMessage { checkpoint, subtask, expired } => {
                format!(
                    "late message for {checkpoint} from {}{}",
                    name(subtask),
                    if *expired { ", expired" } else { "" }
                )
            }
            Action::TriggerRejected { savepoint, reason } => {
                format!("rejected{}: {reason}", if *savepoint { " savepoint" } else { "" })
            }
        }
    }
}

fn checkpoint(text: &str) -> CheckpointId {
    CheckpointId(text.parse().expect("a checkpoint"))
}

fn published(id: &str) -> Published {
    Published { path: format!("memory:/chk-{id}"), metadata_bytes: 100 }
}

fn state_in(path: &str) -> SubtaskState {
    let location = ChunkLocation::File { path: path.to_owned(), offset: 0 };
    let chunk = ChunkRef { scope: ChunkScope::Exclusive, location, len: 1, crc32: 0 };
    let keyed = KeyedStateHandle {
        format: ("test".to_owned(), 1),
        key_groups: KeyGroupRange { start: 0, end: 1 },
        descriptor: Bytes::new(),
        chunks: vec![chunk],
        state_bytes: 1,
        written_bytes: 1,
    };
    let operator = OperatorSubtaskState { operator: OperatorId(1), keyed: Some(keyed), operator_state: Vec::new() };
    SubtaskState { operators: vec![operator] }
}
