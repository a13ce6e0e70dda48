//! What a TaskManager is made of. Today: the network between tasks of different processes.
//!
//! Never decides where a task runs or what follows a failure: that is the JobManager's part.

pub mod network;
