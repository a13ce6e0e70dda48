//! The automaton: pattern → states → step. Takes the same transitions in the same order as Flink's, so that it finds the same matches
//! and prefers the same ones. Strict contiguity: an event that fits no partial match ends it. Holds no event.

use flott_core::error::{Error, Result};

use super::buffer::{Buffer, NONE};
use super::queue::{Keyed, Queue};

/// One variable of a pattern with its quantifier.
#[derive(Clone, Debug)]
pub(crate) struct Element {
    /// Its name, for messages.
    pub(crate) name: String,
    /// Events at least.
    pub(crate) min: u32,
    /// Events at most; `None`: any number.
    pub(crate) max: Option<u32>,
    /// As many as possible rather than as few.
    pub(crate) greedy: bool,
}

/// Where the search goes on after a match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SkipTo {
    /// Behind the last event of the match.
    PastLast,
    /// Behind the first event of the match.
    Next,
    /// At the first event of a variable.
    First(u16),
    /// At the last event of a variable.
    Last(u16),
}

/// Variables that follow one another without gaps.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    /// The variables.
    pub(crate) elements: Vec<Element>,
    /// First and last event must be less than this apart.
    pub(crate) within_ms: Option<i64>,
    /// What happens after a match.
    pub(crate) skip: SkipTo,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// The event is taken.
    Take,
    /// The target looks at the event.
    Proceed,
}

#[derive(Clone, Debug)]
struct Transition {
    action: Action,
    target: u16,
    /// Variables whose conditions must hold (`true`) or must not.
    condition: Vec<(u16, bool)>,
}

#[derive(Clone, Debug, Default)]
struct State {
    variable: u16,
    transitions: Vec<Transition>,
}

/// The state of complete matches.
const FINAL: u16 = 0;

/// A pattern, compiled.
#[derive(Clone, Debug)]
pub(crate) struct Nfa {
    states: Vec<State>,
    start: u16,
    pattern: Pattern,
}

/// What conditions are asked.
pub(crate) trait Conditions {
    /// Whether `event` may be taken for `variable` behind the events up to node `tail` ([`NONE`]: it would be the first).
    fn holds(&mut self, buffer: &Buffer, variable: u16, tail: u32, event: u32) -> Result<bool>;
    /// Hears of a new node.
    fn taken(&mut self, buffer: &Buffer, node: u32) -> Result<()>;
}

/// A match that is under way, or complete and waits for an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Partial {
    /// State of the automaton.
    pub(crate) state: u16,
    /// The last node, or [`NONE`].
    pub(crate) tail: u32,
    /// The first event, or [`NONE`]: not yet begun.
    pub(crate) start: u32,
}

impl Keyed for Partial {
    fn key(&self) -> u32 {
        self.start
    }
}

/// All matches under way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Run {
    /// Matches under way, and the one not begun.
    pub(crate) partial: Queue<Partial>,
    /// Complete matches that an earlier one, still under way, may yet rule out.
    pub(crate) completed: Queue<Partial>,
}

/// A complete match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Match {
    /// Its last node.
    pub(crate) tail: u32,
    /// The time at which it was told.
    pub(crate) time: i64,
}

/// Memory that steps use again.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    memo: Vec<Option<bool>>,
    stack: Vec<u16>,
    edges: Vec<(u16, u16)>,
    next: Vec<Partial>,
    partial: Queue<Partial>,
    potential: Queue<Partial>,
}

impl Nfa {
    /// Compiles a pattern. One that may match no event at all, or ends in a greedy loop, must not come here.
    pub(crate) fn compile(pattern: Pattern) -> Self {
        let mut nfa = Nfa { states: vec![State::default()], start: FINAL, pattern };
        let mut sink = FINAL;
        for variable in (0..nfa.pattern.elements.len()).rev() {
            sink = nfa.convert(variable as u16, sink);
        }
        nfa.start = sink;
        nfa
    }

    /// Number of states.
    pub(crate) fn states(&self) -> usize {
        self.states.len()
    }

    /// The states of one variable in front of `sink`; the first of them.
    fn convert(&mut self, variable: u16, sink: u16) -> u16 {
        let Element { min, max, greedy, .. } = self.pattern.elements[usize::from(variable)];
        let optional = min == 0;
        match max {
            None => {
                let looping = self.state(variable);
                self.transition(looping, Action::Proceed, sink);
                if greedy {
                    self.forbid(sink, variable);
                }
                self.transition(looping, Action::Take, looping);
                self.times(variable, looping, sink, (min.max(1), min.max(1)), optional)
            }
            Some(1) if optional => self.single(variable, sink, Some(sink)),
            Some(max) => {
                if greedy && min.max(1) != max {
                    self.forbid(sink, variable);
                }
                self.times(variable, sink, sink, (min.max(1), max), optional)
            }
        }
    }

    fn times(&mut self, variable: u16, sink: u16, proceed: u16, (from, to): (u32, u32), optional: bool) -> u16 {
        let mut last = sink;
        for _ in from..to {
            last = self.single(variable, last, Some(proceed));
        }
        for _ in 1..from {
            last = self.single(variable, last, None);
        }
        self.single(variable, last, optional.then_some(proceed))
    }

    /// A state that takes one event and goes to `sink`, or takes none and goes to `proceed`.
    fn single(&mut self, variable: u16, sink: u16, proceed: Option<u16>) -> u16 {
        let state = self.state(variable);
        self.transition(state, Action::Take, sink);
        if let Some(proceed) = proceed {
            self.transition(state, Action::Proceed, proceed);
        }
        state
    }

    fn state(&mut self, variable: u16) -> u16 {
        self.states.push(State { variable, transitions: Vec::new() });
        self.states.len() as u16 - 1
    }

    fn transition(&mut self, from: u16, action: Action, target: u16) {
        let from = &mut self.states[usize::from(from)];
        let condition = if action == Action::Take { vec![(from.variable, true)] } else { Vec::new() };
        from.transitions.push(Transition { action, target, condition });
    }

    /// What follows a greedy loop takes no event that the loop would take.
    fn forbid(&mut self, state: u16, variable: u16) {
        let transitions = &mut self.states[usize::from(state)].transitions;
        transitions.iter_mut().for_each(|t| t.condition.push((variable, false)));
    }

    /// Nothing has begun.
    pub(crate) fn begin(&self) -> Run {
        let mut run = Run::default();
        run.partial.add(Partial { state: self.start, tail: NONE, start: NONE });
        run
    }

    /// Gives up what is too old at `time`; appends the matches that waited for it.
    pub(crate) fn advance(
        &self,
        run: &mut Run,
        buffer: &Buffer,
        time: i64,
        scratch: &mut Scratch,
        matches: &mut Vec<Match>,
    ) -> Result<()> {
        let Some(within) = self.pattern.within_ms else { return Ok(()) };
        let over = |p: &Partial| p.start != NONE && time.saturating_sub(buffer.time(p.start)) >= within;
        // The earliest is the first to be over.
        if !run.partial.peek().is_some_and(over) {
            return Ok(());
        }
        scratch.partial.clear();
        run.partial.items().iter().filter(|p| !over(p)).for_each(|p| scratch.partial.add(*p));
        std::mem::swap(&mut run.partial, &mut scratch.partial);
        scratch.potential.clear();
        self.complete(run, buffer, time, scratch, matches)
    }

    /// Takes the next event; appends the matches it completes, and those that waited for an earlier one.
    pub(crate) fn step(
        &self,
        run: &mut Run,
        buffer: &mut Buffer,
        event: u32,
        conditions: &mut dyn Conditions,
        scratch: &mut Scratch,
        matches: &mut Vec<Match>,
    ) -> Result<()> {
        scratch.partial.clear();
        scratch.potential.clear();
        for i in 0..run.partial.items().len() {
            let from = run.partial.items()[i];
            self.next_states(from, buffer, event, conditions, scratch)?;
            for next in &scratch.next {
                let queue = if next.state == FINAL { &mut scratch.potential } else { &mut scratch.partial };
                queue.add(*next);
            }
        }
        std::mem::swap(&mut run.partial, &mut scratch.partial);
        let time = buffer.time(event);
        self.complete(run, buffer, time, scratch, matches)
    }

    /// What becomes of one partial match.
    fn next_states(
        &self,
        from: Partial,
        buffer: &mut Buffer,
        event: u32,
        conditions: &mut dyn Conditions,
        scratch: &mut Scratch,
    ) -> Result<()> {
        scratch.memo.clear();
        scratch.memo.resize(self.pattern.elements.len(), None);
        scratch.edges.clear();
        scratch.next.clear();
        scratch.stack.clear();
        scratch.stack.push(from.state);
        while let Some(at) = scratch.stack.pop() {
            for t in &self.states[usize::from(at)].transitions {
                if Self::passes(t, from.tail, buffer, event, conditions, &mut scratch.memo)? {
                    match t.action {
                        Action::Proceed => scratch.stack.push(t.target),
                        Action::Take => scratch.edges.push((at, t.target)),
                    }
                }
            }
        }
        for e in 0..scratch.edges.len() {
            let (at, target) = scratch.edges[e];
            let tail = buffer.take(from.tail, self.states[usize::from(at)].variable, event);
            conditions.taken(buffer, tail)?;
            let start = if from.start == NONE { event } else { from.start };
            scratch.next.push(Partial { state: target, tail, start });
            if self.may_end(target, from.tail, buffer, event, conditions, scratch)? {
                scratch.next.push(Partial { state: FINAL, tail, start });
            }
        }
        if from.state == self.start {
            scratch.next.push(from);
        }
        Ok(())
    }

    fn passes(
        t: &Transition,
        tail: u32,
        buffer: &Buffer,
        event: u32,
        conditions: &mut dyn Conditions,
        memo: &mut [Option<bool>],
    ) -> Result<bool> {
        for (variable, wanted) in &t.condition {
            let known = &mut memo[usize::from(*variable)];
            let holds = match *known {
                Some(holds) => holds,
                None => *known.insert(conditions.holds(buffer, *variable, tail, event)?),
            };
            if holds != *wanted {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether the end can be reached from `state` without another event.
    fn may_end(
        &self,
        state: u16,
        tail: u32,
        buffer: &Buffer,
        event: u32,
        conditions: &mut dyn Conditions,
        scratch: &mut Scratch,
    ) -> Result<bool> {
        scratch.stack.clear();
        scratch.stack.push(state);
        while let Some(at) = scratch.stack.pop() {
            let proceeds = self.states[usize::from(at)].transitions.iter().filter(|t| t.action == Action::Proceed);
            for t in proceeds {
                if Self::passes(t, tail, buffer, event, conditions, &mut scratch.memo)? {
                    if t.target == FINAL {
                        return Ok(true);
                    }
                    scratch.stack.push(t.target);
                }
            }
        }
        Ok(false)
    }

    /// Tells complete matches, the earliest first, as long as none that is under way began before them.
    fn complete(
        &self,
        run: &mut Run,
        buffer: &Buffer,
        time: i64,
        scratch: &mut Scratch,
        matches: &mut Vec<Match>,
    ) -> Result<()> {
        scratch.potential.items().iter().for_each(|p| run.completed.add(*p));
        while let Some(earliest) = run.completed.peek().copied() {
            if run.partial.peek().is_some_and(|p| p.start < earliest.start) {
                break;
            }
            run.completed.poll();
            let (to, inclusive) = self.skip_to(earliest, buffer)?;
            let skipped = |p: &Partial| p.start != NONE && (p.start < to || (inclusive && p.start == to));
            run.partial.remove_if(skipped);
            run.completed.remove_if(skipped);
            matches.push(Match { tail: earliest.tail, time });
        }
        Ok(())
    }

    /// Matches that begin before this event, or at it too, are dropped.
    fn skip_to(&self, found: Partial, buffer: &Buffer) -> Result<(u32, bool)> {
        let (variable, event) = match self.pattern.skip {
            SkipTo::PastLast => return Ok((buffer.node(found.tail).event, true)),
            SkipTo::Next => return Ok((found.start, true)),
            SkipTo::First(v) => (v, buffer.first(found.tail, Some(v), 0)),
            SkipTo::Last(v) => (v, buffer.last(found.tail, Some(v), 0)),
        };
        let name = &self.pattern.elements[usize::from(variable)].name;
        let Some(event) = event else {
            let error = Error::user("match.skip", format!("a match has no row of `{name}` to skip to"));
            return Err(error.hint(format!("skip to a variable that every match has, or make `{name}` not optional")));
        };
        if event == found.start {
            let error =
                Error::user("match.skip", format!("skipping to `{name}` would begin at the first row of the match"));
            return Err(error
                .detail("the same match would be found again without end")
                .hint("use AFTER MATCH SKIP PAST LAST ROW or SKIP TO NEXT ROW"));
        }
        Ok((event, false))
    }

    /// When the earliest match under way is given up, if it is ever.
    pub(crate) fn deadline(&self, run: &Run, buffer: &Buffer) -> Option<i64> {
        let first = run.partial.peek().filter(|p| p.start != NONE)?;
        Some(buffer.time(first.start).saturating_add(self.pattern.within_ms?))
    }
}
