//! Times to and from text by Java's `DateTimeFormatter` patterns, in English; knows no zones but their distance from UTC.

use crate::text::{civil_from_days, days_from_civil, days_in_month, format_date, push_padded};

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
const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// A moment on the clock of a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Days since the epoch.
    pub days: i64,
    /// Nanoseconds of the day.
    pub nanos_of_day: i64,
    /// The zone's distance from UTC.
    pub offset_seconds: i32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Item {
    Text(String),
    /// A letter and how often it stands there.
    Field(char, usize),
}

/// A pattern, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimePattern {
    items: Vec<Item>,
    /// `yyyy-MM-dd` and nothing else.
    date: bool,
}

impl TimePattern {
    /// Takes a pattern apart; `Err` says what is not understood.
    pub fn parse(pattern: &str) -> Result<Self, String> {
        let mut items: Vec<Item> = Vec::new();
        let mut chars = pattern.chars().peekable();
        let mut quoted = false;
        while let Some(c) = chars.next() {
            if c == '\'' && chars.peek() == Some(&'\'') {
                chars.next();
                push_text(&mut items, '\'');
            } else if c == '\'' {
                quoted = !quoted;
            } else if !quoted && c.is_ascii_alphabetic() {
                let mut count = 1;
                while chars.next_if_eq(&c).is_some() {
                    count += 1;
                }
                match most(c) {
                    0 => return Err(format!("unknown letter '{c}' in the pattern '{pattern}'")),
                    most if count > most => {
                        return Err(format!("more than {most} letters '{c}' in the pattern '{pattern}'"));
                    }
                    _ => items.push(Item::Field(c, count)),
                }
            } else {
                push_text(&mut items, c);
            }
        }
        if quoted {
            return Err(format!("the pattern '{pattern}' has an open quote"));
        }
        Ok(TimePattern { items, date: pattern == "yyyy-MM-dd" })
    }

    fn has(&self, letters: &str) -> bool {
        self.items.iter().any(|i| matches!(i, Item::Field(c, _) if letters.contains(*c)))
    }

    /// Whether it asks for a day.
    pub fn needs_date(&self) -> bool {
        self.has("GyuYMLQwEDd")
    }

    /// Whether it asks for a time of the day.
    pub fn needs_time(&self) -> bool {
        self.has("HhkKmsSan")
    }

    /// Whether it asks for a zone.
    pub fn needs_zone(&self) -> bool {
        self.has("XxZ")
    }

    /// Seconds that all show the same, from the epoch on; 0 when the fraction is shown.
    pub fn grain_s(&self) -> i64 {
        let finest = |item: &Item| match item {
            Item::Text(_) => 86_400,
            Item::Field('S' | 'n', _) => 0,
            Item::Field('s', _) => 1,
            Item::Field('m', _) => 60,
            Item::Field('H' | 'h' | 'k' | 'K' | 'a', _) => 3600,
            Item::Field(..) => 86_400,
        };
        self.items.iter().map(finest).min().unwrap_or(86_400)
    }

    /// Writes a local time in `per_second` parts of a second.
    pub fn write(&self, value: i64, per_second: i64, out: &mut String) {
        let seconds = value.div_euclid(per_second);
        let days = seconds.div_euclid(86_400);
        if self.date {
            return format_date(days, out);
        }
        let nanos = value.rem_euclid(per_second) * (1_000_000_000 / per_second);
        let nanos_of_day = seconds.rem_euclid(86_400) * 1_000_000_000 + nanos;
        self.push(Moment { days, nanos_of_day, offset_seconds: 0 }, out);
    }

    /// Writes a moment.
    pub fn push(&self, moment: Moment, out: &mut String) {
        for item in &self.items {
            match item {
                Item::Text(text) => out.push_str(text),
                Item::Field(letter, count) => push_field(*letter, *count, moment, out),
            }
        }
    }

    /// Reads a local time as milliseconds, and the zone's distance from UTC where the pattern has one; `None` for text of another form.
    pub fn read(&self, text: &str) -> Option<(i64, Option<i32>)> {
        let mut found = Found::default();
        let mut rest = text;
        for (k, item) in self.items.iter().enumerate() {
            match item {
                Item::Text(expected) => rest = rest.strip_prefix(expected.as_str())?,
                Item::Field(letter, count) => {
                    let adjacent = matches!(self.items.get(k + 1), Some(Item::Field(..)));
                    rest = found.field(*letter, *count, adjacent, rest)?;
                }
            }
        }
        if rest.is_empty() { Some((found.ms()?, found.offset_seconds)) } else { None }
    }
}

/// How often a letter may stand in a row; 0: never.
fn most(letter: char) -> usize {
    match letter {
        'y' | 'u' | 'Y' | 'S' | 'n' => 9,
        'M' | 'L' | 'E' | 'G' => 4,
        'D' | 'X' | 'x' | 'Z' => 3,
        'd' | 'H' | 'h' | 'k' | 'K' | 'm' | 's' | 'Q' | 'w' => 2,
        'a' => 1,
        _ => 0,
    }
}

fn push_field(letter: char, count: usize, moment: Moment, out: &mut String) {
    let (year, month, day) = civil_from_days(moment.days);
    let nanos = moment.nanos_of_day.unsigned_abs();
    let of_day = nanos / 1_000_000_000;
    let hour = of_day / 3600;
    let weekday = DAYS[(moment.days + 3).rem_euclid(7) as usize];
    match (letter, count) {
        ('y' | 'u' | 'Y', _) => {
            let year = if letter == 'Y' { us_week(moment.days).0 } else { year };
            if count == 2 {
                return push_padded(year.rem_euclid(100) as u64, 2, out);
            }
            out.push_str(if year < 0 { "-" } else { "" });
            push_padded(year.unsigned_abs(), count, out);
        }
        ('G', 4) => out.push_str(if year > 0 { "Anno Domini" } else { "Before Christ" }),
        ('G', _) => out.push_str(if year > 0 { "AD" } else { "BC" }),
        ('M' | 'L', 3) => out.push_str(&MONTHS[month as usize - 1][..3]),
        ('M' | 'L', 4..) => out.push_str(MONTHS[month as usize - 1]),
        ('M' | 'L', _) => push_padded(month.into(), count, out),
        ('d', _) => push_padded(day.into(), count, out),
        ('D', _) => push_padded((moment.days - days_from_civil(year, 1, 1) + 1) as u64, count, out),
        ('H', _) => push_padded(hour, count, out),
        ('k', _) => push_padded(if hour == 0 { 24 } else { hour }, count, out),
        ('K', _) => push_padded(hour % 12, count, out),
        ('h', _) => push_padded(if hour.is_multiple_of(12) { 12 } else { hour % 12 }, count, out),
        ('m', _) => push_padded(of_day / 60 % 60, count, out),
        ('s', _) => push_padded(of_day % 60, count, out),
        ('S', _) => push_padded(nanos % 1_000_000_000 / 10u64.pow(9 - count as u32), count, out),
        ('n', _) => push_padded(nanos % 1_000_000_000, count, out),
        ('a', _) => out.push_str(if hour < 12 { "AM" } else { "PM" }),
        ('E', 4..) => out.push_str(weekday),
        ('E', _) => out.push_str(&weekday[..3]),
        ('w', _) => push_padded(us_week(moment.days).1 as u64, count, out),
        ('Q', _) => push_padded(u64::from(month).div_ceil(3), count, out),
        _ => push_offset(letter, count, moment.offset_seconds, out),
    }
}

/// Year and week of Java's default locale: weeks begin on Sunday, the first one holds January 1.
fn us_week(days: i64) -> (i64, i64) {
    let sunday = days - (days + 4).rem_euclid(7);
    // The Saturday of a week says which year the week belongs to.
    let year = civil_from_days(sunday + 6).0;
    let first = days_from_civil(year, 1, 1);
    (year, (sunday - (first - (first + 4).rem_euclid(7))) / 7 + 1)
}

/// `X`: `Z`, `+02`, `+0230`; `XX`: `+0200`; `XXX`: `+02:00`. `x` never writes `Z`; `Z` is `xx`.
fn push_offset(letter: char, count: usize, seconds: i32, out: &mut String) {
    if letter == 'X' && seconds == 0 {
        return out.push('Z');
    }
    let count = if letter == 'Z' { 2 } else { count };
    out.push(if seconds < 0 { '-' } else { '+' });
    let minutes = u64::from(seconds.unsigned_abs() / 60);
    push_padded(minutes / 60, 2, out);
    if count == 3 {
        out.push(':');
    }
    if count > 1 || minutes % 60 != 0 {
        push_padded(minutes % 60, 2, out);
    }
}

/// Reads `Z`, `+02`, `+0200` or `+02:00` at the start of a text; gives what follows.
fn read_offset(text: &str) -> Option<(i32, &str)> {
    if let Some(rest) = text.strip_prefix('Z') {
        return Some((0, rest));
    }
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let two =
        |t: &str| t.get(..2).filter(|d| d.bytes().all(|b| b.is_ascii_digit())).and_then(|d| d.parse::<i32>().ok());
    let hours = two(&text[1..])?;
    let rest = &text[3..];
    let after = rest.strip_prefix(':').unwrap_or(rest);
    match two(after) {
        Some(minutes) => Some((sign * (hours * 60 + minutes) * 60, &after[2..])),
        None => Some((sign * hours * 3600, rest)),
    }
}

fn push_text(items: &mut Vec<Item>, c: char) {
    match items.last_mut() {
        Some(Item::Text(text)) => text.push(c),
        _ => items.push(Item::Text(c.to_string())),
    }
}

/// What was read of a time.
struct Found {
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    ms: i64,
    half_day: Option<i64>,
    offset_seconds: Option<i32>,
}

impl Default for Found {
    fn default() -> Self {
        Found {
            year: 1970,
            month: 1,
            day: 1,
            hour: 0,
            minute: 0,
            second: 0,
            ms: 0,
            half_day: None,
            offset_seconds: None,
        }
    }
}

impl Found {
    /// Reads one field at the start of `text`; gives what follows.
    fn field<'a>(&mut self, letter: char, count: usize, adjacent: bool, text: &'a str) -> Option<&'a str> {
        if letter == 'M' && count >= 3 || letter == 'a' || letter == 'E' {
            return self.name(letter, count, text);
        }
        if "XxZ".contains(letter) {
            let (offset, rest) = read_offset(text)?;
            self.offset_seconds = Some(offset);
            return Some(rest);
        }
        let max = match letter {
            'y' | 'u' if count != 2 && !adjacent => 6,
            'S' => count,
            _ if adjacent => count,
            _ => count.max(2),
        };
        let length = text.bytes().take(max).take_while(u8::is_ascii_digit).count();
        let (digits, rest) = text.split_at(length);
        let n: i64 = digits.parse().ok()?;
        match letter {
            'y' | 'u' => self.year = if count == 2 { 2000 + n } else { n },
            'M' | 'L' => self.month = n,
            'd' => self.day = n,
            'H' => self.hour = n,
            'k' => self.hour = n % 24,
            'h' | 'K' => self.hour = n % 12,
            'm' => self.minute = n,
            's' => self.second = n,
            'S' => self.ms = n * 1000 / 10i64.checked_pow(u32::try_from(length).ok()?)?,
            _ => return None,
        }
        Some(rest)
    }

    fn name<'a>(&mut self, letter: char, count: usize, text: &'a str) -> Option<&'a str> {
        let strip = |names: &[&str]| {
            names.iter().enumerate().find_map(|(i, name)| {
                let name = if count >= 4 { *name } else { &name[..3] };
                let head = text.get(..name.len())?;
                head.eq_ignore_ascii_case(name).then(|| (i as i64, &text[name.len()..]))
            })
        };
        match letter {
            'M' => {
                let (month, rest) = strip(&MONTHS)?;
                self.month = month + 1;
                Some(rest)
            }
            'E' => strip(&DAYS).map(|(_, rest)| rest),
            _ => {
                self.half_day = Some(match text.get(..2)? {
                    t if t.eq_ignore_ascii_case("AM") => 0,
                    t if t.eq_ignore_ascii_case("PM") => 12,
                    _ => return None,
                });
                Some(&text[2..])
            }
        }
    }

    fn ms(&self) -> Option<i64> {
        let month = u32::try_from(self.month).ok().filter(|m| (1..=12).contains(m))?;
        let day = u32::try_from(self.day).ok().filter(|d| (1..=days_in_month(self.year, month)).contains(d))?;
        let hour = self.hour + self.half_day.unwrap_or(0);
        if hour > 23 || self.minute > 59 || self.second > 59 {
            return None;
        }
        let of_day = ((hour * 60 + self.minute) * 60 + self.second) * 1000 + self.ms;
        Some(days_from_civil(self.year, month, day) * 86_400_000 + of_day)
    }
}

#[cfg(test)]
mod tests;
