//! Seeded runs: processes that start runners, lose requests, sleep, die and wake, while clients submit, cancel,
//! retry and pause. `TESSERA_SIM_SEEDS` says how many seeds are tried, `TESSERA_SIM_SEED` replays one of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use tessera_manifest::env::{self, sleep};
use tokio::time::timeout;

use super::*;
use crate::keys::Switch;
use crate::testing::{Fault, FaultKv, Random, seeds};

/// What the steps themselves see.
#[derive(Debug, Default)]
struct Oracle {
    /// Who is in a step, by epoch and name of the sample.
    inside: BTreeMap<(u64, String), ProcedureId>,
    /// Cancels that were accepted.
    cancelled: BTreeSet<ProcedureId>,
    stats: Stats,
}

#[derive(Debug, Default, Clone, Copy)]
struct Stats {
    steps: u64,
    takeovers: u64,
    fenced: u64,
    cancelled: u64,
    failed: u64,
    done: u64,
    retried: u64,
}

type Shared = Arc<Mutex<Oracle>>;

/// A sample whose steps take time and look left and right.
#[derive(Debug)]
struct Watched {
    sample: Sample,
    oracle: Shared,
}

impl Watched {
    fn enter(&self, context: &StepContext) -> Guard {
        let mut oracle = self.oracle.lock().unwrap();
        oracle.stats.steps += 1;
        let place = (context.epoch(), self.sample.name.clone());
        let other = oracle.inside.insert(place.clone(), context.id().clone());
        assert!(other.is_none(), "{other:?} and {} are inside {place:?} at once", context.id());
        Guard { place, oracle: Arc::clone(&self.oracle) }
    }
}

struct Guard {
    place: (u64, String),
    oracle: Shared,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.oracle.lock().unwrap().inside.remove(&self.place);
    }
}

#[async_trait]
impl Procedure for Watched {
    fn kind(&self) -> &'static str {
        self.sample.kind()
    }

    fn state(&self) -> State {
        self.sample.state()
    }

    fn locks(&self) -> Locks {
        self.sample.locks()
    }

    fn past_no_return(&self) -> bool {
        self.sample.past_no_return()
    }

    async fn step(&mut self, context: &StepContext) -> Result<Status, StepError> {
        let _inside = self.enter(context);
        sleep(Duration::from_millis(u64::try_from(context.env().nonce().0 % 40).unwrap())).await;
        if context.env().nonce().0.is_multiple_of(5) {
            context.report(Progress::of("under way", 1, 2)).await?;
        }
        self.sample.step(context).await
    }

    async fn rollback(&mut self, context: &StepContext) -> Result<Status, StepError> {
        let _inside = self.enter(context);
        sleep(Duration::from_millis(10)).await;
        self.sample.rollback(context).await
    }

    fn retry(&self) -> Retry {
        Retry { attempts_max: 6, ..self.sample.retry() }
    }
}

fn watched(oracle: &Shared) -> Registry {
    let oracle = Arc::clone(oracle);
    Registry::new().with(KIND, move |state| {
        let sample: Sample = serde_json::from_slice(&state.bytes).map_err(|error| error.to_string())?;
        Ok(Box::new(Watched { sample, oracle: Arc::clone(&oracle) }))
    })
}

/// A process that runs procedures again and again, each time through a handle that fails in its own way.
async fn process(kv: Arc<dyn KvBackend>, oracle: Shared, mut random: Random, number: u64) {
    let options = RunnerOptions { steps_parallel_max: 4, ..RunnerOptions::DEFAULT };
    for life in 0..4 {
        sleep(Duration::from_millis(random.below(1500))).await;
        let mut faults = Random::new(random.bits());
        let rate = 4 + random.below(60);
        let handle = FaultKv::new(Arc::clone(&kv), move |_| {
            let pick = faults.below(16);
            faults.chance(1, rate).then_some(match pick {
                0 => Fault::CrashBefore,
                1 => Fault::CrashAfter,
                2 | 3 => Fault::FreezeBefore,
                4 | 5 => Fault::FreezeAfter,
                6..9 => Fault::LoseAnswer,
                9..12 => Fault::Delay,
                _ => Fault::Fail,
            })
        });
        let ids = counting_env(1000 + number * 10 + life);
        let starting = Runner::start(handle.clone(), ids, watched(&oracle), options);
        let Ok(Ok(runner)) = timeout(Duration::from_secs(5), starting).await else { continue };
        oracle.lock().unwrap().stats.takeovers += 1;
        for _ in 0..random.below(5) {
            sleep(Duration::from_millis(random.below(900))).await;
            handle.thaw();
        }
        if runner.state() == RunnerState::Fenced {
            oracle.lock().unwrap().stats.fenced += 1;
        }
        if random.chance(1, 3) && !handle.is_down() {
            // It may fall asleep while it closes; then it is killed.
            let _ = timeout(Duration::from_secs(5), runner.close()).await;
        }
    }
}

async fn client(kv: Arc<dyn KvBackend>, oracle: Shared, mut random: Random, submitted: Arc<Mutex<BTreeMap<ProcedureId, Sample>>>) {
    let mut faults = Random::new(random.bits());
    let handle = FaultKv::new(Arc::clone(&kv), move |_| faults.chance(1, 10).then(|| Fault::PASSING[faults.below(3) as usize]));
    let client = Procedures::new(handle, counting_env(500));
    for number in 0..14 {
        sleep(Duration::from_millis(random.below(500))).await;
        // Few names, so that locks matter; a name that was decided cannot be booked again.
        let name = format!("n{}", random.below(6));
        let stages = [Stage::Reserve, Stage::Prepare];
        let fails_at = random.chance(1, 4).then(|| stages[random.below(2) as usize]);
        let sample = Sample { fails_at, ..Sample::new(&name) };
        let id: ProcedureId = id(&format!("p{number:02}"));
        while client.submit(&id, &sample).await.is_err() {}
        submitted.lock().unwrap().insert(id, sample);
        let victim = super::id(&format!("p{:02}", random.below(number + 1)));
        if random.chance(1, 3) && client.cancel(&victim).await.is_ok_and(|record| record.cancel_requested) {
            oracle.lock().unwrap().cancelled.insert(victim.clone());
        }
        if random.chance(1, 4) && client.retry(&victim).await.is_ok() {
            oracle.lock().unwrap().stats.retried += 1;
        }
        if random.chance(1, 8) {
            let key = Switch::ProceduresPaused.key();
            kv.txn(Txn::new().then([Op::put(key.clone(), "on")])).await.unwrap();
            sleep(Duration::from_millis(random.below(800))).await;
            kv.txn(Txn::new().then([Op::delete(key)])).await.unwrap();
        }
    }
}

/// One run, in a time of its own; what it reached.
fn simulate(seed: u64) -> Stats {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(run(seed))
}

async fn run(seed: u64) -> Stats {
    let kv = memory();
    let oracle = Shared::default();
    let submitted: Arc<Mutex<BTreeMap<ProcedureId, Sample>>> = Arc::default();
    let mut random = Random::new(seed);
    let mut tasks = Vec::new();
    for number in 0..3 {
        tasks.push(env::spawn(process(Arc::clone(&kv), Arc::clone(&oracle), Random::new(random.bits()), number)));
    }
    tasks.push(env::spawn(client(Arc::clone(&kv), Arc::clone(&oracle), Random::new(random.bits()), Arc::clone(&submitted))));
    for task in tasks {
        task.await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
    let last = Runner::start(Arc::clone(&kv), counting_env(9999), watched(&oracle), RunnerOptions::DEFAULT).await.unwrap();
    let submitted = submitted.lock().unwrap().clone();
    check(&kv, &oracle, &submitted, seed).await;
    last.close().await;
    oracle.lock().unwrap().stats
}

async fn check(kv: &Arc<dyn KvBackend>, oracle: &Shared, submitted: &BTreeMap<ProcedureId, Sample>, seed: u64) {
    let client = procedures(kv);
    let (mut done, mut holds): (BTreeMap<&str, Option<String>>, BTreeSet<&str>) = (BTreeMap::new(), BTreeSet::new());
    for (id, sample) in submitted {
        let waiting = timeout(
            Duration::from_secs(3600),
            client.wait_until(id, |record| {
                // Behind one that is blocked the others wait for ever, and rightly.
                record.phase.is_settled() || record.phase == Phase::Queued
            }),
        );
        let mut record = waiting.await.unwrap_or_else(|_| panic!("seed {seed}: {id} does not come to rest")).unwrap();
        sleep(Duration::from_secs(60)).await;
        if record.phase == Phase::Queued {
            record = client.procedure(id).await.unwrap();
        }
        let accepted = oracle.lock().unwrap().cancelled.contains(id);
        let ended = matches!(record.phase, Phase::Cancelled | Phase::Failed);
        assert!(!accepted || ended, "seed {seed}: a cancel of {id} was accepted, and it is {record:?}");
        let mut oracle = oracle.lock().unwrap();
        match record.phase {
            Phase::Done => {
                assert!(sample.fails_at.is_none(), "seed {seed}: {record:?}");
                assert!(done.insert(&sample.name, record.output).is_none(), "seed {seed}: '{}' was booked twice", sample.name);
                oracle.stats.done += 1;
            }
            Phase::Cancelled => oracle.stats.cancelled += 1,
            Phase::Failed => oracle.stats.failed += 1,
            Phase::Blocked { direction: Direction::Forward, .. } => {
                assert!(record.past_no_return && holds.insert(&sample.name), "seed {seed}: {record:?}");
            }
            Phase::Queued => {}
            other => panic!("seed {seed}: {id} is {other:?}: {record:?}"),
        }
    }
    for (id, sample) in submitted {
        let record = client.procedure(id).await.unwrap();
        let waits = record.phase == Phase::Queued;
        assert!(!waits || holds.contains(sample.name.as_str()), "seed {seed}: {id} waits for nobody: {record:?}");
    }
    let mut tokens: BTreeMap<String, String> = BTreeMap::new();
    for entry in range_all(&**kv, crate::kv::KeyRange::prefix("sample")).await.unwrap() {
        let (key, value) = (entry.key.to_string(), String::from_utf8(entry.value.to_vec()).unwrap());
        let parts: Vec<&str> = key.split('/').collect();
        match parts.as_slice() {
            ["sample-count"] => assert_eq!(value, done.len().to_string(), "seed {seed}: each decision is counted once"),
            ["sample", name, "decided"] => drop(tokens.insert((*name).to_owned(), value)),
            ["sample", name, ..] => assert!(holds.contains(name), "seed {seed}: {key} was left behind"),
            _ => panic!("seed {seed}: {key}"),
        }
    }
    for (name, output) in &done {
        assert_eq!(tokens.get(*name), output.as_ref(), "seed {seed}: the token of '{name}'");
    }
    assert_eq!(tokens.len(), done.len(), "seed {seed}: {tokens:?} {done:?}");
}

#[test]
fn no_seed_breaks_an_invariant() {
    let mut all = Stats::default();
    let seeds = seeds(60);
    let count = seeds.end - seeds.start;
    for seed in seeds {
        let Stats { steps, takeovers, fenced, cancelled, failed, done, retried } = simulate(seed);
        all.steps += steps;
        all.takeovers += takeovers;
        all.fenced += fenced;
        all.cancelled += cancelled;
        all.failed += failed;
        all.done += done;
        all.retried += retried;
    }
    println!("{count} seeds: {all:?}");
    if count > 50 {
        let Stats { steps, takeovers, fenced, cancelled, failed, done, retried } = all;
        assert!([steps, takeovers, fenced, cancelled, failed, done, retried].iter().all(|count| *count > 0), "{all:?}");
    }
}

#[test]
fn one_seed_is_one_run() {
    for seed in 0..12 {
        let (one, other) = (simulate(seed), simulate(seed));
        assert_eq!(format!("{one:?}"), format!("{other:?}"), "seed {seed}");
    }
}

#[test]
fn locks_are_not_given_on_while_a_step_is_repeated() {
    // The write of a last step comes late, while the step is tried again.
    simulate(175);
}

#[test]
fn locks_are_not_given_on_while_a_grant_has_no_answer() {
    // A grant comes late, after an older procedure has come back into the queue for the same locks.
    simulate(1522);
}
