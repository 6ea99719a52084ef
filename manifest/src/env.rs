//! The only place where time, randomness and background tasks come from.
//!
//! Invariants:
//! - No other module of the workspace names a clock, a random source, `sleep` or `spawn` (clippy.toml bans
//!   them). What needs one takes an [`Env`], so that a seeded simulation can stand in for all of them.
//! - No decision about data rests on the clock given here: it proposes (names that sort by birth, time to
//!   flush), and the order of records in a log decides. Leases of metadata expire by [`Moment`].
//! - Where [`OneThread`] says so, nothing runs on another thread, and a seed decides on the order of everything.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::task::{JoinError, JoinHandle};
use ulid::Ulid;

use crate::id::{Epoch, FileId, Nonce};

/// Where time and random bits come from.
pub trait Source: fmt::Debug + Send + Sync + 'static {
    /// Milliseconds since 1970-01-01T00:00:00Z, by a clock that may be wrong and may go back.
    fn unix_ms(&self) -> u64;

    /// 128 random bits.
    fn random_u128(&self) -> u128;
}

/// A cheap handle to the time, random bits and ids of the process.
#[derive(Debug, Clone)]
pub struct Env {
    source: Arc<dyn Source>,
}

impl Env {
    /// The real clock and the operating system's randomness.
    #[must_use]
    pub fn system() -> Self {
        Self { source: Arc::new(SystemSource) }
    }

    /// Time and randomness from `source`, for simulations.
    #[must_use]
    pub fn from_source(source: Arc<dyn Source>) -> Self {
        Self { source }
    }

    /// Milliseconds since 1970-01-01T00:00:00Z; only for display and for names.
    #[must_use]
    pub fn unix_ms(&self) -> u64 {
        self.source.unix_ms()
    }

    /// A fresh 128-bit name.
    #[must_use]
    pub fn nonce(&self) -> Nonce {
        Nonce(self.source.random_u128())
    }

    /// A fresh ulid; those of one process sort roughly by birth.
    #[must_use]
    pub fn ulid(&self) -> Ulid {
        Ulid::from_parts(self.source.unix_ms(), self.source.random_u128())
    }

    /// A fresh file name for the writer of `epoch`.
    #[must_use]
    pub fn file_id(&self, epoch: Epoch) -> FileId {
        FileId::new(epoch, self.ulid())
    }
}

#[derive(Debug)]
struct SystemSource;

impl Source for SystemSource {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    fn unix_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that draws random bits")]
    fn random_u128(&self) -> u128 {
        rand::random()
    }
}

/// Measures elapsed time for metrics and answers; never decides anything.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the monotonic clock")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// A point in monotonic time, for deadlines. It means nothing outside of this process. Where tokio's clock is
/// paused (tests, simulations) this one is too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(tokio::time::Instant);

impl Moment {
    /// This one.
    #[must_use]
    pub fn now() -> Self {
        Self(tokio::time::Instant::now())
    }

    /// The one `wait` later; at most a hundred years later.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        const CENTURY: Duration = Duration::from_secs(100 * 365 * 86_400);
        Self(self.0.checked_add(wait.min(CENTURY)).unwrap_or(self.0))
    }

    /// How long after `earlier` this one is; zero when it is not.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_duration_since(earlier.0)
    }
}

/// Waits until a moment, for deadlines; not at all when it has passed.
pub async fn sleep_until(moment: Moment) {
    tokio::time::sleep_until(moment.0).await;
}

/// Waits; for backoff and tickers only.
#[expect(clippy::disallowed_methods, reason = "the one place that sleeps")]
pub async fn sleep(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// Starts a background task. Its owner keeps the handle and joins it on close.
#[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(future)
}

thread_local! {
    static ONE_THREAD: Cell<bool> = const { Cell::new(false) };
}

/// While this lives, work that would leave this thread stays on it, as tasks of its runtime: for simulations, whose
/// runtime has one thread.
#[derive(Debug)]
pub struct OneThread {
    before: bool,
    /// It is about the thread that it was made on.
    _stays: PhantomData<Rc<()>>,
}

impl OneThread {
    /// From now on, on this thread.
    #[must_use]
    pub fn enter() -> Self {
        Self { before: ONE_THREAD.replace(true), _stays: PhantomData }
    }
}

impl Drop for OneThread {
    fn drop(&mut self) {
        ONE_THREAD.set(self.before);
    }
}

/// Runs blocking or CPU-heavy work off the async threads.
#[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
pub fn spawn_blocking<F, R>(work: F) -> JoinHandle<R>
where
    F: FnOnce() -> R + Send + 'static,
    R: Send + 'static,
{
    if ONE_THREAD.get() {
        return tokio::spawn(async move { work() });
    }
    tokio::task::spawn_blocking(work)
}

/// The same for whoever awaits it: when that is dropped before the work has begun, it never begins.
///
/// # Errors
/// When the work panicked, or the runtime ends.
pub async fn run_blocking<F, R>(work: F) -> Result<R, JoinError>
where
    F: FnOnce() -> R + Send + 'static,
    R: Send + 'static,
{
    let mut task = AbortedOnDrop(spawn_blocking(work));
    (&mut task.0).await
}

struct AbortedOnDrop<R>(JoinHandle<R>);

impl<R> Drop for AbortedOnDrop<R> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs CPU-heavy work that waits for others in between (for channels, not for I/O or time) off the async threads.
pub fn spawn_working<F>(work: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    if ONE_THREAD.get() {
        return spawn(work);
    }
    let runtime = tokio::runtime::Handle::current();
    spawn_blocking(move || runtime.block_on(work))
}

/// Starts a named thread for work that blocks for as long as the process lives.
///
/// # Errors
/// When the operating system has no thread to give, or [`OneThread`] allows none.
#[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
pub fn spawn_thread<F>(name: &str, work: F) -> std::io::Result<std::thread::JoinHandle<()>>
where
    F: FnOnce() + Send + 'static,
{
    if ONE_THREAD.get() {
        return Err(std::io::Error::new(std::io::ErrorKind::Unsupported, "a simulation has one thread"));
    }
    std::thread::Builder::new().name(name.to_owned()).spawn(work)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn work_that_nobody_waits_for_any_more_never_begins() {
        let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
        runtime.block_on(async {
            let (release, released) = mpsc::sync_channel::<()>(1);
            let busy = spawn_blocking(move || released.recv().unwrap());
            let begun = Arc::new(AtomicBool::new(false));
            let begins = Arc::clone(&begun);
            let mut waiting = Box::pin(run_blocking(move || begins.store(true, Ordering::SeqCst)));
            assert!(futures::poll!(&mut waiting).is_pending(), "the only thread is busy");
            drop(waiting);
            release.send(()).unwrap();
            busy.await.unwrap();
            // It comes behind what was dropped.
            spawn_blocking(|| ()).await.unwrap();
            assert!(!begun.load(Ordering::SeqCst));
            assert_eq!(run_blocking(|| 7).await.unwrap(), 7);
        });
    }
}
