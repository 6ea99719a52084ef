//! A store that fails by plan, for the tests of this crate.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use tokio::sync::Semaphore;

/// What becomes of one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is done and answered.
    None,
    /// It is not done, and the answer is an error.
    Refused,
    /// It is done, and the answer is an error.
    Lost,
}

/// An operation, as a plan sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Op<'a> {
    /// How many operations came before.
    pub(crate) number: usize,
    pub(crate) verb: &'static str,
    pub(crate) path: &'a str,
}

/// The part of a path whose puts wait, and what they wait for.
type Held = Option<(&'static str, Arc<Semaphore>)>;

type Plan = Box<dyn Fn(Op<'_>) -> Fault + Send>;

/// An in-memory store with a plan; without one it works.
#[derive(Clone)]
pub(crate) struct PlanStore {
    pub(crate) inner: Arc<InMemory>,
    plan: Arc<Mutex<(usize, Option<Plan>)>>,
    /// Puts whose path has this part wait for a permit.
    held: Arc<Mutex<Held>>,
    pub(crate) waiting: Arc<Semaphore>,
    /// Whether each operation lets others go first, before it is done and before it is answered.
    pub(crate) yields: Arc<AtomicBool>,
}

impl fmt::Debug for PlanStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PlanStore")
    }
}

impl fmt::Display for PlanStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PlanStore")
    }
}

fn failed() -> object_store::Error {
    object_store::Error::Generic { store: "PlanStore", source: "no space left on device".into() }
}

impl PlanStore {
    pub(crate) fn new() -> Self {
        let waiting = Arc::new(Semaphore::new(0));
        Self { inner: Arc::new(InMemory::new()), plan: Arc::default(), held: Arc::default(), waiting, yields: Arc::default() }
    }

    /// From now on operations meet what the plan says; numbers begin anew.
    pub(crate) fn plan(&self, plan: impl Fn(Op<'_>) -> Fault + Send + 'static) {
        *self.plan.lock().unwrap() = (0, Some(Box::new(plan)));
    }

    /// The store works again. Answers how many operations there were under the plan.
    pub(crate) fn heal(&self) -> usize {
        std::mem::take(&mut *self.plan.lock().unwrap()).0
    }

    /// Puts whose path has `part` wait until the answer gets permits; each adds a permit to `waiting` first.
    pub(crate) fn hold_puts(&self, part: &'static str) -> Arc<Semaphore> {
        let gate = Arc::new(Semaphore::new(0));
        *self.held.lock().unwrap() = Some((part, Arc::clone(&gate)));
        gate
    }

    /// The objects whose path has `part`.
    pub(crate) async fn objects(&self, part: &str) -> Vec<Path> {
        let all: Vec<_> = self.inner.list(None).map(|object| object.unwrap().location).collect().await;
        all.into_iter().filter(|path| path.as_ref().contains(part)).collect()
    }

    async fn meet<T>(&self, verb: &'static str, path: &Path, work: impl Future<Output = Result<T>>) -> Result<T> {
        let fault = {
            let (number, plan) = &mut *self.plan.lock().unwrap();
            let fault = plan.as_ref().map_or(Fault::None, |plan| plan(Op { number: *number, verb, path: path.as_ref() }));
            *number += 1;
            fault
        };
        self.give_way().await;
        let answer = match fault {
            Fault::None => work.await,
            Fault::Refused => Err(failed()),
            Fault::Lost => work.await.and_then(|_| Err(failed())),
        };
        self.give_way().await;
        answer
    }

    async fn give_way(&self) {
        if self.yields.load(Ordering::Relaxed) {
            tokio::task::yield_now().await;
        }
    }

    fn listed(&self, prefix: Option<&Path>, list: BoxStream<'static, Result<ObjectMeta>>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (store, prefix) = (self.clone(), prefix.cloned().unwrap_or_default());
        let all = async move {
            let all = store.meet("list", &prefix, async { Ok(list.collect::<Vec<_>>().await) }).await;
            all.unwrap_or_else(|error| vec![Err(error)])
        };
        all.into_stream().flat_map(futures::stream::iter).boxed()
    }
}

#[async_trait]
impl ObjectStore for PlanStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let held = self.held.lock().unwrap().clone();
        if let Some((_, gate)) = held.filter(|(part, _)| location.as_ref().contains(part)) {
            self.waiting.add_permits(1);
            gate.acquire().await.unwrap().forget();
        }
        self.meet("put", location, self.inner.put_opts(location, payload, opts)).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let inner = self.meet("put_multipart", location, self.inner.put_multipart_opts(location, opts)).await?;
        Ok(Box::new(PlanUpload { store: self.clone(), path: location.clone(), inner: Arc::new(tokio::sync::Mutex::new(inner)) }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.meet("get", location, self.inner.get_opts(location, options)).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.meet("get", location, self.inner.get_ranges(location, ranges)).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let delete = move |location: Result<Path>| {
            let store = store.clone();
            async move {
                let location = location?;
                store.meet("delete", &location, store.inner.delete(&location)).await?;
                Ok(location)
            }
        };
        locations.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listed(prefix, self.inner.list(prefix))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listed(prefix, self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// An upload each part of which meets the plan.
#[derive(Debug)]
struct PlanUpload {
    store: PlanStore,
    path: Path,
    inner: Arc<tokio::sync::Mutex<Box<dyn MultipartUpload>>>,
}

#[async_trait]
impl MultipartUpload for PlanUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (store, path, inner) = (self.store.clone(), self.path.clone(), Arc::clone(&self.inner));
        async move { store.meet("put_part", &path, async { inner.lock().await.put_part(data).await }).await }.boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.store.meet("complete", &self.path, async { self.inner.lock().await.complete().await }).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.store.meet("abort", &self.path, async { self.inner.lock().await.abort().await }).await
    }
}
