//! Batches, headers and signals as bytes and back; bytes that are something else are refused and never panic.

use arrow_array::builder::{MapBuilder, StringBuilder};
use arrow_array::types::Int32Type;
use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Decimal128Array, FixedSizeBinaryArray, Float64Array, Int32Array, ListArray,
    NullArray, StringArray, StructArray, TimestampMillisecondArray,
};
use flott_core::batch::RowKind;
use proptest::prelude::*;

use super::super::batch::encode;
use super::super::decode::decode;
use super::super::frame::{HEADER_BYTES, Header, Kind, decode_signal, encode_signal};
use super::*;

fn columns() -> Vec<(&'static str, ArrayRef)> {
    let item = |n| Some(vec![Some(n), None, Some(n + 1)]);
    let mut map = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    for n in 0..9 {
        (0..n % 3).for_each(|k| {
            map.keys().append_value(format!("k{k}"));
            map.values().append_option((k == 1).then_some("v"));
        });
        map.append(n != 4).expect("as many keys as values");
    }
    let text = StringArray::from_iter((0..9).map(|n| (n != 2).then(|| "é".repeat(n))));
    let int: ArrayRef = Arc::new(Int32Array::from_iter((0..9).map(|n| (n % 4 != 1).then_some(n))));
    let row = StructArray::from(vec![
        (Arc::new(Field::new("i", DataType::Int32, true)), int.clone()),
        (Arc::new(Field::new("s", DataType::Utf8, true)), Arc::new(text.clone()) as ArrayRef),
    ]);
    vec![
        ("int", int),
        ("text", Arc::new(text)),
        ("float", Arc::new(Float64Array::from_iter_values((0..9).map(f64::from)))),
        ("bool", Arc::new(BooleanArray::from_iter((0..9).map(|n| (n != 7).then_some(n % 2 == 0))))),
        ("decimal", Arc::new(Decimal128Array::from_iter_values(0..9).with_precision_and_scale(38, 2).expect("fits"))),
        ("time", Arc::new(TimestampMillisecondArray::from_iter_values(0..9))),
        ("bytes", Arc::new(BinaryArray::from_iter_values((0..9u8).map(|n| vec![n; n as usize])))),
        ("fixed", Arc::new(FixedSizeBinaryArray::try_from_iter((0..9u8).map(|n| [n; 3])).expect("one width"))),
        (
            "list",
            Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(
                (0..9).map(|n| if n == 5 { None } else { item(n) }),
            )),
        ),
        ("row", Arc::new(row)),
        ("map", Arc::new(map.finish())),
        ("null", Arc::new(NullArray::new(9))),
    ]
}

fn batch() -> ChangeBatch {
    let rows = RecordBatch::try_from_iter_with_nullable(columns().into_iter().map(|(n, a)| (n, a, true)));
    let kinds: Arc<[RowKind]> = (0..9u8).map(|n| RowKind::from_u8(n % 4).expect("0 to 3")).collect();
    ChangeBatch::new(rows.expect("one length"), Some(kinds), Some((0..9).collect()))
}

fn payload(batch: &ChangeBatch) -> Vec<u8> {
    let mut frame = Vec::new();
    let encoded = encode(batch).expect("these types travel");
    let len = encoded.write(&mut frame, 3, Compression::None).expect("memory takes everything");
    assert_eq!((frame.len(), encoded.len), (HEADER_BYTES + len as usize, len as usize));
    frame.split_off(HEADER_BYTES)
}

#[test]
fn what_is_written_is_read_slices_included() {
    let whole = batch();
    for from in 0..=9 {
        for len in 0..=9 - from {
            let part = whole.slice(from, len);
            let back = decode(payload(&part), &whole.schema()).expect("just written");
            assert_eq!((&back.rows, &back.kinds, &back.times), (&part.rows, &part.kinds, &part.times), "{from} {len}");
        }
    }
    let plain = ChangeBatch::append(whole.rows.slice(2, 3));
    let back = decode(payload(&plain), &whole.schema()).expect("just written");
    assert!(back.rows == plain.rows && back.kinds.is_none() && back.times.is_none());
}

#[test]
fn another_schema_is_refused() {
    let other: SchemaRef = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]));
    assert!(decode(payload(&batch()), &other).is_err());
}

#[test]
fn signals_come_back() {
    let barrier = |unaligned_after_ms| {
        let options = BarrierOptions { at_least_once: true, savepoint: false, last: true, unaligned_after_ms };
        Signal::Barrier(Barrier { checkpoint: CheckpointId(9), triggered_ms: -5, options })
    };
    let all = [
        Signal::Watermark(EventTime(i64::MIN)),
        Signal::Idle,
        Signal::Active,
        Signal::LatencyMarker { emitted_ms: 12 },
        Signal::EndOfData,
        barrier(None),
        barrier(Some(0)),
        barrier(Some(1000)),
    ];
    for signal in all {
        let bytes = encode_signal(&signal);
        assert_eq!(decode_signal(&bytes), Some(signal.clone()));
        assert_eq!(decode_signal(&bytes[..bytes.len() - 1]), None, "{signal:?}");
        assert_eq!(decode_signal(&[&bytes[..], &[0]].concat()), None, "{signal:?}");
    }
    assert_eq!(decode_signal(&[77]), None);
}

proptest! {
    #[test]
    fn changed_bytes_never_panic(at in 0usize..2000, byte: u8, cut in 0usize..2000) {
        let mut bytes = payload(&batch());
        let len = bytes.len();
        bytes[at % len] = byte;
        let _ = decode(bytes.clone(), &batch().schema());
        bytes.truncate(cut % len);
        let _ = decode(bytes, &batch().schema());
    }

    #[test]
    fn a_header_is_itself_or_an_error(channel: u32, len in 0u32..1000, at in 0usize..HEADER_BYTES, bit in 0u8..8) {
        let header = Header { kind: Kind::Signal, compression: Compression::Lz4, channel, len };
        let mut bytes = header.encode();
        prop_assert_eq!(Header::decode(&bytes, 1000), Ok(header));
        bytes[at] ^= 1 << bit;
        prop_assert!(Header::decode(&bytes, 1000).is_err());
    }
}
