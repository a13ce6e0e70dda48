//! Names to columns, syntax to typed expressions and relations. Never touches a connector.

mod aggregate;
mod aggregate_call;
mod correlate;
mod expr;
mod from;
mod function;
mod grouping;
mod hints;
mod json;
mod literal;
mod lookup;
mod navigation;
mod over;
mod over_rel;
mod pattern;
mod query;
mod scope;
mod select;
mod setops;
mod subquery;
mod using;
mod window;
mod windowed;

pub(crate) use expr::ExprBinder;
pub(crate) use from::scan as scan_of;
pub(crate) use hints::options_hint;
pub(crate) use query::QueryBinder;
pub(crate) use scope::Scope;
