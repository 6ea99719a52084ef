//! What the machine can do: Parquet and the disk, without an engine.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::TimestampMillisecondType;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection};
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::PageIndexPolicy;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use tessera_engine::config::Config;
use tessera_manifest::env::Stopwatch;

use crate::Result;
use crate::cpu::TIME;

/// Rows of a decoded batch, as the engine has it.
const BATCH_ROWS: usize = 8192;
/// Rows of a data page, as the engine has it.
const PAGE_ROWS_MAX: usize = 8192;

/// The Parquet settings of the engine: compression and sizes from its configuration, and the encoding of each
/// column as one of its files has it.
///
/// # Errors
/// When the file cannot be read.
pub fn settings_of(sst: &Path, config: &Config) -> Result<WriterProperties> {
    let metadata = ArrowReaderMetadata::load(&File::open(sst)?, ArrowReaderOptions::new())?;
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(config.zstd_level)?))
        .set_max_row_group_row_count(Some(config.row_group_rows))
        .set_data_page_row_count_limit(PAGE_ROWS_MAX)
        .set_statistics_enabled(EnabledStatistics::Page);
    let group = metadata.metadata().row_groups().first().ok_or("an sst without rows")?;
    for column in group.columns() {
        let path = column.column_path().clone();
        let dictionary = column.dictionary_page_offset().is_some();
        builder = builder.set_column_dictionary_enabled(path.clone(), dictionary);
        let delta = [Encoding::DELTA_BINARY_PACKED, Encoding::BYTE_STREAM_SPLIT];
        if let Some(encoding) = column.encodings().find(|encoding| !dictionary && delta.contains(encoding)) {
            builder = builder.set_column_encoding(path, encoding);
        }
    }
    Ok(builder.build())
}

/// One thread writes the batches as one Parquet file and syncs it; returns the time and the file's bytes.
///
/// # Errors
/// Parquet's and the disk's.
pub fn parquet_write(dir: &Path, batches: &[RecordBatch], settings: &WriterProperties) -> Result<(Duration, u64)> {
    let path = dir.join("bare.parquet");
    let schema = batches.first().ok_or("no rows")?.schema();
    let watch = Stopwatch::start();
    let file = BufWriter::with_capacity(1 << 20, File::create(&path)?);
    let mut writer = ArrowWriter::try_new(file, schema, Some(settings.clone()))?;
    for batch in batches {
        writer.write(batch)?;
    }
    let file = writer.into_inner()?.into_inner().map_err(std::io::IntoInnerError::into_error)?;
    file.sync_all()?;
    let elapsed = watch.elapsed();
    let bytes = file.metadata()?.len();
    std::fs::remove_file(path)?;
    Ok((elapsed, bytes))
}

/// Appends the payloads one by one into preallocated space, with an fdatasync after each.
///
/// # Errors
/// The disk's.
pub fn synced_append(dir: &Path, payloads: &[Vec<u8>]) -> Result<Duration> {
    let path = dir.join("bare.log");
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).open(&path)?;
    let zeros = vec![0; 1 << 20];
    let total: usize = payloads.iter().map(Vec::len).sum();
    for _ in 0..total.div_ceil(zeros.len()) {
        file.write_all(&zeros)?;
    }
    file.sync_all()?;
    let watch = Stopwatch::start();
    let mut at = 0;
    for payload in payloads {
        file.write_all_at(payload, at)?;
        file.sync_data()?;
        at += payload.len() as u64;
    }
    let elapsed = watch.elapsed();
    std::fs::remove_file(path)?;
    Ok(elapsed)
}

/// Reads pieces of these sizes from a file, one after the other, on one thread, and hands each on.
///
/// # Errors
/// The disk's, and those of `each`.
pub fn read_pieces(path: &Path, sizes: &[usize], mut each: impl FnMut(Vec<u8>) -> Result<()>) -> Result<()> {
    let file = File::open(path)?;
    for size in sizes {
        let mut piece = Vec::with_capacity(*size);
        (&file).take(*size as u64).read_to_end(&mut piece)?;
        each(piece)?;
    }
    Ok(())
}

/// Creates so many small files, each in a folder of its own that exists, with fsync of the file and of the folder, on so
/// many threads; returns the time of that alone.
///
/// # Errors
/// The disk's.
pub fn synced_files(dir: &Path, files: u32, threads: usize) -> Result<Duration> {
    let parent = dir.join("bare");
    let folders: Vec<PathBuf> = (0..files).map(|number| parent.join(number.to_string())).collect();
    folders.iter().try_for_each(std::fs::create_dir_all)?;
    let create = |folder: &PathBuf| -> std::io::Result<()> {
        let file = File::create(folder.join("record"))?;
        file.write_all_at(&[b'x'; 512], 0)?;
        file.sync_all()?;
        File::open(folder)?.sync_all()
    };
    let watch = Stopwatch::start();
    let share = folders.len().div_ceil(threads.max(1)).max(1);
    let done = std::thread::scope(|scope| {
        let threads: Vec<_> = folders.chunks(share).map(|share| scope.spawn(move || share.iter().try_for_each(create))).collect();
        threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect::<Vec<_>>()
    });
    let elapsed = watch.elapsed();
    for thread in done {
        thread.map_err(|_| "a thread panicked")??;
    }
    std::fs::remove_dir_all(parent)?;
    Ok(elapsed)
}

/// Copies every buffer once.
#[must_use]
pub fn copy(batches: &[RecordBatch]) -> Duration {
    let watch = Stopwatch::start();
    for batch in batches {
        for column in batch.columns() {
            for buffer in column.to_data().buffers() {
                std::hint::black_box(buffer.to_vec());
            }
        }
    }
    watch.elapsed()
}

/// A file for the plain Parquet reader, with its footer and page index in memory.
pub struct Bare {
    file: PathBuf,
    metadata: ArrowReaderMetadata,
}

impl Bare {
    /// Reads footer and page index.
    ///
    /// # Errors
    /// Parquet's and the disk's.
    pub fn open(file: &Path) -> Result<Self> {
        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Required);
        Ok(Self { file: file.to_owned(), metadata: ArrowReaderMetadata::load(&File::open(file)?, options)? })
    }

    /// Bytes of the file.
    ///
    /// # Errors
    /// The disk's.
    pub fn bytes(&self) -> Result<u64> {
        Ok(std::fs::metadata(&self.file)?.len())
    }

    /// Decodes columns (`None` for the user's, all of them) and counts rows.
    ///
    /// # Errors
    /// Parquet's and the disk's.
    pub fn count(&self, columns: Option<&[usize]>) -> Result<usize> {
        let mut rows = 0;
        for batch in self.reader(columns)?.build()? {
            rows += batch?.num_rows();
        }
        Ok(rows)
    }

    /// Decodes the selected rows.
    ///
    /// # Errors
    /// Parquet's and the disk's.
    pub fn select(&self, columns: &[usize], rows: RowSelection) -> Result<Vec<RecordBatch>> {
        let reader = self.reader(Some(columns))?.with_row_selection(rows).build()?;
        Ok(reader.collect::<std::result::Result<_, _>>()?)
    }

    /// For each row, the host's name and the time.
    ///
    /// # Errors
    /// Parquet's and the disk's.
    pub fn keys(&self) -> Result<Vec<(String, i64)>> {
        let mut keys = Vec::new();
        for batch in self.reader(Some(&[0, TIME]))?.build()? {
            let batch = batch?;
            let hosts = batch.column(0).as_string::<i32>().iter().map(|host| host.unwrap_or_default().to_owned());
            keys.extend(hosts.zip(batch.column(1).as_primitive::<TimestampMillisecondType>().values().iter().copied()));
        }
        Ok(keys)
    }

    fn reader(&self, columns: Option<&[usize]>) -> Result<ParquetRecordBatchReaderBuilder<File>> {
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(File::open(&self.file)?, self.metadata.clone());
        let user = self.metadata.parquet_schema().num_columns().saturating_sub(2);
        let columns = columns.map_or_else(|| (0..user).collect(), <[usize]>::to_vec);
        let mask = ProjectionMask::leaves(self.metadata.parquet_schema(), columns);
        Ok(builder.with_projection(mask).with_batch_size(BATCH_ROWS))
    }
}
