//! The split enumerators of a job: which splits exist, which were ever handed out, who reads which.
//!
//! Lives beside the job master; its state is in every checkpoint, captured when the checkpoint is triggered.

use std::collections::BTreeSet;
use std::sync::Arc;

use flott_core::error::{Error, Result};
use flott_core::ids::OperatorId;
use flott_core::source::{Boundedness, Source, Split, SplitEnumerator};

/// The enumerator of one source.
pub struct Enumerator {
    /// The source operator.
    pub operator: OperatorId,
    name: String,
    bounded: bool,
    parallelism: u32,
    enumerator: Box<dyn SplitEnumerator>,
    /// Ids of all splits ever handed out.
    known: BTreeSet<String>,
    next_reader: u32,
}

/// Splits for one reader.
pub struct Assignment {
    /// Subtask of the reader.
    pub subtask: u32,
    /// What it reads.
    pub splits: Vec<Split>,
    /// Whether nothing follows.
    pub no_more: bool,
}

impl Enumerator {
    /// An enumerator, with the ids a checkpoint remembers.
    pub fn new(
        operator: OperatorId,
        name: &str,
        source: &Arc<dyn Source>,
        parallelism: u32,
        restored: Option<&[u8]>,
    ) -> Result<Self> {
        let known = restored.map(|bytes| decode(name, bytes)).transpose()?.unwrap_or_default();
        let mut enumerator = source.enumerator()?;
        if restored.is_some() {
            enumerator.restore(&known);
        }
        Ok(Enumerator {
            operator,
            name: name.to_owned(),
            bounded: source.boundedness() == Boundedness::Bounded,
            parallelism,
            enumerator,
            known,
            next_reader: 0,
        })
    }

    /// The first assignment: unfinished splits of the checkpoint, and splits never seen before. With the parallelism of the
    /// checkpoint every reader goes on with its own: what was in flight stays in front of what it reads next. Else they are
    /// dealt out anew.
    pub fn start(&mut self, unfinished: Vec<(u32, Split)>, former_parallelism: Option<u32>) -> Result<Vec<Assignment>> {
        self.known.extend(unfinished.iter().map(|(_, s)| s.id.clone()));
        let fresh = self.discover()?;
        let no_more = self.bounded || self.enumerator.discovery_interval_ms().is_none();
        let mut all: Vec<Assignment> =
            (0..self.parallelism).map(|subtask| Assignment { subtask, splits: Vec::new(), no_more }).collect();
        let keep = former_parallelism == Some(self.parallelism);
        let mut open: Vec<Split> = Vec::new();
        for (reader, split) in unfinished {
            match all.get_mut(reader as usize).filter(|_| keep) {
                Some(own) => own.splits.push(split),
                None => open.push(split),
            }
        }
        for split in open.into_iter().chain(fresh) {
            all[self.next_reader as usize].splits.push(split);
            self.next_reader = (self.next_reader + 1) % self.parallelism;
        }
        Ok(all)
    }

    /// Looks again; new splits go to the readers in turn.
    pub fn rediscover(&mut self) -> Result<Vec<Assignment>> {
        let mut all = Vec::new();
        for split in self.discover()? {
            all.push(Assignment { subtask: self.next_reader, splits: vec![split], no_more: false });
            self.next_reader = (self.next_reader + 1) % self.parallelism;
        }
        Ok(all)
    }

    /// How often to look again.
    pub fn discovery_interval_ms(&self) -> Option<u64> {
        if self.bounded { None } else { self.enumerator.discovery_interval_ms() }
    }

    /// The ids ever handed out: the state for a checkpoint.
    pub fn snapshot(&self) -> Vec<u8> {
        let mut bytes = vec![1u8];
        bytes.extend(u32::try_from(self.known.len()).unwrap_or(u32::MAX).to_be_bytes());
        for id in &self.known {
            bytes.extend(u32::try_from(id.len()).unwrap_or(u32::MAX).to_be_bytes());
            bytes.extend(id.as_bytes());
        }
        bytes
    }

    fn discover(&mut self) -> Result<Vec<Split>> {
        let all =
            self.enumerator.discover(self.parallelism).map_err(|e| e.context(format!("source \"{}\"", self.name)))?;
        Ok(all.into_iter().filter(|s| self.known.insert(s.id.clone())).collect())
    }
}

fn decode(name: &str, bytes: &[u8]) -> Result<BTreeSet<String>> {
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
