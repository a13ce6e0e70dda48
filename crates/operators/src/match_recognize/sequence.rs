//! What one key remembers: its events, the matches under way, and when the earliest of them is given up; as bytes in state. Knows the
//! rows only as bytes.

use flott_core::error::{Error, Result};

use crate::pattern::{Buffer, NONE, Nfa, Partial, Queue, Run};

/// One key's events and matches while they are worked on.
#[derive(Default)]
pub(super) struct Sequence {
    pub(super) buffer: Buffer,
    pub(super) run: Run,
    /// Row of each event, in the rows that are worked on.
    pub(super) rows_of: Vec<u32>,
    /// When the key has asked to be looked at, if it has.
    pub(super) timer: Option<i64>,
}

/// What the bytes mean, for the schema of the state table.
pub(super) const SCHEMA: &str =
    "timer,events(time,row),nodes(event,previous,variable),partial(state,tail,start),completed";

fn damaged() -> Error {
    Error::corrupt("state.match", "the matches of a key in state are damaged")
}

fn push(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn number(&mut self) -> Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or_else(damaged)?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(damaged())
    }
    /// A number below `bound`, or [`NONE`], written as 0.
    fn index(&mut self, bound: usize) -> Result<u32> {
        match self.number()? {
            0 => Ok(NONE),
            n if n <= bound as u64 => Ok(n as u32 - 1),
            _ => Err(damaged()),
        }
    }
    fn time(&mut self) -> Result<i64> {
        let (bytes, rest) = self.0.split_first_chunk::<8>().ok_or_else(damaged)?;
        self.0 = rest;
        Ok(i64::from_le_bytes(*bytes))
    }
    fn bytes(&mut self, length: u64) -> Result<&'a [u8]> {
        let length = usize::try_from(length).map_err(|_| damaged())?;
        let (bytes, rest) = self.0.split_at_checked(length).ok_or_else(damaged)?;
        self.0 = rest;
        Ok(bytes)
    }
    fn partial(&mut self, nfa: &Nfa, buffer: &Buffer) -> Result<Vec<Partial>> {
        let count = self.number()?;
        let mut out = Vec::new();
        for _ in 0..count {
            let state = u16::try_from(self.number()?).ok().filter(|s| usize::from(*s) < nfa.states());
            let (tail, start) = (self.index(buffer.nodes().len())?, self.index(buffer.events())?);
            out.push(Partial { state: state.ok_or_else(damaged)?, tail, start });
        }
        Ok(out)
    }
}

impl Sequence {
    /// Makes this the sequence that nothing has happened to.
    pub(super) fn begin(&mut self, nfa: &Nfa) {
        self.buffer.clear();
        self.rows_of.clear();
        self.run = nfa.begin();
        self.timer = None;
    }

    /// Makes this the sequence in `bytes`; the rows of its events are appended to `rows`, numbered from `rows.len()` on.
    pub(super) fn decode<'a>(&mut self, nfa: &Nfa, bytes: &'a [u8], rows: &mut Vec<&'a [u8]>) -> Result<()> {
        self.begin(nfa);
        let mut from = Reader(bytes);
        self.timer = if from.number()? == 1 { Some(from.time()?) } else { None };
        for _ in 0..from.number()? {
            let time = from.time()?;
            self.buffer.event(time);
            self.rows_of.push(rows.len() as u32);
            let length = from.number()?;
            rows.push(from.bytes(length)?);
        }
        for i in 0..from.number()? {
            let event = from.index(self.buffer.events())?;
            let previous = from.index(i as usize)?;
            let variable = u16::try_from(from.number()?).map_err(|_| damaged())?;
            if event == NONE {
                return Err(damaged());
            }
            self.buffer.take(previous, variable, event);
        }
        self.run.partial = Queue::from_heap(from.partial(nfa, &self.buffer)?);
        self.run.completed = Queue::from_heap(from.partial(nfa, &self.buffer)?);
        if from.0.is_empty() { Ok(()) } else { Err(damaged()) }
    }

    /// Whether there is nothing to remember.
    pub(super) fn is_empty(&self) -> bool {
        self.run.completed.items().is_empty() && self.run.partial.items().iter().all(|p| p.start == NONE)
    }

    /// Drops events that no match holds.
    pub(super) fn compact(&mut self) {
        let mut kept = Vec::new();
        let Run { partial, completed } = &mut self.run;
        let roots = partial.items_mut().iter_mut().chain(completed.items_mut()).map(|p| (&mut p.tail, &mut p.start));
        self.buffer.compact(roots, &mut kept);
        self.rows_of = kept.iter().map(|&e| self.rows_of[e as usize]).collect();
    }

    /// The bytes; `row` gives those of each event.
    pub(super) fn encode<'a>(&self, mut row: impl FnMut(usize) -> &'a [u8], out: &mut Vec<u8>) {
        match self.timer {
            Some(time) => {
                out.push(1);
                out.extend_from_slice(&time.to_le_bytes());
            }
            None => out.push(0),
        }
        push(out, self.buffer.events() as u64);
        for event in 0..self.buffer.events() {
            out.extend_from_slice(&self.buffer.time(event as u32).to_le_bytes());
            let bytes = row(event);
            push(out, bytes.len() as u64);
            out.extend_from_slice(bytes);
        }
        let index = |i: u32| if i == NONE { 0 } else { u64::from(i) + 1 };
        push(out, self.buffer.nodes().len() as u64);
        for node in self.buffer.nodes() {
            push(out, index(node.event));
            push(out, index(node.previous));
            push(out, u64::from(node.variable));
        }
        for queue in [&self.run.partial, &self.run.completed] {
            push(out, queue.items().len() as u64);
            for p in queue.items() {
                push(out, u64::from(p.state));
                push(out, index(p.tail));
                push(out, index(p.start));
            }
        }
    }
}
