//! Deals stored state out to the subtasks of a new job; pure, never reads a chunk.

use bytes::Bytes;
use flott_core::snapshot::{OperatorStateEntry, Redistribution};
use flott_core::{KeyGroupRange, OperatorId};

use super::{CheckpointMetadata, OperatorMetadata, RestoredOperator};

/// What subtask `index` of `parallelism` of `operator` takes over. Empty when the checkpoint does not know the operator.
pub fn assign(metadata: &CheckpointMetadata, operator: OperatorId, parallelism: u32, index: u32) -> RestoredOperator {
    let coordinator_state =
        metadata.coordinator_states.iter().find(|c| c.operator == operator).map(|c| c.state.clone());
    let Some(old) = metadata.operators.iter().find(|o| o.id == operator) else {
        return RestoredOperator { coordinator_state, ..RestoredOperator::default() };
    };
    // An operator without key groups may have more subtasks than its max parallelism.
    let keyed = if parallelism <= old.max_parallelism && index < parallelism {
        let range = KeyGroupRange::of_subtask(old.max_parallelism, parallelism, index);
        let handles = old.subtasks.iter().filter_map(|(_, s)| s.keyed.as_ref());
        handles.filter(|k| !k.key_groups.intersect(&range).is_empty()).cloned().collect()
    } else {
        Vec::new()
    };
    RestoredOperator { keyed, operator_state: operator_state(old, parallelism, index), coordinator_state }
}

fn operator_state(old: &OperatorMetadata, parallelism: u32, index: u32) -> Vec<OperatorStateEntry> {
    let mut kinds: Vec<(&str, Redistribution)> = Vec::new();
    for entry in old.subtasks.iter().flat_map(|(_, s)| &s.operator_state) {
        if !kinds.iter().any(|(name, _)| *name == entry.name) {
            kinds.push((&entry.name, entry.redistribution));
        }
    }
    let entries = kinds.into_iter().map(|(name, redistribution)| {
        // (subtask index, its items): ascending by index.
        let lists: Vec<(u32, &[Bytes])> = old
            .subtasks
            .iter()
            .flat_map(|(i, s)| s.operator_state.iter().map(move |e| (*i, e)))
            .filter(|(_, e)| e.name == name)
            .map(|(i, e)| (i, e.items.as_slice()))
            .collect();
        let all = || lists.iter().flat_map(|(_, items)| items.iter().cloned());
        let items = match redistribution {
            // Unchanged parallelism keeps every item where it was, as Flink does.
            Redistribution::Split if parallelism == old.parallelism => {
                lists.iter().filter(|(i, _)| *i == index).flat_map(|(_, items)| items.iter().cloned()).collect()
            }
            Redistribution::Split => all().skip(index as usize).step_by(parallelism.max(1) as usize).collect(),
            Redistribution::Union => all().collect(),
            Redistribution::Broadcast => {
                let own = lists.get(index as usize % lists.len().max(1));
                own.map(|(_, items)| items.to_vec()).unwrap_or_default()
            }
        };
        OperatorStateEntry { name: name.to_owned(), redistribution, items }
    });
    entries.collect()
}
