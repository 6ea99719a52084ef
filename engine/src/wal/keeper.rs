//! Has the next segment file ready before the writer needs it, and clears released ones away.
//!
//! ```text
//! NAME.tmp --zeros on disk--> NAME.spare --header, by the writer--> N.wal --released--> N.spare or gone
//! ```
//!
//! Invariants:
//! - A file is a spare only once all of its bytes are allocated on disk and its name is durable.
//! - The identity file says that a segment is not needed (`kept_from`) before its file is renamed or deleted.
//! - A failure here is never fatal: a failed clean-up is counted and tried again with the next one, a failed
//!   preparation is told to the writer only if it waits for it.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::recover::segment_file;
use super::shared::Shared;
use crate::limits::wal as limits;

#[derive(Debug, Default)]
struct State {
    wanted: bool,
    waiting: bool,
    ready: Option<io::Result<PathBuf>>,
    sweep: bool,
    stopping: bool,
}

enum Task {
    Sweep,
    Prepare,
    Stop,
}

/// The mailbox of the keeper's thread.
#[derive(Debug, Default)]
pub(super) struct Keeper {
    state: Mutex<State>,
    changed: Condvar,
}

/// What the thread itself owns.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) shared: Arc<Shared>,
    pub(super) spares: Vec<PathBuf>,
    /// Segments whose files are not needed any more but are still there.
    pub(super) obsolete: Vec<u64>,
}

impl Keeper {
    /// Asks for a file to be made ready.
    pub(super) fn want(&self) {
        self.lock().wanted = true;
        self.changed.notify_all();
    }

    /// Asks for released segments to be cleared away.
    pub(super) fn sweep(&self) {
        self.lock().sweep = true;
        self.changed.notify_all();
    }

    /// Waits for a file that is ready, and asks for the one after it.
    pub(super) fn take(&self) -> io::Result<PathBuf> {
        let mut state = self.lock();
        loop {
            if let Some(ready) = state.ready.take() {
                state.waiting = false;
                state.wanted = ready.is_ok();
                self.changed.notify_all();
                return ready;
            }
            if state.stopping {
                return Err(io::Error::other("the log is closing"));
            }
            (state.wanted, state.waiting) = (true, true);
            self.changed.notify_all();
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Ends the thread after what it is doing and a sweep that was asked for.
    pub(super) fn stop(&self) {
        self.lock().stopping = true;
        self.changed.notify_all();
    }

    /// The thread.
    pub(super) fn run(&self, mut files: Files) {
        loop {
            match self.next_task() {
                Task::Stop => break,
                Task::Sweep => files.sweep(),
                Task::Prepare => self.prepared(files.prepare()),
            }
        }
        self.stop();
    }

    fn next_task(&self) -> Task {
        let mut state = self.lock();
        loop {
            // Also before stopping: a release that does not reach the identity file has to be made again by the
            // next opening, which until then keeps the segments.
            if state.sweep {
                state.sweep = false;
                return Task::Sweep;
            }
            if state.stopping {
                return Task::Stop;
            }
            if state.wanted && state.ready.is_none() {
                return Task::Prepare;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn prepared(&self, result: io::Result<PathBuf>) {
        let mut state = self.lock();
        state.wanted = false;
        if let Err(error) = &result {
            tracing::warn!(%error, "cannot make the next wal segment ready");
        }
        // An error that nobody waits for would be stale by the time somebody does.
        if result.is_ok() || state.waiting {
            state.ready = Some(result);
        }
        drop(state);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Files {
    fn prepare(&mut self) -> io::Result<PathBuf> {
        // What an earlier sweep could not clear away may be all the space that there is.
        if self.spares.is_empty() {
            self.sweep();
        }
        if let Some(spare) = self.spares.pop() {
            return Ok(spare);
        }
        let Shared { dir, env, disk, options, .. } = &*self.shared;
        let name = env.ulid();
        let temp = dir.join(format!("{name}.tmp"));
        let spare = dir.join(format!("{name}.spare"));
        let made = disk.preallocate(&temp, options.segment_bytes).and_then(|()| {
            disk.rename(&temp, &spare)?;
            disk.sync_dir(dir)
        });
        match made {
            Ok(()) => Ok(spare),
            Err(error) => {
                // It holds space that others may wait for.
                for leftover in [temp, spare] {
                    if let Err(error) = disk.remove(&leftover) {
                        tracing::debug!(file = %leftover.display(), %error, "nothing to remove");
                    }
                }
                Err(error)
            }
        }
    }

    pub(super) fn sweep(&mut self) {
        let released = self.shared.catalog().take_released();
        self.obsolete.extend(released);
        if self.obsolete.is_empty() {
            return;
        }
        if let Err(error) = self.shared.write_meta(None) {
            count_failure(&self.shared.dir, &error);
            return;
        }
        let mut renamed = Vec::new();
        let obsolete = std::mem::take(&mut self.obsolete);
        for number in obsolete {
            match self.clear(number, renamed.len()) {
                Ok(spare) => renamed.extend(spare),
                Err(error) => {
                    count_failure(&self.shared.dir.join(segment_file(number)), &error);
                    self.obsolete.push(number);
                }
            }
        }
        match self.shared.disk.sync_dir(&self.shared.dir) {
            Ok(()) => self.spares.extend(renamed),
            // They stay on disk as spares, for the next opening to pick up.
            Err(error) => count_failure(&self.shared.dir, &error),
        }
    }

    /// Makes the file of a released segment a spare, or deletes it.
    fn clear(&self, number: u64, renamed: usize) -> io::Result<Option<PathBuf>> {
        let Shared { dir, disk, options, .. } = &*self.shared;
        let path = dir.join(segment_file(number));
        let bytes = match fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if bytes == options.segment_bytes && self.spares.len() + renamed < limits::SPARE_SEGMENTS_MAX {
            let spare = path.with_extension("spare");
            disk.rename(&path, &spare)?;
            return Ok(Some(spare));
        }
        disk.remove(&path)?;
        Ok(None)
    }
}

fn count_failure(path: &std::path::Path, error: &io::Error) {
    metrics::counter!("tessera_wal_cleanup_failures_total").increment(1);
    tracing::warn!(file = %path.display(), %error, "cannot clear released wal segments away; trying again later");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sweep_that_was_asked_for_comes_before_the_end() {
        let keeper = Keeper::default();
        keeper.want();
        keeper.sweep();
        keeper.stop();
        assert!(matches!(keeper.next_task(), Task::Sweep));
        assert!(matches!(keeper.next_task(), Task::Stop));
    }
}
