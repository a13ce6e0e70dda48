//! Flink's SQL: dialect → relations → changelog inference → StreamGraph. Makes sources and sinks through the registry only; runs no job.
//!
//! [`Session::parse_script`] gives statements with positions in the script, [`Session::plan`] carries them out or plans their
//! job. Every error names the place, what was found and what would be right.

mod binder;
mod catalog;
mod ddl;
mod diag;
mod parser;
mod planner;
mod session;
mod show;
mod values;

pub use catalog::{CATALOG, Catalog, ColumnSource, DATABASE, Table, TableColumn, full_name};
pub use parser::{ParsedStatement, parse_script};
pub use session::{PlanServices, Planned, QueryInfo, Script, Session};
