//! Who the cluster is, and how its metadata begins.

use std::collections::BTreeMap;
use std::sync::Arc;

use tessera_manifest::id::Nonce;

use super::Catalog;
use super::error::CatalogError;
use super::model::{DEFAULT_DATABASE, Database, FIRST_TABLE_ID};
use crate::keys::MetaKey;
use crate::kv::{Compare, KvBackend, Op, Txn};
use crate::values::{self, NextTableId};

/// What new metadata begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bootstrap {
    /// The id of a new cluster; fresh, or that of the data that the metadata is rebuilt for.
    pub cluster: Nonce,
    /// The id of this life of the metadata; fresh.
    pub incarnation: Nonce,
    /// Now, in milliseconds since 1970.
    pub unix_ms: u64,
}

/// Who the cluster is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The cluster, for ever.
    pub cluster: Nonce,
    /// This life of its metadata: a new one begins when the metadata is rebuilt or restored.
    pub incarnation: Nonce,
}

impl Catalog {
    /// Opens the catalog on metadata that was set up before.
    ///
    /// # Errors
    /// [`CatalogError::NotBootstrapped`] on an empty store.
    pub async fn open(kv: Arc<dyn KvBackend>) -> Result<(Self, Identity), CatalogError> {
        let catalog = Self { kv };
        let identity = catalog.identity().await?;
        Ok((catalog, identity))
    }

    /// Opens the catalog, and on an empty store first writes, in one transaction, the ids of `bootstrap`, the
    /// database `public` and the first table id. Harmless when repeated: the store's own identity is answered.
    ///
    /// # Errors
    /// When the store fails or holds what cannot be read.
    pub async fn bootstrap(kv: Arc<dyn KvBackend>, bootstrap: Bootstrap) -> Result<(Self, Identity), CatalogError> {
        let Bootstrap { cluster, incarnation, unix_ms } = bootstrap;
        let database = Database { name: DEFAULT_DATABASE.to_owned(), created_unix_ms: unix_ms, options: BTreeMap::new() };
        let txn = Txn::new().when(Compare::Absent { key: MetaKey::ClusterId.to_key() }).then([
            Op::put(MetaKey::ClusterId.to_key(), values::encode(&cluster)),
            Op::put(MetaKey::IncarnationId.to_key(), values::encode(&incarnation)),
            Op::put(MetaKey::TableSequence.to_key(), values::encode(&NextTableId(FIRST_TABLE_ID))),
            Op::put(MetaKey::Database { database: database.name.clone() }.to_key(), values::encode(&database)),
        ]);
        if kv.txn(txn).await?.succeeded {
            tracing::info!(%cluster, %incarnation, "set up new metadata");
        }
        Self::open(kv).await
    }

    /// Who the cluster is.
    ///
    /// # Errors
    /// [`CatalogError::NotBootstrapped`] on an empty store.
    pub async fn identity(&self) -> Result<Identity, CatalogError> {
        let answer = self.kv.multi_get(&[MetaKey::ClusterId.to_key(), MetaKey::IncarnationId.to_key()]).await?;
        let mut ids = answer.entries.into_iter().flatten();
        let (Some(cluster), Some(incarnation)) = (ids.next(), ids.next()) else { return Err(CatalogError::NotBootstrapped) };
        Ok(Identity { cluster: values::decode_entry(&cluster)?, incarnation: values::decode_entry(&incarnation)? })
    }
}
