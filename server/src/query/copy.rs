//! COPY between files and tables.
//!
//! Invariants:
//! - A file is read on a thread of its own, never more than [`limits::COPY_AHEAD_BYTES`] and a batch ahead, so that it is read while
//!   rows are written.
//! - A bad file of less than [`limits::CHECKED_BYTES_MAX`] bytes of rows applies nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::physical_plan::SendableRecordBatchStream;
use futures::TryStreamExt;
use tessera_manifest::env::{self, Env};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::error::unwrap;
use super::limits;
use super::write::Writer;
use crate::catalog::{Catalogs, Table};
use crate::copy::{self, Batch, ReadOptions, Reader, WriteOptions};
use crate::error::{Code, ServerError};

fn pairs(options: &[(String, String)]) -> impl Iterator<Item = (&str, &str)> {
    options.iter().map(|(key, value)| (key.as_str(), value.as_str()))
}

/// `COPY t FROM 'file'`: gives the number of rows written.
///
/// # Errors
/// A bad option, file or row; the message says what was applied.
pub async fn copy_from(table: Arc<Table>, catalogs: Catalogs, path: &str, options: &[(String, String)]) -> Result<u64, ServerError> {
    let options = ReadOptions::from_pairs(pairs(options))?;
    let (sender, mut receiver) = mpsc::channel(limits::COPY_AHEAD_BATCHES);
    let (schema, file, now_ms) = (Arc::clone(&table), PathBuf::from(path), catalogs.env.unix_ms());
    let reader = env::spawn_working(async move { read(&file, &schema, &options, now_ms, &sender).await });
    let mut writer = Writer::put(Arc::clone(&table), catalogs);
    let mut progress = Progress { table: table.shown(), path: path.to_owned(), rows: 0, logged: 0 };
    while let Some((batch, _room)) = receiver.recv().await {
        let batch = batch.map_err(|error| writer.explain(error))?;
        let place = |row: usize| Some(format!("'{path}', {}", batch.place(row)));
        writer.push(&batch.rows, &place).await?;
        progress.add(batch.rows.num_rows(), writer.applied());
    }
    reader.await.map_err(|error| writer.explain(ServerError::new(Code::Internal, format!("the reader of '{path}' failed: {error}"))))?;
    writer.finish().await
}

/// What was read, with the room that it takes until it is with the writer.
type Ahead = (Result<Batch, ServerError>, Option<OwnedSemaphorePermit>);

/// Reads until the end, the first error, or until nobody listens any more.
async fn read(path: &Path, table: &Table, options: &ReadOptions, now_ms: u64, sender: &mpsc::Sender<Ahead>) {
    let reader = match Reader::open(path, &table.info.schema, options, now_ms) {
        Ok(reader) => reader,
        Err(error) => {
            let _nobody_listens = sender.send((Err(error), None)).await;
            return;
        }
    };
    let room = Arc::new(Semaphore::new(limits::COPY_AHEAD_BYTES as usize));
    for batch in reader {
        let bytes = batch.as_ref().map_or(0, |batch| batch.rows.get_array_memory_size());
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(limits::COPY_AHEAD_BYTES);
        let taken = Arc::clone(&room).acquire_many_owned(bytes).await;
        if sender.send((batch, taken.ok())).await.is_err() {
            return;
        }
    }
}

struct Progress {
    table: String,
    path: String,
    rows: u64,
    logged: u64,
}

impl Progress {
    fn add(&mut self, rows: usize, applied: u64) {
        self.rows += rows as u64;
        if self.rows - self.logged >= limits::COPY_PROGRESS_ROWS {
            self.logged = self.rows;
            tracing::info!(table = %self.table, file = %self.path, read = self.rows, applied, "copying");
        }
    }
}

/// `COPY ... TO 'file'`: gives the number of rows written to the file.
///
/// # Errors
/// A bad option, a failed query, or a file that cannot be written.
pub async fn copy_to(rows: SendableRecordBatchStream, env: &Env, path: &str, options: &[(String, String)]) -> Result<u64, ServerError> {
    let options = WriteOptions::from_pairs(pairs(options))?;
    let schema = rows.schema();
    copy::write_stream(Path::new(path), schema, Box::pin(rows.map_err(unwrap)), &options, env).await
}
