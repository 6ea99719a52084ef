//! The death of a process at a chosen write, for tests.
//!
//! Every write to the metadata and to the object store is counted from the moment a fuse is lit; the one with the chosen
//! number is the last: it does, or does not, reach its store, and nothing of the process does after it.
//!
//! In a server, `TESSERA_FAIL_AT=n` (before the write) or `TESSERA_FAIL_AT=n+` (after it) kills the process there, as
//! `kill -9` would; only in builds with the feature `failpoints`, which no release has.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload,
    PutResult,
};
use tessera_metaclient::kv::{
    GetAnswer, Key, KeyRange, KvBackend, KvError, Lease, LeaseId, Limits, MultiGetAnswer, RangeAnswer, RangeRequest, Revision, Txn,
    TxnAnswer, Watch,
};
use tokio::sync::watch;

/// On which side of the last write the process dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// It does not reach the store.
    Before,
    /// It reaches the store, and nobody learns of it.
    After,
}

/// What dying means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// The process is killed.
    Kill,
    /// Nothing that the process asks of its stores is answered any more.
    Silence,
}

/// Counts the writes of a process, and ends it.
#[derive(Debug)]
pub struct Fuse {
    /// Writes before the last one; `u64::MAX` before the fuse is lit.
    left: AtomicU64,
    writes: AtomicU64,
    side: Side,
    death: Death,
    dead: watch::Sender<bool>,
}

impl Fuse {
    /// A fuse that is not lit.
    #[must_use]
    pub fn new(side: Side, death: Death) -> Arc<Self> {
        Arc::new(Self { left: AtomicU64::new(u64::MAX), writes: AtomicU64::new(0), side, death, dead: watch::Sender::new(false) })
    }

    /// Counts from now on; the write after `writes` more is the last.
    pub fn light(&self, writes: u64) {
        self.writes.store(0, Ordering::SeqCst);
        self.left.store(writes, Ordering::SeqCst);
    }

    /// Writes since the fuse was lit.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.writes.load(Ordering::SeqCst)
    }

    /// Waits until the process is dead.
    pub async fn burnt(&self) {
        let mut dead = self.dead.subscribe();
        // The sender is in `self`, so that this cannot fail.
        let _ = dead.wait_for(|dead| *dead).await;
    }

    /// Does a write, if the process lives, and lets nobody learn of it if it is the last.
    async fn write<T>(&self, write: impl Future<Output = T>) -> T {
        self.read().await;
        self.writes.fetch_add(1, Ordering::SeqCst);
        let is_last = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| match left {
            u64::MAX => None,
            left => Some(left.wrapping_sub(1)),
        }) == Ok(0);
        if is_last && self.side == Side::Before {
            return self.die().await;
        }
        let answer = write.await;
        if is_last {
            return self.die().await;
        }
        answer
    }

    /// Goes on only if the process lives.
    async fn read(&self) {
        if *self.dead.borrow() {
            std::future::pending::<()>().await;
        }
    }

    async fn die<T>(&self) -> T {
        if self.death == Death::Kill {
            std::process::abort();
        }
        self.dead.send_replace(true);
        std::future::pending().await
    }
}

/// The environment variable that says where a server dies.
const VARIABLE: &str = "TESSERA_FAIL_AT";

/// The stores of a server with the fuse that the environment asks for; it burns once it is lit.
pub fn of_environment(kv: Arc<dyn KvBackend>, store: Arc<dyn ObjectStore>) -> (Arc<dyn KvBackend>, Arc<dyn ObjectStore>, Prepared) {
    let text = std::env::var(VARIABLE).unwrap_or_default();
    let (number, side) = match text.strip_suffix('+') {
        Some(number) => (number, Side::After),
        None => (text.as_str(), Side::Before),
    };
    let Ok(writes) = number.parse() else { return (kv, store, Prepared(None)) };
    let fuse = Fuse::new(side, Death::Kill);
    let kv = Arc::new(FusedKv::new(kv, Arc::clone(&fuse)));
    let store = Arc::new(FusedStore::new(store, Arc::clone(&fuse)));
    (kv, store, Prepared(Some((fuse, writes))))
}

/// A fuse that is to be lit once the server is open, if one was asked for.
#[derive(Debug)]
pub struct Prepared(Option<(Arc<Fuse>, u64)>);

impl Prepared {
    /// Lights it.
    pub fn light(&self) {
        if let Some((fuse, writes)) = &self.0 {
            fuse.light(*writes);
        }
    }
}

/// The store of metadata of a process with a fuse.
#[derive(Debug)]
pub struct FusedKv {
    inner: Arc<dyn KvBackend>,
    fuse: Arc<Fuse>,
}

impl FusedKv {
    /// `inner` with this fuse.
    #[must_use]
    pub fn new(inner: Arc<dyn KvBackend>, fuse: Arc<Fuse>) -> Self {
        Self { inner, fuse }
    }
}

#[async_trait]
impl KvBackend for FusedKv {
    fn limits(&self) -> Limits {
        self.inner.limits()
    }
    async fn get(&self, key: &Key) -> Result<GetAnswer, KvError> {
        self.fuse.read().await;
        self.inner.get(key).await
    }
    async fn multi_get(&self, keys: &[Key]) -> Result<MultiGetAnswer, KvError> {
        self.fuse.read().await;
        self.inner.multi_get(keys).await
    }
    async fn range(&self, request: &RangeRequest) -> Result<RangeAnswer, KvError> {
        self.fuse.read().await;
        self.inner.range(request).await
    }
    async fn txn(&self, txn: Txn) -> Result<TxnAnswer, KvError> {
        if txn.is_read_only() {
            self.fuse.read().await;
            return self.inner.txn(txn).await;
        }
        self.fuse.write(self.inner.txn(txn)).await
    }
    async fn watch(&self, range: KeyRange, from: Revision) -> Result<Box<dyn Watch>, KvError> {
        self.fuse.read().await;
        self.inner.watch(range, from).await
    }
    async fn compact(&self, before: Revision) -> Result<(), KvError> {
        self.inner.compact(before).await
    }
    async fn grant(&self, ttl: Duration) -> Result<Lease, KvError> {
        self.fuse.write(self.inner.grant(ttl)).await
    }
    async fn keep_alive(&self, id: LeaseId) -> Result<Duration, KvError> {
        self.fuse.read().await;
        self.inner.keep_alive(id).await
    }
    async fn revoke(&self, id: LeaseId) -> Result<(), KvError> {
        self.fuse.write(self.inner.revoke(id)).await
    }
}

/// The object store of a process with a fuse.
#[derive(Debug)]
pub struct FusedStore {
    inner: Arc<dyn ObjectStore>,
    fuse: Arc<Fuse>,
}

impl FusedStore {
    /// `inner` with this fuse.
    #[must_use]
    pub fn new(inner: Arc<dyn ObjectStore>, fuse: Arc<Fuse>) -> Self {
        Self { inner, fuse }
    }
}

impl fmt::Display for FusedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with a fuse", self.inner)
    }
}

#[async_trait]
impl ObjectStore for FusedStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> object_store::Result<PutResult> {
        self.fuse.write(self.inner.put_opts(location, payload, options)).await
    }
    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.fuse.read().await;
        self.inner.put_multipart_opts(location, options).await
    }
    async fn get_opts(&self, location: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.fuse.read().await;
        self.inner.get_opts(location, options).await
    }
    fn delete_stream(&self, locations: BoxStream<'static, object_store::Result<Path>>) -> BoxStream<'static, object_store::Result<Path>> {
        self.inner.delete_stream(locations)
    }
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.inner.list(prefix)
    }
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.fuse.read().await;
        self.inner.list_with_delimiter(prefix).await
    }
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.fuse.write(self.inner.copy_opts(from, to, options)).await
    }
}
