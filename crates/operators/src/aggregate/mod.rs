//! Aggregates over fixed-width state rows: layout, update, merge and finish, shared by group, slice and session
//! aggregation. Never emits and never knows about windows.

mod beside;
mod collect;
mod collected;
mod distinct;
mod extrema;
mod finish;
mod grouping;
mod layout;
mod running;
mod state;
mod update;
mod user;
mod values;

pub(crate) use beside::{merge_beside, update_beside};
pub(crate) use extrema::GroupKey;
pub(crate) use finish::Beside;
pub(crate) use finish::finish;
pub(crate) use grouping::Grouping;
pub(crate) use layout::{AccKind, Layout, read_i64, write_i64, write_i128};
pub(crate) use state::{AggregateState, Input, signs, update_images};
pub(crate) use update::{DECIMAL_OVERFLOW, merge_image};
pub(crate) use values::{Form, Values, form_of};
