//! Binds Flink's functions to types and compiles `plan`'s expressions to vectorised ones over Arrow; never parses SQL and never reads a clock.
//!
//! Two halves: [`bind_call`], [`bind_cast`], [`bind_case`] and friends give an expression its types and implicit casts, as Flink's
//! validator does; [`CompiledExpr`] and [`CompiledCalc`] evaluate typed expressions column at a time.

mod bind;
mod compile;
mod kernels;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod unnest;

pub use bind::{
    JsonClauses, aggregate_type, aggregate_type_of, bind_call, bind_case, bind_cast, bind_json, common_type,
    constant_fold, function_names, is_deterministic, is_implicit_cast,
};
pub use compile::{CompiledCalc, CompiledExpr, EvalContext};
pub use kernels::bitmap::BitmapFolder;
pub use kernels::json::write_json_string;
pub use kernels::{parse_zone, result_writer};
pub use unnest::unnest;
