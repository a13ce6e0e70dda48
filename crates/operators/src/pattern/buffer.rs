//! The events that partial matches hold, shared between them: each taken event is a node that points back to the one before it, so
//! matches with a common beginning share it. Never copies an event, never looks into one.

/// No event, no node.
pub(crate) const NONE: u32 = u32::MAX;

/// An event taken for a variable, behind the events taken before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    /// The event.
    pub(crate) event: u32,
    /// The node before, or [`NONE`].
    pub(crate) previous: u32,
    /// What it was taken for.
    pub(crate) variable: u16,
    /// Number of events taken for the same variable before it.
    pub(crate) ordinal: u32,
    /// The first node of the same variable.
    run: u32,
    /// Number of nodes before it.
    depth: u32,
}

/// Events in order, and the nodes that matches consist of. Bounded by what partial matches hold, once compacted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Buffer {
    times: Vec<i64>,
    nodes: Vec<Node>,
}

impl Buffer {
    /// Forgets everything, keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.times.clear();
        self.nodes.clear();
    }
    /// Adds an event, later than or at the same time as those before; its number.
    pub(crate) fn event(&mut self, time: i64) -> u32 {
        self.times.push(time);
        self.times.len() as u32 - 1
    }
    /// The time of an event.
    pub(crate) fn time(&self, event: u32) -> i64 {
        self.times[event as usize]
    }
    /// Number of events.
    pub(crate) fn events(&self) -> usize {
        self.times.len()
    }
    /// All nodes; a node stands behind the one it points to.
    pub(crate) fn nodes(&self) -> &[Node] {
        &self.nodes
    }
    /// The node.
    pub(crate) fn node(&self, node: u32) -> Node {
        self.nodes[node as usize]
    }
    /// Adds the node of an event taken for `variable` behind `previous`.
    pub(crate) fn take(&mut self, previous: u32, variable: u16, event: u32) -> u32 {
        let own = self.nodes.len() as u32;
        let mut node = Node { event, previous, variable, ordinal: 0, run: own, depth: 0 };
        if let Some(before) = self.nodes.get(previous as usize) {
            node.depth = before.depth + 1;
            if before.variable == variable {
                (node.ordinal, node.run) = (before.ordinal + 1, before.run);
            }
        }
        self.nodes.push(node);
        own
    }
    /// The last node of `variable` (`None`: of any) at or before `tail`.
    fn tail_of(&self, mut tail: u32, variable: Option<u16>) -> Option<Node> {
        loop {
            let node = *self.nodes.get(tail as usize)?;
            if variable.is_none_or(|v| v == node.variable) {
                return Some(node);
            }
            tail = self.nodes[node.run as usize].previous;
        }
    }
    /// Number of events taken for `variable` (`None`: for any) up to `tail`.
    pub(crate) fn count(&self, tail: u32, variable: Option<u16>) -> u32 {
        let count = |n: Node| 1 + if variable.is_some() { n.ordinal } else { n.depth };
        self.tail_of(tail, variable).map_or(0, count)
    }
    /// The event `back` before the last one taken for `variable`.
    pub(crate) fn last(&self, tail: u32, variable: Option<u16>, back: u32) -> Option<u32> {
        let mut node = self.tail_of(tail, variable)?;
        let before = if variable.is_some() { node.ordinal } else { node.depth };
        if back > before {
            return None;
        }
        for _ in 0..back {
            node = self.node(node.previous);
        }
        Some(node.event)
    }
    /// The event `ahead` behind the first one taken for `variable`.
    pub(crate) fn first(&self, tail: u32, variable: Option<u16>, ahead: u32) -> Option<u32> {
        match variable {
            Some(_) if ahead == 0 => self.tail_of(tail, variable).map(|n| self.node(n.run).event),
            _ => self.last(tail, variable, self.count(tail, variable).checked_sub(ahead + 1)?),
        }
    }
    /// Calls `f` for the events taken for `variable` up to `tail`, the last one first.
    pub(crate) fn for_each_back(&self, tail: u32, variable: Option<u16>, mut f: impl FnMut(u32)) {
        let Some(mut node) = self.tail_of(tail, variable) else { return };
        loop {
            f(node.event);
            match self.nodes.get(node.previous as usize) {
                Some(previous) if variable.is_none_or(|v| v == previous.variable) => node = *previous,
                _ => return,
            }
        }
    }
    /// Drops what `roots` (last node and first event of a match) do not lead to, and renumbers them. `kept_events` is overwritten with
    /// the old number of each event that stays.
    pub(crate) fn compact<'a>(
        &mut self,
        roots: impl Iterator<Item = (&'a mut u32, &'a mut u32)>,
        kept_events: &mut Vec<u32>,
    ) {
        let mut roots: Vec<(&mut u32, &mut u32)> = roots.collect();
        let mut alive = vec![false; self.nodes.len()];
        for (tail, _) in &roots {
            let mut at = **tail;
            while at != NONE && !alive[at as usize] {
                alive[at as usize] = true;
                at = self.nodes[at as usize].previous;
            }
        }
        let mut event_alive = vec![false; self.times.len()];
        self.nodes.iter().zip(&alive).filter(|n| *n.1).for_each(|(n, _)| event_alive[n.event as usize] = true);
        let mut new_event = vec![NONE; self.times.len()];
        kept_events.clear();
        for event in (0..self.times.len()).filter(|&e| event_alive[e]) {
            new_event[event] = kept_events.len() as u32;
            kept_events.push(event as u32);
        }
        self.times = kept_events.iter().map(|&e| self.times[e as usize]).collect();
        let old = std::mem::take(&mut self.nodes);
        let mut new_node = vec![NONE; old.len()];
        for (i, node) in old.iter().enumerate().filter(|(i, _)| alive[*i]) {
            let previous = if node.previous == NONE { NONE } else { new_node[node.previous as usize] };
            new_node[i] = self.take(previous, node.variable, new_event[node.event as usize]);
        }
        for (tail, start) in &mut roots {
            if **tail != NONE {
                (**tail, **start) = (new_node[**tail as usize], new_event[**start as usize]);
            }
        }
    }
}
