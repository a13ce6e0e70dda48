//! Calls of functions that users wrote, inside plans. Nothing here runs one.

use std::fmt;
use std::sync::Arc;

use flott_core::error::Position;
use flott_core::function::{ColumnAggregate, ScalarFunction};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A scalar function of the user as a query calls it.
#[derive(Clone)]
pub struct UserFunction {
    /// The name it is called by.
    pub name: String,
    /// The function.
    pub function: Arc<dyn ScalarFunction>,
    /// Where it is called.
    pub position: Option<Position>,
}

impl PartialEq for UserFunction {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && Arc::ptr_eq(&self.function, &other.function)
    }
}

impl fmt::Debug for UserFunction {
    /// Equal text stands for equal values: calls of a function that is not deterministic are told apart by their place.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.position.filter(|_| !self.function.is_deterministic()) {
            Some(p) => write!(f, "{}@{}:{}", self.name, p.line, p.column),
            None => f.write_str(&self.name),
        }
    }
}

impl Serialize for UserFunction {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name)
    }
}

impl<'de> Deserialize<'de> for UserFunction {
    /// Code does not travel: whoever reads a plan must bind the name again.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Err(serde::de::Error::custom(format!("the function `{name}` is code and cannot be read from a plan")))
    }
}

/// An aggregate of the user as a query calls it.
#[derive(Clone)]
pub struct UserAggregate {
    /// The name it is called by.
    pub name: String,
    /// The function.
    pub function: Arc<dyn ColumnAggregate>,
    /// Where it is called.
    pub position: Option<Position>,
}

impl PartialEq for UserAggregate {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && Arc::ptr_eq(&self.function, &other.function)
    }
}

impl fmt::Debug for UserAggregate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Serialize for UserAggregate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name)
    }
}

impl<'de> Deserialize<'de> for UserAggregate {
    /// Code does not travel, as with scalar functions.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Err(serde::de::Error::custom(format!("the function `{name}` is code and cannot be read from a plan")))
    }
}
