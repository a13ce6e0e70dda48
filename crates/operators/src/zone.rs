//! Session time zones: instants to local times and back, by Flink's rules for gaps and overlaps. Never asks the machine.

use chrono::{LocalResult, NaiveDateTime, Offset, TimeZone};
use chrono_tz::Tz;
use flott_core::config::{Configuration, keys};
use flott_core::error::{Error, Result};

const HOUR_MS: i64 = 3_600_000;
/// Zone offsets are looked up once per block of this length.
const BLOCK_MS: i64 = 900_000;

/// A zone by its name; `default` and `UTC` are UTC.
pub(crate) fn parse_zone(name: &str) -> Result<Tz> {
    flott_expr::parse_zone(name).ok_or_else(|| {
        Error::user("config.zone", format!("`{name}` is not a time zone"))
            .hint("give a name such as Europe/Berlin, UTC or GMT+08:00 as table.local-time-zone")
    })
}

/// The session's zone.
pub(crate) fn session_zone(config: &Configuration) -> Result<Tz> {
    parse_zone(config.string(keys::LOCAL_TIME_ZONE).as_deref().unwrap_or("UTC"))
}

/// Converts between instants and local times of one zone. UTC costs nothing.
pub(crate) struct ZoneShift {
    zone: Option<Tz>,
    block: (i64, i64),
}

impl ZoneShift {
    /// A shift for a zone; `None`: the times are local already.
    pub(crate) fn new(zone: Option<&str>) -> Result<Self> {
        let zone = zone.map(parse_zone).transpose()?.filter(|z| *z != Tz::UTC);
        Ok(ZoneShift { zone, block: (i64::MIN, 0) })
    }
    /// Whether both are the same.
    pub(crate) fn is_identity(&self) -> bool {
        self.zone.is_none()
    }
    /// Local time of an instant, both in milliseconds.
    pub(crate) fn local_of(&mut self, instant_ms: i64) -> i64 {
        let Some(zone) = self.zone else { return instant_ms };
        let block = instant_ms.div_euclid(BLOCK_MS);
        if self.block.0 == block {
            return instant_ms + self.block.1;
        }
        let offset = offset_ms(zone, instant_ms);
        let (from, to) = (block * BLOCK_MS, (block + 1) * BLOCK_MS - 1);
        if offset_ms(zone, from) == offset && offset_ms(zone, to) == offset {
            self.block = (block, offset);
        }
        instant_ms + offset
    }
    /// The instant of a local time: the earlier one where there are two, moved past the gap where there is none.
    pub(crate) fn to_instant(&self, local_ms: i64) -> i64 {
        let Some(zone) = self.zone else { return local_ms };
        let Some(local) = naive(local_ms) else { return local_ms };
        match zone.from_local_datetime(&local) {
            LocalResult::Single(t) => t.timestamp_millis(),
            LocalResult::Ambiguous(a, b) => a.timestamp_millis().min(b.timestamp_millis()),
            LocalResult::None => local_ms - offset_ms(zone, local_ms - offset_ms(zone, local_ms) - 24 * HOUR_MS),
        }
    }
    /// When a timer for a local time is due: after both instants of an overlap, at the end of a gap.
    pub(crate) fn timer_instant(&self, local_ms: i64) -> i64 {
        let (first, later) = (self.to_instant(local_ms), self.to_instant(local_ms.saturating_add(HOUR_MS)));
        if self.is_identity() {
            return local_ms;
        }
        match later - first {
            0 => first - first.rem_euclid(HOUR_MS),
            gap if gap > HOUR_MS => first + HOUR_MS,
            _ => first,
        }
    }
}

fn naive(ms: i64) -> Option<NaiveDateTime> {
    chrono::DateTime::from_timestamp_millis(ms).map(|t| t.naive_utc())
}

fn offset_ms(zone: Tz, instant_ms: i64) -> i64 {
    let Some(at) = naive(instant_ms) else { return 0 };
    i64::from(zone.offset_from_utc_datetime(&at).fix().local_minus_utc()) * 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn daylight_saving_follows_flink() {
        let mut zone = ZoneShift::new(Some("America/Los_Angeles")).expect("a known zone");
        // 2021-03-14: 02:00 to 03:00 does not exist; 10:00 UTC is 03:00 local.
        let gap_end = 1_615_716_000_000;
        let local_two = 1_615_687_200_000;
        assert_eq!(zone.local_of(gap_end - 1), local_two - 1);
        assert_eq!(zone.local_of(gap_end), local_two + HOUR_MS);
        assert_eq!(zone.timer_instant(local_two + 1_800_000), gap_end);
        // 2021-11-07: 01:00 to 02:00 exists twice; the window that ends in it fires after the second.
        let local_one = 1_636_246_800_000;
        assert_eq!(zone.to_instant(local_one), 1_636_272_000_000);
        assert_eq!(zone.timer_instant(local_one), 1_636_272_000_000 + HOUR_MS);
    }

    #[test]
    fn fixed_offsets_and_nonsense() {
        let mut zone = ZoneShift::new(Some("GMT+08:00")).expect("a fixed zone");
        assert_eq!(zone.local_of(0), 8 * HOUR_MS);
        assert_eq!(zone.to_instant(8 * HOUR_MS), 0);
        assert!(parse_zone("Mars/Olympus").is_err());
    }
}
