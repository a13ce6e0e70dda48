//! Columns of files that carry their own schema, as the columns of a table: found by name, and cast where no value changes but for the
//! fractions of a second that the table's type has no room for, which are cut off. Opens no file.

use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, ListArray, MapArray, PrimitiveArray, RecordBatch, StructArray, new_null_array};
use arrow_cast::{CastOptions, cast, cast_with_options};
use arrow_schema::{ArrowError, DataType as Arrow, Field, Fields, TimeUnit};
use flott_core::Result;
use flott_core::types::{Column, DataType, TypeKind};

use super::bulk::{BulkReader, Step, changed, damaged};

/// Batches of a file as columns of a table.
pub(super) struct Batches<I> {
    /// The file, for messages.
    pub(super) path: PathBuf,
    /// The format's name, for messages.
    pub(super) format: &'static str,
    /// The table's columns, each with its place in a batch; none: the file lacks it.
    pub(super) columns: Vec<(Column, Option<usize>)>,
    /// What is read.
    pub(super) batches: I,
    /// Rows that were read before and are still to be read over.
    pub(super) skip: u64,
    /// What is left of the last batch.
    pub(super) rest: Option<RecordBatch>,
}

impl<E: std::fmt::Display, I: Iterator<Item = std::result::Result<RecordBatch, E>> + Send> BulkReader for Batches<I> {
    fn next(&mut self, rows_max: usize) -> Result<Step> {
        let mut batch = match self.rest.take() {
            Some(rest) => rest,
            None => match self.batches.next() {
                None if self.skip > 0 => {
                    let what = format_args!("{} rows that were read of it are not there any more", self.skip);
                    return Err(changed(&self.path, what));
                }
                None => return Ok(Step::End),
                Some(batch) => batch.map_err(|e| damaged(&self.path, self.format, e))?,
            },
        };
        let skipped = batch.num_rows().min(usize::try_from(self.skip).unwrap_or(usize::MAX));
        if skipped > 0 {
            self.skip -= skipped as u64;
            batch = batch.slice(skipped, batch.num_rows() - skipped);
        }
        if batch.num_rows() == 0 {
            return Ok(Step::Again);
        }
        let rows = batch.num_rows().min(rows_max);
        if rows < batch.num_rows() {
            self.rest = Some(batch.slice(rows, batch.num_rows() - rows));
        }
        let of = |(c, place): &(Column, Option<usize>)| match place {
            None => Ok(new_null_array(&c.data_type.kind.to_arrow(), rows)),
            Some(i) => column(&batch.column(*i).slice(0, rows), &c.data_type.kind)
                .map_err(|e| damaged(&self.path, self.format, format_args!("column `{}`: {e}", c.name))),
        };
        Ok(Step::Rows(self.columns.iter().map(of).collect::<Result<_>>()?, rows))
    }
}

/// What keeps a column of a file from being read as a type, as a sentence without a subject.
pub(super) type Problem = String;

/// Whether plain values of the file's type can be read as the table's.
fn castable(from: &Arrow, to: &TypeKind) -> bool {
    let wanted = to.to_arrow();
    match (from, &wanted) {
        (from, wanted) if from == wanted => true,
        (Arrow::Dictionary(_, values), _) => castable(values, to),
        (Arrow::Utf8 | Arrow::LargeUtf8 | Arrow::Utf8View | Arrow::Binary | Arrow::LargeBinary, Arrow::Utf8) => true,
        (
            Arrow::Binary | Arrow::LargeBinary | Arrow::BinaryView | Arrow::FixedSizeBinary(_) | Arrow::Utf8,
            Arrow::Binary,
        ) => true,
        (Arrow::Decimal32(_, s) | Arrow::Decimal64(_, s) | Arrow::Decimal128(_, s), Arrow::Decimal128(_, t)) => s == t,
        (Arrow::Time32(_) | Arrow::Time64(_), Arrow::Time32(_)) => true,
        (Arrow::Timestamp(..), Arrow::Timestamp(..)) => true,
        (Arrow::Float32, Arrow::Float64) => true,
        (from, wanted) => from.is_integer() && wanted.is_integer(),
    }
}

/// The values of a file's column as those of a table's.
pub(super) fn column(array: &ArrayRef, to: &TypeKind) -> std::result::Result<ArrayRef, Problem> {
    let wanted = to.to_arrow();
    if *array.data_type() == wanted {
        return Ok(Arc::clone(array));
    }
    match (array.data_type(), to) {
        (Arrow::List(_), TypeKind::Array(item)) => {
            let list = array.as_list::<i32>();
            let (values, Arrow::List(field)) = (column(list.values(), &item.kind)?, wanted) else { return Err(bug()) };
            let made = ListArray::try_new(field, list.offsets().clone(), values, list.nulls().cloned());
            made.map(|a| Arc::new(a) as ArrayRef).map_err(|e| e.to_string())
        }
        (Arrow::Map(..), TypeKind::Map(key, value)) => {
            let map = array.as_map();
            let (keys, values) = (column(map.keys(), &key.kind)?, column(map.values(), &value.kind)?);
            let Arrow::Map(entries, sorted) = wanted else { return Err(bug()) };
            let Arrow::Struct(fields) = entries.data_type() else { return Err(bug()) };
            let rows = StructArray::try_new(fields.clone(), vec![keys, values], None).map_err(|e| e.to_string())?;
            let made = MapArray::try_new(entries, map.offsets().clone(), rows, map.nulls().cloned(), sorted);
            made.map(|a| Arc::new(a) as ArrayRef).map_err(|e| e.to_string())
        }
        (Arrow::Struct(_), TypeKind::Row(fields)) => row(array.as_struct(), fields, wanted),
        (from, _) if castable(from, to) => {
            let safe = CastOptions { safe: false, ..CastOptions::default() };
            let array = match from {
                // What a zone says of an instant is not part of it.
                Arrow::Timestamp(unit, _) => cast_with_options(array, &Arrow::Timestamp(*unit, None), &safe)
                    .and_then(|a| floored(a, *unit, &wanted)),
                Arrow::Utf8 if wanted == Arrow::Binary => cast_with_options(array, &Arrow::Binary, &safe),
                _ => Ok(Arc::clone(array)),
            };
            let plain = match &wanted {
                Arrow::Timestamp(unit, _) => Arrow::Timestamp(*unit, None),
                other => other.clone(),
            };
            let cast = array.and_then(|a| cast_with_options(&a, &plain, &safe)).map_err(|e| e.to_string())?;
            match wanted {
                Arrow::Timestamp(_, Some(_)) => {
                    cast_with_options(&cast, &to.to_arrow(), &safe).map_err(|e| e.to_string())
                }
                _ => Ok(cast),
            }
        }
        (from, _) => Err(format!("it holds values of {from} there, and the table says {to}")),
    }
}

/// Instants whose fractions go downwards when the wanted unit is coarser: arrow cuts them towards 1970.
fn floored(array: ArrayRef, unit: TimeUnit, wanted: &Arrow) -> std::result::Result<ArrayRef, ArrowError> {
    let per_second = |unit: &TimeUnit| match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000i64,
    };
    let Arrow::Timestamp(to, _) = wanted else { return Ok(array) };
    let factor = per_second(&unit) / per_second(to);
    if factor <= 1 {
        return Ok(array);
    }
    let ticks = cast(&array, &Arrow::Int64)?;
    let ticks: PrimitiveArray<Int64Type> = ticks.as_primitive::<Int64Type>().unary(|t| t.div_euclid(factor));
    cast(&(Arc::new(ticks) as ArrayRef), &Arrow::Timestamp(*to, None))
}

fn row(array: &StructArray, fields: &[(String, DataType)], wanted: Arrow) -> std::result::Result<ArrayRef, Problem> {
    let of = |(name, t): &(String, DataType)| match array.column_by_name(name) {
        Some(values) => column(values, &t.kind).map_err(|e| format!("field `{name}`: {e}")),
        None => Ok(new_null_array(&t.kind.to_arrow(), array.len())),
    };
    let columns = fields.iter().map(of).collect::<std::result::Result<Vec<_>, _>>()?;
    let Arrow::Struct(fields) = wanted else { return Err(bug()) };
    let made = StructArray::try_new_with_length(fields, columns, array.nulls().cloned(), array.len());
    made.map(|a| Arc::new(a) as ArrayRef).map_err(|e| e.to_string())
}

fn bug() -> Problem {
    "its nested type has another shape than its SQL type".to_owned()
}

/// The place of a column among a file's; names that differ in case only are found when no other is equal.
pub(super) fn place(fields: &Fields, name: &str) -> Option<usize> {
    let equal = |f: &Arc<Field>| f.name() == name;
    fields.iter().position(equal).or_else(|| fields.iter().position(|f| f.name().eq_ignore_ascii_case(name)))
}

#[cfg(test)]
mod tests {
    use arrow_array::types::TimestampMillisecondType;
    use arrow_array::{TimestampMicrosecondArray, TimestampNanosecondArray};

    use super::*;

    #[test]
    fn fractions_are_cut_off_downwards() {
        let nanos = TimestampNanosecondArray::from(vec![Some(-100_000), Some(1_999_999), None]).with_timezone("UTC");
        let micros = TimestampMicrosecondArray::from(vec![Some(-100), Some(1_999), None]);
        for array in [Arc::new(nanos) as ArrayRef, Arc::new(micros)] {
            let made = column(&array, &TypeKind::Timestamp(3)).expect("a timestamp");
            let made: Vec<_> = made.as_primitive::<TimestampMillisecondType>().iter().collect();
            assert_eq!(made, [Some(-1), Some(1), None]);
        }
    }
}
