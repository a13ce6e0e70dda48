//! Flink's SQL: dialect → relations → changelog inference → StreamGraph. Makes sources and sinks through the registry only; runs no job.
//!
//! [`Session::parse_script`] gives statements with positions in the script, [`Session::plan`] carries them out or plans their
//! job. Every error names the place, what was found and what would be right.

mod alter;
mod binder;
mod catalog;
mod ddl;
mod declaration;
mod diag;
mod explain;
mod functions;
mod parser;
mod planner;
mod session;
mod show;
mod statements;
mod values;

pub use catalog::{CATALOG, Catalog, ColumnSource, DATABASE, ObjectPath, Table, TableColumn};
pub use parser::{ParsedStatement, parse_script};
pub use session::{PlanServices, Planned, QueryInfo, Script, Session};
