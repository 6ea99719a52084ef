//! Rows into a file.
//!
//! Crash order: rows go into a hidden temporary file beside the target; it is fsynced, given the target's name, and the
//! folder is fsynced. Whatever fails before removes the temporary file; only a crash leaves it (`.name.….tmp`).

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::StreamExt;
use futures::stream::BoxStream;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression as ParquetCompression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use tessera_manifest::env::{self, Env};

use super::{FileFormat, WriteOptions};
use crate::config::limits;
use crate::error::{Code, ServerError};
use crate::output::csv;

/// Writes one file; blocking, so run it off the async threads. Dropped before [`Writer::finish`], it leaves no file.
pub struct Writer {
    path: PathBuf,
    temporary: Temporary,
    overwrite: bool,
    body: Body,
    rows: u64,
}

enum Body {
    Csv(csv::Writer<BufWriter<File>>),
    CsvGz(csv::Writer<GzEncoder<BufWriter<File>>>),
    Parquet(Box<ArrowWriter<BufWriter<File>>>),
}

/// A file that is removed when it is dropped under this name.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // It is gone already when the file was given its name by a rename.
        let _ = fs::remove_file(&self.0);
    }
}

impl Writer {
    /// Starts a file of rows of `schema`.
    ///
    /// # Errors
    /// When the target exists and may not be overwritten, its format is not known, or its folder cannot be written.
    pub fn create(path: &Path, schema: SchemaRef, options: &WriteOptions, env: &Env) -> Result<Self, ServerError> {
        let format = options.format.map_or_else(|| FileFormat::of_path(path), Ok)?;
        if !options.overwrite && path.exists() {
            return Err(exists(path));
        }
        let name = path.file_name().ok_or_else(|| invalid(format!("'{}' is not the name of a file", path.display())))?;
        let temporary = path.with_file_name(format!(".{}.{}.tmp", name.to_string_lossy(), env.ulid()));
        let failed = |error: &dyn std::fmt::Display| invalid(format!("cannot write '{}' on the server: {error}", path.display()));
        let file = OpenOptions::new().write(true).create_new(true).open(&temporary).map_err(|error| failed(&error))?;
        let temporary = Temporary(temporary);
        let out = BufWriter::with_capacity(limits::CSV_BUFFER_BYTES, file);
        let mut body = match format {
            FileFormat::Csv { gzip: false } => Body::Csv(csv::Writer::new(out, options.delimiter)),
            FileFormat::Csv { gzip: true } => Body::CsvGz(csv::Writer::new(GzEncoder::new(out, Compression::default()), options.delimiter)),
            FileFormat::Parquet => {
                let compression = ParquetCompression::ZSTD(ZstdLevel::default());
                let properties = WriterProperties::builder().set_compression(compression).build();
                let writer = ArrowWriter::try_new(out, SchemaRef::clone(&schema), Some(properties)).map_err(|error| failed(&error))?;
                Body::Parquet(Box::new(writer))
            }
        };
        let header = match &mut body {
            Body::Csv(writer) if options.header => writer.header(&schema),
            Body::CsvGz(writer) if options.header => writer.header(&schema),
            _ => Ok(()),
        };
        header.map_err(|error| failed(&error))?;
        Ok(Self { path: path.to_owned(), temporary, overwrite: options.overwrite, body, rows: 0 })
    }

    /// Adds the rows of a batch.
    ///
    /// # Errors
    /// When the disk is full or fails, or a column's type has no text form.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), ServerError> {
        let written = match &mut self.body {
            Body::Csv(writer) => writer.rows(batch).map_err(|error| error.to_string()),
            Body::CsvGz(writer) => writer.rows(batch).map_err(|error| error.to_string()),
            Body::Parquet(writer) => writer.write(batch).map_err(|error| error.to_string()),
        };
        self.rows += batch.num_rows() as u64;
        written.map_err(|error| unavailable(&self.path, &error))
    }

    /// Makes the file durable under its name; the number of its rows.
    ///
    /// # Errors
    /// When the disk fails, or the target was created by somebody else in the meantime.
    pub fn finish(self) -> Result<u64, ServerError> {
        let Self { path, temporary, overwrite, body, rows } = self;
        close(body).map_err(|error| unavailable(&path, &error))?;
        let renamed = if overwrite { fs::rename(&temporary.0, &path) } else { rename_new(&temporary.0, &path) };
        match renamed {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(exists(&path)),
            other => other.map_err(|error| unavailable(&path, &error.to_string()))?,
        }
        sync_folder(&path).map_err(|error| unavailable(&path, &error.to_string()))?;
        Ok(rows)
    }
}

/// Writes all rows of `stream` to `path`; the number of rows. Cancelling it leaves no file under that name.
///
/// # Errors
/// As [`Writer::create`], [`Writer::write`] and [`Writer::finish`], and whatever `stream` fails with.
pub async fn write_stream(
    path: &Path,
    schema: SchemaRef,
    mut stream: BoxStream<'static, Result<RecordBatch, ServerError>>,
    options: &WriteOptions,
    env: &Env,
) -> Result<u64, ServerError> {
    let (path, options, env) = (path.to_owned(), options.clone(), env.clone());
    let mut writer = blocking(move || Writer::create(&path, schema, &options, &env)).await?;
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        writer = blocking(move || writer.write(&batch).map(|()| writer)).await?;
    }
    blocking(move || writer.finish()).await
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, ServerError> + Send + 'static) -> Result<T, ServerError> {
    env::spawn_blocking(work).await.map_err(|error| ServerError::new(Code::Internal, format!("writing a file failed: {error}")))?
}

fn close(body: Body) -> Result<(), String> {
    let out = match body {
        Body::Csv(writer) => writer.finish().map_err(|error| error.to_string())?,
        Body::CsvGz(writer) => writer.finish().map_err(|error| error.to_string())?.finish().map_err(|error| error.to_string())?,
        Body::Parquet(writer) => writer.into_inner().map_err(|error| error.to_string())?,
    };
    let mut file = out.into_inner().map_err(|error| error.to_string())?;
    file.flush().and_then(|()| file.sync_all()).map_err(|error| error.to_string())
}

/// Gives a file a name that nobody has: a hard link fails if it is taken, a rename would replace it.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists && !to.exists() => fs::rename(from, to),
        other => other,
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

fn exists(path: &Path) -> ServerError {
    invalid(format!("'{}' exists; choose another name, or add WITH (overwrite = true)", path.display()))
}

fn unavailable(path: &Path, error: &str) -> ServerError {
    ServerError::new(Code::StorageUnavailable, format!("cannot write '{}': {error}", path.display()))
}

fn invalid(message: String) -> ServerError {
    ServerError::new(Code::InvalidArguments, message)
}
