//! A second thread for the columns of a file.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use parquet::errors::{ParquetError, Result};
use tessera_manifest::env;

type Task = Box<dyn FnOnce() + Send>;

/// A thread that does one thing at a time for its owner, and ends with it.
#[derive(Debug)]
pub(super) struct Lane {
    tasks: SyncSender<Task>,
}

/// What a lane was asked for.
#[derive(Debug)]
pub(super) struct Asked<T> {
    answer: Receiver<T>,
}

impl Lane {
    /// Starts the thread; `None` where there is none to be had.
    pub(super) fn start() -> Option<Self> {
        let (tasks, waiting) = sync_channel::<Task>(1);
        let run = move || waiting.iter().for_each(|task| task());
        match env::spawn_thread("sst-columns", run) {
            Ok(_) => Some(Self { tasks }),
            Err(error) => {
                tracing::debug!(%error, "columns are encoded on one thread");
                None
            }
        }
    }

    /// Asks for something.
    pub(super) fn ask<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Asked<T> {
        let (to, answer) = sync_channel(1);
        // Who does not take the task does not answer it.
        let _ = self.tasks.send(Box::new(move || _ = to.send(work())));
        Asked { answer }
    }
}

impl<T> Asked<T> {
    /// Waits for it.
    pub(super) fn wait(self) -> Result<T> {
        self.answer.recv().map_err(|_| ParquetError::General("the thread that encodes columns has ended".to_owned()))
    }
}
