//! Crashes before and after each operation of store and log, under concurrent writes, for commits and aborts, and for
//! resumers who want the other thing.

use super::table::*;
use crate::compaction::Strategy;
use crate::engine::Engine;
use crate::testing::{Crash, Disk, every_crash, some_crashes};

/// What outlives the processes of one run.
struct World {
    disk: Disk,
    kv: Kv,
    promises: Promises,
    plan: Plan,
}

type Shape = (&'static [&'static str], &'static [u32], &'static [(Option<u32>, &'static str)]);

const SPLIT: Shape = (&[""], &[0], &[(Some(0), "k < 5"), (None, "k >= 5")]);
const MERGE: Shape = (&["k < 5", "k >= 5"], &[0, 1], &[(Some(1), "")]);
const N_TO_M: Shape = (&["k < 3", "k >= 3"], &[0, 1], &[(Some(1), "k < 6"), (None, "k >= 6")]);

impl World {
    /// A table with rows in files, in memtables and in the log.
    fn new((rules, sources, targets): Shape) -> Self {
        let (kv, promises) = (Kv::default(), Promises::default());
        let mut disk = Disk::new();
        disk.read_set = Some(std::sync::Arc::new(kv.clone()));
        let (planned, _) = disk.run(Crash::Never, |engine| {
            let (kv, promises) = (kv.clone(), promises.clone());
            async move {
                create(&engine, &kv, rules, "last_row").await;
                for index in 0..KEYS {
                    promise(&engine, &kv, &promises, (index, 1), Some(index)).await;
                    if index == 7 {
                        for region in engine.regions() {
                            region.flush().await.unwrap();
                        }
                        promise(&engine, &kv, &promises, (6, 1), None).await;
                    }
                }
                kv.plan(sources, targets, "last_row")
            }
        });
        Self { disk, kv, promises, plan: planned.unwrap() }
    }

    /// A process that repartitions while rows are written.
    fn run(&self, crash: Crash, abort: Option<usize>) -> (Option<()>, usize) {
        let (kv, promises, plan) = (self.kv.clone(), self.promises.clone(), self.plan.clone());
        self.disk.run(crash, |engine| async move {
            open(&engine, &kv, Some(&plan)).await;
            let writes = async {
                for turn in 0..8 {
                    let index = (turn * 3) % KEYS;
                    promise(&engine, &kv, &promises, (index, 2), Some(100 + turn)).await;
                    promise(&engine, &kv, &promises, (index, 1), (turn % 2 == 0).then_some(turn)).await;
                    tokio::task::yield_now().await;
                }
                for region in engine.regions() {
                    region.flush().await.unwrap();
                }
            };
            let (done, ()) = futures::join!(plan.run(&engine, &kv, abort), writes);
            done.unwrap();
        })
    }

    /// Another process goes on with it to the end, and what was promised is there.
    fn check(&self, abort: Option<usize>) {
        let resume = |engine: Engine| {
            let (kv, promises, plan) = (self.kv.clone(), self.promises.clone(), self.plan.clone());
            async move {
                open(&engine, &kv, Some(&plan)).await;
                plan.run(&engine, &kv, abort).await.unwrap_or_else(|error| panic!("{}", crate::error_chain(&error)));
                plan.run(&engine, &kv, abort).await.unwrap_or_else(|error| panic!("again: {}", crate::error_chain(&error)));
                promises.check(&once(&scan(&engine, &kv).await));
                for region in engine.regions() {
                    assert_eq!(region.staging().await.unwrap(), None);
                }
                for index in 0..KEYS {
                    promise(&engine, &kv, &promises, (index, 3), Some(300 + index)).await;
                }
            }
        };
        let look = |engine: Engine| {
            let (kv, promises) = (self.kv.clone(), self.promises.clone());
            async move {
                open(&engine, &kv, None).await;
                let rows = once(&scan(&engine, &kv).await);
                promises.check(&rows);
                for region in engine.regions() {
                    region.flush().await.unwrap();
                    region.compact(Strategy::StrictWindow).await.unwrap();
                }
                assert_eq!(once(&scan(&engine, &kv).await), rows);
            }
        };
        assert!(self.disk.run(Crash::Never, resume).0.is_some());
        assert!(self.disk.run(Crash::Never, look).0.is_some());
    }
}

fn crash_everywhere(shape: Shape, first: Option<usize>, then: Option<usize>) {
    let (ended, operations) = World::new(shape).run(Crash::Never, first);
    assert!(ended.is_some() && operations > 20, "{operations}");
    for crash in every_crash(operations) {
        println!("{crash:?} of {operations}");
        let world = World::new(shape);
        world.run(crash, first);
        world.check(then);
    }
}

#[test]
fn rows_before_a_fence_survive_restarts_until_they_are_drained() {
    let world = World::new(SPLIT);
    for turn in 0..3 {
        let (kv, promises, plan) = (world.kv.clone(), world.promises.clone(), world.plan.clone());
        let (ended, _) = world.disk.run(Crash::Never, |engine| async move {
            open(&engine, &kv, None).await;
            promises.check(&once(&scan(&engine, &kv).await));
            engine.stage(plan.request(id(0))).await.unwrap();
            let state = region(&engine, 0).await.state();
            assert_eq!(state.is_drained(), Some(false), "in turn {turn} there are rows that are only in the log");
        });
        assert!(ended.is_some());
    }
    world.check(None);
}

/// The same, and another node takes the regions over and goes on.
fn crash_and_move(shape: Shape, first: Option<usize>, then: Option<usize>) {
    let (_, operations) = World::new(shape).run(Crash::Never, first);
    for crash in some_crashes(operations, 60) {
        println!("{crash:?} of {operations}");
        let mut world = World::new(shape);
        world.run(crash, first);
        world.disk = world.disk.on(2);
        world.check(then);
    }
}

#[test]
fn a_split_whose_node_is_gone_is_ended_by_another_that_reads_its_log() {
    crash_and_move(SPLIT, None, None);
}

#[test]
fn a_merge_whose_node_is_gone_is_ended_by_another_that_reads_its_log() {
    crash_and_move(MERGE, None, None);
}

#[test]
fn a_repartition_whose_node_is_gone_is_given_up_by_another_that_reads_its_log() {
    crash_and_move(N_TO_M, None, Some(0));
}

/// A repartition stops somewhere; a node takes its regions over and dies at it, and a third one, the second again or the first ends it.
#[test]
fn a_crash_in_a_take_over_of_regions_that_are_repartitioned_loses_and_doubles_nothing() {
    let (_, operations) = World::new(SPLIT).run(Crash::Never, None);
    let take_over = |world: &World, crash: Crash| {
        let (kv, plan) = (world.kv.clone(), world.plan.clone());
        world.disk.on(2).run(crash, |engine| async move { open(&engine, &kv, Some(&plan)).await })
    };
    for stopped in [operations / 4, operations / 2, operations * 3 / 4].map(Crash::After) {
        let world = World::new(SPLIT);
        world.run(stopped, None);
        let (ended, operations) = take_over(&world, Crash::Never);
        assert!(ended.is_some() && operations > 4, "{operations}");
        for (index, crash) in some_crashes(operations, 24).enumerate() {
            println!("stopped {stopped:?}, {crash:?} of {operations}");
            let mut world = World::new(SPLIT);
            world.run(stopped, None);
            take_over(&world, crash);
            world.disk = world.disk.on([3, 2, 1][index % 3]);
            world.check([None, Some(0)][index % 2]);
        }
    }
}

#[test]
fn a_crash_in_a_split_loses_and_doubles_nothing() {
    crash_everywhere(SPLIT, None, None);
}

#[test]
fn a_crash_in_a_merge_loses_and_doubles_nothing() {
    crash_everywhere(MERGE, None, None);
}

#[test]
fn a_crash_in_a_repartition_of_n_to_m_loses_and_doubles_nothing() {
    crash_everywhere(N_TO_M, None, None);
}

#[test]
fn a_crash_in_an_abort_changes_nothing() {
    crash_everywhere(N_TO_M, Some(1), Some(1));
    crash_everywhere(SPLIT, Some(3), Some(3));
}

#[test]
fn a_resumer_who_wants_the_other_thing_learns_what_was_decided() {
    crash_everywhere(N_TO_M, None, Some(1));
    crash_everywhere(SPLIT, Some(3), None);
}

#[test]
fn two_who_resume_at_the_same_time_do_the_same() {
    for abort in [None, Some(0), Some(1), Some(3)] {
        let world = World::new(N_TO_M);
        let (kv, plan) = (world.kv.clone(), world.plan.clone());
        let (both, _) = world.disk.run(Crash::Never, |engine| async move {
            open(&engine, &kv, Some(&plan)).await;
            // One of them may find that the other was faster, and is told so.
            let _: (Result<bool, _>, Result<bool, _>) = futures::join!(plan.run(&engine, &kv, None), plan.run(&engine, &kv, abort));
        });
        assert!(both.is_some());
        world.check(abort);
    }
}
