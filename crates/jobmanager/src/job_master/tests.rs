//! Random worlds around a job master: whatever fails, attempts never overlap, invariants hold, and once nothing fails any more the job ends.
//! Protocol scripts are in `tests/scripts/`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use flott_checkpoint::CheckpointCoordinator;
use flott_checkpoint::coordinator::Published;
use flott_core::config::Configuration;
use flott_core::snapshot::{SubtaskCheckpointStats, SubtaskState};
use flott_core::source::Split;
use flott_core::task::{TaskCommand, TaskReport};
use flott_core::{CheckpointId, Error, OperatorId, SubtaskId, VertexId};

use super::*;
use crate::options::JobOptions;
use crate::progress::JobStatus;

/// Steps in which things fail; after them nothing does.
const TROUBLED: u32 = 300;
/// Steps within which a job ends once nothing fails.
const QUIET: u32 = 3_000;

/// A small generator: the same seed, the same world.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// Who says something: a task, or nobody of them; and whether it is what it has stored, which comes when it comes.
type Voice = (Option<SubtaskId>, bool);

/// Tasks, storage and enumerators that do what they are told, or fail.
struct World {
    random: Random,
    troubled: bool,
    attempt: u32,
    /// Tasks of the attempt that have not ended.
    alive: BTreeSet<SubtaskId>,
    /// What each task, and the rest of the world, has said and the job master has not heard.
    said: BTreeMap<Voice, VecDeque<Event>>,
    /// Whether the source is looked at again, and then never ends.
    discovers: bool,
    /// Splits handed out in this attempt, now and when each checkpoint was triggered.
    handed_out: BTreeSet<String>,
    at_trigger: BTreeMap<CheckpointId, BTreeSet<String>>,
    subtasks: Vec<SubtaskId>,
    ended: Option<JobStatus>,
    deployed: u32,
    published: u32,
}

impl World {
    fn say(&mut self, by: Option<SubtaskId>, event: Event) {
        let stored = matches!(event, Event::Task { report: TaskReport::Acknowledged { .. }, .. });
        self.said.entry((by, stored)).or_default().push_back(event);
    }
    fn report(&mut self, subtask: SubtaskId, report: TaskReport) {
        let attempt = self.attempt;
        self.say(Some(subtask), Event::Task { subtask, attempt, report });
    }
    fn fails(&mut self, one_in: u64) -> bool {
        self.troubled && self.random.below(one_in) == 0
    }

    fn act(&mut self, action: Action, seed: u64) {
        match action {
            Action::Deploy { attempt } => {
                assert!(self.alive.is_empty(), "seed {seed}: attempt {attempt} while {:?} run", self.alive);
                assert!(self.ended.is_none() && attempt >= self.attempt, "seed {seed}");
                self.attempt = attempt;
                self.deployed += 1;
                self.handed_out.clear();
                // The first one succeeds: a job that cannot be started at all is not what this is about.
                if attempt > 0 && self.fails(3) {
                    let result = Err(Error::retry("test.retry", "no room"));
                    return self.say(None, Event::Deployed { attempt, result });
                }
                self.alive = self.subtasks.iter().copied().collect();
                let result = Ok(Deployed { sources: Ok(vec![self.source()]), drains: VecDeque::new() });
                self.say(None, Event::Deployed { attempt, result });
                for subtask in self.subtasks.clone() {
                    self.report(subtask, TaskReport::Running);
                }
            }
            Action::Tell { to, command } => self.tell(&to, &command),
            Action::Cancel => {
                for subtask in std::mem::take(&mut self.alive) {
                    self.report(subtask, TaskReport::Canceled);
                }
            }
            Action::Release => assert!(self.alive.is_empty(), "seed {seed}: released while {:?} run", self.alive),
            Action::Discover => {
                let id = format!("late {}", self.random.below(5));
                let (attempt, found) = (self.attempt, vec![Split { id, state: Vec::new() }]);
                let result = match self.fails(20) {
                    true => Err(Error::retry("test.retry", "gone")),
                    false => Ok(vec![(OperatorId(1), found)]),
                };
                self.say(None, Event::Discovered { attempt, result });
            }
            Action::Publish(pending) => {
                self.published += 1;
                let (_, known) = &pending.coordinator_states[0];
                let known = decode_known("x", known).expect("just written");
                assert_eq!(known, self.at_trigger[&pending.checkpoint], "seed {seed}: what readers were given");
                let result = match self.fails(6) {
                    true => Err(Error::retry("storage.io", "gone")),
                    false => Ok(Published { path: String::new(), metadata_bytes: 1 }),
                };
                self.say(None, Event::Published { checkpoint: pending.checkpoint, result });
            }
            Action::End { status, .. } => {
                assert!(self.alive.is_empty() && self.ended.is_none(), "seed {seed}: ended while {:?} run", self.alive);
                self.ended = Some(status);
            }
            Action::Abort(_)
            | Action::Discard { .. }
            | Action::Log(_)
            | Action::Status(_)
            | Action::Failed(_)
            | Action::Restarting { .. }
            | Action::GivingUp(_) => {}
        }
    }

    fn source(&self) -> SourceStart {
        SourceStart {
            operator: OperatorId(1),
            vertex: VertexId(1),
            parallelism: 2,
            discovery_interval_ms: self.discovers.then_some(15),
            known: Default::default(),
            unfinished: Vec::new(),
            former_parallelism: None,
            found: vec![Split { id: "x".into(), state: Vec::new() }],
        }
    }

    fn tell(&mut self, to: &[SubtaskId], command: &TaskCommand) {
        let told: Vec<SubtaskId> = to.iter().filter(|s| self.alive.contains(s)).copied().collect();
        match command {
            // The barrier passes all tasks.
            TaskCommand::Trigger(barrier) => {
                let checkpoint = barrier.checkpoint;
                self.at_trigger.insert(checkpoint, self.handed_out.clone());
                for subtask in self.alive.clone() {
                    let report = match self.random.below(40) {
                        0 if self.troubled => {
                            TaskReport::Declined { checkpoint, storing: self.random.below(2) == 0, reason: "no".into() }
                        }
                        _ => TaskReport::Acknowledged {
                            checkpoint,
                            state: SubtaskState::default(),
                            stats: SubtaskCheckpointStats::default(),
                        },
                    };
                    self.report(subtask, report);
                }
            }
            TaskCommand::FinishJob => {
                for subtask in told {
                    self.alive.remove(&subtask);
                    self.report(subtask, TaskReport::Finished);
                }
            }
            // One that has nothing more to read ends at once, and those behind it with it.
            TaskCommand::AssignSplits { splits, no_more } => {
                self.handed_out.extend(splits.iter().map(|s| s.id.clone()));
                for subtask in told.into_iter().filter(|_| *no_more) {
                    self.report(subtask, TaskReport::EndOfData);
                    if subtask.index == 0 {
                        let behind = SubtaskId { vertex: VertexId(2), index: 0 };
                        self.report(behind, TaskReport::EndOfData);
                    }
                }
            }
            _ => {}
        }
    }

    /// Something that nobody ordered.
    fn trouble(&mut self, seed: u64) -> Option<Event> {
        match self.random.below(60) {
            0..=1 => {
                let nth = self.random.below(self.alive.len().max(1) as u64) as usize;
                let subtask = self.alive.iter().nth(nth).copied()?;
                self.alive.remove(&subtask);
                self.report(subtask, TaskReport::Failed(Error::retry("test.retry", "a server")));
                None
            }
            2 => Some(Event::Failed { attempt: self.attempt, error: Error::retry("test.retry", "a connection") }),
            3 if seed.is_multiple_of(5) => Some(Event::Stop(JobStatus::Canceled)),
            _ => None,
        }
    }

    /// What the job master hears next: anybody's first word.
    fn next(&mut self) -> Option<Event> {
        self.said.retain(|_, events| !events.is_empty());
        let nth = self.random.below(self.said.len().max(1) as u64) as usize;
        self.said.values_mut().nth(nth)?.pop_front()
    }
}

fn options(seed: u64) -> JobOptions {
    let mut config = Configuration::new();
    let interval = ["10 ms", "50 ms"].get((seed % 3) as usize).map(|ms| ("execution.checkpointing.interval", *ms));
    let options = [
        ("execution.checkpointing.tolerable-failed-checkpoints", "1000"),
        ("restart-strategy.type", "fixed-delay"),
        ("restart-strategy.fixed-delay.attempts", "1000"),
        ("restart-strategy.fixed-delay.delay", if seed.is_multiple_of(2) { "20 ms" } else { "0 ms" }),
    ];
    for (key, value) in options.into_iter().chain(interval) {
        config.set(key, value).expect("an option");
    }
    JobOptions::from_config(&config)
}

#[test]
fn whatever_fails_attempts_never_overlap_and_the_job_ends() {
    let vertices = [(1, 2, true), (2, 1, false)].map(|(id, parallelism, is_source)| VertexTasks {
        vertex: VertexId(id),
        parallelism,
        is_source,
    });
    let subtask = |vertex, index| SubtaskId { vertex: VertexId(vertex), index };
    let (mut attempts, mut published, mut canceled, mut finished) = (0, 0, 0, 0);
    for seed in 0..2_000 {
        let options = options(seed);
        let coordinator = CheckpointCoordinator::new(options.checkpoint.clone(), CheckpointId(1), BTreeMap::new());
        let mut master = JobMaster::new(&vertices, options, coordinator, seed);
        let mut world = World {
            random: Random(seed),
            troubled: true,
            attempt: 0,
            alive: BTreeSet::new(),
            said: BTreeMap::new(),
            discovers: seed % 7 == 3,
            handed_out: BTreeSet::new(),
            at_trigger: BTreeMap::new(),
            subtasks: vec![subtask(1, 0), subtask(1, 1), subtask(2, 0)],
            ended: None,
            deployed: 0,
            published: 0,
        };
        let (mut now, mut event) = (0, Some(Event::Start));
        for step in 0..TROUBLED + QUIET {
            world.troubled = step < TROUBLED;
            let told = format!("{event:?}");
            for action in master.step(now, event.take().unwrap_or(Event::Tick)) {
                world.act(action, seed);
            }
            if let Err(broken) = master.check_invariants() {
                panic!("seed {seed} step {step} at {now}: {broken} after {told}");
            }
            if master.is_done() {
                break;
            }
            now += world.random.below(8) as i64;
            event = if world.troubled { world.trouble(seed) } else { None };
            if world.discovers && step == TROUBLED {
                event = Some(Event::Stop(JobStatus::Canceled));
            }
            event = event.or_else(|| world.next());
        }
        assert_eq!(master.is_done(), world.ended.is_some(), "seed {seed}");
        match world.ended {
            Some(JobStatus::Finished) => finished += 1,
            Some(JobStatus::Canceled) => canceled += 1,
            other => panic!("seed {seed}: {other:?} in {master:?}"),
        }
        attempts += world.deployed;
        published += world.published;
    }
    println!("{attempts} attempts, {published} publications, {finished} finished, {canceled} cancelled");
    assert!(attempts > 4_000 && published > 2_000 && finished > 1_000 && canceled > 200);
}
