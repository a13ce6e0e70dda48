//! Whether a checkpoint fits a job: state must have an operator, key groups must agree; never changes either.

use flott_core::{Error, Result};

use super::{CheckpointMetadata, JobDescription};

/// Refuses a checkpoint that `job` cannot take over: state without an operator (unless `ignore_unclaimed`:
/// `execution.state-recovery.ignore-unclaimed-state`), another max parallelism, or a parallelism above it.
///
/// Returns one notice per operator whose state is dropped.
pub fn graph_fit(metadata: &CheckpointMetadata, job: &JobDescription, ignore_unclaimed: bool) -> Result<Vec<String>> {
    let has_coordinator_state =
        |id| metadata.coordinator_states.iter().any(|c| c.operator == id && !c.state.is_empty());
    let has_rows = |id| metadata.in_flight.iter().any(|s| s.rows > 0 && s.place.operator() == id);
    let stateful = metadata.operators.iter().filter(|o| o.has_state() || has_coordinator_state(o.id) || has_rows(o.id));
    let mut unclaimed = Vec::new();
    for old in stateful {
        let Some(new) = job.operators.iter().find(|o| o.id == old.id) else {
            unclaimed.push(format!("`{}` ({})", old.name, old.id));
            continue;
        };
        let keyed = old.subtasks.iter().any(|(_, s)| s.keyed.is_some());
        if keyed && old.max_parallelism != new.max_parallelism {
            return Err(Error::user(
                "checkpoint.max-parallelism",
                format!(
                    "operator `{}` has max parallelism {}, but its state was written with {}",
                    new.name, new.max_parallelism, old.max_parallelism
                ),
            )
            .detail(format!("checkpoint {} of job `{}`", metadata.checkpoint, metadata.job_name))
            .hint(format!("set pipeline.max-parallelism: {}", old.max_parallelism)));
        }
        if keyed && new.parallelism > new.max_parallelism {
            return Err(Error::user(
                "checkpoint.parallelism",
                format!(
                    "operator `{}` cannot have parallelism {}: its state has {} key groups",
                    new.name, new.parallelism, new.max_parallelism
                ),
            )
            .hint(format!("set parallelism.default to at most {}", new.max_parallelism)));
        }
    }
    if unclaimed.is_empty() {
        return Ok(Vec::new());
    }
    if ignore_unclaimed {
        return Ok(unclaimed
            .iter()
            .map(|o| format!("state of operator {o} is not restored: the job has no such operator"))
            .collect());
    }
    let names: Vec<String> = job.operators.iter().map(|o| format!("`{}`", o.name)).collect();
    Err(Error::user(
        "checkpoint.unclaimed-state",
        format!(
            "checkpoint {} of job `{}` holds state for operators that the job does not have: {}",
            metadata.checkpoint, metadata.job_name, unclaimed.join(", ")
        ),
    )
    .detail(format!("the job has {}", if names.is_empty() { "none".to_owned() } else { names.join(", ") }))
    .hint("give those operators the uid (or the place in the statements) they had, or set execution.state-recovery.ignore-unclaimed-state: true to drop their state"))
}
