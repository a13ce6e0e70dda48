//! Flink's dialect over sqlparser's tokens: scripts to statements with positions. Resolves no names.

pub(crate) mod ast;
mod create_table;
pub(crate) mod dialect;
mod json;
mod objects;
pub(crate) mod pattern;
pub(crate) mod script;
mod show;
mod statement;
pub(crate) mod types;

pub use ast::ParsedStatement;
pub use script::parse_script;
pub(crate) use script::tokenize;
