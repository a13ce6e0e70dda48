//! Identifiers: what a job, an operator, a subtask and a checkpoint are called everywhere.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

macro_rules! id128 {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub struct $name(pub u128);
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self}")
            }
        }
        impl FromStr for $name {
            type Err = Error;
            fn from_str(s: &str) -> Result<Self> {
                let ok = s.len() == 32 && s.bytes().all(|b| b.is_ascii_hexdigit());
                match u128::from_str_radix(s, 16) {
                    Ok(v) if ok => Ok(Self(v)),
                    _ => Err(Error::user("id.malformed", format!(concat!("`{}` is not a ", $what), s))
                        .hint("write 32 hexadecimal digits")),
                }
            }
        }
    };
}

id128!(
    /// A job, for ever: restarts and restores keep it. 32 lower-case hex digits.
    JobId, "job id");
id128!(
    /// An operator of a job graph: derived from its uid, or from its place in the graph. The address of its state.
    OperatorId, "operator id");
id128!(
    /// A vertex of the job graph: the chain headed by the operator with the same number.
    VertexId, "vertex id");

impl OperatorId {
    /// The id of a uid (or of a generated path): a stable 128-bit hash.
    pub fn from_uid(uid: &str) -> Self {
        OperatorId(xxhash_rust::xxh3::xxh3_128(uid.as_bytes()))
    }
}

/// Number of a checkpoint: dense from 1 within a job, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CheckpointId(pub u64);

impl fmt::Display for CheckpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One parallel instance of a vertex.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SubtaskId {
    /// The vertex.
    pub vertex: VertexId,
    /// Index from 0, below the vertex's parallelism.
    pub index: u32,
}

impl fmt::Display for SubtaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.vertex, self.index)
    }
}
