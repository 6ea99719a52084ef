//! Writes the rows of one statement: INSERT, DELETE, COPY FROM.
//!
//! Invariants:
//! - Up to [`limits::CHECKED_BYTES_MAX`] all rows are checked before the first is written.
//! - Within a region rows are written in their order; regions are written at the same time.
//! - Rows that a region refuses because the route is old, or because it takes none for the moment, are held back, cut anew
//!   and written when the routes say where; see [`crate::router`]. Nothing else is tried again.
//! - Rows are cut by rules only under a schema that has all columns of these: where the table was altered meanwhile, they
//!   get the columns that it has now, as a region would give them.
//! - After an error the caller is told how many rows were applied, and whether that is all that may be.

use std::sync::Arc;

use arrow::array::{RecordBatch, UInt64Array};
use arrow::compute::{concat_batches, take_record_batch};
use tessera_engine::error::Error as EngineError;
use tessera_engine::request::{OpType, WriteRequest};
use tessera_engine::sst::conform_batch;
use tessera_engine::wal::WalError;
use tessera_manifest::env::{self, Moment};
use tessera_manifest::schema::Schema;
use tessera_metaclient::catalog::Route;

use super::dml::keeps_every_row;
use super::error::{from_arrow, from_engine};
use super::refusal::Refusal;
use super::rows::{Part, Place, nowhere};
use super::{limits, rows};
use crate::catalog::{Catalogs, Table};
use crate::error::{Code, ServerError, chain};
use crate::router::{Lanes, Next, Patience};

/// Collects, checks and writes rows.
pub struct Writer {
    /// The table when the statement was planned: what is pushed has its columns.
    planned: Arc<Table>,
    /// The table when its routes were last read.
    table: Arc<Table>,
    /// The columns of `table`, which all rows in the lanes have.
    schema: Arc<Schema>,
    catalogs: Catalogs,
    op: OpType,
    lanes: Lanes<RecordBatch>,
    pending_bytes: usize,
    bytes_max: usize,
    applied: u64,
    /// Whether rows may be there that are not among the applied.
    unknown: bool,
}

/// Why the rows of one region were not all written.
struct Failure {
    error: ServerError,
    /// Whether rows of this region may be written all the same.
    unknown: bool,
    /// How the region refused rows that were surely not written, and these rows.
    refused: Option<(Refusal, Vec<RecordBatch>)>,
}

impl Failure {
    fn plain(error: ServerError) -> Self {
        Self { error, unknown: false, refused: None }
    }
}

impl Writer {
    /// A writer of rows with all columns of the table in display order.
    #[must_use]
    pub fn put(table: Arc<Table>, catalogs: Catalogs) -> Self {
        Self::new(table, catalogs, OpType::Put)
    }

    /// A writer of deletes: rows with the key columns in display order.
    #[must_use]
    pub fn delete(table: Arc<Table>, catalogs: Catalogs) -> Self {
        Self::new(table, catalogs, OpType::Delete)
    }

    fn new(table: Arc<Table>, catalogs: Catalogs, op: OpType) -> Self {
        let (bytes_max, schema) = (limits::CHECKED_BYTES_MAX, Arc::new(table.info.schema.clone()));
        let (planned, lanes) = (Arc::clone(&table), Lanes::default());
        Self { planned, table, schema, catalogs, op, lanes, pending_bytes: 0, bytes_max, applied: 0, unknown: false }
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
        let parts = self.cut(batch, place).map_err(|error| self.explain(error))?;
        for part in parts {
            self.pending_bytes += part.batch.get_array_memory_size();
            self.lanes.push(self.table.write_routes()[part.route].region, part.batch);
        }
        if self.pending_bytes < self.bytes_max {
            return Ok(());
        }
        self.bytes_max = limits::STREAMED_BYTES;
        self.flush().await
    }

    fn cut(&self, batch: &RecordBatch, place: Place<'_>) -> Result<Vec<Part>, ServerError> {
        let planned = &self.planned.info.schema;
        let fitted = rows::conform(batch, &self.planned, &positions(planned, self.op), place)?;
        let fitted = later(fitted, planned, &self.schema, self.op)?;
        rows::split(fitted, &self.table, &positions(&self.schema, self.op), place)
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
        let again = match keeps_every_row(&self.table) {
            true => "the table keeps every row (append_mode), so that running it again may write rows twice: look first",
            false => "running it again is safe, rows with the same key are replaced",
        };
        let what = match (self.unknown, self.applied) {
            (true, rows) => {
                format!("it is not known whether the rows of this batch were written, {rows} others of the statement were applied: {again}")
            }
            (false, 0) => "nothing of the statement was applied".to_owned(),
            (false, rows) => format!("{rows} rows of the statement were applied before: {again}"),
        };
        ServerError::new(error.code, format!("{}; {what}", error.message))
    }

    /// Writes what is kept, however often regions refuse it, as long as patience lasts.
    ///
    /// # Errors
    /// A failed write; the message says what was applied.
    pub(crate) async fn flush(&mut self) -> Result<(), ServerError> {
        self.pending_bytes = 0;
        let (began, mut patience, mut held) = (Moment::now(), Patience::default(), None);
        loop {
            let before = self.applied;
            let Some((refusal, error)) = self.send().await.map_err(|error| self.explain(error))? else { return Ok(()) };
            if self.applied > before {
                patience.progress();
            }
            if held.is_none() {
                held = Some(self.hold(&error)?);
            }
            match patience.refused(Moment::now().since(began), refusal.wait_max()) {
                Next::GiveUp(waited) => return Err(self.explain(given_up(&self.table, waited, &error))),
                Next::Wait(pause) => {
                    tracing::debug!(table = %self.table.shown(), round = patience.rounds(), error = %error, "routing rows anew");
                    if self.route_anew(pause).await.map_err(|error| self.explain(error))? {
                        patience.progress();
                    }
                }
            }
        }
    }

    /// Counts the rows that wait.
    fn hold(&self, error: &ServerError) -> Result<crate::router::waiting::Held, ServerError> {
        let bytes = self.lanes.refused().map(RecordBatch::get_array_memory_size).sum();
        self.catalogs.waiting.hold(bytes).map_err(|full| {
            let text = format!(
                "{}: other statements wait with {} MiB of rows for their regions, the most allowed is {} MiB: try again later",
                error.message,
                full.bytes >> 20,
                full.max >> 20
            );
            self.explain(ServerError::new(Code::RegionBusy, text))
        })
    }

    /// Writes what is kept. Gives how a region refused, if one did and none failed for good; what was refused is kept.
    async fn send(&mut self) -> Result<Option<(Refusal, ServerError)>, ServerError> {
        let mut tasks = Vec::new();
        for (region, batches) in self.lanes.take() {
            let route = self.table.write_routes().iter().find(|route| route.region == region).cloned();
            let route = route.ok_or_else(|| ServerError::new(Code::Internal, format!("region {region} has no route")))?;
            let work = write_region(route, Arc::clone(&self.schema), self.catalogs.clone(), self.op, batches);
            tasks.push((region, env::spawn(work)));
        }
        let (mut failed, mut refused) = (None, None);
        for (region, task) in tasks {
            let (rows, result) = task.await.unwrap_or_else(|error| {
                let error = ServerError::new(Code::Internal, format!("a write task failed: {error}"));
                (0, Err(Failure { error, unknown: true, refused: None }))
            });
            self.applied += rows;
            let Err(failure) = result else { continue };
            self.unknown |= failure.unknown;
            match failure.refused {
                Some((refusal, left)) => {
                    self.lanes.refuse(region, left);
                    refused = Refusal::longer(refused, (refusal, failure.error));
                }
                None => failed = failed.or(Some(failure.error)),
            }
        }
        failed.map_or(Ok(refused), Err)
    }

    /// Reads the table and its routes again, waiting for others if need be, and cuts what was refused by them. Answers
    /// whether they are others.
    async fn route_anew(&mut self, pause: std::time::Duration) -> Result<bool, ServerError> {
        let mut table = self.catalogs.present(&self.table).await?;
        if table.sets.write.stamp == self.table.sets.write.stamp {
            self.catalogs.routes_changed(&table, pause).await?;
            table = self.catalogs.present(&table).await?;
        }
        let moved = table.sets.write.stamp != self.table.sets.write.stamp;
        // A rule may be about a column that was added since. Nothing is left in the lanes but what was refused.
        let (op, from, schema) = (self.op, &self.schema, Arc::new(table.info.schema.clone()));
        let positions = positions(&schema, op);
        self.lanes.reroute(|batch| {
            let parts = rows::split(later(batch.clone(), from, &schema, op)?, &table, &positions, &nowhere)?;
            Ok::<_, ServerError>(parts.into_iter().map(|part| (table.write_routes()[part.route].region, part.batch)).collect())
        })?;
        (self.table, self.schema) = (Arc::new(table), schema);
        Ok(moved)
    }
}

/// The columns that a write of this kind has, as positions in display order.
fn positions(schema: &Schema, op: OpType) -> Vec<usize> {
    match op {
        OpType::Put => (0..schema.columns().len()).collect(),
        OpType::Delete => rows::key_positions(schema),
    }
}

/// Rows of one version of the schema as rows of the same or a later one.
fn later(batch: RecordBatch, from: &Schema, to: &Schema, op: OpType) -> Result<RecordBatch, ServerError> {
    if from.version() == to.version() {
        return Ok(batch);
    }
    conform_batch(&batch, from, to, op).map_err(|error| ServerError::new(Code::Internal, chain(&error)))
}

fn given_up(table: &Table, waited: std::time::Duration, error: &ServerError) -> ServerError {
    let text = format!("{}; table {} took no rows for {:.1} s: try again", error.message, table.shown(), waited.as_secs_f64());
    ServerError::new(error.code, text)
}

/// Writes rows of one region in order; gives the rows applied and what stopped it.
async fn write_region(
    route: Route,
    schema: Arc<Schema>,
    catalogs: Catalogs,
    op: OpType,
    batches: Vec<RecordBatch>,
) -> (u64, Result<(), Failure>) {
    let mut applied = 0;
    let result = write_batches(&route, &schema, &catalogs, op, batches, &mut applied).await;
    (applied, result)
}

async fn write_batches(
    route: &Route,
    schema: &Arc<Schema>,
    catalogs: &Catalogs,
    op: OpType,
    batches: Vec<RecordBatch>,
    applied: &mut u64,
) -> Result<(), Failure> {
    let rule_version = route.rule.version();
    let bytes_max = limits::WRITE_BYTES_MAX.min(catalogs.batch_bytes_max);
    let mut left = coalesce(batches, bytes_max).map_err(Failure::plain)?.into_iter();
    while let Some(batch) = left.next() {
        let request = WriteRequest { generation: route.generation, rule_version, batch: batch.clone(), op };
        let written = match catalogs.engine.region(route.region) {
            Ok(region) => region.write_under(Some(Arc::clone(schema)), request).await,
            Err(error) => Err(error),
        };
        match written {
            Ok(outcome) => *applied += outcome.rows as u64,
            Err(error) => {
                let refusal = Refusal::of(&error).filter(|_| !may_be_written(&error));
                let refused = refusal.map(|refusal| (refusal, std::iter::once(batch).chain(left).collect()));
                return Err(Failure { error: from_engine(&error), unknown: may_be_written(&error), refused });
            }
        }
    }
    Ok(())
}

/// Whether rows that were not acknowledged may be found after a restart.
fn may_be_written(error: &EngineError) -> bool {
    match error {
        EngineError::Wal { source, .. } => matches!(source.as_ref(), WalError::Poisoned { .. } | WalError::Closed),
        // The entry is in the log and its rows did not reach the memtable, or nobody saw whether they did.
        EngineError::Rows { .. } | EngineError::Stopped { .. } => true,
        _ => false,
    }
}

/// Joins small batches, so that a write to a region is worth its cost, and cuts large ones, so that the log takes them.
fn coalesce(batches: Vec<RecordBatch>, bytes_max: usize) -> Result<Vec<RecordBatch>, ServerError> {
    let mut fitting = Vec::with_capacity(batches.len());
    for batch in batches {
        cut(batch, bytes_max, &mut fitting)?;
    }
    let mut joined = Vec::new();
    let mut group: Vec<RecordBatch> = Vec::new();
    let (mut rows, mut bytes) = (0, 0);
    for batch in fitting {
        let (more_rows, more_bytes) = (batch.num_rows(), bytes_of(&batch));
        if !group.is_empty() && (rows + more_rows > limits::WRITE_ROWS_MAX || bytes + more_bytes > bytes_max) {
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

/// Halves a batch until every part has at most `bytes_max` bytes or one row. Parts own their rows, so that one that
/// stays in a memtable does not keep the others.
fn cut(batch: RecordBatch, bytes_max: usize, parts: &mut Vec<RecordBatch>) -> Result<(), ServerError> {
    let rows = batch.num_rows();
    let mut open = vec![(0, rows)];
    while let Some((from, len)) = open.pop() {
        if len > 1 && bytes_of(&batch.slice(from, len)) > bytes_max {
            let half = len / 2;
            open.push((from + half, len - half));
            open.push((from, half));
        } else if len == rows {
            parts.push(batch.clone());
        } else {
            let wanted = UInt64Array::from_iter_values(from as u64..(from + len) as u64);
            parts.push(take_record_batch(&batch, &wanted).map_err(from_arrow)?);
        }
    }
    Ok(())
}

/// Bytes of the values of a batch, without what its buffers hold beside them.
fn bytes_of(batch: &RecordBatch) -> usize {
    let sizes = batch.columns().iter().map(|array| array.to_data().get_slice_memory_size());
    // An array whose size is not known counts with its buffers.
    sizes.zip(batch.columns()).map(|(size, array)| size.unwrap_or_else(|_| array.get_array_memory_size())).sum()
}

fn join(mut group: Vec<RecordBatch>) -> Result<RecordBatch, ServerError> {
    match group.len() {
        1 => Ok(group.remove(0)),
        _ => concat_batches(&group[0].schema(), &group).map_err(from_arrow),
    }
}

#[cfg(test)]
#[path = "write_tests.rs"]
mod tests;
