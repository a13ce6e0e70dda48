//! Relations to a StreamGraph: optimise, prune columns, infer changelogs, place exchanges. Runs nothing.

pub(crate) mod advice;
pub(crate) mod correlate;
pub(crate) mod explain;
pub(crate) mod graph;
pub(crate) mod insert;
pub(crate) mod joins;
pub(crate) mod keyed;
pub(crate) mod keys;
pub(crate) mod lookup;
pub(crate) mod optimise;
mod over;
pub(crate) mod pattern;
pub(crate) mod physical;
pub(crate) mod prune;
pub(crate) mod rank;
pub(crate) mod rel;
pub(crate) mod scan;
mod sessions;
pub(crate) mod sink;
mod sort;
