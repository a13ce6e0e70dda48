//! Why a call to a broker did not succeed; and the sentence for it.

use flott_core::Error;
use kafka_protocol::ResponseError;

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError {
    /// No answer: it may or may not have happened.
    Unreachable {
        /// The broker.
        address: String,
        /// What the system said.
        reason: String,
    },
    /// The broker answered with an error code.
    Refused {
        /// The call.
        call: &'static str,
        /// Kafka's error code.
        code: i16,
    },
    /// The broker is too old for the call.
    Unsupported {
        /// The call.
        call: &'static str,
        /// The broker.
        address: String,
    },
    /// The login failed.
    Login {
        /// The broker.
        address: String,
        /// What it said.
        reason: String,
    },
    /// No TLS connection came about.
    Tls {
        /// The broker.
        address: String,
        /// Why.
        reason: String,
    },
    /// The answer makes no sense.
    Garbled {
        /// The call.
        call: &'static str,
        /// What is wrong.
        reason: String,
    },
}

impl CallError {
    /// Whether the same call may succeed a moment later.
    pub fn is_passing(&self) -> bool {
        match self {
            CallError::Unreachable { .. } => true,
            CallError::Refused { code, .. } => matches!(response(*code), Some(e) if e.is_retriable()),
            _ => false,
        }
    }

    /// Whether the call went to the wrong broker, or to none.
    pub fn is_misdirected(&self) -> bool {
        match self {
            CallError::Unreachable { .. } => true,
            CallError::Refused { code, .. } => {
                matches!(response(*code), Some(ResponseError::NotCoordinator | ResponseError::CoordinatorNotAvailable))
            }
            _ => false,
        }
    }

    /// The error code of an answer.
    pub fn response(&self) -> Option<ResponseError> {
        match self {
            CallError::Refused { code, .. } => response(*code),
            _ => None,
        }
    }

    /// The error for users; `servers` are the ones the table names.
    pub fn into_error(self, servers: &str) -> Error {
        match self {
            CallError::Unreachable { address, reason } => {
                Error::retry("kafka.unavailable", format!("cannot reach the Kafka broker {address}: {reason}"))
                    .detail(format!("the table's brokers are {servers}"))
                    .hint("check that the broker runs, and that the listener it advertises can be reached from here")
            }
            CallError::Refused { call, code } => refused(call, code, servers),
            CallError::Unsupported { call, address } => Error::user(
                "kafka.broker-too-old",
                format!("the Kafka broker {address} does not know the call {call}"),
            )
            .detail("exactly-once needs DescribeTransactions and ListTransactions, which brokers have since Kafka 3.0")
            .hint("upgrade the brokers, or set 'sink.delivery-guarantee' = 'at-least-once'"),
            CallError::Login { address, reason } => {
                Error::user("kafka.authentication", format!("the Kafka broker {address} refused the login: {reason}"))
                    .hint("check 'properties.sasl.jaas.config', 'properties.sasl.mechanism' and the certificates")
            }
            CallError::Tls { address, reason } => {
                Error::user("kafka.tls", format!("no TLS connection to the Kafka broker {address}: {reason}")).hint(
                    "check 'properties.security.protocol' against the broker's listener, and that \
                     'properties.ssl.truststore.location' holds the certificate of its authority in PEM",
                )
            }
            CallError::Garbled { call, reason } => Error::retry(
                "kafka.protocol",
                format!("the answer to {call} from Kafka at {servers} makes no sense"),
            )
            .detail(reason)
            .hint("check that the table's brokers are Kafka brokers and that 'properties.security.protocol' is theirs"),
        }
    }
}

fn response(code: i16) -> Option<ResponseError> {
    ResponseError::try_from_code(code)
}

fn refused(call: &str, code: i16, servers: &str) -> Error {
    let error = response(code);
    let said = error.map_or_else(|| "no error".to_owned(), |e| format!("{e:?}"));
    let sentence = format!("Kafka at {servers} refused {call}: {said} (error code {code})");
    match error {
        Some(
            ResponseError::TransactionalIdAuthorizationFailed
            | ResponseError::ClusterAuthorizationFailed
            | ResponseError::TopicAuthorizationFailed,
        ) => Error::user("kafka.authorization", sentence).hint(
            "the user needs the right to Write to the topics, and to Describe and Write the transactional ids that begin with \
             'sink.transactional-id-prefix'",
        ),
        Some(ResponseError::InvalidTransactionTimeout) => {
            Error::user("kafka.transaction-timeout", sentence).hint(
                "set 'properties.transaction.timeout.ms' to at most the brokers' transaction.max.timeout.ms",
            )
        }
        _ => Error::retry("kafka.refused", sentence).hint("the log of the broker may say why"),
    }
}
