//! Reads the entries of one region back, a bounded batch at a time, off the async threads.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream;
use tessera_manifest::env;
use tessera_manifest::id::RegionId;
use tessera_manifest::wal::WalPosition;

use super::EntryStream;
use super::catalog::Located;
use super::error::WalError;
use super::recover::segment_file;
use crate::limits::wal as limits;

/// Batches that are read at the same time: where the page cache has the log, reading is a copy that keeps a core busy.
const BATCHES_AT_ONCE: usize = 2;

struct Reader {
    dir: PathBuf,
    region: RegionId,
    file: Option<(u64, File)>,
}

type Batch = Vec<Result<(WalPosition, Bytes), WalError>>;

/// The payloads of `entries`, which are of `region`; ends after the first error. While a batch is used those after it are
/// read.
pub(super) fn stream(dir: PathBuf, region: RegionId, entries: Vec<Located>) -> EntryStream {
    let read = move |entries: Vec<Located>| {
        let reader = Reader { dir: dir.clone(), region, file: None };
        env::spawn_blocking(move || reader.batch(&entries))
    };
    let batches = stream::iter(batches(entries)).map(read).buffered(BATCHES_AT_ONCE);
    let payloads = batches.flat_map(|batch| stream::iter(batch.unwrap_or_else(|_| vec![Err(WalError::Closed)])));
    let until_error = payloads.scan(false, |failed, payload| {
        let go_on = !std::mem::replace(failed, payload.is_err());
        std::future::ready(go_on.then_some(payload))
    });
    until_error.boxed()
}

/// Entries that are read together.
fn batches(entries: Vec<Located>) -> impl Iterator<Item = Vec<Located>> + Send {
    let mut entries = entries.into_iter().peekable();
    std::iter::from_fn(move || {
        let (mut batch, mut bytes) = (vec![entries.next()?], 0);
        while let Some(next) = entries.peek() {
            bytes += batch.last().map_or(0, |entry: &Located| entry.len as usize);
            if bytes >= limits::REPLAY_BATCH_BYTES || batch.len() >= limits::REPLAY_BATCH_ENTRIES {
                break;
            }
            batch.push(*next);
            entries.next();
        }
        Some(batch)
    })
}

impl Reader {
    fn batch(mut self, entries: &[Located]) -> Batch {
        let mut batch = Batch::with_capacity(entries.len());
        for entry in entries {
            batch.push(self.read(entry).map(|payload| (entry.position, payload)));
            if batch.last().is_some_and(Result::is_err) {
                break;
            }
        }
        batch
    }

    fn read(&mut self, entry: &Located) -> Result<Bytes, WalError> {
        let path = self.dir.join(segment_file(entry.segment));
        let damaged = |what: String| WalError::Damaged { region: self.region, file: path.clone(), offset: u64::from(entry.offset), what };
        if self.file.as_ref().is_none_or(|(number, _)| *number != entry.segment) {
            self.file = Some((entry.segment, open(&path)?));
        }
        let (_, file) = self.file.as_ref().expect("opened above");
        // The length comes from a checksummed directory, but the file may have been cut short since.
        let left = file.metadata().map_err(|e| damaged(e.to_string()))?.len().saturating_sub(u64::from(entry.offset));
        if left < u64::from(entry.len) {
            return Err(damaged("the file ends inside an entry".to_owned()));
        }
        // Not by `read_exact_at`, which would have to be given zeros.
        let (mut file, mut payload) = (file, Vec::with_capacity(entry.len as usize));
        let read =
            file.seek(SeekFrom::Start(u64::from(entry.offset))).and_then(|_| file.take(u64::from(entry.len)).read_to_end(&mut payload));
        let read = read.map_err(|e| damaged(e.to_string()))?;
        if read != entry.len as usize {
            return Err(damaged("the file ends inside an entry".to_owned()));
        }
        let actual = crc32fast::hash(&payload);
        if actual != entry.crc {
            return Err(damaged(format!("entry {} has checksum {actual:08x}, expected {:08x}", entry.position, entry.crc)));
        }
        Ok(Bytes::from(payload))
    }
}

fn open(path: &Path) -> Result<File, WalError> {
    File::open(path).map_err(|e| WalError::io("open", path, e))
}
