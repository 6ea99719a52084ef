//! Table ids: one exact sequence, without hidden batches, effective at once.
//!
//! Invariants:
//! - An id is given at most once, and ids are given in order: the sequence holds the next one, and giving it is one
//!   transaction that moves the sequence on by one.
//! - The sequence never goes back.
//! - No id is given in recovery mode, and only in recovery mode may an operator set the next one. Who sets it therefore
//!   knows that no table is being created meanwhile.
//! - Whoever knows of tables that the catalog does not (folders on the object store) says so: no id is given that is
//!   not above them. A sequence that is behind refuses until it is raised, and is never raised by an allocation.

use tessera_manifest::id::TableId;

use super::Catalog;
use super::error::CatalogError;
use super::model::{FIRST_TABLE_ID, Planned};
use crate::keys::{self, MetaKey, Switch};
use crate::kv::{Compare, Entry, Key, KeyRange, Op, RangeRequest, Txn};
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

fn plan_allocation(entry: Option<&Entry>, id: TableId) -> Result<Planned, CatalogError> {
    Ok(Planned { compares: vec![Switch::Recovery.is_off(), unchanged(entry)], ops: vec![put_next(after(id)?)] })
}

fn after(id: TableId) -> Result<TableId, CatalogError> {
    id.0.checked_add(1).map(TableId).ok_or(CatalogError::SequenceExhausted)
}

impl Catalog {
    /// The id that the next table gets. Takes nothing.
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

    /// Takes the next id; nobody else ever gets it. `in_use` is the highest id that is known to be in use outside the
    /// catalog, if any is.
    ///
    /// # Errors
    /// [`CatalogError::RecoveryMode`]; [`CatalogError::SequenceBehind`] when the next id is not above `in_use`;
    /// [`CatalogError::SequenceExhausted`] after 2^32 - 1; [`CatalogError::Contended`]. No id was taken then.
    pub async fn allocate_table_id(&self, in_use: Option<TableId>) -> Result<TableId, CatalogError> {
        self.allocate_table_id_with(in_use, |_| WithTableId::default()).await
    }

    /// Takes the next id and does in the same transaction what `with` says for it. `with` may be called more
    /// than once; the last call counts.
    ///
    /// # Errors
    /// [`CatalogError::ConditionsFailed`] when the caller's conditions do not hold: no id was taken. Else as
    /// [`allocate_table_id`](Self::allocate_table_id).
    pub async fn allocate_table_id_with(
        &self,
        in_use: Option<TableId>,
        with: impl Fn(TableId) -> WithTableId + Send + Sync,
    ) -> Result<TableId, CatalogError> {
        for _ in 0..ATTEMPTS_MAX {
            let (entry, id) = self.readable_next(in_use).await?;
            let WithTableId { compares, ops } = with(id);
            let mut txn =
                plan_allocation(entry.as_ref(), id)?.into_txn().then(ops).otherwise([Op::get(key()), Op::get(Switch::Recovery.key())]);
            txn.compares.extend(compares);
            let answer = self.kv.txn(txn).await?;
            if answer.succeeded {
                return Ok(id);
            }
            if answer.entry(1).is_some() {
                return Err(CatalogError::RecoveryMode { what: "table" });
            }
            if answer.entry(0) == entry.as_ref() {
                return Err(CatalogError::ConditionsFailed { id });
            }
        }
        Err(CatalogError::Contended { what: MetaKey::TableSequence.to_string() })
    }

    async fn readable_next(&self, in_use: Option<TableId>) -> Result<(Option<Entry>, TableId), CatalogError> {
        let (entry, id) = self.read_sequence().await?;
        match in_use.filter(|highest| *highest >= id) {
            Some(highest) => Err(CatalogError::SequenceBehind { next: id, highest }),
            None => Ok((entry, id)),
        }
    }

    /// What takes the next id, to be done in a transaction of the caller; the id is the caller's if that succeeds.
    /// When its conditions fail another took the id: plan again.
    ///
    /// # Errors
    /// As [`allocate_table_id`](Self::allocate_table_id).
    pub async fn plan_table_id(&self, in_use: Option<TableId>) -> Result<(TableId, Planned), CatalogError> {
        if self.switch(Switch::Recovery).await?.is_some() {
            return Err(CatalogError::RecoveryMode { what: "table" });
        }
        let (entry, id) = self.readable_next(in_use).await?;
        Ok((id, plan_allocation(entry.as_ref(), id)?))
    }

    /// Makes `asked` the next id. It must be greater than the present one, than every table id in the catalog, dropped
    /// tables included, and than `in_use`, the highest that is known to be in use elsewhere.
    ///
    /// # Errors
    /// [`CatalogError::NotInRecoveryMode`], [`CatalogError::SequenceBackward`], [`CatalogError::SequenceInUse`];
    /// [`CatalogError::Contended`]. Nothing was changed then.
    pub async fn set_next_table_id(&self, asked: TableId, in_use: Option<TableId>) -> Result<(), CatalogError> {
        for _ in 0..ATTEMPTS_MAX {
            let Some(recovery) = self.kv.get(&Switch::Recovery.key()).await?.entry else {
                return Err(CatalogError::NotInRecoveryMode);
            };
            let (entry, next) = self.read_sequence().await?;
            if asked <= next {
                return Err(CatalogError::SequenceBackward { next, asked });
            }
            if let Some(highest) = self.highest_table_id().await?.max(in_use).filter(|highest| *highest >= asked) {
                return Err(CatalogError::SequenceInUse { asked, highest });
            }
            // In one and the same recovery mode no table came meanwhile.
            let txn = Txn::new().when(Compare::unchanged(&recovery)).when(unchanged(entry.as_ref())).then([put_next(asked)]);
            if self.kv.txn(txn).await?.succeeded {
                return Ok(());
            }
        }
        Err(CatalogError::Contended { what: MetaKey::TableSequence.to_string() })
    }

    /// Raises the next id above `highest` and above every table id in the catalog, if it is not above them already;
    /// answers the next id. For whoever repairs: it can do no harm at any time, in recovery mode or not.
    ///
    /// # Errors
    /// [`CatalogError::SequenceExhausted`]; [`CatalogError::Contended`].
    pub async fn raise_next_table_id(&self, highest: Option<TableId>) -> Result<TableId, CatalogError> {
        for _ in 0..ATTEMPTS_MAX {
            let (entry, next) = self.read_sequence().await?;
            let Some(highest) = self.highest_table_id().await?.max(highest).filter(|highest| *highest >= next) else {
                return Ok(next);
            };
            let raised = after(highest)?;
            let txn = Txn::new().when(unchanged(entry.as_ref())).then([put_next(raised)]);
            if self.kv.txn(txn).await?.succeeded {
                return Ok(raised);
            }
        }
        Err(CatalogError::Contended { what: MetaKey::TableSequence.to_string() })
    }

    /// The highest id of a table in the catalog, dropped ones included while their tombstone is there. At most some
    /// sixty small reads, however many tables there are.
    ///
    /// # Errors
    /// When the store fails or holds a key that is none.
    pub async fn highest_table_id(&self) -> Result<Option<TableId>, CatalogError> {
        let tables = self.highest_of(keys::tables(), |id| MetaKey::Table { id }).await?;
        let dropped = self.highest_of(keys::tombstones(), |id| MetaKey::Tombstone { id }).await?;
        Ok(tables.max(dropped))
    }

    /// The id of the last key of a range whose keys are `key_of` some id: by halving, since ranges are read forward.
    async fn highest_of(&self, range: KeyRange, key_of: fn(TableId) -> MetaKey) -> Result<Option<TableId>, CatalogError> {
        let mut highest = None;
        // Every id that is still in question lies in low..=high.
        let (mut low, mut high) = (0_u32, u32::MAX);
        while low <= high {
            let middle = low + (high - low) / 2;
            let from = KeyRange { start: key_of(TableId(middle)).to_key(), end: range.end.clone() };
            let page = self.kv.range(&RangeRequest::new(from).with_limit(1)).await?;
            if let Some(entry) = page.entries.first() {
                let found = match MetaKey::from_key(&entry.key)? {
                    MetaKey::Table { id } | MetaKey::Tombstone { id } => id,
                    _ => break,
                };
                highest = Some(found);
                let Some(above) = found.0.checked_add(1) else { break };
                low = above;
            } else {
                let Some(below) = middle.checked_sub(1) else { break };
                high = below;
            }
        }
        Ok(highest)
    }
}
