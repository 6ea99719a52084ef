//! A cluster of etcd servers as the store, for more than one node.
//!
//! Invariants:
//! - Reads are linearizable; a transaction is one request, and is never split.
//! - A transaction is sent again only when the attempt before was certainly not applied. Where that is not
//!   known the answer is [`KvError::CommitUnknown`].
//! - What etcd does otherwise than the interpreter is made equal in `convert`, and nowhere else.
//!
//! etcd's own revisions, versions and leases are ours. Everything in the key space of the etcd cluster is the
//! store's: another program that writes there moves the revision.

mod client;
mod convert;
mod failure;
mod options;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use etcd_client::GetOptions;
use etcd_client::proto::PbRangeResponse;

use self::client::{Client, Repeat};
use self::convert::{Request, bounds, entry, lease_id, lease_number, number, page_limit, request, revision};
use self::failure::{Failure, StrangeAnswer};
pub use self::options::{ETCD_REQUEST_BYTES_MAX, ETCD_TXN_OPS_MAX, EtcdIdentity, EtcdOptions, EtcdTls, EtcdUser};
use self::watch::EtcdWatch;
use super::error::KvError;
use super::interpret::{check_key, check_keys, check_txn, txn_bytes};
use super::key::{Key, KeyRange, Revision};
use super::lease::{Lease, LeaseId};
use super::txn::{Op, OpAnswer, RangeRequest, Txn, TxnAnswer};
use super::{GetAnswer, KvBackend, Limits, MultiGetAnswer, RangeAnswer, Watch};
use crate::limits::LEASE_TTL_MAX;

/// A [`KvBackend`] on etcd.
#[derive(Debug)]
pub struct EtcdBackend {
    client: Arc<Client>,
}

impl EtcdBackend {
    /// Connects to a cluster, and reads once to see that it answers.
    ///
    /// # Errors
    /// [`KvError::Unavailable`] when no server answers within the request timeout; [`KvError::Refused`] when
    /// the user, the password or an endpoint is wrong.
    pub async fn connect(options: &EtcdOptions) -> Result<Self, KvError> {
        Ok(Self { client: Arc::new(Client::connect(options).await?) })
    }

    async fn read(&self, key: Vec<u8>, options: Option<GetOptions>) -> Result<PbRangeResponse, Failure> {
        let read = self.client.call(Repeat::Always, || {
            let (mut kv, key, options) = (self.client.kv.clone(), key.clone(), options.clone());
            async move { kv.get(key, options).await }
        });
        Ok(read.await?.0)
    }

    async fn send(&self, repeat: Repeat, txn: &Txn) -> Result<TxnAnswer, Failure> {
        let request: Request = request(txn, &self.client.limits);
        let sent = self.client.call(repeat, || {
            let (mut kv, txn) = (self.client.kv.clone(), request.txn.clone());
            async move { kv.txn(txn).await }
        });
        Ok(request.answer(sent.await?.0)?)
    }

    fn txn_error(&self, txn: &Txn, failure: Failure) -> KvError {
        let ops = txn.compares.len().max(txn.then_ops.len()).max(txn.else_ops.len());
        let bytes = txn_bytes(txn);
        match failure {
            Failure::TooManyOps => KvError::TooManyOps { what: "parts", ops, ops_max: ops.saturating_sub(1) },
            Failure::TooLarge => KvError::TxnTooLarge { bytes, bytes_max: bytes.saturating_sub(1) },
            Failure::LeaseNotFound => KvError::LeaseNotFound { id: some_lease(txn) },
            Failure::Unknown(source) | Failure::AnswerTooLarge(source) if !txn.is_read_only() => {
                KvError::CommitUnknown { store: self.client.store(), source }
            }
            other => self.client.error("run a transaction on", other),
        }
    }

    /// A page of at most `limit` entries.
    async fn page(&self, range: &KeyRange, limit: usize) -> Result<RangeAnswer, Failure> {
        let Some((start, end)) = bounds(range) else {
            // The revision is asked for all the same.
            let found = self.read(b"\0".to_vec(), Some(GetOptions::new().with_keys_only())).await?;
            return Ok(RangeAnswer { entries: Vec::new(), more: false, revision: header_revision(&found)? });
        };
        let found = self.read(start, Some(GetOptions::new().with_range(end).with_limit(number(limit)))).await?;
        let revision = header_revision(&found)?;
        Ok(RangeAnswer { more: found.more, entries: found.kvs.into_iter().map(entry).collect(), revision })
    }
}

fn header_revision(response: &PbRangeResponse) -> Result<Revision, StrangeAnswer> {
    response.header.as_ref().map(|header| revision(header.revision)).ok_or(StrangeAnswer("it has no header"))
}

/// A lease that the transaction names; the server does not say which one it did not find.
fn some_lease(txn: &Txn) -> LeaseId {
    let lease = |op: &Op| if let Op::Put { lease, .. } = op { *lease } else { None };
    txn.then_ops.iter().chain(&txn.else_ops).find_map(lease).unwrap_or(LeaseId(0))
}

#[async_trait]
impl KvBackend for EtcdBackend {
    fn limits(&self) -> Limits {
        self.client.limits
    }

    async fn get(&self, key: &Key) -> Result<GetAnswer, KvError> {
        check_key(key, &self.client.limits)?;
        let found = self.read(key.as_bytes().to_vec(), None).await.and_then(|found| Ok((header_revision(&found)?, found)));
        let (revision, found) = found.map_err(|failure| self.client.error("read from", failure))?;
        Ok(GetAnswer { entry: found.kvs.into_iter().next().map(entry), revision })
    }

    async fn multi_get(&self, keys: &[Key]) -> Result<MultiGetAnswer, KvError> {
        check_keys(keys, &self.client.limits)?;
        let answer = self.txn(Txn::new().then(keys.iter().cloned().map(Op::get))).await?;
        let entry = |answer| if let OpAnswer::Get(entry) = answer { entry } else { None };
        Ok(MultiGetAnswer { entries: answer.answers.into_iter().map(entry).collect(), revision: answer.revision })
    }

    async fn range(&self, request: &RangeRequest) -> Result<RangeAnswer, KvError> {
        let mut limit = page_limit(request, &self.client.limits);
        loop {
            match self.page(&request.range, limit).await {
                Ok(page) => return Ok(page),
                // A page may be shorter than asked for, and says that there is more.
                Err(Failure::AnswerTooLarge(_)) if limit > 1 => limit /= 2,
                Err(failure) => return Err(self.client.error("read from", failure)),
            }
        }
    }

    async fn txn(&self, txn: Txn) -> Result<TxnAnswer, KvError> {
        check_txn(&txn, &self.client.limits)?;
        let repeat = if txn.is_read_only() { Repeat::Always } else { Repeat::WhenNotApplied };
        self.send(repeat, &txn).await.map_err(|failure| self.txn_error(&txn, failure))
    }

    async fn watch(&self, range: KeyRange, from: Revision) -> Result<Box<dyn Watch>, KvError> {
        Ok(Box::new(EtcdWatch::start(Arc::clone(&self.client), &range, from).await?))
    }

    async fn compact(&self, before: Revision) -> Result<(), KvError> {
        let now = self.get(&Key::from("\0")).await?.revision;
        let at = i64::try_from(before.min(now).0).unwrap_or(i64::MAX);
        let compacted = self.client.call(Repeat::Always, || {
            let mut kv = self.client.kv.clone();
            async move { kv.compact(at, None).await }
        });
        match compacted.await {
            Ok(_) | Err(Failure::Compacted) => Ok(()),
            Err(failure) => Err(self.client.error("compact", failure)),
        }
    }

    async fn grant(&self, ttl: Duration) -> Result<Lease, KvError> {
        if ttl > LEASE_TTL_MAX {
            return Err(KvError::TtlTooLong { ttl, ttl_max: LEASE_TTL_MAX });
        }
        let seconds = i64::try_from(ttl.as_millis().div_ceil(1000)).unwrap_or(i64::MAX).max(1);
        // Repeated without harm: a lease that nobody knows of expires.
        let granted = self.client.call(Repeat::Always, || {
            let mut lease = self.client.lease.clone();
            async move { lease.grant(seconds, None).await }
        });
        let granted = granted.await.map_err(|failure| self.client.error("ask for a lease of", failure))?;
        let id = lease_id(granted.id()).ok_or_else(|| self.client.error("ask for a lease of", StrangeAnswer("it has no id").into()))?;
        Ok(Lease { id, ttl: seconds_to_ttl(granted.ttl()) })
    }

    async fn keep_alive(&self, id: LeaseId) -> Result<Duration, KvError> {
        let kept = self.client.call(Repeat::Always, || {
            let mut lease = self.client.lease.clone();
            async move {
                // The client reads the first answer and keeps its time to live for itself.
                let (mut keeper, mut stream) = lease.keep_alive(lease_number(id)).await?;
                keeper.keep_alive().await?;
                Ok(stream.message().await?.map_or(0, |answer| answer.ttl()))
            }
        });
        match kept.await {
            Ok(seconds) if seconds > 0 => Ok(seconds_to_ttl(seconds)),
            Ok(_) | Err(Failure::LeaseNotFound) => Err(KvError::LeaseNotFound { id }),
            Err(failure) => Err(self.client.error("keep a lease alive on", failure)),
        }
    }

    async fn revoke(&self, id: LeaseId) -> Result<(), KvError> {
        let revoke = || {
            self.client.call(Repeat::WhenNotApplied, || {
                let mut lease = self.client.lease.clone();
                async move { lease.revoke(lease_number(id)).await }
            })
        };
        match revoke().await {
            Ok(_) => Ok(()),
            Err(Failure::LeaseNotFound) => Err(KvError::LeaseNotFound { id }),
            // It may have ended the lease, and then a second one does not find it.
            Err(Failure::Unknown(_)) => match revoke().await {
                Ok(_) | Err(Failure::LeaseNotFound) => Ok(()),
                Err(Failure::Unknown(source)) => Err(KvError::CommitUnknown { store: self.client.store(), source }),
                Err(failure) => Err(self.client.error("end a lease on", failure)),
            },
            Err(failure) => Err(self.client.error("end a lease on", failure)),
        }
    }
}

fn seconds_to_ttl(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

#[cfg(test)]
mod tests;
