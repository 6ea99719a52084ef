//! A store whose user dies at one of its operations.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};

use super::Archive;

/// Where a process dies, by the number of its store operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Crash {
    /// Nowhere.
    Never,
    /// The operation is not done.
    Before(usize),
    /// The operation is done, and nobody hears of it.
    After(usize),
    /// The operation, if it is a create, is done later: when [`CrashStore::land`] is called.
    Late(usize),
}

/// An in-memory store whose user dies at one operation: that one and all later ones are never answered.
#[derive(Debug, Clone)]
pub(crate) struct CrashStore {
    inner: Arc<InMemory>,
    archive: Arc<Mutex<Archive>>,
    crash: Crash,
    done: Arc<AtomicUsize>,
    late: Arc<Mutex<Option<(Path, PutPayload, PutOptions)>>>,
}

/// What becomes of one operation.
enum Turn {
    Do,
    DoAndDie,
    DieAndDoLater,
    Die,
}

impl CrashStore {
    /// The objects of `inner`, for a process that dies at `crash`.
    pub(crate) fn new(inner: Arc<InMemory>, archive: Arc<Mutex<Archive>>, crash: Crash) -> Self {
        Self { inner, archive, crash, done: Arc::default(), late: Arc::default() }
    }

    /// How many operations were begun.
    pub(crate) fn operations(&self) -> usize {
        self.done.load(Ordering::Relaxed)
    }

    /// The delayed create arrives; what it meets does not matter to the dead.
    pub(crate) fn land(&self) {
        if let Some((path, payload, options)) = self.late.lock().unwrap().take() {
            let _ = self.create(&path, payload, options).now_or_never().expect("the in-memory store answers at once");
        }
    }

    async fn create(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let put = self.inner.put_opts(path, payload.clone(), options).await?;
        self.archive.lock().unwrap().created(path, &Bytes::from(payload));
        Ok(put)
    }

    fn turn(&self) -> Turn {
        let number = self.done.fetch_add(1, Ordering::Relaxed);
        let (at, turn) = match self.crash {
            Crash::Never => return Turn::Do,
            Crash::Before(at) => (at, Turn::Die),
            Crash::After(at) => (at, Turn::DoAndDie),
            Crash::Late(at) => (at, Turn::DieAndDoLater),
        };
        match number.cmp(&at) {
            std::cmp::Ordering::Less => Turn::Do,
            std::cmp::Ordering::Equal => turn,
            std::cmp::Ordering::Greater => Turn::Die,
        }
    }

    async fn guard<T>(&self, operation: impl Future<Output = T>) -> T {
        match self.turn() {
            Turn::Do => operation.await,
            Turn::DoAndDie => {
                operation.await;
                std::future::pending().await
            }
            Turn::Die | Turn::DieAndDoLater => std::future::pending().await,
        }
    }
}

impl fmt::Display for CrashStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CrashStore")
    }
}

#[async_trait]
impl ObjectStore for CrashStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        match self.turn() {
            Turn::Do => return self.create(location, payload, opts).await,
            Turn::DoAndDie => drop(self.create(location, payload, opts).await),
            Turn::DieAndDoLater => *self.late.lock().unwrap() = Some((location.clone(), payload, opts)),
            Turn::Die => {}
        }
        std::future::pending().await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.guard(self.inner.get_opts(location, options)).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.guard(self.inner.get_ranges(location, ranges)).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let delete = move |location: Result<Path>| {
            let store = store.clone();
            async move {
                let location = location?;
                store.guard(store.inner.delete(&location)).await?;
                Ok(location)
            }
        };
        locations.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.guarded_list(self.inner.list(prefix))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.guarded_list(self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.guard(self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.guard(self.inner.copy_opts(from, to, options)).await
    }
}

impl CrashStore {
    fn guarded_list(&self, list: BoxStream<'static, Result<ObjectMeta>>) -> BoxStream<'static, Result<ObjectMeta>> {
        let store = self.clone();
        let all = async move { store.guard(list.collect::<Vec<_>>()).await };
        futures::stream::once(all).flat_map(futures::stream::iter).boxed()
    }
}
