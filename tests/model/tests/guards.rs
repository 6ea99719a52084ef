//! The worlds are sound as the design is written, and each guard is needed: taken away, it is caught by a trace.

use tessera_model::explore::{End, Limits, Outcome};
use tessera_model::guard::{Guard, Guards};
use tessera_model::scenario::{self, CI_STATES_MAX};

/// A guard, the scenario that catches its loss, and what goes wrong then.
type Caught = (Guard, &'static str, &'static str);

/// Guards that are missed as soon as they are gone.
const ALONE: &[Caught] = &[
    (Guard::GateBeforeStage, "repartition/zombie", "a scan misses a row: half old, half new"),
    (Guard::AppendsSettleBeforeStage, "write-path/fence", "a row of the base generation is staged"),
    (Guard::FlushPositionInserted, "write-path/fence", "an acknowledged row is lost at the next crash"),
    (Guard::FlushAdvances, "write-path/truncate", "a truncated row came back"),
    (Guard::FlushAdvances, "split-merge/truncate", "a deleted or truncated row came back"),
    (Guard::WalBehindBothPositions, "write-path/fence", "an acknowledged row is lost at the next crash"),
    (Guard::ReopenSettlesAppends, "write-path/reopen", "an acknowledged row is not served"),
    (Guard::TruncateWaitsForPermits, "write-path/truncate", "an acknowledged row is lost at the next crash"),
    (Guard::OpenNamesEveryLog, "take-over/three-nodes", "an acknowledged row is lost by a take-over"),
    (Guard::LogSealedBeforeReplay, "take-over/three-nodes", "an acknowledged row is not served after a take-over"),
    (Guard::FinalLogSealKept, "take-over/three-nodes", "an acknowledged row is lost by a take-over"),
    (Guard::CleanSealAfterFlush, "take-over/three-nodes", "an acknowledged row is lost by a take-over"),
    (Guard::ListAfterSeal, "slot-log/two-writers", "an acknowledged record is not in the new owner's replay"),
    (Guard::ListIsConsistent, "slot-log/two-writers", "an acknowledged record is not in the new owner's replay"),
    (Guard::SealsKept, "slot-log/two-writers", "a fenced writer acknowledged a commit"),
    (Guard::OpensKept, "slot-log/silent-first", "a paused opener became the owner of an epoch that another one opened"),
    (Guard::VoidSealStays, "slot-log/three-writers", "a fenced writer acknowledged a commit"),
    (Guard::GapFilledWithSeals, "slot-log/ahead", "a fenced writer acknowledged a commit"),
    (Guard::SealsBeyondAreExempt, "slot-log/ahead-progress", STUCK),
    (Guard::GapBelowSealIsNoError, "slot-log/ahead-progress", STUCK),
    (Guard::FloorLoggedFirst, "history/damage", "a version above the floor, or a pinned one, cannot be read"),
    (Guard::TwoCheckpointsKept, "history/damage", "the region cannot be opened"),
    (Guard::CheckpointsLogged, "history/damage", "the region cannot be opened"),
    (Guard::RetentionReadsCheckpoints, "history/damage", "the region cannot be opened"),
    (Guard::PinKeepsCheckpoint, "history/time-travel", "a version above the floor, or a pinned one, cannot be read"),
    (Guard::PinNotBelowFloor, "history/time-travel", "a file of a readable version is gone"),
    (Guard::PinsCount, "history/time-travel", "a file of a readable version is gone"),
    (Guard::PinsCount, "collect/snapshot", "a file of a readable version is doomed or deleted"),
    (Guard::RetainedVersionsCount, "history/time-travel", "a file of a readable version is gone"),
    (Guard::RetainedVersionsCount, "collect/restore", "a file of a readable version is doomed or deleted"),
    (Guard::ScansHoldFloors, "history/time-travel", "a file of a readable version is gone"),
    (Guard::ScansHoldFloors, "collect/snapshot", "a file vanished under a scan"),
    (Guard::RestoreOnlyRetained, "collect/restore", "a referenced file is doomed or deleted"),
    (Guard::StageBeforeDecision, "repartition/late", "a row is there twice"),
    (Guard::StageNamesBase, "repartition/races", STUCK),
    (Guard::StageNamesBase, "repartition/writes", "an acknowledged row is lost"),
    (Guard::DecisionCreatedOnce, "repartition/races", "an acknowledged row is lost"),
    (Guard::AbortPublishes, "repartition/late", STUCK),
    (Guard::AbortResolvesUnstaged, "repartition/late", STUCK),
    (Guard::AbortHasOwnGeneration, "repartition/late", STUCK),
    (Guard::AbortRetiresNewRegions, "repartition/late", STUCK),
    (Guard::RouteRevisionCompared, "groups/writes", "the routes of the other group went back"),
    (Guard::RunnerEpochCompared, "repartition/second", "routes went back to an old generation"),
    (Guard::PublishAfterEveryRemap, "repartition/late", STUCK),
    (Guard::ResolveAfterPublish, "repartition/late", STUCK),
    (Guard::PinChecksGeneration, "repartition/scan", "a scan misses a row: half old, half new"),
    (Guard::PinChecksGeneration, "groups/scan", "a scan misses a row: half old, half new"),
    (Guard::ReadSetReadAgain, "repartition/zombie", "a scan after the publish misses a row of the new generation"),
    (Guard::DecisionPerGroup, "groups/scan", STUCK),
    (Guard::ScopesOfReferences, "split-merge/truncate", "a deleted or truncated row came back"),
    (Guard::ScopeAndRuleAtFence, "split-merge/truncate", "a deleted or truncated row came back"),
    (Guard::EditNamesGeneration, "split-merge/delete", "an acknowledged row is lost"),
    (Guard::FrozenWhileStaged, "split-merge/truncate", "a deleted or truncated row came back"),
    (Guard::RemapMayListAgain, "split-merge/truncate", "a remap is refused after the decision"),
    (Guard::SequenceHasGeneration, "split-merge/delete", "a deleted or truncated row came back"),
    (Guard::TombstonesKept, "split-merge/delete", "a deleted or truncated row came back"),
    (Guard::FlushRedoneAfterResolve, "split-merge/delete", "a deleted or truncated row came back"),
    (Guard::TableLock, "dropped/undrop", "a table that was undropped counts as dropped"),
    (Guard::StageNamesSchema, "schema/alter", "the targets of a repartition have different schemas"),
    (Guard::NoChangeWhileStaged, "schema/alter", "a rule changed without a repartition"),
    (Guard::ScopeColumnKept, "schema/alter", "a rule or a scope names a column that is gone"),
    (Guard::AlterGoesForward, "schema/alter", "the targets of a repartition have different schemas"),
    (Guard::ChangeGoesForward, "schema/alter", "a schema went back"),
    (Guard::ChangeNamesGeneration, "schema/alter", "a rule changed without a repartition"),
    (Guard::RemapOfCurrentEpoch, "segments/sweep", "a segment that a committed RemapStaged names was swept"),
    (Guard::SweepOfEarlierEpochs, "segments/sweep", "a segment that a committed RemapStaged names was swept"),
    (Guard::SecondPass, "collect/restore", "a referenced file is doomed or deleted"),
    (Guard::TailsReadTwice, "collect/restore", "a referenced file is doomed or deleted"),
    (Guard::NothingStagedInMark, "collect/restore", "a referenced file is doomed or deleted"),
    (Guard::RegionSetReadTwice, "collect/restore", "a referenced file is doomed or deleted"),
    (Guard::RetiredStayInRegionSet, "collect/mark", "a file of a readable version is doomed or deleted"),
    (Guard::SweepSparesRemoved, "collect/sweep", "a file of a readable version is doomed or deleted"),
    (Guard::AddedFilesOfCurrentEpoch, "collect/sweep", "a sweep deleted a listed file"),
    (Guard::VerdictCreatedOnce, "dropped/undrop", "a table that was undropped counts as dropped"),
    (Guard::PurgeAfterVerdict, "dropped/undrop", "files are deleted without a verdict to purge"),
    (Guard::MarkerNamedInPlan, "dropped/undrop", "a table that was undropped counts as dropped"),
    (Guard::DropMarkersKept, "dropped/undrop", "a dropped table is back in the catalog, without its files"),
    (Guard::ReconcileReadsMarkers, "dropped/undrop", "a dropped table is back in the catalog, without its files"),
    (Guard::DropAfterResolve, "dropped/undrop", "a region is dropped in the middle of a repartition"),
    (Guard::BlockedGivesWay, "blocked/statements", STUCK),
    (Guard::OnlyBlockedGivesWay, "blocked/statements", "a step of a repartition runs beside another statement"),
    (Guard::LockHandedOver, "blocked/statements", "an alteration begins in the middle of a repartition"),
    (Guard::TakeOverAfterLastStep, "blocked/statements", "a step of a repartition runs beside another statement"),
    (Guard::SupersededIsOver, "blocked/statements", "two statements hold the lock of a table"),
    (Guard::UndropGoesOn, "blocked/statements", "an alteration begins in the middle of a repartition"),
];

/// Two guards that stand in for each other in a scenario: each may go alone, both may not.
const PAIRS: &[(Guard, Guard, &str, &str)] =
    &[(Guard::DoomChecked, Guard::RestoreOnlyRetained, "collect/restore-origin", "a referenced file is doomed or deleted")];

/// Guards that back up another one: they may go alone, and what the other one's loss does without them is another thing.
const BACKUPS: &[(Guard, Guard, &str, &str)] =
    &[(Guard::DropHeedsVerdict, Guard::TableLock, "dropped/undrop", "a table that was undropped is not in the catalog")];

const STUCK: &str = "stuck: nobody can finish from here";

fn explore(path: &str, without: &[Guard]) -> Outcome {
    let scenario = scenario::find(path).unwrap_or_else(|| panic!("there is no scenario {path}"));
    scenario.run(Guards::without(without), Limits { states_max: CI_STATES_MAX }, &mut |_| ())
}

#[track_caller]
fn expect_sound(path: &str, without: &[Guard]) {
    let outcome = explore(path, without);
    assert!(matches!(outcome.end, End::Exhausted), "{path} without {without:?}: {} states, {}", outcome.states, shown(&outcome));
}

fn shown(outcome: &Outcome) -> String {
    outcome.trace().map_or_else(|| "capped".to_owned(), ToString::to_string)
}

/// Checks the rows of [`ALONE`] whose scenario's world is `world`; their traces, to be read.
#[track_caller]
fn expect_caught(world: &str) -> Vec<String> {
    let mut traces = Vec::new();
    for (guard, path, what) in ALONE.iter().filter(|(_, path, _)| path.split('/').next() == Some(world)) {
        let outcome = explore(path, &[*guard]);
        let trace = outcome.trace().unwrap_or_else(|| panic!("{path} does not miss {guard} in {} states", outcome.states));
        assert_eq!(trace.what, *what, "{path} without {guard}: {trace}");
        assert!(!trace.steps.is_empty(), "{path} without {guard} is broken from the start");
        traces.push(format!("{path} without {guard}: {trace}"));
    }
    assert!(!traces.is_empty(), "no guard of {world}");
    traces
}

#[track_caller]
fn expect_all_sound(world: &str) {
    let scenarios: Vec<_> = scenario::all().into_iter().filter(|scenario| scenario.world == world && scenario.for_ci).collect();
    assert!(!scenarios.is_empty(), "no scenario of {world}");
    for scenario in scenarios {
        expect_sound(&scenario.path(), &[]);
    }
}

macro_rules! worlds {
    ($($module:ident $world:literal)*) => {
        $(mod $module {
            #[test]
            fn nothing_goes_wrong_as_the_design_is_written() {
                super::expect_all_sound($world);
            }

            #[test]
            fn every_guard_is_missed() {
                println!("{}", super::expect_caught($world).join("\n"));
            }
        })*

        const WORLDS: &[&str] = &[$($world,)*];
    };
}

worlds! {
    write_path "write-path"
    take_over "take-over"
    slot_log "slot-log"
    history "history"
    repartition "repartition"
    groups "groups"
    split_merge "split-merge"
    schema "schema"
    segments "segments"
    collect "collect"
    dropped "dropped"
    blocked "blocked"
}

#[test]
fn every_world_is_tested() {
    for scenario in scenario::all() {
        assert!(WORLDS.contains(&scenario.world), "{scenario:?}");
    }
}

#[test]
fn every_guard_has_a_test() {
    for guard in Guard::ALL {
        let alone = ALONE.iter().any(|(tested, ..)| tested == guard);
        let paired = PAIRS.iter().chain(BACKUPS).any(|(tested, ..)| tested == guard);
        assert!(alone || paired, "nothing shows that {guard} is needed");
    }
}

#[test]
fn guards_that_stand_in_for_each_other_are_missed_together() {
    for (one, other, path, what) in PAIRS {
        expect_sound(path, &[*one]);
        expect_sound(path, &[*other]);
        let outcome = explore(path, &[*one, *other]);
        assert_eq!(outcome.trace().map(|trace| trace.what), Some(*what), "{path}: {}", shown(&outcome));
    }
}

#[test]
fn a_backup_is_missed_once_what_it_backs_up_is_gone() {
    for (backup, other, path, what) in BACKUPS {
        expect_sound(path, &[*backup]);
        let outcome = explore(path, &[*backup, *other]);
        assert_eq!(outcome.trace().map(|trace| trace.what), Some(*what), "{path}: {}", shown(&outcome));
    }
}

#[test]
fn the_lock_is_not_what_keeps_schemas_safe() {
    expect_sound("schema/alter", &[Guard::TableLock]);
}

#[test]
fn the_route_revision_is_needed_as_soon_as_there_are_two_groups() {
    expect_sound("repartition/second", &[Guard::RouteRevisionCompared]);
    assert!(explore("groups/scan", &[Guard::RouteRevisionCompared]).trace().is_some());
}

#[test]
fn the_same_loss_gives_the_same_trace_in_every_run() {
    let trace = || shown(&explore("slot-log/two-writers", &[Guard::SealsKept]));
    assert_eq!(trace(), trace());
    assert!(trace().lines().count() > 3, "{}", trace());
}

#[test]
fn names_of_guards_are_read_back() {
    for guard in Guard::ALL {
        assert_eq!(guard.name().parse(), Ok(*guard));
    }
    assert!("no-guard".parse::<Guard>().is_err());
}
