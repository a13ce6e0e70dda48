//! Protocol scripts of the job master: text in, text out. `UPDATE_SCRIPTS=1` rewrites the expectations.
//!
//! A script opens with its reason (`#`), sets options (`KEY = VALUE`) and `tasks a=2* b=1` (a star: sources), then lists events as
//! `t=MS event`; lines with `->` are the actions that follow. Events of tasks are of the present attempt, with `@N` in front of attempt N.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use flott_checkpoint::coordinator::Published;
use flott_checkpoint::{Action as CheckpointAction, CheckpointCoordinator};
use flott_core::config::Configuration;
use flott_core::operator::Notification;
use flott_core::snapshot::{
    ChannelAddress, ChunkLocation, ChunkRef, ChunkScope, InFlightPlace, InFlightSegment, SubtaskCheckpointStats,
    SubtaskState,
};
use flott_core::source::Split;
use flott_core::task::{TaskCommand, TaskReport};
use flott_core::{CheckpointId, Error, OperatorId, SubtaskId, VertexId};
use flott_jobmanager::JobOptions;
use flott_jobmanager::job_master::{Action, Deployed, Event, JobMaster, SourceStart, VertexTasks};
use flott_jobmanager::progress::JobStatus;

#[derive(Default)]
struct Script {
    config: Configuration,
    tasks: Vec<VertexTasks>,
    master: Option<JobMaster>,
}

#[test]
#[allow(clippy::disallowed_methods, reason = "a switch of this test alone")]
fn scripts() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scripts");
    let update = std::env::var("UPDATE_SCRIPTS").is_ok();
    let mut paths: Vec<_> = std::fs::read_dir(dir).expect("a directory").map(|e| e.expect("an entry").path()).collect();
    paths.retain(|p| p.extension().is_some_and(|e| e == "txt"));
    paths.sort();
    assert!(paths.len() >= 10, "the scripts are missing");
    let mut wrong = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).expect("a readable script");
        assert!(text.starts_with("# "), "{}: a script opens with its reason", path.display());
        let found = run(&text);
        if found == text {
            continue;
        }
        if update {
            std::fs::write(&path, found).expect("a writable script");
        } else {
            let (expected, got) =
                text.lines().zip(found.lines()).find(|(a, b)| a != b).unwrap_or(("the end", "more or fewer lines"));
            wrong.push(format!("{}: expected `{expected}`, got `{got}`\n{found}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn run(text: &str) -> String {
    let mut script = Script::default();
    let mut out = String::new();
    for line in text.lines().filter(|l| !l.trim_start().starts_with("->")) {
        writeln!(out, "{line}").expect("strings take everything");
        if line.is_empty() || line.starts_with('#') {
            continue;
        } else if let Some(tasks) = line.strip_prefix("tasks ") {
            script.tasks = tasks.split_whitespace().map(vertex_tasks).collect();
        } else if let Some(event) = line.strip_prefix("t=") {
            let (now, event) = event.split_once(' ').expect("t=MS event");
            script.event(now.parse().expect("milliseconds"), event, &mut out);
        } else {
            let (key, value) = line.split_once(" = ").unwrap_or_else(|| panic!("what is `{line}`?"));
            script.config.set(key, value).expect("an option");
        }
    }
    out
}

/// `a=2*`
fn vertex_tasks(text: &str) -> VertexTasks {
    let (name, count) = text.split_once('=').expect("a=2");
    let is_source = count.ends_with('*');
    VertexTasks { vertex: vertex(name), parallelism: count.trim_end_matches('*').parse().expect("a number"), is_source }
}

fn vertex(name: &str) -> VertexId {
    VertexId(u128::from(name.as_bytes()[0]))
}

/// `a0`
fn subtask(text: &str) -> SubtaskId {
    SubtaskId { vertex: vertex(text), index: text[1..].parse().expect("an index") }
}

fn name(subtask: &SubtaskId) -> String {
    format!("{}{}", vertex_name(subtask.vertex), subtask.index)
}

fn vertex_name(vertex: VertexId) -> char {
    char::from(u8::try_from(vertex.0).expect("a letter"))
}

fn checkpoint(text: &str) -> CheckpointId {
    CheckpointId(text.parse().expect("a number"))
}

fn split(id: &str) -> Split {
    Split { id: id.to_owned(), state: Vec::new() }
}

fn error(kind: &str) -> Error {
    match kind {
        "user" => Error::user("test.user", "a wrong record"),
        "bug" => Error::bug("an invariant"),
        "retry" => Error::retry("test.retry", "the network"),
        _ => panic!("what is error `{kind}`?"),
    }
}

impl Script {
    fn master(&mut self) -> &mut JobMaster {
        let Script { config, tasks, .. } = &*self;
        if self.master.is_none() {
            let options = JobOptions::from_config(config);
            let coordinator = CheckpointCoordinator::new(options.checkpoint.clone(), CheckpointId(1), BTreeMap::new());
            self.master = Some(JobMaster::new(tasks, options, coordinator, 7));
        }
        self.master.as_mut().expect("set above")
    }

    fn event(&mut self, now: i64, text: &str, out: &mut String) {
        let mut words: Vec<&str> = text.split_whitespace().collect();
        let mut attempt = self.master().attempt();
        if let Some(other) = words[0].strip_prefix('@') {
            attempt = other.parse().expect("an attempt");
            words.remove(0);
        }
        let events = match words[..] {
            ["start"] => vec![Event::Start],
            ["tick"] => vec![Event::Tick],
            ["deployed", ref what @ ..] => vec![Event::Deployed { attempt, result: Ok(self.deployed(what)) }],
            ["deploy-failed", kind] => vec![Event::Deployed { attempt, result: Err(error(kind)) }],
            ["found", source, ref ids @ ..] => {
                let operator = OperatorId(vertex(source).0);
                let found = ids.iter().map(|id| split(id)).collect();
                vec![Event::Discovered { attempt, result: Ok(vec![(operator, found)]) }]
            }
            ["find-failed", kind] => vec![Event::Discovered { attempt, result: Err(error(kind)) }],
            ["published", id] => vec![Event::Published {
                checkpoint: checkpoint(id),
                result: Ok(Published { path: format!("chk-{id}"), metadata_bytes: 1 }),
            }],
            ["publish-failed", id, kind] => {
                let result = Err(if kind == "fenced" { Error::fenced("started again") } else { error(kind) });
                vec![Event::Published { checkpoint: checkpoint(id), result }]
            }
            ["broken", kind] => vec![Event::Failed { attempt, error: error(kind) }],
            ["stop", "canceled"] => vec![Event::Stop(JobStatus::Canceled)],
            ["stop", "suspended"] => vec![Event::Stop(JobStatus::Suspended)],
            [what, ref tasks @ ..] => {
                let report = |t: &&str| Event::Task { subtask: subtask(t), attempt, report: report(what) };
                tasks.iter().map(report).collect()
            }
            [] => panic!("an event is missing"),
        };
        for event in events {
            let master = self.master();
            let actions = master.step(now, event);
            master.check_invariants().unwrap_or_else(|e| panic!("{text}: {e}"));
            for action in &actions {
                writeln!(out, "  -> {}", show(action)).expect("strings take everything");
            }
        }
        if let Some(at) = self.master().wake_at_ms() {
            assert!(at >= now - 60_000, "{text}: a wake-up that nobody heard");
        }
    }

    /// `a: x y every=100; drain b/c`: splits that a source finds; rows in flight of operator b, followed to vertex c.
    fn deployed(&mut self, words: &[&str]) -> Deployed {
        let mut deployed = Deployed { sources: Ok(Vec::new()), drains: Default::default() };
        for part in words.join(" ").split("; ").filter(|p| !p.is_empty()) {
            if let Some(steps) = part.strip_prefix("drain ") {
                let step = |s: &str| (OperatorId(vertex(&s[..1]).0), vertex(&s[2..]));
                deployed.drains = steps.split(' ').map(step).collect();
                continue;
            }
            if let Some(kind) = part.strip_prefix("sources ") {
                deployed.sources = Err(error(kind));
                continue;
            }
            let (source, ids) = part.split_once(':').expect("a: x y");
            let tasks = self.tasks.iter().find(|t| t.vertex == vertex(source)).expect("a vertex");
            let mut start = SourceStart {
                operator: OperatorId(vertex(source).0),
                vertex: vertex(source),
                parallelism: tasks.parallelism,
                discovery_interval_ms: None,
                known: BTreeSet::new(),
                unfinished: Vec::new(),
                former_parallelism: None,
                found: Vec::new(),
            };
            for word in ids.split_whitespace() {
                match word.split_once('=') {
                    Some(("every", ms)) => start.discovery_interval_ms = Some(ms.parse().expect("milliseconds")),
                    Some(("known", id)) => start.known.extend([id.to_owned()]),
                    Some(("former", n)) => start.former_parallelism = Some(n.parse().expect("a number")),
                    Some((reader, id)) => {
                        start.unfinished.push((reader.parse().expect("a reader"), split(id)));
                    }
                    None => start.found.push(split(word)),
                }
            }
            if let Ok(sources) = &mut deployed.sources {
                sources.push(start);
            }
        }
        deployed
    }
}

/// What a task says: `running`, `ack-1`, `declines-1`, `not-stored-1`, `failed-retry` …
fn report(what: &str) -> TaskReport {
    let (what, of) = what.rsplit_once('-').unwrap_or((what, ""));
    match (what, of) {
        ("running", _) => TaskReport::Running,
        ("ends", _) => TaskReport::EndOfData,
        ("finished", _) => TaskReport::Finished,
        ("canceled", _) => TaskReport::Canceled,
        ("drained", to) => TaskReport::Drained { operator: OperatorId(0), sent: sent(to) },
        ("failed", kind) => TaskReport::Failed(error(kind)),
        ("ack", id) => TaskReport::Acknowledged {
            checkpoint: checkpoint(id),
            state: state(),
            stats: SubtaskCheckpointStats::default(),
        },
        ("declines", id) => {
            TaskReport::Declined { checkpoint: checkpoint(id), storing: false, reason: "told so".into() }
        }
        ("not-stored", id) => {
            TaskReport::Declined { checkpoint: checkpoint(id), storing: true, reason: "disk full".into() }
        }
        _ => panic!("what is `{what}`?"),
    }
}

/// `b0>c0:3`: three elements from b0 to c0.
fn sent(text: &str) -> Vec<(ChannelAddress, u64)> {
    let Some((channel, count)) = text.split_once(':') else { return Vec::new() };
    let (from, to) = channel.split_once('>').expect("from>to");
    let (from, to) = (subtask(from), subtask(to));
    let address = ChannelAddress {
        operator: OperatorId(to.vertex.0),
        subtask: to.index,
        edge: 0,
        port: 0,
        producer: OperatorId(from.vertex.0),
        from: from.index,
    };
    vec![(address, count.parse().expect("a number"))]
}

/// State with a file, which is to be deleted if nobody wants it.
fn state() -> SubtaskState {
    let location = ChunkLocation::File { path: "chk-1/x".into(), offset: 0 };
    let chunk = ChunkRef { scope: ChunkScope::Exclusive, location, len: 1, crc32: 0 };
    let place = InFlightPlace::Queued { operator: OperatorId(0), subtask: 0 };
    SubtaskState { operators: Vec::new(), in_flight: vec![InFlightSegment { place, rows: 0, chunk }] }
}

fn show(action: &Action) -> String {
    match action {
        Action::Deploy { attempt } => format!("deploy {attempt}"),
        Action::Tell { to, command } => {
            let to: Vec<String> = to.iter().map(name).collect();
            format!("tell {}: {}", to.join(" "), show_command(command))
        }
        Action::Cancel => "cancel".into(),
        Action::Release => "release".into(),
        Action::Discover => "discover".into(),
        Action::Publish(p) => {
            let states =
                p.coordinator_states.iter().map(|(o, s)| format!("{}:{}b", vertex_name(VertexId(o.0)), s.len()));
            format!("publish {} {}", p.checkpoint, states.collect::<Vec<_>>().join(" ")).trim_end().to_owned()
        }
        Action::Abort(id) => format!("abort {id}"),
        Action::Discard { checkpoint, .. } => format!("discard state of {checkpoint}"),
        Action::Log(CheckpointAction::LateMessage { checkpoint, subtask, .. }) => {
            format!("late message for {checkpoint} from {}", name(subtask))
        }
        Action::Log(other) => format!("{other:?}"),
        Action::Status(status) => format!("status {status:?}"),
        Action::Failed(e) => format!("failed: {e}"),
        Action::Restarting { delay_ms } => format!("restarting in {delay_ms} ms"),
        Action::GivingUp(reason) => reason.clone(),
        Action::End { status, discard } => {
            format!("end {status:?}{}", if *discard { ", checkpoints go" } else { "" })
        }
    }
}

fn show_command(command: &TaskCommand) -> String {
    match command {
        TaskCommand::Trigger(b) => {
            format!("trigger {}{}", b.checkpoint, if b.options.last { ", the last" } else { "" })
        }
        TaskCommand::Notify(Notification::Completed(id)) => format!("{id} completed"),
        TaskCommand::Notify(Notification::Aborted(id)) => format!("{id} aborted"),
        TaskCommand::AssignSplits { splits, no_more } => {
            let ids: Vec<&str> = splits.iter().map(|s| s.id.as_str()).collect();
            format!("read [{}]{}", ids.join(" "), if *no_more { ", no more" } else { "" })
        }
        TaskCommand::Drain { operator, sent } => {
            let sent = sent.iter().map(|(a, n)| format!(" {}{} sent {n}", vertex_name(VertexId(a.producer.0)), a.from));
            format!("drain {}{}", vertex_name(VertexId(operator.0)), sent.collect::<String>())
        }
        TaskCommand::Resume => "resume".into(),
        TaskCommand::Cancel => "cancel".into(),
        TaskCommand::FinishJob => "finish".into(),
    }
}
