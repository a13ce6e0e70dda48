//! Options of the connector `nexmark`: the Java generator's, plus `seed` and `base-time`; never read outside this folder.

use flott_core::registry::{OptionSpec, TableSpec};
use flott_core::text::parse_timestamp_units;
use flott_core::{Error, Result};

use super::reader::{BLOCK_EVENTS_MAX, SPLITS};
use super::text::EXTRA_BYTES_MAX;
use crate::options::{TableOptions, option};

/// 2015-07-15 00:00:00: event times must not depend on when a job starts.
const BASE_TIME: &str = "2015-07-15 00:00:00";

/// Every option of the connector.
pub static OPTIONS: &[OptionSpec] = &[
    option("events.num", "BIGINT", "0", false, "Number of events; 0 never ends."),
    option("seed", "BIGINT", "0", false, "Event n is a function of the seed and n alone."),
    option(
        "base-time",
        "STRING",
        BASE_TIME,
        false,
        "Event time of the first event: a timestamp, or milliseconds since the epoch.",
    ),
    option("first-event.rate", "INT", "10000", false, "Events per second of event time."),
    option(
        "next-event.rate",
        "INT",
        "10000",
        false,
        "The same as first-event.rate: rates that change are not supported.",
    ),
    option(
        "rate.limited",
        "BOOLEAN",
        "false",
        false,
        "Emit each event no earlier than its event time says, counted from the start.",
    ),
    option("max-emit-speed", "BOOLEAN", "true", false, "false is rate.limited = true."),
    option("rate.shape", "ENUM(SQUARE|SINE)", "SQUARE", false, "Without effect while the rate does not change."),
    option("rate.period", "DURATION", "600 s", false, "Without effect while the rate does not change."),
    option("person.proportion", "INT", "1", false, "Persons in a round of events."),
    option("auction.proportion", "INT", "3", false, "Auctions in a round of events."),
    option("bid.proportion", "INT", "46", false, "Bids in a round of events."),
    option("person.avg-size", "MEMORY", "200b", false, "Average size of a person."),
    option("auction.avg-size", "MEMORY", "500b", false, "Average size of an auction."),
    option("bid.avg-size", "MEMORY", "100b", false, "Average size of a bid."),
    option("bid.hot-ratio.auctions", "INT", "2", false, "One bid in this many is not for a hot auction."),
    option("bid.hot-ratio.bidders", "INT", "4", false, "One bid in this many is not by a hot bidder."),
    option("auction.hot-ratio.sellers", "INT", "4", false, "One auction in this many is not by a hot seller."),
    option("keep-alive", "BOOLEAN", "false", false, "The source stays after its last event."),
    option("stop-at", "BIGINT", "-1", false, "Stop at this number of events, if it is not negative."),
];

/// The options as values.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct NexmarkOptions {
    pub(super) seed: u64,
    /// Number of events; `None` goes on for ever.
    pub(super) events: Option<i64>,
    pub(super) base_time_ms: i64,
    pub(super) event_delay_us: f64,
    /// Events of a block: the unit in which splits share the stream.
    pub(super) block_events: i64,
    pub(super) paced: bool,
    pub(super) keep_alive: bool,
    pub(super) persons: i64,
    pub(super) auctions: i64,
    pub(super) bids: i64,
    pub(super) person_bytes: usize,
    pub(super) auction_bytes: usize,
    pub(super) bid_bytes: usize,
    pub(super) hot_auctions: u32,
    pub(super) hot_bidders: u32,
    pub(super) hot_sellers: u32,
}

impl NexmarkOptions {
    /// The options of a table; `User` error when one is unknown or makes no sense.
    pub(super) fn parse(table: &TableSpec) -> Result<Self> {
        let o = TableOptions::checked(table, &[OPTIONS])?;
        let whole = |key: &str, default: i64, least: i64| {
            let n = o.number::<i64>(key, "a whole number")?.unwrap_or(default);
            // Proportions, ratios and rates are INT in Flink; counts are not, but overflow is far above either.
            let most = if matches!(key, "events.num" | "stop-at" | "seed") {
                i64::MAX / 1_000_000
            } else {
                i64::from(i32::MAX)
            };
            let fits = key == "seed" || (least..=most).contains(&n);
            if fits { Ok(n) } else { Err(o.bad(key, format!("a number from {least} to {most}"))) }
        };
        let ratio = |key: &str, default: i64| whole(key, default, 1).map(|n| n as u32);
        let size = |key: &str, default: u64| {
            let bytes = o.memory_bytes(key)?.unwrap_or(default);
            let fits = usize::try_from(bytes).ok().filter(|b| *b <= EXTRA_BYTES_MAX);
            fits.ok_or_else(|| o.bad(key, format!("a size up to {EXTRA_BYTES_MAX} bytes")))
        };
        let first_rate = whole("first-event.rate", 10_000, 1)?;
        let next_rate = whole("next-event.rate", 10_000, 1)?;
        let rate = match (o.text("first-event.rate"), o.text("next-event.rate")) {
            (Some(_), Some(_)) if first_rate != next_rate => {
                return Err(o
                    .bad("next-event.rate", format!("the same as 'first-event.rate' = '{first_rate}'"))
                    .hint("the event rate is constant: give both options one value, or only one of them"));
            }
            (None, Some(_)) => next_rate,
            _ => first_rate,
        };
        o.one_of("rate.shape", &["SQUARE", "SINE"], 0)?;
        o.duration_ms("rate.period")?;
        let events = match (whole("events.num", 0, 0)?, whole("stop-at", -1, -1)?) {
            (0, -1) => None,
            (0, stop) => Some(stop),
            (events, -1) => Some(events),
            (events, stop) => Some(events.min(stop)),
        };
        let paced = o.flag("rate.limited", false)? || !o.flag("max-emit-speed", true)?;
        let options = NexmarkOptions {
            seed: whole("seed", 0, i64::MIN)? as u64,
            events,
            base_time_ms: base_time_ms(&o)?,
            event_delay_us: 1_000_000.0 / rate as f64,
            block_events: if paced { paced_block_events(rate) } else { BLOCK_EVENTS_MAX },
            paced,
            keep_alive: o.flag("keep-alive", false)?,
            persons: whole("person.proportion", 1, 0)?,
            auctions: whole("auction.proportion", 3, 0)?,
            bids: whole("bid.proportion", 46, 0)?,
            person_bytes: size("person.avg-size", 200)?,
            auction_bytes: size("auction.avg-size", 500)?,
            bid_bytes: size("bid.avg-size", 100)?,
            hot_auctions: ratio("bid.hot-ratio.auctions", 2)?,
            hot_bidders: ratio("bid.hot-ratio.bidders", 4)?,
            hot_sellers: ratio("auction.hot-ratio.sellers", 4)?,
        };
        if options.epoch_len() == 0 {
            return Err(Error::user("table.bad-option", format!("table `{}`: all proportions are 0", table.name))
                .detail("a round of events must hold at least one person, auction or bid")
                .hint("leave out person.proportion, auction.proportion and bid.proportion for 1 : 3 : 46"));
        }
        Ok(options)
    }
}

fn base_time_ms(o: &TableOptions<'_>) -> Result<i64> {
    let text = o.text("base-time").unwrap_or(BASE_TIME).trim();
    let ms = text.parse::<i64>().ok().or_else(|| parse_timestamp_units(text, 3));
    // Room for event times above it: year 10000 and beyond are of no use to a benchmark.
    let fits = ms.filter(|ms| ms.abs() < 253_402_300_800_000);
    fits.ok_or_else(|| o.bad("base-time", "a timestamp such as '2015-07-15 00:00:00', or milliseconds since the epoch"))
}

/// A round over all splits takes about 100 ms: a slow stream with large blocks would leave the watermarks of most splits, and so
/// of the source, minutes behind.
fn paced_block_events(rate: i64) -> i64 {
    (rate / 10 / SPLITS).clamp(1, BLOCK_EVENTS_MAX)
}
