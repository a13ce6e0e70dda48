//! The watermark valve: combines watermarks and idleness of the channels of a gate. Pure: the gate acts on its answers.

use flott_core::element::Signal;
use flott_core::time::EventTime;

/// Minimum over the active channels, as Flink's `StatusWatermarkValve` defines it.
#[derive(Debug)]
pub struct WatermarkValve {
    channels: Vec<Channel>,
    watermark: EventTime,
    idle: bool,
}

#[derive(Clone, Debug)]
struct Channel {
    watermark: EventTime,
    idle: bool,
    /// Takes part in the minimum. A channel that comes back from idleness behind the others does not, until it has caught up.
    aligned: bool,
}

impl WatermarkValve {
    /// A valve for so many channels, all active and at the beginning of time.
    pub fn new(channels: usize) -> Self {
        let channel = Channel { watermark: EventTime::MIN, idle: false, aligned: true };
        WatermarkValve { channels: vec![channel; channels], watermark: EventTime::MIN, idle: false }
    }
    /// The combined watermark.
    pub fn watermark(&self) -> EventTime {
        self.watermark
    }
    /// Where a channel is, and whether it is idle.
    pub fn mark(&self, channel: usize) -> (EventTime, bool) {
        let c = &self.channels[channel];
        (c.watermark, c.idle)
    }
    /// After a restore: time had come so far, and does not go back.
    pub fn restore(&mut self, watermark: EventTime) {
        self.watermark = watermark;
    }
    /// After a restore: where a channel was. It holds time back even where it had been left behind.
    pub fn restore_channel(&mut self, channel: usize, watermark: EventTime, idle: bool) {
        self.channels[channel] = Channel { watermark, idle, aligned: !idle };
    }
    /// What follows on a channel is said by somebody who begins anew: it holds time back where it is until then. Returns what
    /// is to be said.
    pub fn forget(&mut self, channel: usize) -> Option<Signal> {
        self.channels[channel] = Channel { watermark: EventTime::MIN, idle: false, aligned: true };
        std::mem::replace(&mut self.idle, false).then_some(Signal::Active)
    }
    /// A watermark came; returns the combined one when it rose.
    pub fn on_watermark(&mut self, channel: usize, watermark: EventTime) -> Option<Signal> {
        let c = &mut self.channels[channel];
        if c.idle || watermark <= c.watermark {
            return None;
        }
        c.watermark = watermark;
        c.aligned |= watermark >= self.watermark;
        self.rise()
    }
    /// A channel went idle; returns what is to be said, in order.
    pub fn on_idle(&mut self, channel: usize) -> Vec<Signal> {
        let c = &mut self.channels[channel];
        if std::mem::replace(&mut c.idle, true) {
            return Vec::new();
        }
        c.aligned = false;
        let held_back = c.watermark == self.watermark;
        let mut out = Vec::new();
        if self.channels.iter().any(|c| !c.idle) {
            out.extend(self.rise());
            return out;
        }
        if held_back {
            // Nobody is left to hold time back: it goes to where the furthest channel was.
            let furthest = self.channels.iter().map(|c| c.watermark).max().unwrap_or(EventTime::MIN);
            out.extend(self.raise_to(furthest));
        }
        self.idle = true;
        out.push(Signal::Idle);
        out
    }
    /// A channel is active again; returns what is to be said.
    pub fn on_active(&mut self, channel: usize) -> Option<Signal> {
        let c = &mut self.channels[channel];
        if !std::mem::replace(&mut c.idle, false) {
            return None;
        }
        c.aligned = c.watermark >= self.watermark;
        std::mem::replace(&mut self.idle, false).then_some(Signal::Active)
    }

    fn rise(&mut self) -> Option<Signal> {
        let lowest = self.channels.iter().filter(|c| c.aligned).map(|c| c.watermark).min()?;
        self.raise_to(lowest)
    }

    fn raise_to(&mut self, watermark: EventTime) -> Option<Signal> {
        let rises = watermark > self.watermark;
        if rises {
            self.watermark = watermark;
        }
        rises.then_some(Signal::Watermark(watermark))
    }
}

#[cfg(test)]
mod tests;
