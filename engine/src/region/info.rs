//! What there is of a region, for people.

use super::Region;
use crate::request::RegionInfo;

impl Region {
    /// What there is of it.
    #[must_use]
    pub fn info(&self) -> RegionInfo {
        let version = self.pin();
        let totals = version.state.totals();
        let written = version.state.version();
        RegionInfo {
            region: self.id,
            manifest_version: written.expect("an open region has at least its Open record"),
            files: version.state.files().len(),
            file_bytes: totals.bytes,
            file_rows: totals.rows,
            memtable_bytes: version.memtables().chain(version.staged_memtables()).map(|memtable| memtable.bytes()).sum(),
            memtable_rows: version.memtables().map(|memtable| memtable.rows()).sum(),
        }
    }
}
