//! The Kafka source in faults that only a broker at hand can make: brokers that go and come, leaders that move. Runs on librdkafka's
//! own mock, without a server.
#![cfg(feature = "kafka")]

mod kafka_kit;

use flott_core::ErrorKind;
use kafka_kit::*;
use rdkafka::mocking::MockCluster;

const JSON: (&str, &str) = ("format", "json");

#[test]
fn no_broker_at_the_start_is_one_clear_error() {
    let broker = Broker::at("127.0.0.1:1");
    let options = [("topic", "t"), JSON, ("properties.default.api.timeout.ms", "3000")];
    let source = source(&broker.table(numbers(), &options)).expect("a source connects to nothing");
    let began = now_ms();
    let error = splits(source.as_ref()).expect_err("nobody is there");
    assert_eq!((error.code(), error.kind()), ("kafka.unavailable", ErrorKind::Retry), "{error}");
    assert!(error.to_string().contains("127.0.0.1:1") && error.to_string().contains("bootstrap.servers"), "{error}");
    assert!(now_ms() - began < 15_000, "the limit of a call holds");
}

#[test]
fn a_leader_moves_and_brokers_go_and_come() {
    let cluster = MockCluster::new(2).expect("a cluster");
    cluster.create_topic("moving", 1, 2).expect("a topic");
    cluster.partition_leader("moving", 0, Some(1)).expect("a leader");
    let broker = Broker::at(&cluster.bootstrap_servers());
    broker.write("moving", &counted(0, 100, 1));
    let options = [
        ("topic", "moving"),
        JSON,
        ("scan.unavailable-timeout", "3 s"),
        ("properties.reconnect.backoff.max.ms", "100"),
    ];
    let source = source(&broker.table(numbers(), &options)).expect("a source");
    let mut run = Run::new(source.as_ref(), splits(source.as_ref()).expect("splits"));
    run.rows(100);
    cluster.partition_leader("moving", 0, Some(2)).expect("a leader");
    broker.write("moving", &counted(100, 200, 1));
    run.rows(200);
    cluster.broker_down(1).expect("down");
    cluster.broker_down(2).expect("down");
    assert!(!run.until(2, |r| r.rows.len() > 200).expect("it waits for them"));
    cluster.broker_up(1).expect("up");
    cluster.broker_up(2).expect("up");
    broker.write("moving", &counted(200, 300, 1));
    run.rows(300);
    assert_eq!(run.sorted(), counted_rows(0, 300), "nothing is lost or repeated");
    cluster.broker_down(1).expect("down");
    cluster.broker_down(2).expect("down");
    let error = run.until(30, |_| false).expect_err("they stay away");
    assert_eq!((error.code(), error.kind()), ("kafka.unavailable", ErrorKind::Retry), "{error}");
}
