//! Results of accumulators without a fixed size: lists, multisets, joined texts, percentiles, bitmaps. Pure.

use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, Float64Builder, ListBuilder, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{Array, ArrayRef, Int32Array, Int64Array, ListArray, MapArray, StructArray, UInt32Array};
use arrow_buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::DataType as Arrow;
use flott_core::error::{Error, Result};
use flott_core::keys::RowCodec;
use flott_expr::BitmapFolder;
use flott_plan::spec::AggregateFunction;

use super::collected::Collected;
use super::finish::Beside;

/// The entries of all groups as columns.
struct Groups {
    columns: Vec<ArrayRef>,
    counts: Vec<i64>,
    /// Entries of group `g`: `ends[g - 1]..ends[g]`.
    ends: Vec<usize>,
}

impl Groups {
    fn of(kind: Collected, codec: &RowCodec, values: &[Beside]) -> Result<Self> {
        let (mut entries, mut counts, mut ends) = (Vec::new(), Vec::new(), Vec::with_capacity(values.len()));
        for value in values {
            for (entry, count) in kind.entries(value.as_deref().unwrap_or_default())? {
                entries.push(entry);
                counts.push(count);
            }
            ends.push(entries.len());
        }
        Ok(Groups { columns: codec.decode(entries)?, counts, ends })
    }
    fn ranges(&self) -> impl Iterator<Item = std::ops::Range<usize>> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| start..end)
    }
    fn offsets(&self) -> Result<OffsetBuffer<i32>> {
        let end = |e: &usize| i32::try_from(*e).map_err(|_| Error::bug("an aggregate has more than 2³¹ values"));
        let mut offsets = vec![0];
        for e in &self.ends {
            offsets.push(end(e)?);
        }
        Ok(OffsetBuffer::new(ScalarBuffer::from(offsets)))
    }
}

/// The column of `function` over the values of each group.
pub(super) fn column(
    function: AggregateFunction,
    kind: Collected,
    codec: &RowCodec,
    arrow: &Arrow,
    values: &[Beside],
) -> Result<ArrayRef> {
    use AggregateFunction as F;
    let groups = Groups::of(kind, codec, values)?;
    match function {
        F::FirstValue | F::LastValue | F::SingleValue => one(function, &groups),
        F::ListAgg => Ok(Arc::new(joined(&groups))),
        F::ArrayAgg { .. } => list(&groups, arrow),
        F::Collect => multiset(&groups, arrow),
        F::JsonArrayAgg { absent_on_null } => Ok(Arc::new(json_array(&groups, absent_on_null))),
        F::JsonObjectAgg { absent_on_null } => json_object(&groups, absent_on_null),
        F::Percentile => percentile(&groups, arrow),
        F::Bitmap { fold, cardinality } => bitmap(&groups, fold, cardinality),
        other => Err(Error::bug(format!("{} keeps no values", other.name()))),
    }
}

fn one(function: AggregateFunction, groups: &Groups) -> Result<ArrayRef> {
    let mut at = Vec::with_capacity(groups.ends.len());
    for range in groups.ranges() {
        if function == AggregateFunction::SingleValue && range.len() > 1 {
            let text = "a subquery used as a value returned more than one row";
            return Err(Error::user("sql.data", text).hint("add a condition, or an aggregate such as MAX"));
        }
        let place = if function == AggregateFunction::LastValue { range.end.wrapping_sub(1) } else { range.start };
        at.push((!range.is_empty()).then_some(place as u32));
    }
    Ok(arrow_select::take::take(&groups.columns[0], &UInt32Array::from(at), None)?)
}

fn joined(groups: &Groups) -> arrow_array::StringArray {
    let (texts, separators) = (groups.columns[0].as_string::<i32>(), groups.columns[1].as_string::<i32>());
    let (mut out, mut buffer) = (StringBuilder::new(), String::new());
    for range in groups.ranges() {
        buffer.clear();
        let empty = range.is_empty();
        for (k, i) in range.enumerate() {
            buffer.push_str(if k > 0 { separators.value(i) } else { "" });
            buffer.push_str(texts.value(i));
        }
        out.append_option((!empty).then_some(&buffer));
    }
    out.finish()
}

fn list(groups: &Groups, arrow: &Arrow) -> Result<ArrayRef> {
    let Arrow::List(field) = arrow else { return Err(Error::bug("ARRAY_AGG makes a list")) };
    let nulls = NullBuffer::from_iter(groups.ranges().map(|r| !r.is_empty()));
    let nulls = Some(nulls).filter(|n| n.null_count() > 0);
    let values = Arc::clone(&groups.columns[0]);
    Ok(Arc::new(ListArray::try_new(Arc::clone(field), groups.offsets()?, values, nulls)?))
}

fn multiset(groups: &Groups, arrow: &Arrow) -> Result<ArrayRef> {
    let Arrow::Map(entries, _) = arrow else { return Err(Error::bug("COLLECT makes a multiset")) };
    let Arrow::Struct(fields) = entries.data_type() else { return Err(Error::bug("a map has entries")) };
    let counts = groups.counts.iter().map(|n| i32::try_from(*n).unwrap_or(i32::MAX));
    let columns: Vec<ArrayRef> = vec![Arc::clone(&groups.columns[0]), Arc::new(Int32Array::from_iter_values(counts))];
    let rows = StructArray::try_new(fields.clone(), columns, None)?;
    Ok(Arc::new(MapArray::try_new(Arc::clone(entries), groups.offsets()?, rows, None, false)?))
}

fn json_array(groups: &Groups, absent_on_null: bool) -> arrow_array::StringArray {
    let texts = groups.columns[0].as_string::<i32>();
    let (mut out, mut buffer) = (StringBuilder::new(), String::new());
    for range in groups.ranges() {
        buffer.clear();
        buffer.push('[');
        for i in range.filter(|&i| !absent_on_null || texts.is_valid(i)) {
            buffer.push_str(if buffer.len() > 1 { "," } else { "" });
            buffer.push_str(if texts.is_null(i) { "null" } else { texts.value(i) });
        }
        buffer.push(']');
        out.append_value(&buffer);
    }
    out.finish()
}

/// Names in order, each once: a name that comes twice is an error, as in Flink.
fn json_object(groups: &Groups, absent_on_null: bool) -> Result<ArrayRef> {
    let (names, texts) = (groups.columns[0].as_string::<i32>(), groups.columns[1].as_string::<i32>());
    let (mut out, mut buffer) = (StringBuilder::new(), String::new());
    for range in groups.ranges() {
        let mut members: Vec<usize> = range.filter(|&i| names.is_valid(i)).collect();
        members.sort_by_key(|&i| names.value(i));
        if let Some(pair) = members.windows(2).find(|w| names.value(w[0]) == names.value(w[1])) {
            let text = format!("JSON_OBJECTAGG got the key '{}' twice", names.value(pair[0]));
            return Err(Error::user("sql.data", text).hint("make the keys of a group differ"));
        }
        buffer.clear();
        buffer.push('{');
        for i in members.into_iter().filter(|&i| !absent_on_null || texts.is_valid(i)) {
            buffer.push_str(if buffer.len() > 1 { "," } else { "" });
            flott_expr::write_json_string(names.value(i), &mut buffer);
            buffer.push(':');
            buffer.push_str(if texts.is_null(i) { "null" } else { texts.value(i) });
        }
        buffer.push('}');
        out.append_value(&buffer);
    }
    Ok(Arc::new(out.finish()))
}

fn percentile(groups: &Groups, arrow: &Arrow) -> Result<ArrayRef> {
    let values = groups.columns[0].as_primitive::<Float64Type>();
    let frequencies = groups.columns.get(2).map(|c| c.as_primitive::<Int64Type>());
    let percentages = &groups.columns[1];
    let (mut one, mut many) = (Float64Builder::new(), ListBuilder::new(Float64Builder::new()));
    if let Arrow::List(field) = arrow {
        many = many.with_field(Arc::clone(field));
    }
    for range in groups.ranges() {
        let weight =
            |i: usize| groups.counts[i] * frequencies.map_or(1, |f| if f.is_valid(i) { f.value(i) } else { 0 });
        let mut sorted: Vec<(f64, i64)> = range.clone().map(|i| (values.value(i), weight(i))).collect();
        sorted.retain(|s| s.1 > 0);
        sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
        // The percentage of the first row counts.
        let wanted: Option<Vec<f64>> = range.clone().next().filter(|_| !sorted.is_empty()).map(|first| match arrow {
            Arrow::List(_) => percentages.as_list::<i32>().value(first).as_primitive::<Float64Type>().values().to_vec(),
            _ => vec![percentages.as_primitive::<Float64Type>().value(first)],
        });
        let results = wanted.map(|w| w.iter().map(|p| interpolated(&sorted, *p)).collect::<Vec<f64>>());
        match arrow {
            Arrow::List(_) => {
                results.iter().flatten().for_each(|r| many.values().append_value(*r));
                many.append(results.is_some());
            }
            _ => one.append_option(results.and_then(|r| r.first().copied())),
        }
    }
    Ok(if matches!(arrow, Arrow::List(_)) { Arc::new(many.finish()) } else { Arc::new(one.finish()) })
}

/// Linear between the two values around the place.
fn interpolated(sorted: &[(f64, i64)], percentage: f64) -> f64 {
    let total: i64 = sorted.iter().map(|s| s.1).sum();
    // Counted from 1, as Flink does: the last digits depend on it.
    let place = (total - 1) as f64 * percentage + 1.0;
    let at = |k: i64| {
        let mut seen = 0;
        let found = sorted.iter().find(|s| {
            seen += s.1;
            seen >= k
        });
        found.map_or(f64::NAN, |s| s.0)
    };
    let (low, high) = (place.floor(), place.ceil());
    if low == high {
        return at(low as i64);
    }
    at(low as i64) * (high - place) + at(high as i64) * (place - low)
}

fn bitmap(groups: &Groups, fold: flott_plan::BitmapFold, cardinality: bool) -> Result<ArrayRef> {
    let (mut bytes, mut counts) = (BinaryBuilder::new(), Vec::new());
    for range in groups.ranges() {
        let mut folder = BitmapFolder::new(fold);
        for i in range.clone() {
            folder.add(&groups.columns[0], i, groups.counts[i])?;
        }
        let any = !range.is_empty();
        if cardinality {
            counts.push(any.then(|| folder.cardinality()));
        } else if any {
            bytes.append_value(folder.bytes()?);
        } else {
            bytes.append_null();
        }
    }
    Ok(if cardinality { Arc::new(Int64Array::from(counts)) } else { Arc::new(bytes.finish()) })
}
