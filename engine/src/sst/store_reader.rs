//! Ranged reads of one object for the Parquet decoder, and the check of its checksum.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore};
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use tessera_manifest::file::FileMeta;
use tessera_manifest::id::FileKey;

use super::Error;
use super::decode::Fetched;
use crate::cache::Caches;

/// Wanted pages of a column from which on it may be read as a whole.
const PAGES_MIN: usize = 4;
/// Bytes read at a time while a file is verified.
const VERIFY_BYTES: u64 = 8 << 20;

/// Reads ranges of one object whose metadata is known; nearby ranges become one request, and what is in memory none.
pub(super) struct StoreReader {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) path: Path,
    pub(super) key: FileKey,
    pub(super) caches: Caches,
    pub(super) metadata: Arc<ParquetMetaData>,
    /// The columns of which pages are read, ascending; none where only whole columns are.
    pub(super) chunks: Vec<Range<u64>>,
    /// What is here already.
    pub(super) fetched: Option<Arc<Fetched>>,
}

fn external(source: object_store::Error) -> ParquetError {
    ParquetError::External(Box::new(source))
}

impl StoreReader {
    /// The same, with what was fetched for it.
    pub(super) fn with_fetched(self, fetched: Arc<Fetched>) -> Self {
        Self { fetched: Some(fetched), ..self }
    }

    /// The ranges, pages of columns, as what is read for them: of a column of which many pages and at least half is wanted, all,
    /// so that reads of other parts share it, and it is looked up once.
    fn widened(&self, ranges: &[Range<u64>]) -> Vec<Range<u64>> {
        let mut wide = ranges.to_vec();
        let mut at = 0;
        for chunk in &self.chunks {
            at += ranges[at..].iter().take_while(|range| range.start < chunk.start).count();
            let pages = ranges[at..].iter().take_while(|range| range.end <= chunk.end).count();
            let wanted: u64 = ranges[at..at + pages].iter().map(|range| range.end - range.start).sum();
            let bytes = chunk.end - chunk.start;
            let is_most = wanted * 2 >= bytes && bytes <= self.caches.range_bytes_max;
            if pages >= PAGES_MIN && (is_most || self.caches.ranges.has(&self.cache_key(chunk))) {
                wide[at..at + pages].fill(chunk.clone());
            }
            at += pages;
        }
        wide
    }

    fn cache_key(&self, range: &Range<u64>) -> (FileKey, u64, u64) {
        (self.key, range.start, range.end)
    }

    /// The bytes of ranges, which ascend.
    pub(super) async fn read(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, ParquetError> {
        if let Some(fetched) = &self.fetched
            && let Some(found) = ranges.iter().map(|range| fetched.get(range)).collect()
        {
            return Ok(found);
        }
        let wide = self.widened(ranges);
        let mut reads = wide.clone();
        reads.dedup();
        let read = self.read_each(&reads).await?;
        let mut out = Vec::with_capacity(ranges.len());
        let mut sources = reads.iter().zip(read).peekable();
        for (range, wide) in ranges.iter().zip(&wide) {
            while sources.next_if(|(read, _)| *read != wide).is_some() {}
            let Some((_, bytes)) = sources.peek() else { return Err(ParquetError::EOF("the store gave no bytes".to_owned())) };
            let at = |position: u64| usize::try_from(position - wide.start).unwrap_or(usize::MAX);
            if at(range.end) > bytes.len() {
                return Err(ParquetError::EOF("the store gave fewer bytes than it was asked for".to_owned()));
            }
            out.push(bytes.slice(at(range.start)..at(range.end)));
        }
        Ok(out)
    }

    async fn read_each(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, ParquetError> {
        let mut found: Vec<Option<Bytes>> = ranges.iter().map(|range| self.caches.ranges.get(&self.cache_key(range))).collect();
        let missing: Vec<usize> = (0..ranges.len()).filter(|at| found[*at].is_none()).collect();
        if !missing.is_empty() {
            let wanted: Vec<Range<u64>> = missing.iter().map(|at| ranges[*at].clone()).collect();
            let read = self.store.get_ranges(&self.path, &wanted).await.map_err(external)?;
            if read.len() != wanted.len() {
                return Err(ParquetError::EOF("the store gave fewer ranges than it was asked for".to_owned()));
            }
            for (at, bytes) in missing.into_iter().zip(read) {
                if bytes.len() as u64 <= self.caches.range_bytes_max {
                    // A slice of a larger read would keep all of that.
                    self.caches.ranges.insert(self.cache_key(&ranges[at]), Bytes::copy_from_slice(&bytes));
                }
                found[at] = Some(bytes);
            }
        }
        Ok(found.into_iter().flatten().collect())
    }
}

impl AsyncFileReader for StoreReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        async move {
            let mut parts = self.read(&[range]).await?;
            parts.pop().ok_or_else(|| ParquetError::EOF("the store gave no bytes".to_owned()))
        }
        .boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>, ParquetError>> {
        async move { self.read(&ranges).await }.boxed()
    }

    fn get_metadata<'a>(&'a mut self, _: Option<&'a ArrowReaderOptions>) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        let metadata = Arc::clone(&self.metadata);
        async move { Ok(metadata) }.boxed()
    }
}

/// Reads a range of an object and checks the object's size by the way.
pub(super) async fn read_range(store: &dyn ObjectStore, path: &Path, bytes: u64, range: Range<u64>) -> Result<Bytes, Error> {
    let wanted = range.end - range.start;
    let options = GetOptions { range: Some(GetRange::Bounded(range)), ..GetOptions::default() };
    let answer = store.get_opts(path, options).await;
    let answer = match answer {
        Ok(answer) => answer,
        Err(source @ object_store::Error::NotFound { .. }) => return Err(Error::store(path, source)),
        Err(source) => return Err(size_or(store, path, bytes, source).await),
    };
    let actual = answer.meta.size;
    if actual != bytes {
        return Err(Error::WrongSize { path: path.clone(), expected: bytes, actual });
    }
    let read = answer.bytes().await.map_err(|source| Error::store(path, source))?;
    if read.len() as u64 != wanted {
        return Err(Error::Mismatch { path: path.clone(), detail: format!("{} bytes of a range instead of {wanted}", read.len()) });
    }
    Ok(read)
}

/// A range beyond the end of a cut file is refused by the store; say so rather than what the store says.
async fn size_or(store: &dyn ObjectStore, path: &Path, bytes: u64, source: object_store::Error) -> Error {
    let head = GetOptions { head: true, ..GetOptions::default() };
    match store.get_opts(path, head).await {
        Ok(answer) if answer.meta.size != bytes => Error::WrongSize { path: path.clone(), expected: bytes, actual: answer.meta.size },
        _ => Error::store(path, source),
    }
}

/// Reads the whole object once and compares size and CRC-32.
pub(super) async fn verify(store: &dyn ObjectStore, path: &Path, meta: &FileMeta) -> Result<(), Error> {
    let mut hasher = crc32fast::Hasher::new();
    let mut at = 0;
    while at < meta.bytes {
        let end = meta.bytes.min(at + VERIFY_BYTES);
        hasher.update(&read_range(store, path, meta.bytes, at..end).await?);
        at = end;
    }
    let actual = hasher.finalize();
    if actual == meta.crc32 { Ok(()) } else { Err(Error::Checksum { path: path.clone(), expected: meta.crc32, actual }) }
}
