//! An object store with a fuse.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, UploadPart,
};

use super::Fuse;

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
        self.fuse.write(format!("put of {location}"), self.inner.put_opts(location, payload, options)).await
    }
    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> object_store::Result<Box<dyn MultipartUpload>> {
        let inner = self.fuse.read(self.inner.put_multipart_opts(location, options)).await?;
        Ok(Box::new(FusedUpload { inner, location: location.clone(), fuse: Arc::clone(&self.fuse) }))
    }
    async fn get_opts(&self, location: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.fuse.read(self.inner.get_opts(location, options)).await
    }
    fn delete_stream(&self, locations: BoxStream<'static, object_store::Result<Path>>) -> BoxStream<'static, object_store::Result<Path>> {
        let (inner, fuse) = (Arc::clone(&self.inner), Arc::clone(&self.fuse));
        let delete = move |location: object_store::Result<Path>| {
            let (inner, fuse) = (Arc::clone(&inner), Arc::clone(&fuse));
            async move {
                let location = location?;
                fuse.write(format!("delete of {location}"), inner.delete(&location)).await?;
                Ok(location)
            }
        };
        locations.then(delete).boxed()
    }
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        let (fuse, list) = (Arc::clone(&self.fuse), self.inner.list(prefix));
        async move { fuse.read(async { list }).await }.into_stream().flatten().boxed()
    }
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.fuse.read(self.inner.list_with_delimiter(prefix)).await
    }
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.fuse.write(format!("copy to {to}"), self.inner.copy_opts(from, to, options)).await
    }
}

/// An object that is put in parts; that it is complete is the write.
#[derive(Debug)]
struct FusedUpload {
    inner: Box<dyn MultipartUpload>,
    location: Path,
    fuse: Arc<Fuse>,
}

#[async_trait]
impl MultipartUpload for FusedUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (fuse, part) = (Arc::clone(&self.fuse), self.inner.put_part(data));
        async move { fuse.read(part).await }.boxed()
    }
    async fn complete(&mut self) -> object_store::Result<PutResult> {
        self.fuse.write(format!("put of {} in parts", self.location), self.inner.complete()).await
    }
    async fn abort(&mut self) -> object_store::Result<()> {
        self.fuse.read(self.inner.abort()).await
    }
}
