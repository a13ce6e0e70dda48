//! Tests of the crate as a whole: values, types, filters and laziness.

mod calc;
mod casts;
mod collections;
mod functions;
mod random;
mod time;
mod types;
mod words;
