//! The sweep of a region's own folder: files that no record of its manifest lists.
//!
//! Invariants:
//! - A file comes into a manifest only in the epoch of its birth, which is part of its name. So a file of a past
//!   epoch that the state does not list can never be added any more; one of the current epoch may be in flight and
//!   is left alone.
//! - Removed files are listed (with the version that removed them) and are not the sweep's business.
//! - Anything in the folder whose name is not an SST's is left alone.
//!
//! The caller must own the region: its state is the newest, and its epoch is the current one. Source: DESIGN
//! section 9, "never committed".

use std::sync::Arc;

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tessera_manifest::error::ErrorClass;
use tessera_manifest::id::{FileId, FileKey};
use tessera_manifest::paths::Root;
use tessera_manifest::state::RegionState;

/// Why a sweep stopped. What it removed before stays removed; the next sweep goes on.
#[derive(Debug, thiserror::Error)]
#[error("cannot {verb} '{path}' while sweeping")]
pub struct Error {
    /// What was tried: list or delete.
    pub verb: &'static str,
    /// The folder or object.
    pub path: String,
    /// The store's own words.
    pub source: Box<object_store::Error>,
}

impl Error {
    /// What to do about it: the store may come back.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        ErrorClass::Unavailable
    }
}

/// What a sweep did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Files in the folder.
    pub listed: usize,
    /// The files that were removed, in order of name.
    pub removed: Vec<FileId>,
    /// Their bytes.
    pub bytes: u64,
}

/// Which of the `listed` files of the region's own folder no record can ever list.
///
/// `state` must be the newest state of the region, read by its owner; without a version nothing is planned.
#[must_use]
pub fn plan_sweep(state: &RegionState, listed: &[FileId]) -> Vec<FileId> {
    let Some(version) = state.version() else { return Vec::new() };
    let known = |file: FileId| {
        let key = FileKey { origin: state.region(), file };
        state.knows(key)
    };
    let mut orphans: Vec<FileId> = listed.iter().copied().filter(|file| file.epoch < version.epoch && !known(*file)).collect();
    orphans.sort_unstable();
    orphans
}

/// Lists the region's folder, plans, and deletes. A file that is gone already is fine.
///
/// # Errors
/// The store's failure, naming the object.
pub async fn run_sweep(store: &Arc<dyn ObjectStore>, root: &Root, state: &RegionState) -> Result<Report, Error> {
    let folder = root.ssts(state.region());
    let objects: Vec<_> = store.list(Some(&folder)).try_collect().await.map_err(|source| failed("list", &folder, source))?;
    let files: Vec<(FileId, u64)> = objects.iter().filter_map(|object| Some((file_of(&folder, &object.location)?, object.size))).collect();
    let listed: Vec<FileId> = files.iter().map(|(file, _)| *file).collect();
    let mut report = Report { listed: listed.len(), ..Report::default() };
    for file in plan_sweep(state, &listed) {
        let path = root.sst(FileKey { origin: state.region(), file });
        match store.delete(&path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
            Err(source) => return Err(failed("delete", &path, source)),
        }
        tracing::info!(region = %state.region(), %path, "removed a file that was never committed");
        report.bytes += files.iter().find(|(other, _)| *other == file).map_or(0, |(_, bytes)| *bytes);
        report.removed.push(file);
    }
    Ok(report)
}

/// The SST that `path` is, if it lies in the folder itself and is called like one.
fn file_of(folder: &Path, path: &Path) -> Option<FileId> {
    let mut parts = path.prefix_match(folder)?;
    let name = parts.next()?;
    if parts.next().is_some() {
        return None;
    }
    name.as_ref().strip_suffix(".parquet")?.parse().ok()
}

fn failed(verb: &'static str, path: &Path, source: object_store::Error) -> Error {
    Error { verb, path: path.to_string(), source: Box::new(source) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use object_store::memory::InMemory;
    use tessera_manifest::action::{Action, Change, Edit, Open, Seal};
    use tessera_manifest::file::{FileMeta, FileRef, Scope};
    use tessera_manifest::id::{ColumnId, Epoch, Generation, NodeId, Nonce, RegionId, RegionNumber, Sequence, Slot, TableId};
    use tessera_manifest::meta::RegionMeta;
    use tessera_manifest::rule::Expr;
    use tessera_manifest::schema::{Column, Schema, SemanticType};
    use tessera_manifest::value::{DataType, TimeUnit};

    use super::*;

    const REGION: RegionId = RegionId::new(TableId(1024), RegionNumber(0));

    fn file(epoch: u32, name: &str) -> FileId {
        format!("{epoch:010}-{name:0>26}").parse().unwrap()
    }

    fn reference(file: FileId) -> Arc<FileRef> {
        let meta = FileMeta {
            time_range: (0, 1),
            rows: 1,
            deletes: 0,
            bytes: 10,
            sequences: (Sequence::ZERO, Sequence::ZERO),
            level: 0,
            generation: Generation::FIRST,
            schema_version: 1,
            rule: Arc::new(Expr::always()),
            stats: [].into(),
            crc32: 0,
        };
        Arc::new(FileRef { key: FileKey { origin: REGION, file }, scope: Scope::all(), meta })
    }

    fn meta() -> Arc<RegionMeta> {
        let ts = Column {
            id: ColumnId(0),
            name: "ts".into(),
            data_type: DataType::Timestamp(TimeUnit::Millisecond),
            semantic: SemanticType::TimeIndex,
            nullable: false,
            default: None,
            comment: None,
        };
        Arc::new(RegionMeta {
            region: REGION,
            database: "public".into(),
            table: "t".into(),
            schema: Arc::new(Schema::new(vec![ts], vec![]).unwrap()),
            partition_columns: vec![],
            rule: Arc::new(Expr::always()),
            generation: Generation::FIRST,
            options: BTreeMap::new(),
        })
    }

    fn open(writer: u128) -> Action {
        Action::Open(Open { writer: Nonce(writer), node: NodeId(1), wal: None, wals: vec![], abandoned: vec![] })
    }

    fn edit(add: &[FileId], remove: &[FileId]) -> Action {
        let remove = remove.iter().map(|file| FileKey { origin: REGION, file: *file }).collect();
        let add = add.iter().map(|file| reference(*file)).collect();
        Action::Edit(Edit { add, remove, ..Edit::new(Generation::FIRST) })
    }

    /// Epoch 1 listed A and B and removed B; epoch 2 is the current one.
    fn state() -> RegionState {
        let slot = |epoch, seq| Slot::new(Epoch(epoch), seq);
        let (a, b) = (file(1, "A"), file(1, "B"));
        let records = [
            (slot(1, 0), vec![open(1), Action::Change(Change { meta: meta() })]),
            (slot(1, 1), vec![edit(&[a, b], &[])]),
            (slot(1, 2), vec![edit(&[], &[b])]),
            (slot(1, 3), vec![Action::Seal(Seal { by: Nonce(2), clean: false })]),
            (slot(2, 0), vec![open(2)]),
        ];
        records.iter().fold(RegionState::empty(REGION), |state, (slot, actions)| state.apply_record(*slot, actions).unwrap())
    }

    #[test]
    fn only_unlisted_files_of_past_epochs_are_planned() {
        let listed = [file(1, "A"), file(1, "B"), file(1, "C"), file(2, "D"), file(3, "E")];
        assert_eq!(plan_sweep(&state(), &listed), [file(1, "C")]);
        assert!(plan_sweep(&RegionState::empty(REGION), &listed).is_empty());
    }

    #[tokio::test]
    async fn a_sweep_removes_what_was_planned_and_nothing_else() {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let root = Root::default();
        let put = |path: Path| {
            let store = Arc::clone(&store);
            async move { store.put(&path, "bytes".into()).await.unwrap() }
        };
        for kept in [file(1, "A"), file(1, "B"), file(1, "C"), file(2, "D")] {
            put(root.sst(FileKey { origin: REGION, file: kept })).await;
        }
        put(root.ssts(REGION).join("notes.txt")).await;
        put(root.ssts(REGION).join("sub").join("0000000001-0000000000000000000000000C.parquet")).await;
        let report = run_sweep(&store, &root, &state()).await.unwrap();
        assert_eq!((report.listed, report.removed, report.bytes), (4, vec![file(1, "C")], 5));
        assert_eq!(run_sweep(&store, &root, &state()).await.unwrap().removed, []);
        let left: Vec<_> = store.list(None).try_collect().await.unwrap();
        assert_eq!(left.len(), 5);
    }
}
