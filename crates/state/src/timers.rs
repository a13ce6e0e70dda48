//! Timers as state: event- and processing-time timers in map tables, with an ordered index in memory rebuilt on restore. Never
//! reads a clock: the caller says what is due.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use flott_core::error::{Error, Result};
use flott_core::key_group::KeyGroup;
use flott_core::state::{StateBackend, TableDescriptor, TableId, TableKind};

use crate::typed::StateKey;

/// The time a timer waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TimeDomain {
    /// Due when the watermark reaches it.
    EventTime,
    /// Due when processing time reaches it.
    ProcessingTime,
}

/// A timer that is due.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timer {
    /// When it is due, in milliseconds.
    pub time_ms: i64,
    /// Key group of the key.
    pub group: KeyGroup,
    /// Namespace: the window, or 0.
    pub namespace: i64,
    /// The key.
    pub key: Box<[u8]>,
}

impl Timer {
    /// Where the state of the timer's key lies.
    pub fn state_key(&self) -> StateKey<'_> {
        StateKey { namespace: self.namespace, group: self.group, key: &self.key }
    }
}

/// Timers of one time domain: the table, and the index over it.
struct Queue {
    table: TableId,
    index: BTreeSet<Timer>,
}

/// The name of an entry: the time, big-endian with the sign flipped, and the key.
fn entry(time_ms: i64, key: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&((time_ms as u64) ^ (1 << 63)).to_be_bytes());
    out.extend_from_slice(key);
}

impl Queue {
    fn open(backend: &mut dyn StateBackend, name: &str) -> Result<Self> {
        let table = backend.register(&TableDescriptor {
            name: name.to_owned(),
            kind: TableKind::Map,
            schema: "timers(time BE, key)".to_owned(),
            ttl: None,
        })?;
        let mut index = BTreeSet::new();
        backend.map(table).for_each(&mut |namespace, group, _, entry, _| {
            let (time, key) = entry
                .split_first_chunk::<8>()
                .ok_or_else(|| Error::corrupt("state.corrupt", format!("a timer of `{name}` has no time")))?;
            let time_ms = (u64::from_be_bytes(*time) ^ (1 << 63)) as i64;
            index.insert(Timer { time_ms, group, namespace, key: key.into() });
            Ok(())
        })?;
        Ok(Queue { table, index })
    }
}

/// Event- and processing-time timers of an operator: at most one per domain, time, namespace and key.
pub struct TimerService {
    event: Queue,
    processing: Queue,
    entry: Vec<u8>,
}

impl TimerService {
    /// Registers the timers `name` and takes up restored ones.
    pub fn open(backend: &mut dyn StateBackend, name: &str) -> Result<Self> {
        let event = Queue::open(backend, &format!("{name}/event-timers"))?;
        let processing = Queue::open(backend, &format!("{name}/processing-timers"))?;
        Ok(TimerService { event, processing, entry: Vec::new() })
    }

    fn queue(&mut self, domain: TimeDomain) -> &mut Queue {
        match domain {
            TimeDomain::EventTime => &mut self.event,
            TimeDomain::ProcessingTime => &mut self.processing,
        }
    }

    /// Registers a timer; a second one for the same time, namespace and key changes nothing. Returns whether it is new.
    pub fn register(
        &mut self,
        backend: &mut dyn StateBackend,
        domain: TimeDomain,
        at: StateKey<'_>,
        time_ms: i64,
    ) -> Result<bool> {
        let timer = Timer { time_ms, group: at.group, namespace: at.namespace, key: at.key.into() };
        let queue = self.queue(domain);
        if !queue.index.insert(timer) {
            return Ok(false);
        }
        let table = queue.table;
        entry(time_ms, at.key, &mut self.entry);
        backend.map(table).put(at.namespace, at.group, &[], &self.entry, &[])?;
        Ok(true)
    }

    /// Deletes a timer. Returns whether there was one.
    pub fn delete(
        &mut self,
        backend: &mut dyn StateBackend,
        domain: TimeDomain,
        at: StateKey<'_>,
        time_ms: i64,
    ) -> Result<bool> {
        let timer = Timer { time_ms, group: at.group, namespace: at.namespace, key: at.key.into() };
        let queue = self.queue(domain);
        if !queue.index.remove(&timer) {
            return Ok(false);
        }
        let table = queue.table;
        self.forget(backend, table, &timer)?;
        Ok(true)
    }

    fn forget(&mut self, backend: &mut dyn StateBackend, table: TableId, timer: &Timer) -> Result<()> {
        entry(timer.time_ms, &timer.key, &mut self.entry);
        backend.map(table).remove(timer.namespace, timer.group, &[], &self.entry)
    }

    /// Takes the earliest timer whose time is at or before `now_ms` (a watermark or processing time); `None` when none is due.
    /// A timer that fires may register others: they come up in turn.
    pub fn pop_due(
        &mut self,
        backend: &mut dyn StateBackend,
        domain: TimeDomain,
        now_ms: i64,
    ) -> Result<Option<Timer>> {
        let queue = self.queue(domain);
        if queue.index.first().is_none_or(|t| t.time_ms > now_ms) {
            return Ok(None);
        }
        let table = queue.table;
        let Some(timer) = queue.index.pop_first() else { return Ok(None) };
        self.forget(backend, table, &timer)?;
        Ok(Some(timer))
    }

    /// Timers that are due at `now_ms`, in the order in which they will be taken: to load what they need together.
    pub fn due(&self, domain: TimeDomain, now_ms: i64) -> impl Iterator<Item = &Timer> {
        let queue = match domain {
            TimeDomain::EventTime => &self.event,
            TimeDomain::ProcessingTime => &self.processing,
        };
        queue.index.iter().take_while(move |t| t.time_ms <= now_ms)
    }

    /// When the next timer is due: what to ask `Outbox::wake_at` for.
    pub fn next_due_ms(&self, domain: TimeDomain) -> Option<i64> {
        let queue = match domain {
            TimeDomain::EventTime => &self.event,
            TimeDomain::ProcessingTime => &self.processing,
        };
        queue.index.first().map(|t| t.time_ms)
    }

    /// Whether a domain has no timers.
    pub fn is_empty(&self, domain: TimeDomain) -> bool {
        self.len(domain) == 0
    }

    /// Number of timers of a domain.
    pub fn len(&self, domain: TimeDomain) -> usize {
        match domain {
            TimeDomain::EventTime => self.event.index.len(),
            TimeDomain::ProcessingTime => self.processing.index.len(),
        }
    }
}
