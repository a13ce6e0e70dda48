//! Times in names of indices, by the letters of Java's `DateTimeFormatter`; knows no texts of other languages than English.

use flott_core::text;

/// A moment in a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Days since the epoch, on the clock of the zone.
    pub days: i64,
    /// Nanoseconds of the day, likewise.
    pub nanos_of_day: i64,
    /// The zone's distance from UTC.
    pub offset_seconds: i32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Letters(char, usize),
}

/// A pattern, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimePattern(Vec<Part>);

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

impl TimePattern {
    /// Parses a pattern; `Err` says which letters are not known.
    pub fn parse(pattern: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut chars = pattern.chars().peekable();
        while let Some(c) = chars.next() {
            if c == '\'' {
                let mut quoted = String::new();
                loop {
                    match (chars.next(), chars.peek()) {
                        (Some('\''), Some('\'')) => {
                            chars.next();
                            quoted.push('\'');
                        }
                        (Some('\''), _) => break,
                        (Some(c), _) => quoted.push(c),
                        (None, _) => return Err("a quote is not closed".into()),
                    }
                }
                // Two quotes outside of quotes are one.
                parts.push(Part::Text(if quoted.is_empty() { "'".into() } else { quoted }));
                continue;
            }
            if !c.is_ascii_alphabetic() {
                match parts.last_mut() {
                    Some(Part::Text(text)) => text.push(c),
                    _ => parts.push(Part::Text(c.into())),
                }
                continue;
            }
            let mut count = 1;
            while chars.next_if_eq(&c).is_some() {
                count += 1;
            }
            let most = match c {
                'y' | 'u' | 'S' => 9,
                'M' | 'L' | 'E' => 4,
                'D' => 3,
                'd' | 'H' | 'h' | 'k' | 'K' | 'm' | 's' | 'Q' => 2,
                'a' => 1,
                'X' | 'x' | 'Z' => 3,
                _ => 0,
            };
            if count > most {
                return Err(format!("'{}' is not supported", c.to_string().repeat(count)));
            }
            parts.push(Part::Letters(c, count));
        }
        Ok(TimePattern(parts))
    }

    /// Whether it asks for a day.
    pub fn needs_date(&self) -> bool {
        self.0.iter().any(|p| matches!(p, Part::Letters('y' | 'u' | 'M' | 'L' | 'E' | 'D' | 'd' | 'Q', _)))
    }

    /// Whether it asks for a time of the day.
    pub fn needs_time(&self) -> bool {
        self.0.iter().any(|p| matches!(p, Part::Letters('H' | 'h' | 'k' | 'K' | 'm' | 's' | 'S' | 'a', _)))
    }

    /// Whether it asks for a zone.
    pub fn needs_zone(&self) -> bool {
        self.0.iter().any(|p| matches!(p, Part::Letters('X' | 'x' | 'Z', _)))
    }

    /// Appends the text of a moment.
    pub fn push(&self, moment: Moment, out: &mut String) {
        for part in &self.0 {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Letters(letter, count) => push_letters(*letter, *count, moment, out),
            }
        }
    }
}

fn push_letters(letter: char, count: usize, moment: Moment, out: &mut String) {
    let (year, month, day) = text::civil_from_days(moment.days);
    let nanos = moment.nanos_of_day.unsigned_abs();
    let second = nanos / 1_000_000_000;
    let (hour, minute) = (second / 3600, second / 60 % 60);
    let mut number = |n: u64| text::push_padded(n, count, out);
    match letter {
        'y' | 'u' if count == 2 => number(year.rem_euclid(100).unsigned_abs()),
        'y' | 'u' => number(year.unsigned_abs()),
        'M' | 'L' if count <= 2 => number(month.into()),
        'M' | 'L' => {
            let name = MONTHS[month as usize - 1];
            out.push_str(if count == 3 { &name[..3] } else { name });
        }
        'Q' => number(u64::from((month - 1) / 3 + 1)),
        'd' => number(day.into()),
        'D' => number((moment.days - text::days_from_civil(year, 1, 1) + 1).unsigned_abs()),
        'E' => {
            let name = WEEKDAYS[(moment.days + 3).rem_euclid(7) as usize];
            out.push_str(if count <= 3 { &name[..3] } else { name });
        }
        'H' => number(hour),
        'k' => number(if hour == 0 { 24 } else { hour }),
        'K' => number(hour % 12),
        'h' => number((hour + 11) % 12 + 1),
        'a' => out.push_str(if hour < 12 { "AM" } else { "PM" }),
        'm' => number(minute),
        's' => number(second % 60),
        'S' => number(nanos % 1_000_000_000 / 10u64.pow(9 - count as u32)),
        _ => push_offset(letter, count, moment.offset_seconds, out),
    }
}

/// `X`: `Z`, `+02`, `+0230`; `XX`: `+0200`; `XXX`: `+02:00`. `x` never writes `Z`; `Z` is `xx`.
fn push_offset(letter: char, count: usize, seconds: i32, out: &mut String) {
    if letter == 'X' && seconds == 0 {
        return out.push('Z');
    }
    let count = if letter == 'Z' { 2 } else { count };
    out.push(if seconds < 0 { '-' } else { '+' });
    let minutes = u64::from(seconds.unsigned_abs() / 60);
    text::push_padded(minutes / 60, 2, out);
    if count == 3 {
        out.push(':');
    }
    if count > 1 || minutes % 60 != 0 {
        text::push_padded(minutes % 60, 2, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        ] {
            assert_eq!(show(pattern), text, "{pattern}");
        }
        for bad in ["YYYY-ww", "yyyy'", "MMMMM", "n"] {
            TimePattern::parse(bad).expect_err(bad);
        }
    }
}
