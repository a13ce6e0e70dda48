//! Between instants and local date-times of the session's zone, as `java.time` does; knows nothing of text.

use chrono::{DateTime, NaiveDateTime, Offset, TimeZone};
use chrono_tz::Tz;

/// A zone by its name, as Java knows it; `default`, `Z` and `UTC` are UTC.
pub fn parse_zone(name: &str) -> Option<Tz> {
    let fixed = |rest: &str| {
        let hours: i32 = rest.strip_suffix(":00").unwrap_or(rest).parse().ok().filter(|h: &i32| h.abs() <= 14)?;
        // POSIX names have the sign the other way round.
        format!("Etc/GMT{}{}", if hours > 0 { '-' } else { '+' }, hours.abs()).parse().ok()
    };
    let rest = name.strip_prefix("GMT").or(name.strip_prefix("UTC")).unwrap_or(name);
    match name {
        "default" | "" | "Z" => Some(Tz::UTC),
        _ => name.parse().ok().or_else(|| fixed(rest)),
    }
}

/// Seconds to add to an instant to get its local time.
fn offset_at(zone: Tz, instant_s: i64) -> i64 {
    let Some(utc) = naive(instant_s) else { return 0 };
    i64::from(zone.offset_from_utc_datetime(&utc).fix().local_minus_utc())
}

fn naive(seconds: i64) -> Option<NaiveDateTime> {
    DateTime::from_timestamp(seconds, 0).map(|t| t.naive_utc())
}

/// The local date-time of an instant; both in `per_second` parts of a second.
pub(super) fn to_local(zone: Tz, instant: i64, per_second: i64) -> i64 {
    if zone == Tz::UTC {
        return instant;
    }
    instant.wrapping_add(offset_at(zone, instant.div_euclid(per_second)).wrapping_mul(per_second))
}

/// The instant of a local date-time: the earlier one where clocks go back, moved forward by the gap where there is none.
pub(super) fn to_instant(zone: Tz, local: i64, per_second: i64) -> i64 {
    if zone == Tz::UTC {
        return local;
    }
    let local_s = local.div_euclid(per_second);
    let Some(date_time) = naive(local_s) else { return local };
    let offset = match zone.offset_from_local_datetime(&date_time) {
        chrono::LocalResult::Single(o) | chrono::LocalResult::Ambiguous(o, _) => i64::from(o.fix().local_minus_utc()),
        chrono::LocalResult::None => offset_at(zone, local_s - 86_400),
    };
    local.wrapping_sub(offset.wrapping_mul(per_second))
}
