//! The object store as one process sees it.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};
use tessera_manifest::env::{sleep, spawn};

use super::life::{Fate, Life};

/// A handle of one process.
#[derive(Debug, Clone)]
pub(super) struct SimStore {
    inner: Arc<InMemory>,
    life: Arc<Life>,
}

fn failed() -> object_store::Error {
    object_store::Error::Generic { store: "simulation", source: "no answer".into() }
}

impl SimStore {
    pub(super) fn new(inner: Arc<InMemory>, life: Arc<Life>) -> Self {
        Self { inner, life }
    }

    /// A request that changes nothing.
    async fn read<T>(&self, verb: &'static str, path: &Path, work: impl Future<Output = Result<T>>) -> Result<T> {
        let fate = self.life.send(verb, path.as_ref()).await;
        let answer = match fate {
            Fate::Done | Fate::Repeated => work.await,
            Fate::Refused | Fate::Lost | Fate::Late(_) => Err(failed()),
        };
        self.life.receive().await;
        answer
    }

    /// A request that changes something, `work`, which can be done twice.
    async fn write<T, F>(&self, verb: &'static str, path: &Path, work: impl Fn() -> F) -> Result<T>
    where
        T: Send,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let fate = self.life.send(verb, path.as_ref()).await;
        let answer = match fate {
            Fate::Done => work().await,
            Fate::Refused => Err(failed()),
            Fate::Lost => work().await.and_then(|_| Err(failed())),
            // Who retries on its own gets the answer to the second attempt.
            Fate::Repeated => {
                drop(work().await);
                work().await
            }
            Fate::Late(after) => {
                let (late, life, path) = (work(), Arc::clone(&self.life), path.clone());
                spawn(async move {
                    sleep(after).await;
                    let done = late.await.is_ok();
                    life.note(format_args!("late {verb} {path} {done}"));
                });
                Err(failed())
            }
        };
        self.life.receive().await;
        answer
    }

    fn listed(&self, prefix: Option<&Path>, list: BoxStream<'static, Result<ObjectMeta>>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (store, prefix) = (self.clone(), prefix.cloned().unwrap_or_default());
        let all = async move {
            let all = store.read("list", &prefix, async { Ok(list.collect::<Vec<_>>().await) }).await;
            all.unwrap_or_else(|error| vec![Err(error)])
        };
        all.into_stream().flat_map(futures::stream::iter).boxed()
    }
}

impl fmt::Display for SimStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("simulation")
    }
}

#[async_trait]
impl ObjectStore for SimStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        // S3 may refuse a create of a name that another create is under way for, and neither succeeds.
        if options.mode == PutMode::Create && self.life.conflicts() {
            self.life.note(format_args!("409 {location}"));
            self.life.receive().await;
            return Err(object_store::Error::AlreadyExists { path: location.to_string(), source: "conflict".into() });
        }
        let put = || {
            let (inner, location, payload, options) = (Arc::clone(&self.inner), location.clone(), payload.clone(), options.clone());
            async move { inner.put_opts(&location, payload, options).await }
        };
        self.write("put", location, put).await
    }

    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.read("get", location, self.inner.get_opts(location, options)).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.read("get", location, self.inner.get_ranges(location, ranges)).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let delete = move |location: Result<Path>| {
            let store = store.clone();
            async move {
                let location = location?;
                let delete = || {
                    let (inner, location) = (Arc::clone(&store.inner), location.clone());
                    async move { inner.delete(&location).await }
                };
                store.write("delete", &location, delete).await?;
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
        let root = Path::default();
        self.read("list", prefix.unwrap_or(&root), self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.read("copy", to, self.inner.copy_opts(from, to, options)).await
    }
}
