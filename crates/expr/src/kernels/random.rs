//! UUID, RAND and RAND_INTEGER: with a seed the numbers of `java.util.Random`, else numbers that nobody can foresee.

use std::fmt::Write;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::types::{Float64Type, Int32Type};
use flott_core::Result;
use flott_core::types::DataType;
use flott_plan::expr::{Expr, ExprKind, Literal};

use super::lift::{primitive, rows_text, try_rows};
use super::{Compiled, data_error};
use crate::compile::Value;

/// The kernel, if `function` is one of these.
pub(super) fn kernel(function: &str, args: &[Expr], _out: &DataType) -> Result<Option<Compiled>> {
    let seeded = match (function, args.len()) {
        ("UUID", 0) => return Ok(Some(uuid())),
        ("RAND", n) => n > 0,
        ("RAND_INTEGER", n) => n > 1,
        _ => return Ok(None),
    };
    let constant = match args.first().map(|a| &a.kind) {
        Some(ExprKind::Literal(Literal::Int(seed))) if seeded => Some(*seed),
        _ => None,
    };
    // A constant seed begins one series of numbers; a seed from the row begins a new one in each.
    let state = Mutex::new(JavaRandom::new(constant.unwrap_or_else(|| RandomState::new().hash_one(0) as i64)));
    let (reseeds, integers) = (seeded && constant.is_none(), function == "RAND_INTEGER");
    Ok(Some(Compiled::partial(move |args, n, _| {
        let mut random = state.lock().unwrap_or_else(PoisonError::into_inner);
        let seeds = reseeds.then(|| primitive::<Int32Type>(&args[0])).transpose()?;
        let reseed = |random: &mut JavaRandom, i: usize| {
            if let Some(seeds) = seeds {
                *random = JavaRandom::new(seeds.value(i & args[0].row_mask()).into());
            }
        };
        let refs: Vec<&Value> = args.iter().collect();
        if !integers {
            let out = try_rows::<Float64Type>(&refs, n, |i| {
                reseed(&mut random, i);
                Ok(Some(random.double()))
            })?;
            return Ok(Arc::new(out));
        }
        let last = args.len() - 1;
        let (bounds, m) = (primitive::<Int32Type>(&args[last])?, args[last].row_mask());
        let out = try_rows::<Int32Type>(&refs, n, |i| {
            reseed(&mut random, i);
            match bounds.value(i & m) {
                bound @ 1.. => Ok(Some(random.below(bound))),
                bound => Err(data_error(format!("RAND_INTEGER takes a bound above 0, found {bound}"))),
            }
        })?;
        Ok(Arc::new(out))
    })))
}

/// Version 4: random.
fn uuid() -> Compiled {
    let (keys, count) = (RandomState::new(), AtomicU64::new(0));
    Compiled::total(move |_, n, _| {
        let out = rows_text(&[], n, |_, out| {
            let next = || keys.hash_one(count.fetch_add(1, Ordering::Relaxed));
            let (a, b) = (next(), next());
            let (a, b) = (a & !0xf000 | 0x4000, b & !(0b11 << 62) | 0b10 << 62);
            let (low, mid, high) = (a >> 32, a >> 16 & 0xffff, a & 0xffff);
            write!(out, "{low:08x}-{mid:04x}-{high:04x}-{:04x}-{:012x}", b >> 48, b & 0xffff_ffff_ffff)
                .expect("strings accept text");
            Ok(true)
        })?;
        Ok(Arc::new(out))
    })
}

/// The generator of `java.util.Random`.
struct JavaRandom(u64);

impl JavaRandom {
    const MASK: u64 = (1 << 48) - 1;

    fn new(seed: i64) -> Self {
        JavaRandom((seed as u64 ^ 0x5_DEEC_E66D) & Self::MASK)
    }

    fn next(&mut self, bits: u32) -> i32 {
        self.0 = self.0.wrapping_mul(0x5_DEEC_E66D).wrapping_add(0xB) & Self::MASK;
        (self.0 >> (48 - bits)) as i32
    }

    fn double(&mut self) -> f64 {
        let high = i64::from(self.next(26)) << 27;
        (high + i64::from(self.next(27))) as f64 / (1u64 << 53) as f64
    }

    /// A number from 0 to `bound` - 1; `bound` > 0.
    fn below(&mut self, bound: i32) -> i32 {
        if bound & bound.wrapping_neg() == bound {
            return ((i64::from(bound) * i64::from(self.next(31))) >> 31) as i32;
        }
        loop {
            let bits = self.next(31);
            let value = bits % bound;
            if bits.wrapping_sub(value).wrapping_add(bound - 1) >= 0 {
                return value;
            }
        }
    }
}
