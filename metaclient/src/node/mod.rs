//! The nodes of the cluster: who is there, and where.
//!
//! Invariants:
//! - A node that is there has the key `node/{id}` under a lease that it keeps alive. When it dies the key goes.
//! - One node has an id at a time: who comes second waits until the first is gone. This keeps addresses in
//!   order; what fences a node's writes are the epochs of its logs, never its lease.

use std::sync::Arc;
use std::time::Duration;

use tessera_manifest::env::{self, Env};
use tessera_manifest::error::ErrorClass;
use tessera_manifest::id::{NodeId, Nonce};

use crate::keys::{self, MetaKey};
use crate::kv::{Compare, KeyRange, KvBackend, KvError, Op, Revision, Txn, range_all};
use crate::lock::{HeldLease, LockError};
use crate::values;

/// A node that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// Where it is reached.
    pub address: String,
    /// The version of its program, for people.
    pub version: String,
    /// This start of it.
    pub incarnation: Nonce,
    /// When it was started, in milliseconds since 1970; for people only.
    pub started_unix_ms: u64,
}

/// The registry.
#[derive(Debug, Clone)]
pub struct Nodes {
    kv: Arc<dyn KvBackend>,
    env: Env,
}

impl Nodes {
    /// The registry in `kv`.
    #[must_use]
    pub fn new(kv: Arc<dyn KvBackend>, env: Env) -> Self {
        Self { kv, env }
    }

    /// Puts a node into the registry and keeps it there; waits while another has its id. Cancel safe.
    ///
    /// # Errors
    /// As the store; [`LockError::Lost`] when it did not answer for too long.
    pub async fn register(&self, id: NodeId, address: &str, version: &str, ttl: Duration) -> Result<Registration, LockError> {
        let (incarnation, started_unix_ms) = (self.env.nonce(), self.env.unix_ms());
        let node = Node { id, address: address.to_owned(), version: version.to_owned(), incarnation, started_unix_ms };
        let lease = HeldLease::take(Arc::clone(&self.kv), ttl).await?;
        let key = MetaKey::Node { id }.to_key();
        let lost = || LockError::Lost { queue: key.to_string() };
        loop {
            let entered = tokio::select! {
                biased;
                () = lease.lost() => return Err(lost()),
                entered = self.enter(&node, &lease) => entered,
            };
            match entered {
                Ok(Some(token)) => return Ok(Registration { node, token, lease }),
                Ok(None) => {}
                Err(KvError::LeaseNotFound { .. }) => return Err(lost()),
                Err(error) if matches!(error.class(), ErrorClass::Unavailable | ErrorClass::Refresh) => env::sleep(ttl / 64).await,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// One attempt; `None` when another node was there, and may be gone now.
    async fn enter(&self, node: &Node, lease: &HeldLease) -> Result<Option<Revision>, KvError> {
        let (key, value) = (MetaKey::Node { id: node.id }.to_key(), values::encode(node));
        let put = Op::put(key.clone(), value.clone()).with_lease(lease.id());
        let txn = Txn::new().when(Compare::Absent { key: key.clone() }).then([put]).otherwise([Op::get(key.clone())]);
        let answer = self.kv.txn(txn).await?;
        if answer.succeeded {
            return Ok(Some(answer.revision));
        }
        match answer.entry(0) {
            // An attempt whose answer was lost: the value names this start of the node.
            Some(entry) if entry.value == value => Ok(Some(entry.create_revision)),
            _ => {
                let mut watch = self.kv.watch(KeyRange::between(key.clone(), key.successor()), answer.revision.next()).await?;
                watch.next().await?;
                Ok(None)
            }
        }
    }

    /// The nodes that are there, by id.
    ///
    /// # Errors
    /// As the store.
    pub async fn nodes(&self) -> Result<Vec<Node>, LockError> {
        let entries = range_all(&*self.kv, keys::nodes()).await?;
        Ok(entries.iter().map(values::decode_entry).collect::<Result<_, _>>()?)
    }
}

/// That this node is in the registry. Dropping it takes it out in the background.
#[derive(Debug)]
pub struct Registration {
    node: Node,
    token: Revision,
    lease: HeldLease,
}

impl Registration {
    /// The node as others see it.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The condition that this start of the node is still registered.
    #[must_use]
    pub fn compare(&self) -> Compare {
        Compare::ModRevision { key: MetaKey::Node { id: self.node.id }.to_key(), revision: self.token }
    }

    /// Whether others certainly see it at this moment.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.lease.is_held()
    }

    /// Waits until it may have been lost; then register again. Cancel safe.
    pub async fn lost(&self) {
        self.lease.lost().await;
    }

    /// Takes the node out, and waits until the store has done so, if it answers.
    pub async fn leave(self) {
        self.lease.release().await;
    }
}

#[cfg(test)]
mod tests;
