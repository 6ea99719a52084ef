//! The measurements of a store.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tessera_manifest::env::{self, Env, Stopwatch};

use super::rows::{Error, Options, Row, measure};
use crate::kv::{Change, Compare, Key, KeyRange, KvBackend, Op, RangeRequest, Txn, range_all};
use crate::lock::Semaphore;

const OF: &str = "tessera";

/// Permits of the semaphore that is measured, and the lease of each.
const PERMITS: u32 = 4;
const PERMIT_TTL: Duration = Duration::from_secs(30);

/// Distinct keys that calls are spread over.
const KEYS: usize = 1000;

fn key(options: &Options, folder: &str, number: usize) -> Key {
    format!("{}{folder}/{:06}", options.prefix, number % KEYS).into()
}

/// Measures put, get, txn, list and watch for each number of clients, and deletes the keys again.
///
/// # Errors
/// When the store fails, or does not do what it is timed for.
pub async fn bench(kv: Arc<dyn KvBackend>, options: &Options) -> Result<Vec<Row>, Error> {
    let value = Bytes::from(vec![b'x'; options.value_bytes]);
    let mut rows = Vec::new();
    for &clients in &options.clients {
        rows.push(puts(&kv, options, clients, &value).await?);
        rows.push(gets(&kv, options, clients, &value).await?);
        rows.push(txns(&kv, options, clients, &value).await?);
        rows.push(lists(&kv, options, clients, &value).await?);
        rows.push(permits(&kv, options, clients).await?);
    }
    rows.push(watches(&kv, options, &value).await?);
    let all = Op::DeleteRange { range: KeyRange::prefix(options.prefix.clone()) };
    kv.txn(Txn::new().then([all])).await?;
    Ok(rows)
}

/// A permit of a semaphore with [`PERMITS`] is taken and given back.
async fn permits(kv: &Arc<dyn KvBackend>, options: &Options, clients: usize) -> Result<Row, Error> {
    let name = format!("bench-{}", options.prefix.replace('/', "-"));
    let semaphore = Semaphore::new(Arc::clone(kv), Env::system(), &name, PERMITS, PERMIT_TTL);
    measure(OF, "semaphore", clients, options.calls.div_ceil(4), move |client, _| {
        let semaphore = semaphore.clone();
        async move {
            let permit = semaphore.acquire(&format!("client-{client}")).await?;
            if !permit.is_held() {
                return Err(Error::Wrong { what: "semaphore" });
            }
            permit.release().await;
            Ok(())
        }
    })
    .await
}

async fn puts(kv: &Arc<dyn KvBackend>, options: &Options, clients: usize, value: &Bytes) -> Result<Row, Error> {
    let (kv, options, value) = (Arc::clone(kv), options.clone(), value.clone());
    measure(OF, "put", clients, options.calls, move |_, number| {
        let (kv, key, value) = (Arc::clone(&kv), key(&options, "put", number), value.clone());
        async move {
            let answer = kv.txn(Txn::new().then([Op::put(key, value)])).await?;
            if answer.succeeded { Ok(()) } else { Err(Error::Wrong { what: "put" }) }
        }
    })
    .await
}

async fn gets(kv: &Arc<dyn KvBackend>, options: &Options, clients: usize, value: &Bytes) -> Result<Row, Error> {
    fill(&**kv, options, "get", KEYS, value).await?;
    let (kv, options, value) = (Arc::clone(kv), options.clone(), value.clone());
    measure(OF, "get", clients, options.calls, move |_, number| {
        let (kv, key, value) = (Arc::clone(&kv), key(&options, "get", number), value.clone());
        async move {
            let entry = kv.get(&key).await?.entry;
            if entry.is_some_and(|entry| entry.value == value) { Ok(()) } else { Err(Error::Wrong { what: "get" }) }
        }
    })
    .await
}

async fn txns(kv: &Arc<dyn KvBackend>, options: &Options, clients: usize, value: &Bytes) -> Result<Row, Error> {
    let (kv, options, value) = (Arc::clone(kv), options.clone(), value.clone());
    measure(OF, "txn", clients, options.calls, move |client, number| {
        let keys = [key(&options, "txn-a", number), key(&options, "txn-b", number)];
        let absent = Compare::Absent { key: key(&options, "never", client) };
        let txn = Txn::new().when(absent).then(keys.map(|key| Op::put(key, value.clone())));
        let kv = Arc::clone(&kv);
        async move { if kv.txn(txn).await?.succeeded { Ok(()) } else { Err(Error::Wrong { what: "txn" }) } }
    })
    .await
}

async fn lists(kv: &Arc<dyn KvBackend>, options: &Options, clients: usize, value: &Bytes) -> Result<Row, Error> {
    let keys = options.list_keys.min(KEYS);
    fill(&**kv, options, "list", keys, value).await?;
    let (kv, range) = (Arc::clone(kv), KeyRange::prefix(format!("{}list/", options.prefix)));
    let calls = (options.calls / 10).max(1);
    measure(OF, "list", clients, calls, move |_, _| {
        let (kv, range) = (Arc::clone(&kv), range.clone());
        async move {
            let found = range_all(&*kv, range).await?;
            if found.len() == keys { Ok(()) } else { Err(Error::Wrong { what: "list" }) }
        }
    })
    .await
}

/// Puts keys in large transactions.
async fn fill(kv: &dyn KvBackend, options: &Options, folder: &str, keys: usize, value: &Bytes) -> Result<(), Error> {
    let each = (kv.limits().txn_bytes_max / 2 / (value.len() + 100)).clamp(1, kv.limits().txn_ops_max);
    for first in (0..keys).step_by(each) {
        let ops = (first..keys.min(first + each)).map(|number| Op::put(key(options, folder, number), value.clone()));
        kv.txn(Txn::new().then(ops)).await?;
    }
    Ok(())
}

/// From the call of a put until each of several watchers has it.
async fn watches(kv: &Arc<dyn KvBackend>, options: &Options, value: &Bytes) -> Result<Row, Error> {
    let watched = Key::from(format!("{}watch/key", options.prefix));
    let now = kv.range(&RangeRequest::new(KeyRange::all()).with_limit(1)).await?.revision;
    let mut watches = Vec::new();
    for _ in 0..options.watchers {
        watches.push(kv.watch(KeyRange::prefix(format!("{}watch/", options.prefix)), now.next()).await?);
    }
    let calls = (options.calls / 10).max(1);
    let (mut times, started) = (Vec::new(), Stopwatch::start());
    for _ in 0..calls {
        let call = Stopwatch::start();
        let waiting: Vec<_> = watches
            .into_iter()
            .map(|mut watch| {
                env::spawn(async move {
                    let batch = watch.next().await?;
                    Ok::<_, Error>((batch, call.elapsed(), watch))
                })
            })
            .collect();
        let revision = kv.txn(Txn::new().then([Op::put(watched.clone(), value.clone())])).await?.revision;
        let (mut last, mut back) = (Duration::ZERO, Vec::new());
        for task in waiting {
            let (batch, elapsed, watch) = task.await??;
            if batch.revision != revision || !matches!(batch.changes[..], [Change::Put(_)]) {
                return Err(Error::Wrong { what: "watch" });
            }
            last = last.max(elapsed);
            back.push(watch);
        }
        times.push(last);
        watches = back;
    }
    Ok(Row::new(OF, "watch", options.watchers, started.elapsed(), times))
}
