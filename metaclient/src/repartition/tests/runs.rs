//! Repartitions from submit to end, with a write before every request to a region.

use super::fake::Ask;
use super::*;
use crate::procedure::{Blocked, Direction, ProcedureError};
use tessera_manifest::env::sleep;

fn split() -> Request {
    Request::Split { rule: rule_of("a < 10"), into: rules_of(&["a < -20", "a >= -20 AND a < 10"]) }
}

const HALVES: [&str; 2] = ["a < 10", "a >= 10"];

/// Two groups: a split of the lower half, and one of the upper.
fn two_groups() -> Request {
    let into = rules_of(&["a < -20", "a >= -20 AND a < 10", "a >= 10 AND a < 30", "a >= 30"]);
    Request::Repartition { from: rules_of(&HALVES), into, columns: None }
}

/// Refuses `what` of a region for good.
fn never(what: &'static str, number: u32) -> impl Fn(&Ask) -> Option<PortError> + Send + Sync + 'static {
    move |ask| (ask.name() == what && ask.region() == Some(region(number))).then(|| PortError::fatal("the disk is on fire"))
}

impl Cluster {
    async fn start_refusing(&self, refuse: impl Fn(&Ask) -> Option<PortError> + Send + Sync + 'static) -> Runner {
        let process = self.sound();
        self.start(&process, Arc::new(self.port(&process).refusing(refuse)), 1).await
    }

    fn generations(&self, view: &TableView) -> Vec<u32> {
        view.write.values().map(|route| route.generation.as_u32()).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_split_moves_no_row_and_loses_none() {
    let cluster = Cluster::with_rows(&HALVES, &[0]).await;
    let record = cluster.run("p", split()).await;
    assert_eq!(record.phase, Phase::Done, "{record:?}");
    let outcome = outcome(&record);
    assert!(outcome.groups[0].committed && outcome.failure().is_none(), "{outcome:?}");
    assert_eq!(cluster.shown().await, ["0: a < -20", "1: a >= 10", "2: a < 10 AND a >= -20"]);
    let localized: u32 = cluster.world.inner().regions.values().map(|region| region.localized).sum();
    assert_eq!(localized, 2);
}

#[tokio::test(start_paused = true)]
async fn a_merge_retires_the_other_regions() {
    let cluster = Cluster::with_rows(&["a < 0", "a >= 0 AND a < 10", "a >= 10"], &[0]).await;
    let record = cluster.run("p", Request::Merge { rules: rules_of(&["a < 0", "a >= 0 AND a < 10"]) }).await;
    assert_eq!(record.phase, Phase::Done, "{record:?}");
    assert_eq!(outcome(&record).groups[0].retired.len(), 1);
    assert_eq!(cluster.view().await.write.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_table_is_partitioned_on_other_columns_and_back_to_none() {
    let cluster = Cluster::with_rows(&HALVES, &[0]).await;
    let on = |columns: &[u32], rules: &[&str]| Request::PartitionOn {
        columns: columns.iter().map(|id| ColumnId(*id)).collect(),
        rules: rules_of(rules),
    };
    cluster.run("p1", on(&[1], &["b < 3", "b >= 3 AND b < 6", "b >= 6"])).await;
    assert_eq!(cluster.view().await.info.partition_columns, [ColumnId(1)]);
    assert_eq!(cluster.view().await.write.len(), 3);
    cluster.run("p2", on(&[], &[])).await;
    assert!(cluster.view().await.info.partition_columns.is_empty());
    assert_eq!(cluster.view().await.write.len(), 1);
    cluster.run("p3", on(&[0, 1], &["a < 0", "a >= 0 AND b < 5", "a >= 0 AND b >= 5"])).await;
    assert_eq!(cluster.view().await.info.partition_columns, [ColumnId(0), ColumnId(1)]);
}

#[tokio::test(start_paused = true)]
async fn rounds_of_split_and_merge_lose_nothing_and_use_no_number_twice() {
    let cluster = Cluster::with_rows(&HALVES, &[0]).await;
    let mut numbers: BTreeSet<RegionId> = BTreeSet::new();
    for round in 0..5 {
        let record = cluster.run(&format!("split-{round}"), split()).await;
        let created = cluster.view().await.write.keys().copied().max().unwrap();
        assert!(numbers.insert(created), "{record:?}");
        cluster.run(&format!("merge-{round}"), Request::Merge { rules: rules_of(&["a < -20", "a >= -20 AND a < 10"]) }).await;
        assert_eq!(cluster.view().await.write.len(), 2);
    }
    assert_eq!(cluster.view().await.info.next_generation, generation(2 + 4 * 5));
}

#[tokio::test(start_paused = true)]
async fn the_window_is_stage_decide_and_one_transaction() {
    let cluster = Cluster::with_rows(&HALVES, &[0]).await;
    let request =
        Request::Repartition { from: rules_of(&HALVES), into: rules_of(&["a < 0", "a >= 0 AND a < 20", "a >= 20"]), columns: None };
    cluster.run("p", request).await;
    let asked = cluster.world.inner().asked.clone();
    let from = asked.iter().position(|ask| *ask == "stage").unwrap();
    assert_eq!(asked[from - 2..from + 4], ["decided", "create_staged", "stage", "stage", "decide", "drain"]);
    let metadata = cluster.world.inner().asked_after[from..from + 4].to_vec();
    assert_eq!(metadata[0], metadata[2], "nothing is read or written between stage and decision");
    assert_eq!(metadata[3] - metadata[2], 2, "one transaction admits, and the next step reads the routes: {metadata:?}");
}

#[tokio::test(start_paused = true)]
async fn writes_are_refused_only_between_stage_and_admission() {
    let cluster = Cluster::with_rows(&HALVES, &[0]).await;
    let before = cluster.ledger.book.lock().unwrap().refused;
    cluster.run("p", split()).await;
    let refused = cluster.ledger.book.lock().unwrap().refused - before;
    assert!(refused <= 1, "{refused} writes were refused: only the decide lies in the window");
}

#[tokio::test(start_paused = true)]
async fn a_failure_before_the_fence_leaves_nothing() {
    for (what, number) in [("create_staged", 2), ("prepare", 0)] {
        let cluster = Cluster::with_rows(&HALVES, &[0]).await;
        let before = cluster.shown().await;
        let id = cluster.submit("p", split(), Options::DEFAULT).await;
        let runner = cluster.start_refusing(never(what, number)).await;
        let record = cluster.settled(&id).await;
        assert_eq!(record.phase, Phase::Failed, "{what}: {record:?}");
        let error = record.error.unwrap();
        assert!(error.contains("regions 1024/0 stay as they are: region 1024/") && error.contains("the disk is on fire"), "{error}");
        runner.close().await;
        cluster.check(what).await;
        assert_eq!(cluster.shown().await, before);
        let view = cluster.view().await;
        assert_eq!(cluster.generations(&view), [1, 1], "no source was touched");
        assert!(!cluster.world.inner().asked.contains(&"stage"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_dry_run_is_found_before_the_fence() {
    let cluster = Cluster::with_rows(&HALVES, &[0]).await;
    let id = cluster.submit("p", split(), Options::DEFAULT).await;
    let runner = cluster.start_refusing(|ask| (ask.name() == "dry_run").then(|| PortError::fatal("manifest is damaged"))).await;
    let record = cluster.settled(&id).await;
    assert_eq!(record.phase, Phase::Failed, "{record:?}");
    assert!(record.error.unwrap().contains("manifest is damaged"));
    runner.close().await;
    cluster.check("dry run").await;
}

#[tokio::test(start_paused = true)]
async fn a_source_that_cannot_be_fenced_aborts_the_group() {
    let cluster = Cluster::with_rows(&HALVES, &[0]).await;
    let request =
        Request::Repartition { from: rules_of(&HALVES), into: rules_of(&["a < 0", "a >= 0 AND a < 20", "a >= 20"]), columns: None };
    let before = cluster.shown().await;
    let id = cluster.submit("p", request, Options::DEFAULT).await;
    let runner = cluster.start_refusing(never("stage", 1)).await;
    let record = cluster.settled(&id).await;
    assert_eq!(record.phase, Phase::Done, "{record:?}");
    let outcome = outcome(&record);
    let [group] = &outcome.groups[..] else { panic!("{outcome:?}") };
    let cause = group.cause.clone().unwrap();
    assert_eq!((group.committed, cause.region, &*cause.message), (false, Some(region(1)), "region 1024/1: the disk is on fire"));
    runner.close().await;
    cluster.check("abort").await;
    assert_eq!(cluster.shown().await, before);
    let view = cluster.view().await;
    assert_eq!(cluster.generations(&view), [3, 3], "both are in the generation of the abort, so that no late stage fences one");
    assert!(cluster.world.inner().asked.contains(&"restart"), "the region that failed is opened anew");
}

#[tokio::test(start_paused = true)]
async fn a_source_that_does_not_answer_aborts_the_group_in_time() {
    let cluster = Cluster::with_rows(&HALVES, &[0]).await;
    let id = cluster.submit("p", split(), Options::DEFAULT).await;
    let process = cluster.sound();
    let port = cluster.port(&process).hanging(|ask| ask.name() == "stage");
    let runner = cluster.start(&process, Arc::new(port), 1).await;
    let record = cluster.settled(&id).await;
    let outcome = outcome(&record);
    assert_eq!(outcome.groups[0].cause.as_ref().unwrap().message, "its sources were not fenced within 10 s");
    runner.close().await;
    cluster.check("hanging").await;
}

#[tokio::test(start_paused = true)]
async fn groups_succeed_and_fail_alone() {
    for (what, number) in [("prepare", 0), ("stage", 0), ("stage", 1), ("create_staged", 3)] {
        let cluster = Cluster::with_rows(&HALVES, &[0]).await;
        let id = cluster.submit("p", two_groups(), Options::DEFAULT).await;
        let runner = cluster.start_refusing(never(what, number)).await;
        let record = cluster.settled(&id).await;
        assert_eq!(record.phase, Phase::Done, "{what} {number}: {record:?}");
        let outcome = outcome(&record);
        let committed: Vec<bool> = outcome.groups.iter().map(|group| group.committed).collect();
        let first_fails = matches!(number, 0);
        assert_eq!(committed, [!first_fails, first_fails], "{what} {number}: {outcome:?}");
        assert!(outcome.failure().unwrap().contains("the disk is on fire"));
        runner.close().await;
        cluster.check(what).await;
        assert_eq!(cluster.view().await.write.len(), 3, "the rules of the other group are in the table");
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_that_cannot_go_on_blocks_with_its_reason_after_the_others_are_done() {
    let cluster = Cluster::with_rows(&HALVES, &[0]).await;
    let id = cluster.submit("p", two_groups(), Options::DEFAULT).await;
    let runner = cluster.start_refusing(never("drain", 0)).await;
    let record = cluster.settled(&id).await;
    assert_eq!(record.phase, Phase::Blocked { direction: Direction::Forward, on: Blocked::Failed }, "{record:?}");
    assert_eq!(record.error.as_deref(), Some("region 1024/0: the disk is on fire"));
    let data = Data::from_state(&record.state).unwrap();
    assert_eq!(data.groups.iter().map(|group| group.step).collect::<Vec<_>>(), [GroupStep::Drain, GroupStep::Done]);
    let refused = cluster.procedures().cancel(&id).await.unwrap_err();
    assert!(matches!(refused, ProcedureError::Refused { .. }));
    runner.close().await;
    assert!(cluster.ledger.write_one().await, "writes go on under the new rules");
    // The disk was exchanged.
    let process = cluster.sound();
    let runner = cluster.start(&process, Arc::new(cluster.port(&process)), 2).await;
    cluster.procedures().retry(&id).await.unwrap();
    let record = cluster.settled(&id).await;
    assert_eq!(record.phase, Phase::Done, "{record:?}");
    runner.close().await;
    cluster.check("after the retry").await;
}

#[tokio::test(start_paused = true)]
async fn a_group_whose_cause_is_gone_does_not_wait_for_one_that_stays_blocked() {
    for first in [0, 1] {
        let cluster = Cluster::with_rows(&HALVES, &[0]).await;
        let id = cluster.submit("p", two_groups(), Options::DEFAULT).await;
        let runner = cluster.start_refusing(|ask| (ask.name() == "drain").then(|| PortError::fatal("the disk is on fire"))).await;
        let record = cluster.settled(&id).await;
        assert!(record.phase.is_blocked(), "{record:?}");
        assert_eq!(record.error.as_deref(), Some("region 1024/0: the disk is on fire; region 1024/1: the disk is on fire"));
        runner.close().await;
        // One of the two disks is exchanged, then the other.
        let runner = cluster.start_refusing(never("drain", first)).await;
        cluster.procedures().retry(&id).await.unwrap();
        let record = cluster.settled(&id).await;
        assert_eq!(record.error, Some(format!("region 1024/{first}: the disk is on fire")));
        let committed = Data::from_state(&record.state).unwrap().groups.iter().filter(|group| group.step == GroupStep::Done).count();
        assert_eq!(committed, 1, "{first}");
        runner.close().await;
        let runner = cluster.start_refusing(|_| None).await;
        cluster.procedures().retry(&id).await.unwrap();
        assert_eq!(cluster.settled(&id).await.phase, Phase::Done);
        runner.close().await;
        cluster.check("both disks").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_that_is_tried_again_after_its_decision_does_not_hold_up_the_others() {
    let cluster = Cluster::with_rows(&HALVES, &[0]).await;
    let id = cluster.submit("p", two_groups(), Options::DEFAULT).await;
    let busy = |ask: &Ask| (ask.name() == "drain" && ask.region() == Some(region(0))).then(|| PortError::retryable("the store is slow"));
    let runner = cluster.start_refusing(busy).await;
    let step_of = async |at: usize| {
        Data::from_state(&cluster.procedures().procedure(&id).await.unwrap().state).unwrap().groups.get(at).map(|group| group.step)
    };
    while step_of(1).await != Some(GroupStep::Done) {
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(step_of(0).await, Some(GroupStep::Drain));
    let record = cluster.procedures().procedure(&id).await.unwrap();
    assert_eq!(record.phase, Phase::Running, "{record:?}");
    runner.close().await;
    let runner = cluster.start_refusing(|_| None).await;
    assert_eq!(cluster.settled(&id).await.phase, Phase::Done);
    runner.close().await;
    cluster.check("a slow store").await;
}

#[tokio::test(start_paused = true)]
async fn a_decision_that_cannot_be_read_blocks_its_group_and_not_the_others() {
    let cluster = Cluster::with_rows(&HALVES, &[0]).await;
    let id = cluster.submit("p", two_groups(), Options::DEFAULT).await;
    let asked = Mutex::new(0);
    let damaged = move |ask: &Ask| {
        let first = ask.name() == "decided" && {
            let mut asked = asked.lock().unwrap();
            *asked += 1;
            // That of the first group is asked for first, and again when it is tried once more.
            *asked != 2
        };
        first.then(|| PortError::fatal("the decision is damaged"))
    };
    let runner = cluster.start_refusing(damaged).await;
    let record = cluster.settled(&id).await;
    assert!(record.phase.is_blocked(), "{record:?}");
    assert_eq!(record.error.as_deref(), Some("the decision is damaged"));
    let steps: Vec<GroupStep> = Data::from_state(&record.state).unwrap().groups.iter().map(|group| group.step).collect();
    assert_eq!(steps, [GroupStep::Fence, GroupStep::Done]);
    runner.close().await;
    let runner = cluster.start_refusing(|_| None).await;
    cluster.procedures().retry(&id).await.unwrap();
    assert_eq!(cluster.settled(&id).await.phase, Phase::Done);
    runner.close().await;
    cluster.check("the decision was mended").await;
}

#[tokio::test(start_paused = true)]
async fn without_localizing_no_compaction_is_asked_for() {
    let cluster = Cluster::with_rows(&HALVES, &[0]).await;
    let id = cluster.submit("p", split(), Options { localize: false, ..Options::DEFAULT }).await;
    let runner = cluster.start_refusing(|_| None).await;
    assert_eq!(cluster.settled(&id).await.phase, Phase::Done);
    runner.close().await;
    assert!(cluster.world.inner().regions.values().all(|region| region.localized == 0));
}

#[tokio::test(start_paused = true)]
async fn a_group_that_the_store_cannot_publish_at_once_is_refused_before_anything_is_done() {
    for (limits, named) in [
        (Limits { txn_ops_max: 12, ..Limits::EMBEDDED }, "--max-txn-ops"),
        (Limits { txn_bytes_max: 12_000, ..Limits::EMBEDDED }, "--max-request-bytes"),
    ] {
        let cluster = Cluster::on(Arc::new(MemoryBackend::with_limits(limits)), &HALVES, &[0]).await;
        // One of the new rules is across the old bound, so that all regions are one group.
        let bounds: Vec<String> = (0..12).map(|at| format!("a >= {} AND a < {}", at * 2 + 1, at * 2 + 3)).collect();
        let rules: Vec<&str> = bounds.iter().map(String::as_str).chain(["a < 1", "a >= 25"]).collect();
        let all = Request::Repartition { from: rules_of(&HALVES), into: rules_of(&rules), columns: None };
        let before = cluster.shown().await;
        let id = cluster.submit("p", all, Options::DEFAULT).await;
        let runner = cluster.start_refusing(|_| None).await;
        let record = cluster.settled(&id).await;
        assert_eq!(record.phase, Phase::Failed, "{record:?}");
        assert!(record.error.as_deref().unwrap().contains(named), "{record:?}");
        runner.close().await;
        assert_eq!(cluster.shown().await, before);
        assert_eq!(cluster.view().await.info.next_generation, generation(2), "nothing was drawn");
        let asked = cluster.world.inner().asked.clone();
        assert!(asked.iter().all(|ask| *ask == "dry_run"), "{asked:?}");
    }
}

/// No route leads to a new region before writes are admitted: after a restart nobody else opens it.
#[tokio::test(start_paused = true)]
async fn new_regions_are_opened_again_right_before_the_fence() {
    let cluster = Cluster::with_rows(&HALVES, &[0]).await;
    assert_eq!(cluster.run("p", split()).await.phase, Phase::Done);
    let asked = cluster.world.inner().asked.clone();
    let first = asked.iter().position(|ask| *ask == "stage").unwrap();
    let prepared = asked.iter().position(|ask| *ask == "prepare").unwrap();
    assert!(asked[prepared..first].contains(&"create_staged"), "{asked:?}");
}

/// Whatever a record may take: it is refused by the plan, or it is done. After a decision it would be too late to find out.
#[tokio::test(start_paused = true)]
async fn a_record_that_could_outgrow_the_store_is_refused_before_anything_is_done() {
    let (mut refused, mut done) = (0, 0);
    for value_bytes_max in (9_500..30_000).step_by(500) {
        let limits = Limits { value_bytes_max, ..Limits::EMBEDDED };
        let cluster = Cluster::on(Arc::new(MemoryBackend::with_limits(limits)), &HALVES, &[0]).await;
        let id = cluster.submit("p", split(), Options::DEFAULT).await;
        let runner = cluster.start_refusing(|_| None).await;
        let record = cluster.settled(&id).await;
        runner.close().await;
        if record.phase == Phase::Done {
            done += 1;
            continue;
        }
        refused += 1;
        assert_eq!(record.phase, Phase::Failed, "{value_bytes_max} bytes: {record:?}");
        assert!(record.error.as_deref().unwrap().contains("several statements"), "{record:?}");
        let asked = cluster.world.inner().asked.clone();
        assert!(asked.iter().all(|ask| *ask == "dry_run"), "{value_bytes_max} bytes: {asked:?}");
    }
    assert!(refused > 0 && done > 0, "{refused} refused, {done} done");
}

#[tokio::test(start_paused = true)]
async fn a_repartition_that_waited_is_planned_by_the_rules_that_it_finds() {
    let cluster = Cluster::with_rows(&HALVES, &[0]).await;
    let merge = Request::Merge { rules: rules_of(&["a < -20", "a >= -20 AND a < 10"]) };
    let (first, second, third) = (
        cluster.submit("p1", split(), Options::DEFAULT).await,
        cluster.submit("p2", merge.clone(), Options::DEFAULT).await,
        cluster.submit("p3", merge, Options::DEFAULT).await,
    );
    let runner = cluster.start_refusing(|_| None).await;
    assert_eq!(cluster.settled(&first).await.phase, Phase::Done);
    assert_eq!(cluster.settled(&second).await.phase, Phase::Done, "when it was submitted there was no such rule");
    let refused = cluster.settled(&third).await;
    assert_eq!(refused.phase, Phase::Failed, "its rules are gone");
    assert!(refused.error.unwrap().contains("no region of table 'public.t' has the rule a < -20; it has"));
    runner.close().await;
    cluster.check("three in a row").await;
    assert_eq!(cluster.shown().await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_cancel_before_the_fence_leaves_nothing_and_locks_are_free_again() {
    let cluster = Cluster::with_rows(&HALVES, &[0]).await;
    let id = cluster.submit("p", split(), Options::DEFAULT).await;
    let busy = |ask: &Ask| (ask.name() == "prepare").then(|| PortError::retryable("a compaction is under way"));
    let process = cluster.sound();
    let runner = cluster.start(&process, Arc::new(cluster.port(&process).refusing(busy)), 1).await;
    while !cluster.world.inner().asked.contains(&"create_staged") {
        sleep(Duration::from_millis(1)).await;
    }
    cluster.procedures().cancel(&id).await.unwrap();
    let record = cluster.settled(&id).await;
    assert_eq!(record.phase, Phase::Cancelled, "{record:?}");
    runner.close().await;
    cluster.check("cancelled").await;
    let record = cluster.run("p2", split()).await;
    assert_eq!(record.phase, Phase::Done);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_decided_in_time_is_given_up() {
    let cluster = Cluster::with_rows(&HALVES, &[0]).await;
    let options = Options { timeout: Some(Duration::from_millis(30)), localize: true };
    let busy = |ask: &Ask| (ask.name() == "prepare").then(|| PortError::retryable("a compaction is under way"));
    let id = cluster.submit("p", split(), options).await;
    let process = cluster.sound();
    let runner = cluster.start(&process, Arc::new(cluster.port(&process).refusing(busy)), 1).await;
    let record = cluster.settled(&id).await;
    assert_eq!(record.phase, Phase::Failed, "{record:?}");
    assert!(record.error.as_deref().unwrap().contains("the time that it was given is up"), "{record:?}");
    runner.close().await;
    cluster.check("timeout").await;
    assert!(!cluster.world.inner().asked.contains(&"stage"));
}

#[tokio::test(start_paused = true)]
async fn a_busy_region_is_asked_a_few_times_and_then_the_group_gives_up() {
    let cluster = Cluster::with_rows(&HALVES, &[0]).await;
    let busy = |ask: &Ask| (ask.name() == "prepare").then(|| PortError::retryable("a compaction is under way"));
    let id = cluster.submit("p", split(), Options::DEFAULT).await;
    let process = cluster.sound();
    let runner = cluster.start(&process, Arc::new(cluster.port(&process).refusing(busy)), 1).await;
    let record = cluster.settled(&id).await;
    assert_eq!(record.phase, Phase::Failed, "{record:?}");
    assert!(record.error.unwrap().contains("a compaction is under way"));
    runner.close().await;
    cluster.check("busy").await;
}

#[tokio::test(start_paused = true)]
async fn a_finished_repartition_is_taken_back_unless_its_regions_changed_since() {
    let cluster = Cluster::with_rows(&HALVES, &[0]).await;
    let record = cluster.run("p", two_groups()).await;
    let view = cluster.view().await;
    let request = inverse(&record, &view.info, &view.write_routes()).unwrap();
    cluster.run("back", request).await;
    let rules: BTreeSet<String> = cluster.shown().await.iter().map(|text| text.split_once(": ").unwrap().1.to_owned()).collect();
    assert_eq!(rules, BTreeSet::from(HALVES.map(str::to_owned)));
    let view = cluster.view().await;
    let error = inverse(&record, &view.info, &view.write_routes()).unwrap_err();
    assert!(error.to_string().contains("was repartitioned since 'p'"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_statement_that_cannot_be_planned_fails_with_the_witness() {
    let cluster = Cluster::with_rows(&HALVES, &[0]).await;
    let wrong = Request::Split { rule: rule_of("a < 10"), into: rules_of(&["a < 4", "a > 4 AND a < 10"]) };
    let record = cluster.run("p", wrong).await;
    assert_eq!(record.phase, Phase::Failed);
    assert!(record.error.unwrap().contains("a row with a = 4 has a region now"));
    assert_eq!(cluster.view().await.info.next_generation, generation(2), "nothing was drawn");
}

#[tokio::test(start_paused = true)]
async fn a_read_set_is_published_for_a_coordinator_that_is_gone() {
    let cluster = Cluster::with_rows(&HALVES, &[0]).await;
    let catalog = Catalog::on(Arc::clone(&cluster.kv));
    let sources = [region(0)];
    assert!(!catalog.publish_read_set(TABLE, generation(2), &sources).await.unwrap(), "nothing was admitted yet");
    let id = cluster.submit("p", split(), Options::DEFAULT).await;
    // It stops between admission and publication.
    let runner = cluster.start_refusing(|ask| (ask.name() == "resolve").then(|| PortError::fatal("gone"))).await;
    let record = cluster.settled(&id).await;
    assert!(matches!(record.phase, Phase::Blocked { .. }), "{record:?}");
    runner.close().await;
    assert!(catalog.publish_read_set(TABLE, generation(2), &sources).await.unwrap(), "again, with nothing to do");
    let before = cluster.view().await;
    let runner = cluster.start_refusing(|_| None).await;
    cluster.procedures().retry(&id).await.unwrap();
    assert_eq!(cluster.settled(&id).await.phase, Phase::Done);
    runner.close().await;
    cluster.check("published twice").await;
    assert_eq!(cluster.view().await.read, before.read);
}

/// Gives every new region to node 7, and remembers what it gave and took back.
#[derive(Debug, Default)]
struct Landlord {
    given: Mutex<BTreeSet<RegionId>>,
    full: bool,
}

#[async_trait::async_trait]
impl ResourceAllocator for Landlord {
    async fn allocate(&self, _: &ProcedureId, regions: &[NewRegion]) -> Result<BTreeMap<RegionId, NodeId>, PortError> {
        if self.full {
            return Err(PortError::fatal("there is no room for a region"));
        }
        self.given.lock().unwrap().extend(regions.iter().map(|new| new.region));
        Ok(regions.iter().map(|new| (new.region, NodeId(7))).collect())
    }

    async fn release(&self, _: &ProcedureId, regions: &[RegionId]) -> Result<(), PortError> {
        let mut given = self.given.lock().unwrap();
        regions.iter().for_each(|region| {
            given.remove(region);
        });
        Ok(())
    }
}

async fn run_at(cluster: &Cluster, landlord: &Arc<Landlord>, refuse: impl Fn(&Ask) -> Option<PortError> + Send + Sync + 'static) -> Record {
    let id = cluster.submit("p", two_groups(), Options::DEFAULT).await;
    let process = cluster.sound();
    let port = Arc::new(cluster.port(&process).refusing(refuse));
    let tools = Tools { port, allocator: Arc::clone(landlord) as _ };
    let registry = Registry::new().with(KIND, tools.loader());
    let runner = Runner::start(process, cluster.env(1), registry, RunnerOptions::DEFAULT).await.unwrap();
    let record = cluster.settled(&id).await;
    runner.close().await;
    cluster.check("with a landlord").await;
    record
}

#[tokio::test(start_paused = true)]
async fn new_regions_go_where_the_allocator_says_and_those_of_failed_groups_are_given_back() {
    let (cluster, landlord) = (Cluster::with_rows(&HALVES, &[0]).await, Arc::default());
    let record = run_at(&cluster, &landlord, never("stage", 0)).await;
    assert_eq!(record.phase, Phase::Done, "{record:?}");
    let view = cluster.view().await;
    let created = *view.write.keys().max().unwrap();
    assert_eq!(view.write[&created].node, NodeId(7));
    assert_eq!(*landlord.given.lock().unwrap(), BTreeSet::from([created]));
}

#[tokio::test(start_paused = true)]
async fn without_room_for_new_regions_nothing_is_done() {
    let cluster = Cluster::with_rows(&HALVES, &[0]).await;
    let landlord = Arc::new(Landlord { full: true, ..Landlord::default() });
    let record = run_at(&cluster, &landlord, |_| None).await;
    assert_eq!(record.phase, Phase::Failed);
    assert!(record.error.unwrap().contains("there is no room for a region"));
    assert!(!cluster.world.inner().asked.contains(&"create_staged"));
}

#[tokio::test(start_paused = true)]
async fn what_fails_as_a_whole_gives_everything_back() {
    let (cluster, landlord) = (Cluster::with_rows(&HALVES, &[0]).await, Arc::default());
    let busy = |ask: &Ask| (ask.name() == "prepare").then(|| PortError::fatal("no"));
    let record = run_at(&cluster, &landlord, busy).await;
    assert_eq!(record.phase, Phase::Failed);
    assert!(landlord.given.lock().unwrap().is_empty());
}
