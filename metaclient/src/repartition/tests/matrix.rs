//! Every disturbance at every request to the metadata and to the regions: rows, routes and regions end as they must, and
//! the procedure ends.

use tessera_manifest::env;

use super::fake::Ask;
use super::*;
use crate::kv::{KeyRange, range_all};
use crate::procedure::Fence;
use crate::testing::Fault;

/// A repartition, and how it ends when nothing goes wrong.
#[derive(Debug, Clone, Copy)]
enum Scenario {
    /// Two sources, three targets: one region is new.
    Grow,
    /// Three sources, two targets on another column: one region retires.
    Shrink,
    /// The second source cannot be fenced: decided as abort.
    Abort,
    /// The second source cannot be prepared: undone before the fence.
    Undo,
}

impl Scenario {
    async fn cluster(self) -> Cluster {
        match self {
            Self::Shrink => Cluster::with_rows(&["a < 0", "a >= 0 AND a < 10", "a >= 10"], &[0]).await,
            _ => Cluster::with_rows(&["a < 10", "a >= 10"], &[0]).await,
        }
    }

    fn request(self) -> Request {
        match self {
            Self::Shrink => Request::PartitionOn { columns: vec![ColumnId(1)], rules: rules_of(&["b < 5", "b >= 5"]) },
            _ => Request::Repartition {
                from: rules_of(&["a < 10", "a >= 10"]),
                into: rules_of(&["a < 0", "a >= 0 AND a < 20", "a >= 20"]),
                columns: None,
            },
        }
    }

    fn port(self, cluster: &Cluster, process: &Arc<FaultKv>) -> FakePort {
        let at = match self {
            Self::Grow | Self::Shrink => return cluster.port(process),
            Self::Abort => "stage",
            Self::Undo => "prepare",
        };
        let refuse =
            move |ask: &Ask| (ask.name() == at && ask.region() == Some(region(1))).then(|| PortError::fatal("the disk is on fire"));
        cluster.port(process).refusing(refuse)
    }

    async fn check(self, cluster: &Cluster, id: &ProcedureId, what: &str) {
        let record = cluster.settled(id).await;
        cluster.check(what).await;
        let view = cluster.view().await;
        let (phase, regions) = match self {
            Self::Grow => (Phase::Done, 3),
            Self::Shrink | Self::Abort => (Phase::Done, 2),
            Self::Undo => (Phase::Failed, 2),
        };
        assert_eq!((record.phase, view.write.len()), (phase, regions), "{what}: {record:?}");
        if phase == Phase::Done {
            let committed = outcome(&record).groups[0].committed;
            assert_eq!(committed, !matches!(self, Self::Abort), "{what}: {record:?}");
        }
        let decisions = cluster.world.inner().decisions.len();
        assert_eq!(decisions, 1, "{what}: one decision");
    }
}

/// Which request is disturbed.
#[derive(Debug, Clone, Copy)]
enum Place {
    Kv(u64),
    Port(u64),
}

struct Disturbed {
    cluster: Cluster,
    id: ProcedureId,
    process: Arc<FaultKv>,
    port: Arc<FakePort>,
}

impl Disturbed {
    async fn new(scenario: Scenario, place: Option<(Place, Fault)>) -> Self {
        let cluster = scenario.cluster().await;
        let id = cluster.submit("p", scenario.request(), Options::DEFAULT).await;
        let process = match place {
            Some((Place::Kv(at), fault)) => FaultKv::once(Arc::clone(&cluster.kv), at, fault),
            _ => cluster.sound(),
        };
        let port = scenario.port(&cluster, &process);
        let port = match place {
            Some((Place::Port(at), fault)) => port.with_plan(move |number| (number == at).then_some(fault)),
            _ => port,
        };
        Self { cluster, id, process, port: Arc::new(port) }
    }

    async fn start(&self) -> Result<Runner, ()> {
        let registry = Registry::new().with(KIND, Tools::new(Arc::clone(&self.port) as _).loader());
        let kv: Arc<dyn KvBackend> = Arc::clone(&self.process) as _;
        Runner::start(kv, self.cluster.env(1), registry, RunnerOptions::DEFAULT).await.map_err(drop)
    }

    async fn successor(&self, scenario: Scenario) -> Runner {
        let process = self.cluster.sound();
        let port = Arc::new(scenario.port(&self.cluster, &process));
        self.cluster.start(&process, port, 2).await
    }
}

/// How many requests of each kind an undisturbed run makes.
async fn places(scenario: Scenario) -> Vec<Place> {
    let run = Disturbed::new(scenario, None).await;
    let runner = run.start().await.unwrap();
    scenario.check(&run.cluster, &run.id, "undisturbed").await;
    runner.close().await;
    let (kv, port) = (run.process.requests(), run.port.requests());
    assert!(kv > 12 && port > 6, "{kv} {port}");
    (0..kv).map(Place::Kv).chain((0..port).map(Place::Port)).collect()
}

async fn crashes(scenario: Scenario) {
    for place in places(scenario).await {
        for fault in Fault::CRASHES {
            let run = Disturbed::new(scenario, Some((place, fault))).await;
            let runner = tokio::select! {
                biased;
                () = run.process.down() => None,
                runner = run.start() => Some(runner.unwrap()),
            };
            tokio::select! {
                () = run.process.down() => {}
                _ = run.cluster.settled(&run.id) => {}
            }
            drop(runner);
            let next = run.successor(scenario).await;
            scenario.check(&run.cluster, &run.id, &format!("{scenario:?}: {fault:?} at {place:?}")).await;
            next.close().await;
        }
    }
}

async fn passing(scenario: Scenario) {
    for place in places(scenario).await {
        for fault in Fault::PASSING {
            let run = Disturbed::new(scenario, Some((place, fault))).await;
            let runner = loop {
                if let Ok(runner) = run.start().await {
                    break runner;
                }
            };
            scenario.check(&run.cluster, &run.id, &format!("{scenario:?}: {fault:?} at {place:?}")).await;
            runner.close().await;
        }
    }
}

/// One process stops in the middle; another ends the work, and the first wakes: at once, so that both work, or after all.
async fn sleepers(scenario: Scenario) {
    for place in places(scenario).await {
        for fault in Fault::FREEZES {
            for races in [false, true] {
                let what = format!("{scenario:?}: {fault:?} at {place:?}, races: {races}");
                let run = Arc::new(Disturbed::new(scenario, Some((place, fault))).await);
                let sleeper = {
                    let run = Arc::clone(&run);
                    env::spawn(async move { run.start().await.unwrap() })
                };
                tokio::select! {
                    () = run.process.down() => {}
                    _ = run.cluster.settled(&run.id) => {}
                }
                let next = run.successor(scenario).await;
                if !races {
                    scenario.check(&run.cluster, &run.id, &what).await;
                }
                run.process.thaw();
                let woken = sleeper.await.unwrap();
                let (old, new) = if woken.epoch() < next.epoch() { (woken, next) } else { (next, woken) };
                tokio::time::timeout(Duration::from_secs(60), old.ended()).await.expect("the older one learns that it is fenced");
                // What was under way on regions when it was fenced comes to its end.
                env::sleep(Duration::from_secs(60)).await;
                scenario.check(&run.cluster, &run.id, &what).await;
                new.close().await;
            }
        }
    }
}

/// One process stops before a request to the metadata, another claims the procedures and does nothing yet, and the first wakes:
/// it changes nothing of the metadata, not even what its step has decided on the store; only the epoch forbids it.
async fn claimed_meanwhile(scenario: Scenario) {
    let mut overtaken = 0;
    let places = places(scenario).await;
    // The first two requests are those of its own claim.
    for at in places.iter().filter_map(|place| if let Place::Kv(at) = place { Some(*at).filter(|at| *at >= 2) } else { None }) {
        let what = format!("{scenario:?}: overtaken at request {at}");
        let run = Arc::new(Disturbed::new(scenario, Some((Place::Kv(at), Fault::FreezeBefore))).await);
        let sleeper = {
            let run = Arc::clone(&run);
            env::spawn(async move { run.start().await.unwrap() })
        };
        tokio::select! {
            () = run.process.down() => {}
            _ = run.cluster.settled(&run.id) => {}
        }
        let kv = &run.cluster.kv;
        drop(Fence::claim(&**kv, &run.cluster.env(3)).await.unwrap());
        let before = range_all(&**kv, KeyRange::all()).await.unwrap();
        run.process.thaw();
        let woken = sleeper.await.unwrap();
        tokio::time::timeout(Duration::from_secs(60), woken.ended()).await.expect("it learns that it was overtaken");
        // What was under way on regions comes to its end.
        env::sleep(Duration::from_secs(60)).await;
        assert_eq!(range_all(&**kv, KeyRange::all()).await.unwrap(), before, "{what}");
        let next = run.successor(scenario).await;
        scenario.check(&run.cluster, &run.id, &what).await;
        next.close().await;
        overtaken += 1;
    }
    assert!(overtaken > 8, "{overtaken}");
}

/// One process stops in the middle, and another for which the sources are as `second` says works at the same time: either
/// may decide, and both follow what was decided first.
async fn duels(first: Scenario, second: Scenario) {
    let (mut committed, mut aborted) = (0, 0);
    for place in places(first).await {
        for fault in Fault::FREEZES {
            let what = format!("{first:?} against {second:?}: {fault:?} at {place:?}");
            let run = Arc::new(Disturbed::new(first, Some((place, fault))).await);
            let sleeper = {
                let run = Arc::clone(&run);
                env::spawn(async move { run.start().await.unwrap() })
            };
            tokio::select! {
                () = run.process.down() => {}
                _ = run.cluster.settled(&run.id) => {}
            }
            let next = run.successor(second).await;
            run.process.thaw();
            let woken = sleeper.await.unwrap();
            let record = run.cluster.settled(&run.id).await;
            env::sleep(Duration::from_secs(60)).await;
            run.cluster.check(&what).await;
            let verdicts: Vec<Verdict> = run.cluster.world.inner().decisions.values().map(|decided| decided.verdict.clone()).collect();
            let [verdict] = &verdicts[..] else { panic!("{what}: {verdicts:?}") };
            let commit = *verdict != Verdict::Abort;
            let regions = run.cluster.view().await.write.len();
            assert_eq!((record.phase, regions), (Phase::Done, if commit { 3 } else { 2 }), "{what}: {record:?}");
            assert_eq!(outcome(&record).groups[0].committed, commit, "{what}");
            if commit {
                committed += 1
            } else {
                aborted += 1
            }
            next.close().await;
            drop(woken);
        }
    }
    assert!(committed > 0 && aborted > 0, "{committed} {aborted}");
}

#[tokio::test(start_paused = true)]
async fn of_two_that_decide_differently_the_first_decides_for_both() {
    duels(Scenario::Grow, Scenario::Abort).await;
    duels(Scenario::Abort, Scenario::Grow).await;
}

macro_rules! matrix {
    ($($name:ident: $disturb:ident($scenario:ident);)*) => {
        $(#[tokio::test(start_paused = true)]
        async fn $name() {
            $disturb(Scenario::$scenario).await;
        })*
    };
}

matrix! {
    a_crash_at_any_request_of_a_growing_group_is_ended_by_the_next_runner: crashes(Grow);
    a_crash_at_any_request_of_a_shrinking_group_is_ended_by_the_next_runner: crashes(Shrink);
    a_crash_at_any_request_of_an_aborted_group_is_ended_by_the_next_runner: crashes(Abort);
    a_crash_at_any_request_of_an_undone_group_is_ended_by_the_next_runner: crashes(Undo);
    a_lost_late_or_failed_request_of_a_growing_group_changes_nothing: passing(Grow);
    a_lost_late_or_failed_request_of_a_shrinking_group_changes_nothing: passing(Shrink);
    a_lost_late_or_failed_request_of_an_aborted_group_changes_nothing: passing(Abort);
    a_lost_late_or_failed_request_of_an_undone_group_changes_nothing: passing(Undo);
    a_sleeper_of_a_growing_group_changes_nothing_when_it_wakes: sleepers(Grow);
    a_sleeper_of_a_shrinking_group_changes_nothing_when_it_wakes: sleepers(Shrink);
    a_sleeper_of_an_aborted_group_changes_nothing_when_it_wakes: sleepers(Abort);
    a_sleeper_of_an_undone_group_changes_nothing_when_it_wakes: sleepers(Undo);
    a_runner_of_a_growing_group_writes_nothing_once_another_has_claimed: claimed_meanwhile(Grow);
    a_runner_of_a_shrinking_group_writes_nothing_once_another_has_claimed: claimed_meanwhile(Shrink);
    a_runner_of_an_aborted_group_writes_nothing_once_another_has_claimed: claimed_meanwhile(Abort);
    a_runner_of_an_undone_group_writes_nothing_once_another_has_claimed: claimed_meanwhile(Undo);
}
