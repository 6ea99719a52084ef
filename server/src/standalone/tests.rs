//! SQL against a whole process without its ways in: memory for objects and metadata, a log that keeps nothing.

mod alter;
mod budgets;
mod crashes;
mod ddl;
mod dml;
mod failing;
mod faults;
mod gone;
mod held;
mod kept;
mod memory;
mod names;
mod past;
mod plans;
mod reads;
mod repartition;
mod times;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::util::pretty::pretty_format_batches;
use futures::TryStreamExt;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use tessera_engine::config::Config;
use tessera_engine::wal::{LogStore, NoopWal};
use tessera_manifest::env::Env;
use tessera_manifest::id::{NodeId, Nonce};
use tessera_metaclient::kv::{KvBackend, MemoryBackend};
use tokio_util::sync::CancellationToken;

use super::{Parts, Standalone};
use crate::error::{Code, ServerError};
use crate::service::{Output, SqlService};

/// What outlives a process.
pub(super) struct World {
    pub(super) kv: Arc<dyn KvBackend>,
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) folder: tempfile::TempDir,
}

impl World {
    pub(super) fn new() -> Self {
        Self { kv: Arc::new(MemoryBackend::new()), store: Arc::new(InMemory::new()), folder: tempfile::tempdir().unwrap() }
    }

    pub(super) async fn open(&self) -> Session {
        let wal = Arc::new(NoopWal::new(NodeId(0), &Env::system()));
        self.open_with(wal).await
    }

    /// A process with this log.
    pub(super) async fn open_with(&self, wal: Arc<dyn LogStore>) -> Session {
        self.open_as(wal, Config::default()).await
    }

    /// A process with this log and these settings.
    pub(super) async fn open_as(&self, wal: Arc<dyn LogStore>, engine: Config) -> Session {
        let (kv, store) = (Arc::clone(&self.kv), Arc::clone(&self.store));
        let (env, node, cluster) = (Env::system(), NodeId(0), Nonce(1));
        let parts = Parts { kv, store, wal, reachable: None, env, engine, node, cluster };
        Session { server: Standalone::open(parts).await.unwrap() }
    }

    /// A file of this world with this text; its path.
    pub(super) fn file(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

pub(super) struct Session {
    pub(super) server: Standalone,
}

impl Session {
    pub(super) async fn fresh() -> (World, Self) {
        let world = World::new();
        let session = world.open().await;
        (world, session)
    }

    pub(super) async fn execute(&self, sql: &str) -> Result<Vec<Output>, ServerError> {
        self.server.execute(sql, "public", &CancellationToken::new()).await
    }

    /// The batches of the last statement.
    pub(super) async fn batches(&self, sql: &str) -> Result<Vec<RecordBatch>, ServerError> {
        match self.execute(sql).await?.pop().unwrap() {
            Output::Rows { stream, .. } => stream.try_collect().await,
            Output::Affected(rows) => panic!("{sql} answered {rows} affected rows"),
        }
    }

    /// The rows of the last statement as `a|b` lines, NULL as nothing.
    pub(super) async fn rows(&self, sql: &str) -> Vec<String> {
        let batches = self.batches(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        let text = pretty_format_batches(&batches).unwrap().to_string();
        let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>().join("|");
        text.lines().filter(|line| line.starts_with('|')).skip(1).map(cells).collect()
    }

    /// The affected rows of the last statement.
    pub(super) async fn run(&self, sql: &str) -> u64 {
        match self.execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}")).pop().unwrap() {
            Output::Affected(rows) => rows,
            Output::Rows { .. } => panic!("{sql} answered rows"),
        }
    }

    /// The error of a statement, wherever it shows.
    pub(super) async fn refused(&self, sql: &str) -> (Code, String) {
        let error = match self.execute(sql).await {
            Err(error) => error,
            Ok(mut outputs) => match outputs.pop().unwrap() {
                Output::Rows { stream, .. } => match stream.try_collect::<Vec<_>>().await {
                    Err(error) => error,
                    Ok(_) => panic!("{sql} was accepted"),
                },
                Output::Affected(_) => panic!("{sql} was accepted"),
            },
        };
        (error.code, error.message)
    }
}

/// Metrics of what happens on this thread while it lives, which is all that most tests do.
pub(super) struct Recorded {
    handle: PrometheusHandle,
    _recording: metrics::LocalRecorderGuard<'static>,
}

impl Recorded {
    pub(super) fn begin() -> Self {
        let recorder = Box::leak(Box::new(PrometheusBuilder::new().build_recorder()));
        Self { handle: recorder.handle(), _recording: metrics::set_default_local_recorder(recorder) }
    }

    /// The value of a metric without labels; 0 before its first event.
    pub(super) fn value(&self, name: &str) -> f64 {
        let text = self.handle.render();
        let value = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok();
        text.lines().find_map(value).unwrap_or(0.0)
    }
}

/// A table of three regions; NULL hosts are in the first.
pub(super) const CPU: &str = "CREATE TABLE cpu (host STRING, ts TIMESTAMP(3) TIME INDEX, v DOUBLE DEFAULT 1.5, \
    n INT NOT NULL DEFAULT 7, PRIMARY KEY (host)) \
    PARTITION ON COLUMNS (host) (host < 'h', host >= 'h' AND host < 'q', host >= 'q' AND host < 'zz')";
