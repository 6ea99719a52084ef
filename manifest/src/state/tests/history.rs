//! Tests of what is kept of the past, and of how files end.

use super::*;
use crate::action::{Checkpointed, Doom, Floor, Unpin};

pub(super) fn checkpoint(version: Slot) -> CheckpointRef {
    CheckpointRef { version, crc32: 5, bytes: 500, time_ms: 9 }
}

pub(super) fn pin(name: &str, version: Slot) -> Action {
    Action::Pin(Pin { name: name.into(), checkpoint: checkpoint(version), expires_unix_ms: None })
}

fn slot(seq: u64) -> Slot {
    Slot::new(Epoch(1), seq)
}

fn floor(seq: u64) -> Action {
    Action::Floor(Floor { version: slot(seq) })
}

fn doom(files: &[FileKey], forget: &[FileKey]) -> Action {
    Action::Doom(Doom { files: files.into(), forget: forget.into() })
}

/// Two files of version 1, of which version 2 removed the first.
fn removed() -> RegionState {
    let state = commit(&created(), edit(vec![file(1, 1, 1), file(1, 2, 1)], vec![], None, Some(1))).unwrap();
    commit(&state, edit(vec![], vec![key(1, 1)], None, None)).unwrap()
}

#[test]
fn a_removed_file_is_doomed_only_below_the_floor() {
    let state = removed();
    assert!(matches!(commit(&state, doom(&[key(1, 1)], &[])), Err(Violation::NotDoomable { .. })));
    let floored = commit(&state, floor(1)).unwrap();
    assert!(matches!(commit(&floored, doom(&[key(1, 1)], &[])), Err(Violation::NotDoomable { .. })));
    let floored = commit(&floored, floor(2)).unwrap();
    assert!(matches!(commit(&floored, doom(&[key(1, 2)], &[])), Err(Violation::NotDoomable { why: "it is visible", .. })));
    let doomed = commit(&floored, doom(&[key(1, 1)], &[])).unwrap();
    assert!(doomed.removed().is_empty() && doomed.doomed()[&key(1, 1)].bytes == 100);
    assert!(doomed.knows(key(1, 1)));
}

#[test]
fn a_pin_protects_what_its_version_shows_and_nothing_else() {
    let state = commit(&removed(), pin("before", slot(1))).unwrap();
    let state = commit(&state, pin("after", slot(2))).unwrap();
    let state = commit(&state, floor(4)).unwrap();
    assert!(matches!(commit(&state, doom(&[key(1, 1)], &[])), Err(Violation::NotDoomable { .. })));
    let unpinned = commit(&state, Action::Unpin(Unpin { name: "before".into() })).unwrap();
    assert!(commit(&unpinned, doom(&[key(1, 1)], &[])).is_ok());
}

#[test]
fn pins_have_a_name_of_their_own_and_a_version_that_can_be_read() {
    let state = commit(&removed(), floor(1)).unwrap();
    assert!(matches!(commit(&state, pin("a", slot(0))), Err(Violation::PinVersion { .. })));
    assert!(matches!(commit(&state, pin("a", slot(9))), Err(Violation::PinVersion { .. })));
    for name in ["", "a b", "ä", &"x".repeat(129)] {
        assert_eq!(commit(&state, pin(name, slot(1))), Err(Violation::PinName { name: name.into() }));
    }
    let pinned = commit(&state, pin("a", slot(1))).unwrap();
    assert_eq!(commit(&pinned, pin("a", slot(2))), Err(Violation::PinExists { name: "a".into() }));
    assert_eq!(commit(&pinned, Action::Unpin(Unpin { name: "b".into() })), Err(Violation::NoPin { name: "b".into() }));
}

#[test]
fn the_floor_only_rises_and_stays_within_the_log() {
    let state = commit(&removed(), floor(2)).unwrap();
    assert!(matches!(commit(&state, floor(1)), Err(Violation::FloorOrder { .. })));
    assert!(matches!(commit(&state, floor(4)), Err(Violation::FloorOrder { .. })));
}

#[test]
fn an_ended_reference_comes_back_as_long_as_a_reader_may_ask_for_it() {
    let restore = || Action::Edit(Edit { restore: vec![key(1, 1)], ..Edit::new(Generation::FIRST) });
    let state = removed();
    let back = commit(&state, restore()).unwrap();
    assert_eq!(back.files().len(), 2);
    assert_eq!(back.files().get(&key(1, 1)).unwrap().since, slot(1));
    assert_eq!(commit(&back, restore()), Err(Violation::FileNotRestorable { file: key(1, 1) }));
    let floored = commit(&state, floor(2)).unwrap();
    assert_eq!(commit(&floored, restore()), Err(Violation::FileNotRestorable { file: key(1, 1) }));
    let pinned = commit(&commit(&state, pin("p", slot(1))).unwrap(), floor(3)).unwrap();
    assert!(commit(&pinned, restore()).is_ok());
}

#[test]
fn what_is_doomed_is_forgotten_once_it_cannot_come_back() {
    let state = commit(&commit(&removed(), floor(2)).unwrap(), doom(&[key(1, 1)], &[])).unwrap();
    assert!(matches!(commit(&state, doom(&[], &[key(1, 1)])), Err(Violation::NotForgettable { .. })));
    assert!(matches!(commit(&state, doom(&[], &[key(1, 2)])), Err(Violation::NotForgettable { .. })));
    let next = sealed_and_opened(&state);
    let forgotten = commit(&next, doom(&[], &[key(1, 1)])).unwrap();
    assert!(!forgotten.knows(key(1, 1)));
}

#[test]
fn checkpoints_are_needed_from_the_floor_on_and_the_two_newest_always() {
    let logged = |seq| Action::Checkpointed(Checkpointed { checkpoint: checkpoint(slot(seq)) });
    let mut state = removed();
    for seq in [0, 1, 2] {
        state = commit(&state, logged(seq)).unwrap();
    }
    assert_eq!(state.checkpoints().len(), 3);
    let floored = commit(&state, floor(0)).unwrap();
    assert_eq!(floored.checkpoints().len(), 3);
    for seq in [1, 4] {
        let floored = commit(&floored, floor(seq)).unwrap();
        assert_eq!(floored.checkpoints(), [checkpoint(slot(1)), checkpoint(slot(2))]);
    }
    for seq in [2, 9] {
        assert!(matches!(commit(&state, logged(seq)), Err(Violation::CheckpointOrder { .. })));
    }
}

#[test]
fn a_dropped_region_lets_its_files_end() {
    let dropped = commit(&removed(), Action::Drop(Drop {})).unwrap();
    let floored = commit(&dropped, floor(3)).unwrap();
    let doomed = commit(&floored, doom(&[key(1, 1), key(1, 2)], &[])).unwrap();
    assert_eq!(doomed.doomed().len(), 2);
}
