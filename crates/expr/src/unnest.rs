//! UNNEST: the elements of an ARRAY, the entries of a MAP, the copies of a MULTISET as rows. Never changes a value.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use arrow_array::{Array, ArrayRef, Int32Array, UInt32Array};
use arrow_schema::DataType as Arrow;
use flott_core::table_function::{BoundTableFunction, TableRows};
use flott_core::types::{Column, DataType, TypeKind};
use flott_core::{Error, Result};

/// The function for a collection of this type and the columns it gives; a position (from 1) comes last `with_ordinality`.
pub fn unnest(collection: &DataType, with_ordinality: bool) -> Result<(Vec<Column>, Arc<dyn BoundTableFunction>)> {
    let element = |item: &DataType| match &item.kind {
        TypeKind::Row(fields) => {
            let field = |(name, t): &(String, DataType)| {
                Column::new(name, t.clone().with_nullable(t.nullable || item.nullable))
            };
            fields.iter().map(field).collect()
        }
        _ => vec![Column::new("EXPR$0", item.clone())],
    };
    let mut columns: Vec<Column> = match &collection.kind {
        TypeKind::Array(item) | TypeKind::Multiset(item) => element(item),
        TypeKind::Map(k, v) => vec![Column::new("KEY", k.as_ref().clone()), Column::new("VALUE", v.as_ref().clone())],
        other => {
            let error =
                Error::user("sql.function", format!("UNNEST takes an ARRAY, a MAP or a MULTISET, found {other}"));
            return Err(error);
        }
    };
    if with_ordinality {
        columns.push(Column::new("ORDINALITY", TypeKind::Int.not_null()));
    }
    let multiset = matches!(collection.kind, TypeKind::Multiset(_));
    Ok((columns, Arc::new(Unnest { multiset, with_ordinality })))
}

#[derive(Debug)]
struct Unnest {
    multiset: bool,
    with_ordinality: bool,
}

impl BoundTableFunction for Unnest {
    fn call(&self, args: &[ArrayRef], rows: usize) -> Result<TableRows> {
        let [collection] = args else { return Err(Error::bug("UNNEST takes one argument")) };
        let (offsets, values): (&[i32], Vec<ArrayRef>) = match collection.data_type() {
            Arrow::List(_) => {
                let list = collection.as_list::<i32>();
                (list.value_offsets(), vec![Arc::clone(list.values())])
            }
            Arrow::Map(..) => {
                let map = collection.as_map();
                (map.value_offsets(), vec![Arc::clone(map.keys()), Arc::clone(map.values())])
            }
            other => return Err(Error::bug(format!("UNNEST of {other}"))),
        };
        let counts = self.multiset.then(|| values[1].as_primitive::<Int32Type>());
        let (mut from, mut at, mut ordinals) = (Vec::new(), Vec::new(), Vec::new());
        for row in (0..rows).filter(|&i| collection.is_valid(i)) {
            let mut ordinal = 0;
            for entry in offsets[row]..offsets[row + 1] {
                for _ in 0..counts.map_or(1, |c| c.value(entry as usize)) {
                    ordinal += 1;
                    from.push(row as u32);
                    at.push(entry as u32);
                    ordinals.push(ordinal);
                }
            }
        }
        let at = UInt32Array::from(at);
        let shown = if self.multiset { &values[..1] } else { &values[..] };
        let mut columns = Vec::with_capacity(shown.len() + 1);
        for column in shown {
            let taken = arrow_select::take::take(column, &at, None)?;
            match (shown.len(), taken.as_struct_opt()) {
                (1, Some(row)) => {
                    for i in 0..row.num_columns() {
                        columns.push(crate::compile::field(row, i)?);
                    }
                }
                _ => columns.push(taken),
            }
        }
        if self.with_ordinality {
            columns.push(Arc::new(Int32Array::from(ordinals)));
        }
        Ok(TableRows { rows: UInt32Array::from(from), columns })
    }
}
