//! Ledgers of concurrent writers against etcd while connections break and servers are killed.

use std::sync::Arc;
use std::time::Duration;

use tessera_manifest::env::{self, Env};
use tokio::sync::oneshot;

use super::proxy::Proxy;
use super::{cluster, connect, need_etcd};
use crate::conformance::etcd::Cluster;
use crate::kv::{EtcdBackend, EtcdOptions, KvBackend};
use crate::kv_tools::bench;
use crate::kv_tools::verify::{Options, Report, run};

fn options(calls: u64) -> Options {
    Options { prefix: "verify/".to_owned(), writers: 8, keys: 16, calls, duration: None, seed: 11 }
}

fn assert_clean(report: &Report) {
    println!("{report:#?}");
    assert_eq!(report.violations, 0, "{report:#?}");
    assert_eq!(report.history, report.applied + report.unknown_applied, "{report:#?}");
    assert!(report.applied > 100 && report.reads > 100, "{report:#?}");
}

fn some_ms(least: u64, most: u64) -> Duration {
    let span = u128::from(most - least);
    Duration::from_millis(least + u64::try_from(Env::system().nonce().0 % span).unwrap())
}

/// Runs the check while `disturb` runs, which is told when to stop.
async fn run_disturbed<F, D>(kv: Arc<dyn KvBackend>, options: Options, disturb: F) -> Report
where
    F: FnOnce(oneshot::Receiver<()>) -> D,
    D: Future<Output = ()> + Send + 'static,
{
    let (stop, stopped) = oneshot::channel();
    let mut disturbing = env::spawn(disturb(stopped));
    let report = tokio::select! {
        report = run(kv, options) => report.unwrap(),
        ended = &mut disturbing => panic!("the disturbance ended before it was told to: {ended:?}"),
    };
    let _ = stop.send(());
    disturbing.await.unwrap();
    report
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_keeps_its_word() {
    need_etcd!();
    let cluster = Cluster::single().await;
    let report = run(Arc::new(connect(cluster.endpoints()).await), options(4000)).await.unwrap();
    assert_clean(&report);
    assert_eq!((report.unknown, report.failed), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_word_is_broken_when_connections_are_cut_and_answers_swallowed() {
    need_etcd!();
    let cluster = Cluster::single().await;
    let proxy = Proxy::to(cluster.address(0)).await;
    let _waits_until_it_serves = connect(cluster.endpoints()).await;
    let etcd = EtcdOptions { request_timeout: Duration::from_secs(2), ..EtcdOptions::new([proxy.endpoint()]) };
    let kv = EtcdBackend::connect(&etcd).await.unwrap();
    let report = run_disturbed(Arc::new(kv), options(6000), |mut stopped| async move {
        while stopped.try_recv().is_err() {
            // Answers are lost for a moment, then the connection, and then there is none for a moment.
            env::sleep(some_ms(20, 100)).await;
            proxy.mute(true);
            env::sleep(some_ms(1, 10)).await;
            proxy.refuse(true);
            proxy.cut();
            proxy.mute(false);
            env::sleep(some_ms(1, 20)).await;
            proxy.refuse(false);
        }
    });
    let report = report.await;
    assert_clean(&report);
    assert!(report.unknown > 0 && report.unknown_applied > 0, "answers were lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_word_is_broken_when_servers_are_killed_and_paused() {
    need_etcd!();
    let mut cluster = cluster(3, &[]).await;
    let kv = connect(cluster.endpoints()).await;
    let options = Options { duration: Some(Duration::from_secs(30)), ..options(30_000) };
    let report = run_disturbed(Arc::new(kv), options, |mut stopped| async move {
        let mut round = 0;
        while stopped.try_recv().is_err() && round < 4 {
            env::sleep(some_ms(300, 1500)).await;
            let node = super::suite::leader(&cluster).await;
            if round % 2 == 0 {
                cluster.kill(node);
                env::sleep(some_ms(500, 2500)).await;
                cluster.restart(node).await;
            } else {
                // It wakes and believes for a moment that it still leads.
                cluster.set_paused(node, true);
                env::sleep(some_ms(2500, 4000)).await;
                cluster.set_paused(node, false);
            }
            round += 1;
        }
        let _ = stopped.await;
    });
    assert_clean(&report.await);
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_is_measured_with_its_raw_client_in_the_same_run() {
    need_etcd!();
    let cluster = Cluster::single().await;
    let options = bench::Options { clients: vec![1, 16], calls: 200, list_keys: 50, watchers: 4, ..bench::Options::default() };
    let mut rows = bench::bench(Arc::new(connect(cluster.endpoints()).await), &options).await.unwrap();
    rows.extend(bench::raw_etcd(&cluster.endpoints(), &options).await.unwrap());
    for row in &rows {
        println!(
            "{:12} {:6} {:3} clients {:9.0}/s p50 {:8.0} us p99 {:8.0} us",
            row.of, row.what, row.clients, row.qps, row.p50_us, row.p99_us
        );
    }
    assert_eq!(rows.len(), 11 + 6);
}
