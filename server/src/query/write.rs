//! Writes the rows of one statement: INSERT, DELETE, COPY FROM.
//!
//! Invariants:
//! - Up to [`limits::CHECKED_BYTES_MAX`] all rows are checked before the first is written.
//! - Within a region rows are written in their order; regions are written at the same time.
//! - After an error the caller is told how many rows were applied.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use tessera_engine::engine::Engine;
use tessera_engine::request::{OpType, WriteRequest};
use tessera_manifest::env;

use super::error::{from_arrow, from_engine};
use super::rows::Place;
use super::{limits, rows};
use crate::catalog::Table;
use crate::error::{Code, ServerError};

/// Collects, checks and writes rows.
pub struct Writer {
    table: Arc<Table>,
    engine: Engine,
    op: OpType,
    positions: Vec<usize>,
    pending: Vec<Vec<RecordBatch>>,
    pending_bytes: usize,
    bytes_max: usize,
    applied: u64,
}

impl Writer {
    /// A writer of rows with all columns of the table in display order.
    #[must_use]
    pub fn put(table: Arc<Table>, engine: Engine) -> Self {
        let positions = (0..table.info.schema.columns().len()).collect();
        Self::new(table, engine, OpType::Put, positions)
    }

    /// A writer of deletes: rows with the key columns in display order.
    #[must_use]
    pub fn delete(table: Arc<Table>, engine: Engine) -> Self {
        let positions = rows::key_positions(&table.info.schema);
        Self::new(table, engine, OpType::Delete, positions)
    }

    fn new(table: Arc<Table>, engine: Engine, op: OpType, positions: Vec<usize>) -> Self {
        let pending = vec![Vec::new(); table.routes.len()];
        Self { table, engine, op, positions, pending, pending_bytes: 0, bytes_max: limits::CHECKED_BYTES_MAX, applied: 0 }
    }

    /// Rows written so far.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// Checks rows and keeps them; writes when many are kept.
    ///
    /// # Errors
    /// A row that does not fit the table, or a failed write; the message says what was applied.
    pub async fn push(&mut self, batch: &RecordBatch, place: Place<'_>) -> Result<(), ServerError> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let fitted = rows::conform(batch, &self.table, &self.positions, place).map_err(|error| self.explain(error))?;
        let parts = rows::split(fitted, &self.table, &self.positions, place).map_err(|error| self.explain(error))?;
        for part in parts {
            self.pending_bytes += part.batch.get_array_memory_size();
            if let Some(pending) = self.pending.get_mut(part.route) {
                pending.push(part.batch);
            }
        }
        if self.pending_bytes < self.bytes_max {
            return Ok(());
        }
        self.bytes_max = limits::STREAMED_BYTES;
        self.flush().await
    }

    /// Writes what is kept and gives the number of rows that the statement wrote.
    ///
    /// # Errors
    /// A failed write; the message says what was applied.
    pub async fn finish(mut self) -> Result<u64, ServerError> {
        self.flush().await?;
        Ok(self.applied)
    }

    /// The error, with what was applied before it.
    #[must_use]
    pub fn explain(&self, error: ServerError) -> ServerError {
        let message = match self.applied {
            0 => format!("{}; nothing of the statement was applied", error.message),
            rows => format!(
                "{}; {rows} rows of the statement were applied before: running it again is safe, rows with the same key are replaced",
                error.message
            ),
        };
        ServerError::new(error.code, message)
    }

    async fn flush(&mut self) -> Result<(), ServerError> {
        let mut tasks = Vec::new();
        for (route, batches) in self.pending.iter_mut().enumerate() {
            if batches.is_empty() {
                continue;
            }
            let batches = std::mem::take(batches);
            tasks.push(env::spawn(write_region(Arc::clone(&self.table), self.engine.clone(), route, self.op, batches)));
        }
        self.pending_bytes = 0;
        let mut failed = None;
        for task in tasks {
            let (rows, result) = match task.await {
                Ok(outcome) => outcome,
                Err(error) => (0, Err(ServerError::new(Code::Internal, format!("a write task failed: {error}")))),
            };
            self.applied += rows;
            if let Err(error) = result {
                failed.get_or_insert(error);
            }
        }
        failed.map_or(Ok(()), |error| Err(self.explain(error)))
    }
}

/// Writes rows of one region in order; gives the rows applied and what stopped it.
async fn write_region(
    table: Arc<Table>,
    engine: Engine,
    route: usize,
    op: OpType,
    batches: Vec<RecordBatch>,
) -> (u64, Result<(), ServerError>) {
    let mut applied = 0;
    let result = write_batches(&table, &engine, route, op, batches, &mut applied).await;
    (applied, result)
}

async fn write_batches(
    table: &Table,
    engine: &Engine,
    route: usize,
    op: OpType,
    batches: Vec<RecordBatch>,
    applied: &mut u64,
) -> Result<(), ServerError> {
    let Some(route) = table.routes.get(route) else { return Ok(()) };
    let region = engine.region(route.region).map_err(|error| from_engine(&error))?;
    let rule_version = route.rule.version();
    for batch in coalesce(batches)? {
        let request = WriteRequest { generation: route.generation, rule_version, batch, op };
        let outcome = region.write(request).await.map_err(|error| from_engine(&error))?;
        *applied += outcome.rows as u64;
    }
    Ok(())
}

/// Joins small batches, so that a write to a region is worth its cost.
fn coalesce(batches: Vec<RecordBatch>) -> Result<Vec<RecordBatch>, ServerError> {
    let mut joined = Vec::new();
    let mut group: Vec<RecordBatch> = Vec::new();
    let (mut rows, mut bytes) = (0, 0);
    for batch in batches {
        let (more_rows, more_bytes) = (batch.num_rows(), batch.get_array_memory_size());
        if !group.is_empty() && (rows + more_rows > limits::WRITE_ROWS_MAX || bytes + more_bytes > limits::WRITE_BYTES_MAX) {
            joined.push(join(std::mem::take(&mut group))?);
            (rows, bytes) = (0, 0);
        }
        rows += more_rows;
        bytes += more_bytes;
        group.push(batch);
    }
    if !group.is_empty() {
        joined.push(join(group)?);
    }
    Ok(joined)
}

fn join(mut group: Vec<RecordBatch>) -> Result<RecordBatch, ServerError> {
    match group.len() {
        1 => Ok(group.remove(0)),
        _ => concat_batches(&group[0].schema(), &group).map_err(from_arrow),
    }
}
