//! A watch that outlives connections, servers and leaders.
//!
//! Invariants:
//! - `next` is one more than the last revision that was handed out or queued whole. A new stream starts there,
//!   so that nothing is missed; what lies before it is dropped, so that nothing comes twice.
//! - A transaction is handed out when all of it has arrived: the server marks an answer that it goes on with.
//!   What has arrived in part is forgotten with its stream.
//! - Progress marks of the server are not used: only what was delivered moves `next`. A quiet watch whose
//!   connection breaks after a compaction therefore fails with `Compacted`, which a reader must expect anyway.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use etcd_client::proto::{PbEvent, PbWatchResponse};
use etcd_client::{EventType, WatchOptions, WatchStream};
use tessera_manifest::env;
use tokio::task::JoinHandle;

use super::client::{Backoff, Client, Repeat};
use super::convert::{bounds, entry, revision};
use super::failure::Failure;
use crate::kv::interpret::Change;
use crate::kv::{Key, KeyRange, KvError, Revision, Watch, WatchBatch};

type Opening = JoinHandle<Result<WatchStream, KvError>>;

/// The server's side of a watch.
enum Source {
    /// It comes from here.
    Stream(Box<WatchStream>),
    /// A task looks for a server: a caller that asks often and waits for a moment only must not stop it.
    Opening(Opening),
    /// The range has no keys: nothing ever comes.
    Nothing,
}

pub(super) struct EtcdWatch {
    client: Arc<Client>,
    /// First key and end.
    bounds: (Vec<u8>, Vec<u8>),
    next: Revision,
    source: Source,
    partial: Option<WatchBatch>,
    ready: VecDeque<WatchBatch>,
    backoff: Backoff,
}

impl std::fmt::Debug for EtcdWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EtcdWatch").field("next", &self.next).finish_non_exhaustive()
    }
}

impl Drop for EtcdWatch {
    fn drop(&mut self) {
        if let Source::Opening(task) = &self.source {
            task.abort();
        }
    }
}

/// Opens a stream, trying for as long as any other call.
async fn open(client: &Client, (start, end): &(Vec<u8>, Vec<u8>), next: Revision) -> Result<WatchStream, KvError> {
    let from = i64::try_from(next.0).unwrap_or(i64::MAX);
    let opened = client.call(Repeat::Always, || {
        let options = WatchOptions::new().with_range(end.clone()).with_start_revision(from).with_fragment();
        let (mut watcher, start) = (client.watch.clone(), start.clone());
        async move { watcher.watch(start, Some(options)).await }
    });
    opened.await.map_err(|failure| client.error("watch", failure))
}

/// Opens a stream, however long it takes.
async fn open_again(client: Arc<Client>, bounds: (Vec<u8>, Vec<u8>), next: Revision, mut backoff: Backoff) -> Result<WatchStream, KvError> {
    loop {
        backoff.wait().await;
        // The read renews the token, and fails for good when the user may no longer read.
        let opened = match client.probe().await {
            Ok(()) => open(&client, &bounds, next).await,
            Err(error) => Err(error),
        };
        match opened {
            Err(KvError::Unavailable { .. }) => {}
            done => return done,
        }
    }
}

impl EtcdWatch {
    /// Starts a watch; answers once a server has accepted it.
    pub(super) async fn start(client: Arc<Client>, range: &KeyRange, from: Revision) -> Result<Self, KvError> {
        let next = from.max(Revision(1));
        let (bounds, source) = match bounds(range) {
            Some(bounds) => {
                let stream = open(&client, &bounds, next).await?;
                (bounds, Source::Stream(Box::new(stream)))
            }
            None => (Default::default(), Source::Nothing),
        };
        Ok(Self { client, bounds, next, source, partial: None, ready: VecDeque::new(), backoff: Backoff::default() })
    }

    /// Queues what the server sent.
    fn take(&mut self, response: PbWatchResponse) -> Result<(), KvError> {
        if response.canceled {
            return self.canceled(&response);
        }
        for event in response.events {
            self.take_event(event);
        }
        if !response.fragment {
            self.complete();
        }
        Ok(())
    }

    fn canceled(&mut self, response: &PbWatchResponse) -> Result<(), KvError> {
        if response.compact_revision > 0 {
            return Err(KvError::Compacted { requested: self.next, oldest: revision(response.compact_revision) });
        }
        if response.cancel_reason.contains("permission denied") {
            return Err(self.client.error("watch", Failure::Refused(response.cancel_reason.clone())));
        }
        // The server has no leader, or the token is old: another stream, after a while.
        self.lose(&response.cancel_reason);
        Ok(())
    }

    fn take_event(&mut self, event: PbEvent) {
        let Some(kv) = event.kv else { return };
        let at = revision(kv.mod_revision);
        if at < self.next {
            return;
        }
        let change =
            if event.r#type == EventType::Delete as i32 { Change::Delete { key: Key::from(kv.key) } } else { Change::Put(entry(kv)) };
        match &mut self.partial {
            Some(partial) if partial.revision == at => partial.changes.push(change),
            _ => {
                self.complete();
                self.partial = Some(WatchBatch { revision: at, changes: vec![change] });
            }
        }
    }

    /// Queues the transaction that has arrived: all of it is there.
    fn complete(&mut self) {
        if let Some(mut batch) = self.partial.take() {
            // The server has them in the order of the operations.
            batch.changes.sort_unstable_by(|a, b| a.key().cmp(b.key()));
            self.next = batch.revision.next();
            self.ready.push_back(batch);
            self.backoff = Backoff::default();
        }
    }

    fn lose(&mut self, reason: &str) {
        tracing::info!(next = %self.next, reason, "a watch on etcd ended and is resumed");
        self.partial = None;
        let opening = open_again(Arc::clone(&self.client), self.bounds.clone(), self.next, self.backoff.clone());
        self.backoff.lengthen();
        self.source = Source::Opening(env::spawn(opening));
    }

    /// Waits for the server's next word, or for a new stream.
    async fn advance(&mut self) -> Result<(), KvError> {
        match &mut self.source {
            Source::Nothing => std::future::pending().await,
            Source::Opening(task) => {
                let stream = task.await.map_err(|source| KvError::Aborted { source })??;
                self.source = Source::Stream(Box::new(stream));
            }
            Source::Stream(stream) => match stream.message().await {
                Ok(Some(response)) => self.take(response.0)?,
                Ok(None) => self.lose("the server closed it"),
                Err(error) => self.lose(&error.to_string()),
            },
        }
        Ok(())
    }
}

#[async_trait]
impl Watch for EtcdWatch {
    async fn next(&mut self) -> Result<WatchBatch, KvError> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                return Ok(batch);
            }
            self.advance().await?;
        }
    }
}
