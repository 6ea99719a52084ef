//! Logs that other nodes wrote and this one can read, because their disk is here, too.
//!
//! Invariant: a log is opened as its own node would open it, under its lock and as a new epoch. Whoever holds it is its only writer,
//! so that it takes no row any more while its rows are brought elsewhere.

use std::fmt;
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

/// The folder that holds the log. One that cannot be identified is an error only if no other holds it; of two nobody knows
/// which has all rows.
fn find(folders: Vec<PathBuf>, log: WalId) -> Result<Option<PathBuf>, WalError> {
    let (mut held, mut unknown) = (None::<PathBuf>, None);
    for folder in folders {
        match (LocalWal::identify(&folder), &held) {
            (Ok(found), None) if found == Some(log) => held = Some(folder),
            (Ok(found), Some(first)) if found == Some(log) && !is_same(first, &folder) => {
                return Err(WalError::Twice { log, folders: [first.clone(), folder] });
            }
            (Ok(_), _) => {}
            (Err(error), _) => unknown = Some(error),
        }
    }
    match (held, unknown) {
        (None, Some(error)) => Err(error),
        (held, _) => Ok(held),
    }
}

/// Whether two paths lead to one folder.
fn is_same(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => one == other,
    }
}
