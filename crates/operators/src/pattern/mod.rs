//! Pattern recognition over one sequence of events, as Flink's CEP does it: a pattern becomes an automaton, partial matches share
//! one buffer. Pure: knows no rows, no keys, no clock and no state backend; what a condition is, is the caller's business.

mod buffer;
mod nfa;
mod queue;
#[cfg(test)]
mod tests;

pub(crate) use buffer::{Buffer, NONE};
pub(crate) use nfa::{Conditions, Element, Match, Nfa, Partial, Pattern, Run, Scratch, SkipTo};
pub(crate) use queue::Queue;
