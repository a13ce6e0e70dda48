//! The enumerators of a job's sources: made for an attempt, asked for splits. What is handed out is the job master's to decide.

use flott_core::encoding::{SPLITS_STATE, decode_split};
use flott_core::error::Result;
use flott_core::ids::OperatorId;
use flott_core::source::{Boundedness, Split, SplitEnumerator};
use flott_plan::job_graph::JobVertex;
use flott_plan::stream_graph::NodeKind;

use super::{JobDriver, Restore};
use crate::job_master::{SourceStart, decode_known};

/// The enumerator of a source.
pub(super) struct Enumerator {
    operator: OperatorId,
    /// Readers.
    parallelism: u32,
    name: String,
    asks: Box<dyn SplitEnumerator>,
}

impl Enumerator {
    fn ask(&mut self) -> Result<Vec<Split>> {
        let name = &self.name;
        self.asks.discover(self.parallelism).map_err(|e| e.context(format!("source \"{name}\"")))
    }
}

impl JobDriver {
    /// The sources of an attempt as the checkpoint left them, before any task runs: what is damaged is found here.
    pub(super) fn sources(&self) -> Result<Vec<(Enumerator, SourceStart)>> {
        self.graph.vertices.iter().filter_map(|v| self.source(v).transpose()).collect()
    }

    /// Asks the enumerators of an attempt for the first time.
    pub(super) fn start(&mut self, sources: Vec<(Enumerator, SourceStart)>) -> Result<Vec<SourceStart>> {
        self.enumerators.clear();
        let mut starts = Vec::new();
        for (mut enumerator, start) in sources {
            let (found, asked_again) = (enumerator.ask()?, start.discovery_interval_ms.is_some());
            starts.push(SourceStart { found, ..start });
            if asked_again {
                self.enumerators.push(enumerator);
            }
        }
        Ok(starts)
    }

    fn source(&self, vertex: &JobVertex) -> Result<Option<(Enumerator, SourceStart)>> {
        let Some(node) = vertex.chain.first() else { return Ok(None) };
        let NodeKind::Source(source) = &node.node.kind else { return Ok(None) };
        let name = &node.node.name;
        let mut enumerator = Enumerator {
            operator: node.id,
            parallelism: vertex.parallelism,
            name: name.clone(),
            asks: source.source.enumerator()?,
        };
        let restore = self.restore.as_ref();
        let state = restore.and_then(|r| r.metadata.assign(node.id, vertex.parallelism, 0).coordinator_state);
        let known = state.map(|bytes| decode_known(name, &bytes)).transpose()?;
        if let Some(known) = &known {
            enumerator.asks.restore(known);
        }
        let bounded = source.source.boundedness() == Boundedness::Bounded;
        let discovery_interval_ms = enumerator.asks.discovery_interval_ms().filter(|_| !bounded);
        let former = restore.and_then(|r| r.metadata.operators.iter().find(|o| o.id == node.id));
        let start = SourceStart {
            operator: node.id,
            vertex: vertex.id,
            parallelism: vertex.parallelism,
            discovery_interval_ms,
            known: known.unwrap_or_default(),
            unfinished: unfinished_splits(restore, node.id)?,
            former_parallelism: former.map(|o| o.parallelism),
            found: Vec::new(),
        };
        Ok(Some((enumerator, start)))
    }

    /// Asks the enumerators that are to be asked again.
    pub(super) fn discover(&mut self) -> Result<Vec<(OperatorId, Vec<Split>)>> {
        self.enumerators.iter_mut().map(|e| Ok((e.operator, e.ask()?))).collect()
    }
}

/// Unfinished splits of a source in the checkpoint, with the subtasks that read them.
fn unfinished_splits(restore: Option<&Restore>, operator: OperatorId) -> Result<Vec<(u32, Split)>> {
    let Some(restore) = restore else { return Ok(Vec::new()) };
    let states = restore.metadata.operators.iter().filter(|o| o.id == operator).flat_map(|o| &o.subtasks);
    let entries = states.flat_map(|(i, s)| s.operator_state.iter().map(move |e| (*i, e)));
    let items = entries.filter(|(_, e)| e.name == SPLITS_STATE).flat_map(|(i, e)| e.items.iter().map(move |b| (i, b)));
    items.map(|(i, b)| Ok((i, decode_split(b)?))).collect()
}
