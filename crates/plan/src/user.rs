//! Calls of functions that users wrote, inside plans. Nothing here runs one.

use std::fmt;
use std::sync::Arc;

use flott_core::error::Position;
use flott_core::function::{ColumnAggregate, ScalarFunction};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A function of the user as a query calls it. Two calls are equal if they call the same function.
pub struct UserCall<F: ?Sized> {
    /// The name it is called by.
    pub name: String,
    /// The function.
    pub function: Arc<F>,
    /// Where it is called.
    pub position: Option<Position>,
}

/// A scalar function of the user as a query calls it.
pub type UserFunction = UserCall<dyn ScalarFunction>;
/// An aggregate of the user as a query calls it.
pub type UserAggregate = UserCall<dyn ColumnAggregate>;

impl<F: ?Sized> Clone for UserCall<F> {
    fn clone(&self) -> Self {
        UserCall { name: self.name.clone(), function: Arc::clone(&self.function), position: self.position }
    }
}

impl<F: ?Sized> PartialEq for UserCall<F> {
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

impl fmt::Debug for UserAggregate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl<F: ?Sized> Serialize for UserCall<F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name)
    }
}

impl<'de, F: ?Sized> Deserialize<'de> for UserCall<F> {
    /// Code does not travel: whoever reads a plan must bind the name again.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Err(serde::de::Error::custom(format!("the function `{name}` is code and cannot be read from a plan")))
    }
}
