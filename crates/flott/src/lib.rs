//! What a Rust program depends on: the typed DataStream API, keyed state and timers, windows, and tables beside streams.
//!
//! Programs build a graph; [`StreamExecutionEnvironment::execute`] runs it in this process. Closures run in tasks, one copy per
//! subtask. Rows are Rust values inside a chain and Arrow columns between tasks, so a row type says its columns:
//! `#[derive(Record)]`.
//!
//! ```
//! use flott::{Record, Result, StreamExecutionEnvironment, Timestamp, TumblingEventTimeWindows, WatermarkStrategy};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Clone, Debug, PartialEq, Record, Serialize, Deserialize)]
//! struct Reading {
//!     sensor: String,
//!     at: Timestamp,
//!     celsius: f64,
//! }
//!
//! # fn main() -> Result<()> {
//! let reading = |sensor: &str, s: i64, celsius| Reading { sensor: sensor.into(), at: Timestamp(s * 1000), celsius };
//! let env = StreamExecutionEnvironment::new();
//! let hottest = env
//!     .from_collection(vec![reading("a", 1, 20.5), reading("b", 2, 19.0), reading("a", 40, 21.0), reading("a", 61, 18.0)])?
//!     .assign_timestamps_and_watermarks(WatermarkStrategy::bounded_out_of_orderness(5_000, |r: &Reading| r.at))?
//!     .filter(|r| r.celsius < 100.0)
//!     .key_by(|r| r.sensor.clone())
//!     .window(TumblingEventTimeWindows::of(60_000))?
//!     .reduce(|a, b| if b.celsius > a.celsius { b } else { a });
//! let mut rows = hottest.execute_and_collect("hottest per minute")?;
//! rows.sort_by_key(|r| r.at);
//! assert_eq!(rows, [reading("b", 2, 19.0), reading("a", 40, 21.0), reading("a", 61, 18.0)]);
//! # Ok(())
//! # }
//! ```

// The derive names `::flott`, also in this crate's own tests.
extern crate self as flott;

mod aggregate;
mod environment;
pub mod function;
mod keyed;
mod keys;
mod output;
mod process;
mod progress;
mod record;
mod stage;
mod state;
mod stream;
mod table;
mod watermarks;
mod window;

pub use arrow_array::ArrayRef;
pub use flott_core::batch::RowKind;
pub use flott_core::config::{Configuration, Notice};
pub use flott_core::error::{Error, ErrorKind, Result};
pub use flott_core::function::{
    AggregateChange, ColumnAggregate, Function, ScalarFunction, Signature, TableFunction, TableSignature,
};
pub use flott_core::sink::Sink;
pub use flott_core::source::Source;
pub use flott_core::state::Ttl;
pub use flott_core::table_function::TableRows;
pub use flott_core::types::{Column, DataType, TypeKind};
pub use flott_launcher::{Diagnosis, JobClient, JobStatus, Progress};
pub use flott_macros::Record;
pub use flott_state::timers::TimeDomain;
pub use flott_state::typed::{MapKey, StateDescriptor, StateType};

pub use environment::{Connector, StreamExecutionEnvironment};
pub use keyed::KeyedStream;
pub use process::{Context, KeyedContext, KeyedProcessFunction};
pub use record::{FieldType, Record, Timestamp};
#[doc(hidden)]
pub use record::{array_len, next_field};
pub use state::{
    AggregateFunction, AggregatingState, KeyedStateContext, ListState, MapState, OpenContext, ReducingState, ValueState,
};
pub use stream::{DataStream, SinkHandle};
pub use table::Change;
pub use watermarks::WatermarkStrategy;
pub use window::{
    EventTimeSessionWindows, LateWindowedStream, SlidingEventTimeWindows, TimeWindow, TumblingEventTimeWindows,
    TumblingProcessingTimeWindows, WindowAssigner, WindowedStream,
};

/// For tests and harnesses of Flott itself: the clock, and switches that break guarantees.
#[doc(hidden)]
pub mod testing {
    pub use flott_core::crash_point;
    pub use flott_core::time::{Clock, ManualClock, SharedClock, SystemClock};
    pub use flott_launcher::{CollectHandle, CollectSink, CollectionSource, Environment};
}

#[cfg(test)]
mod tests;
