//! Tests of the protocol against servers that misbehave; the good ones are real brokers, in the service tests.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;

use flott_core::ErrorKind;

use super::{CallError, Cluster, Security};

/// A server that answers each request with what `answer` makes of it, until it makes nothing.
fn server(answer: impl Fn(&[u8]) -> Option<Vec<u8>> + Send + 'static) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let serve = move || {
        let Ok((mut stream, _)) = listener.accept() else { return };
        while let Some(request) = frame(&mut stream) {
            let Some(bytes) = answer(&request) else { return };
            if stream.write_all(&bytes).is_err() {
                return;
            }
        }
    };
    (address, std::thread::spawn(serve))
}

fn frame(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    let mut body = vec![0; usize::try_from(i32::from_be_bytes(length)).ok()?];
    stream.read_exact(&mut body).ok()?;
    Some(body)
}

/// An answer with the request's correlation id.
fn answer_to(request: &[u8], body: &[u8]) -> Vec<u8> {
    let length = i32::try_from(body.len() + 4).expect("short");
    [&length.to_be_bytes()[..], &request[4..8], body].concat()
}

/// ApiVersions, version 0, of a broker that speaks these versions of calls.
fn versions(calls: &[(i16, i16, i16)]) -> Vec<u8> {
    let mut body = vec![0, 0];
    body.extend(i32::try_from(calls.len()).expect("few").to_be_bytes());
    for (key, min, max) in calls {
        body.extend([key.to_be_bytes(), min.to_be_bytes(), max.to_be_bytes()].concat());
    }
    body
}

fn describe(address: &str) -> CallError {
    Cluster::new(address, Security::default()).once().describe("id").expect_err("this cannot work")
}

#[test]
fn a_broker_without_the_call_is_named() {
    // Knows FindCoordinator only.
    let (address, server) = server(|request| {
        let body = match i16::from_be_bytes([request[0], request[1]]) {
            18 => versions(&[(10, 0, 1)]),
            _ => return None,
        };
        Some(answer_to(request, &body))
    });
    let error = Cluster::new(&address, Security::default()).once().list("p", &["Ongoing"]).expect_err("too old");
    assert_eq!(error, CallError::Unsupported { call: "Metadata", address: address.clone() });
    let error = error.into_error(&address);
    assert_eq!((error.code(), error.kind()), ("kafka.broker-too-old", ErrorKind::User));
    server.join().expect("the server ends");
}

#[test]
fn answers_that_make_no_sense_are_refused() {
    let too_long = |_: &[u8]| Some(vec![0x7f, 0xff, 0xff, 0xff]);
    let negative = |_: &[u8]| Some(vec![0xff; 4]);
    let foreign_id = |request: &[u8]| {
        let mut answer = answer_to(request, &versions(&[]));
        answer[7] ^= 1;
        Some(answer)
    };
    let short = |request: &[u8]| Some(answer_to(request, &[0]));
    let no_kafka = |_: &[u8]| Some(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec());
    type Answer = Box<dyn Fn(&[u8]) -> Option<Vec<u8>> + Send>;
    let answers: [Answer; 5] =
        [Box::new(too_long), Box::new(negative), Box::new(foreign_id), Box::new(short), Box::new(no_kafka)];
    for answer in answers {
        let (address, server) = server(answer);
        let error = describe(&address);
        assert!(matches!(error, CallError::Garbled { .. }), "{error:?}");
        assert_eq!(error.into_error(&address).code(), "kafka.protocol");
        server.join().expect("the server ends");
    }
}

#[test]
fn a_broker_that_hangs_up_or_is_not_there_is_unreachable() {
    let (address, server) = server(|_| None);
    let error = describe(&address);
    assert!(matches!(error, CallError::Unreachable { .. }) && error.is_passing(), "{error:?}");
    server.join().expect("the server ends");
    let error = describe("127.0.0.1:1").into_error("127.0.0.1:1");
    assert_eq!((error.code(), error.kind()), ("kafka.unavailable", ErrorKind::Retry));
}

#[test]
fn an_error_code_becomes_an_error_with_its_name() {
    let error = CallError::Refused { call: "EndTxn", code: 53 };
    assert!(!error.is_passing());
    let error = error.into_error("a:1");
    assert_eq!((error.code(), error.kind()), ("kafka.authorization", ErrorKind::User));
    assert!(error.to_string().contains("TransactionalIdAuthorizationFailed"), "{error}");
    // The coordinator is loading, or moved.
    for code in [14, 15, 16] {
        assert!(CallError::Refused { call: "EndTxn", code }.is_passing(), "{code}");
    }
    assert!(CallError::Refused { call: "EndTxn", code: 16 }.is_misdirected());
    assert_eq!(CallError::Refused { call: "EndTxn", code: 9999 }.into_error("a:1").kind(), ErrorKind::Retry);
}
