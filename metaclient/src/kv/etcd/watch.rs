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

use super::client::{Backoff, Client, Repeat};
use super::convert::{bounds, entry, revision};
use super::failure::Failure;
use crate::kv::interpret::Change;
use crate::kv::{Key, KeyRange, KvError, Revision, Watch, WatchBatch};

pub(super) struct EtcdWatch {
    client: Arc<Client>,
    /// First key and end; `None` for a range without keys, where nothing ever happens.
    bounds: Option<(Vec<u8>, Vec<u8>)>,
    next: Revision,
    stream: Option<WatchStream>,
    partial: Option<WatchBatch>,
    ready: VecDeque<WatchBatch>,
    backoff: Backoff,
}

impl std::fmt::Debug for EtcdWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EtcdWatch").field("next", &self.next).field("connected", &self.stream.is_some()).finish_non_exhaustive()
    }
}

impl EtcdWatch {
    /// Starts a watch; answers once a server has accepted it.
    pub(super) async fn start(client: Arc<Client>, range: &KeyRange, from: Revision) -> Result<Self, KvError> {
        let next = from.max(Revision(1));
        let backoff = Backoff::default();
        let mut watch = Self { client, bounds: bounds(range), next, stream: None, partial: None, ready: VecDeque::new(), backoff };
        watch.open().await?;
        Ok(watch)
    }

    /// Opens a stream at `next`, trying for as long as any other call.
    async fn open(&mut self) -> Result<(), KvError> {
        let Some((start, end)) = self.bounds.clone() else { return Ok(()) };
        let from = i64::try_from(self.next.0).unwrap_or(i64::MAX);
        let options = WatchOptions::new().with_range(end).with_start_revision(from).with_fragment();
        let opened = self.client.call(Repeat::Always, || {
            let (mut watcher, start, options) = (self.client.watch.clone(), start.clone(), options.clone());
            async move { watcher.watch(start, Some(options)).await }
        });
        let stream = opened.await.map_err(|failure| self.client.error("watch", failure))?;
        self.stream = Some(stream);
        Ok(())
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
        self.stream = None;
        self.partial = None;
    }

    /// Waits for the server's next word, on a new stream when the old one has ended.
    async fn advance(&mut self) -> Result<(), KvError> {
        let Some(stream) = &mut self.stream else {
            self.backoff.wait().await;
            // A read renews the token, and fails for good when the user may no longer read.
            return match self.client.probe().await {
                Ok(()) => self.open_again().await,
                Err(error @ KvError::Refused { .. }) => Err(error),
                Err(_) => Ok(()),
            };
        };
        match stream.message().await {
            Ok(Some(response)) => self.take(response.0),
            Ok(None) => {
                self.lose("the server closed it");
                Ok(())
            }
            Err(error) => {
                self.lose(&error.to_string());
                Ok(())
            }
        }
    }

    async fn open_again(&mut self) -> Result<(), KvError> {
        match self.open().await {
            Err(error @ KvError::Refused { .. }) => Err(error),
            // No server now; the next round tries again.
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

#[async_trait]
impl Watch for EtcdWatch {
    async fn next(&mut self) -> Result<WatchBatch, KvError> {
        if self.bounds.is_none() {
            return std::future::pending().await;
        }
        loop {
            if let Some(batch) = self.ready.pop_front() {
                return Ok(batch);
            }
            self.advance().await?;
        }
    }
}
