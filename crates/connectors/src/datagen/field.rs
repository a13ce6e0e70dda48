//! One generated column: how its values follow from a key and a row number; knows no rates.

use flott_core::registry::TableSpec;
use flott_core::types::{DataType, TypeKind};
use flott_core::{Error, Result};

use crate::columns::{ColumnBuilder, parse_decimal};
use crate::options::TableOptions;

/// Longest random string, so that an option cannot fill the memory.
const LENGTH_MAX: usize = 1 << 20;

/// Mixes two numbers into one that looks random (the finaliser of SplitMix64).
#[inline]
pub(super) fn mix(a: u64, b: u64) -> u64 {
    let mut x = a ^ b.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// A share of 1 from a random number.
fn unit(x: u64) -> f64 {
    (x >> 11) as f64 / (1u64 << 53) as f64
}

enum Kind {
    Sequence {
        start: i64,
        end: i64,
    },
    Int {
        min: i64,
        span: u64,
    },
    Real {
        min: f64,
        max: f64,
    },
    Decimal {
        min: i128,
        max: i128,
    },
    Flag,
    Text {
        length: usize,
        var: bool,
    },
    Bytes {
        length: usize,
        var: bool,
    },
    /// Now minus up to so many units of the carrier.
    Past {
        max_ms: i64,
    },
    Items {
        length: usize,
        var: bool,
        children: Vec<Field>,
    },
    Row(Vec<Field>),
}

/// The recipe of a column.
pub struct Field {
    key: u64,
    kind: Kind,
    null_below: f64,
    /// Carrier units a millisecond, for timestamps; 0 for dates and times.
    data_type: DataType,
}

/// Refuses `fields.x.…` for columns that do not exist.
pub(super) fn check_field_keys(table: &TableSpec, o: &TableOptions<'_>) -> Result<()> {
    for key in table.options.keys().filter(|k| k.starts_with("fields.")) {
        let body = &key["fields.".len()..];
        let known =
            table.columns.iter().any(|c| body.strip_prefix(c.name.as_str()).is_some_and(|r| r.starts_with('.')));
        if !known {
            let names: Vec<_> = table.columns.iter().map(|c| c.name.as_str()).collect();
            return Err(o.refused(key, "the table has no such column").hint(format!("columns: {}", names.join(", "))));
        }
    }
    Ok(())
}

impl Field {
    /// The recipe of the column `path`, by its options.
    pub fn new(o: &TableOptions<'_>, path: &str, data_type: &DataType, key: u64) -> Result<Self> {
        let name = |suffix: &str| format!("fields.{path}.{suffix}");
        let null_below: f64 = o.number(&name("null-rate"), "a share from 0 to 1")?.unwrap_or(0.0);
        if !(0.0..=1.0).contains(&null_below) {
            return Err(o.bad(&name("null-rate"), "a share from 0 to 1"));
        }
        let sequence = o.one_of(&name("kind"), &["random", "sequence"], 0)? == 1;
        let kind = if sequence { Self::sequence(o, path, data_type)? } else { Self::random(o, path, data_type, key)? };
        let foreign: &[&str] =
            if sequence { &["min", "max", "max-past", "length", "var-len"] } else { &["start", "end"] };
        if let Some(wrong) = foreign.iter().map(|s| name(s)).find(|k| o.text(k).is_some()) {
            let kind = if sequence { "sequence" } else { "random" };
            return Err(o.refused(&wrong, &format!("the column's kind is '{kind}'")));
        }
        Ok(Field { key, kind, null_below, data_type: data_type.clone() })
    }

    fn sequence(o: &TableOptions<'_>, path: &str, data_type: &DataType) -> Result<Kind> {
        let number = |suffix: &str| {
            let key = format!("fields.{path}.{suffix}");
            let value: Option<i64> = o.number(&key, "an integer")?;
            value.ok_or_else(|| o.bad(&key, "given, but a sequence needs it"))
        };
        let (start, end) = (number("start")?, number("end")?);
        let fits = ColumnBuilder::new(data_type).is_ok_and(|mut b| {
            (data_type.kind.is_numeric() && b.append_i64(start) && b.append_i64(end)) || data_type.kind.is_string()
        });
        if !fits {
            return Err(o.bad(&format!("fields.{path}.kind"), format!("possible with these bounds for a {data_type}")));
        }
        if end < start {
            return Err(o.bad(&format!("fields.{path}.end"), format!("at or above the start {start}")));
        }
        Ok(Kind::Sequence { start, end })
    }

    fn random(o: &TableOptions<'_>, path: &str, data_type: &DataType, key: u64) -> Result<Kind> {
        let name = |suffix: &str| format!("fields.{path}.{suffix}");
        let length = |default: usize| -> Result<(usize, bool)> {
            let length = o.number(&name("length"), "a length")?.unwrap_or(default);
            if length > LENGTH_MAX {
                return Err(o.bad(&name("length"), format!("at most {LENGTH_MAX}")));
            }
            Ok((length, o.flag(&name("var-len"), false)?))
        };
        let child = |part: &str, t: &DataType, n: u64| Field::new(o, &format!("{path}.{part}"), t, mix(key, n));
        let ints = |min: i64, max: i64| -> Result<Kind> {
            let min_given = o.number(&name("min"), "an integer")?.unwrap_or(min);
            let max_given = o.number(&name("max"), "an integer")?.unwrap_or(max);
            if min_given < min || max_given > max || max_given < min_given {
                return Err(
                    o.bad(&name("max"), format!("a range within {min} to {max}: min is {min_given}, max {max_given}"))
                );
            }
            Ok(Kind::Int { min: min_given, span: (i128::from(max_given) - i128::from(min_given)) as u64 })
        };
        Ok(match &data_type.kind {
            TypeKind::TinyInt => ints(i8::MIN.into(), i8::MAX.into())?,
            TypeKind::SmallInt => ints(i16::MIN.into(), i16::MAX.into())?,
            TypeKind::Int => ints(i32::MIN.into(), i32::MAX.into())?,
            TypeKind::BigInt => ints(i64::MIN, i64::MAX)?,
            TypeKind::Float | TypeKind::Double => {
                let limit = if data_type.kind == TypeKind::Float { f64::from(f32::MAX) } else { f64::MAX };
                let min = o.number(&name("min"), "a number")?.unwrap_or(0.0 - limit);
                let max = o.number(&name("max"), "a number")?.unwrap_or(limit);
                if !(min <= max && min >= -limit && max <= limit) {
                    return Err(o.bad(&name("max"), format!("a finite number at or above the minimum {min}")));
                }
                Kind::Real { min, max }
            }
            TypeKind::Decimal(p, s) => decimals(o, path, *p, *s)?,
            TypeKind::Boolean => Kind::Flag,
            TypeKind::Char(n) => Kind::Text { length: length(*n as usize)?.0, var: false },
            TypeKind::VarChar(_) => {
                let (length, var) = length(100)?;
                Kind::Text { length, var }
            }
            TypeKind::Binary(_) | TypeKind::VarBinary(_) => {
                let (length, var) = length(100)?;
                Kind::Bytes { length, var }
            }
            TypeKind::Date | TypeKind::Time(_) | TypeKind::Timestamp(_) | TypeKind::TimestampLtz(_) => {
                Kind::Past { max_ms: o.duration_ms(&name("max-past"))?.unwrap_or(0) }
            }
            TypeKind::Array(item) => {
                let (length, var) = length(3)?;
                Kind::Items { length, var, children: vec![child("element", item, 0)?] }
            }
            TypeKind::Map(k, v) => {
                let (length, var) = length(3)?;
                Kind::Items { length, var, children: vec![child("key", k, 0)?, child("value", v, 1)?] }
            }
            TypeKind::Row(fields) => {
                let children = fields.iter().enumerate().map(|(i, (n, t))| child(n, t, i as u64));
                Kind::Row(children.collect::<Result<_>>()?)
            }
            TypeKind::Null
            | TypeKind::IntervalDayTime
            | TypeKind::IntervalYearMonth
            | TypeKind::Multiset(_)
            | TypeKind::Variant
            | TypeKind::Bitmap => {
                return Err(Error::user("datagen.type", format!("column `{path}`: a {data_type} cannot be generated")));
            }
        })
    }

    /// How many rows a sequence has.
    pub fn sequence_rows(&self) -> Option<u64> {
        match self.kind {
            Kind::Sequence { start, end } => u64::try_from(i128::from(end) - i128::from(start) + 1).ok(),
            _ => None,
        }
    }

    /// Appends the value of row `n`; `now_ms` is for timestamps.
    pub fn append(&self, n: u64, now_ms: i64, text: &mut String, out: &mut ColumnBuilder) {
        let random = mix(self.key, n);
        if self.null_below > 0.0 && unit(mix(random, 1)) < self.null_below {
            return out.append_null();
        }
        let pick = |length: usize, var: bool| {
            if var && length > 0 { 1 + (mix(random, 2) % length as u64) as usize } else { length }
        };
        let taken = match &self.kind {
            Kind::Sequence { start, .. } => {
                let value = start.wrapping_add(n as i64);
                if self.data_type.kind.is_string() {
                    out.append_text(&value.to_string())
                } else {
                    out.append_i64(value)
                }
            }
            Kind::Int { min, span } => {
                let offset = if *span == u64::MAX {
                    random
                } else {
                    ((u128::from(random) * (u128::from(*span) + 1)) >> 64) as u64
                };
                out.append_i64(min.wrapping_add(offset as i64))
            }
            Kind::Real { min, max } => {
                let share = unit(random);
                out.append_f64(min * (1.0 - share) + max * share)
            }
            Kind::Decimal { min, max } => {
                let wide = u128::from(random) << 64 | u128::from(mix(random, 3));
                let TypeKind::Decimal(_, scale) = self.data_type.kind else { return out.append_null() };
                out.append_unscaled(min + (wide % (max.abs_diff(*min) + 1)) as i128, i32::from(scale))
            }
            Kind::Flag => out.append_bool(random & 1 == 1),
            Kind::Text { length, var } => {
                text.clear();
                hex(random, pick(*length, *var), text);
                out.append_bytes(text.as_bytes())
            }
            Kind::Bytes { length, var } => {
                let bytes: Vec<u8> = (0..pick(*length, *var)).map(|i| mix(random, i as u64 + 4) as u8).collect();
                out.append_bytes(&bytes)
            }
            Kind::Past { max_ms } => {
                let past = if *max_ms > 0 { (random % (*max_ms as u64 + 1)) as i64 } else { 0 };
                out.append_raw(carrier(&self.data_type.kind, now_ms - past))
            }
            Kind::Items { length, var, children } => {
                let length = pick(*length, *var);
                self.append_items(children, random, length, now_ms, text, out);
                return;
            }
            Kind::Row(children) => {
                for (child, column) in children.iter().zip(out.row().into_iter().flatten()) {
                    child.append(n, now_ms, text, column);
                }
                return out.close();
            }
        };
        if !taken {
            out.append_null();
        }
    }

    fn append_items(
        &self,
        children: &[Field],
        random: u64,
        length: usize,
        now_ms: i64,
        text: &mut String,
        out: &mut ColumnBuilder,
    ) {
        for i in 0..length as u64 {
            if let Some(items) = out.items() {
                children[0].append(mix(random, i + 4), now_ms, text, items);
            } else if let Some((keys, values)) = out.entries() {
                children[0].append(mix(random, i + 4), now_ms, text, keys);
                children[1].append(mix(random, i + 4), now_ms, text, values);
            }
        }
        out.close();
    }
}

fn decimals(o: &TableOptions<'_>, path: &str, precision: u8, scale: u8) -> Result<Kind> {
    let limit = 10i128.pow(u32::from(precision)) - 1;
    let bound = |suffix: &str, default: i128| -> Result<i128> {
        let key = format!("fields.{path}.{suffix}");
        let Some(text) = o.text(&key) else { return Ok(default) };
        let scaled = parse_decimal(text.trim()).and_then(|(n, s)| {
            let shift = i32::from(scale) - s;
            let power = 10i128.checked_pow(shift.unsigned_abs())?;
            if shift >= 0 { n.checked_mul(power) } else { Some(n / power) }
        });
        scaled.filter(|n| n.abs() <= limit).ok_or_else(|| o.bad(&key, format!("a DECIMAL({precision}, {scale})")))
    };
    let (min, max) = (bound("min", -limit)?, bound("max", limit)?);
    if max < min {
        return Err(o.bad(&format!("fields.{path}.max"), "at or above the minimum"));
    }
    Ok(Kind::Decimal { min, max })
}

/// A point in time in the units of a column.
fn carrier(kind: &TypeKind, ms: i64) -> i64 {
    match kind {
        TypeKind::Date => ms.div_euclid(86_400_000),
        TypeKind::Time(_) => ms.rem_euclid(86_400_000),
        TypeKind::Timestamp(p) | TypeKind::TimestampLtz(p) => ms * (flott_core::text::units_per_second(*p) / 1000),
        _ => ms,
    }
}

fn hex(random: u64, length: usize, out: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut bits = random;
    for i in 0..length {
        if i % 16 == 0 {
            bits = mix(random, 4 + i as u64);
        }
        out.push(char::from(DIGITS[(bits & 15) as usize]));
        bits >>= 4;
    }
}
