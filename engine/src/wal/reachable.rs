//! Logs that other nodes wrote and this one can read, because their disk is here, too.
//!
//! Invariant: a log is opened as its own node would open it, under its lock and as a new epoch. Whoever holds it is its only writer,
//! so that it takes no row any more while its rows are brought elsewhere.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use tessera_manifest::env::{self, Env};
use tessera_manifest::wal::WalId;

use super::LogStore;
use super::error::WalError;
use super::local::{LocalWal, Options};

/// Where the logs of other nodes may be.
#[async_trait]
pub trait ReachableLogs: fmt::Debug + Send + Sync {
    /// Opens a log in the place of the node that wrote it; `None` for one that is not among these.
    ///
    /// # Errors
    /// Those of [`LocalWal::open`], among them [`WalError::Locked`] while its own node, or another one that brings its rows
    /// elsewhere, has it. [`WalError::Twice`] when it is there more than once.
    async fn open(&self, log: WalId) -> Result<Option<Arc<dyn LogStore>>, WalError>;
}

/// Logs in folders, as local disks that were moved or are shared have them.
#[derive(Debug)]
pub struct LocalLogs {
    folders: Vec<PathBuf>,
    env: Env,
}

impl LocalLogs {
    /// The logs in these folders; which they are is looked up when one is asked for. A folder may be away, or hold none.
    #[must_use]
    pub fn new(folders: Vec<PathBuf>, env: Env) -> Self {
        Self { folders, env }
    }
}

#[async_trait]
impl ReachableLogs for LocalLogs {
    async fn open(&self, log: WalId) -> Result<Option<Arc<dyn LogStore>>, WalError> {
        let folders = self.folders.clone();
        let found = move || find(folders, log);
        let Some(folder) = env::spawn_blocking(found).await.unwrap_or(Err(WalError::Closed))? else { return Ok(None) };
        let opened = LocalWal::open(&folder, Options::new(log.node), self.env.clone()).await?;
        // Somebody may have put another one there meanwhile.
        Ok((opened.id() == log).then(|| Arc::new(opened) as Arc<dyn LogStore>))
    }
}

/// The folder that holds the log. Of two nobody knows which has all rows; nor of one beside a folder that cannot be identified,
/// which may be what the other is an old copy of.
fn find(folders: Vec<PathBuf>, log: WalId) -> Result<Option<PathBuf>, WalError> {
    let mut held = None::<PathBuf>;
    for folder in folders {
        if LocalWal::identify(&folder)? != Some(log) {
            continue;
        }
        match &held {
            None => held = Some(folder),
            Some(first) if is_same(first, &folder) => {}
            Some(first) => return Err(WalError::Twice { log, folders: [first.clone(), folder] }),
        }
    }
    Ok(held)
}

/// Whether two paths are known to lead to one folder.
fn is_same(one: &Path, other: &Path) -> bool {
    let place = |path: &Path| path.metadata().map(|found| (found.dev(), found.ino()));
    matches!((place(one), place(other)), (Ok(one), Ok(other)) if one == other)
}
