//! The chain driver: passes elements from operator to operator, the most downstream one first, so that queues stay short.
//!
//! It knows the law of [`Operator`] and nothing of channels, sources or threads. How a barrier overtakes is in [`overtake`].

mod overtake;

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;

use flott_core::batch::ChangeBatch;
use flott_core::element::{Barrier, Element, Signal};
use flott_core::error::{Error, Result};
use flott_core::ids::CheckpointId;
use flott_core::operator::{Notification, Operator, OperatorContext, OperatorEvent, OperatorProperties, Progress};
use flott_core::snapshot::OperatorCut;

use crate::head::{BarrierItem, Item};
use crate::panics::guard;
use crate::task::TaskCut;

use overtake::Overtaking;
pub(crate) use overtake::Overtook;

/// Notifications an operator may have waiting: completed ones replace each other, so these are aborted ones.
const NOTIFICATIONS_MAX: usize = 256;

pub(crate) struct Chain {
    links: Vec<Link>,
    /// Elements for the outputs when there is no operator.
    direct: VecDeque<Element>,
    /// Cuts of the barriers that are in the chain, oldest first, with the nanoseconds they took.
    cuts: Vec<(TaskCut, u64)>,
    /// The barrier that overtakes what is in the chain.
    overtaking: Option<Overtaking>,
    /// The newest checkpoint that overtook: what still comes of older ones is dropped.
    overtook: Option<CheckpointId>,
    /// Wake-ups of operators wait: what a checkpoint held is put back first.
    paused: bool,
}

struct Link {
    operator: Box<dyn Operator>,
    ctx: OperatorContext,
    properties: OperatorProperties,
    /// What to do once the operator is done with the call it is blocked in.
    pending: Option<After>,
    /// Blocked although its outbox had room: resumed when its wake-up is due.
    waits_for_time: bool,
    notifications: VecDeque<Notification>,
}

enum After {
    Nothing,
    Forward(Signal),
    /// `EndOfInput(0)` of a chained operator is done: `EndOfData` follows.
    EndOfData,
    Cut(Barrier),
}

/// What a step brought about.
pub(crate) enum ChainEvent {
    /// An operator did something.
    Worked,
    /// The last operator has cut its state.
    Cut(TaskCut),
    /// A barrier has overtaken everything in the chain; the outputs are next.
    Overtook(Box<Overtook>),
    /// Nothing can be done.
    Nothing,
}

impl Link {
    fn call<T>(&mut self, f: impl FnOnce(&mut dyn Operator, &mut OperatorContext) -> Result<T>) -> Result<T> {
        let (operator, ctx) = (&mut *self.operator, &mut self.ctx);
        let result = guard(AssertUnwindSafe(|| f(operator, ctx)));
        result.map_err(|e| e.context(format_args!("operator \"{}\"", self.ctx.name)))
    }
    fn event(&mut self, event: OperatorEvent) -> Result<Progress> {
        self.call(|o, c| o.on_event(event, c))
    }
    fn is_free(&self) -> bool {
        self.pending.is_none() && self.ctx.out.has_room()
    }
    fn emit(&mut self, signal: Signal) {
        self.ctx.out.emit_signal(signal);
    }
    fn block(&mut self, after: After) {
        self.waits_for_time = self.ctx.out.has_room() && self.ctx.out.next_wake_ms().is_some();
        self.pending = Some(after);
    }
}

impl Chain {
    pub(crate) fn new(operators: Vec<(Box<dyn Operator>, OperatorContext)>) -> Self {
        let link = |(operator, ctx)| Link {
            operator,
            ctx,
            properties: OperatorProperties::default(),
            pending: None,
            waits_for_time: false,
            notifications: VecDeque::new(),
        };
        let links = operators.into_iter().map(link).collect();
        Chain { links, direct: VecDeque::new(), cuts: Vec::new(), overtaking: None, overtook: None, paused: false }
    }

    /// Opens the operators, the last one first: nobody is given rows before those behind it are ready.
    pub(crate) fn open(&mut self) -> Result<()> {
        for link in self.links.iter_mut().rev() {
            link.properties = link.call(|o, c| o.open(c))?;
        }
        Ok(())
    }

    /// Whether the first operator can take a signal now.
    pub(crate) fn accepts(&self) -> bool {
        self.links.first().map_or(self.direct.is_empty(), Link::is_free)
    }
    /// Whether it can take rows too.
    pub(crate) fn accepts_rows(&self) -> bool {
        self.links.first().is_none_or(|l| l.operator.accepts_input())
    }
    /// Whether an operator waits for something other than input.
    pub(crate) fn is_blocked(&self) -> bool {
        self.links.iter().any(|l| l.pending.is_some())
    }
    /// Whether an operator takes no rows for now.
    pub(crate) fn is_busy(&self) -> bool {
        self.links.iter().any(|l| !l.operator.accepts_input())
    }
    /// Whether nothing is on its way through the chain and every completed checkpoint has taken effect.
    pub(crate) fn is_settled(&self) -> bool {
        let settled = |l: &Link| {
            l.pending.is_none() && l.ctx.out.is_empty() && l.notifications.is_empty() && l.operator.is_settled()
        };
        self.direct.is_empty() && self.links.iter().all(settled)
    }
    /// The next element for the outputs.
    pub(crate) fn pop(&mut self) -> Option<Element> {
        match self.links.last_mut() {
            Some(last) => last.ctx.out.pop(),
            None => self.direct.pop_front(),
        }
    }
    /// When the next operator wants to be woken.
    pub(crate) fn next_wake_ms(&self) -> Option<i64> {
        // An operator that waits for room has no use for the time.
        let wakes = self.links.iter().filter(|l| l.pending.is_none() || l.waits_for_time);
        wakes.filter_map(|l| l.ctx.out.next_wake_ms()).min()
    }

    /// Tells every operator and its backend what became of a checkpoint, as soon as each may hear it.
    pub(crate) fn notify(&mut self, notification: Notification) -> Result<()> {
        for link in &mut self.links {
            let waiting = &mut link.notifications;
            if matches!(notification, Notification::Completed(_)) {
                waiting.retain(|n| !matches!(n, Notification::Completed(_)));
            }
            if waiting.len() >= NOTIFICATIONS_MAX {
                waiting.pop_front();
            }
            waiting.push_back(notification);
        }
        Ok(())
    }

    /// Gives the first operator something. Only when [`Chain::accepts`].
    pub(crate) fn feed(&mut self, item: Item, now_nanos: &dyn Fn() -> u64) -> Result<ChainEvent> {
        let item = match item {
            Item::Barrier(b) => return self.feed_barrier(b, now_nanos),
            other => other,
        };
        let Some(head) = self.links.first_mut() else {
            match item {
                Item::Batch { batch, .. } => self.direct.push_back(Element::Batch(batch)),
                Item::Signal(s) => self.direct.push_back(Element::Signal(s)),
                Item::EndOfInput(_) | Item::Barrier(_) => {}
            }
            return Ok(ChainEvent::Worked);
        };
        match item {
            Item::Batch { port, batch } => Self::batch(head, port, batch)?,
            Item::EndOfInput(port) => {
                if head.event(OperatorEvent::EndOfInput(port))? == Progress::Blocked {
                    head.block(After::Nothing);
                }
            }
            // The gate has said the end of each input before; what a source says passes through here too and has port 0.
            Item::Signal(s) => return self.signal(0, s, now_nanos),
            Item::Barrier(_) => {}
        }
        Ok(ChainEvent::Worked)
    }

    fn feed_barrier(&mut self, item: BarrierItem, now_nanos: &dyn Fn() -> u64) -> Result<ChainEvent> {
        let (barrier, sync_ns) = (item.barrier, item.sync_ns);
        let cut = TaskCut::of(item);
        if self.links.is_empty() {
            self.direct.push_back(Element::Signal(Signal::Barrier(barrier)));
            return Ok(ChainEvent::Cut(cut));
        }
        self.cuts.push((cut, sync_ns));
        self.signal(0, Signal::Barrier(barrier), now_nanos)
    }

    /// Lets the most downstream operator that can do something do one thing.
    pub(crate) fn step(&mut self, now_ms: i64, now_nanos: &dyn Fn() -> u64) -> Result<ChainEvent> {
        if let Some(done) = self.go_on_overtaking(now_ms, now_nanos)? {
            return Ok(ChainEvent::Overtook(Box::new(done)));
        }
        for i in (0..self.links.len()).rev() {
            if self.overtaking.as_ref().is_some_and(|o| o.at == i) {
                continue;
            }
            let link = &mut self.links[i];
            if let Some(after) = link.pending.take() {
                let due = !link.waits_for_time || link.ctx.out.take_due_wake(now_ms);
                if !link.ctx.out.has_room() || !due {
                    link.pending = Some(after);
                    continue;
                }
                match link.call(|o, c| o.resume(c))? {
                    Progress::Blocked => link.block(after),
                    Progress::Done => return self.after(i, after, now_nanos),
                }
                return Ok(ChainEvent::Worked);
            }
            if let Some(n) = link.notifications.pop_front() {
                Self::deliver(link, n)?;
                return Ok(ChainEvent::Worked);
            }
            if !link.ctx.out.has_room() {
                continue;
            }
            if !self.paused && link.ctx.out.take_due_wake(now_ms) {
                if link.event(OperatorEvent::ProcessingTime(now_ms))? == Progress::Blocked {
                    link.block(After::Nothing);
                }
                return Ok(ChainEvent::Worked);
            }
            let takes_rows = link.operator.accepts_input();
            if i > 0
                && (takes_rows || !matches!(self.links[i - 1].ctx.out.elements().front(), Some(Element::Batch(_))))
                && let Some(element) = self.links[i - 1].ctx.out.pop()
            {
                match element {
                    Element::Batch(batch) => {
                        self.links[i - 1].ctx.metrics.records_out.add(batch.num_rows() as u64);
                        Self::batch(&mut self.links[i], 0, batch)?;
                    }
                    Element::Signal(s) => return self.signal(i, s, now_nanos),
                }
                return Ok(ChainEvent::Worked);
            }
        }
        Ok(ChainEvent::Nothing)
    }

    fn deliver(link: &mut Link, notification: Notification) -> Result<()> {
        let (checkpoint, completed) = match notification {
            Notification::Completed(c) => (c, true),
            Notification::Aborted(c) => (c, false),
        };
        link.call(|o, c| {
            c.state.notify(checkpoint, completed);
            o.notify(notification, c)
        })
    }

    fn batch(link: &mut Link, port: usize, batch: ChangeBatch) -> Result<()> {
        link.ctx.metrics.records_in.add(batch.num_rows() as u64);
        if link.call(|o, c| o.process(port, batch, c))? == Progress::Blocked {
            link.block(After::Nothing);
        }
        Ok(())
    }

    fn signal(&mut self, i: usize, signal: Signal, now_nanos: &dyn Fn() -> u64) -> Result<ChainEvent> {
        let link = &mut self.links[i];
        let forwards = link.properties.forwards_watermarks;
        let (event, after) = match signal {
            // Who restarts after a restore begins with less than what a checkpoint held; time does not go back.
            Signal::Watermark(t) if t < link.ctx.watermark => return Ok(ChainEvent::Worked),
            Signal::Watermark(t) => {
                link.ctx.watermark = t;
                (OperatorEvent::Watermark(t), if forwards { After::Forward(signal) } else { After::Nothing })
            }
            Signal::Idle | Signal::Active if link.properties.forwards_idleness => {
                link.emit(signal);
                return Ok(ChainEvent::Worked);
            }
            Signal::Idle => (OperatorEvent::Idle, After::Nothing),
            Signal::Active => (OperatorEvent::Active, After::Nothing),
            Signal::LatencyMarker { .. } => {
                link.emit(signal);
                return Ok(ChainEvent::Worked);
            }
            Signal::Barrier(b) if self.overtook.is_some_and(|o| b.checkpoint <= o) => {
                self.cuts.retain(|(c, _)| c.barrier.checkpoint != b.checkpoint);
                return Ok(ChainEvent::Worked);
            }
            Signal::Barrier(b) => (OperatorEvent::BeforeBarrier(b.checkpoint), After::Cut(b)),
            // The head's inputs have ended one by one before; a chained operator has one input, which ends here.
            Signal::EndOfData if i == 0 => (OperatorEvent::EndOfData, After::Forward(signal)),
            Signal::EndOfData => (OperatorEvent::EndOfInput(0), After::EndOfData),
        };
        match link.event(event)? {
            Progress::Blocked => {
                link.block(after);
                Ok(ChainEvent::Worked)
            }
            Progress::Done => self.after(i, after, now_nanos),
        }
    }

    fn after(&mut self, i: usize, after: After, now_nanos: &dyn Fn() -> u64) -> Result<ChainEvent> {
        let link = &mut self.links[i];
        match after {
            After::Nothing => {}
            After::Forward(signal) => link.emit(signal),
            After::EndOfData => match link.event(OperatorEvent::EndOfData)? {
                Progress::Blocked => link.block(After::Forward(Signal::EndOfData)),
                Progress::Done => link.emit(Signal::EndOfData),
            },
            After::Cut(barrier) => return self.cut(i, barrier, now_nanos),
        }
        Ok(ChainEvent::Worked)
    }

    fn cut(&mut self, i: usize, barrier: Barrier, now_nanos: &dyn Fn() -> u64) -> Result<ChainEvent> {
        let at = self.cut_link(i, barrier, now_nanos)?;
        self.links[i].emit(Signal::Barrier(barrier));
        if i + 1 < self.links.len() {
            return Ok(ChainEvent::Worked);
        }
        Ok(ChainEvent::Cut(self.take_cut(at)))
    }

    /// Snapshots an operator; returns the place of the task's cut in `cuts`.
    fn cut_link(&mut self, i: usize, barrier: Barrier, now_nanos: &dyn Fn() -> u64) -> Result<usize> {
        let start = now_nanos();
        let link = &mut self.links[i];
        let keyed = link.call(|_, c| c.state.snapshot(barrier.checkpoint))?;
        let cut =
            OperatorCut { operator: link.ctx.operator, keyed, operator_state: link.ctx.operator_state.snapshot() };
        let took_ns = now_nanos().saturating_sub(start);
        let at = self.cuts.iter().position(|(c, _)| c.barrier.checkpoint == barrier.checkpoint);
        let at = at.ok_or_else(|| Error::bug(format!("checkpoint {} was not begun here", barrier.checkpoint)))?;
        let (whole, ns) = &mut self.cuts[at];
        whole.cuts.push(cut);
        *ns += took_ns;
        Ok(at)
    }

    fn take_cut(&mut self, at: usize) -> TaskCut {
        let (mut done, ns) = self.cuts.remove(at);
        done.sync_ms = ns / 1_000_000;
        done
    }

    /// Counters of the last operator, for rows that leave the chain.
    pub(crate) fn count_out(&self, rows: usize) {
        if let Some(last) = self.links.last() {
            last.ctx.metrics.records_out.add(rows as u64);
        }
    }
    /// Rows the last operator has taken: what a sink was given.
    pub(crate) fn last_records_in(&self) -> u64 {
        self.links.last().map_or(0, |l| l.ctx.metrics.records_in.get())
    }
}
