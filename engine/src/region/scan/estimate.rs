//! About how many rows a scan would give, for who plans it.

use futures::TryStreamExt;
use futures::stream::{self, StreamExt};
use tessera_manifest::rule::Expr;
use tessera_manifest::schema::Schema;

use super::pieces::Source;
use super::{Pruned, Region, prune, time_bounds};
use crate::error::Error;

/// Files up to which their pages are looked at; of more all rows are counted, since each file may have to be read.
const FILES_MAX: usize = 16;
/// Files whose footers are read at the same time.
const FILES_AT_ONCE: usize = 4;

impl Region {
    /// About how many rows a scan now with this filter gives, at most `enough`: by the row groups and pages of tags and time of
    /// the files that it reads, and all rows of memtables whose times it asks for. It follows from the region's version
    /// alone, not from what was read before: footers that were not read yet are. `filter` is one of columns of `schema`, as
    /// in a scan.
    ///
    /// # Errors
    /// Those of the first file that cannot be read, as a scan would give them.
    pub async fn estimate_rows(&self, schema: &Schema, filter: &Expr, enough: u64) -> Result<u64, Error> {
        let version = self.pin();
        let access = &self.shared.access;
        let Pruned { sources, .. } = prune(access, &version, filter, time_bounds(filter, schema.time_index().id));
        let all: u64 = sources.iter().map(Source::rows).sum();
        let files: Vec<_> = sources.iter().filter_map(Source::file).collect();
        if files.len() > FILES_MAX {
            return Ok(all.min(enough));
        }
        let in_files: u64 = files.iter().map(|file| file.meta.rows).sum();
        let found: Vec<_> = files.into_iter().map(|file| access.estimate_rows(file, schema, filter, enough)).collect();
        let mut found = std::pin::pin!(stream::iter(found).buffered(FILES_AT_ONCE));
        let mut rows = all - in_files;
        while rows < enough {
            match found.try_next().await.map_err(|source| Error::rows(self.id, source))? {
                Some(more) => rows += more,
                None => break,
            }
        }
        Ok(rows.min(enough))
    }
}
