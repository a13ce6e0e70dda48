//! Which splits of a source were ever handed out, who reads which: deals out what the enumerator finds. Its state is in every checkpoint,
//! captured when the checkpoint is triggered. Pure; never asks a source.

use std::collections::BTreeSet;

use flott_core::error::{Error, Result};
use flott_core::ids::{OperatorId, SubtaskId, VertexId};
use flott_core::source::Split;
use flott_core::task::TaskCommand;

/// A source at the start of an attempt.
#[derive(Clone, Debug)]
pub struct SourceStart {
    /// The source operator.
    pub operator: OperatorId,
    /// The vertex whose subtasks read for it.
    pub vertex: VertexId,
    /// Their number.
    pub parallelism: u32,
    /// How often to look for splits again; `None`: what was found is all there will be.
    pub discovery_interval_ms: Option<u64>,
    /// Ids that a checkpoint remembers as handed out.
    pub known: BTreeSet<String>,
    /// Splits that had not ended in the checkpoint, with the subtasks that read them.
    pub unfinished: Vec<(u32, Split)>,
    /// Subtasks that the source had in the checkpoint.
    pub former_parallelism: Option<u32>,
    /// All splits that exist.
    pub found: Vec<Split>,
}

/// The splits of one source.
#[derive(Clone, Debug)]
pub(super) struct Splits {
    pub(super) operator: OperatorId,
    pub(super) discovery_interval_ms: Option<u64>,
    vertex: VertexId,
    parallelism: u32,
    /// Ids of all splits ever handed out.
    known: BTreeSet<String>,
    next_reader: u32,
}

/// Splits for one reader.
pub(super) type Assignment = (SubtaskId, TaskCommand);

impl Splits {
    /// The first assignment: unfinished splits of the checkpoint, and splits never seen before. With the parallelism of the
    /// checkpoint every reader goes on with its own: what was in flight stays in front of what it reads next. Else they are
    /// dealt out anew.
    pub(super) fn start(source: SourceStart) -> (Self, Vec<Assignment>) {
        let mut splits = Splits {
            operator: source.operator,
            discovery_interval_ms: source.discovery_interval_ms,
            vertex: source.vertex,
            parallelism: source.parallelism,
            known: source.known,
            next_reader: 0,
        };
        splits.known.extend(source.unfinished.iter().map(|(_, s)| s.id.clone()));
        let fresh = splits.unknown(source.found);
        let mut all = vec![Vec::new(); source.parallelism as usize];
        let keep = source.former_parallelism == Some(source.parallelism);
        let mut open = Vec::new();
        for (reader, split) in source.unfinished {
            match all.get_mut(reader as usize).filter(|_| keep) {
                Some(own) => own.push(split),
                None => open.push(split),
            }
        }
        for split in open.into_iter().chain(fresh) {
            all[splits.next() as usize].push(split);
        }
        let no_more = splits.discovery_interval_ms.is_none();
        let assign = |(index, own)| splits.assignment(index, own, no_more);
        let assignments = (0..).zip(all).map(assign).collect();
        (splits, assignments)
    }

    /// Splits never seen before go to the readers in turn.
    pub(super) fn assign(&mut self, found: Vec<Split>) -> Vec<Assignment> {
        let mut assignments = Vec::new();
        for split in self.unknown(found) {
            let reader = self.next();
            assignments.push(self.assignment(reader, vec![split], false));
        }
        assignments
    }

    /// The ids ever handed out: the state for a checkpoint.
    pub(super) fn snapshot(&self) -> Vec<u8> {
        let mut bytes = vec![1u8];
        bytes.extend(u32::try_from(self.known.len()).unwrap_or(u32::MAX).to_be_bytes());
        for id in &self.known {
            bytes.extend(u32::try_from(id.len()).unwrap_or(u32::MAX).to_be_bytes());
            bytes.extend(id.as_bytes());
        }
        bytes
    }

    fn unknown(&mut self, found: Vec<Split>) -> Vec<Split> {
        found.into_iter().filter(|s| self.known.insert(s.id.clone())).collect()
    }

    /// Whose turn it is.
    fn next(&mut self) -> u32 {
        let reader = self.next_reader;
        self.next_reader = (reader + 1) % self.parallelism;
        reader
    }

    fn assignment(&self, index: u32, splits: Vec<Split>, no_more: bool) -> Assignment {
        (SubtaskId { vertex: self.vertex, index }, TaskCommand::AssignSplits { splits, no_more })
    }
}

/// The ids that the state in a checkpoint remembers as handed out; `name`: of the source, for the error.
pub fn decode_known(name: &str, bytes: &[u8]) -> Result<BTreeSet<String>> {
    let bad =
        || Error::corrupt("checkpoint.enumerator", format!("the enumerator state of source \"{name}\" is damaged"));
    let (version, mut rest) = bytes.split_first().ok_or_else(bad)?;
    if *version != 1 {
        return Err(bad().detail(format!("version {version}, expected 1")));
    }
    let take = |rest: &mut &[u8], n: usize| -> Result<Vec<u8>> {
        let (head, tail) = rest.split_at_checked(n).ok_or_else(bad)?;
        *rest = tail;
        Ok(head.to_vec())
    };
    let number = |rest: &mut &[u8]| -> Result<usize> {
        let b = take(rest, 4)?;
        Ok(u32::from_be_bytes([b[0], b[1], b[2], b[3]]) as usize)
    };
    let count = number(&mut rest)?;
    let mut known = BTreeSet::new();
    for _ in 0..count {
        let len = number(&mut rest)?;
        known.insert(String::from_utf8(take(&mut rest, len)?).map_err(|_| bad())?);
    }
    Ok(known)
}
