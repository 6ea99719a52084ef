//! What a process does until it dies.

use object_store::ObjectStoreExt;

use super::Acked;
use crate::action::{
    self, Action, Change, Decision, Drop, Edit, Fence, Flushed, RemapStaged, Resolve, Retire, SegmentRef, Stage, StageTarget, StagedEdit,
    Truncate, Unpin,
};
use crate::checkpoint::encode_segment;
use crate::file::{FileRef, Scope, StagedFile};
use crate::id::{Epoch, FileId, FileKey, Generation, Sequence, TxnId};
use crate::log::{Context, Manifest, Outcome, load_at, plan_rollback};
use crate::set_hash::{MemberHash, SetHash};
use crate::state::Row;
use crate::testing::sample::{OPENER, OTHER_REGION, REGION, WAL, below, file, file_of, generation, key, meta};
use crate::wal::WalPosition;
use std::sync::Arc;
use ulid::Ulid;

const TXN: TxnId = TxnId(Ulid(5));

fn add(epoch: u32, numbers: std::ops::Range<u64>) -> Vec<Action> {
    let add: Vec<_> = numbers.map(|number| file(epoch, number)).collect();
    edit(add, vec![])
}

fn edit(add: Vec<Arc<FileRef>>, remove: Vec<FileKey>) -> Vec<Action> {
    let sequence = add.iter().map(|file| file.meta.sequences.1).max();
    vec![Action::Edit(Edit { add, remove, sequence, ..Edit::new(Generation::FIRST) })]
}

fn remove(epoch: u32, numbers: &[u64]) -> Vec<Action> {
    edit(vec![], numbers.iter().map(|number| key(epoch, (*number).into())).collect())
}

fn flush_to(entry: u64) -> Vec<Flushed> {
    vec![Flushed { wal: WAL, position: WalPosition { epoch: Epoch(1), entry }, done: false }]
}

async fn created(context: &Context, acked: &Acked) -> Manifest {
    let manifest = Manifest::create(context, meta("t"), OPENER).await.unwrap();
    acked.push(manifest.state());
    manifest
}

async fn opened(context: &Context, acked: &Acked) -> Manifest {
    let manifest = Manifest::open(context, REGION, OPENER).await.unwrap();
    acked.push(manifest.state());
    manifest
}

async fn commit(manifest: &mut Manifest, acked: &Acked, actions: Vec<Action>) {
    match manifest.commit(actions).await {
        Ok(Outcome::Committed(state)) => acked.push(&state),
        other => panic!("a healthy store commits: {other:?}"),
    }
}

pub(super) async fn create(context: Context, acked: Acked) {
    created(&context, &acked).await;
}

pub(super) async fn edits(context: Context, acked: Acked) {
    let mut manifest = created(&context, &acked).await;
    commit(&mut manifest, &acked, add(1, 1..3)).await;
    commit(&mut manifest, &acked, edit(vec![file(1, 3)], vec![key(1, 1), key(1, 2)])).await;
    commit(&mut manifest, &acked, vec![Action::Change(Change { meta: meta("renamed") })]).await;
    let sequence = Sequence::new(Generation::FIRST, 9).unwrap();
    let truncate = Truncate { generation: Generation::FIRST, flushed: flush_to(4), sequence };
    commit(&mut manifest, &acked, vec![Action::Truncate(truncate)]).await;
    commit(&mut manifest, &acked, add(1, 10..11)).await;
}

pub(super) async fn take_over(context: Context, acked: Acked) {
    let mut first = created(&context, &acked).await;
    commit(&mut first, &acked, add(1, 1..2)).await;
    let mut second = opened(&context, &acked).await;
    assert!(matches!(first.commit(add(1, 2..3)).await, Ok(Outcome::Conflict { .. })));
    commit(&mut second, &acked, edit(vec![file(2, 3)], vec![key(1, 1)])).await;
    let mut third = opened(&context, &acked).await;
    commit(&mut third, &acked, add(3, 4..5)).await;
}

pub(super) async fn clean_end(context: Context, acked: Acked) {
    let mut first = created(&context, &acked).await;
    commit(&mut first, &acked, add(1, 1..2)).await;
    first.checkpoint().await.unwrap();
    match first.seal().await {
        Ok(Outcome::Committed(state)) => acked.push(&state),
        other => panic!("a healthy store commits: {other:?}"),
    }
    let mut second = opened(&context, &acked).await;
    commit(&mut second, &acked, add(2, 2..3)).await;
}

pub(super) async fn drop_region(context: Context, acked: Acked) {
    let mut manifest = created(&context, &acked).await;
    commit(&mut manifest, &acked, add(1, 1..2)).await;
    commit(&mut manifest, &acked, vec![Action::Drop(Drop {})]).await;
}

pub(super) async fn checkpoint(context: Context, acked: Acked) {
    let mut manifest = created(&context, &acked).await;
    commit(&mut manifest, &acked, add(1, 1..10)).await;
    manifest.checkpoint().await.unwrap();
    commit(&mut manifest, &acked, add(1, 10..11)).await;
    manifest.retain().await.unwrap();
    commit(&mut manifest, &acked, add(1, 11..12)).await;
}

pub(super) async fn many_checkpoints(context: Context, acked: Acked) {
    let mut manifest = created(&context, &acked).await;
    for round in 0..4 {
        commit(&mut manifest, &acked, add(1, round * 4 + 1..round * 4 + 3)).await;
        commit(&mut manifest, &acked, remove(1, &[round * 4 + 1])).await;
        manifest.checkpoint().await.unwrap();
        commit(&mut manifest, &acked, add(1, round * 4 + 3..round * 4 + 5)).await;
        manifest.retain().await.unwrap();
    }
}

pub(super) async fn checkpoints_of_two_epochs(context: Context, acked: Acked) {
    let mut manifest = created(&context, &acked).await;
    for epoch in 1..3 {
        let first = u64::from(epoch) * 20;
        for round in 0..2 {
            commit(&mut manifest, &acked, add(epoch, first + round * 8..first + round * 8 + 3)).await;
            manifest.checkpoint().await.unwrap();
            commit(&mut manifest, &acked, remove(epoch, &[first + round * 8])).await;
            manifest.retain().await.unwrap();
        }
        manifest.checkpoint().await.unwrap();
        if epoch < 2 {
            manifest = opened(&context, &acked).await;
        }
    }
}

fn stage(target: bool, fence: u64) -> Vec<Action> {
    let target = target.then(|| StageTarget { rule: Arc::new(below("m")), partition_columns: vec![] });
    let fence = vec![Fence { wal: WAL, position: WalPosition { epoch: Epoch(1), entry: fence } }];
    vec![Action::Stage(Stage { txn: TXN, base: Generation::FIRST, generation: generation(2), target, fence, schema_version: 1 })]
}

fn staged_edit(number: u64, entry: u64) -> Vec<Action> {
    let sequence = Sequence::new(generation(2), number).unwrap();
    let add = vec![file_of(key(1, number.into()), sequence)];
    vec![Action::StagedEdit(StagedEdit { txn: TXN, generation: generation(2), add, flushed: flush_to(entry), sequence: Some(sequence) })]
}

/// Writes the segment of a remap to one of the region's files and two of another region, and answers with the action.
async fn remap(context: &Context) -> Vec<Action> {
    let foreign = |number: u64| {
        let other = FileRef {
            key: FileKey { origin: OTHER_REGION, ..key(1, number.into()) },
            scope: Scope::new(below("k")),
            ..FileRef::clone(&file(1, number))
        };
        StagedFile::new(Arc::new(other))
    };
    let files = [StagedFile::new(file(1, 1)), foreign(8), foreign(9)];
    let bytes = encode_segment(&files.clone().map(Row::Remapped));
    let name = FileId::new(Epoch(1), Ulid(77));
    let segment = SegmentRef { file: name, crc32: crc32fast::hash(&bytes), bytes: bytes.len() as u64, rows: 3 };
    context.store.put(&context.root.segment(REGION, name), bytes.into()).await.unwrap();
    let set_hash = files.iter().fold(SetHash::EMPTY, |hash, file| hash.with(MemberHash::of(file.reference())));
    vec![Action::RemapStaged(RemapStaged { txn: TXN, segments: vec![segment], set_hash })]
}

fn resolve(decision: Decision) -> Vec<Action> {
    vec![Action::Resolve(Resolve { txn: TXN, base: Generation::FIRST, decision })]
}

/// A drain, an edit of which makes way for the remap.
fn drain(number: u64, entry: u64) -> Vec<Action> {
    let add = vec![file(1, number)];
    let sequence = Some(add[0].meta.sequences.1);
    vec![Action::Edit(Edit { add, flushed: flush_to(entry), sequence, ..Edit::new(Generation::FIRST) })]
}

pub(super) async fn repartition(context: Context, acked: Acked) {
    let mut manifest = created(&context, &acked).await;
    commit(&mut manifest, &acked, add(1, 1..3)).await;
    commit(&mut manifest, &acked, stage(true, 6)).await;
    commit(&mut manifest, &acked, staged_edit(30, 8)).await;
    commit(&mut manifest, &acked, drain(4, 6)).await;
    let remap = remap(&context).await;
    commit(&mut manifest, &acked, remap).await;
    commit(&mut manifest, &acked, staged_edit(31, 9)).await;
    commit(&mut manifest, &acked, resolve(Decision::Commit)).await;
}

/// The same with a checkpoint after each step, and retention that goes as far as it may.
pub(super) async fn checkpointed_repartition(context: Context, acked: Acked) {
    let mut manifest = created(&context, &acked).await;
    commit(&mut manifest, &acked, add(1, 1..3)).await;
    let remap = remap(&context).await;
    for actions in [stage(true, 6), staged_edit(30, 8), drain(4, 6), remap, staged_edit(31, 9), resolve(Decision::Commit)] {
        manifest.checkpoint().await.unwrap();
        commit(&mut manifest, &acked, actions).await;
        manifest.retain().await.unwrap();
    }
    manifest.checkpoint().await.unwrap();
    let next = Edit { sequence: Sequence::new(generation(2), 40), ..Edit::new(generation(2)) };
    commit(&mut manifest, &acked, vec![Action::Edit(next)]).await;
    manifest.retain().await.unwrap();
}

pub(super) async fn abort(context: Context, acked: Acked) {
    let mut manifest = created(&context, &acked).await;
    commit(&mut manifest, &acked, add(1, 1..3)).await;
    commit(&mut manifest, &acked, stage(true, 6)).await;
    commit(&mut manifest, &acked, drain(4, 5)).await;
    commit(&mut manifest, &acked, resolve(Decision::Abort { generation: generation(3) })).await;
}

pub(super) async fn retire(context: Context, acked: Acked) {
    let mut manifest = created(&context, &acked).await;
    commit(&mut manifest, &acked, add(1, 1..7)).await;
    commit(&mut manifest, &acked, stage(false, 6)).await;
    commit(&mut manifest, &acked, drain(7, 6)).await;
    commit(&mut manifest, &acked, resolve(Decision::Commit)).await;
    manifest.checkpoint().await.unwrap();
    let mut next = opened(&context, &acked).await;
    let version = next.state().version().unwrap();
    commit(&mut next, &acked, vec![Action::Floor(action::Floor { version })]).await;
    assert!(matches!(next.commit(vec![Action::Retire(Retire {})]).await, Err(crate::error::Error::Rejected { .. })));
}

pub(super) async fn snapshot(context: Context, acked: Acked) {
    let mut manifest = created(&context, &acked).await;
    commit(&mut manifest, &acked, add(1, 1..7)).await;
    match manifest.snapshot("monday", None).await {
        Ok(Outcome::Committed(state)) => acked.push(&state),
        other => panic!("a healthy store commits: {other:?}"),
    }
    for round in 0..3 {
        commit(&mut manifest, &acked, remove(1, &[round + 1])).await;
        manifest.checkpoint().await.unwrap();
        commit(&mut manifest, &acked, add(1, round + 10..round + 11)).await;
        manifest.retain().await.unwrap();
    }
    commit(&mut manifest, &acked, vec![Action::Unpin(Unpin { name: "monday".into() })]).await;
    manifest.retain().await.unwrap();
}

pub(super) async fn rollback(context: Context, acked: Acked) {
    let mut manifest = created(&context, &acked).await;
    commit(&mut manifest, &acked, add(1, 1..7)).await;
    let version = manifest.state().version().unwrap();
    commit(&mut manifest, &acked, remove(1, &[1, 2])).await;
    manifest.checkpoint().await.unwrap();
    commit(&mut manifest, &acked, add(1, 8..9)).await;
    let then = load_at(&context, REGION, version).await.unwrap();
    let edit = plan_rollback(manifest.state(), &then).unwrap();
    commit(&mut manifest, &acked, vec![Action::Edit(edit)]).await;
    manifest.retain().await.unwrap();
}
