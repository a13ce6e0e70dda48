//! What is deleted and when: surplus checkpoints, orphans of dead starts, everything; never what a retained checkpoint needs.

use flott_core::{CheckpointId, Error, Result};

use super::job::JobStorage;
use super::local::TEMPORARY;
use super::log::{self, Appended, LogEntry, LogKind, PublishLog};
use super::nonce::random;
use super::restore::{chk_dir, chk_number};
use super::{CheckpointStorage, backend};
use crate::metadata::CheckpointMetadata;

impl JobStorage {
    /// Drops completed checkpoints beyond `num_retained` (savepoints stay) and returns their ids. To be called after a publish, on any
    /// thread. The log entry goes first: a checkpoint that the log names is whole.
    pub fn retire(&self) -> Result<Vec<CheckpointId>> {
        let inner = &*self.inner;
        let prefix = inner.prefix();
        let state = inner.log();
        let surplus = inner.files().surplus(inner.options.num_retained);
        for checkpoint in &surplus {
            let seq = inner.files().retained.get(checkpoint).map(|r| r.seq);
            if let Some(seq) = seq {
                inner.storage.delete(&log::path(&prefix, seq))?;
            }
            inner.storage.delete(&format!("{}/_metadata", chk_dir(&prefix, *checkpoint)))?;
            let exclusive = inner.files().drop_retained(*checkpoint);
            self.delete_files(exclusive);
            inner.storage.delete(&chk_dir(&prefix, *checkpoint))?;
        }
        let doomed = inner.files().take_doomed();
        self.delete_files(doomed);
        if !surplus.is_empty() {
            self.truncate_fences(state.next_seq)?;
        }
        Ok(surplus)
    }

    /// Deletes fences older than the newest one: a newer checkpoint of their successor is in the log by now.
    fn truncate_fences(&self, next_seq: u64) -> Result<()> {
        let inner = &*self.inner;
        let prefix = inner.prefix();
        let log = PublishLog::read(&*inner.storage, &prefix)?;
        let own_end = log.entries.iter().filter(|(seq, _)| *seq < next_seq);
        let fences: Vec<u64> =
            own_end.filter(|(_, e)| matches!(e.kind, LogKind::Fence { .. })).map(|(seq, _)| *seq).collect();
        let Some((_, older)) = fences.split_last() else { return Ok(()) };
        for seq in older {
            inner.storage.delete(&log::path(&prefix, *seq))?;
        }
        Ok(())
    }

    /// Once per generation, after the restore point was chosen and before the first checkpoint: deletes what dead starts of the job
    /// left behind. Touches only files of older generations. Returns notices.
    pub fn clean_up_orphans(&self) -> Result<Vec<String>> {
        let inner = &*self.inner;
        let prefix = inner.prefix();
        let (own, damaged) = {
            let state = inner.log();
            (state.generation, state.damaged.clone())
        };
        if own == 0 {
            return Err(Error::bug(format!("no generation of job {} was begun", inner.job)));
        }
        let mut notices = Vec::new();
        let mut dirs: Vec<String> = inner.storage.list(&prefix)?;
        dirs.retain(|d| {
            let number = d.strip_suffix('/').and_then(chk_number);
            number.is_some_and(|n| !damaged.contains(&CheckpointId(n)))
        });
        if damaged.is_empty() {
            dirs.push("shared/".to_owned());
        } else {
            let ids: Vec<String> = damaged.iter().map(|c| c.to_string()).collect();
            notices.push(format!(
                "files that checkpoint {} may need are kept: its metadata cannot be read",
                ids.join(", ")
            ));
        }
        for dir in dirs {
            let dir = dir.trim_end_matches('/');
            let retained = chk_number(dir).is_some_and(|n| inner.files().retained.contains_key(&CheckpointId(n)));
            for name in inner.storage.list(&format!("{prefix}/{dir}"))? {
                let path = format!("{dir}/{name}");
                let orphan = match name.as_str() {
                    "_metadata" => !retained && self.is_metadata_older(&path, own)?,
                    n if n.contains(TEMPORARY) => true,
                    n => is_chunk_older(n, own) && !inner.files().is_known(&path),
                };
                if orphan {
                    inner.storage.delete(&inner.path(&path))?;
                }
            }
            inner.storage.delete(&inner.path(dir))?;
        }
        Ok(notices)
    }

    fn is_metadata_older(&self, path: &str, own: u64) -> Result<bool> {
        let at = self.inner.path(path);
        let bytes = self.inner.storage.get(&at, None)?;
        // What cannot be read was published by nobody.
        let metadata = bytes.map(|b| CheckpointMetadata::decode(&b, &at));
        Ok(metadata.is_some_and(|m| m.map_or(true, |m| m.generation < own)))
    }

    /// Deletes all checkpoints of the job: when it is cancelled or has finished and nothing is to be retained. A fence stays, so that no
    /// id and no generation repeats. Savepoints are kept when `keep_savepoints`.
    pub fn discard_all(&self, keep_savepoints: bool) -> Result<()> {
        let inner = &*self.inner;
        let prefix = inner.prefix();
        let mut state = inner.log();
        let log = PublishLog::read(&*inner.storage, &prefix)?;
        if state.generation == 0 || log.generation() > state.generation {
            return Err(Error::fenced(format!("job {} is not owned by this process", inner.job)).detail(format!(
                "own generation {}, newest {}",
                state.generation,
                log.generation()
            )));
        }
        let kind = LogKind::Fence { next_checkpoint: log.next_checkpoint() };
        let entry = LogEntry { generation: state.generation, nonce: random(), kind };
        let seq = log.next_seq();
        if let Appended::Taken(_) = log::append(&*inner.storage, &prefix, seq, &entry)? {
            return Err(Error::fenced(format!("job {} was started again while it was being cleaned up", inner.job)));
        }
        state.next_seq = seq + 1;
        let kept: Vec<(CheckpointId, u64)> = if keep_savepoints {
            inner.files().retained.iter().filter(|(_, r)| r.savepoint).map(|(id, r)| (*id, r.seq)).collect()
        } else {
            Vec::new()
        };
        for (old, _) in &log.entries {
            if !kept.iter().any(|(_, seq)| seq == old) {
                inner.storage.delete(&log::path(&prefix, *old))?;
            }
        }
        let mut files = inner.files();
        files.retained.retain(|id, _| kept.iter().any(|(k, _)| k == id));
        files.pinned.clear();
        files.in_flight.clear();
        files.doomed.clear();
        files.unresolved.clear();
        drop(files);
        for name in inner.storage.list(&prefix)? {
            let Some(dir) = name.strip_suffix('/').filter(|d| *d == "shared" || chk_number(d).is_some()) else {
                continue;
            };
            if kept.is_empty() {
                backend::delete_tree(&*inner.storage, &inner.path(dir))?;
                continue;
            }
            if chk_number(dir).is_some_and(|n| kept.iter().any(|(id, _)| id.0 == n)) {
                continue;
            }
            for file in inner.storage.list(&inner.path(dir))? {
                let path = format!("{dir}/{file}");
                if !inner.files().is_referenced(&path) {
                    inner.storage.delete(&inner.path(&path))?;
                }
            }
            inner.storage.delete(&inner.path(dir))?;
        }
        Ok(())
    }
}

/// Whether a chunk's name says that an older generation wrote it; a name that says nothing is no chunk of ours and stays.
fn is_chunk_older(name: &str, own: u64) -> bool {
    let generation = name.split('-').next().and_then(|g| u64::from_str_radix(g, 16).ok());
    generation.is_some_and(|g| g < own)
}
