//! PRINTF: Java's `Formatter` for numbers, text and booleans; NULL where Java would throw.

use std::fmt::Write;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::*;
use arrow_array::{Array, ArrayRef};
use flott_core::Result;
use flott_core::types::{DataType, TypeKind};
use flott_plan::expr::Expr;

use super::Compiled;
use super::cast::printed;
use super::lift::{TEXT_BYTES_MAX, rows_text, text};
use crate::compile::{EvalContext, Value};

/// Digits and width that one field may have.
const WIDTH_MAX: usize = 1 << 16;

/// The kernel, if `function` is this one.
pub(super) fn kernel(function: &str, args: &[Expr], _out: &DataType) -> Result<Option<Compiled>> {
    if function != "PRINTF" {
        return Ok(None);
    }
    let kinds: Vec<TypeKind> = args.iter().map(|a| a.data_type.kind.clone()).collect();
    Ok(Some(Compiled::total(move |args, n, ctx| printf(args, &kinds, n, ctx))))
}

fn printf(args: &[Value], kinds: &[TypeKind], rows: usize, ctx: &EvalContext) -> Result<ArrayRef> {
    let (formats, m) = (text(&args[0])?, args[0].row_mask());
    let out = rows_text(&[&args[0]], rows, |i, out| {
        let row = Row { args: &args[1..], kinds: &kinds[1..], i, ctx };
        Ok(format(formats.value(i & m), &row, out).is_some() && out.len() <= TEXT_BYTES_MAX)
    })?;
    Ok(Arc::new(out))
}

/// The arguments of one row.
struct Row<'a> {
    args: &'a [Value],
    kinds: &'a [TypeKind],
    i: usize,
    ctx: &'a EvalContext,
}

/// An argument as Java sees it.
enum Argument {
    Null,
    Integer(i64, u32),
    Double(f64),
    Boolean(bool),
    Text(String),
}

impl Row<'_> {
    fn get(&self, k: usize) -> Option<Argument> {
        let (array, kind) = (self.args.get(k)?.array(), self.kinds.get(k)?);
        let at = self.i & self.args[k].row_mask();
        if array.is_null(at) {
            return Some(Argument::Null);
        }
        Some(match kind {
            TypeKind::TinyInt => Argument::Integer(array.as_primitive::<Int8Type>().value(at).into(), 8),
            TypeKind::SmallInt => Argument::Integer(array.as_primitive::<Int16Type>().value(at).into(), 16),
            TypeKind::Int => Argument::Integer(array.as_primitive::<Int32Type>().value(at).into(), 32),
            TypeKind::BigInt => Argument::Integer(array.as_primitive::<Int64Type>().value(at), 64),
            TypeKind::Float => Argument::Double(array.as_primitive::<Float32Type>().value(at).into()),
            TypeKind::Double => Argument::Double(array.as_primitive::<Float64Type>().value(at)),
            TypeKind::Boolean => Argument::Boolean(array.as_boolean().value(at)),
            _ => {
                let mut out = String::new();
                printed(array, kind, self.ctx.zone, at, &mut out);
                Argument::Text(out)
            }
        })
    }
}

/// What stands between `%` and the letter.
#[derive(Default)]
struct Spec {
    index: Option<usize>,
    left: bool,
    plus: bool,
    space: bool,
    zero: bool,
    group: bool,
    parenthesis: bool,
    alternate: bool,
    width: usize,
    precision: Option<usize>,
}

/// Writes the whole; `None` for what Java refuses.
fn format(pattern: &str, row: &Row<'_>, out: &mut String) -> Option<()> {
    let mut next = 0;
    let mut rest = pattern;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let (spec, letter, after) = Spec::parse(&rest[at + 1..])?;
        rest = after;
        match letter {
            'n' => out.push('\n'),
            '%' => spec.pad("%", out),
            _ => {
                let k = spec.index.unwrap_or_else(|| {
                    next += 1;
                    next - 1
                });
                spec.write(letter, row.get(k)?, out)?;
            }
        }
    }
    out.push_str(rest);
    Some(())
}

impl Spec {
    fn parse(text: &str) -> Option<(Spec, char, &str)> {
        let mut spec = Spec::default();
        let mut rest = text;
        let number = |rest: &mut &str| -> Option<usize> {
            let end = rest.bytes().take_while(u8::is_ascii_digit).count();
            let n = rest[..end].parse().ok().filter(|n| *n <= WIDTH_MAX);
            *rest = &rest[end..];
            n
        };
        if rest.starts_with(|c: char| ('1'..='9').contains(&c)) {
            let n = number(&mut rest)?;
            match rest.strip_prefix('$') {
                Some(after) => (spec.index, rest) = (Some(n - 1), after),
                None => spec.width = n,
            }
        }
        while let Some(c) = rest.chars().next().filter(|_| spec.width == 0) {
            match c {
                '-' => spec.left = true,
                '+' => spec.plus = true,
                ' ' => spec.space = true,
                '0' => spec.zero = true,
                ',' => spec.group = true,
                '(' => spec.parenthesis = true,
                '#' => spec.alternate = true,
                _ => break,
            }
            rest = &rest[1..];
        }
        if rest.starts_with(|c: char| c.is_ascii_digit()) {
            spec.width = number(&mut rest)?;
        }
        if let Some(after) = rest.strip_prefix('.') {
            rest = after;
            spec.precision = Some(number(&mut rest)?);
        }
        let letter = rest.chars().next()?;
        let needs_width = spec.left || spec.zero;
        if needs_width && spec.width == 0 || spec.left && spec.zero || spec.plus && spec.space {
            return None;
        }
        Some((spec, letter, &rest[letter.len_utf8()..]))
    }

    fn write(&self, letter: char, argument: Argument, out: &mut String) -> Option<()> {
        let upper = letter.is_ascii_uppercase();
        let body = match (letter.to_ascii_lowercase(), argument) {
            ('b', Argument::Null) => self.cut("false"),
            ('b', Argument::Boolean(b)) => self.cut(if b { "true" } else { "false" }),
            ('b', _) => self.cut("true"),
            ('s' | 'd' | 'x' | 'o' | 'c' | 'e' | 'f' | 'g' | 'h', Argument::Null) => self.cut("null"),
            ('s', argument) => self.cut(&argument.text()),
            ('h', Argument::Integer(v, _)) => self.cut(&format!("{:x}", v as i32)),
            ('c', Argument::Integer(v, _)) => char::from_u32(u32::try_from(v).ok()?)?.to_string(),
            ('d', Argument::Integer(v, _)) if self.precision.is_none() => {
                self.signed(v < 0, self.grouped(v.unsigned_abs().to_string()))
            }
            ('x' | 'o', Argument::Integer(v, bits)) if self.precision.is_none() => {
                let v = if bits == 64 { v as u64 } else { v as u64 & ((1 << bits) - 1) };
                let (prefix, digits) =
                    if letter.eq_ignore_ascii_case(&'x') { ("0x", format!("{v:x}")) } else { ("0", format!("{v:o}")) };
                self.zeros(if self.alternate { prefix } else { "" }, digits)
            }
            ('f' | 'e', Argument::Double(v)) if !v.is_finite() => {
                let magnitude = if v.is_nan() { "NaN" } else { "Infinity" };
                if v < 0.0 { format!("-{magnitude}") } else { magnitude.to_owned() }
            }
            ('f', Argument::Double(v)) => {
                let digits = fixed(v.abs(), self.precision.unwrap_or(6));
                self.signed(v.is_sign_negative(), self.grouped(digits))
            }
            ('e', Argument::Double(v)) => {
                let text = format!("{:.*e}", self.precision.unwrap_or(6), v.abs());
                let (mantissa, exponent) = text.split_once('e')?;
                let exponent: i32 = exponent.parse().ok()?;
                let sign = if exponent < 0 { '-' } else { '+' };
                self.signed(v.is_sign_negative(), format!("{mantissa}e{sign}{:02}", exponent.abs()))
            }
            _ => return None,
        };
        self.pad(&if upper { body.to_uppercase() } else { body }, out);
        Some(())
    }

    fn cut(&self, text: &str) -> String {
        text.chars().take(self.precision.unwrap_or(usize::MAX)).collect()
    }

    fn grouped(&self, digits: String) -> String {
        if !self.group {
            return digits;
        }
        let (whole, fraction) = digits.split_at(digits.find('.').unwrap_or(digits.len()));
        let mut out = String::new();
        for (i, c) in whole.chars().enumerate() {
            if i > 0 && (whole.len() - i).is_multiple_of(3) {
                out.push(',');
            }
            out.push(c);
        }
        out + fraction
    }

    fn signed(&self, negative: bool, digits: String) -> String {
        match (negative, self.parenthesis) {
            (true, true) => format!("({})", self.zeros("", digits)),
            (true, false) => self.zeros("-", digits),
            _ if self.plus => self.zeros("+", digits),
            _ if self.space => self.zeros(" ", digits),
            _ => self.zeros("", digits),
        }
    }

    fn zeros(&self, prefix: &str, digits: String) -> String {
        let missing = if self.zero { self.width.saturating_sub(prefix.len() + digits.len()) } else { 0 };
        let mut out = String::with_capacity(self.width);
        let _ = write!(out, "{prefix}{}{digits}", "0".repeat(missing));
        out
    }

    /// Fills up to the width with blanks; Java counts UTF-16 units.
    fn pad(&self, body: &str, out: &mut String) {
        let missing = self.width.saturating_sub(body.encode_utf16().count());
        if !self.left {
            out.extend(std::iter::repeat_n(' ', missing));
        }
        out.push_str(body);
        if self.left {
            out.extend(std::iter::repeat_n(' ', missing));
        }
    }
}

impl Argument {
    fn text(&self) -> String {
        match self {
            Argument::Null => "null".into(),
            Argument::Integer(v, _) => v.to_string(),
            Argument::Double(v) => flott_core::text::java_double_to_string(*v),
            Argument::Boolean(b) => b.to_string(),
            Argument::Text(s) => s.clone(),
        }
    }
}

/// Rounded half up in decimal digits, as Java does.
fn fixed(v: f64, digits: usize) -> String {
    let shortest = format!("{v}");
    let (whole, fraction) = shortest.split_once('.').unwrap_or((&shortest, ""));
    if fraction.len() <= digits {
        let zeros = "0".repeat(digits - fraction.len());
        return if digits == 0 { whole.to_owned() } else { format!("{whole}.{fraction}{zeros}") };
    }
    let up = fraction.as_bytes()[digits] >= b'5';
    let mut all: Vec<u8> = whole.bytes().chain(fraction.bytes().take(digits)).collect();
    let mut k = all.len();
    while up && k > 0 {
        k -= 1;
        if all[k] < b'9' {
            all[k] += 1;
            break;
        }
        all[k] = b'0';
        if k == 0 {
            all.insert(0, b'1');
        }
    }
    let mut text: String = all.into_iter().map(char::from).collect();
    if digits > 0 {
        text.insert(text.len() - digits, '.');
    }
    text
}
