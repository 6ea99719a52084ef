//! Calls timed by clients that run at the same time, and what comes of it.

use std::future::Future;
use std::time::Duration;

use serde::Serialize;
use tessera_manifest::env::{self, Stopwatch};

use crate::kv::KvError;

/// What to measure.
#[derive(Debug, Clone)]
pub struct Options {
    /// All keys of the measurement start with this; they are deleted at the end.
    pub prefix: String,
    /// Clients at the same time, one measurement for each number.
    pub clients: Vec<usize>,
    /// Calls of each measurement, all clients together.
    pub calls: usize,
    /// Bytes of each value.
    pub value_bytes: usize,
    /// Keys that a list reads.
    pub list_keys: usize,
    /// Watchers of each change in the measurement of watches.
    pub watchers: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { prefix: "bench/".to_owned(), clients: vec![1, 16], calls: 2000, value_bytes: 256, list_keys: 1000, watchers: 16 }
    }
}

/// One measurement.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Whose: `tessera`, or the name of the raw peer.
    pub of: String,
    /// `put`, `get`, `txn` (a compare and two puts), `list`, `semaphore` (one of four permits, taken and given back),
    /// `watch` (from the put's call to the last watcher).
    pub what: String,
    /// Clients at the same time.
    pub clients: usize,
    /// Calls of all clients.
    pub calls: usize,
    /// From the first call to the last answer.
    pub elapsed_ms: f64,
    /// Calls in a second.
    pub qps: f64,
    /// Half of the calls took at most this.
    pub p50_us: f64,
    /// 90 of 100 did.
    pub p90_us: f64,
    /// 99 of 100 did.
    pub p99_us: f64,
}

/// Why there is no measurement.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store failed.
    #[error("the store failed")]
    Store {
        /// The cause.
        #[from]
        source: KvError,
    },
    /// A permit was not to be had.
    #[error("the semaphore failed")]
    Semaphore {
        /// The cause.
        #[from]
        source: crate::lock::LockError,
    },
    /// A raw peer failed.
    #[error("raw {peer} failed")]
    Peer {
        /// Which.
        peer: &'static str,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The operation does not do what it should, so that its time means nothing.
    #[error("{what} answers something wrong")]
    Wrong {
        /// Which.
        what: &'static str,
    },
    /// A client panicked or was stopped.
    #[error("a client was aborted")]
    Aborted {
        /// The cause.
        #[from]
        source: tokio::task::JoinError,
    },
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// The time that `hundredths` of 100 calls took at most; times are sorted.
fn percentile(sorted: &[Duration], hundredths: usize) -> f64 {
    let rank = (sorted.len() * hundredths).div_ceil(100).saturating_sub(1);
    sorted.get(rank).copied().map_or(0.0, micros)
}

impl Row {
    pub(super) fn new(of: &str, what: &str, clients: usize, elapsed: Duration, mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self {
            of: of.to_owned(),
            what: what.to_owned(),
            clients,
            calls: times.len(),
            elapsed_ms: elapsed.as_secs_f64() * 1e3,
            qps: if elapsed.is_zero() { 0.0 } else { f64::from(u32::try_from(times.len()).unwrap_or(u32::MAX)) / elapsed.as_secs_f64() },
            p50_us: percentile(&times, 50),
            p90_us: percentile(&times, 90),
            p99_us: percentile(&times, 99),
        }
    }
}

/// Lets `clients` tasks make `calls` calls; each gets the number of the client and of the call. One call before
/// them, whose time does not count, shows that it works.
///
/// # Errors
/// That of the first call that fails.
pub async fn measure<F, C>(of: &str, what: &'static str, clients: usize, calls: usize, call: F) -> Result<Row, Error>
where
    F: Fn(usize, usize) -> C + Clone + Send + 'static,
    C: Future<Output = Result<(), Error>> + Send + 'static,
{
    call(0, calls).await?;
    let started = Stopwatch::start();
    let mut running = Vec::new();
    for client in 0..clients {
        let call = call.clone();
        running.push(env::spawn(async move {
            let mut times = Vec::new();
            for number in (client..calls).step_by(clients.max(1)) {
                let watch = Stopwatch::start();
                call(client, number).await?;
                times.push(watch.elapsed());
            }
            Ok::<_, Error>(times)
        }));
    }
    let mut times = Vec::new();
    for task in running {
        times.extend(task.await??);
    }
    Ok(Row::new(of, what, clients, started.elapsed(), times))
}
