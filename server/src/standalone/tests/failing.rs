//! A store that refuses some of what it is given.

use std::fmt;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload,
    PutResult,
};

/// Whether an object with this name and these bytes is refused.
type Refuses = Box<dyn Fn(&str, &[u8]) -> bool + Send>;

/// An object store that takes everything until it is told otherwise.
pub(super) struct FailingStore {
    inner: Arc<dyn ObjectStore>,
    refuses: Mutex<Option<Refuses>>,
}

impl FailingStore {
    pub(super) fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self { inner, refuses: Mutex::default() }
    }

    /// From now on it refuses what `refuses` says.
    pub(super) fn refuse(&self, refuses: impl Fn(&str, &[u8]) -> bool + Send + 'static) {
        *self.refuses.lock().unwrap() = Some(Box::new(refuses));
    }

    /// It takes everything again.
    pub(super) fn heal(&self) {
        *self.refuses.lock().unwrap() = None;
    }
}

impl Default for FailingStore {
    fn default() -> Self {
        Self::new(Arc::new(InMemory::new()))
    }
}

impl fmt::Debug for FailingStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("failing store")
    }
}

impl fmt::Display for FailingStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("failing store")
    }
}

#[async_trait]
impl ObjectStore for FailingStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> object_store::Result<PutResult> {
        let bytes = payload.iter().flatten().copied().collect::<Vec<u8>>();
        if self.refuses.lock().unwrap().as_ref().is_some_and(|refuses| refuses(location.as_ref(), &bytes)) {
            return Err(object_store::Error::Generic { store: "failing store", source: format!("no {location} today").into() });
        }
        self.inner.put_opts(location, payload, options).await
    }
    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }
    async fn get_opts(&self, location: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.inner.get_opts(location, options).await
    }
    fn delete_stream(&self, locations: BoxStream<'static, object_store::Result<Path>>) -> BoxStream<'static, object_store::Result<Path>> {
        self.inner.delete_stream(locations)
    }
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.inner.list(prefix)
    }
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
