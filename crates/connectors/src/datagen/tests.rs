//! Generated rows obey the law of sources, the seed and the bounds.

use flott_core::source::Boundedness;
use flott_core::types::TypeKind as T;

use crate::contract::check_source;
use crate::testing::{refused, source, table};

fn columns() -> Vec<(&'static str, T)> {
    vec![
        ("id", T::BigInt),
        ("i", T::Int),
        ("d", T::Double),
        ("n", T::Decimal(6, 2)),
        ("s", T::STRING),
        ("b", T::Boolean),
        ("x", T::BYTES),
        ("a", T::Array(Box::new(T::TinyInt.nullable()))),
        ("m", T::Map(Box::new(T::STRING.not_null()), Box::new(T::Int.nullable()))),
        ("r", T::Row(vec![("u".into(), T::SmallInt.nullable()), ("v".into(), T::VarChar(4).nullable())])),
    ]
}

fn options<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut all = vec![
        ("connector", "datagen"),
        ("fields.id.kind", "sequence"),
        ("fields.id.start", "5"),
        ("fields.id.end", "1004"),
        ("fields.i.min", "-3"),
        ("fields.i.max", "3"),
        ("fields.i.null-rate", "0.5"),
        ("fields.n.min", "1.5"),
        ("fields.n.max", "2"),
        ("fields.s.length", "7"),
        ("fields.s.var-len", "true"),
        ("fields.r.u.min", "9"),
        ("fields.r.u.max", "9"),
        ("fields.r.v.length", "2"),
    ];
    all.extend(more);
    all
}

#[test]
fn rows_depend_on_seed_and_number_alone() {
    let t = table(&columns(), &options(&[]));
    assert_eq!(source(&t).expect("a source").boundedness(), Boundedness::Bounded);
    let rows = check_source(&|| source(&t).expect("a source"));
    assert_eq!(rows.len(), 1000);
    let same = table(&columns(), &options(&[("rows-per-second", "77"), ("seed", "0")]));
    assert_eq!(check_source(&|| source(&same).expect("a source")), rows, "the rate changes nothing");
    let other = table(&columns(), &options(&[("seed", "1")]));
    assert_ne!(check_source(&|| source(&other).expect("a source")), rows, "the seed changes the rows");
    let fewer = table(&columns(), &options(&[("number-of-rows", "10")]));
    assert_eq!(check_source(&|| source(&fewer).expect("a source")).len(), 10);
    for row in &rows {
        let fields: Vec<_> = row.trim_start_matches("+I[").splitn(6, ", ").collect();
        assert!(fields[1] == "null" || (-3..=3).contains(&fields[1].parse::<i32>().expect("an INT")), "{row}");
        assert!((1.5..=2.0).contains(&fields[3].parse::<f64>().expect("a DECIMAL")), "{row}");
        assert!((1..=7).contains(&fields[4].len()) && row.contains("+I[9, "), "{row}");
    }
    let nulls = rows.iter().filter(|r| r.split(", ").nth(1) == Some("null")).count();
    assert!((400..600).contains(&nulls), "{nulls} of 1000 are NULL at a rate of one half");
    assert_eq!(
        source(&table(&columns()[1..2], &[("connector", "datagen")])).expect("a source").boundedness(),
        Boundedness::Unbounded
    );
}

#[test]
fn options_that_contradict_or_mean_nothing_are_refused() {
    for (more, expected) in [
        (vec![("rows-per-second", "0")], "above 0"),
        (vec![("number-of-rows", "-1")], "a number of rows"),
        (vec![("fields.i.max", "-4")], "min is -3, max -4"),
        (vec![("fields.i.max", "3000000000")], "a range within"),
        (vec![("fields.i.start", "1")], "the column's kind is 'random'"),
        (vec![("fields.id.min", "1")], "the column's kind is 'sequence'"),
        (vec![("fields.id.end", "4")], "at or above the start 5"),
        (vec![("fields.i.null-rate", "2")], "a share from 0 to 1"),
        (vec![("fields.s.length", "9999999")], "at most"),
        (vec![("fields.n.min", "99999")], "a DECIMAL(6, 2)"),
        (vec![("fields.zz.min", "1")], "the table has no such column"),
        (vec![("fields.b.kind", "sequence"), ("fields.b.start", "1"), ("fields.b.end", "2")], "for a BOOLEAN"),
    ] {
        let error = refused(source(&table(&columns(), &options(&more)))).to_string();
        assert!(error.contains(expected), "{error}");
    }
}
