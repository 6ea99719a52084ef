//! From one version to the next where the metadata or the staging changes: in one step for readers and writers.

use std::sync::Arc;

use tessera_manifest::meta::RegionMeta;
use tessera_manifest::state::RegionState;

use super::StagedRows;
use crate::memtable::Memtable;
use crate::options::TableOptions;
use crate::region::version::Version;

impl Version {
    /// Takes over a state. The gate is closed, and the memtable that takes rows was frozen.
    ///
    /// - Staged: what is frozen waits for its flush up to the fence; rows go into new memtables.
    /// - Committed: everything before the fence is in files, the staged memtables are the region's.
    /// - Aborted: the memtables stay, and no row was staged.
    /// - Retired: there are no rows any more.
    pub(in crate::region) fn advance(&mut self, state: RegionState, meta: Arc<RegionMeta>, options: Arc<TableOptions>) {
        let now = state.staging().map(|staging| &staging.stage);
        let same = |rows: &StagedRows| now.is_some_and(|stage| stage.txn == rows.txn);
        let before = self.staged.take();
        match before {
            Some(rows) if same(&rows) => self.staged = Some(rows),
            before => {
                if let Some(rows) = before.filter(|rows| rows.generation == meta.generation) {
                    self.frozen = rows.frozen;
                }
                self.staged = now.map(|stage| StagedRows::of(&meta, stage));
            }
        }
        if state.is_retired() {
            self.frozen.clear();
        }
        self.active = Arc::new(Memtable::new(Arc::clone(&meta.schema)));
        self.state = state;
        self.rule_version = meta.rule_version();
        self.options = options;
        self.meta = meta;
    }
}
