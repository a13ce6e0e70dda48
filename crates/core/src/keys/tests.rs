//! Round trips, frozen bytes and damaged input of the row codec.

use std::sync::Arc;

use arrow_array::builder::{Int32Builder, ListBuilder};
use arrow_array::types::Int64Type;
use arrow_array::*;
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, Field, FieldRef, Fields, TimeUnit};

use super::RowCodec;
use crate::error::ErrorKind;
use crate::key_group::{key_group_of, key_hash};
use crate::state::KeyBatch;

fn field(name: &str, t: &DataType) -> FieldRef {
    Arc::new(Field::new(name, t.clone(), true))
}

fn codec(columns: &[ArrayRef]) -> RowCodec {
    RowCodec::new(columns.iter().enumerate().map(|(i, c)| field(&format!("c{i}"), c.data_type())).collect()).unwrap()
}

fn every_type() -> Vec<ArrayRef> {
    let nested = StructArray::new(
        Fields::from(vec![Field::new("a", DataType::Int16, true), Field::new("b", DataType::Utf8, true)]),
        vec![
            Arc::new(Int16Array::from(vec![Some(-1), None, Some(3)])),
            Arc::new(StringArray::from(vec![Some("x"), Some("hidden"), None])),
        ],
        Some(NullBuffer::from(vec![true, false, true])),
    );
    let mut list = ListBuilder::new(Int32Builder::new());
    list.append_value([Some(1), None]);
    list.append_null();
    list.append_value([]);
    vec![
        Arc::new(NullArray::new(3)),
        Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])),
        Arc::new(Int8Array::from(vec![Some(i8::MIN), None, Some(5)])),
        Arc::new(Int16Array::from(vec![None, Some(7), Some(i16::MAX)])),
        Arc::new(Int32Array::from(vec![1, -1, 0])),
        Arc::new(Int64Array::from(vec![Some(i64::MAX), Some(0), None])),
        Arc::new(Float32Array::from(vec![Some(1.5), None, Some(-2.5)])),
        Arc::new(Float64Array::from(vec![0.25, f64::INFINITY, -1e300])),
        Arc::new(Decimal128Array::from(vec![Some(-12345), None, Some(1)]).with_precision_and_scale(20, 3).unwrap()),
        Arc::new(Date32Array::from(vec![Some(20000), None, Some(-1)])),
        Arc::new(Time32MillisecondArray::from(vec![1, 2, 3])),
        Arc::new(TimestampMillisecondArray::from(vec![Some(1), None, Some(-5)]).with_timezone("UTC")),
        Arc::new(TimestampNanosecondArray::from(vec![1, 2, 3])),
        Arc::new(StringArray::from(vec![Some("grüß"), None, Some("")])),
        Arc::new(BinaryArray::from_opt_vec(vec![Some(&[0u8, 255]), Some(&[]), None])),
        Arc::new(nested),
        Arc::new(list.finish()),
    ]
}

fn encode(columns: &[ArrayRef]) -> KeyBatch {
    let mut keys = KeyBatch::default();
    codec(columns).encode_keys(columns, 128, &mut keys).unwrap();
    keys
}

#[test]
fn every_type_round_trips_alone_and_together() {
    let all = every_type();
    for column in &all {
        let one = std::slice::from_ref(column);
        let back = codec(one).decode_keys(&encode(one)).unwrap();
        assert_eq!(&back[0], column, "{}", column.data_type());
    }
    assert_eq!(codec(&all).decode_keys(&encode(&all)).unwrap(), all);
    let sliced: Vec<ArrayRef> = all.iter().map(|c| c.slice(1, 2)).collect();
    assert_eq!(codec(&sliced).decode_keys(&encode(&sliced)).unwrap(), sliced);
}

#[test]
fn rows_one_by_one_are_the_rows_of_the_batch() {
    let all = every_type();
    let mut groups: Vec<Vec<ArrayRef>> = all.iter().map(|c| vec![c.clone()]).collect();
    groups.push(all);
    for columns in groups {
        let keys = encode(&columns);
        assert_eq!(keys.offsets.len(), 4);
        for i in 0..3 {
            let mut row = Vec::new();
            codec(&columns).encode_row(&columns, i, &mut row).unwrap();
            assert_eq!(keys.key(i), row);
            assert_eq!(keys.hashes[i], key_hash(&row));
            assert_eq!(keys.groups[i], key_group_of(keys.hashes[i], 128));
        }
    }
}

#[test]
fn the_bytes_are_frozen() {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(vec![-2])),
        Arc::new(StringArray::from(vec!["ab"])),
        Arc::new(Int8Array::from(vec![None])),
        Arc::new(Float64Array::from(vec![1.0])),
        Arc::new(Decimal128Array::from(vec![1])),
        Arc::new(BooleanArray::from(vec![true])),
        Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(vec![Some(vec![Some(1), None])])),
    ];
    let hex: String = encode(&columns).key(0).iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(
        hex,
        "017ffffffffffffffe\
         01000000026162\
         00\
         013ff0000000000000\
         0180000000000000000000000000000001\
         0101\
         01000000020180000000000000\
         0100"
    );
}

#[test]
fn equal_floats_are_one_key_and_signed_numbers_sort() {
    let zeros: Vec<ArrayRef> = vec![Arc::new(Float64Array::from(vec![0.0, -0.0, f64::NAN, -f64::NAN]))];
    let keys = encode(&zeros);
    assert_eq!(keys.key(0), keys.key(1));
    assert_eq!(keys.key(2), keys.key(3));
    let numbers: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![i64::MIN, -1, 0, 1, i64::MAX]))];
    let keys = encode(&numbers);
    assert!((1..5).all(|i| keys.key(i - 1) < keys.key(i)));
}

#[test]
fn rows_are_appended_and_empty_keys_are_one_group() {
    let columns: Vec<ArrayRef> = vec![Arc::new(StringArray::from(vec!["a", "bc"]))];
    let (mut offsets, mut bytes) = (Vec::new(), vec![9]);
    codec(&columns).encode_rows(&columns, &mut offsets, &mut bytes).unwrap();
    codec(&columns).encode_rows(&columns, &mut offsets, &mut bytes).unwrap();
    assert_eq!(offsets, [1, 7, 14, 20, 27]);
    assert_eq!(bytes.len(), 27);
    let mut keys = KeyBatch::default();
    RowCodec::encode_empty_keys(3, 128, &mut keys);
    assert!(keys.len() == 3 && keys.key(2).is_empty() && keys.groups[0] == keys.groups[2]);
}

#[test]
fn damaged_bytes_are_corrupt_at_every_length_and_never_panic() {
    let all = every_type();
    let codec = codec(&all);
    let keys = encode(&all);
    let row = keys.key(0);
    for end in 0..row.len() {
        assert_eq!(codec.decode([&row[..end]]).unwrap_err().kind(), ErrorKind::Corrupt, "cut at {end}");
    }
    let longer = [row, &[0]].concat();
    assert_eq!(codec.decode([&longer[..]]).unwrap_err().kind(), ErrorKind::Corrupt);
    for i in 0..row.len() {
        let mut damaged = row.to_vec();
        damaged[i] ^= 0xff;
        if let Err(e) = codec.decode([&damaged[..]]) {
            assert_eq!(e.kind(), ErrorKind::Corrupt, "byte {i}");
        }
    }
    let text = RowCodec::new(vec![field("s", &DataType::Utf8)]).unwrap();
    assert_eq!(text.decode([&[1, 0, 0, 0, 1, 0xff][..]]).unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(text.decode([&[2][..]]).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn a_type_without_bytes_is_refused_by_name() {
    let e = RowCodec::new(vec![field("gap", &DataType::Duration(TimeUnit::Second))]).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::User);
    assert!(e.to_string().contains("`gap`"), "{e}");
    let columns: Vec<ArrayRef> = vec![Arc::new(Int32Array::from(vec![1]))];
    let wrong: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![1]))];
    let e = codec(&columns).encode_keys(&wrong, 1, &mut KeyBatch::default()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Bug);
}

#[test]
fn equal_maps_are_one_key_whatever_the_order_of_their_entries() {
    use arrow_array::builder::{Int32Builder, MapBuilder, StringBuilder};
    let mut builder = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
    for entries in [&[("b", Some(2)), ("a", None)][..], &[("a", None), ("b", Some(2))], &[]] {
        for (k, v) in entries {
            builder.keys().append_value(k);
            builder.values().append_option(*v);
        }
        builder.append(true).unwrap();
    }
    builder.append(false).unwrap();
    let maps: Vec<ArrayRef> = vec![Arc::new(builder.finish())];
    let keys = encode(&maps);
    assert_eq!(keys.key(0), keys.key(1));
    assert_eq!(keys.key(3), [0]);
    let back = codec(&maps).decode_keys(&keys).unwrap();
    let expected = arrow_select::take::take(&maps[0], &arrow_array::UInt32Array::from(vec![1, 1, 2, 3]), None).unwrap();
    assert_eq!(back[0].as_ref(), expected.as_ref());
    for end in 0..keys.key(0).len() {
        assert_eq!(codec(&maps).decode([&keys.key(0)[..end]]).unwrap_err().kind(), ErrorKind::Corrupt, "cut at {end}");
    }
}
