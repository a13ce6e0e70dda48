//! Submits a job to this process and follows it.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use flott_checkpoint::metadata::{JobDescription, OperatorInfo, graph_fit};
use flott_checkpoint::stats::Diagnosis;
use flott_checkpoint::{CheckpointCoordinator, CheckpointDirectory, JobStorage, StorageOptions};
use flott_core::config::{Configuration, keys};
use flott_core::error::{Error, Result};
use flott_core::ids::{CheckpointId, JobId};
use flott_core::memory::MemoryBudget;
use flott_core::time::{SharedClock, SystemClock};
use flott_jobmanager::options::{JobOptions, RestoreFrom, check_unaligned, job_id_of};
use flott_jobmanager::progress::{JobBoard, JobStatus, Progress};
use flott_jobmanager::{EVENTS_MAX, JobDriver, JobEvent, JobParts, Restore, topology};
use flott_plan::job_graph::JobGraph;
use flott_plan::stream_graph::StreamGraph;

use crate::memory::{Machine, MemoryPlan};
use crate::tasks::{EmbeddedTasks, TaskSetting};
use crate::upload::Uploads;

/// What surrounds a job: the clock, and switches that only tests touch.
#[derive(Clone)]
pub struct Environment {
    /// Time.
    pub clock: SharedClock,
    /// What the process may hold in memory; unlimited: what the options of the job say, or the machine.
    pub memory: MemoryBudget,
    /// Test-only: publication does not fence older generations off. The crash harness must then find lost or doubled rows.
    pub fence_disabled: bool,
    /// Test-only: how many TaskManagers the tasks are spread over, in this process, with a connection for every edge between two.
    pub task_managers: u32,
}

impl Default for Environment {
    fn default() -> Self {
        Environment {
            clock: SystemClock::shared(),
            memory: MemoryBudget::unlimited(),
            fence_disabled: false,
            task_managers: 1,
        }
    }
}

/// A submitted job. Dropping it does not stop the job.
pub struct JobClient {
    job: JobId,
    name: String,
    restored: Option<CheckpointId>,
    already_finished: bool,
    notices: Vec<String>,
    memory: MemoryBudget,
    board: Arc<JobBoard>,
    sender: SyncSender<JobEvent>,
    thread: Option<JoinHandle<()>>,
}

impl JobClient {
    /// The job.
    pub fn job_id(&self) -> JobId {
        self.job
    }
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// The checkpoint it was started from.
    pub fn restored_from(&self) -> Option<CheckpointId> {
        self.restored
    }
    /// Whether that checkpoint says that all data had been read: nothing is left to do.
    pub fn was_finished(&self) -> bool {
        self.already_finished
    }
    /// What the user should know about the start.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }
    /// The budget it draws on. Another job of the same process shares it as [`Environment::memory`].
    pub fn memory(&self) -> &MemoryBudget {
        &self.memory
    }
    /// What there is to say about checkpoints and memory after the first `known` sentences (the last 16 are kept), and how many there
    /// ever were.
    pub fn diagnoses(&self, known: usize) -> (Vec<Diagnosis>, usize) {
        self.board.diagnoses(known)
    }
    /// Where it stands.
    pub fn status(&self) -> JobStatus {
        self.board.status()
    }
    /// Its figures.
    pub fn progress(&self) -> Progress {
        self.board.progress()
    }
    /// Failures that it recovered from, oldest first, at most 16.
    pub fn failures(&self) -> Vec<Error> {
        self.board.failures()
    }
    /// Waits for the end, `timeout` at most.
    pub fn wait(&self, timeout: Duration) -> JobStatus {
        self.board.wait(timeout)
    }
    /// Asks it to stop for good.
    pub fn cancel(&self) {
        let _ = self.sender.send(JobEvent::Stop(JobStatus::Canceled));
    }
    /// Asks it to stop because the process is to end: its checkpoints stay.
    pub fn suspend(&self) {
        let _ = self.sender.send(JobEvent::Stop(JobStatus::Suspended));
    }
    /// Waits for the end and for the threads of the job.
    pub fn join(mut self) -> JobStatus {
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            self.board.set_status(JobStatus::Failed(Error::bug("the job master panicked")));
        }
        self.board.status()
    }
}

/// Starts `graph` in this process.
pub fn submit(graph: &StreamGraph, config: &Configuration, environment: &Environment) -> Result<JobClient> {
    check_unaligned(config)?;
    let options = JobOptions::from_config(config);
    let memory = budget(config, environment)?;
    let name = graph.name.clone().or_else(|| config.string(keys::PIPELINE_NAME)).unwrap_or_else(|| "flott job".into());
    let mut graph = JobGraph::build(graph, &name, options.graph)?;
    let storage_options = StorageOptions {
        inline_threshold_bytes: options.inline_threshold_bytes,
        num_retained: options.num_retained,
        fence_disabled: environment.fence_disabled,
        clock: Arc::clone(&environment.clock),
        ..StorageOptions::default()
    };
    let directory = CheckpointDirectory::open(options.checkpoint_dir.as_deref(), storage_options.clone())?;
    let job = match job_id_of(config)? {
        Some(id) => id,
        None => directory.job_id(&name)?,
    };
    let storage = Arc::new(directory.job(job));
    let mut notices = Vec::new();
    refuse_misfit(&directory, job, &name, &mut graph, &options)?;
    let generation = storage.begin_generation()?;
    let restore = restore_point(&storage, &options, storage_options, &mut notices)?;
    if let (Some(r), None) = (&restore, options.graph.max_parallelism) {
        graph.max_parallelism = r.metadata.max_parallelism;
    }
    let description = describe(job, &name, &graph);
    if let Some(r) = &restore {
        notices.extend(graph_fit(&r.metadata, &description, options.ignore_unclaimed)?);
    }
    notices.extend(storage.clean_up_orphans()?);
    let board = Arc::new(JobBoard::new(memory.clone()));
    let (sender, events) = sync_channel(EVENTS_MAX);
    let client_restore = restore.as_ref().map(|r| (r.metadata.checkpoint, r.metadata.last));
    // Without a directory every process would be generation 1, and with a fixed pipeline.job-id names of files would repeat.
    let run = match options.checkpoint_dir {
        Some(_) => generation.number,
        None => u64::try_from(environment.clock.now_ms()).unwrap_or(0).max(1),
    };
    let graph = Arc::new(graph);
    let setting = TaskSetting::new(job, &graph, run, &memory, config, &environment.clock);
    let uploads = Uploads::start(Arc::clone(&storage), options.checkpoint_dir.is_some(), &environment.clock, &sender)?;
    let gateway = EmbeddedTasks::new(setting, environment.task_managers, uploads, &sender)?;
    let parts = JobParts {
        coordinator: coordinator(&options, generation.next_checkpoint, &graph),
        graph,
        description,
        options,
        memory: memory.clone(),
        storage,
        generation: run,
        restore,
        clock: Arc::clone(&environment.clock),
        board: Arc::clone(&board),
        gateway: Box::new(gateway),
    };
    let driver = JobDriver::new(parts, sender.clone(), events)?;
    let thread = spawn(driver, Arc::clone(&board))?;
    Ok(JobClient {
        job,
        name,
        restored: client_restore.map(|(id, _)| id),
        already_finished: client_restore.is_some_and(|(_, last)| last),
        notices,
        memory,
        board,
        sender,
        thread: Some(thread),
    })
}

/// A coordinator that knows the job by name.
fn coordinator(options: &JobOptions, next: CheckpointId, graph: &JobGraph) -> CheckpointCoordinator {
    let names = graph.vertices.iter().map(|v| (v.id, v.name.clone())).collect();
    let mut coordinator = CheckpointCoordinator::new(options.checkpoint.clone(), next, names);
    coordinator.stats_mut().set_topology(topology(graph));
    coordinator
}

/// What the job may hold in memory.
fn budget(config: &Configuration, environment: &Environment) -> Result<MemoryBudget> {
    // Also where the process has its budget already: sizes that contradict each other are refused all the same.
    let plan = MemoryPlan::of(config, &Machine::here())?;
    if !environment.memory.is_unlimited() {
        return Ok(environment.memory.clone());
    }
    tracing::info!("memory: {plan}");
    Ok(plan.budget())
}

/// A job that does not fit its checkpoint is refused before it fences off one that runs.
fn refuse_misfit(
    directory: &CheckpointDirectory,
    job: JobId,
    name: &str,
    graph: &mut JobGraph,
    options: &JobOptions,
) -> Result<()> {
    let point = match &options.restore {
        RestoreFrom::Nothing => None,
        RestoreFrom::Latest => directory.latest(job)?,
        RestoreFrom::Path(path) => Some(flott_checkpoint::storage::load(path, directory.options().clone())?),
    };
    let Some(point) = point else { return Ok(()) };
    if options.graph.max_parallelism.is_none() {
        // Automatic max parallelism follows the checkpoint: key groups are fixed once state exists.
        graph.max_parallelism = point.metadata.max_parallelism;
    }
    graph_fit(&point.metadata, &describe(job, name, graph), options.ignore_unclaimed).map(drop)
}

/// The thread of a job master. Whoever waits on the board hears of a panic.
fn spawn(driver: JobDriver, board: Arc<JobBoard>) -> Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name("job-master".into())
        .spawn(move || {
            if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| driver.run())).is_err() {
                board.set_status(JobStatus::Failed(Error::bug("the job master panicked")));
            }
        })
        .map_err(|e| Error::retry("job.threads", format!("cannot start a thread: {e}")))
}

/// The checkpoint to start from, chosen after older generations were fenced off.
fn restore_point(
    storage: &JobStorage,
    options: &JobOptions,
    storage_options: StorageOptions,
    notices: &mut Vec<String>,
) -> Result<Option<Restore>> {
    let point = match &options.restore {
        RestoreFrom::Nothing => None,
        RestoreFrom::Latest => storage.choose_restore_point()?,
        RestoreFrom::Path(path) => Some(flott_checkpoint::storage::load(path, storage_options)?),
    };
    let Some(point) = point else { return Ok(None) };
    notices.extend(point.notices.iter().cloned());
    let own = storage.adopt(&point);
    if own && matches!(options.restore, RestoreFrom::Path(_)) {
        storage.keep(point.metadata.checkpoint);
    }
    let reader = point.chunk_reader();
    Ok(Some(Restore { metadata: Arc::new(point.metadata), reader, own }))
}

fn describe(job: JobId, name: &str, graph: &JobGraph) -> JobDescription {
    let operators = graph.vertices.iter().flat_map(|v| v.chain.iter().map(move |n| (v, n)));
    let operators = operators.map(|(v, n)| OperatorInfo {
        id: n.id,
        name: n.node.name.clone(),
        parallelism: v.parallelism,
        max_parallelism: graph.max_parallelism,
    });
    JobDescription {
        job,
        name: name.to_owned(),
        max_parallelism: graph.max_parallelism,
        operators: operators.collect(),
    }
}
