//! The task that gives regions their turns.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use futures::stream::{FuturesUnordered, StreamExt};
use tessera_manifest::env;
use tessera_manifest::id::RegionId;
use tokio_util::sync::CancellationToken;

use super::queue::{Ended, Queue};
use super::{Scheduler, Wishes};
use crate::compaction::Strategy;
use crate::error::{Error, chain};
use crate::limits;
use crate::region::Region;
use crate::shared::Shared;

/// The regions of a node.
pub(crate) trait Node: Send + Sync + 'static {
    /// The open region with this id.
    fn open_region(&self, region: RegionId) -> Option<Arc<Region>>;

    /// Of the regions that `may` admits, the one whose memtable holds most.
    fn largest(&self, may: &dyn Fn(RegionId) -> bool) -> Option<Arc<Region>>;
}

/// A kind of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Flush,
    Compaction,
}

/// What the driver waits for.
enum Event {
    Ended { kind: Kind, region: RegionId, how: Ended },
    Rested { kind: Kind, region: RegionId },
}

/// Gives regions their turns until `stop`; then stops the compactions under way, and waits for the end of all work.
pub(crate) async fn run<N: Node>(node: Weak<N>, shared: Arc<Shared>, stop: CancellationToken) {
    let mut driver = Driver { node, shared, events: FuturesUnordered::new(), leaving: BTreeMap::new(), compacting: BTreeMap::new() };
    loop {
        driver.start_what_can();
        let Driver { shared, events, .. } = &mut driver;
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(event) = events.next() => driver.take(event),
            () = shared.budget.pressure.notified() => {}
            () = shared.scheduler.wake.notified() => {}
        }
    }
    driver.finish().await;
}

struct Driver<N> {
    node: Weak<N>,
    shared: Arc<Shared>,
    events: FuturesUnordered<BoxFuture<'static, Event>>,
    /// Bytes that the flushes under way will free.
    leaving: BTreeMap<RegionId, usize>,
    compacting: BTreeMap<RegionId, Arc<Region>>,
}

impl<N: Node> Driver<N> {
    fn start_what_can(&mut self) {
        let Some(node) = self.node.upgrade() else { return };
        while let Some(region) = self.next_flush(&*node) {
            self.start_flush(region);
        }
        while let Some(region) = self.next_compaction(&*node) {
            self.start_compaction(region);
        }
    }

    fn queue<T>(&self, kind: Kind, with: impl FnOnce(&mut Queue) -> T) -> T {
        let Wishes { flushes, compactions } = &mut *self.shared.scheduler.lock();
        with(match kind {
            Kind::Flush => flushes,
            Kind::Compaction => compactions,
        })
    }

    /// Who asked; else, under pressure, the largest; else, if the log is too long, who holds its oldest part.
    fn next_flush(&self, node: &dyn Node) -> Option<Arc<Region>> {
        while let Some(region) = self.queue(Kind::Flush, |queue| queue.next(usize::MAX)) {
            match node.open_region(region) {
                Some(open) => return Some(open),
                None => self.queue(Kind::Flush, |queue| queue.forget(region)),
            }
        }
        if !self.queue(Kind::Flush, |queue| queue.has_room(usize::MAX)) {
            return None;
        }
        let may = |region: RegionId| !self.queue(Kind::Flush, |queue| queue.is_out(region));
        let Shared { parts, budget, .. } = &*self.shared;
        let picked = if budget.is_half_full(self.leaving.values().sum()) {
            node.largest(&may).filter(|region| region.memtable_bytes() > 0)
        } else {
            let long = parts.wal.bytes() > parts.config.wal_bytes_max;
            let oldest = long.then(|| parts.wal.oldest_needed()).flatten();
            oldest
                .filter(|(region, _)| may(*region))
                .and_then(|(region, _)| node.open_region(region))
                .filter(|region| region.memtable_bytes() > 0)
        };
        let region = picked?;
        self.queue(Kind::Flush, |queue| queue.start(region.id()));
        Some(region)
    }

    fn start_flush(&mut self, region: Arc<Region>) {
        let id = region.id();
        self.leaving.insert(id, usize::try_from(region.memtable_bytes()).unwrap_or(usize::MAX));
        let work = env::spawn(async move { region.flush_full().await });
        let ended = async move {
            let how = outcome(
                id,
                "a flush failed, its rows stay in the write-ahead log",
                work.await.unwrap_or(Err(Error::Stopped { region: id })).map(|()| false),
            );
            Event::Ended { kind: Kind::Flush, region: id, how }
        };
        self.events.push(ended.boxed());
    }

    fn next_compaction(&self, node: &dyn Node) -> Option<Arc<Region>> {
        let slots = if self.shared.budget.is_tight() { 1 } else { usize::MAX };
        while let Some(region) = self.queue(Kind::Compaction, |queue| queue.next(slots)) {
            match node.open_region(region).filter(|open| open.wants_compaction()) {
                Some(open) => return Some(open),
                None => self.queue(Kind::Compaction, |queue| queue.forget(region)),
            }
        }
        None
    }

    fn start_compaction(&mut self, region: Arc<Region>) {
        let (id, shared) = (region.id(), Arc::clone(&self.shared));
        self.compacting.insert(id, Arc::clone(&region));
        let work = env::spawn(async move {
            let _slot = shared.scheduler.compaction_slot().await;
            region.compact_once(Strategy::Regular).await.map(|report| report.is_some())
        });
        let ended = async move {
            let how =
                outcome(id, "a compaction failed, its files stay as they are", work.await.unwrap_or(Err(Error::Stopped { region: id })));
            Event::Ended { kind: Kind::Compaction, region: id, how }
        };
        self.events.push(ended.boxed());
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Rested { kind, region } => self.queue(kind, |queue| queue.rested(region)),
            Event::Ended { kind, region, how } => {
                self.forget_running(kind, region);
                let failures = self.queue(kind, |queue| queue.ended(region, how));
                if how == Ended::Failed {
                    let rest = async move {
                        env::sleep(backoff(failures)).await;
                        Event::Rested { kind, region }
                    };
                    self.events.push(rest.boxed());
                }
            }
        }
    }

    fn forget_running(&mut self, kind: Kind, region: RegionId) {
        match kind {
            Kind::Flush => _ = self.leaving.remove(&region),
            Kind::Compaction => _ = self.compacting.remove(&region),
        }
    }

    async fn finish(mut self) {
        self.shared.scheduler.end();
        self.compacting.values().for_each(|region| region.cancel_compaction());
        while !self.leaving.is_empty() || !self.compacting.is_empty() {
            let Some(event) = self.events.next().await else { return };
            if let Event::Ended { kind, region, .. } = event {
                self.forget_running(kind, region);
            }
        }
    }
}

/// How long a region rests after so many failures in a row.
fn backoff(failures: u32) -> Duration {
    let doubled = limits::FLUSH_BACKOFF_MIN.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
    doubled.min(limits::FLUSH_BACKOFF_MAX)
}

/// What the end of a piece of work means; a region that is closed or fenced wants no more.
fn outcome(region: RegionId, what: &str, ended: Result<bool, Error>) -> Ended {
    match ended {
        Ok(false) | Err(Error::Closed { .. } | Error::Fenced { .. } | Error::RegionNotFound { .. }) => Ended::Done,
        Ok(true) => Ended::More,
        Err(error) => {
            tracing::warn!(%region, cause = chain(&error), "{what}");
            Ended::Failed
        }
    }
}

impl Scheduler {
    /// The region is closed or dropped.
    pub(crate) fn forget(&self, region: RegionId) {
        let Wishes { flushes, compactions } = &mut *self.lock();
        flushes.forget(region);
        compactions.forget(region);
    }
}
