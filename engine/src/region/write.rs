//! The write path: check, append, insert, under one gate permit.
//!
//! Crash order: an entry is durable in the WAL before its rows are in a memtable, and both before the write is
//! acknowledged. A write whose caller goes away is finished all the same, since its entry may already be
//! durable: half a write would reappear at the next replay.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use arrow::array::{Array, RecordBatch};
use tessera_manifest::env;
use tessera_manifest::meta::RegionMeta;
use tessera_manifest::rule::value_at;
use tessera_manifest::schema::{Schema, SemanticType};
use tokio::sync::OwnedRwLockReadGuard;

use super::version::Version;
use super::{GateState, Region};
use crate::codec;
use crate::error::Error;
use crate::memtable::columns_of;
use crate::merge::value;
use crate::options::MergeMode;
use crate::request::{OpType, WriteOutcome, WriteRequest};

/// One in so many parts of a memtable may be missing when it is frozen where an instant ends.
const CUT_SHARE: u64 = 8;

impl Region {
    /// Writes rows; they are durable and visible when this returns.
    ///
    /// Cancel safe: a write that is dropped is either not begun or finished in the background.
    ///
    /// # Errors
    /// [`Error::Stale`], [`Error::OutsideRule`], [`Error::BatchShape`] and [`Error::Overloaded`] before
    /// anything is written; [`Error::Wal`] when it is not known whether the rows are durable, in which case they
    /// are not visible now and may be after a restart.
    pub async fn write(self: &Arc<Self>, request: WriteRequest) -> Result<WriteOutcome, Error> {
        self.write_under(None, request).await
    }

    /// The same with rows that were made under `schema`. Rows of an earlier schema than the region's are written as if
    /// they had come before the alteration.
    ///
    /// # Errors
    /// Those of [`write`](Self::write), and [`Error::SchemaBehind`] for a later schema.
    pub async fn write_under(self: &Arc<Self>, schema: Option<Arc<Schema>>, request: WriteRequest) -> Result<WriteOutcome, Error> {
        let reserved = self.budget.reserve(request.batch.get_array_memory_size()).await?;
        self.cut_between_instants(schema.as_deref(), &request).await;
        let (permit, version, meta) = self.enter(&request).await?;
        if request.op == OpType::Delete && version.options.merge_mode == MergeMode::Append {
            return Err(Error::AppendOnly { region: self.id });
        }
        let request = match schema {
            Some(schema) => self.adapt(&version, &schema, request)?,
            None => request,
        };
        check_batch(&meta, &request)?;
        let region = Arc::clone(self);
        let work = env::spawn(async move {
            let outcome = region.append(permit, meta, request).await;
            drop(reserved);
            outcome
        });
        work.await.unwrap_or_else(|_| Err(Error::Stopped { region: self.id }))
    }

    async fn append(
        &self,
        permit: OwnedRwLockReadGuard<GateState>,
        meta: Arc<RegionMeta>,
        request: WriteRequest,
    ) -> Result<WriteOutcome, Error> {
        let WriteRequest { batch, op, .. } = request;
        let rows = batch.num_rows();
        let (first, pending) = {
            let mut order = self.order.lock().await;
            let first = order.take(self, &meta, rows)?;
            let payload = codec::encode(&meta.schema, op, first, &batch)
                .map_err(|source| Error::BatchShape { region: self.id, detail: source.to_string() })?;
            let pending = self.shared.parts.wal.submit(self.id, payload).await.map_err(|source| self.wal_error(source))?;
            (first, pending)
        };
        let position = pending.wait().await.map_err(|source| self.wal_error(source))?;
        let active = Arc::clone(self.pin().writing());
        let gained = active.insert(batch, op, first).map_err(|source| Error::rows(self.id, source))?;
        let mut inserted = self.inserted.lock().unwrap_or_else(PoisonError::into_inner);
        *inserted = (*inserted).max(position);
        drop(inserted);
        self.grew(gained);
        drop(permit);
        let last_sequence = tessera_manifest::id::Sequence::from_u64(first.as_u64() + (rows as u64).saturating_sub(1));
        metrics::counter!("tessera_rows_written_total").increment(rows as u64);
        Ok(WriteOutcome { rows, last_sequence })
    }

    /// Freezes a nearly full memtable with whose rows those to be written have no time in common, and none lies between: where
    /// rows come in order of time, the files of neighbouring memtables overlap in none, and no reader merges them.
    async fn cut_between_instants(&self, schema: Option<&Schema>, request: &WriteRequest) {
        let nearly_full = || {
            let full = self.shared.parts.config.region_memtable_bytes as u64;
            self.active_bytes() >= full - full / CUT_SHARE
        };
        if !nearly_full() {
            return;
        }
        let version = self.pin();
        let Some((least, greatest)) = times_of(schema.unwrap_or(&version.meta.schema), request) else { return };
        let apart = |version: &Version| version.writing().time_range().is_some_and(|(from, to)| to < least || greatest < from);
        if !apart(&version) {
            return;
        }
        let closed = self.gate.write().await;
        // Others may have written until the gate was closed.
        if *closed == GateState::Open && nearly_full() && apart(&self.pin()) {
            self.rotate(&closed);
            drop(closed);
            self.shared.scheduler.flush_soon(self.id);
        }
    }

    /// Accounts for what the active memtable gained.
    fn grew(&self, gained: usize) {
        self.active_bytes.fetch_add(gained as u64, Ordering::Relaxed);
        self.budget.add(gained);
        if self.active_bytes() >= self.shared.parts.config.region_memtable_bytes as u64 {
            self.shared.scheduler.flush_soon(self.id);
        }
    }

    /// Under a closed gate: makes the budget count exactly `bytes` for the active memtable, and starts anew.
    pub(super) fn settle_share(&self, bytes: usize) {
        let counted = usize::try_from(self.active_bytes.swap(0, Ordering::Relaxed)).unwrap_or(usize::MAX);
        if bytes > counted {
            self.budget.add(bytes - counted);
        } else {
            self.budget.free(counted - bytes);
        }
    }

    fn wal_error(&self, source: crate::wal::WalError) -> Error {
        Error::wal(self.id, source)
    }
}

/// The least and the greatest time of rows that are not checked yet; `None` if they have none.
fn times_of(schema: &Schema, request: &WriteRequest) -> Option<(i64, i64)> {
    let mut columns = columns_of(schema, request.op);
    let position = columns.position(|position| schema.columns()[position].semantic == SemanticType::TimeIndex)?;
    let times = value::times(request.batch.columns().get(position)?)?;
    let first = *times.first()?;
    Some(times.iter().fold((first, first), |(least, greatest), time| (least.min(*time), greatest.max(*time))))
}

/// Whether the batch has the columns of the schema, no NULL where none may be, and no row outside the rule.
fn check_batch(meta: &RegionMeta, request: &WriteRequest) -> Result<(), Error> {
    let (schema, batch, region) = (&meta.schema, &request.batch, meta.region);
    let shape = |detail: String| Error::BatchShape { region, detail };
    let positions: Vec<usize> = columns_of(schema, request.op).collect();
    if positions.len() != batch.num_columns() {
        return Err(shape(format!("it has {} columns, expected {}", batch.num_columns(), positions.len())));
    }
    for (position, array) in positions.iter().zip(batch.columns()) {
        let column = &schema.columns()[*position];
        let expected = column.data_type.to_arrow();
        if *array.data_type() != expected {
            return Err(shape(format!("column '{}' is {}, expected {expected}", column.name, array.data_type())));
        }
        if !column.nullable && array.null_count() > 0 {
            return Err(shape(format!("column '{}' may not be NULL", column.name)));
        }
    }
    check_rule(meta, batch, &positions)
}

fn check_rule(meta: &RegionMeta, batch: &RecordBatch, positions: &[usize]) -> Result<(), Error> {
    if *meta.rule == tessera_manifest::rule::Expr::always() {
        return Ok(());
    }
    let (schema, region) = (&meta.schema, meta.region);
    let shape = |detail: String| Error::BatchShape { region, detail };
    let inside = meta.rule.filter(batch, schema).map_err(|e| shape(e.to_string()))?;
    let Some(row) = (0..inside.len()).find(|row| !inside.value(*row)) else { return Ok(()) };
    let shown = positions.iter().zip(batch.columns()).filter_map(|(position, array)| {
        let column = &schema.columns()[*position];
        let wanted = meta.partition_columns.contains(&column.id);
        let value = wanted.then(|| value_at(array, row, column.data_type).ok())?;
        Some(format!("{} = {}", column.name, value.map_or_else(|| "?".to_owned(), |value| format!("{value:?}"))))
    });
    let shown = shown.collect::<Vec<_>>().join(", ");
    Err(Error::OutsideRule { region, rule: meta.rule.display(schema).to_string(), row: shown })
}
