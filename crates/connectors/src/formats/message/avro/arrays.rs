//! Arrays as `arrow-avro` makes them to arrays as tables carry them; never changes what a value means.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, ListArray, MapArray, StructArray};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::DataType as Arrow;
use flott_core::types::TypeKind;
use flott_core::{Error, Result};

/// The array with the carrier of `kind`. Fields of records are found by name.
pub fn adapt(array: &ArrayRef, kind: &TypeKind) -> Result<ArrayRef> {
    let to = kind.to_arrow();
    if *array.data_type() == to {
        return Ok(Arc::clone(array));
    }
    let other = || Error::bug(format!("Avro gave {} for {kind}", array.data_type()));
    match (kind, to) {
        (TypeKind::Array(item), Arrow::List(field)) => {
            let list = array.as_list_opt::<i32>().ok_or_else(other)?;
            let items = adapt(list.values(), &item.kind)?;
            Ok(Arc::new(ListArray::try_new(field, list.offsets().clone(), items, list.nulls().cloned())?))
        }
        (TypeKind::Map(_, value), Arrow::Map(field, sorted)) => {
            let map = array.as_map_opt().ok_or_else(other)?;
            let Arrow::Struct(entry) = field.data_type() else { return Err(Error::bug("MAP without entries")) };
            let columns = vec![Arc::clone(map.keys()), adapt(map.values(), &value.kind)?];
            let entries = StructArray::try_new(entry.clone(), columns, None)?;
            let (offsets, nulls) = (map.offsets().clone(), map.nulls().cloned());
            Ok(Arc::new(MapArray::try_new(field, offsets, entries, nulls, sorted)?))
        }
        (TypeKind::Row(fields), Arrow::Struct(names)) => {
            let row = array.as_struct_opt().ok_or_else(other)?;
            let child = |(name, t): &(String, flott_core::types::DataType)| {
                adapt(row.column_by_name(name).ok_or_else(other)?, &t.kind)
            };
            let children = fields.iter().map(child).collect::<Result<_>>()?;
            Ok(Arc::new(StructArray::try_new(names, children, row.nulls().cloned())?))
        }
        (_, to) => {
            let options = CastOptions { safe: false, ..CastOptions::default() };
            cast_with_options(array, &to, &options)
                .map_err(|e| Error::user("format.bad-record", format!("a value of Avro is not a {kind}: {e}")))
        }
    }
}
