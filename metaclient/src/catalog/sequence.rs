//! Table ids: one exact sequence, without hidden batches, effective at once.

use tessera_manifest::id::TableId;

use super::Catalog;
use super::error::CatalogError;
use super::model::FIRST_TABLE_ID;
use crate::keys::MetaKey;
use crate::kv::{Compare, Entry, Key, Op, Txn};
use crate::limits::ATTEMPTS_MAX;
use crate::values::{self, NextTableId};

/// What a caller does in the transaction that allocates an id.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WithTableId {
    /// Conditions that must hold, or no id is given.
    pub compares: Vec<Compare>,
    /// Operations to go with the allocation; they must not touch the sequence.
    pub ops: Vec<Op>,
}

fn key() -> Key {
    MetaKey::TableSequence.to_key()
}

/// That the sequence is as it was read.
fn unchanged(entry: Option<&Entry>) -> Compare {
    entry.map_or_else(|| Compare::Absent { key: key() }, Compare::unchanged)
}

fn put_next(next: TableId) -> Op {
    Op::put(key(), values::encode(&NextTableId(next)))
}

impl Catalog {
    /// The id that the next table gets.
    ///
    /// # Errors
    /// When the store fails or holds what cannot be read.
    pub async fn next_table_id(&self) -> Result<TableId, CatalogError> {
        Ok(self.read_sequence().await?.1)
    }

    async fn read_sequence(&self) -> Result<(Option<Entry>, TableId), CatalogError> {
        let found = self.read::<NextTableId>(&MetaKey::TableSequence).await?;
        Ok(found.map_or((None, FIRST_TABLE_ID), |(entry, NextTableId(next))| (Some(entry), next)))
    }

    /// Takes the next id; nobody else ever gets it.
    ///
    /// # Errors
    /// [`CatalogError::SequenceExhausted`] after 2^32 - 1; [`CatalogError::Contended`].
    pub async fn allocate_table_id(&self) -> Result<TableId, CatalogError> {
        self.allocate_table_id_with(|_| WithTableId::default()).await
    }

    /// Takes the next id and does in the same transaction what `with` says for it. `with` may be called more
    /// than once; the last call counts.
    ///
    /// # Errors
    /// [`CatalogError::ConditionsFailed`] when the caller's conditions do not hold: no id was taken. Else as
    /// [`allocate_table_id`](Self::allocate_table_id).
    pub async fn allocate_table_id_with(&self, with: impl Fn(TableId) -> WithTableId + Send + Sync) -> Result<TableId, CatalogError> {
        for _ in 0..ATTEMPTS_MAX {
            let (entry, id) = self.read_sequence().await?;
            let next = id.0.checked_add(1).map(TableId).ok_or(CatalogError::SequenceExhausted)?;
            let WithTableId { compares, ops } = with(id);
            let mut txn = Txn::new().when(unchanged(entry.as_ref())).then([put_next(next)]).then(ops).otherwise([Op::get(key())]);
            txn.compares.extend(compares);
            let answer = self.kv.txn(txn).await?;
            if answer.succeeded {
                return Ok(id);
            }
            if answer.entry(0) == entry.as_ref() {
                return Err(CatalogError::ConditionsFailed { id });
            }
        }
        Err(CatalogError::Contended { what: MetaKey::TableSequence.to_string() })
    }

    /// Makes `asked` the next id, which must be greater than it is now.
    ///
    /// # Errors
    /// [`CatalogError::SequenceBackward`]; [`CatalogError::Contended`].
    pub async fn set_next_table_id(&self, asked: TableId) -> Result<(), CatalogError> {
        for _ in 0..ATTEMPTS_MAX {
            let (entry, next) = self.read_sequence().await?;
            if asked <= next {
                return Err(CatalogError::SequenceBackward { next, asked });
            }
            let txn = Txn::new().when(unchanged(entry.as_ref())).then([put_next(asked)]);
            if self.kv.txn(txn).await?.succeeded {
                return Ok(());
            }
        }
        Err(CatalogError::Contended { what: MetaKey::TableSequence.to_string() })
    }
}
