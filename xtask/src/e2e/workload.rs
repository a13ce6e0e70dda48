//! The events of a run and what the job must make of them. A function of the seed alone; knows nothing of the engine.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt::Write;

use crate::child::Random;

/// 2026-01-05 00:00:00 UTC.
const BASE_MS: i64 = 1_767_571_200_000;
/// All events together span one day.
const SPAN_MS: i64 = 86_400_000;
/// Rows are out of order by less than the job's watermark allows, so none is late.
const DISORDER_MS: u64 = 20_000;
/// What comes last: so far ahead that every window with a real event in it closes. Its keys reach every partition.
const CLOSERS: u64 = 100;
const CLOSER_MS: i64 = BASE_MS + SPAN_MS + 86_400_000;

const LARGE_CENTS: i64 = 40_000;
const EXPRESS_QUANTITY: i64 = 3;
const TOP: i64 = 5;

/// A result: key columns joined by tabs, and its other columns.
pub type Table = BTreeMap<String, String>;

/// The two topics.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    /// Orders: two of five events.
    Orders,
    /// Clicks: the rest.
    Clicks,
}

impl Topic {
    /// Its name.
    pub fn name(self) -> &'static str {
        if self == Self::Orders { "orders" } else { "clicks" }
    }
}

struct Event {
    id: u64,
    user: u64,
    product: u64,
    quantity: i64,
    cents: i64,
    time_ms: i64,
}

/// The `at`-th of `events` events.
fn event(seed: u64, at: u64, events: u64) -> (Topic, Event) {
    let mut random = Random::new(seed ^ at.wrapping_mul(0xA24B_AED4_963E_E407));
    let since = i64::try_from(u128::from(at) * SPAN_MS as u128 / u128::from(events)).unwrap_or(0);
    let topic = if at % 5 < 2 { Topic::Orders } else { Topic::Clicks };
    let (user, product, quantity) = (random.below(20_000) + 1, random.below(200) + 1, random.below(5) as i64 + 1);
    let time_ms = BASE_MS + since - random.below(DISORDER_MS) as i64;
    (topic, Event { id: at, user, product, quantity, cents: 199 + 50 * product as i64, time_ms })
}

/// Appends the events `from..to` of a topic as lines `key<TAB>json`; how many there were.
pub fn lines(seed: u64, topic: Topic, range: std::ops::Range<u64>, events: u64, out: &mut String) -> u64 {
    let mut count = 0;
    for at in range {
        let (of, e) = event(seed, at, events);
        if of == topic {
            line(topic, &e, out);
            count += 1;
        }
    }
    count
}

/// Appends the events that close every window; how many there are.
pub fn closers(topic: Topic, out: &mut String) -> u64 {
    for user in 1..=CLOSERS {
        line(topic, &Event { id: u64::MAX >> 1, user, product: user, quantity: 0, cents: 0, time_ms: CLOSER_MS }, out);
    }
    CLOSERS
}

fn line(topic: Topic, e: &Event, out: &mut String) {
    let (time, product) = (timestamp(e.time_ms), product(e.product));
    let done = match topic {
        Topic::Orders => writeln!(
            out,
            "{product}\t{{\"order_id\":{},\"user_id\":{},\"product\":\"{product}\",\"quantity\":{},\"cents\":{},\"order_time\":\"{time}\"}}",
            e.id, e.user, e.quantity, e.cents
        ),
        Topic::Clicks => {
            writeln!(out, "{product}\t{{\"user_id\":{},\"product\":\"{product}\",\"click_time\":\"{time}\"}}", e.user)
        }
    };
    done.expect("writing to a string cannot fail");
}

fn product(number: u64) -> String {
    format!("p-{number:03}")
}

/// `2026-01-05 00:00:00.000`, from milliseconds; by civil-from-days, independently of the engine's calendar.
fn timestamp(ms: i64) -> String {
    let (days, in_day) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (day, month) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
    let year = yoe + era * 400 + i64::from(month <= 2);
    let (h, m, s, milli) = (in_day / 3_600_000, in_day / 60_000 % 60, in_day / 1000 % 60, in_day % 1000);
    format!("{year:04}-{month:02}-{day:02} {h:02}:{m:02}:{s:02}.{milli:03}")
}

/// What the tables and the topic must hold in the end.
#[derive(Default)]
pub struct Expected {
    /// By name of the table.
    pub tables: BTreeMap<&'static str, Table>,
    /// order_id → the record's other members, as the harness reads them.
    pub express: Table,
    /// Events in each topic, closers included.
    pub orders: u64,
    /// The same of clicks.
    pub clicks: u64,
}

#[derive(Default)]
struct Sums {
    count: i64,
    items: i64,
    cents: i64,
    users: HashSet<u64>,
}

/// Computes it.
pub fn expected(seed: u64, events: u64) -> Expected {
    let mut minutes: BTreeMap<i64, Sums> = BTreeMap::new();
    let mut hours: BTreeMap<i64, Sums> = BTreeMap::new();
    let mut clicks: BTreeMap<i64, Sums> = BTreeMap::new();
    let mut products: BTreeMap<(i64, u64), Sums> = BTreeMap::new();
    let mut large = Table::new();
    let mut expected = Expected { orders: CLOSERS, clicks: CLOSERS, ..Expected::default() };
    for at in 0..events {
        let (topic, e) = event(seed, at, events);
        let (minute, hour) = (e.time_ms.div_euclid(60_000) * 60_000, e.time_ms.div_euclid(3_600_000) * 3_600_000);
        if topic == Topic::Clicks {
            expected.clicks += 1;
            let sums = clicks.entry(hour).or_default();
            sums.count += 1;
            sums.users.insert(e.user);
            continue;
        }
        expected.orders += 1;
        let cents = e.quantity * e.cents;
        let windows = [minutes.entry(minute).or_default(), products.entry((hour, e.product)).or_default()];
        for sums in windows.into_iter().chain([hours.entry(hour).or_default()]) {
            sums.count += 1;
            sums.items += e.quantity;
            sums.cents += cents;
        }
        hours.entry(hour).or_default().users.insert(e.user);
        let row = format!("{}\t{}\t{cents}\t{}", e.user, product(e.product), timestamp(e.time_ms));
        if cents >= LARGE_CENTS {
            large.insert(e.id.to_string(), row.clone());
        }
        if e.quantity >= EXPRESS_QUANTITY {
            expected.express.insert(e.id.to_string(), row);
        }
    }
    let table = |sums: BTreeMap<i64, Sums>, row: fn(&Sums) -> String| -> Table {
        sums.into_iter().map(|(start, s)| (timestamp(start), row(&s))).collect()
    };
    let top = top_products(&products);
    let products = products
        .into_iter()
        .map(|((hour, p), s)| (format!("{}\t{}", timestamp(hour), product(p)), format!("{}\t{}", s.count, s.cents)));
    expected.tables = BTreeMap::from([
        ("order_stats_minute", table(minutes, |s| format!("{}\t{}\t{}", s.count, s.items, s.cents))),
        ("order_stats_hour", table(hours, |s| format!("{}\t{}\t{}", s.count, s.users.len(), s.cents))),
        ("click_stats_hour", table(clicks, |s| format!("{}\t{}", s.count, s.users.len()))),
        ("product_stats_hour", products.collect()),
        ("top_products", top),
        ("large_orders", large),
        // None is late: a restore must not make it so.
        ("late_orders", Table::new()),
    ]);
    expected
}

/// The five best of every hour: revenue falling, then by name.
fn top_products(products: &BTreeMap<(i64, u64), Sums>) -> Table {
    let mut hours: BTreeMap<i64, Vec<(i64, String, i64)>> = BTreeMap::new();
    for ((hour, number), sums) in products {
        hours.entry(*hour).or_default().push((-sums.cents, product(*number), sums.count));
    }
    let mut top = Table::new();
    for (hour, mut all) in hours {
        all.sort();
        for (place, (revenue, name, orders)) in (1..=TOP).zip(all) {
            top.insert(format!("{}\t{place}", timestamp(hour)), format!("{name}\t{orders}\t{}", -revenue));
        }
    }
    top
}

/// The columns of a table: those of its key, and the others.
pub fn columns(table: &str) -> (&'static [&'static str], &'static [&'static str]) {
    match table {
        "order_stats_minute" => (&["minute_start"], &["orders", "items", "revenue_cents"]),
        "order_stats_hour" => (&["hour_start"], &["orders", "customers", "revenue_cents"]),
        "click_stats_hour" => (&["hour_start"], &["clicks", "visitors"]),
        "product_stats_hour" => (&["hour_start", "product"], &["orders", "revenue_cents"]),
        "top_products" => (&["hour_start", "place"], &["product", "orders", "revenue_cents"]),
        _ => (&["order_id"], &["user_id", "product", "order_cents", "order_time"]),
    }
}

/// Differences between what is there and what must be: every copy beyond the first is a duplicate, a wrong row is a loss.
#[derive(Default)]
pub struct Difference {
    /// Rows that are missing or wrong.
    pub lost: u64,
    /// Rows that are there too often, or should not be.
    pub duplicated: u64,
    /// The first few, in words.
    pub examples: Vec<String>,
}

impl Difference {
    /// Compares rows of `(key, values)` with what is expected of `name`.
    pub fn add(&mut self, name: &str, expected: &Table, found: impl Iterator<Item = (String, String)>) {
        let mut seen = BTreeSet::new();
        let mut wrong = Vec::new();
        for (key, values) in found {
            match expected.get(&key) {
                Some(right) if *right == values => {
                    if !seen.insert(key.clone()) {
                        self.duplicated += 1;
                        wrong.push(format!("{name}: {key} is there again"));
                    }
                }
                right => {
                    self.duplicated += 1;
                    wrong.push(format!("{name}: {key} is {values:?}, not {right:?}"));
                }
            }
        }
        for key in expected.keys().filter(|k| !seen.contains(*k)) {
            self.lost += 1;
            wrong.push(format!("{name}: {key} is missing"));
        }
        wrong.truncate(5);
        self.examples.extend(wrong);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calendar() {
        assert_eq!(timestamp(BASE_MS), "2026-01-05 00:00:00.000");
        assert_eq!(timestamp(951_868_799_999), "2000-02-29 23:59:59.999");
        assert_eq!(timestamp(-1), "1969-12-31 23:59:59.999");
    }

    #[test]
    fn losses_and_copies_are_told_apart() {
        let expected: Table = [("a", "1"), ("b", "2"), ("c", "3")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let found = [("a", "1"), ("a", "1"), ("b", "9")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        let mut difference = Difference::default();
        difference.add("t", &expected, found.into_iter());
        assert_eq!((difference.lost, difference.duplicated), (2, 2), "{:?}", difference.examples);
    }

    #[test]
    fn what_is_fed_is_what_is_expected() {
        let (mut text, events) = (String::new(), 1000);
        let orders = lines(7, Topic::Orders, 0..events, events, &mut text);
        let expected = expected(7, events);
        assert_eq!(orders + CLOSERS, expected.orders);
        let cents: i64 = text
            .lines()
            .map(|l| {
                let row: serde_json::Value = serde_json::from_str(l.split_once('\t').unwrap().1).unwrap();
                row["quantity"].as_i64().unwrap() * row["cents"].as_i64().unwrap()
            })
            .sum();
        let hours: i64 = expected.tables["order_stats_hour"]
            .values()
            .map(|v| v.rsplit('\t').next().unwrap().parse::<i64>().unwrap())
            .sum();
        assert_eq!(cents, hours);
        assert!(expected.tables["large_orders"].len() > 5 && expected.express.len() > 200);
    }
}
