//! Sources, sinks and formats, and the one function that makes them known; never plans and never runs a job.

mod base64;
pub mod columns;
pub mod formats;
pub mod nexmark;
pub mod options;
