//! Builders roll back to any row, and numbers are rounded and refused as declared.

use arrow_array::Array;
use flott_core::types::TypeKind as T;

use super::*;

#[test]
fn truncating_forgets_rows_of_every_type() {
    let row = T::Row(vec![("a".into(), T::Int.nullable()), ("b".into(), T::STRING.nullable())]);
    for (kind, value) in [
        (T::Boolean, "true"),
        (T::TinyInt, "1"),
        (T::SmallInt, "2"),
        (T::Int, "3"),
        (T::BigInt, "4"),
        (T::Float, "1.5"),
        (T::Double, "2.5"),
        (T::Decimal(10, 2), "3.45"),
        (T::STRING, "text"),
        (T::BYTES, "AQI="),
        (T::Date, "2020-01-01"),
        (T::Time(3), "01:02:03.004"),
        (T::Timestamp(6), "2020-01-01 00:00:00.123456"),
        (T::TimestampLtz(9), "2020-01-01 00:00:00.123456789Z"),
    ] {
        let mut once = ColumnBuilder::new(&kind.clone().nullable()).expect("a builder");
        assert!(once.append_text(value), "{kind}");
        once.append_null();
        let mut again = ColumnBuilder::new(&kind.clone().nullable()).expect("a builder");
        assert!(again.append_text(value));
        again.append_null();
        assert!(again.append_text(value));
        again.append_null();
        again.truncate(2);
        assert_eq!(again.len(), 2);
        let (a, b) = (once.finish().expect("an array"), again.finish().expect("an array"));
        assert_eq!(a.to_data(), b.to_data(), "{kind}");
        assert_eq!(a.data_type(), &kind.to_arrow());
    }
    let mut list = ColumnBuilder::new(&T::Array(Box::new(row.nullable())).nullable()).expect("a builder");
    list.close();
    let items = list.items().expect("an ARRAY has items");
    assert!(items.row().expect("a ROW has children")[0].append_text("1"));
    list.truncate(1);
    assert_eq!(list.items().expect("items").row().expect("children")[0].len(), 0);
    assert_eq!(list.finish().expect("an array").len(), 1);
}

#[test]
fn decimals_round_half_up_and_overflow_is_refused() {
    for (text, expected) in [("1.005", Some(101)), ("-1.005", Some(-101)), ("1.004", Some(100)), ("1e1", Some(1000))] {
        let mut b = ColumnBuilder::new(&T::Decimal(5, 2).nullable()).expect("a builder");
        assert_eq!(b.append_text(text).then_some(()).map(|()| expected), expected.map(Some), "{text}");
        let array = b.finish().expect("an array");
        let array = array.as_any().downcast_ref::<Decimal128Array>().expect("decimals");
        assert_eq!(Some(array.value(0)), expected, "{text}");
    }
    let mut b = ColumnBuilder::new(&T::Decimal(5, 2).nullable()).expect("a builder");
    for bad in ["1000", "", ".", "1..2", "1e", "x", "9e99999999999", "--1"] {
        assert!(!b.append_text(bad), "{bad}");
    }
    assert!(b.is_empty());
}

#[test]
fn the_fast_timestamp_reader_agrees_with_the_general_one() {
    for t in
        ["2013-01-31 23:59:59", "1969-12-31T23:59:59.9", "0001-01-01 00:00:00.123456789", "2024-02-29 12:00:00.000001"]
    {
        for p in [0, 3, 6] {
            assert_eq!(parse_timestamp(t, p), text::parse_timestamp_units(t, p), "{t} at {p}");
        }
    }
    for bad in [
        "2013-02-29 00:00:00",
        "2013-01-01 24:00:00",
        "2013-01-01 00:00:0x",
        "2013-01-01 00:00:00.",
        "2013-01-01 00:00:00.1x",
    ] {
        assert_eq!(parse_timestamp(bad, 3), None, "{bad}");
    }
}
