//! One death, and two in a row.

use super::*;

/// Deaths of a scenario that are tried by default.
const CASES: u64 = 12;
/// How many writes a recovery may have.
const RECOVERY: u64 = 48;

/// Dies before and after the writes of `scene`.
fn die_everywhere(scene: Scene) {
    let (ends, writes) = undisturbed(&scene);
    let (mut deaths, mut places) = (0, Vec::new());
    for case in tried(2 * writes, CASES) {
        let (side, at) = (if case % 2 == 0 { Side::Before } else { Side::After }, case / 2);
        let (disk, ledger) = scene.prepare();
        let fuse = Fuse::far(side, Death::Silence, WAY);
        let answered = scene.run(&disk, &ledger, &fuse, at);
        let when = format!("{} died {side:?} write {at} of {writes}, {:?}", scene.sql, fuse.last());
        println!("{when}");
        check(&disk, &ledger, &scene, &ends, answered, &when);
        deaths += u64::from(answered.is_none());
        places.extend(fuse.last());
    }
    eprintln!("{scene:?}: {writes} writes, {deaths} deaths");
    let tried = tried(2 * writes, CASES).count() as u64;
    assert!(deaths * 10 >= tried * 9, "{deaths} deaths of {tried}");
    if tried < writes {
        return;
    }
    for kind in ["append for", "put of", "txn of"] {
        assert!(places.iter().any(|place| place.contains(kind)), "nobody died at a {kind}: {places:?}");
    }
}

/// Dies in `scene`, and again in the recovery.
fn die_twice(scene: Scene, cases: u64) {
    let (ends, writes) = undisturbed(&scene);
    let mut deaths = 0;
    for case in tried(4 * writes * RECOVERY, cases) {
        let sides = [case % 2, case / 2 % 2].map(|odd| if odd == 0 { Side::Before } else { Side::After });
        let (at, again) = (case / 4 / RECOVERY, (case / 4 + case / 4 / RECOVERY) % RECOVERY);
        let (disk, ledger) = scene.prepare();
        let fuse = Fuse::far(sides[0], Death::Silence, WAY);
        let answered = scene.run(&disk, &ledger, &fuse, at);
        let second = recover_and_die(&disk, &ledger, sides[1], again);
        deaths += u64::from(second.is_some());
        let when =
            format!("{} died {:?} write {at}, {:?}, then {:?} write {again}, {second:?}", scene.sql, sides[0], fuse.last(), sides[1]);
        println!("{when}");
        check(&disk, &ledger, &scene, &ends, answered, &when);
    }
    eprintln!("{scene:?}: {deaths} second deaths");
    assert!(deaths > 0);
}

const SPLITS: Scene = Scene::new(&[], SPLIT);
const MERGES: Scene = Scene::new(&[SPLIT], MERGE);
const CHANGES_ALL: Scene = Scene::new(&[], THREE);

#[test]
fn a_split_that_dies_anywhere_ends_with_every_row_once() {
    die_everywhere(SPLITS);
}

#[test]
fn a_merge_that_dies_anywhere_ends_with_every_row_once() {
    die_everywhere(MERGES);
}

#[test]
fn a_change_of_all_regions_that_dies_anywhere_ends_with_every_row_once() {
    die_everywhere(CHANGES_ALL);
}

#[test]
fn a_repartition_without_a_log_that_dies_anywhere_keeps_what_was_flushed_and_ends() {
    die_everywhere(CHANGES_ALL.without_log());
}

#[test]
fn a_repartition_whose_time_is_up_and_that_dies_anywhere_leaves_what_was() {
    die_everywhere(CHANGES_ALL.with(Trouble::Timeout(8)));
}

#[test]
fn a_repartition_that_is_cancelled_and_dies_anywhere_leaves_what_was() {
    die_everywhere(CHANGES_ALL.with(Trouble::Cancel));
}

#[test]
fn a_repartition_that_cannot_be_prepared_and_dies_anywhere_ends() {
    die_everywhere(CHANGES_ALL.with(Trouble::Flush));
}

#[test]
fn a_repartition_that_cannot_be_fenced_and_dies_anywhere_ends() {
    die_everywhere(CHANGES_ALL.with(Trouble::Stage));
}

#[test]
fn a_repartition_whose_recovery_dies_too_ends_with_every_row_once() {
    die_twice(CHANGES_ALL, CASES / 2);
    die_twice(MERGES, CASES / 3);
}

#[test]
fn an_abort_whose_recovery_dies_too_ends_with_every_row_once() {
    die_twice(CHANGES_ALL.with(Trouble::Stage), CASES / 3);
}
