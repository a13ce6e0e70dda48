//! Ranges and positions.

use super::*;

fn partitions(lower: i64, upper: i64, count: u32) -> Partitions {
    Partitions { column: 0, count, lower, upper }
}

#[test]
fn ranges_cover_the_bounds_once() {
    for (lower, upper, count) in [(0, 9, 3), (0, 1, 5), (-7, 7, 4), (i64::MIN, i64::MAX, 3), (5, 5, 1)] {
        let bounds: Vec<_> = ranges(&partitions(lower, upper, count)).iter().filter_map(|r| r.bounds).collect();
        assert_eq!((bounds[0].0, bounds[bounds.len() - 1].1), (lower, upper));
        assert!(bounds.windows(2).all(|w| w[0].1 + 1 == w[1].0), "{bounds:?}");
        assert!(bounds.iter().all(|(l, u)| l <= u));
    }
}

#[test]
fn positions_come_back_and_foreign_ones_do_not() {
    for (bounds, last) in [(None, None), (Some((-5, i64::MAX)), Some(-3)), (Some((0, 0)), None)] {
        let range = Range { bounds, position: Position { last, rows: 77 } };
        assert_eq!(Range::decode(&range.encode()).expect("just written"), range);
    }
    assert!(Range::decode(&Split { id: "x".into(), state: vec![b'P', 1] }).is_err());
}
