//! The key-value stores of metadata beside what lies under them: redb, and with the feature `etcd` one etcd server and
//! a cluster of three, started on loopback.
//!
//! A row is a call of a number of clients; a ratio is calls per second of ours over those of the raw peer in the same
//! run. The mirror line is 100,000 tables on redb: opening the file, and filling the mirror of all of them.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use serde_json::{Value, json};
use tessera_benches::Result;
use tessera_benches::machine::Machine;
use tessera_benches::report;
use tessera_manifest::env::Stopwatch;
use tessera_metaclient::kv::{KeyRange, KvBackend, Op, RedbBackend, Txn};
use tessera_metaclient::kv_tools::bench::{Options as Work, Row, bench, raw_redb};
use tessera_metaclient::mirror::Mirror;

/// The stores of metadata, each beside its raw peer.
#[derive(Debug, Parser)]
struct Options {
    /// Calls of each measurement.
    #[arg(long, env = "TESSERA_BENCH_CALLS", default_value_t = 2000)]
    calls: usize,
    /// Keys of the mirror.
    #[arg(long, default_value_t = 400_000)]
    mirror_keys: usize,
    /// Print one JSON object instead of a table.
    #[arg(long, env = "TESSERA_BENCH_JSON")]
    json: bool,
    /// Passed by cargo; without effect.
    #[arg(long, hide = true)]
    bench: bool,
}

/// A store's rows, and those of its peer.
type Measured = (&'static str, Vec<Row>, Vec<Row>);

fn main() -> ExitCode {
    let options = Options::parse();
    report::finish("kv", options.json, run(&options), table)
}

fn run(options: &Options) -> Result<Value> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let folder = tempfile::Builder::new().prefix("tessera-bench-kv-").tempdir_in(std::env::current_dir()?)?;
    let work = Work { calls: options.calls, ..Work::default() };
    runtime.block_on(async {
        let kv: Arc<dyn KvBackend> = Arc::new(RedbBackend::open(folder.path().join("meta.redb")).await?);
        let peer = raw_redb(&folder.path().join("raw.redb"), &work).await?;
        let mut measured: Vec<Measured> = vec![("redb", bench(kv, &work).await?, peer)];
        etcd(&work, &mut measured).await?;
        let mirror = mirror(&folder.path().join("mirror.redb"), options.mirror_keys).await?;
        let stores: Vec<Value> = measured.iter().map(|(name, ours, raw)| json!({ "store": name, "ours": ours, "raw": raw })).collect();
        let machine = Machine::read();
        Ok(json!({ "target": "kv", "machine": machine.to_json(), "stores": stores, "mirror_keys": options.mirror_keys, "mirror_s": mirror }))
    })
}

#[cfg(feature = "etcd")]
async fn etcd(work: &Work, measured: &mut Vec<Measured>) -> Result<()> {
    use tessera_metaclient::conformance::etcd::{Cluster, ClusterOptions};
    use tessera_metaclient::kv::{EtcdBackend, EtcdOptions};
    use tessera_metaclient::kv_tools::bench::raw_etcd;

    for (name, nodes) in [("etcd, one server", 1), ("etcd, three servers", 3)] {
        let cluster = Cluster::start(ClusterOptions { nodes, ..ClusterOptions::default() }).await;
        let kv: Arc<dyn KvBackend> = Arc::new(EtcdBackend::connect(&EtcdOptions::new(cluster.endpoints())).await?);
        let raw = raw_etcd(&cluster.endpoints(), work).await?;
        measured.push((name, bench(kv, work).await?, raw));
    }
    Ok(())
}

#[cfg(not(feature = "etcd"))]
async fn etcd(_: &Work, _: &mut Vec<Measured>) -> Result<()> {
    Ok(())
}

/// Seconds from opening the file until the mirror of all its keys is whole.
async fn mirror(path: &std::path::Path, keys: usize) -> Result<f64> {
    let kv = RedbBackend::open(path).await?;
    let all: Vec<usize> = (0..keys).collect();
    for some in all.chunks(1000) {
        let ops = some.iter().map(|n| Op::put(format!("table/{n:010}"), vec![b'x'; 256]));
        kv.txn(Txn::new().then(ops)).await?;
    }
    drop(kv);
    let watch = Stopwatch::start();
    let kv: Arc<dyn KvBackend> = Arc::new(RedbBackend::open(path).await?);
    let mirror = Mirror::start(kv, KeyRange::prefix("table/"));
    let found = mirror.ready().await?.len();
    let seconds = watch.elapsed().as_secs_f64();
    mirror.close().await;
    if found == keys { Ok(seconds) } else { Err(format!("the mirror has {found} of {keys} keys").into()) }
}

fn table(report: &Value) -> String {
    let mut lines = vec![format!("kv: {}", report["machine"])];
    lines.push(format!(
        "{:<20} {:<10} {:>7} {:>10} {:>9} {:>9} {:>9} {:>12}",
        "store", "what", "clients", "calls/s", "p50 us", "p90 us", "p99 us", "ours/raw"
    ));
    for store in report["stores"].as_array().into_iter().flatten() {
        for row in store["ours"].as_array().into_iter().flatten() {
            let same = |raw: &&Value| raw["what"] == row["what"] && raw["clients"] == row["clients"];
            let raw = store["raw"].as_array().into_iter().flatten().find(same);
            let ratio = raw.and_then(|raw| Some(row["qps"].as_f64()? / raw["qps"].as_f64()?));
            let figure = |name: &str| row[name].as_f64().unwrap_or(0.0);
            lines.push(format!(
                "{:<20} {:<10} {:>7} {:>10.0} {:>9.0} {:>9.0} {:>9.0} {:>12}",
                store["store"].as_str().unwrap_or_default(),
                row["what"].as_str().unwrap_or_default(),
                row["clients"],
                figure("qps"),
                figure("p50_us"),
                figure("p90_us"),
                figure("p99_us"),
                ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}")),
            ));
        }
    }
    lines.push(format!(
        "mirror of {} keys on redb, from opening the file: {:.2} s",
        report["mirror_keys"],
        report["mirror_s"].as_f64().unwrap_or(0.0)
    ));
    lines.join("\n")
}
