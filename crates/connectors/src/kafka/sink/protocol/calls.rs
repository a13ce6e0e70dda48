//! Which calls there are, and the versions of each that are spoken; a table.

use kafka_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, DescribeConfigsRequest, DescribeConfigsResponse,
    DescribeTransactionsRequest, DescribeTransactionsResponse, EndTxnRequest, EndTxnResponse, FindCoordinatorRequest,
    FindCoordinatorResponse, InitProducerIdRequest, InitProducerIdResponse, ListTransactionsRequest,
    ListTransactionsResponse, MetadataRequest, MetadataResponse, SaslAuthenticateRequest, SaslAuthenticateResponse,
    SaslHandshakeRequest, SaslHandshakeResponse,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion};

/// A request with its answer.
pub(super) trait Call: Encodable + HeaderVersion {
    /// The number of the call.
    const KEY: i16;
    /// For messages.
    const NAME: &'static str;
    /// The oldest and the newest version spoken.
    const VERSIONS: (i16, i16);
    /// What comes back.
    type Answer: Decodable + HeaderVersion;
}

macro_rules! calls {
    ($($request:ty => $answer:ty, $key:literal, $name:literal, $min:literal ..= $max:literal;)*) => {
        $(impl Call for $request {
            const KEY: i16 = $key;
            const NAME: &'static str = $name;
            const VERSIONS: (i16, i16) = ($min, $max);
            type Answer = $answer;
        })*
    };
}

calls! {
    ApiVersionsRequest => ApiVersionsResponse, 18, "ApiVersions", 0..=0;
    SaslHandshakeRequest => SaslHandshakeResponse, 17, "SaslHandshake", 1..=1;
    SaslAuthenticateRequest => SaslAuthenticateResponse, 36, "SaslAuthenticate", 0..=2;
    MetadataRequest => MetadataResponse, 3, "Metadata", 4..=9;
    FindCoordinatorRequest => FindCoordinatorResponse, 10, "FindCoordinator", 1..=3;
    InitProducerIdRequest => InitProducerIdResponse, 22, "InitProducerId", 1..=4;
    // Not 5: it would end the transaction by the second protocol, under which librdkafka did not begin it.
    EndTxnRequest => EndTxnResponse, 26, "EndTxn", 1..=4;
    DescribeConfigsRequest => DescribeConfigsResponse, 32, "DescribeConfigs", 1..=4;
    DescribeTransactionsRequest => DescribeTransactionsResponse, 65, "DescribeTransactions", 0..=0;
    ListTransactionsRequest => ListTransactionsResponse, 66, "ListTransactions", 0..=1;
}
