//! Many regions on one store and one WAL.
//!
//! Invariants:
//! - One bad region never stops the others: what a region failed to open with is kept and told to whoever asks
//!   for it.
//! - Background work is the scheduler of flushes and compactions, and, while regions could not be opened for a
//!   reason that may pass, one reopener. They end in [`Engine::close`], which flushes every region.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use futures::future::BoxFuture;
use futures::{FutureExt, Stream, StreamExt};
use tessera_manifest::env;
use tessera_manifest::error::ErrorClass;
use tessera_manifest::id::RegionId;
use tessera_manifest::log::Context;
use tessera_manifest::meta::RegionMeta;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::compaction::{Report, Strategy};
use crate::error::Error;
use crate::limits;
use crate::region::Region;
use crate::scheduler::{self, Node};
use crate::shared::Shared;
use crate::sst::Memory;
use crate::take_over::TakeOvers;
use crate::wal::LogStore;

pub use crate::shared::Parts;

/// A region that is open, or why it is not.
type Entry = Result<Arc<Region>, Arc<Error>>;

/// The open regions of a node; a cheap handle.
#[derive(Debug, Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    /// In order, so that a seeded run is the same each time.
    regions: RwLock<BTreeMap<RegionId, Entry>>,
    /// Two openings of one region at a time would fence each other.
    opening: Mutex<HashMap<RegionId, Weak<tokio::sync::Mutex<()>>>>,
    take_overs: Arc<TakeOvers>,
    stop: CancellationToken,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Engine {
    /// Starts an engine without open regions. Must be called in a tokio runtime.
    #[must_use]
    pub fn start(parts: Parts) -> Self {
        let shared = Arc::new(Shared::new(parts));
        let inner = Inner {
            shared,
            regions: RwLock::default(),
            opening: Mutex::default(),
            take_overs: Arc::default(),
            stop: CancellationToken::new(),
            tasks: Mutex::default(),
        };
        let inner = Arc::new(inner);
        inner.keep(env::spawn(scheduler::run(Arc::downgrade(&inner), Arc::clone(&inner.shared), inner.stop.clone())));
        Self { inner }
    }

    /// Creates an empty region and opens it.
    ///
    /// # Errors
    /// The manifest's, among them that there is such a region.
    pub async fn create_region(&self, meta: RegionMeta) -> Result<Arc<Region>, Error> {
        let opening = self.inner.opening(meta.region);
        let _one_at_a_time = opening.lock().await;
        let region = Arc::new(Region::create(&self.inner.shared, meta).await?);
        self.inner.insert(region.id(), Ok(Arc::clone(&region)));
        Ok(region)
    }

    /// Opens a region: takes its manifest over and replays its WAL entries. A region that is open is returned
    /// as it is.
    ///
    /// # Errors
    /// The manifest's and the WAL's; kept, and told to later callers of [`region`](Self::region).
    pub async fn open_region(&self, region: RegionId) -> Result<Arc<Region>, Error> {
        let opening = self.inner.opening(region);
        let _one_at_a_time = opening.lock().await;
        match self.region(region) {
            Ok(open) => Ok(open),
            Err(_) => self.open_now(region).await,
        }
    }

    /// Takes a region back that another writer has taken over: opens it as if it had never been open here. One that is
    /// open, and has not met the other writer, is returned as it is.
    ///
    /// Whoever calls this knows that this process is the one that is to serve the region. The engine cannot: two that
    /// took it back from each other would go on for ever.
    ///
    /// # Errors
    /// [`Error::Fenced`] for one that holds rows which are in no file: the log has them, and a restart brings them back. Those
    /// of [`open_region`](Self::open_region).
    pub async fn take_back(&self, region: RegionId) -> Result<Arc<Region>, Error> {
        let opening = self.inner.opening(region);
        let _one_at_a_time = opening.lock().await;
        if let Ok(open) = self.region(region) {
            if !open.is_fenced().await {
                return Ok(open);
            }
            // A log gives back what it had when it was opened: rows since then are in these memtables only.
            if open.has_unflushed_rows() {
                return Err(Error::Fenced { region });
            }
            tracing::info!(%region, "takes a region back from another writer");
        }
        self.open_now(region).await
    }

    /// Opens a region whatever is known of it; one at a time.
    async fn open_now(&self, region: RegionId) -> Result<Arc<Region>, Error> {
        match self.inner.open_or_take_over(region).await {
            Ok(opened) => {
                let opened = Arc::new(opened);
                self.inner.insert(region, Ok(Arc::clone(&opened)));
                if opened.state().staging().is_some() {
                    opened.meet_as_opener().await;
                }
                self.inner.shared.scheduler.compact_soon(region);
                Ok(opened)
            }
            Err(error @ Error::RegionNotFound { .. }) => Err(error),
            Err(error) => {
                let source = Arc::new(error);
                self.inner.insert(region, Err(Arc::clone(&source)));
                Err(Error::OpenFailed { region, source })
            }
        }
    }

    /// Opens many, in parallel; a bad one does not stop the others.
    pub async fn open_regions(&self, regions: Vec<RegionId>) -> Vec<(RegionId, Result<Arc<Region>, Error>)> {
        let opened: Vec<(RegionId, Result<Arc<Region>, Error>)> = self.opens(futures::stream::iter(regions)).collect().await;
        if !self.inner.to_reopen().is_empty() {
            self.inner.keep(env::spawn(run_reopener(Arc::downgrade(&self.inner), self.inner.stop.clone())));
        }
        opened
    }

    /// Opens regions as they come, some at the same time.
    fn opens<S>(&self, regions: S) -> impl Stream<Item = (RegionId, Result<Arc<Region>, Error>)> + use<S>
    where
        S: Stream<Item = RegionId>,
    {
        let (engine, parallelism) = (self.clone(), self.inner.shared.parts.config.open_parallelism.max(1));
        // Each in a task of its own: replaying manifests and logs is work for every core.
        let opens = regions.map(move |region| {
            let engine = engine.clone();
            let open = env::spawn(async move { engine.open_region(region).await });
            async move { (region, open.await.unwrap_or(Err(Error::Stopped { region }))) }
        });
        opens.buffer_unordered(parallelism)
    }

    /// The open region with this id.
    ///
    /// # Errors
    /// [`Error::OpenFailed`], saying why, for one that failed to open; [`Error::RegionNotFound`].
    pub fn region(&self, region: RegionId) -> Result<Arc<Region>, Error> {
        match self.inner.regions().get(&region) {
            Some(Ok(open)) => Ok(Arc::clone(open)),
            Some(Err(source)) => Err(Error::OpenFailed { region, source: Arc::clone(source) }),
            None => Err(Error::RegionNotFound { region }),
        }
    }

    /// Memory for all scans of one statement, which is what the settings allow one.
    #[must_use]
    pub fn scan_memory(&self) -> Arc<Memory> {
        self.inner.shared.scan_memory()
    }

    /// How many bytes these are.
    #[must_use]
    pub fn scan_bytes_max(&self) -> usize {
        self.inner.shared.parts.config.scan_bytes_max
    }

    /// Every open region, in order of id.
    #[must_use]
    pub fn regions(&self) -> Vec<Arc<Region>> {
        self.inner.open_regions()
    }

    /// Drops a region: logs the drop in its manifest and forgets its memtable and WAL entries. Opens it first, if
    /// it is not open; one that is dropped already is fine.
    ///
    /// # Errors
    /// The manifest's; the region is closed then and can be dropped again.
    pub async fn drop_region(&self, region: RegionId) -> Result<(), Error> {
        let open = match self.open_region(region).await {
            Ok(open) => open,
            Err(Error::RegionNotFound { .. }) => {
                self.inner.remove(region);
                self.inner.shared.parts.wal.forget(region);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        open.drop_all().await?;
        self.inner.remove(region);
        Ok(())
    }

    /// Compacts a region until nothing is left that the strategy asks for; waits for a slot among the compactions of
    /// the node.
    ///
    /// # Errors
    /// Those of [`Region::compact`], and [`Error::RegionNotFound`].
    pub async fn compact_region(&self, region: RegionId, strategy: Strategy) -> Result<Report, Error> {
        let open = self.region(region)?;
        let _slot = self.inner.shared.scheduler.compaction_slot().await;
        open.compact(strategy).await
    }

    /// Bytes that flushes and compactions wrote since the engine started, for each byte that flushes wrote.
    #[must_use]
    pub fn write_amplification(&self) -> f64 {
        self.inner.shared.amplification.of_writes()
    }

    /// Flushes and closes one region, if it is open.
    ///
    /// # Errors
    /// The flush's; the region is closed all the same, and its rows are in the WAL.
    pub async fn close_region(&self, region: RegionId) -> Result<(), Error> {
        let removed = self.inner.remove(region);
        match removed {
            Some(Ok(open)) => open.close().await,
            _ => Ok(()),
        }
    }

    /// Flushes and closes every region, and stops background work. Rows of a region that could not be flushed
    /// stay in the WAL.
    ///
    /// # Errors
    /// The first region's failure, after all were tried.
    pub async fn close(&self) -> Result<(), Error> {
        self.stop_background().await;
        let parallelism = self.inner.shared.parts.config.open_parallelism.max(1);
        let ids: Vec<RegionId> = self.regions().iter().map(|region| region.id()).collect();
        let closes = futures::stream::iter(ids).map(|id| self.close_region(id));
        let results: Vec<Result<(), Error>> = closes.buffer_unordered(parallelism).collect().await;
        let closed = self.inner.shared.parts.wal.close().await;
        results.into_iter().collect::<Result<(), Error>>()?;
        closed.map_err(|source| Error::CloseWal { source })
    }

    /// Tells the WAL to forget regions whose manifest says that they are dropped, or retired by a repartition: no route
    /// names them, so that nobody opens them, and entries that survived a restart would keep segments for ever. Call it
    /// once, after the regions that are known were opened. Entries of any other region that is not open stay, and are
    /// reported.
    pub async fn forget_dropped(&self) {
        let Shared { parts, context, .. } = &*self.inner.shared;
        for (region, last) in parts.wal.regions() {
            if self.region(region).is_ok() {
                continue;
            }
            match tessera_manifest::log::load(context, region).await {
                Ok(state) if state.is_dropped() || state.is_retired() => parts.wal.forget(region),
                Ok(_) => tracing::warn!(%region, %last, "the wal holds rows of a region that no table has"),
                Err(error) => tracing::warn!(%region, %last, %error, "the wal holds rows of a region that cannot be read"),
            }
        }
    }

    /// The log that all regions share.
    #[must_use]
    pub fn wal(&self) -> &Arc<dyn LogStore> {
        &self.inner.shared.parts.wal
    }

    /// Where manifests are.
    pub(crate) fn context(&self) -> &Context {
        &self.inner.shared.context
    }

    /// Ends background work; nothing is flushed.
    pub(crate) async fn stop_background(&self) {
        self.inner.stop.cancel();
        let tasks = std::mem::take(&mut *self.inner.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for task in tasks {
            // A task that panicked has nothing left to stop.
            let _ = task.await;
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Node for Inner {
    fn open_region(&self, region: RegionId) -> Option<Arc<Region>> {
        self.regions().get(&region)?.as_ref().ok().cloned()
    }

    fn largest(&self, may: &dyn Fn(RegionId) -> bool) -> Option<Arc<Region>> {
        let regions = self.regions();
        let open = regions.values().filter_map(|entry| entry.as_ref().ok());
        open.filter(|region| region.active_bytes() > 0 && may(region.id())).max_by_key(|region| region.active_bytes()).cloned()
    }
}

impl Inner {
    fn regions(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<RegionId, Entry>> {
        self.regions.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins the task when the engine is closed.
    fn keep(&self, task: JoinHandle<()>) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).push(task);
    }

    /// Opens a region; one whose rows are in the log of another node, once they are in files, if that log can be read here.
    async fn open_or_take_over(&self, region: RegionId) -> Result<Region, Error> {
        let refused = match Region::open(&self.shared, region).await {
            Ok(opened) => return Ok(opened),
            Err(refused) => refused,
        };
        match refused.unreachable_log() {
            Some(log) if self.take_overs.bring(&self.shared, region, log).await? => Region::open(&self.shared, region).await,
            _ => Err(refused),
        }
    }

    /// The lock under which `region` is opened.
    fn opening(&self, region: RegionId) -> Arc<tokio::sync::Mutex<()>> {
        let mut opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        opening.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = opening.get(&region).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::new(tokio::sync::Mutex::new(()));
        opening.insert(region, Arc::downgrade(&lock));
        lock
    }

    fn insert(&self, region: RegionId, entry: Entry) {
        self.regions.write().unwrap_or_else(PoisonError::into_inner).insert(region, entry);
    }

    fn remove(&self, region: RegionId) -> Option<Entry> {
        self.shared.scheduler.forget(region);
        self.shared.amplification.forget(region);
        self.regions.write().unwrap_or_else(PoisonError::into_inner).remove(&region)
    }

    fn open_regions(&self) -> Vec<Arc<Region>> {
        let mut open: Vec<Arc<Region>> = self.regions().values().filter_map(|entry| entry.as_ref().ok().cloned()).collect();
        open.sort_unstable_by_key(|region| region.id());
        open
    }

    /// The regions that failed to open for a reason that may pass.
    fn to_reopen(&self) -> Vec<RegionId> {
        let may_pass = |error: &Error| matches!(error.class(), ErrorClass::Retry | ErrorClass::Unavailable);
        let failed = |(id, entry): (&RegionId, &Entry)| entry.as_ref().is_err_and(|error| may_pass(error)).then_some(*id);
        self.regions().iter().filter_map(failed).collect()
    }
}

/// Opens regions that failed to open for a reason that may pass, with backoff, until all are open.
async fn run_reopener(inner: Weak<Inner>, stop: CancellationToken) {
    let mut backoff = limits::FLUSH_BACKOFF_MIN;
    loop {
        if !unless_stopped(&stop, env::sleep(backoff).boxed()).await {
            return;
        }
        backoff = (backoff * 2).min(limits::REOPEN_BACKOFF_MAX);
        let Some(engine) = inner.upgrade().map(|inner| Engine { inner }) else { return };
        let failed = engine.inner.to_reopen();
        if failed.is_empty() {
            return;
        }
        let failed = futures::stream::iter(failed).take_while(|_| std::future::ready(!stop.is_cancelled()));
        let mut opened = std::pin::pin!(engine.opens(failed));
        while let Some((region, result)) = opened.next().await {
            match result {
                Ok(_) => tracing::info!(%region, "opened after all"),
                Err(error) => tracing::debug!(%region, %error, "still cannot be opened"),
            }
        }
    }
}

/// Waits for `event`; false if the engine stops first.
async fn unless_stopped(stop: &CancellationToken, event: BoxFuture<'_, ()>) -> bool {
    stop.run_until_cancelled(event).await.is_some()
}
