//! Verbs, locks, pauses and what steps are given.

use tokio::time::timeout;

use super::*;
use crate::keys::Switch;
use crate::kv::Limits;
use crate::testing::{Fault, FaultKv};

async fn settled(kv: &Arc<dyn KvBackend>, name: &str) -> Record {
    timeout(Duration::from_secs(3600), procedures(kv).wait(&id(name))).await.expect("it settles").unwrap()
}

async fn reached(kv: &Arc<dyn KvBackend>, name: &str, reached: impl Fn(&Record) -> bool + Send) -> Record {
    timeout(Duration::from_secs(3600), procedures(kv).wait_until(&id(name), reached)).await.expect("it gets there").unwrap()
}

async fn pause(kv: &Arc<dyn KvBackend>, paused: bool) {
    let key = Switch::ProceduresPaused.key();
    let op = if paused { Op::put(key, "on") } else { Op::delete(key) };
    kv.txn(Txn::new().then([op])).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_same_submit_is_known_and_another_under_its_id_is_refused() {
    let kv = memory();
    let client = procedures(&kv);
    assert_eq!(client.submit(&id("p"), &Sample::new("x")).await.unwrap(), Submitted::New);
    assert_eq!(client.submit(&id("p"), &Sample::new("x")).await.unwrap(), Submitted::Known);
    let refused = client.submit(&id("p"), &Sample::new("y")).await.unwrap_err();
    assert!(matches!(&refused, ProcedureError::IdInUse { kind, .. } if kind == KIND), "{refused}");
    let runner = start(Arc::clone(&kv), 1).await;
    assert_eq!(settled(&kv, "p").await.phase, Phase::Done);
    assert_eq!(client.submit(&id("p"), &Sample::new("x")).await.unwrap(), Submitted::Known, "also when it is over");
    assert!(matches!(client.procedure(&id("q")).await, Err(ProcedureError::NotFound { .. })));
    runner.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_submit_whose_answer_is_lost_is_stored_once() {
    for fault in [Fault::LoseAnswer, Fault::Delay] {
        let kv = memory();
        let handle = FaultKv::once(Arc::clone(&kv), 0, fault);
        let client = Procedures::new(handle, counting_env(5));
        client.submit(&id("p"), &Sample::new("x")).await.unwrap();
        assert_eq!(client.list(None, 10).await.unwrap().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_state_that_is_too_large_is_refused_at_submit() {
    let kv: Arc<dyn KvBackend> = Arc::new(MemoryBackend::with_limits(Limits { value_bytes_max: 300, ..Limits::EMBEDDED }));
    let refused = procedures(&kv).submit(&id("p"), &Sample::new(&"x".repeat(400))).await.unwrap_err();
    assert_eq!(refused.class(), tessera_manifest::error::ErrorClass::Invalid, "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_paused_runner_starts_no_step_until_it_is_resumed() {
    let kv = memory();
    pause(&kv, true).await;
    procedures(&kv).submit(&id("p"), &Sample::new("x")).await.unwrap();
    let runner = start(Arc::clone(&kv), 1).await;
    tessera_manifest::env::sleep(Duration::from_secs(60)).await;
    assert_eq!(runner.state(), RunnerState::Paused);
    assert_eq!(procedures(&kv).procedure(&id("p")).await.unwrap().phase, Phase::Queued);
    pause(&kv, false).await;
    assert_eq!(settled(&kv, "p").await.phase, Phase::Done);
    pause(&kv, true).await;
    procedures(&kv).submit(&id("q"), &Sample::new("y")).await.unwrap();
    tessera_manifest::env::sleep(Duration::from_secs(60)).await;
    assert_eq!(procedures(&kv).procedure(&id("q")).await.unwrap().steps, 0);
    runner.close().await;
}

/// Waits at its first step for a key, counts how many wait at once, and then is done.
#[derive(Debug)]
pub(super) struct Gate(pub(super) Locks);

#[async_trait]
impl Procedure for Gate {
    fn kind(&self) -> &'static str {
        "gate"
    }

    fn state(&self) -> State {
        State { version: 1, bytes: Bytes::new() }
    }

    fn locks(&self) -> Locks {
        self.0.clone()
    }

    fn past_no_return(&self) -> bool {
        false
    }

    async fn step(&mut self, context: &StepContext) -> Result<Status, StepError> {
        let open = context.kv().get(&format!("open/{}", context.id()).into()).await?.entry.is_some();
        Ok(if open { Status::done() } else { Status::Later(Duration::from_millis(20)) })
    }

    async fn rollback(&mut self, _context: &StepContext) -> Result<Status, StepError> {
        Ok(Status::done())
    }
}

async fn start_gates(kv: &Arc<dyn KvBackend>, process: u64) -> Runner {
    let registry = registry().with("gate", |_| Ok(Box::new(Gate(Locks::none()))));
    Runner::start(Arc::clone(kv), counting_env(process), registry, RunnerOptions::DEFAULT).await.unwrap()
}

async fn phases(kv: &Arc<dyn KvBackend>) -> String {
    let records = procedures(kv).list(None, 100).await.unwrap();
    records.iter().map(|record| format!("{} {}", record.id, record.phase)).collect::<Vec<_>>().join(", ")
}

#[tokio::test(start_paused = true)]
async fn locks_are_kept_over_restarts_and_given_in_order() {
    let kv = memory();
    let (x, s) = (|| Gate(Locks::none().exclusive("t")), || Gate(Locks::none().shared("t")));
    for (name, gate) in [("a", s()), ("b", s()), ("c", x()), ("d", s())] {
        procedures(&kv).submit(&id(name), &gate).await.unwrap();
    }
    let soon = Duration::from_secs(5);
    let mut runner = start_gates(&kv, 1).await;
    tessera_manifest::env::sleep(soon).await;
    let open = async |name: &str| {
        kv.txn(Txn::new().then([Op::put(format!("open/{name}"), "")])).await.unwrap();
        tessera_manifest::env::sleep(soon).await;
    };
    assert_eq!(phases(&kv).await, "a running, b running, c queued, d queued");
    open("a").await;
    drop(runner);
    runner = start_gates(&kv, 2).await;
    tessera_manifest::env::sleep(soon).await;
    assert_eq!(phases(&kv).await, "a done, b running, c queued, d queued");
    open("b").await;
    assert_eq!(phases(&kv).await, "a done, b done, c running, d queued");
    drop(runner);
    runner = start_gates(&kv, 3).await;
    open("d").await;
    assert_eq!(phases(&kv).await, "a done, b done, c running, d queued");
    open("c").await;
    assert_eq!(phases(&kv).await, "a done, b done, c done, d done");
    runner.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_cancel_before_the_point_of_no_return_undoes_and_one_after_it_is_refused() {
    // Each time the runner is stopped at another request; then somebody cancels; then it goes on.
    let (mut cancelled, mut refused) = (0, 0);
    for at in 0..40 {
        let kv = memory();
        procedures(&kv).submit(&id("p"), &Sample::new("x")).await.unwrap();
        let process = FaultKv::once(Arc::clone(&kv), at, Fault::FreezeBefore);
        let runner = tessera_manifest::env::spawn(start(process.clone(), 1));
        if timeout(Duration::from_secs(60), process.down()).await.is_err() {
            break;
        }
        let answer = procedures(&kv).cancel(&id("p")).await;
        process.thaw();
        let record = settled(&kv, "p").await;
        match answer {
            Ok(_) => {
                assert_eq!(record.phase, Phase::Cancelled, "at request {at}");
                assert_eq!(left(&kv).await, [], "at request {at}");
                cancelled += 1;
            }
            Err(ProcedureError::Refused { reason: Refused::PastNoReturn | Refused::Over, .. }) => {
                assert_eq!(record.phase, Phase::Done, "at request {at}");
                assert_eq!(left(&kv).await.len(), 2, "at request {at}");
                refused += 1;
            }
            Err(other) => panic!("{other}"),
        }
        runner.await.unwrap().close().await;
    }
    assert!(cancelled > 3 && refused > 3, "{cancelled} {refused}");
}

#[tokio::test(start_paused = true)]
async fn an_accepted_cancel_survives_the_runner() {
    for at in 8..16 {
        let kv = memory();
        procedures(&kv).submit(&id("p"), &Sample::new("x")).await.unwrap();
        let process = FaultKv::once(Arc::clone(&kv), at, Fault::FreezeBefore);
        let runner = tessera_manifest::env::spawn(start(process.clone(), 1));
        timeout(Duration::from_secs(60), process.down()).await.expect("it falls asleep");
        let accepted = procedures(&kv).cancel(&id("p")).await.is_ok();
        drop(runner.await.unwrap());
        let next = start(Arc::clone(&kv), 2).await;
        let expected = if accepted { Phase::Cancelled } else { Phase::Done };
        assert_eq!(settled(&kv, "p").await.phase, expected, "at request {at}");
        assert!(accepted || at > 10, "at request {at}");
        next.close().await;
    }
}

/// Does what the key `how` says, and is done when there is none.
#[derive(Debug)]
pub(super) struct Flaky(pub(super) bool);

#[async_trait]
impl Procedure for Flaky {
    fn kind(&self) -> &'static str {
        "flaky"
    }

    fn state(&self) -> State {
        assert!(!self.0, "so it says");
        State { version: 1, bytes: Bytes::new() }
    }

    fn locks(&self) -> Locks {
        Locks::none().exclusive("flaky")
    }

    fn past_no_return(&self) -> bool {
        true
    }

    async fn step(&mut self, context: &StepContext) -> Result<Status, StepError> {
        let how = context.kv().get(&"how".into()).await?.entry.map(|entry| entry.value);
        match how.as_deref() {
            Some(b"panic") => panic!("so it says"),
            Some(b"state") => {
                self.0 = true;
                Ok(Status::next())
            }
            Some(b"large") => Ok(Status::Next(Commit::default().then([Op::put("large", vec![0; 2 << 20])]))),
            Some(b"twice") => Ok(Status::Next(Commit::default().then([Op::put("k", "1"), Op::put("k", "2")]))),
            Some(b"conditions") => Ok(Status::Next(Commit::default().when(Compare::Exists { key: "absent".into() }))),
            Some(b"fenced") => Err(StepError::Fenced),
            Some(b"later") => Err(StepError::retryable("not yet")),
            Some(_) => Err(StepError::fatal("no")),
            None => Ok(Status::done()),
        }
    }

    async fn rollback(&mut self, _context: &StepContext) -> Result<Status, StepError> {
        Err(StepError::fatal("never called"))
    }
}

pub(super) async fn say(kv: &Arc<dyn KvBackend>, how: Option<&str>) {
    let op = how.map_or_else(|| Op::delete("how"), |how| Op::put("how", how.to_owned()));
    kv.txn(Txn::new().then([op])).await.unwrap();
}

async fn start_flaky(kv: &Arc<dyn KvBackend>) -> Runner {
    let registry = registry().with("flaky", |_| Ok(Box::new(Flaky(false))));
    Runner::start(Arc::clone(kv), counting_env(1), registry, RunnerOptions { history_max: 3, ..RunnerOptions::DEFAULT }).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_fails_for_good_past_the_point_is_blocked_until_somebody_says_retry() {
    for (how, reason) in [("panic", "so it says"), ("state", "so it says"), ("large", "bytes"), ("twice", "twice"), ("no", "no")] {
        let kv = memory();
        say(&kv, Some(how)).await;
        let runner = start_flaky(&kv).await;
        procedures(&kv).submit(&id("p"), &Flaky(false)).await.unwrap();
        procedures(&kv).submit(&id("q"), &Sample::new("beside")).await.unwrap();
        let blocked = settled(&kv, "p").await;
        assert_eq!(blocked.phase, Phase::Blocked { direction: Direction::Forward, on: Blocked::Failed }, "{how}");
        assert!(blocked.error.as_ref().is_some_and(|error| error.contains(reason)), "{how}: {blocked:?}");
        assert_eq!(settled(&kv, "q").await.phase, Phase::Done, "others go on");
        say(&kv, None).await;
        procedures(&kv).retry(&id("p")).await.unwrap();
        assert_eq!(reached(&kv, "p", |record| record.phase.is_over()).await.phase, Phase::Done, "{how}");
        runner.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_may_succeed_later_is_tried_until_it_does() {
    for how in ["conditions", "fenced", "later"] {
        let kv = memory();
        say(&kv, Some(how)).await;
        let runner = start_flaky(&kv).await;
        procedures(&kv).submit(&id("p"), &Flaky(false)).await.unwrap();
        let tried = reached(&kv, "p", |record| record.attempts >= 20).await;
        assert!(tried.error.is_some(), "{how}");
        assert_eq!(runner.state(), RunnerState::Running, "{how}");
        say(&kv, None).await;
        // The next attempt would come in up to half a minute; `retry` makes it come at once.
        procedures(&kv).retry(&id("p")).await.unwrap();
        let done = timeout(Duration::from_secs(1), procedures(&kv).wait(&id("p"))).await.expect("at once").unwrap();
        assert_eq!((done.phase, done.error), (Phase::Done, None), "{how}");
        runner.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_loader_that_panics_blocks_only_its_own_procedures() {
    let kv = memory();
    let registry = registry().with("flaky", |_| panic!("so it says"));
    let runner = Runner::start(Arc::clone(&kv), counting_env(1), registry, RunnerOptions::DEFAULT).await.unwrap();
    procedures(&kv).submit(&id("p"), &Flaky(false)).await.unwrap();
    procedures(&kv).submit(&id("q"), &Sample::new("x")).await.unwrap();
    let blocked = reached(&kv, "p", |record| matches!(record.phase, Phase::Blocked { .. })).await;
    assert!(blocked.error.is_some_and(|error| error.contains("so it says")));
    assert_eq!(settled(&kv, "q").await.phase, Phase::Done);
    assert_eq!(runner.state(), RunnerState::Running);
    runner.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_state_that_grows_too_large_turns_the_procedure_back() {
    let mut kv = memory();
    // The smallest store that takes it at submit: the token that the first step draws does not fit any more.
    for room in (0..1000).step_by(8) {
        let limits = Limits { value_bytes_max: crate::limits::PROCEDURE_SLACK_BYTES + room, ..Limits::EMBEDDED };
        kv = Arc::new(MemoryBackend::with_limits(limits));
        if procedures(&kv).submit(&id("p"), &Sample::new("x")).await.is_ok() {
            break;
        }
    }
    let runner = start(Arc::clone(&kv), 1).await;
    let failed = settled(&kv, "p").await;
    assert_eq!(failed.phase, Phase::Failed);
    assert!(failed.error.is_some_and(|error| error.contains("bytes")));
    assert_eq!(left(&kv).await, []);
    runner.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_close_that_is_given_up_stops_the_step_under_way() {
    let kv = memory();
    procedures(&kv).submit(&id("p"), &Sample::new("x")).await.unwrap();
    let process = FaultKv::once(Arc::clone(&kv), 12, Fault::FreezeAfter);
    let runner = start(process.clone(), 1).await;
    timeout(Duration::from_secs(60), process.down()).await.expect("it falls asleep");
    assert!(timeout(Duration::from_secs(60), runner.close()).await.is_err());
    let before = everything(&kv).await;
    process.thaw();
    tessera_manifest::env::sleep(Duration::from_secs(60)).await;
    assert_eq!(everything(&kv).await, before);
}

#[tokio::test(start_paused = true)]
async fn history_is_bounded_and_the_newest_stay() {
    let kv = memory();
    let runner = start_flaky(&kv).await;
    for number in 0..8 {
        let name = format!("p{number}");
        procedures(&kv).submit(&id(&name), &Sample::new(&name)).await.unwrap();
        settled(&kv, &name).await;
    }
    tessera_manifest::env::sleep(Duration::from_secs(5)).await;
    assert_eq!(phases(&kv).await, "p5 done, p6 done, p7 done");
    runner.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_procedure_of_an_unknown_kind_or_newer_state_waits_for_a_program_that_knows_it() {
    let kv = memory();
    procedures(&kv).submit(&id("p"), &Flaky(false)).await.unwrap();
    let runner = start(Arc::clone(&kv), 1).await;
    let waiting = reached(&kv, "p", |record| matches!(record.phase, Phase::Blocked { .. })).await;
    assert!(waiting.error.is_some_and(|error| error.contains("'flaky'")));
    runner.close().await;
    let runner = start_flaky(&kv).await;
    assert_eq!(reached(&kv, "p", |record| record.phase.is_over()).await.phase, Phase::Done);
    runner.close().await;
}

#[tokio::test(start_paused = true)]
async fn while_a_record_cannot_be_read_nothing_new_gets_its_locks() {
    let kv = memory();
    let damaged: Key = "procedure/row/bad".into();
    kv.txn(Txn::new().then([Op::put(damaged.clone(), "?")])).await.unwrap();
    procedures(&kv).submit(&id("p"), &Sample::new("x")).await.unwrap();
    let runner = start(Arc::clone(&kv), 1).await;
    tessera_manifest::env::sleep(Duration::from_secs(60)).await;
    assert_eq!(procedures(&kv).procedure(&id("p")).await.unwrap().phase, Phase::Queued);
    kv.txn(Txn::new().then([Op::delete(damaged)])).await.unwrap();
    assert_eq!(settled(&kv, "p").await.phase, Phase::Done);
    runner.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_restored_backup_does_not_let_an_old_runner_write() {
    let kv = memory();
    let incarnation = crate::keys::MetaKey::IncarnationId.to_key();
    kv.txn(Txn::new().then([Op::put(incarnation.clone(), "first life")])).await.unwrap();
    let runner = start(Arc::clone(&kv), 1).await;
    // The restore brings back the key of the runner as it is now, under another incarnation.
    kv.txn(Txn::new().then([Op::put(incarnation, "second life")])).await.unwrap();
    procedures(&kv).submit(&id("p"), &Sample::new("x")).await.unwrap();
    timeout(Duration::from_secs(60), runner.ended()).await.expect("it is fenced");
    assert_eq!(procedures(&kv).procedure(&id("p")).await.unwrap().phase, Phase::Queued);
}

#[tokio::test(start_paused = true)]
async fn a_closed_runner_finishes_the_step_under_way_and_starts_no_other() {
    let kv = memory();
    procedures(&kv).submit(&id("p"), &Gate(Locks::none())).await.unwrap();
    let runner = start_gates(&kv, 1).await;
    reached(&kv, "p", |record| record.phase == Phase::Running).await;
    runner.close().await;
    kv.txn(Txn::new().then([Op::put("open/p", "")])).await.unwrap();
    let before = everything(&kv).await;
    tessera_manifest::env::sleep(Duration::from_secs(60)).await;
    assert_eq!(everything(&kv).await, before);
    let runner = start_gates(&kv, 2).await;
    assert_eq!(settled(&kv, "p").await.phase, Phase::Done);
    runner.close().await;
}
