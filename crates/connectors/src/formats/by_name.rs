//! Columns of files that carry their own schema, as the columns of a table: found by name, and cast where no value can change. Reads
//! nothing.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, ListArray, MapArray, StructArray, new_null_array};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{DataType as Arrow, Field, Fields};
use flott_core::types::{DataType, TypeKind};

/// What keeps a column of a file from being read as a type, as a sentence without a subject.
pub(super) type Problem = String;

/// Whether values of the file's type can be read as the table's; the same answer as [`column`] gives, without values.
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
pub(super) fn column(array: &ArrayRef, to: &TypeKind) -> Result<ArrayRef, Problem> {
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
                Arrow::Timestamp(unit, Some(_)) => cast_with_options(array, &Arrow::Timestamp(*unit, None), &safe),
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

fn row(array: &StructArray, fields: &[(String, DataType)], wanted: Arrow) -> Result<ArrayRef, Problem> {
    let of = |(name, t): &(String, DataType)| match array.column_by_name(name) {
        Some(values) => column(values, &t.kind).map_err(|e| format!("field `{name}`: {e}")),
        None => Ok(new_null_array(&t.kind.to_arrow(), array.len())),
    };
    let columns = fields.iter().map(of).collect::<Result<Vec<_>, _>>()?;
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
