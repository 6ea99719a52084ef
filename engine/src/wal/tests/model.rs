//! Random appends, releases and re-openings against a map.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use bytes::Bytes;
use proptest::prelude::*;
use tessera_manifest::id::RegionId;
use tessera_manifest::wal::WalPosition;

use super::{open, payload, region, replayed};
use crate::wal::disk::OsDisk;
use crate::wal::meta::META_FILE;
use crate::wal::{LocalWal, LogStore};

#[derive(Debug, Clone)]
enum Op {
    Append { region: u32, bytes: usize },
    Burst { region: u32, entries: usize },
    Release { region: u32, share: usize },
    Forget { region: u32 },
    Reopen(End),
}

#[derive(Debug, Clone, Copy)]
enum End {
    Close,
    Drop,
    /// The folder as a killed process leaves it: an identity file from the beginning of the opening.
    Kill,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..3u32, 0..3000usize).prop_map(|(region, bytes)| Op::Append { region, bytes }),
        2 => (0..3u32, 1..30usize).prop_map(|(region, entries)| Op::Burst { region, entries }),
        3 => (0..3u32, 0..=4usize).prop_map(|(region, share)| Op::Release { region, share }),
        1 => (0..3u32).prop_map(|region| Op::Forget { region }),
        2 => prop_oneof![Just(End::Close), Just(End::Drop), Just(End::Kill)].prop_map(Op::Reopen),
    ]
}

type Model = BTreeMap<RegionId, Vec<(WalPosition, Bytes)>>;

async fn reopen(dir: &Path, wal: LocalWal, end: End, model: &Model) -> LocalWal {
    let meta = fs::read(dir.join(META_FILE)).unwrap();
    if matches!(end, End::Close) {
        wal.close().await.unwrap();
    }
    drop(wal);
    // An older identity file is what a kill leaves only if no segment went since.
    if matches!(end, End::Kill) {
        let now = crate::wal::meta::Meta::read(dir).unwrap().unwrap();
        fs::write(dir.join("old"), meta).unwrap();
        fs::rename(dir.join("old"), dir.join(META_FILE)).unwrap();
        let old = crate::wal::meta::Meta::read(dir).unwrap().unwrap();
        if old.kept_from != now.kept_from {
            now.write(&OsDisk, dir).unwrap();
        }
    }
    let wal = open(dir, 8192).await;
    for number in 0..3 {
        let released = WalPosition::START;
        let back = replayed(&wal, region(number), released).await.unwrap();
        let expected = model.get(&region(number)).cloned().unwrap_or_default();
        // Released entries may come back as long as their segment is there; the others must.
        assert!(back.ends_with(&expected), "region {number}: {} entries instead of {}", back.len(), expected.len());
        assert!(back.is_sorted_by_key(|(p, _)| *p));
        if let Some((first, _)) = expected.first() {
            let before = WalPosition { entry: first.entry - 1, ..*first };
            assert_eq!(replayed(&wal, region(number), before).await.unwrap(), expected);
        }
    }
    wal
}

async fn run(ops: Vec<Op>) {
    let dir = tempfile::tempdir().unwrap();
    let mut model = Model::new();
    let mut wal = open(dir.path(), 8192).await;
    for (step, op) in ops.into_iter().enumerate() {
        match op {
            Op::Append { region: r, bytes } => {
                let text = format!("{step}-{}", "x".repeat(bytes));
                let position = wal.append(region(r), payload(&text)).await.unwrap();
                model.entry(region(r)).or_default().push((position, Bytes::from(text)));
            }
            Op::Burst { region: r, entries } => {
                let mut pending = Vec::new();
                for n in 0..entries {
                    let text = format!("{step}.{n}");
                    pending.push((wal.submit(region(r), payload(&text)).await.unwrap(), Bytes::from(text)));
                }
                for (pending, text) in pending {
                    model.entry(region(r)).or_default().push((pending.wait().await.unwrap(), text));
                }
            }
            Op::Release { region: r, share } => {
                let entries = model.entry(region(r)).or_default();
                let count = entries.len() * share / 4;
                if let Some((position, _)) = entries.drain(..count).next_back() {
                    wal.release(region(r), position);
                }
            }
            Op::Forget { region: r } => {
                wal.forget(region(r));
                model.remove(&region(r));
            }
            Op::Reopen(end) => wal = reopen(dir.path(), wal, end, &model).await,
        }
    }
    reopen(dir.path(), wal, End::Drop, &model).await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn log_agrees_with_a_map(ops in prop::collection::vec(op(), 1..60)) {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(run(ops));
    }
}
