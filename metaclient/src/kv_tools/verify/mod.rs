//! Concurrent writers with ledgers, a watcher, and a comparison of the two: does the store keep its word?
//!
//! The writers put, compare and swap, delete (one key, many, with and without a signature), write pairs and
//! read, all on keys under one prefix. Each notes what it was told. The watcher notes the history. When all is
//! done the whole prefix is read, and ledgers, reads and history are compared (`judge.rs`): lost,
//! repeated, torn, reordered and invented changes, wrong versions, stale reads and gaps of the watch all show.
//! Whoever was told that an outcome is unknown accepts either.
//!
//! Memory: about 200 bytes for each call and 400 for each change, until the end of the run.

mod judge;
mod ledger;
mod writer;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use serde::Serialize;
use tessera_manifest::env::{self, Moment};

use self::judge::judge;
use self::ledger::{Ledger, Outcome};
use self::writer::{Shared, Writer};
use crate::kv::{Compare, KeyRange, KvBackend, KvError, Op, Revision, Txn, WatchBatch};

/// What to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// All keys of the run start with this; nothing else may.
    pub prefix: String,
    /// Writers at the same time.
    pub writers: usize,
    /// Keys that they share; fewer make more conflicts.
    pub keys: usize,
    /// Calls of all writers together, at most.
    pub calls: u64,
    /// How long they go on, at most.
    pub duration: Option<Duration>,
    /// Of the writers' choices; their order in time is the machine's.
    pub seed: u64,
}

/// What was done and what was wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Writes that changed something.
    pub applied: u64,
    /// Writes that found nothing to change.
    pub idle: u64,
    /// Writes whose compare did not hold.
    pub refused: u64,
    /// Writes that failed with the promise that nothing was applied.
    pub failed: u64,
    /// Writes whose outcome was unknown to the writer.
    pub unknown: u64,
    /// Those of them that were applied.
    pub unknown_applied: u64,
    /// Reads that were answered, counted by range.
    pub reads: u64,
    /// Reads that were not.
    pub unread: u64,
    /// Transactions that the watch delivered.
    pub history: u64,
    /// How long the writers ran.
    pub elapsed_ms: u64,
    /// What was wrong; a store that keeps its word has none.
    pub violations: u64,
    /// The first of them in words.
    pub told: Vec<String>,
}

/// Why a run proves nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There are keys under the prefix.
    #[error("there are keys that start with '{prefix}': delete them, or choose another prefix")]
    NotEmpty {
        /// The prefix.
        prefix: String,
    },
    /// The store failed in a way that writers cannot go on from, or the watch fell behind what the store keeps.
    #[error("the run was broken off")]
    Store {
        /// The cause.
        #[from]
        source: KvError,
    },
    /// A task of the run panicked or was stopped.
    #[error("a task of the run was aborted")]
    Aborted {
        /// The cause.
        #[from]
        source: tokio::task::JoinError,
    },
}

/// Calls that end a run are repeated this often while servers fail.
const ENDINGS_MAX: usize = 30;
const ENDING_PAUSE: Duration = Duration::from_millis(200);

/// Runs writers and a watcher, compares what they were told, and deletes the keys of the run.
///
/// # Errors
/// When the run proves nothing. What is wrong with the store is in the report.
pub async fn run(kv: Arc<dyn KvBackend>, options: Options) -> Result<Report, Error> {
    let range = KeyRange::prefix(options.prefix.clone());
    let begin = Compare::PrefixEmpty { prefix: options.prefix.clone().into() };
    let begun = kv.txn(Txn::new().when(begin)).await?;
    if !begun.succeeded {
        return Err(Error::NotEmpty { prefix: options.prefix });
    }
    let end_key = format!("{}~end", options.prefix);
    let watch = kv.watch(range.clone(), begun.revision.next()).await?;
    let watching = env::spawn(follow(watch, end_key.clone()));
    let shared = Arc::new(Shared {
        kv: Arc::clone(&kv),
        started: Moment::now(),
        left: AtomicU64::new(options.calls),
        told: AtomicU64::new(begun.revision.0),
        options,
    });
    let writers: Vec<_> = (0..shared.options.writers).map(|number| env::spawn(Writer::new(Arc::clone(&shared), number).run())).collect();
    let mut ledgers = Vec::new();
    for writer in writers {
        ledgers.push(writer.await??);
    }
    let elapsed = Moment::now().since(shared.started);
    ledgers.push(last_look(&shared, range.clone()).await?);
    persist(&*kv, &Txn::new().then([Op::put(end_key, "end")])).await?;
    let history = watching.await??;
    let mut report = count(&ledgers, &history);
    report.elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    judge(&ledgers, &history, &mut report);
    persist(&*kv, &Txn::new().then([Op::DeleteRange { range }])).await?;
    Ok(report)
}

/// Notes changes until the end of the run, which is not part of the history.
async fn follow(mut watch: Box<dyn crate::kv::Watch>, end_key: String) -> Result<Vec<WatchBatch>, KvError> {
    let mut history = Vec::new();
    loop {
        let batch = watch.next().await?;
        if batch.changes.iter().any(|change| change.key().as_bytes() == end_key.as_bytes()) {
            return Ok(history);
        }
        history.push(batch);
    }
}

/// Reads all that the run left, page by page.
async fn last_look(shared: &Shared, range: KeyRange) -> Result<Ledger, KvError> {
    let mut ledger = Ledger::default();
    let mut rest = range.clone();
    for _ in 0..ENDINGS_MAX + shared.options.keys * 4 + shared.options.writers * 2 {
        match shared.read(rest.clone(), usize::MAX).await {
            Ok(read) => {
                let (end, whole) = (read.range.end.clone(), read.range.end == range.end);
                ledger.reads.push(read);
                match end {
                    Some(end) if !whole => rest.start = end,
                    _ => break,
                }
            }
            Err(KvError::Unavailable { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(ledger)
}

/// Runs a transaction that may run twice, until it is answered.
async fn persist(kv: &dyn KvBackend, txn: &Txn) -> Result<Revision, KvError> {
    let mut attempt = 1;
    loop {
        match kv.txn(txn.clone()).await {
            Err(KvError::Unavailable { .. } | KvError::CommitUnknown { .. }) if attempt < ENDINGS_MAX => {
                attempt += 1;
                env::sleep(ENDING_PAUSE).await;
            }
            done => return Ok(done?.revision),
        }
    }
}

fn count(ledgers: &[Ledger], history: &[WatchBatch]) -> Report {
    let mut report = Report { history: history.len() as u64, ..Report::default() };
    for ledger in ledgers {
        report.reads += ledger.reads.len() as u64;
        report.unread += ledger.unread;
        for write in &ledger.writes {
            let counted = match write.outcome {
                Outcome::Ran(_) => &mut report.applied,
                Outcome::Idle(_) => &mut report.idle,
                Outcome::Refused(_) => &mut report.refused,
                Outcome::Failed => &mut report.failed,
                Outcome::Unknown => &mut report.unknown,
            };
            *counted += 1;
        }
    }
    report
}

#[cfg(test)]
mod tests;
