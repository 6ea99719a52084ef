//! A store whose user dies at one of its operations.

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
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use tokio::sync::Mutex;

use super::fuse::Fuse;

#[derive(Debug, Clone)]
pub(super) struct CrashStore {
    inner: Arc<InMemory>,
    fuse: Fuse,
}

impl CrashStore {
    pub(super) fn new(inner: Arc<InMemory>, fuse: Fuse) -> Self {
        Self { inner, fuse }
    }

    fn listed(&self, list: BoxStream<'static, Result<ObjectMeta>>) -> BoxStream<'static, Result<ObjectMeta>> {
        let fuse = self.fuse.clone();
        let all = async move { fuse.step("list", list.collect::<Vec<_>>()).await };
        futures::stream::once(all).flat_map(futures::stream::iter).boxed()
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
        self.fuse.step("put", self.inner.put_opts(location, payload, opts)).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let inner = self.fuse.step("put_multipart", self.inner.put_multipart_opts(location, opts)).await?;
        Ok(Box::new(CrashUpload { inner: Arc::new(Mutex::new(inner)), fuse: self.fuse.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.fuse.step("get", self.inner.get_opts(location, options)).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.fuse.step("get", self.inner.get_ranges(location, ranges)).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let delete = move |location: Result<Path>| {
            let store = store.clone();
            async move {
                let location = location?;
                store.fuse.step("delete", store.inner.delete(&location)).await?;
                Ok(location)
            }
        };
        locations.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listed(self.inner.list(prefix))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listed(self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.fuse.step("list", self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.fuse.step("copy", self.inner.copy_opts(from, to, options)).await
    }
}

/// An upload whose parts are lost with its process, unless it was completed.
#[derive(Debug)]
struct CrashUpload {
    inner: Arc<Mutex<Box<dyn MultipartUpload>>>,
    fuse: Fuse,
}

#[async_trait]
impl MultipartUpload for CrashUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (inner, fuse) = (Arc::clone(&self.inner), self.fuse.clone());
        async move { fuse.step("put_part", async { inner.lock().await.put_part(data).await }).await }.boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.fuse.step("complete", async { self.inner.lock().await.complete().await }).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.fuse.step("abort", async { self.inner.lock().await.abort().await }).await
    }
}
