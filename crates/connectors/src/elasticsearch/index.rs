//! Names of indices: fixed, from a column, or from the time; never asks whether the server likes the name.

use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Time32MillisecondType};
use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType as Arrow, TimeUnit};
use chrono::{DateTime, Offset, TimeZone};
use chrono_tz::Tz;
use flott_core::registry::TableSpec;
use flott_core::time_pattern::{Moment, TimePattern};
use flott_core::types::TypeKind;
use flott_core::{Error, Result};

use crate::formats::text::{timestamp_at, timestamp_parts};
use crate::text::render_value;

const DAY_NANOS: i64 = 86_400_000_000_000;

#[derive(Clone, Debug)]
enum Part {
    Text(String),
    /// A column as it prints.
    Column(usize),
    /// A column of a date or time by a pattern.
    Time(usize, TimePattern),
    /// Processing time by a pattern.
    Now(TimePattern),
}

/// The name of the index of each row.
#[derive(Clone, Debug)]
pub struct IndexName {
    parts: Vec<Part>,
    columns: Vec<String>,
    zone: Tz,
    text: String,
}

impl IndexName {
    /// Reads `orders`, `{column}`, `{column|yyyy-MM-dd}`, `{now()|yyyy-MM-dd}` and texts around them. The error is the end of
    /// the sentence "'index' = 'x' is not …".
    pub fn parse(text: &str, table: &TableSpec, zone: Tz) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find('{') {
            if at > 0 {
                parts.push(Part::Text(rest[..at].to_owned()));
            }
            let Some(len) = rest[at..].find('}') else {
                return Err("a name of an index: `{` is not closed".into());
            };
            parts.push(part(&rest[at + 1..at + len], table)?);
            rest = &rest[at + len + 1..];
        }
        if rest.contains('}') {
            return Err("a name of an index: `}` without `{`".into());
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        if parts.is_empty() {
            return Err("a name of an index".into());
        }
        let columns = table.columns.iter().map(|c| c.name.clone()).collect();
        Ok(IndexName { parts, columns, zone, text: text.to_owned() })
    }

    /// As declared, for messages.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether two writes of one row may go to different indices.
    pub fn depends_on_now(&self) -> bool {
        self.parts.iter().any(|p| matches!(p, Part::Now(_)))
    }

    /// Appends the name for a row.
    pub fn push(&self, columns: &[ArrayRef], row: usize, now_ms: i64, out: &mut String) -> Result<()> {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Column(c) => render_value(&columns[*c], row, out),
                Part::Now(pattern) => {
                    let nanos = i128::from(now_ms) * 1_000_000;
                    pattern.push(in_zone(nanos, self.zone), out);
                }
                Part::Time(c, pattern) => {
                    let column = &columns[*c];
                    let moment = (!column.is_null(row)).then(|| moment(column, row, self.zone)).flatten();
                    let Some(moment) = moment else {
                        return Err(Error::user(
                            "elasticsearch.index",
                            format!("column `{}` is NULL, so '{}' names no index", self.columns[*c], self.text),
                        )
                        .hint("filter such rows, or give them a value with COALESCE"));
                    };
                    pattern.push(moment, out);
                }
            }
        }
        Ok(())
    }
}

fn part(inside: &str, table: &TableSpec) -> Result<Part, String> {
    let (name, pattern) = inside.split_once('|').map_or((inside, None), |(name, pattern)| (name, Some(pattern)));
    let name = name.trim();
    let parsed = |pattern: &str| TimePattern::parse(pattern).map_err(|e| format!("a name of an index: {e}"));
    let compact: String = name.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_ascii_lowercase();
    if compact == "now()" || compact == "current_timestamp" {
        return Ok(Part::Now(parsed(non_empty(pattern, "yyyy_MM_dd_HH_mm_ssX"))?));
    }
    let Some(column) = table.columns.iter().position(|c| c.name == name) else {
        let names: Vec<_> = table.columns.iter().map(|c| c.name.as_str()).collect();
        return Err(format!("a name of an index: there is no column `{name}` (columns: {})", names.join(", ")));
    };
    let kind = &table.columns[column].data_type.kind;
    if pattern.is_none() {
        return match kind {
            TypeKind::Array(_)
            | TypeKind::Map(..)
            | TypeKind::Row(_)
            | TypeKind::Binary(_)
            | TypeKind::VarBinary(_) => Err(format!("a name of an index: column `{name}` is a {kind}")),
            _ => Ok(Part::Column(column)),
        };
    }
    let (default, has_date, has_time, has_zone) = match kind {
        TypeKind::Date => ("yyyy_MM_dd", true, false, false),
        TypeKind::Time(_) => ("HH_mm_ss", false, true, false),
        TypeKind::Timestamp(_) => ("yyyy_MM_dd_HH_mm_ss", true, true, false),
        TypeKind::TimestampLtz(_) => ("yyyy_MM_dd_HH_mm_ssX", true, true, true),
        _ => return Err(format!("a name of an index: column `{name}` is a {kind}, which has no date or time")),
    };
    let pattern = parsed(non_empty(pattern, default))?;
    let lacks = (pattern.needs_date() && !has_date)
        || (pattern.needs_time() && !has_time)
        || (pattern.needs_zone() && !has_zone);
    if lacks {
        return Err(format!("a name of an index: column `{name}` is a {kind} and lacks what the pattern asks for"));
    }
    Ok(Part::Time(column, pattern))
}

fn non_empty<'a>(pattern: Option<&'a str>, default: &'a str) -> &'a str {
    pattern.map(str::trim).filter(|p| !p.is_empty()).unwrap_or(default)
}

/// An instant on the clock of a zone.
fn in_zone(nanos: i128, zone: Tz) -> Moment {
    let seconds = i64::try_from(nanos.div_euclid(1_000_000_000)).unwrap_or(0);
    let offset_seconds = DateTime::from_timestamp(seconds, 0)
        .map_or(0, |t| zone.offset_from_utc_datetime(&t.naive_utc()).fix().local_minus_utc());
    local(nanos + i128::from(offset_seconds) * 1_000_000_000, offset_seconds)
}

fn local(nanos: i128, offset_seconds: i32) -> Moment {
    let day = i128::from(DAY_NANOS);
    let days = i64::try_from(nanos.div_euclid(day)).unwrap_or(0);
    let nanos_of_day = i64::try_from(nanos.rem_euclid(day)).unwrap_or(0);
    Moment { days, nanos_of_day, offset_seconds }
}

fn moment(column: &ArrayRef, row: usize, zone: Tz) -> Option<Moment> {
    Some(match column.data_type() {
        Arrow::Date32 => {
            let days = column.as_primitive::<Date32Type>().value(row).into();
            Moment { days, nanos_of_day: 0, offset_seconds: 0 }
        }
        Arrow::Time32(TimeUnit::Millisecond) => {
            let ms = i64::from(column.as_primitive::<Time32MillisecondType>().value(row));
            Moment { days: 0, nanos_of_day: ms * 1_000_000, offset_seconds: 0 }
        }
        Arrow::Timestamp(_, has_zone) => {
            let (value, unit) = timestamp_at(column, row)?;
            let (seconds, fraction) = timestamp_parts(value, unit);
            let nanos = i128::from(seconds) * 1_000_000_000 + i128::from(fraction);
            if has_zone.is_some() { in_zone(nanos, zone) } else { local(nanos, 0) }
        }
        _ => return None,
    })
}
