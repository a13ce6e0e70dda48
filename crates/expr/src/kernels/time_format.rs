//! Times to and from text by Java's `DateTimeFormatter` patterns; a constant pattern is analysed once, usual ones are written without interpretation.

use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_array::types::*;
use flott_core::text::{
    civil_from_days, days_from_civil, days_in_month, format_date, parse_date, parse_timestamp_units, push_padded,
};
use flott_core::types::{DataType, TypeKind};
use flott_core::{Error, Result};
use flott_plan::expr::Expr;

use super::lift::{primitive, rows_opt, rows_text, text};
use super::temporal::{iso_day, iso_week};
use super::units::seconds_like;
use super::{Compiled, constant_text, zone};
use crate::compile::{EvalContext, Value};

/// The pattern when none is given.
const DEFAULT: &str = "yyyy-MM-dd HH:mm:ss";
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

/// The kernel, if `function` is one of these.
pub(super) fn kernel(function: &str, args: &[Expr], _out: &DataType) -> Result<Option<Compiled>> {
    let pattern_at = match (function, args.len()) {
        ("DATE_FORMAT", 2) | ("FROM_UNIXTIME" | "TO_TIMESTAMP" | "TO_DATE" | "UNIX_TIMESTAMP", 1 | 2) => 1,
        ("TO_TIMESTAMP_LTZ", 1 | 2) if args[0].data_type.kind.is_string() => 1,
        ("TO_TIMESTAMP_LTZ", 2) => return Ok(Some(instant_of_number(args))),
        _ => return Ok(None),
    };
    let patterns = Patterns {
        constant: match args.get(pattern_at) {
            None => Some(Pattern::parse(if function == "TO_DATE" { "yyyy-MM-dd" } else { DEFAULT })?),
            Some(e) => constant_text(e).map(Pattern::parse).transpose()?,
        },
        standard: args.len() == pattern_at,
        at: pattern_at,
    };
    let fallible = patterns.constant.is_none();
    let kind = args[0].data_type.kind.clone();
    let kernel: super::Kernel = match function {
        "DATE_FORMAT" => Box::new(move |args, n, ctx| date_format(&patterns, &kind, args, n, ctx)),
        "FROM_UNIXTIME" => Box::new(move |args, n, ctx| {
            let (source, m) = (primitive::<Int64Type>(&args[0])?, args[0].row_mask());
            let refs: Vec<&Value> = args.iter().collect();
            let out = rows_text(&refs, n, |i, out| {
                let local = zone::to_local(ctx.zone, source.value(i & m), 1);
                patterns.with(args, i, |p| p.write(local, 1, out))?;
                Ok(true)
            })?;
            Ok(Arc::new(out))
        }),
        "TO_DATE" => Box::new(move |args, n, _| {
            read::<Date32Type>(&patterns, args, n, |ms| i32::try_from(ms.div_euclid(86_400_000)).ok())
        }),
        "TO_TIMESTAMP" => Box::new(move |args, n, _| read::<TimestampMillisecondType>(&patterns, args, n, Some)),
        "TO_TIMESTAMP_LTZ" => Box::new(move |args, n, _| {
            let out = read::<TimestampMillisecondType>(&patterns, args, n, Some)?;
            let value = Value::Array(out);
            let typed = primitive::<TimestampMillisecondType>(&value)?.clone();
            Ok(Arc::new(typed.with_timezone("UTC")))
        }),
        // Flink gives the smallest BIGINT for text it cannot read.
        _ => Box::new(move |args, n, ctx| {
            let out = read_or::<Int64Type>(&patterns, args, n, Some(i64::MIN), |ms| {
                Some(zone::to_instant(ctx.zone, ms, 1000).div_euclid(1000))
            })?;
            Ok(out)
        }),
    };
    Ok(Some(Compiled { kernel, fallible }))
}

fn instant_of_number(args: &[Expr]) -> Compiled {
    let factor = match &args[1].kind {
        flott_plan::expr::ExprKind::Literal(flott_plan::expr::Literal::Int(0)) => 1000,
        _ => 1,
    };
    let double = args[0].data_type.kind == TypeKind::Double;
    Compiled::total(move |args, n, _| {
        let m = args[0].row_mask();
        let out = match double {
            true => {
                let source = primitive::<Float64Type>(&args[0])?;
                rows_opt::<TimestampMillisecondType>(&[&args[0]], n, |i| {
                    (source.value(i & m) as i64).checked_mul(factor)
                })?
            }
            false => {
                let source = primitive::<Int64Type>(&args[0])?;
                rows_opt::<TimestampMillisecondType>(&[&args[0]], n, |i| source.value(i & m).checked_mul(factor))?
            }
        };
        Ok(Arc::new(out.with_timezone("UTC")))
    })
}

/// The pattern of each row.
struct Patterns {
    constant: Option<Pattern>,
    /// No pattern was given: the standard text form, fraction and all, is read.
    standard: bool,
    at: usize,
}

impl Patterns {
    fn with<R>(&self, args: &[Value], i: usize, f: impl FnOnce(&Pattern) -> R) -> Result<R> {
        match &self.constant {
            Some(pattern) => Ok(f(pattern)),
            None => {
                let patterns = text(&args[self.at])?;
                Ok(f(&Pattern::parse(patterns.value(i & args[self.at].row_mask()))?))
            }
        }
    }
}

fn date_format(
    patterns: &Patterns,
    kind: &TypeKind,
    args: &[Value],
    rows: usize,
    ctx: &EvalContext,
) -> Result<ArrayRef> {
    let (values, per_second) = seconds_like(args[0].array(), kind, Some(ctx))?;
    let m = args[0].row_mask();
    let refs: Vec<&Value> = args.iter().collect();
    let Some(pattern) = &patterns.constant else {
        let out = rows_text(&refs, rows, |i, out| {
            patterns.with(args, i, |p| p.write(values.value(i & m), per_second, out))?;
            Ok(true)
        })?;
        return Ok(Arc::new(out));
    };
    // Neighbouring rows mostly share what the pattern shows of them.
    let grain = pattern.grain_s() * per_second;
    let mut last = (i64::MIN, String::new());
    let out = rows_text(&refs, rows, |i, out| {
        let value = values.value(i & m);
        let bucket = if grain > 0 { value.div_euclid(grain) } else { i64::MIN };
        if bucket == i64::MIN || bucket != last.0 {
            last.0 = bucket;
            last.1.clear();
            pattern.write(value, per_second, &mut last.1);
        }
        out.push_str(&last.1);
        Ok(true)
    })?;
    Ok(Arc::new(out))
}

fn read<T: arrow_array::ArrowPrimitiveType>(
    patterns: &Patterns,
    args: &[Value],
    rows: usize,
    f: impl Fn(i64) -> Option<T::Native>,
) -> Result<ArrayRef> {
    read_or::<T>(patterns, args, rows, None, f)
}

fn read_or<T: arrow_array::ArrowPrimitiveType>(
    patterns: &Patterns,
    args: &[Value],
    rows: usize,
    otherwise: Option<T::Native>,
    f: impl Fn(i64) -> Option<T::Native>,
) -> Result<ArrayRef> {
    let (source, m) = (text(&args[0])?, args[0].row_mask());
    let refs: Vec<&Value> = args.iter().collect();
    let mut failure = None;
    let out = rows_opt::<T>(&refs, rows, |i| {
        let s = source.value(i & m);
        let ms = if patterns.standard {
            parse_timestamp_units(s.trim(), 3).or_else(|| parse_date(s.trim()).map(|d| d * 86_400_000))
        } else {
            patterns.with(args, i, |p| p.read(s)).unwrap_or_else(|e| {
                failure.get_or_insert(e);
                None
            })
        };
        ms.and_then(&f).or(otherwise)
    })?;
    failure.map_or(Ok(Arc::new(out) as ArrayRef), Err)
}

enum Item {
    Text(String),
    /// A letter and how often it stands there.
    Field(char, usize),
}

/// A pattern, taken apart.
pub(super) struct Pattern {
    items: Vec<Item>,
    /// `yyyy-MM-dd` and nothing else.
    date: bool,
}

impl Pattern {
    pub(super) fn parse(pattern: &str) -> Result<Self> {
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
                while chars.peek() == Some(&c) {
                    chars.next();
                    count += 1;
                }
                if !"yuMLdDHhKkmsSaEwYQn".contains(c) || count > 9 {
                    return Err(Error::user("sql.data", format!("unknown letter '{c}' in the pattern '{pattern}'"))
                        .detail("expected y, M, d, D, H, h, k, K, m, s, S, a, E, w, Y or Q")
                        .hint("quote literal text: 'T'"));
                }
                items.push(Item::Field(c, count));
            } else {
                push_text(&mut items, c);
            }
        }
        if quoted {
            return Err(Error::user("sql.data", format!("the pattern '{pattern}' has an open quote")));
        }
        Ok(Pattern { items, date: pattern == "yyyy-MM-dd" })
    }

    /// Seconds that all show the same, from the epoch on; 0 when the fraction is shown.
    fn grain_s(&self) -> i64 {
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

    /// Writes a local time.
    pub(super) fn write(&self, value: i64, per_second: i64, out: &mut String) {
        let seconds = value.div_euclid(per_second);
        let days = seconds.div_euclid(86_400);
        if self.date {
            return format_date(days, out);
        }
        let nanos = (value.rem_euclid(per_second) * (1_000_000_000 / per_second)) as u64;
        let of_day = seconds.rem_euclid(86_400) as u64;
        let (year, month, day) = civil_from_days(days);
        for item in &self.items {
            let (letter, count) = match item {
                Item::Text(text) => {
                    out.push_str(text);
                    continue;
                }
                Item::Field(letter, count) => (*letter, *count),
            };
            let hour = of_day / 3600;
            match (letter, count) {
                ('y' | 'u', 2) => push_padded(year.rem_euclid(100) as u64, 2, out),
                ('y' | 'u', _) => {
                    out.push_str(if year < 0 { "-" } else { "" });
                    push_padded(year.unsigned_abs(), count, out);
                }
                ('Y', 2) => push_padded(iso_week(days).0.rem_euclid(100) as u64, 2, out),
                ('Y', _) => push_padded(iso_week(days).0.unsigned_abs(), count, out),
                ('M' | 'L', 3) => out.push_str(&MONTHS[month as usize - 1][..3]),
                ('M' | 'L', 4..) => out.push_str(MONTHS[month as usize - 1]),
                ('M' | 'L', _) => push_padded(month.into(), count, out),
                ('d', _) => push_padded(day.into(), count, out),
                ('D', _) => push_padded((days - days_from_civil(year, 1, 1) + 1) as u64, count, out),
                ('H', _) => push_padded(hour, count, out),
                ('k', _) => push_padded(if hour == 0 { 24 } else { hour }, count, out),
                ('K', _) => push_padded(hour % 12, count, out),
                ('h', _) => push_padded(if hour.is_multiple_of(12) { 12 } else { hour % 12 }, count, out),
                ('m', _) => push_padded(of_day / 60 % 60, count, out),
                ('s', _) => push_padded(of_day % 60, count, out),
                ('S', _) => push_padded(nanos / 10u64.pow(9 - count as u32), count, out),
                ('n', _) => push_padded(nanos, count, out),
                ('a', _) => out.push_str(if hour < 12 { "AM" } else { "PM" }),
                ('E', 4..) => out.push_str(DAYS[iso_day(days) as usize - 1]),
                ('E', _) => out.push_str(&DAYS[iso_day(days) as usize - 1][..3]),
                ('w', _) => push_padded(iso_week(days).1 as u64, count, out),
                _ => push_padded(u64::from(month).div_ceil(3), count, out),
            }
        }
    }

    /// Reads a local time as milliseconds; `None` for text of another form.
    pub(super) fn read(&self, text: &str) -> Option<i64> {
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
        if rest.is_empty() { found.ms() } else { None }
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
}

impl Default for Found {
    fn default() -> Self {
        Found { year: 1970, month: 1, day: 1, hour: 0, minute: 0, second: 0, ms: 0, half_day: None }
    }
}

impl Found {
    /// Reads one field at the start of `text`; gives what follows.
    fn field<'a>(&mut self, letter: char, count: usize, adjacent: bool, text: &'a str) -> Option<&'a str> {
        if letter == 'M' && count >= 3 || letter == 'a' || letter == 'E' {
            return self.name(letter, count, text);
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
