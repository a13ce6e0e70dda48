//! The loops that change accumulators: one pass per accumulator over a column. No state access, no allocation per row.
//!
//! An accumulator begins with its count; sum or extreme follow at +8.

use arrow_buffer::{BooleanBuffer, ScalarBuffer};

use super::layout::{AccKind, Accumulator, Layout, read_i64, read_i128, write_i64, write_i128};
use super::values::{Form, Values};

/// A DECIMAL sum that left i128 for good.
pub(crate) const DECIMAL_OVERFLOW: i128 = i128::MIN;

/// Rows of a batch as accumulators see them.
pub(crate) struct RowsView<'a> {
    /// Group of each row.
    pub gids: &'a [u32],
    /// +1 or −1 per row; `None`: all +1.
    pub signs: Option<&'a [i64]>,
    /// Rows that count for this accumulator; `None`: all.
    pub selected: Option<&'a BooleanBuffer>,
    /// The rows to look at, as in a range; `None`: all.
    pub part: Option<(usize, usize)>,
}

impl RowsView<'_> {
    /// Calls `f(row, group, sign)` for the selected rows in order.
    #[inline(always)]
    pub(crate) fn for_each(&self, mut f: impl FnMut(usize, usize, i64)) {
        if let Some((from, to)) = self.part {
            for i in (from..to).filter(|&i| self.selected.is_none_or(|b| b.value(i))) {
                f(i, self.gids[i] as usize, self.signs.map_or(1, |s| s[i]));
            }
            return;
        }
        match (self.selected, self.signs) {
            (None, None) => self.gids.iter().enumerate().for_each(|(i, &g)| f(i, g as usize, 1)),
            (None, Some(s)) => self.gids.iter().zip(s).enumerate().for_each(|(i, (&g, &s))| f(i, g as usize, s)),
            (Some(b), None) => b.set_indices().for_each(|i| f(i, self.gids[i] as usize, 1)),
            (Some(b), Some(s)) => b.set_indices().for_each(|i| f(i, self.gids[i] as usize, s[i])),
        }
    }
}

#[inline(always)]
fn add_count(row: &mut [u8], sign: i64) {
    write_i64(row, 0, read_i64(row, 0).wrapping_add(sign));
}

/// Changes `acc` in all images (`width` bytes each). `values` is absent for COUNT. Extremes are only improved, never
/// retracted, and those of [`Form::Bytes`] only counted: what lies beside the row is the caller's.
pub(crate) fn update(images: &mut [u8], width: usize, acc: &Accumulator, values: Option<&Values>, rows: &RowsView<'_>) {
    let at = acc.offset;
    match (acc.kind, values) {
        (AccKind::Sum { .. }, Some(Values::Int(v))) => rows.for_each(|i, g, s| {
            let row = &mut images[g * width + at..][..16];
            add_count(row, s);
            write_i64(row, 8, read_i64(row, 8).wrapping_add(v[i].wrapping_mul(s)));
        }),
        (AccKind::Sum { single, .. }, Some(Values::Float(v))) => sum_float(images, width, at, single, v, rows),
        (AccKind::Sum { .. }, Some(Values::Decimal(v))) => rows.for_each(|i, g, s| {
            let row = &mut images[g * width + at..][..24];
            add_count(row, s);
            write_i128(row, 8, add_decimal(read_i128(row, 8), v[i] * i128::from(s)));
        }),
        (AccKind::Extreme { max, .. }, Some(Values::Int(v))) => {
            extreme(images, width, at, rows, 8, |row| read_i64(row, 8), |i| v[i], max, |row, x| write_i64(row, 8, x));
        }
        (AccKind::Extreme { max, .. }, Some(Values::Float(v))) => {
            let get = |row: &[u8]| f64::from_bits(read_i64(row, 8) as u64);
            extreme(images, width, at, rows, 8, get, |i| v[i], max, |row, x| write_i64(row, 8, x.to_bits() as i64));
        }
        (AccKind::Extreme { max, .. }, Some(Values::Decimal(v))) => {
            extreme(
                images,
                width,
                at,
                rows,
                16,
                |row| read_i128(row, 8),
                |i| v[i],
                max,
                |row, x| write_i128(row, 8, x),
            );
        }
        (AccKind::Moments, Some(Values::Int(v))) => moments(images, width, at, rows, |i| v[i] as f64),
        (AccKind::Moments, Some(Values::Float(v))) => moments(images, width, at, rows, |i| v[i]),
        (AccKind::Moments, Some(Values::Decimal(v))) => moments(images, width, at, rows, |i| v[i] as f64),
        _ => rows.for_each(|_, g, s| add_count(&mut images[g * width + at..][..8], s)),
    }
}

fn sum_float(images: &mut [u8], width: usize, at: usize, single: bool, v: &ScalarBuffer<f64>, rows: &RowsView<'_>) {
    rows.for_each(|i, g, s| {
        let row = &mut images[g * width + at..][..16];
        add_count(row, s);
        let sum = f64::from_bits(read_i64(row, 8) as u64) + v[i] * s as f64;
        let sum = if single { f64::from(sum as f32) } else { sum };
        write_i64(row, 8, sum.to_bits() as i64);
    });
}

fn read_f64(row: &[u8], at: usize) -> f64 {
    f64::from_bits(read_i64(row, at) as u64)
}

fn write_f64(row: &mut [u8], at: usize, value: f64) {
    write_i64(row, at, value.to_bits() as i64);
}

/// Welford's recurrences, forwards and backwards.
fn moments(images: &mut [u8], width: usize, at: usize, rows: &RowsView<'_>, value: impl Fn(usize) -> f64) {
    rows.for_each(|i, g, s| {
        let row = &mut images[g * width + at..][..24];
        let (x, mean) = (value(i), read_f64(row, 8));
        let count = read_i64(row, 0) + s;
        write_i64(row, 0, count);
        if count <= 0 {
            return row[8..24].fill(0);
        }
        let sign = s as f64;
        let next = mean + sign * (x - mean) / count as f64;
        let squares = read_f64(row, 16) + sign * (x - mean) * (x - next);
        write_f64(row, 8, next);
        write_f64(row, 16, squares);
    });
}

fn merge_moments(target: &mut [u8], source: &[u8]) {
    let (n, m) = (read_i64(target, 0) as f64, read_i64(source, 0) as f64);
    if m <= 0.0 {
        return;
    }
    let (a, b) = (read_f64(target, 8), read_f64(source, 8));
    let (all, distance) = (n + m, b - a);
    write_f64(target, 8, a + distance * m / all);
    let squares = read_f64(target, 16) + read_f64(source, 16) + distance * distance * n * m / all;
    write_f64(target, 16, squares);
}

fn add_decimal(a: i128, b: i128) -> i128 {
    if a == DECIMAL_OVERFLOW || b == DECIMAL_OVERFLOW {
        return DECIMAL_OVERFLOW;
    }
    a.checked_add(b).unwrap_or(DECIMAL_OVERFLOW)
}

#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "one loop for three forms")]
fn extreme<T: PartialOrd + Copy>(
    images: &mut [u8],
    width: usize,
    at: usize,
    rows: &RowsView<'_>,
    size: usize,
    get: impl Fn(&[u8]) -> T,
    value: impl Fn(usize) -> T,
    max: bool,
    set: impl Fn(&mut [u8], T),
) {
    rows.for_each(|i, g, s| {
        let row = &mut images[g * width + at..][..8 + size];
        let (count, new) = (read_i64(row, 0), value(i));
        let old = get(row);
        if count == 0 || (if max { new > old } else { new < old }) {
            set(row, new);
        }
        write_i64(row, 0, count + s);
    });
}

/// Adds the accumulators of `source` to `target`: two slices, or two sessions that became one. Only for mergeable layouts.
pub(crate) fn merge_image(layout: &Layout, target: &mut [u8], source: &[u8]) {
    for acc in &layout.accumulators {
        let at = acc.offset;
        let (target, source) = (&mut target[at..], &source[at..]);
        let (mine, theirs) = (read_i64(target, 0), read_i64(source, 0));
        match acc.kind {
            AccKind::Count | AccKind::Collected { .. } | AccKind::User => {}
            AccKind::Moments => merge_moments(target, source),
            AccKind::Sum { form: Form::Decimal, .. } => {
                write_i128(target, 8, add_decimal(read_i128(target, 8), read_i128(source, 8)));
            }
            AccKind::Sum { form: Form::Float, single } => {
                let sum = f64::from_bits(read_i64(target, 8) as u64) + f64::from_bits(read_i64(source, 8) as u64);
                let sum = if single { f64::from(sum as f32) } else { sum };
                write_i64(target, 8, sum.to_bits() as i64);
            }
            AccKind::Sum { .. } => write_i64(target, 8, read_i64(target, 8).wrapping_add(read_i64(source, 8))),
            // The value lies beside the row.
            AccKind::Extreme { form: Form::Bytes, .. } => {}
            AccKind::Extreme { max, form } if theirs > 0 => {
                if mine == 0 || better(form, max, source, target) {
                    let size = if form == Form::Decimal { 16 } else { 8 };
                    target[8..8 + size].copy_from_slice(&source[8..8 + size]);
                }
            }
            AccKind::Extreme { .. } => {}
        }
        write_i64(target, 0, mine + theirs);
    }
}

fn better(form: Form, max: bool, new: &[u8], old: &[u8]) -> bool {
    match form {
        Form::Float => {
            let (n, o) = (f64::from_bits(read_i64(new, 8) as u64), f64::from_bits(read_i64(old, 8) as u64));
            if max { n > o } else { n < o }
        }
        Form::Decimal => {
            let (n, o) = (read_i128(new, 8), read_i128(old, 8));
            if max { n > o } else { n < o }
        }
        Form::Int | Form::Bytes => {
            let (n, o) = (read_i64(new, 8), read_i64(old, 8));
            if max { n > o } else { n < o }
        }
    }
}
