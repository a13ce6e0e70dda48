//! Rows in flight on their way back: read from a checkpoint, and put where they were, or dealt out to other subtasks. Pure but
//! for the chunks it reads.

use std::collections::BTreeMap;

use arrow_schema::FieldRef;
use flott_core::batch::ChangeBatch;
use flott_core::element::{Element, Signal};
use flott_core::error::Result;
use flott_core::ids::OperatorId;
use flott_core::snapshot::{ChannelAddress, ChunkReader, InFlightPlace, InFlightSegment};
use flott_core::time::EventTime;

use super::{InFlightItem, Queued, codec};
use crate::output::HashRoute;
use crate::valve::WatermarkValve;

/// The rows in flight of a checkpoint.
#[derive(Debug, Default)]
pub struct InFlightData {
    queued: BTreeMap<(OperatorId, u32), Queued>,
    channels: BTreeMap<ChannelAddress, Vec<Element>>,
}

/// Whose the rows of an input are when it has other subtasks than before.
pub enum PortRoute {
    /// The owners of these key columns, whose fields these are.
    Keys {
        /// The columns.
        columns: Vec<usize>,
        /// Their fields.
        fields: Vec<FieldRef>,
        /// Number of key groups.
        max_parallelism: u32,
    },
    /// Every subtask takes over what one of the former ones would have got.
    Broadcast,
    /// The former subtask's rows go to one of the new ones.
    Whole,
}

/// What one of several former queues held.
struct Lane<'a> {
    watermark: EventTime,
    idle: bool,
    subtask: u32,
    elements: Vec<(usize, &'a Element)>,
}

impl InFlightData {
    /// Reads what a checkpoint held.
    pub fn load(segments: &[InFlightSegment], reader: &dyn ChunkReader) -> Result<Self> {
        let mut data = InFlightData::default();
        let mut parts: BTreeMap<(ChannelAddress, u8), Vec<Element>> = BTreeMap::new();
        for segment in segments {
            let bytes = reader.get(&segment.chunk)?;
            match segment.place {
                InFlightPlace::Queued { operator, subtask } => {
                    data.queued.insert((operator, subtask), codec::read_queued(&bytes)?);
                }
                InFlightPlace::Channel { address, part } => {
                    parts.entry((address, part)).or_default().extend(codec::read_elements(&bytes)?);
                }
            }
        }
        for ((address, _), elements) in parts {
            data.channels.entry(address).or_default().extend(elements);
        }
        Ok(data)
    }
    /// Whether nothing was in flight.
    pub fn is_empty(&self) -> bool {
        self.queued.is_empty() && self.channels.is_empty()
    }
    /// The operators that rows were on their way to, with their former subtasks.
    pub fn waiting(&self) -> impl Iterator<Item = (OperatorId, u32)> {
        let queued = self.queued.keys().copied();
        queued.chain(self.channels.keys().map(|a| (a.operator, a.subtask)))
    }
    /// The channels that held something.
    pub fn channels(&self) -> impl Iterator<Item = ChannelAddress> {
        self.channels.keys().copied()
    }
    /// Takes what a channel held, in order.
    pub fn take_channel(&mut self, address: ChannelAddress) -> Vec<Element> {
        self.channels.remove(&address).unwrap_or_default()
    }
    /// Takes what waited in front of an operator of a subtask.
    pub fn take_queued(&mut self, operator: OperatorId, subtask: u32) -> Option<Queued> {
        self.queued.remove(&(operator, subtask))
    }

    /// Deals what was on its way to an operator of `former` subtasks out to `parallelism` of them. Rows keep their order within every
    /// former queue. No watermark comes sooner than all former subtasks had come to: nothing is late that was not.
    pub fn deal_out(
        &self,
        operator: OperatorId,
        former: u32,
        parallelism: u32,
        ports: &[PortRoute],
    ) -> Result<Vec<Queued>> {
        let mut dealer = Dealer::new(ports, former, parallelism)?;
        let all = || self.queued.iter().filter(move |((o, _), _)| *o == operator).map(|((_, s), q)| (*s, q));
        let stored: BTreeMap<(OperatorId, u32), Vec<(usize, Element)>> =
            all().map(|(s, q)| ((operator, s), q.items.iter().cloned().map(with_port).collect())).collect();
        let unknown = all().count() < former as usize;
        let lanes = all().map(|(subtask, q)| Lane {
            watermark: if unknown { EventTime::MIN } else { q.seen },
            idle: false,
            subtask,
            elements: stored[&(operator, subtask)].iter().map(|(p, e)| (*p, e)).collect(),
        });
        // A subtask that stored nothing may have been anywhere: time does not rise above its beginning.
        let silent =
            || unknown.then(|| Lane { watermark: EventTime::MIN, idle: false, subtask: 0, elements: Vec::new() });
        let lanes: Vec<Lane<'_>> = lanes.chain(silent()).collect();
        let seen = lanes.iter().map(|l| l.watermark).min().unwrap_or(EventTime::MIN);
        dealer.run(seen, lanes)?;
        let mut lanes: Vec<Lane<'_>> = silent().into_iter().collect();
        for (subtask, queued) in all() {
            for mark in &queued.marks {
                let here = |(a, _): &(&ChannelAddress, &Vec<Element>)| {
                    a.operator == operator && a.subtask == subtask && (a.edge, a.from) == (mark.edge, mark.from)
                };
                let found = self.channels.iter().find(here);
                let elements = found.map(|(a, e)| e.iter().map(|e| (a.port as usize, e)).collect()).unwrap_or_default();
                let watermark = if unknown { EventTime::MIN } else { mark.watermark };
                lanes.push(Lane { watermark, idle: mark.idle && !unknown, subtask, elements });
            }
        }
        // A channel whose reader said nothing about time: its writer stored what was on its way.
        for (a, elements) in self.channels.iter().filter(|(a, _)| a.operator == operator) {
            let marked = |m: &super::ChannelMark| (m.edge, m.from) == (a.edge, a.from);
            if !self.queued.get(&(operator, a.subtask)).is_some_and(|q| q.marks.iter().any(marked)) {
                let elements = elements.iter().map(|e| (a.port as usize, e)).collect();
                lanes.push(Lane { watermark: EventTime::MIN, idle: false, subtask: a.subtask, elements });
            }
        }
        dealer.run(dealer.watermark, lanes)?;
        Ok(dealer.finish(seen))
    }
}

fn with_port(item: InFlightItem) -> (usize, Element) {
    match item {
        InFlightItem::Batch { port, batch } => (port, Element::Batch(batch)),
        InFlightItem::Watermark(w) => (0, Element::Signal(Signal::Watermark(w))),
    }
}

/// Deals lanes out one after the other; time rises with the slowest.
struct Dealer {
    routes: Vec<Option<HashRoute>>,
    broadcast: Vec<bool>,
    former: u32,
    out: Vec<Vec<InFlightItem>>,
    watermark: EventTime,
}

impl Dealer {
    fn new(ports: &[PortRoute], former: u32, parallelism: u32) -> Result<Self> {
        let route = |p: &PortRoute| match p {
            PortRoute::Keys { columns, fields, max_parallelism } => {
                HashRoute::new(columns.clone(), fields.clone(), *max_parallelism, parallelism as usize).map(Some)
            }
            PortRoute::Broadcast | PortRoute::Whole => Ok(None),
        };
        Ok(Dealer {
            routes: ports.iter().map(route).collect::<Result<_>>()?,
            broadcast: ports.iter().map(|p| matches!(p, PortRoute::Broadcast)).collect(),
            former: former.max(1),
            out: (0..parallelism).map(|_| Vec::new()).collect(),
            watermark: EventTime::MIN,
        })
    }

    fn run(&mut self, floor: EventTime, lanes: Vec<Lane<'_>>) -> Result<()> {
        let mut valve = WatermarkValve::new(lanes.len());
        self.watermark = self.watermark.max(floor);
        valve.restore(self.watermark);
        for (i, lane) in lanes.iter().enumerate() {
            valve.restore_channel(i, lane.watermark, lane.idle);
        }
        for (i, lane) in lanes.into_iter().enumerate() {
            for (port, element) in lane.elements {
                match element {
                    Element::Batch(b) => self.batch(port, lane.subtask, b)?,
                    Element::Signal(Signal::Watermark(w)) => {
                        let said = valve.on_watermark(i, *w);
                        self.said(said);
                    }
                    Element::Signal(Signal::Idle) => {
                        valve.on_idle(i).into_iter().for_each(|s| self.said(Some(s)));
                    }
                    Element::Signal(Signal::Active) => self.said(valve.on_active(i)),
                    Element::Signal(_) => {}
                }
            }
        }
        Ok(())
    }

    fn said(&mut self, signal: Option<Signal>) {
        if let Some(Signal::Watermark(w)) = signal {
            self.watermark = w;
            self.out.iter_mut().for_each(|out| out.push(InFlightItem::Watermark(w)));
        }
    }

    fn batch(&mut self, port: usize, former: u32, batch: &ChangeBatch) -> Result<()> {
        let parallelism = self.out.len() as u32;
        let item = |batch: ChangeBatch| InFlightItem::Batch { port, batch };
        if let Some(Some(route)) = self.routes.get_mut(port) {
            let out = &mut self.out;
            return route.split(batch.clone(), |to, part| out[to].push(item(part)));
        }
        if self.broadcast.get(port).copied().unwrap_or(false) {
            let takes = |(to, _): &(usize, &mut Vec<InFlightItem>)| *to as u32 % self.former == former;
            self.out.iter_mut().enumerate().filter(takes).for_each(|(_, out)| out.push(item(batch.clone())));
            return Ok(());
        }
        self.out[(former % parallelism) as usize].push(item(batch.clone()));
        Ok(())
    }

    fn finish(self, seen: EventTime) -> Vec<Queued> {
        let combined = self.watermark;
        self.out.into_iter().map(|items| Queued { seen, items, combined, marks: Vec::new() }).collect()
    }
}
