//! What there is of a region, for people.

use std::collections::BTreeSet;

use tessera_manifest::id::ColumnId;
use tessera_manifest::rule::Expr;

use super::Region;
use super::scan::file_residual;
use crate::request::{RegionInfo, Unlocalized};

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

    /// What repartitions left for compaction to rewrite; zero once the region is as if it had been created with its rule.
    #[must_use]
    pub fn unlocalized(&self) -> Unlocalized {
        let version = self.pin();
        let mut found = Unlocalized::default();
        for listed in version.state.files().values() {
            found.foreign_files += usize::from(listed.file.key.origin != self.id);
            found.residual_files += usize::from(file_residual(&version, &listed.file) != Expr::always());
        }
        found
    }

    /// The columns that tell which rows of shared files are the region's: an alteration may not take them away.
    #[must_use]
    pub fn scope_columns(&self) -> BTreeSet<ColumnId> {
        self.pin().state.scope_columns()
    }

    /// The columns of which the lists of files hold values: an alteration may not change their types.
    #[must_use]
    pub fn valued_columns(&self) -> BTreeSet<ColumnId> {
        self.pin().state.valued_columns()
    }
}
