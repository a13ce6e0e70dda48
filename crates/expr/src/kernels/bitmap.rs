//! BITMAP functions: sets of 32-bit integers in the portable Roaring format, ordered as unsigned numbers.

use std::fmt::Write;
use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, Int32Builder, ListBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType as Arrow;
use flott_core::types::DataType;
use flott_core::{Error, Result};
use flott_plan::BitmapFold;
use flott_plan::expr::Expr;
use roaring::RoaringBitmap;

use super::array::Lists;
use super::lift::{is_valid, rows_text, valid};
use super::{Compiled, data_error};
use crate::compile::Value;

/// The kernel, if `function` is one of these.
pub(super) fn kernel(function: &str, _args: &[Expr], out: &DataType) -> Result<Option<Compiled>> {
    let arrow = out.kind.to_arrow();
    Ok(Some(match function {
        "BITMAP_BUILD" => Compiled::total(|args, n, _| build(args, n)),
        "BITMAP_AND" => fold(|a, b| a & b),
        "BITMAP_OR" => fold(|a, b| a | b),
        "BITMAP_XOR" => fold(|a, b| a ^ b),
        "BITMAP_ANDNOT" => fold(|a, b| a - b),
        "BITMAP_CARDINALITY" => Compiled::partial(|args, n, _| {
            let out = super::lift::try_rows::<Int64Type>(&[&args[0]], n, |i| {
                Ok(Some(i64::try_from(bitmap(&args[0], i)?.len()).unwrap_or(i64::MAX)))
            })?;
            Ok(Arc::new(out))
        }),
        "BITMAP_FROM_BYTES" => fold(|a, _| a),
        "BITMAP_TO_BYTES" => Compiled::total(|args, n, _| args[0].clone().into_array(n)),
        "BITMAP_TO_STRING" => Compiled::total(|args, n, _| {
            let (source, m) = (args[0].array().as_binary::<i32>(), args[0].row_mask());
            let out = rows_text(&[&args[0]], n, |i, out| {
                write_text(source.value(i & m), out);
                Ok(true)
            })?;
            Ok(Arc::new(out))
        }),
        "BITMAP_TO_ARRAY" => Compiled::partial(move |args, n, _| to_array(args, n, &arrow)),
        _ => return Ok(None),
    }))
}

/// The bitmap of bytes in the portable format.
pub(crate) fn read(bytes: &[u8]) -> Result<RoaringBitmap> {
    RoaringBitmap::deserialize_from(bytes).map_err(|e| {
        data_error(format!("{} bytes are no BITMAP", bytes.len()))
            .detail(format!("{e}"))
            .hint("expected the portable format of Roaring bitmaps")
    })
}

/// Its bytes in the portable format.
pub(crate) fn bytes(bitmap: &RoaringBitmap) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(bitmap.serialized_size());
    bitmap.serialize_into(&mut out).map_err(|e| Error::bug(format!("a bitmap could not be written: {e}")))?;
    Ok(out)
}

/// `{1,2,3}`
pub(crate) fn write_text(bytes: &[u8], out: &mut String) {
    let Ok(bitmap) = read(bytes) else { return };
    out.push('{');
    for (i, member) in bitmap.iter().enumerate() {
        out.push_str(if i > 0 { "," } else { "" });
        write!(out, "{member}").expect("strings accept text");
    }
    out.push('}');
}

/// Bitmaps of a group becoming one.
pub struct BitmapFolder {
    fold: BitmapFold,
    bitmap: Option<RoaringBitmap>,
}

impl BitmapFolder {
    /// Nothing yet.
    pub fn new(fold: BitmapFold) -> Self {
        BitmapFolder { fold, bitmap: None }
    }
    /// Takes row `i` of a column of integers (BUILD) or bitmaps, which is there `count` times.
    pub fn add(&mut self, column: &ArrayRef, i: usize, count: i64) -> Result<()> {
        if self.fold == BitmapFold::Build {
            self.bitmap.get_or_insert_default().insert(column.as_primitive::<Int32Type>().value(i) as u32);
            return Ok(());
        }
        // A bitmap that is there twice cancels itself.
        if self.fold == BitmapFold::Xor && count % 2 == 0 {
            self.bitmap.get_or_insert_default();
            return Ok(());
        }
        let other = read(column.as_binary::<i32>().value(i))?;
        self.bitmap = Some(match (self.bitmap.take(), self.fold) {
            (None, _) => other,
            (Some(all), BitmapFold::And) => all & other,
            (Some(all), BitmapFold::Or) => all | other,
            (Some(all), _) => all ^ other,
        });
        Ok(())
    }
    /// Number of members.
    pub fn cardinality(&self) -> i64 {
        self.bitmap.as_ref().map_or(0, |b| i64::try_from(b.len()).unwrap_or(i64::MAX))
    }
    /// In the portable format.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        self.bitmap.as_ref().map_or_else(|| bytes(&RoaringBitmap::new()), bytes)
    }
}

fn bitmap(value: &Value, i: usize) -> Result<RoaringBitmap> {
    read(value.array().as_binary::<i32>().value(i & value.row_mask()))
}

fn build(args: &[Value], rows: usize) -> Result<ArrayRef> {
    let lists = Lists::of(&args[0])?;
    let items = lists.list.values().as_primitive::<Int32Type>();
    let nulls = valid(&[&args[0]], rows);
    let mut out = BinaryBuilder::new();
    for i in 0..rows {
        if !is_valid(&nulls, i) {
            out.append_null();
            continue;
        }
        let present = lists.range(i).filter(|at| items.is_valid(*at)).map(|at| items.value(at) as u32);
        out.append_value(bytes(&present.collect())?);
    }
    Ok(Arc::new(out.finish()))
}

/// All arguments folded into one bitmap.
fn fold(f: impl Fn(RoaringBitmap, RoaringBitmap) -> RoaringBitmap + Send + Sync + 'static) -> Compiled {
    Compiled::partial(move |args, rows, _| {
        let nulls = valid(&args.iter().collect::<Vec<_>>(), rows);
        let mut out = BinaryBuilder::new();
        for i in 0..rows {
            if !is_valid(&nulls, i) {
                out.append_null();
                continue;
            }
            let mut all = bitmap(&args[0], i)?;
            for other in &args[1..] {
                all = f(all, bitmap(other, i)?);
            }
            out.append_value(bytes(&all)?);
        }
        Ok(Arc::new(out.finish()))
    })
}

fn to_array(args: &[Value], rows: usize, out: &Arrow) -> Result<ArrayRef> {
    let Arrow::List(field) = out else { return Err(Error::bug("an ARRAY is a list")) };
    let nulls = valid(&[&args[0]], rows);
    let mut builder = ListBuilder::new(Int32Builder::new()).with_field(Arc::clone(field));
    for i in 0..rows {
        let there = is_valid(&nulls, i);
        if there {
            bitmap(&args[0], i)?.iter().for_each(|member| builder.values().append_value(member as i32));
        }
        builder.append(there);
    }
    Ok(Arc::new(builder.finish()))
}
