//! Every disturbance at every request of the runner: the end is that of an undisturbed run.

use tessera_manifest::env;

use super::*;
use crate::keys::MetaKey;
use crate::testing::{Fault, FaultKv};

/// Two that need the same lock, one beside them, and one that fails and is undone.
fn scenario() -> Vec<(&'static str, Sample)> {
    vec![("p1", Sample::new("x")), ("p2", Sample::new("y").failing_at(Stage::Prepare)), ("p3", Sample::new("x")), ("p4", Sample::new("z"))]
}

/// How the scenario ends, whatever happens: `p3` finds the name decided.
const ENDS: [(&str, Phase); 4] = [
    ("p1", Phase::Done),
    ("p2", Phase::Failed),
    ("p3", Phase::Blocked { direction: Direction::Forward, on: Blocked::Failed }),
    ("p4", Phase::Done),
];

async fn submitted() -> Arc<dyn KvBackend> {
    let kv = memory();
    for (name, sample) in scenario() {
        assert_eq!(procedures(&kv).submit(&id(name), &sample).await.unwrap(), Submitted::New);
    }
    kv
}

async fn settled(kv: &Arc<dyn KvBackend>) -> Vec<Record> {
    let mut records = Vec::new();
    for (name, _) in ENDS {
        let procedures = procedures(kv);
        let name = id(name);
        let waiting = procedures.wait(&name);
        records.push(tokio::time::timeout(Duration::from_secs(3600), waiting).await.expect("it settles").unwrap());
    }
    records
}

async fn check(kv: &Arc<dyn KvBackend>, what: &str) {
    for (record, (name, phase)) in settled(kv).await.iter().zip(ENDS) {
        assert_eq!((record.id.as_str(), record.phase), (name, phase), "{what}: {record:?}");
        if record.phase == Phase::Done {
            let entry = kv.get(&Sample::new(if name == "p1" { "x" } else { "z" }).key("decided")).await.unwrap().entry.unwrap();
            assert_eq!(record.output.as_deref().map(str::as_bytes), Some(&*entry.value), "{what}: one token from beginning to end");
        }
    }
    let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    let expected = [
        ("sample-count", "2"),
        ("sample/x/decided", "T"),
        ("sample/x/part/a", "T"),
        ("sample/x/part/b", "T"),
        ("sample/x/reserved", "p3"),
        ("sample/z/decided", "T"),
    ];
    assert_eq!(left(kv).await, expected.map(owned), "{what}");
}

/// How many requests the runner makes when nothing goes wrong.
async fn undisturbed() -> u64 {
    let kv = submitted().await;
    let process = FaultKv::sound(Arc::clone(&kv));
    let runner = start(process.clone(), 1).await;
    check(&kv, "undisturbed").await;
    runner.close().await;
    process.requests()
}

#[tokio::test(start_paused = true)]
async fn a_crash_at_any_request_leaves_what_the_next_runner_ends_as_if_undisturbed() {
    let requests = undisturbed().await;
    assert!(requests > 30, "{requests}");
    for at in 0..requests {
        for fault in Fault::CRASHES {
            let kv = submitted().await;
            let process = FaultKv::once(Arc::clone(&kv), at, fault);
            let starting = Runner::start(process.clone(), counting_env(1), registry(), RunnerOptions::DEFAULT);
            let runner = tokio::select! {
                runner = starting => Some(runner.unwrap()),
                () = process.down() => None,
            };
            tokio::select! {
                () = process.down() => {}
                _ = settled(&kv) => {}
            }
            drop(runner);
            let next = start(Arc::clone(&kv), 2).await;
            check(&kv, &format!("{fault:?} at request {at}")).await;
            next.close().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn two_crashes_in_a_row_change_nothing_either() {
    let requests = undisturbed().await;
    for at in 0..requests {
        let kv = submitted().await;
        for (process, at) in [(1, at), (2, requests - at), (3, at / 2)] {
            let handle = FaultKv::once(Arc::clone(&kv), at, Fault::CrashAfter);
            let run = async {
                let _runner = start(handle.clone(), process).await;
                settled(&kv).await;
            };
            tokio::select! {
                () = handle.down() => {}
                () = run => {}
            }
        }
        let next = start(Arc::clone(&kv), 4).await;
        check(&kv, &format!("crashes from request {at} on")).await;
        next.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_a_late_write_or_a_failure_at_any_request_changes_nothing() {
    let requests = undisturbed().await;
    for at in 0..requests {
        for fault in Fault::PASSING {
            let kv = submitted().await;
            let process = FaultKv::once(Arc::clone(&kv), at, fault);
            let runner = loop {
                let starting = Runner::start(process.clone(), counting_env(1), registry(), RunnerOptions::DEFAULT);
                if let Ok(runner) = starting.await {
                    break runner;
                }
            };
            check(&kv, &format!("{fault:?} at request {at}")).await;
            assert_eq!(runner.state(), RunnerState::Running);
            runner.close().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_runner_that_sleeps_at_any_request_changes_nothing_when_it_wakes() {
    let requests = undisturbed().await;
    let (mut overtaken, mut returned) = (0, 0);
    for at in 0..requests {
        for fault in Fault::FREEZES {
            let what = format!("{fault:?} at request {at}");
            let kv = submitted().await;
            let process = FaultKv::once(Arc::clone(&kv), at, fault);
            let sleeper = env::spawn(start(process.clone(), 1));
            tokio::time::timeout(Duration::from_secs(60), process.down()).await.expect("it falls asleep");
            let next = start(Arc::clone(&kv), 2).await;
            check(&kv, &what).await;
            let before = everything(&kv).await;

            process.thaw();
            let woken = sleeper.await.unwrap();
            let (old, new) = if woken.epoch() < next.epoch() { (woken, next) } else { (next, woken) };
            assert!(old.epoch() < new.epoch(), "{what}: no two claims get one epoch");
            tokio::time::timeout(Duration::from_secs(60), old.ended()).await.expect("the older one learns that it is fenced");
            assert_eq!(old.state(), RunnerState::Fenced, "{what}");
            check(&kv, &what).await;
            assert_eq!(new.state(), RunnerState::Running, "{what}");
            if new.epoch() == 2 && everything(&kv).await == before {
                overtaken += 1;
            } else {
                // It slept before it had claimed anything, and took over when it woke: only the claim is new.
                assert!(at < 2, "{what}");
                let claim = MetaKey::ProcedureRunner.to_key();
                let rest = |all: Vec<Entry>| all.into_iter().filter(|entry| entry.key != claim).collect::<Vec<_>>();
                assert_eq!(rest(everything(&kv).await.0), rest(before.0), "{what}");
                returned += 1;
            }
        }
    }
    assert!(overtaken > 60 && returned > 0, "{overtaken} {returned}");
}

/// The epoch alone decides: here nobody has touched any record since, so that every other condition of what the older runner
/// writes holds.
#[tokio::test(start_paused = true)]
async fn a_runner_writes_nothing_once_another_has_claimed_the_procedures_and_done_nothing_yet() {
    let mut overtaken = 0;
    // The first two requests are those of its own claim.
    for at in 2..undisturbed().await {
        let kv = submitted().await;
        let process = FaultKv::once(Arc::clone(&kv), at, Fault::FreezeBefore);
        let sleeper = env::spawn(start(process.clone(), 1));
        tokio::time::timeout(Duration::from_secs(60), process.down()).await.expect("it falls asleep");
        let claim = Fence::claim(&*kv, &counting_env(2)).await.unwrap();
        let before = everything(&kv).await;
        process.thaw();
        let woken = sleeper.await.unwrap();
        tokio::time::timeout(Duration::from_secs(60), woken.ended()).await.expect("it learns that it is fenced");
        assert_eq!(woken.state(), RunnerState::Fenced, "slept at request {at}");
        assert_eq!(everything(&kv).await, before, "slept at request {at}");
        let next = Runner::start_as(claim, Arc::clone(&kv), counting_env(2), registry(), RunnerOptions::DEFAULT);
        check(&kv, &format!("slept at request {at}")).await;
        next.close().await;
        overtaken += 1;
    }
    assert!(overtaken > 30, "{overtaken}");
}

#[tokio::test(start_paused = true)]
async fn of_runners_that_race_only_one_stays_and_the_end_is_the_same() {
    for process in 0..20_u64 {
        let kv = submitted().await;
        let racing: Vec<_> = (1..=4).map(|number| env::spawn(start(Arc::clone(&kv), process * 10 + number))).collect();
        let mut runners = Vec::new();
        for runner in racing {
            runners.push(runner.await.unwrap());
        }
        check(&kv, "a race").await;
        let newest = runners.iter().map(Runner::epoch).max();
        assert_eq!(newest, Some(4), "each took an epoch of its own");
        for runner in &runners {
            if Some(runner.epoch()) == newest {
                assert_eq!(runner.state(), RunnerState::Running);
            } else {
                runner.ended().await;
                assert_eq!(runner.state(), RunnerState::Fenced);
            }
        }
    }
}
