//! The Nexmark model as arithmetic: which event is what, ids, times, and the numbers drawn for it. Event `n` is a pure
//! function of seed and `n`; nothing here keeps state or builds columns.

use super::options::NexmarkOptions;

/// Ids of auctions and persons start here, so that small data sets still join.
pub(super) const FIRST_ID: i64 = 1000;
/// Categories are 10 to 14.
const FIRST_CATEGORY_ID: i64 = 10;
const CATEGORIES: u32 = 5;
/// Ids may run this far ahead of what was generated: events that seem to have been swapped in time.
pub(super) const ID_LEAD: i64 = 10;
/// One in a hundred auctions, sellers and bidders is hot.
const HOT_SPACING: i64 = 100;
/// Auctions that are open at any time.
pub(super) const AUCTIONS_IN_FLIGHT: i64 = 100;
/// Persons that are active at any time.
const ACTIVE_PEOPLE: i64 = 1000;

/// Random numbers of one event: a counter through a multiplicative mixer, so that any event can be drawn at any time.
pub(super) struct Draw(u64);

const STEP: u64 = 0xa076_1d64_78bd_642f;
const FOLD: u64 = 0xe703_7ed1_a0b4_28db;

#[inline]
fn mix(a: u64, b: u64) -> u64 {
    let wide = u128::from(a) * u128::from(b);
    (wide >> 64) as u64 ^ wide as u64
}

impl Draw {
    /// The numbers of event `n` under `seed`.
    #[inline]
    pub(super) fn new(seed: u64, n: u64) -> Self {
        Draw(mix(seed ^ 0x9e37_79b9_7f4a_7c15, n.wrapping_mul(STEP) ^ FOLD) ^ n)
    }
    /// 64 random bits.
    #[inline]
    pub(super) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mix(self.0, self.0 ^ FOLD)
    }
    /// Below `bound`.
    #[inline]
    pub(super) fn below(&mut self, bound: u32) -> u32 {
        (((self.bits() >> 32) * u64::from(bound)) >> 32) as u32
    }
    /// Below `bound`, which may be large and must be positive.
    #[inline]
    pub(super) fn below_i64(&mut self, bound: i64) -> i64 {
        ((u128::from(self.bits()) * bound as u128) >> 64) as i64
    }
}

/// Prices from 100 to 100,000,000 with evenly spread logarithm, by interpolation: no libm, so every machine draws the same.
pub(super) struct Prices(Vec<f64>);

/// Tenth power of 6/1024.
const PRICE_RATIO: f64 = 1.0135831333340657;

impl Prices {
    pub(super) fn new() -> Self {
        Prices(std::iter::successors(Some(100.0), |p| Some(p * PRICE_RATIO)).take(1025).collect())
    }
    #[inline]
    pub(super) fn draw(&self, draw: &mut Draw) -> i64 {
        let bits = draw.bits();
        let at = (bits >> 54) as usize;
        let fraction = ((bits >> 1) & ((1 << 53) - 1)) as f64 / (1u64 << 53) as f64;
        let (low, high) = (self.0[at], self.0[at + 1]);
        (low + (high - low) * fraction + 0.5) as i64
    }
}

/// What an event is. The numbers are the column `event_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EventKind {
    Person = 0,
    Auction = 1,
    Bid = 2,
}

/// Ids as of an epoch: one round of persons, auctions, bids.
#[derive(Clone, Copy)]
pub(super) struct Epoch {
    /// Number of the epoch.
    pub(super) number: i64,
    /// Last auction of the epoch, counted from 0.
    last_auction: i64,
    /// Last person of the epoch, counted from 0.
    last_person: i64,
}

impl NexmarkOptions {
    /// Events of an epoch.
    pub(super) fn epoch_len(&self) -> i64 {
        self.persons + self.auctions + self.bids
    }
    /// What the event at `offset` of any epoch is, and the offset where its kind ends.
    pub(super) fn kind_at(&self, offset: i64) -> (EventKind, i64) {
        if offset < self.persons {
            (EventKind::Person, self.persons)
        } else if offset < self.persons + self.auctions {
            (EventKind::Auction, self.persons + self.auctions)
        } else {
            (EventKind::Bid, self.epoch_len())
        }
    }
    /// Event time of event `n` in milliseconds.
    #[inline]
    pub(super) fn time_ms(&self, n: i64) -> i64 {
        self.base_time_ms + (n as f64 * self.event_delay_us) as i64 / 1000
    }
    /// The epoch of this number.
    pub(super) fn epoch(&self, number: i64) -> Epoch {
        let last = |per_epoch: i64| number * per_epoch + per_epoch - 1;
        Epoch { number, last_auction: last(self.auctions), last_person: last(self.persons) }
    }
    /// Id of the person at `offset` of an epoch.
    pub(super) fn person_id(&self, epoch: &Epoch, offset: i64) -> i64 {
        FIRST_ID + epoch.number * self.persons + offset
    }
    /// Id of the auction at `offset` of an epoch.
    pub(super) fn auction_id(&self, epoch: &Epoch, offset: i64) -> i64 {
        FIRST_ID + epoch.number * self.auctions + offset - self.persons
    }
    /// How long an auction of event `n` stays open, in milliseconds.
    #[inline]
    pub(super) fn auction_length_ms(&self, n: i64, draw: &mut Draw) -> i64 {
        let horizon_events = AUCTIONS_IN_FLIGHT * self.epoch_len() / self.auctions;
        let horizon_ms = self.time_ms(n + horizon_events) - self.time_ms(n);
        1 + draw.below_i64((horizon_ms * 2).max(1))
    }
    /// The seller of an auction.
    #[inline]
    pub(super) fn seller(&self, epoch: &Epoch, draw: &mut Draw) -> i64 {
        FIRST_ID
            + if draw.below(self.hot_sellers) > 0 {
                epoch.last_person / HOT_SPACING * HOT_SPACING
            } else {
                epoch.active_person(draw)
            }
    }
    /// The auction of a bid.
    #[inline]
    pub(super) fn bid_auction(&self, epoch: &Epoch, draw: &mut Draw) -> i64 {
        FIRST_ID
            + if draw.below(self.hot_auctions) > 0 {
                epoch.last_auction / HOT_SPACING * HOT_SPACING
            } else {
                let first = (epoch.last_auction - AUCTIONS_IN_FLIGHT).max(0);
                first + draw.below_i64(epoch.last_auction - first + 1 + ID_LEAD)
            }
    }
    /// The bidder of a bid. The Java generator adds the first person id twice; results that depend on how bidders meet
    /// persons can only be compared when this one does, too.
    #[inline]
    pub(super) fn bidder(&self, epoch: &Epoch, draw: &mut Draw) -> i64 {
        2 * FIRST_ID
            + if draw.below(self.hot_bidders) > 0 {
                // The second of the hundred, so that hot bidders and hot sellers are different persons.
                epoch.last_person / HOT_SPACING * HOT_SPACING + 1
            } else {
                epoch.active_person(draw)
            }
    }
}

impl Epoch {
    #[inline]
    fn active_person(&self, draw: &mut Draw) -> i64 {
        let people = self.last_person + 1;
        let active = people.min(ACTIVE_PEOPLE);
        people - active + draw.below_i64(active + ID_LEAD)
    }
}

/// The category of an auction.
#[inline]
pub(super) fn category(draw: &mut Draw) -> i64 {
    FIRST_CATEGORY_ID + i64::from(draw.below(CATEGORIES))
}
