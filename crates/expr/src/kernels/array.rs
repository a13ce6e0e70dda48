//! ARRAY functions that place, find and order elements. Elements are compared by their canonical bytes, as keys are: NULL equals NULL here.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use arrow_array::{Array, ArrayRef, BooleanArray, ListArray, StructArray, UInt32Array, new_empty_array};
use arrow_buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_ord::ord::make_comparator;
use arrow_schema::{DataType as Arrow, Field, Fields, SortOptions};
use flott_core::keys::RowCodec;
use flott_core::types::DataType;
use flott_core::{Error, Result};
use flott_plan::expr::Expr;

use super::lift::{is_valid, primitive, rows_bool, rows_opt, rows_text, text, valid};
use super::{Compiled, data_error};
use crate::compile::Value;

/// The kernel, if `function` is one of these.
pub(super) fn kernel(function: &str, _args: &[Expr], out: &DataType) -> Result<Option<Compiled>> {
    let arrow = out.kind.to_arrow();
    Ok(Some(match function {
        "ARRAY" => Compiled::total(move |args, n, _| constructed(args, n, &arrow)),
        "ROW" => {
            let Arrow::Struct(fields) = arrow else { return Err(Error::bug("a ROW is a struct")) };
            Compiled::total(move |args, n, _| row(args, n, &fields))
        }
        "ARRAY_APPEND" | "ARRAY_PREPEND" => {
            let append = function == "ARRAY_APPEND";
            Compiled::total(move |args, n, _| added(args, n, append, &arrow))
        }
        "ARRAY_CONCAT" => Compiled::total(move |args, n, _| concatenated(args, n, &arrow)),
        "ARRAY_REVERSE" => Compiled::total(move |args, n, _| picked(args, n, &arrow, |r, _, at| at.extend(r.rev()))),
        "ARRAY_SLICE" => Compiled::total(move |args, n, _| slice(args, n, &arrow)),
        "ARRAY_REMOVE" => Compiled::total(move |args, n, _| removed(args, n, &arrow)),
        "ARRAY_POSITION" => Compiled::total(|args, n, _| position(args, n)),
        "ARRAY_CONTAINS" => Compiled::total(|args, n, _| contains(args, n)),
        "ARRAY_MAX" | "ARRAY_MIN" => {
            let max = function == "ARRAY_MAX";
            Compiled::total(move |args, n, _| extreme(args, n, max))
        }
        "ARRAY_SORT" => Compiled::total(move |args, n, _| sorted(args, n, &arrow)),
        "ARRAY_JOIN" => Compiled::total(|args, n, _| joined(args, n)),
        "ELEMENT" => Compiled::partial(|args, n, _| element(args, n)),
        _ => return Ok(None),
    }))
}

/// The arrays of an argument.
pub(super) struct Lists<'a> {
    pub(super) list: &'a ListArray,
    mask: usize,
}

impl<'a> Lists<'a> {
    pub(super) fn of(value: &'a Value) -> Result<Self> {
        let list = value.array().as_list_opt::<i32>();
        let list = list.ok_or_else(|| Error::bug(format!("an ARRAY function got {}", value.array().data_type())))?;
        Ok(Lists { list, mask: value.row_mask() })
    }
    /// Elements of row `i`.
    #[inline]
    pub(super) fn range(&self, i: usize) -> Range<usize> {
        let offsets = self.list.value_offsets();
        offsets[i & self.mask] as usize..offsets[(i & self.mask) + 1] as usize
    }
}

/// Canonical bytes of values: equal values have equal bytes.
pub(super) struct Keys {
    bytes: Vec<u8>,
    offsets: Vec<u32>,
}

impl Keys {
    pub(super) fn of(values: &ArrayRef) -> Result<Self> {
        let codec = RowCodec::new(vec![Arc::new(Field::new("element", values.data_type().clone(), true))])?;
        let (mut bytes, mut offsets) = (Vec::new(), Vec::new());
        codec.encode_rows(std::slice::from_ref(values), &mut offsets, &mut bytes)?;
        Ok(Keys { bytes, offsets })
    }
    #[inline]
    pub(super) fn at(&self, i: usize) -> &[u8] {
        &self.bytes[self.offsets[i] as usize..self.offsets[i + 1] as usize]
    }
}

/// Arrays put together from elements of several sources.
pub(super) struct Builder {
    offsets: Vec<i32>,
    valid: Vec<bool>,
    /// Source and element.
    pub(super) at: Vec<(usize, usize)>,
}

impl Builder {
    pub(super) fn new(rows: usize) -> Self {
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        Builder { offsets, valid: Vec::with_capacity(rows), at: Vec::new() }
    }
    /// Ends a row.
    pub(super) fn end(&mut self, valid: bool) -> Result<()> {
        let end = i32::try_from(self.at.len()).map_err(|_| data_error("an ARRAY column has more than 2³¹ elements"))?;
        self.offsets.push(end);
        self.valid.push(valid);
        Ok(())
    }
    pub(super) fn finish(self, sources: &[&ArrayRef], out: &Arrow) -> Result<ArrayRef> {
        let Arrow::List(field) = out else { return Err(Error::bug("an ARRAY is a list")) };
        let arrays: Vec<&dyn Array> = sources.iter().map(|s| s.as_ref()).collect();
        let values = match self.at.is_empty() {
            true => new_empty_array(field.data_type()),
            false => arrow_select::interleave::interleave(&arrays, &self.at)?,
        };
        let values = retyped(values, field.data_type())?;
        let nulls = self.valid.contains(&false).then(|| NullBuffer::from(self.valid));
        let offsets = OffsetBuffer::new(ScalarBuffer::from(self.offsets));
        Ok(Arc::new(ListArray::try_new(Arc::clone(field), offsets, values, nulls)?))
    }
}

/// The same values under a type that differs in names alone.
pub(super) fn retyped(values: ArrayRef, to: &Arrow) -> Result<ArrayRef> {
    if values.data_type() == to {
        return Ok(values);
    }
    let data = values.to_data().into_builder().data_type(to.clone()).build()?;
    Ok(arrow_array::make_array(data))
}

fn constructed(args: &[Value], rows: usize, out: &Arrow) -> Result<ArrayRef> {
    let mut builder = Builder::new(rows);
    for i in 0..rows {
        builder.at.extend(args.iter().enumerate().map(|(k, a)| (k, i & a.row_mask())));
        builder.end(true)?;
    }
    let sources: Vec<&ArrayRef> = args.iter().map(Value::array).collect();
    builder.finish(&sources, out)
}

fn row(args: &[Value], rows: usize, fields: &Fields) -> Result<ArrayRef> {
    let columns = args.iter().zip(fields).map(|(a, f)| retyped(a.clone().into_array(rows)?, f.data_type()));
    Ok(Arc::new(StructArray::try_new(fields.clone(), columns.collect::<Result<_>>()?, None)?))
}

fn added(args: &[Value], rows: usize, append: bool, out: &Arrow) -> Result<ArrayRef> {
    let (lists, m) = (Lists::of(&args[0])?, args[1].row_mask());
    let nulls = valid(&[&args[0]], rows);
    let mut builder = Builder::new(rows);
    for i in 0..rows {
        let there = is_valid(&nulls, i);
        if there {
            let own = (1, i & m);
            builder.at.extend((!append).then_some(own));
            builder.at.extend(lists.range(i).map(|at| (0, at)));
            builder.at.extend(append.then_some(own));
        }
        builder.end(there)?;
    }
    builder.finish(&[lists.list.values(), args[1].array()], out)
}

fn concatenated(args: &[Value], rows: usize, out: &Arrow) -> Result<ArrayRef> {
    let lists = args.iter().map(Lists::of).collect::<Result<Vec<_>>>()?;
    let nulls = valid(&args.iter().collect::<Vec<_>>(), rows);
    let mut builder = Builder::new(rows);
    for i in 0..rows {
        let there = is_valid(&nulls, i);
        for (k, list) in lists.iter().enumerate().filter(|_| there) {
            builder.at.extend(list.range(i).map(|at| (k, at)));
        }
        builder.end(there)?;
    }
    builder.finish(&lists.iter().map(|l| l.list.values()).collect::<Vec<_>>(), out)
}

/// The elements of each row that `pick(elements, row, to)` appends.
fn picked(
    args: &[Value],
    rows: usize,
    out: &Arrow,
    mut pick: impl FnMut(Range<usize>, usize, &mut Vec<usize>),
) -> Result<ArrayRef> {
    let lists = Lists::of(&args[0])?;
    let nulls = valid(&[&args[0]], rows);
    let (mut builder, mut to) = (Builder::new(rows), Vec::new());
    for i in 0..rows {
        let there = is_valid(&nulls, i);
        if there {
            to.clear();
            pick(lists.range(i), i, &mut to);
            builder.at.extend(to.iter().map(|at| (0, *at)));
        }
        builder.end(there)?;
    }
    builder.finish(&[lists.list.values()], out)
}

fn slice(args: &[Value], rows: usize, out: &Arrow) -> Result<ArrayRef> {
    let lists = Lists::of(&args[0])?;
    let from = primitive::<Int32Type>(&args[1])?;
    let to = args.get(2).map(primitive::<Int32Type>).transpose()?;
    let nulls = valid(&args.iter().collect::<Vec<_>>(), rows);
    let mut builder = Builder::new(rows);
    for i in 0..rows {
        let there = is_valid(&nulls, i);
        if there {
            let range = lists.range(i);
            let count = range.len() as i64;
            let bound = |b: i64| if b < 0 { b + count + 1 } else { b };
            let start = bound(from.value(i & args[1].row_mask()).into()).max(1);
            let end = match to {
                Some(to) => match bound(to.value(i & args[2].row_mask()).into()) {
                    0 if count > 0 && to.value(i & args[2].row_mask()) == 0 => 1,
                    end => end.min(count),
                },
                None => count,
            };
            if start <= end {
                builder.at.extend((range.start + start as usize - 1..range.start + end as usize).map(|at| (0, at)));
            }
        }
        builder.end(there)?;
    }
    builder.finish(&[lists.list.values()], out)
}

fn removed(args: &[Value], rows: usize, out: &Arrow) -> Result<ArrayRef> {
    let lists = Lists::of(&args[0])?;
    let (elements, wanted) = (Keys::of(lists.list.values())?, Keys::of(args[1].array())?);
    let m = args[1].row_mask();
    picked(args, rows, out, |range, i, to| {
        to.extend(range.filter(|at| elements.at(*at) != wanted.at(i & m)));
    })
}

fn position(args: &[Value], rows: usize) -> Result<ArrayRef> {
    let lists = Lists::of(&args[0])?;
    let (elements, wanted) = (Keys::of(lists.list.values())?, Keys::of(args[1].array())?);
    let m = args[1].row_mask();
    let out = rows_opt::<Int32Type>(&[&args[0], &args[1]], rows, |i| {
        let found = lists.range(i).position(|at| elements.at(at) == wanted.at(i & m));
        Some(found.map_or(0, |at| at as i32 + 1))
    })?;
    Ok(Arc::new(out))
}

fn contains(args: &[Value], rows: usize) -> Result<ArrayRef> {
    let lists = Lists::of(&args[0])?;
    let (elements, wanted) = (Keys::of(lists.list.values())?, Keys::of(args[1].array())?);
    let m = args[1].row_mask();
    let found = |i: usize| lists.range(i).any(|at| elements.at(at) == wanted.at(i & m));
    Ok(Arc::new(rows_bool(&[&args[0]], rows, found)))
}

fn extreme(args: &[Value], rows: usize, max: bool) -> Result<ArrayRef> {
    let lists = Lists::of(&args[0])?;
    let values = lists.list.values();
    let compare = make_comparator(values, values, SortOptions::default())?;
    let nulls = valid(&[&args[0]], rows);
    let best = |i: usize| {
        let present = lists.range(i).filter(|at| values.is_valid(*at));
        if max { present.max_by(|a, b| compare(*a, *b)) } else { present.min_by(|a, b| compare(*a, *b)) }
    };
    let at: UInt32Array =
        (0..rows).map(|i| if is_valid(&nulls, i) { best(i).map(|at| at as u32) } else { None }).collect();
    Ok(arrow_select::take::take(values, &at, None)?)
}

/// Ascending unless the second argument says otherwise; NULLs first when ascending and last when descending unless the third does.
fn sorted(args: &[Value], rows: usize, out: &Arrow) -> Result<ArrayRef> {
    let lists = Lists::of(&args[0])?;
    let values = lists.list.values();
    let flag = |k: usize, i: usize| -> Option<bool> {
        let value = args.get(k)?;
        let flags: &BooleanArray = value.array().as_boolean_opt()?;
        let at = i & value.row_mask();
        flags.is_valid(at).then(|| flags.value(at))
    };
    let options = |descending, nulls_first| SortOptions { descending, nulls_first };
    let mut compare = Vec::new();
    for (descending, nulls_first) in [(false, false), (false, true), (true, false), (true, true)] {
        compare.push(make_comparator(values, values, options(descending, nulls_first))?);
    }
    let nulls = valid(&args.iter().collect::<Vec<_>>(), rows);
    let mut builder = Builder::new(rows);
    for i in 0..rows {
        let there = is_valid(&nulls, i);
        if there {
            let ascending = flag(1, i).unwrap_or(true);
            let nulls_first = flag(2, i).unwrap_or(ascending);
            let mut at: Vec<usize> = lists.range(i).collect();
            at.sort_by(|a, b| compare[usize::from(!ascending) * 2 + usize::from(nulls_first)](*a, *b));
            builder.at.extend(at.into_iter().map(|at| (0, at)));
        }
        builder.end(there)?;
    }
    builder.finish(&[values], out)
}

fn joined(args: &[Value], rows: usize) -> Result<ArrayRef> {
    let lists = Lists::of(&args[0])?;
    let Some(items) = lists.list.values().as_string_opt::<i32>() else { return Err(Error::bug("items are text")) };
    let (separator, m) = (text(&args[1])?, args[1].row_mask());
    let filler = args.get(2).map(|v| Ok::<_, Error>((text(v)?, v.row_mask()))).transpose()?;
    let out = rows_text(&args.iter().collect::<Vec<_>>(), rows, |i, out| {
        let mut first = true;
        for at in lists.range(i) {
            let item = match (&filler, items.is_null(at)) {
                (_, false) => items.value(at),
                (Some((filler, k)), true) => filler.value(i & k),
                (None, true) => continue,
            };
            out.push_str(if first { "" } else { separator.value(i & m) });
            first = false;
            out.push_str(item);
        }
        Ok(true)
    })?;
    Ok(Arc::new(out))
}

fn element(args: &[Value], rows: usize) -> Result<ArrayRef> {
    let lists = Lists::of(&args[0])?;
    let nulls = valid(&[&args[0]], rows);
    let mut at = Vec::with_capacity(rows);
    for i in 0..rows {
        let range = lists.range(i);
        if range.len() > 1 && is_valid(&nulls, i) {
            let text = format!("ELEMENT takes an array of one element, found {}", range.len());
            return Err(data_error(text).hint("take one by its position: a[1]"));
        }
        at.push((is_valid(&nulls, i) && !range.is_empty()).then_some(range.start as u32));
    }
    Ok(arrow_select::take::take(lists.list.values(), &UInt32Array::from(at), None)?)
}
