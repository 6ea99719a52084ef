//! Reads the entries of one region back, a bounded batch at a time, off the async threads.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream;
use tessera_manifest::env;
use tessera_manifest::id::RegionId;
use tessera_manifest::wal::WalPosition;
use tokio::task::JoinHandle;

use super::EntryStream;
use super::catalog::Located;
use super::error::WalError;
use super::recover::segment_file;
use crate::limits::wal as limits;

struct Reader {
    dir: PathBuf,
    region: RegionId,
    entries: std::vec::IntoIter<Located>,
    file: Option<(u64, File)>,
}

type Batch = Vec<Result<(WalPosition, Bytes), WalError>>;

/// What comes next of a stream.
enum Next {
    /// Nothing is read yet.
    Read(Reader),
    /// The batch after the one that was handed out.
    Reading(JoinHandle<(Batch, Option<Reader>)>),
}

/// The payloads of `entries`, which are of `region`; ends after the first error. While a batch is used the one after
/// it is read.
pub(super) fn stream(dir: PathBuf, region: RegionId, entries: Vec<Located>) -> EntryStream {
    let reader = Reader { dir, region, entries: entries.into_iter(), file: None };
    let read = |reader: Reader| env::spawn_blocking(move || reader.batch());
    let batches = stream::unfold(Some(Next::Read(reader)), move |next| async move {
        let reading = match next? {
            Next::Read(reader) if reader.entries.len() == 0 => return None,
            Next::Read(reader) => read(reader),
            Next::Reading(reading) => reading,
        };
        let Ok((batch, reader)) = reading.await else { return Some((vec![Err(WalError::Closed)], None)) };
        let next = reader.filter(|reader| reader.entries.len() > 0).map(|reader| Next::Reading(read(reader)));
        Some((batch, next))
    });
    batches.flat_map(stream::iter).boxed()
}

impl Reader {
    fn batch(mut self) -> (Batch, Option<Self>) {
        let mut batch = Batch::new();
        let mut bytes = 0;
        while bytes < limits::REPLAY_BATCH_BYTES && batch.len() < limits::REPLAY_BATCH_ENTRIES {
            let Some(entry) = self.entries.next() else { break };
            let payload = self.read(&entry);
            let failed = payload.is_err();
            bytes += entry.len as usize;
            batch.push(payload.map(|payload| (entry.position, payload)));
            if failed {
                return (batch, None);
            }
        }
        (batch, Some(self))
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
        let mut payload = vec![0; entry.len as usize];
        file.read_exact_at(&mut payload, u64::from(entry.offset)).map_err(|e| damaged(e.to_string()))?;
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
