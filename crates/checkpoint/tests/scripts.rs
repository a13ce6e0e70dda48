//! Protocol scripts of the coordinator: text in, text out. `UPDATE_SCRIPTS=1` rewrites the expectations.
//!
//! A script opens with its reason (`#`), sets `options`, then lists events as `t=MS event`; lines with `->` are the actions that follow.
//! `graph a -> b` and `sink b NAME` are what sentences speak of, `t=MS figures a0 busy=MS waits=MS …; b0 …` counters since the start, `told`
//! a sentence. Enumerators answer at once unless the options say `manual-capture`, the storage unless they say `manual-publish`.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;

use bytes::Bytes;
use flott_checkpoint::coordinator::Published;
use flott_checkpoint::stats::{
    CutRecord, ExternalFigures, Figures, TaskFigures, Topology, TopologyEdge, TopologyVertex,
};
use flott_checkpoint::{Action, CheckpointCoordinator, CheckpointOptions, Event, FailureReason};
use flott_core::metrics::ExternalCall;
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
    topology: Topology,
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
        topology: Topology::default(),
    };
    let mut out = String::new();
    for line in text.lines().filter(|l| !l.trim_start().starts_with("->")) {
        writeln!(out, "{line}").expect("strings take everything");
        if let Some(options) = line.strip_prefix("options") {
            options.split_whitespace().for_each(|o| script.option(o));
        } else if let Some(path) = line.strip_prefix("graph ") {
            path.split(" -> ").collect::<Vec<_>>().windows(2).for_each(|w| script.edge(w[0], w[1]));
        } else if let Some((vertex, name)) = line.strip_prefix("sink ").and_then(|l| l.split_once(' ')) {
            let id = script.vertex(vertex);
            script.topology.vertices.iter_mut().filter(|v| v.id == id).for_each(|v| v.sink = Some(name.to_owned()));
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
            "slow" => o.slow_ms = Some(number),
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
            ["figures", ..] => return self.figures(now, text.trim_start_matches("figures ")),
            ["watch"] => {
                self.coordinator().stats_mut().watch(now);
                return self.tell(out);
            }
            ["cut", id, subtask, ref times @ ..] => {
                let s = stats(times);
                let cut = CutRecord {
                    at_ms: now,
                    start_delay_ms: s.start_delay_ms,
                    alignment_ms: s.alignment_ms,
                    sync_ms: s.sync_ms,
                };
                let subtask = self.subtask(subtask);
                return self.coordinator().stats_mut().cut(checkpoint(id), subtask, cut);
            }
            ["start", ..] => Event::Started { subtasks: words[1..].iter().map(|w| self.subtask(w)).collect() },
            ["tick"] => Event::Tick,
            ["manual"] => Event::ManualTrigger { savepoint: false },
            ["savepoint"] => Event::ManualTrigger { savepoint: true },
            ["captured", id] => Event::CoordinatorState { checkpoint: checkpoint(id), states: Vec::new() },
            ["capture-failed", id] => {
                Event::CaptureFailed { checkpoint: checkpoint(id), message: "no splits".to_owned() }
            }
            ["ack", id, subtask, "file", path] => self.ack(id, subtask, state_in(path), &[]),
            ["ack", id, subtask, ref times @ ..] => self.ack(id, subtask, SubtaskState::default(), times),
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
            let coordinator = self.coordinator();
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
        self.tell(out);
    }

    fn coordinator(&mut self) -> &mut CheckpointCoordinator {
        let Script { options, next, names, topology, .. } = &*self;
        if self.coordinator.is_none() {
            let mut coordinator = CheckpointCoordinator::new(options.clone(), CheckpointId(*next), names.clone());
            coordinator.stats_mut().set_topology(topology.clone());
            self.coordinator = Some(coordinator);
        }
        self.coordinator.as_mut().expect("set above")
    }

    fn tell(&mut self, out: &mut String) {
        for diagnosis in self.coordinator().stats_mut().take_diagnoses() {
            writeln!(out, "  -> told: {diagnosis}").expect("strings take everything");
        }
    }

    /// `k0 busy=10 waits=990 rows=500 calls=1 call-ms=900 call-rows=500 server=mysql_host calling=commit@1000; …`, since the start.
    fn figures(&mut self, now: i64, text: &str) {
        let mut figures = Figures { at_ms: now, ..Figures::default() };
        for task in text.split("; ") {
            let (subtask, values) = task.split_once(' ').expect("a subtask and its figures");
            let (mut f, mut e) = (TaskFigures::default(), ExternalFigures::default());
            for (key, value) in values.split_whitespace().map(|w| w.split_once('=').expect("key=value")) {
                let number = || value.parse::<u64>().expect("a number");
                match key {
                    "busy" => f.busy_ns = number() * 1_000_000,
                    "idle" => f.idle_ns = number() * 1_000_000,
                    "waits" => f.backpressured_ns = number() * 1_000_000,
                    "rows" => f.rows_in = number(),
                    "calls" => e.calls = number(),
                    "call-ms" => e.call_ns = number() * 1_000_000,
                    "call-rows" => e.rows = number(),
                    "server" => e.endpoint = value.replace('_', " "),
                    "calling" => {
                        let (what, since) = value.split_once('@').expect("what@since");
                        let since_ms = since.parse().expect("milliseconds");
                        e.calling = Some(ExternalCall { what: what.replace('_', " "), since_ms });
                    }
                    _ => panic!("what is `{key}`?"),
                }
            }
            if !e.endpoint.is_empty() {
                f.external.push(e);
            }
            let subtask = self.subtask(subtask);
            figures.tasks.insert(subtask, f);
        }
        self.coordinator().stats_mut().observe(figures);
    }

    fn edge(&mut self, from: &str, to: &str) {
        let ids = [self.vertex(from), self.vertex(to)];
        for id in ids {
            if self.topology.vertices.iter().all(|v| v.id != id) {
                let name = self.names[&id].clone();
                self.topology.vertices.push(TopologyVertex { id, name, sink: None, outputs: Vec::new() });
            }
        }
        let from = self.topology.vertices.iter_mut().find(|v| v.id == ids[0]).expect("added above");
        from.outputs.push(TopologyEdge { to: ids[1], pointwise: false });
    }

    fn ack(&mut self, id: &str, subtask: &str, state: SubtaskState, times: &[&str]) -> Event {
        Event::Ack { subtask: self.subtask(subtask), checkpoint: checkpoint(id), state, stats: stats(times) }
    }

    fn vertex(&mut self, name: &str) -> VertexId {
        let vertex = VertexId(u128::from(name.as_bytes()[0]));
        self.names.entry(vertex).or_insert_with(|| name[..1].to_owned());
        vertex
    }

    /// `a0`: subtask 0 of vertex `a`.
    fn subtask(&mut self, text: &str) -> SubtaskId {
        SubtaskId { vertex: self.vertex(text), index: text[1..].parse().expect("an index") }
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
                let record = stats.and_then(|s| s.get(*id));
                let told = record.and_then(|r| r.failure.clone()).unwrap_or_default();
                // With a sentence, that is told.
                match record.is_some_and(|r| r.diagnosis.is_some()) {
                    true => format!("aborted {id}: {}", told.0),
                    false => format!("aborted {id}: {} {}", told.0, told.1),
                }
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

/// `delay 1400 align 20 sync 5 async 30 bytes 1000`.
fn stats(words: &[&str]) -> SubtaskCheckpointStats {
    let mut stats = SubtaskCheckpointStats::default();
    for pair in words.chunks(2) {
        let number = pair[1].parse().expect("a number");
        match pair[0] {
            "delay" => stats.start_delay_ms = number,
            "align" => stats.alignment_ms = number,
            "sync" => stats.sync_ms = number,
            "async" => stats.async_ms = number,
            "bytes" => stats.state_bytes = number,
            what => panic!("what is `{what}`?"),
        }
    }
    stats
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
    SubtaskState { operators: vec![operator], ..SubtaskState::default() }
}
