//! MAP functions. Of equal keys the last counts; entries keep the place of the first.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, ListArray, MapArray, StructArray, new_empty_array};
use arrow_buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::DataType as Arrow;
use flott_core::types::DataType;
use flott_core::{Error, Result};
use flott_plan::expr::Expr;

use super::array::{Keys, Lists, retyped};
use super::lift::{is_valid, valid};
use super::{Compiled, data_error};
use crate::compile::Value;

/// The kernel, if `function` is one of these.
pub(super) fn kernel(function: &str, args: &[Expr], out: &DataType) -> Result<Option<Compiled>> {
    let arrow = out.kind.to_arrow();
    Ok(Some(match function {
        "MAP" => Compiled::partial(move |args, n, _| constructed(args, n, &arrow)),
        "MAP_FROM_ARRAYS" => Compiled::partial(move |args, n, _| from_arrays(args, n, &arrow)),
        "MAP_UNION" => Compiled::total(move |args, n, _| union(args, n, &arrow)),
        "MAP_KEYS" | "MAP_VALUES" | "MAP_ENTRIES" => {
            debug_assert!(!args.is_empty(), "the binder gives a map");
            let part = function.strip_prefix("MAP_").unwrap_or_default().to_owned();
            Compiled::total(move |args, n, _| entries(&args[0], n, &part, &arrow))
        }
        _ => return Ok(None),
    }))
}

/// Maps put together from keys and values of several sources.
struct Builder<'a> {
    keys: Vec<&'a ArrayRef>,
    values: Vec<&'a ArrayRef>,
    bytes: Vec<Keys>,
    offsets: Vec<i32>,
    valid: Vec<bool>,
    key_at: Vec<(usize, usize)>,
    value_at: Vec<(usize, usize)>,
    /// Entries of the row so far by key.
    row: HashMap<Vec<u8>, usize>,
}

impl<'a> Builder<'a> {
    fn new(keys: Vec<&'a ArrayRef>, values: Vec<&'a ArrayRef>) -> Result<Self> {
        let bytes = keys.iter().map(|k| Keys::of(k)).collect::<Result<_>>()?;
        let (offsets, valid, key_at, value_at) = (vec![0], Vec::new(), Vec::new(), Vec::new());
        Ok(Builder { keys, values, bytes, offsets, valid, key_at, value_at, row: HashMap::new() })
    }
    fn put(&mut self, source: usize, key: usize, value: usize) -> Result<()> {
        if self.keys[source].is_null(key) {
            return Err(data_error("the key of a MAP is NULL").hint("leave NULL keys out, or replace them: COALESCE"));
        }
        let bytes = self.bytes[source].at(key);
        if let Some(known) = self.row.get(bytes) {
            self.value_at[*known] = (source, value);
            return Ok(());
        }
        self.row.insert(bytes.to_vec(), self.key_at.len());
        self.key_at.push((source, key));
        self.value_at.push((source, value));
        Ok(())
    }
    fn end(&mut self, valid: bool) -> Result<()> {
        let end = i32::try_from(self.key_at.len()).map_err(|_| data_error("a MAP column has more than 2³¹ entries"))?;
        self.offsets.push(end);
        self.valid.push(valid);
        self.row.clear();
        Ok(())
    }
    fn finish(self, out: &Arrow) -> Result<ArrayRef> {
        let Arrow::Map(entries, _) = out else { return Err(Error::bug("a MAP is a map")) };
        let Arrow::Struct(fields) = entries.data_type() else { return Err(Error::bug("a map has entries")) };
        let gather = |sources: &[&ArrayRef], at: &[(usize, usize)], to: &Arrow| -> Result<ArrayRef> {
            if at.is_empty() {
                return Ok(new_empty_array(to));
            }
            let arrays: Vec<&dyn Array> = sources.iter().map(|s| s.as_ref()).collect();
            retyped(arrow_select::interleave::interleave(&arrays, at)?, to)
        };
        let keys = gather(&self.keys, &self.key_at, fields[0].data_type())?;
        let values = gather(&self.values, &self.value_at, fields[1].data_type())?;
        let rows = StructArray::try_new(fields.clone(), vec![keys, values], None)?;
        let nulls = self.valid.contains(&false).then(|| NullBuffer::from(self.valid));
        let offsets = OffsetBuffer::new(ScalarBuffer::from(self.offsets));
        Ok(Arc::new(MapArray::try_new(Arc::clone(entries), offsets, rows, nulls, false)?))
    }
}

fn constructed(args: &[Value], rows: usize, out: &Arrow) -> Result<ArrayRef> {
    let (keys, values) = (args.iter().step_by(2), args.iter().skip(1).step_by(2));
    let mut builder = Builder::new(keys.map(Value::array).collect(), values.map(Value::array).collect())?;
    for i in 0..rows {
        for (k, pair) in args.chunks_exact(2).enumerate() {
            builder.put(k, i & pair[0].row_mask(), i & pair[1].row_mask())?;
        }
        builder.end(true)?;
    }
    builder.finish(out)
}

fn from_arrays(args: &[Value], rows: usize, out: &Arrow) -> Result<ArrayRef> {
    let (keys, values) = (Lists::of(&args[0])?, Lists::of(&args[1])?);
    let nulls = valid(&[&args[0], &args[1]], rows);
    let mut builder = Builder::new(vec![keys.list.values()], vec![values.list.values()])?;
    for i in 0..rows {
        let there = is_valid(&nulls, i);
        if there {
            let (k, v) = (keys.range(i), values.range(i));
            if k.len() != v.len() {
                let text = format!("MAP_FROM_ARRAYS got {} keys and {} values", k.len(), v.len());
                return Err(data_error(text).detail("expected arrays of one length"));
            }
            for (key, value) in k.zip(v) {
                builder.put(0, key, value)?;
            }
        }
        builder.end(there)?;
    }
    builder.finish(out)
}

fn union(args: &[Value], rows: usize, out: &Arrow) -> Result<ArrayRef> {
    let maps: Vec<(&MapArray, usize)> = args.iter().map(|a| (a.array().as_map(), a.row_mask())).collect();
    let nulls = valid(&args.iter().collect::<Vec<_>>(), rows);
    let parts = (maps.iter().map(|m| m.0.keys()).collect(), maps.iter().map(|m| m.0.values()).collect());
    let mut builder = Builder::new(parts.0, parts.1)?;
    for i in 0..rows {
        let there = is_valid(&nulls, i);
        for (k, (map, mask)) in maps.iter().enumerate().filter(|_| there) {
            let offsets = map.value_offsets();
            for at in offsets[i & mask] as usize..offsets[(i & mask) + 1] as usize {
                builder.put(k, at, at)?;
            }
        }
        builder.end(there)?;
    }
    builder.finish(out)
}

fn entries(map: &Value, rows: usize, part: &str, out: &Arrow) -> Result<ArrayRef> {
    let Arrow::List(field) = out else { return Err(Error::bug("an ARRAY is a list")) };
    let array = map.clone().into_array(rows)?;
    let map = array.as_map();
    let values: ArrayRef = match part {
        "KEYS" => Arc::clone(map.keys()),
        "VALUES" => Arc::clone(map.values()),
        _ => {
            let Arrow::Struct(fields) = field.data_type() else { return Err(Error::bug("entries are rows")) };
            let columns = vec![Arc::clone(map.keys()), Arc::clone(map.values())];
            Arc::new(StructArray::try_new(fields.clone(), columns, None)?)
        }
    };
    let values = retyped(values, field.data_type())?;
    Ok(Arc::new(ListArray::try_new(Arc::clone(field), map.offsets().clone(), values, map.nulls().cloned())?))
}
