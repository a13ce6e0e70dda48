//! Names of topics, and which columns are in keys and values.

use flott_core::registry::ConnectorFactory;
use flott_core::types::TypeKind;

use super::*;
use crate::kafka::KafkaFactory;

#[test]
fn names_of_topics() {
    for good in ["a", "orders.v1_x-2", &"t".repeat(249)] {
        assert!(is_topic(good), "{good}");
    }
    for bad in ["", ".", "..", "a b", "ä", &"t".repeat(250)] {
        assert!(!is_topic(bad), "{bad}");
    }
}

#[test]
fn columns_of_keys_and_values() {
    let kind = TypeKind::BigInt;
    let options = [
        ("connector", "kafka"),
        ("properties.bootstrap.servers", "h:1"),
        ("value.format", "json"),
        ("key.format", "json"),
        ("key.fields", "k_b;k_a"),
        ("key.fields-prefix", "k_"),
        ("value.fields-include", "EXCEPT_KEY"),
    ];
    let table = crate::testing::table(&[("k_a", kind.clone()), ("v", kind.clone()), ("k_b", kind)], &options);
    let [value, key] = Encoding::tables(&table).expect("known formats");
    let o = TableOptions::checked(&table, &[KafkaFactory::new(false).options(), value, key]).expect("known options");
    let encoding = Encoding::read(&o, &table, false).expect("an encoding");
    assert_eq!((encoding.key.as_slice(), encoding.value.as_slice()), ([2, 0].as_slice(), [1].as_slice()));
    let names = |columns: Vec<Column>| columns.into_iter().map(|c| c.name).collect::<Vec<_>>().join(" ");
    assert_eq!(names(encoding.key_columns(&table)), "b a");
    assert_eq!(names(encoding.value_columns(&table)), "v");
}
