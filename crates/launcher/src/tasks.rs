//! The tasks of one job in this process, as its job master reaches them: deploys, tells, cancels; hands on what they report.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};

use flott_core::config::{Configuration, keys};
use flott_core::error::{Error, Result};
use flott_core::ids::{JobId, SubtaskId};
use flott_core::memory::MemoryBudget;
use flott_core::task::{TaskCommand, TaskReport};
use flott_core::time::SharedClock;
use flott_jobmanager::{JobEvent, Restore, Started, TaskGateway};
use flott_plan::job_graph::JobGraph;
use flott_runtime::{MailboxError, TaskEvent, TaskHandle, TaskListener, TaskOptions};
use flott_taskmanager::network::{ClusterId, DataServer, NetworkOptions};

use crate::deploy::{Deployment, Network, Plan, task_options};
use crate::upload::Uploads;

/// What every attempt of a job is made of.
pub struct TaskSetting {
    /// The job.
    pub job: JobId,
    /// Its graph.
    pub graph: Arc<JobGraph>,
    /// Generation of this process.
    pub run: u64,
    /// What the process may hold in memory.
    pub memory: MemoryBudget,
    /// The effective configuration.
    pub config: Arc<Configuration>,
    /// Time.
    pub clock: SharedClock,
    /// Sizes of tasks.
    pub options: TaskOptions,
    /// Whether snapshots build on earlier ones.
    pub incremental: bool,
}

impl TaskSetting {
    /// What `config` asks for.
    pub fn new(
        job: JobId,
        graph: &Arc<JobGraph>,
        run: u64,
        memory: &MemoryBudget,
        config: &Configuration,
        clock: &SharedClock,
    ) -> Self {
        TaskSetting {
            job,
            graph: Arc::clone(graph),
            run,
            memory: memory.clone(),
            config: Arc::new(config.clone()),
            clock: clock.clone(),
            options: task_options(config),
            incremental: config.bool(keys::CHECKPOINT_INCREMENTAL),
        }
    }
}

/// Runs the tasks of one job.
pub struct EmbeddedTasks {
    setting: TaskSetting,
    uploads: Arc<Uploads>,
    sender: SyncSender<JobEvent>,
    cluster: Option<Cluster>,
    /// One for each TaskManager.
    running: Vec<Deployment>,
}

/// Several TaskManagers in one process, connected as processes are.
struct Cluster {
    servers: Vec<Arc<DataServer>>,
    peers: Vec<String>,
    /// The TaskManager of every subtask, by vertex.
    places: Vec<Vec<u32>>,
}

struct Listener {
    sender: SyncSender<JobEvent>,
    uploads: Arc<Uploads>,
}

impl TaskListener for Listener {
    fn on_event(&self, subtask: SubtaskId, attempt: u32, event: TaskEvent) {
        let report = match event {
            TaskEvent::Cut(cut) => return self.uploads.submit(subtask, attempt, cut),
            TaskEvent::Running => TaskReport::Running,
            TaskEvent::Declined { checkpoint, reason } => TaskReport::Declined { checkpoint, storing: false, reason },
            TaskEvent::Drained(operator, sent) => TaskReport::Drained { operator, sent },
            TaskEvent::EndOfData => TaskReport::EndOfData,
            TaskEvent::Finished => TaskReport::Finished,
            TaskEvent::Failed(e) => TaskReport::Failed(e),
            TaskEvent::Canceled => TaskReport::Canceled,
        };
        // The job master outlives its tasks; if it is gone, so is the process.
        let _ = self.sender.send(JobEvent::Task { subtask, attempt, report });
    }
}

impl Cluster {
    /// Neighbours run in different places, so that most edges are connections.
    fn start(setting: &TaskSetting, task_managers: u32) -> Result<Self> {
        let server = |_| {
            // One that fails to deploy never offers its links: the others need not wait long for them.
            let options = NetworkOptions { register_timeout_ms: 5_000, ..NetworkOptions::default() };
            DataServer::start("127.0.0.1:0", cluster_id(setting.job), options, setting.clock.clone()).map(Arc::new)
        };
        let servers = (0..task_managers).map(server).collect::<Result<Vec<_>>>()?;
        let place = |(v, vertex): (u32, &flott_plan::job_graph::JobVertex)| {
            (0..vertex.parallelism).map(|i| (v + i) % task_managers).collect()
        };
        Ok(Cluster {
            peers: servers.iter().map(|s| s.address().to_string()).collect(),
            servers,
            places: (0..).zip(&setting.graph.vertices).map(place).collect(),
        })
    }
}

fn cluster_id(job: JobId) -> ClusterId {
    ClusterId(job.0)
}

impl EmbeddedTasks {
    /// Nothing runs yet. With more than one of `task_managers` the job is spread over so many, with connections between them.
    pub fn new(
        setting: TaskSetting,
        task_managers: u32,
        uploads: Arc<Uploads>,
        sender: &SyncSender<JobEvent>,
    ) -> Result<Self> {
        let cluster = (task_managers > 1).then(|| Cluster::start(&setting, task_managers)).transpose()?;
        Ok(EmbeddedTasks { setting, uploads, sender: sender.clone(), cluster, running: Vec::new() })
    }

    fn handles(&self) -> impl Iterator<Item = &TaskHandle> {
        self.running.iter().flat_map(|d| &d.tasks)
    }

    /// Fails the attempt when a connection breaks.
    fn on_broken(&self, attempt: u32) -> Arc<dyn Fn(Error) + Send + Sync> {
        let sender = self.sender.clone();
        Arc::new(move |error| {
            if let Err(TrySendError::Full(event)) = sender.try_send(JobEvent::Failed { attempt, error }) {
                // The job master may be waiting for the thread that says this.
                let sender = sender.clone();
                std::thread::spawn(move || drop(sender.send(event)));
            }
        })
    }

    /// Starts the tasks of an attempt on every TaskManager.
    fn start(&self, plan: &Plan<'_>) -> Vec<Result<Deployment>> {
        let listener: Arc<dyn TaskListener> =
            Arc::new(Listener { sender: self.sender.clone(), uploads: Arc::clone(&self.uploads) });
        let Some(cluster) = &self.cluster else { return vec![plan.deploy(&listener)] };
        let on_broken = self.on_broken(plan.attempt);
        let network = |me: u32, server| Network {
            cluster: cluster_id(plan.job),
            me,
            peers: &cluster.peers,
            places: &cluster.places,
            server,
            on_broken: Arc::clone(&on_broken),
        };
        // Each waits for the connections of the others.
        std::thread::scope(|scope| {
            let plans =
                (0..).zip(&cluster.servers).map(|(me, s)| Plan { network: Some(network(me, s)), ..plan.clone() });
            let listener = &listener;
            let threads: Vec<_> = plans.map(|p| scope.spawn(move || p.deploy(listener))).collect();
            let joined = threads.into_iter().map(|t| t.join());
            joined.map(|r| r.unwrap_or_else(|_| Err(Error::bug("deploying tasks panicked")))).collect()
        })
    }
}

impl TaskGateway for EmbeddedTasks {
    fn deploy(&mut self, attempt: u32, restore: Option<&Restore>) -> Result<Started> {
        let s = &self.setting;
        let plan = Plan {
            job: s.job,
            graph: &s.graph,
            attempt,
            run: s.run,
            memory: s.memory.clone(),
            config: Arc::clone(&s.config),
            clock: s.clock.clone(),
            options: s.options,
            incremental: s.incremental && restore.is_none_or(|r| r.own),
            restore,
            network: None,
        };
        let mut failed = None;
        for outcome in self.start(&plan) {
            match outcome {
                Ok(deployment) => self.running.push(deployment),
                Err(e) => failed = failed.or(Some(e)),
            }
        }
        if let Some(e) = failed {
            self.cancel();
            self.release();
            return Err(e);
        }
        let mut started = Started::default();
        for deployment in &mut self.running {
            started.entries.append(&mut deployment.entries);
            started.drains = std::mem::take(&mut deployment.drains);
        }
        Ok(started)
    }

    fn tell(&mut self, subtask: SubtaskId, command: TaskCommand) -> Result<()> {
        let task = self.handles().find(|t| t.subtask() == subtask);
        match task.map(|t| t.send(command)) {
            Some(Err(MailboxError::Full)) => {
                Err(Error::retry("task.mailbox-full", format!("subtask {subtask} does not read its mailbox")))
            }
            _ => Ok(()),
        }
    }

    fn cancel(&mut self) {
        self.handles().for_each(TaskHandle::cancel);
    }

    fn release(&mut self) {
        self.running.drain(..).for_each(Deployment::release);
    }
}
