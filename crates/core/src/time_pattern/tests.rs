//! The letters of patterns, written and read.

use super::*;
use crate::text;

fn show(pattern: &str) -> String {
    let moment = Moment {
        days: text::days_from_civil(2026, 2, 9),
        nanos_of_day: (13 * 3600 + 5 * 60 + 7) * 1_000_000_000 + 45_000_000,
        offset_seconds: 19_800,
    };
    let mut out = String::new();
    TimePattern::parse(pattern).expect("a pattern").push(moment, &mut out);
    out
}

#[test]
fn letters_are_those_of_java() {
    for (pattern, text) in [
        ("yyyy-MM-dd", "2026-02-09"),
        ("yy.M.d", "26.2.9"),
        ("uuuu_MM_dd_HH_mm_ss", "2026_02_09_13_05_07"),
        ("MMM EEE DDD Q", "Feb Mon 040 1"),
        ("MMMM EEEE", "February Monday"),
        ("hh:mm:ss.SSS a", "01:05:07.045 PM"),
        ("k K H", "13 1 13"),
        ("X XX XXX x Z", "+0530 +0530 +05:30 +0530 +0530"),
        ("yyyy'w'''", "2026w'"),
        ("''HH", "'13"),
        ("G YYYY w", "AD 2026 7"),
    ] {
        assert_eq!(show(pattern), text, "{pattern}");
    }
    for bad in ["bb", "yyyy'", "MMMMM", "VV"] {
        TimePattern::parse(bad).expect_err(bad);
    }
}

#[test]
fn what_is_written_can_be_read() {
    let read = |pattern: &str, text: &str| TimePattern::parse(pattern).expect("a pattern").read(text);
    let ms = text::days_from_civil(2026, 2, 9) * 86_400_000 + 47_107_045;
    assert_eq!(read("yyyy-MM-dd HH:mm:ss.SSS XXX", "2026-02-09 13:05:07.045 +05:30"), Some((ms, Some(19_800))));
    assert_eq!(read("d MMM yyyy hh:mm:ss a", "9 Feb 2026 01:05:07 PM"), Some((ms - 45, None)));
    assert_eq!(read("yyyyMMddX", "20260209Z"), Some((ms - 47_107_045, Some(0))));
    assert_eq!(read("yyyy-MM-dd", "2026-02-30"), None);
    assert_eq!(read("yyyy-MM-dd", "2026-02-03x"), None);
}
