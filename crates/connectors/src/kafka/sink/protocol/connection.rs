//! One blocking connection to one broker: requests out, answers in, one at a time. Every wait has a limit.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiVersionsRequest, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};

use super::calls::Call;
use super::failure::CallError;
use super::security::Security;
use super::{login, tls};

/// How long a connection may take to come about.
const CONNECT_MS: u64 = 3_000;
/// How long an answer may take.
const ANSWER_MS: u64 = 10_000;
/// The longest answer that is read.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Bytes in both directions.
pub(super) trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// A connection that is logged in.
pub(super) struct Connection {
    address: String,
    stream: Box<dyn Stream>,
    correlation: i32,
    /// What the broker speaks: oldest and newest version by call.
    versions: HashMap<i16, (i16, i16)>,
}

impl Connection {
    /// Connects, asks for the versions and logs in.
    pub(super) fn open(security: &Security, address: &str) -> Result<Self, CallError> {
        let plain = connect(address)?;
        let stream: Box<dyn Stream> = match security.tls() {
            Some(tls) => tls::wrap(tls, address, plain)?,
            None => Box::new(plain),
        };
        let address = address.to_owned();
        let mut connection = Connection { address, stream, correlation: 0, versions: HashMap::new() };
        let versions = connection.exchange(&ApiVersionsRequest::default(), 0)?;
        if versions.error_code != 0 {
            return Err(CallError::Refused { call: ApiVersionsRequest::NAME, code: versions.error_code });
        }
        connection.versions = versions.api_keys.iter().map(|v| (v.api_key, (v.min_version, v.max_version))).collect();
        if let Some(sasl) = security.sasl() {
            login::login(&mut connection, sasl)?;
        }
        Ok(connection)
    }

    /// The broker, as `host:port`.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Sends a request in the newest version that both sides speak and reads its answer. The answer's own error code is the
    /// caller's to look at.
    pub(super) fn call<R: Call>(&mut self, request: &R) -> Result<R::Answer, CallError> {
        let (min, max) = R::VERSIONS;
        let unsupported = || CallError::Unsupported { call: R::NAME, address: self.address.clone() };
        let &(broker_min, broker_max) = self.versions.get(&R::KEY).ok_or_else(unsupported)?;
        let version = max.min(broker_max);
        if version < min || version < broker_min {
            return Err(unsupported());
        }
        self.exchange(request, version)
    }

    fn exchange<R: Call>(&mut self, request: &R, version: i16) -> Result<R::Answer, CallError> {
        let garbled = |reason: String| CallError::Garbled { call: R::NAME, reason };
        self.correlation = self.correlation.wrapping_add(1);
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation)
            .with_client_id(Some(StrBytes::from_static_str("flott")));
        let mut out = BytesMut::with_capacity(256);
        out.put_i32(0);
        header.encode(&mut out, R::header_version(version)).map_err(|e| garbled(e.to_string()))?;
        request.encode(&mut out, version).map_err(|e| garbled(e.to_string()))?;
        let length = i32::try_from(out.len() - 4).map_err(|_| garbled("the request is too long".into()))?;
        out[..4].copy_from_slice(&length.to_be_bytes());
        self.stream.write_all(&out).and_then(|()| self.stream.flush()).map_err(|e| self.unreachable(&e))?;

        let mut answer = self.frame(R::NAME)?;
        let header = ResponseHeader::decode(&mut answer, R::Answer::header_version(version))
            .map_err(|e| garbled(e.to_string()))?;
        if header.correlation_id != self.correlation {
            let (found, expected) = (header.correlation_id, self.correlation);
            return Err(garbled(format!("it has the correlation id {found}, the request had {expected}")));
        }
        R::Answer::decode(&mut answer, version).map_err(|e| garbled(e.to_string()))
    }

    fn frame(&mut self, call: &'static str) -> Result<Bytes, CallError> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).map_err(|e| self.unreachable(&e))?;
        let length = usize::try_from(i32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > ANSWER_BYTES_MAX {
            let reason = format!("it is said to have {length} bytes, more than {ANSWER_BYTES_MAX}");
            return Err(CallError::Garbled { call, reason });
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).map_err(|e| self.unreachable(&e))?;
        let body = Bytes::from(body);
        debug_assert!(body.remaining() == length, "a frame is read whole");
        Ok(body)
    }

    fn unreachable(&self, e: &std::io::Error) -> CallError {
        CallError::Unreachable { address: self.address.clone(), reason: e.to_string() }
    }
}

fn connect(address: &str) -> Result<TcpStream, CallError> {
    let unreachable = |reason: String| CallError::Unreachable { address: address.to_owned(), reason };
    let found = address.to_socket_addrs().map_err(|e| unreachable(e.to_string()))?;
    let mut last = "the name has no address".to_owned();
    for socket in found {
        match TcpStream::connect_timeout(&socket, Duration::from_millis(CONNECT_MS)) {
            Ok(stream) => {
                let limit = Some(Duration::from_millis(ANSWER_MS));
                let set = stream.set_nodelay(true).and_then(|()| stream.set_read_timeout(limit));
                set.and_then(|()| stream.set_write_timeout(limit)).map_err(|e| unreachable(e.to_string()))?;
                return Ok(stream);
            }
            Err(e) => last = e.to_string(),
        }
    }
    Err(unreachable(last))
}
