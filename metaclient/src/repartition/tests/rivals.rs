//! Regions that another writer has taken over, and segments that are damaged: who tries again, and who does not.

use futures::FutureExt;

use super::fake::Ask;
use super::*;
use crate::procedure::{Fence, RunnerState};

const HALVES: [&str; 2] = ["a < 10", "a >= 10"];

fn grow() -> Request {
    Request::Repartition { from: rules_of(&HALVES), into: rules_of(&["a < 0", "a >= 0 AND a < 20", "a >= 20"]), columns: None }
}

fn taken_over() -> PortError {
    PortError { overtaken: true, ..PortError::retryable("region 1024/0 was taken over by another writer") }
}

fn asked(cluster: &Cluster, what: &str) -> usize {
    cluster.world.inner().asked.iter().filter(|asked| **asked == what).count()
}

#[tokio::test(start_paused = true)]
async fn the_runner_whose_claim_is_current_takes_a_region_back_and_goes_on() {
    for what in ["prepare", "stage", "drain", "apply_remap", "resolve"] {
        let cluster = Cluster::with_rows(&HALVES, &[0]).await;
        let id = cluster.submit("p", grow(), Options::DEFAULT).await;
        let (process, world) = (cluster.sound(), Arc::clone(&cluster.world));
        let refuse = move |ask: &Ask| {
            let taken = !world.inner().asked.contains(&"take_back");
            (taken && ask.name() == what && ask.region() == Some(region(0))).then(taken_over)
        };
        let runner = cluster.start(&process, Arc::new(cluster.port(&process).refusing(refuse)), 1).await;
        let record = cluster.settled(&id).await;
        assert_eq!(record.phase, Phase::Done, "{what}: {record:?}");
        assert!(outcome(&record).groups[0].committed, "{what}: {record:?}");
        assert_eq!(asked(&cluster, "take_back"), 1, "{what}");
        runner.close().await;
        cluster.check(what).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_runner_that_was_overtaken_takes_nothing_back_and_proposes_nothing() {
    for what in ["prepare", "stage", "drain", "apply_remap", "resolve"] {
        let cluster = Cluster::with_rows(&HALVES, &[0]).await;
        let id = cluster.submit("p", grow(), Options::DEFAULT).await;
        let process = cluster.sound();
        let (kv, env, claimed) = (Arc::clone(&cluster.kv), cluster.env(7), std::sync::Once::new());
        let refuse = move |ask: &Ask| {
            let here = ask.name() == what && ask.region() == Some(region(0));
            here.then(|| {
                let claim = || drop(Fence::claim(&*kv, &env).now_or_never().expect("memory answers at once").unwrap());
                claimed.call_once(claim);
                taken_over()
            })
        };
        let slow = cluster.start(&process, Arc::new(cluster.port(&process).refusing(refuse)), 1).await;
        tokio::time::timeout(Duration::from_secs(60), slow.ended()).await.expect("it learns that it was overtaken");
        assert_eq!(slow.state(), RunnerState::Fenced, "{what}");
        assert_eq!(asked(&cluster, "take_back"), 0, "{what}");
        let decided = cluster.world.inner().decisions.len();
        assert_eq!(decided, usize::from(!matches!(what, "prepare" | "stage")), "{what}: it would have decided against its successor");
        let process = cluster.sound();
        let next = cluster.start(&process, Arc::new(cluster.port(&process)), 2).await;
        let record = cluster.settled(&id).await;
        assert!(record.phase == Phase::Done && outcome(&record).groups[0].committed, "{what}: {record:?}");
        next.close().await;
        cluster.check(what).await;
    }
}

/// What is damaged on its way to the store is written anew once, for the next epoch of the target. Then somebody has to look.
#[tokio::test(start_paused = true)]
async fn segments_that_are_damaged_again_block_the_group_with_their_reason() {
    for damages in [1, usize::MAX] {
        let cluster = Cluster::with_rows(&HALVES, &[0]).await;
        let id = cluster.submit("p", grow(), Options::DEFAULT).await;
        let (process, world, met) = (cluster.sound(), Arc::clone(&cluster.world), Mutex::new(0));
        let refuse = move |ask: &Ask| {
            let Ask::ApplyRemap(target, remap) = ask else { return None };
            let epoch = world.inner().regions[target].state.version().unwrap().epoch;
            // A region reads only what was written for its epoch.
            let reads = *target == region(0) && remap.segments.iter().all(|segment| segment.file.epoch == epoch);
            let mut met = met.lock().unwrap();
            *met += usize::from(reads);
            (reads && *met <= damages).then(|| PortError::fatal("segment 7 does not have its checksum"))
        };
        let runner = cluster.start(&process, Arc::new(cluster.port(&process).refusing(refuse)), 1).await;
        let record = cluster.settled(&id).await;
        runner.close().await;
        assert_eq!(asked(&cluster, "restart"), 1, "{record:?}");
        if damages > 1 {
            assert!(record.phase.is_blocked(), "{record:?}");
            assert_eq!(record.error.as_deref(), Some("region 1024/0: segment 7 does not have its checksum"));
            let process = cluster.sound();
            let runner = cluster.start(&process, Arc::new(cluster.port(&process)), 2).await;
            cluster.procedures().retry(&id).await.unwrap();
            assert_eq!(cluster.settled(&id).await.phase, Phase::Done);
            runner.close().await;
        } else {
            assert_eq!(record.phase, Phase::Done, "{record:?}");
        }
        cluster.check("damaged").await;
    }
}

/// The values in rules are those of the types that the columns had: digits behind the point of a decimal, units of a time.
#[tokio::test(start_paused = true)]
async fn a_repartition_that_waited_while_a_column_of_its_rules_got_another_type_is_refused() {
    for (columns, refused) in [(vec!["b < 5", "b >= 5"], true), (vec!["a < 5", "a >= 5"], false)] {
        let cluster = Cluster::with_rows(&HALVES, &[0]).await;
        let named = ColumnId(u32::from(refused));
        let on = Request::PartitionOn { columns: vec![named], rules: rules_of(&columns) };
        let id = cluster.submit("p", on, Options::DEFAULT).await;
        let before = cluster.view().await.info;
        let mut columns = before.schema.columns().to_vec();
        columns[1].data_type = DataType::Decimal { precision: 20, scale: 2 };
        let schema = Schema::new(columns, before.schema.primary_key().to_vec()).unwrap();
        let after = TableInfo { schema, ..before.clone() };
        Catalog::on(Arc::clone(&cluster.kv)).alter_table(&before, &after).await.unwrap();
        let process = cluster.sound();
        let runner = cluster.start(&process, Arc::new(cluster.port(&process)), 1).await;
        let record = cluster.settled(&id).await;
        runner.close().await;
        let error = record.error.clone().unwrap_or_default();
        assert_eq!(error.contains("column 'b' was int64 when the statement was submitted and is decimal(20,2) now"), refused, "{record:?}");
        if refused {
            assert_eq!(record.phase, Phase::Failed, "{record:?}");
            assert_eq!(cluster.view().await.info.next_generation, generation(2), "nothing was drawn");
        }
    }
}
