//! Names of transactions. A name tells who may still use it; never reads a clock.
//!
//! `PREFIX-JOB-OPERATOR-SUBTASK-RUN-ATTEMPT-SLOT`: job and operator as 32 hexadecimal digits, the rest as decimal numbers.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use flott_core::sink::SinkContext;

/// Slots with an epoch beyond this are not used again, so that Kafka never has to change the producer id of a name.
const EPOCH_MAX: i16 = 30_000;

/// What all names of a sink of a job begin with.
pub fn family(prefix: &str, context: &SinkContext) -> String {
    format!("{prefix}-{}-{}-", context.job, context.operator)
}

/// Who made a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The subtask.
    pub subtask: u32,
    /// The run of the job.
    pub run: u64,
    /// The attempt within the run.
    pub attempt: u32,
    /// The slot.
    pub slot: u32,
}

impl Origin {
    /// Reads a name of `family`; `None` for names of others.
    pub fn read(family: &str, name: &str) -> Option<Self> {
        let mut parts = name.strip_prefix(family)?.split('-');
        let mut next = || parts.next().filter(|p| p.bytes().all(|b| b.is_ascii_digit()));
        let origin = Origin {
            subtask: next()?.parse().ok()?,
            run: next()?.parse().ok()?,
            attempt: next()?.parse().ok()?,
            slot: next()?.parse().ok()?,
        };
        parts.next().is_none().then_some(origin)
    }

    /// Whether the attempt that made the name is over. Later ones are not: a process that lost its job harms no successor.
    pub fn is_dead(&self, context: &SinkContext) -> bool {
        (self.run, self.attempt) < (context.run, context.attempt)
    }

    /// Whether the name was made by this very attempt of this subtask.
    pub fn is_of(&self, context: &SinkContext) -> bool {
        (self.run, self.attempt, self.subtask) == (context.run, context.attempt, context.subtask)
    }
}

/// How names are chosen: Flink's `sink.transaction-naming-strategy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamingStrategy {
    /// A name whose transaction is committed is used again.
    Pooling,
    /// A new name for every transaction.
    Incrementing,
}

/// The names of one subtask in one attempt. Shared by its writer, which takes them, and its committer, which gives them back.
#[derive(Debug)]
pub struct Names {
    stem: String,
    strategy: NamingStrategy,
    slots: Mutex<Slots>,
}

#[derive(Debug, Default)]
struct Slots {
    /// The first one that nobody ever had.
    next: u32,
    /// Those whose transaction is committed, the longest-committed first.
    free: VecDeque<u32>,
    /// Those with a transaction, and its epoch.
    open: HashMap<u32, i16>,
}

impl Names {
    /// The names of a subtask.
    pub fn new(prefix: &str, context: &SinkContext, strategy: NamingStrategy) -> Self {
        let (subtask, run, attempt) = (context.subtask, context.run, context.attempt);
        let stem = format!("{}{subtask}-{run}-{attempt}-", family(prefix, context));
        Names { stem, strategy, slots: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slot(&self, name: &str) -> Option<u32> {
        name.strip_prefix(self.stem.as_str())?.parse().ok()
    }

    /// A name that no open transaction has: its last one, if any, was committed.
    pub fn take(&self) -> String {
        let mut slots = self.lock();
        let slot = slots.free.pop_front().unwrap_or_else(|| {
            slots.next += 1;
            slots.next - 1
        });
        format!("{}{slot}", self.stem)
    }

    /// The name has a transaction of this epoch now.
    pub fn opened(&self, name: &str, epoch: i16) {
        if let Some(slot) = self.slot(name) {
            self.lock().open.insert(slot, epoch);
        }
    }

    /// The transaction of `name` at `epoch` is committed. It may be said again, also when the name has another transaction by
    /// then: a commit is repeated. Names of other attempts and names that are worn out are forgotten.
    pub fn give_back(&self, name: &str, epoch: i16) {
        let Some(slot) = self.slot(name) else { return };
        let mut slots = self.lock();
        if slots.open.get(&slot) == Some(&epoch) {
            slots.open.remove(&slot);
            if self.strategy == NamingStrategy::Pooling && epoch < EPOCH_MAX {
                slots.free.push_back(slot);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::sink_context;

    #[test]
    fn a_name_tells_who_made_it() {
        let context = sink_context(3, 4, 2, 7);
        let names = Names::new("shop", &context, NamingStrategy::Pooling);
        let name = names.take();
        let family = family("shop", &context);
        let origin = Origin::read(&family, &name).expect("its own name");
        assert_eq!(origin, Origin { subtask: 3, run: 7, attempt: 2, slot: 0 });
        assert!(origin.is_of(&context) && !origin.is_dead(&context));
        for (attempt, run, dead) in [(3, 7, true), (0, 8, true), (2, 7, false), (1, 7, false), (9, 6, false)] {
            assert_eq!(origin.is_dead(&sink_context(0, 1, attempt, run)), dead, "{attempt} {run}");
        }
        for foreign in
            ["shop", "", &format!("{family}1-2-3"), &format!("{family}1-2-3-4-5"), &format!("{family}1-2-x-4")]
        {
            assert_eq!(Origin::read(&family, foreign), None, "{foreign}");
        }
        assert_eq!(Origin::read(&family, &name.replacen("shop", "shop-2", 1)), None);
    }

    #[test]
    fn only_committed_names_are_used_again() {
        let context = sink_context(0, 1, 0, 1);
        let names = Names::new("p", &context, NamingStrategy::Pooling);
        let (a, b) = (names.take(), names.take());
        assert_ne!(a, b);
        names.opened(&a, 4);
        names.give_back(&a, 4);
        names.give_back("p-of-another", 4);
        assert_eq!(names.take(), a);
        names.opened(&a, 5);
        names.give_back(&a, 4);
        assert!(
            ![&a, &b].contains(&&names.take()),
            "that its older transaction is committed says nothing about this one"
        );
        names.give_back(&a, 5);
        names.give_back(&a, 5);
        assert_eq!(names.take(), a);
        assert!(![&a, &b].contains(&&names.take()), "a was given back once only");
        names.opened(&b, EPOCH_MAX);
        names.give_back(&b, EPOCH_MAX);
        assert_ne!(names.take(), b, "it is worn out");
        let names = Names::new("p", &context, NamingStrategy::Incrementing);
        let a = names.take();
        names.opened(&a, 0);
        names.give_back(&a, 0);
        assert_ne!(names.take(), a);
    }
}
