//! Any history at all: apply answers without panicking, and what it lets through keeps the invariants.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::history::{checkpoint, pin};
use super::stage::{remap, resolve, stage, staged_edit};
use super::*;
use crate::action::{Checkpointed, Decision, Doom, Floor, Retire, Unpin};
use crate::id::TxnId;
use crate::set_hash::MemberHash;

/// Any action, sensible or not.
fn any_action() -> impl Strategy<Value = Action> {
    let key = (1_u32..3, 0_u128..4);
    prop_oneof![
        4 => (proptest::collection::vec(key.clone(), 0..3), proptest::collection::vec(key, 0..3), proptest::option::of((1_u32..3, 0_u64..6)), proptest::option::of(0_u64..6))
            .prop_map(|(add, remove, at, newest)| {
                let add = add.into_iter().map(|(epoch, ulid)| file(epoch, ulid, ulid as u64)).collect();
                let remove = remove.into_iter().map(|(epoch, ulid)| file(epoch, ulid, 0).key).collect();
                edit(add, remove, at.map(|(epoch, entry)| position(epoch, entry)), newest)
            }),
        1 => Just(seal()),
        1 => (1_u128..4, 1_u32..4).prop_map(|(writer, epochs)| open(writer, vec![wal(&(1..=epochs).collect::<Vec<_>>(), WalPosition::START)])),
        1 => (1_u32..3).prop_map(|generation| Action::Change(Change { meta: meta(generation) })),
        1 => (0_u64..6, 0_u64..9).prop_map(|(entry, newest)| Action::Truncate(Truncate {
            generation: Generation::FIRST,
            flushed: vec![Flushed { wal: WAL, position: position(1, entry), done: entry % 2 == 0 }],
            sequence: sequence(newest),
        })),
        1 => Just(Action::Drop(Drop {})),
        12 => any_repartition(),
        12 => any_retention(),
    ]
}

/// Actions of a repartition, with few enough values that some histories go through.
fn any_repartition() -> impl Strategy<Value = Action> {
    let txn = (0_u128..2).prop_map(|n| TxnId(Ulid(n)));
    prop_oneof![
        4 => (txn.clone(), any::<bool>(), 0_u64..3).prop_map(|(txn, target, at)| Action::Stage(stage(txn, target, position(1, at)))),
        4 => (txn.clone(), 5_u128..9, 0_u64..6).prop_map(|(txn, ulid, at)| staged_edit(txn, &[ulid], position(2, at))),
        4 => (txn.clone(), 0_usize..4).prop_map(|(txn, files)| Action::RemapStaged(remap(txn, 1, files).0)),
        4 => (txn.clone(), 1_u32..3).prop_map(|(txn, base)| resolve(txn, base, Decision::Commit)),
        1 => (txn, 1_u32..3, 2_u32..5).prop_map(|(txn, base, to)| {
            resolve(txn, base, Decision::Abort { generation: Generation::new(to).unwrap() })
        }),
        1 => Just(Action::Retire(Retire {})),
    ]
}

fn any_retention() -> impl Strategy<Value = Action> {
    let version = (1_u32..3, 0_u64..8).prop_map(|(epoch, seq)| Slot::new(Epoch(epoch), seq));
    let file = (1_u32..3, 0_u128..4).prop_map(|(epoch, ulid)| key(epoch, ulid));
    let files = proptest::collection::vec(file, 0..2);
    prop_oneof![
        version.clone().prop_map(|version| Action::Checkpointed(Checkpointed { checkpoint: checkpoint(version) })),
        version.clone().prop_map(|version| Action::Floor(Floor { version })),
        version.prop_map(|version| pin("p", version)),
        Just(Action::Unpin(Unpin { name: "p".into() })),
        (files.clone(), files.clone()).prop_map(|(files, forget)| Action::Doom(Doom { files, forget })),
        files.prop_map(|restore| Action::Edit(Edit { restore, ..Edit::new(Generation::FIRST) })),
    ]
}

/// The references that some readable version of the state shows.
fn readable(state: &RegionState) -> BTreeSet<FileKey> {
    let retained = state.removed().iter().filter(|(_, removed)| state.is_retained(removed)).map(|(key, _)| *key);
    state.files().keys().chain(retained).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever comes, apply answers without panicking, leaves the old state alone, and keeps its sums.
    #[test]
    fn any_history_keeps_the_invariants(records in proptest::collection::vec((any::<bool>(), proptest::collection::vec(any_action(), 1..3)), 0..24)) {
        let mut state = created();
        let mut accepted: Vec<(Slot, Vec<Action>)> = Vec::new();
        for (next_epoch, actions) in records {
            let version = state.version().unwrap();
            let slot = if next_epoch { version.next_epoch() } else { version.next() };
            let before = state.clone();
            let segments = Segments::from([remap(TxnId(Ulid(0)), 1, 0).1, remap(TxnId(Ulid(0)), 1, 1).1, remap(TxnId(Ulid(0)), 1, 2).1, remap(TxnId(Ulid(0)), 1, 3).1]);
            if let Ok(next) = state.apply_record_with(slot, &actions, &segments) {
                // What was readable stays readable, or a floor or an unpin came; nothing doomed was readable.
                prop_assert!(readable(&state).iter().all(|key| !next.doomed().contains_key(key)) || actions.len() > 1);
                accepted.push((slot, actions));
                state = next;
            } else {
                prop_assert_eq!(&state, &before);
            }
            let hash = state.files().values().fold(SetHash::EMPTY, |hash, listed| hash.with(MemberHash::of(&listed.file)));
            prop_assert_eq!(state.set_hash(), hash);
            let rows: u64 = state.files().values().map(|listed| listed.file.meta.rows).sum();
            prop_assert_eq!(state.totals().rows, rows);
            prop_assert!(state.files().keys().all(|key| !state.removed().contains_key(&key) && !state.doomed().contains_key(&key)));
            prop_assert!(state.removed().keys().all(|key| !state.doomed().contains_key(key)));
            prop_assert!(state.files().values().all(|listed| listed.file.meta.sequences.1 <= state.flushed_sequence()));
            if let Some(staging) = state.staging() {
                prop_assert!(staging.added().keys().all(|key| !state.files().contains_key(key)));
                prop_assert!(state.files().values().all(|listed| listed.file.meta.sequences.1.generation() <= staging.stage.base));
            }
        }
        let segments = Segments::from([remap(TxnId(Ulid(0)), 1, 0).1, remap(TxnId(Ulid(0)), 1, 1).1, remap(TxnId(Ulid(0)), 1, 2).1, remap(TxnId(Ulid(0)), 1, 3).1]);
        let replayed =
            accepted.iter().fold(created(), |state, (slot, actions)| state.apply_record_with(*slot, actions, &segments).unwrap());
        prop_assert_eq!(replayed, state);
    }

    /// What is written to the log is what is read from it.
    #[test]
    fn actions_survive_the_body(actions in proptest::collection::vec(any_action(), 1..4)) {
        let body = crate::body::Body::new(1, SetHash::EMPTY, actions);
        prop_assert_eq!(crate::body::Body::decode(&body.encode()).unwrap(), body);
    }

    #[test]
    fn decoding_arbitrary_bodies_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = crate::body::Body::decode(&bytes);
    }
}
