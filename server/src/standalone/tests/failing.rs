//! A store that refuses, loses or damages some of what it is given.

use std::fmt;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMultipartOptions,
    PutOptions, PutPayload, PutResult,
};

/// What becomes of an object that is put.
pub(super) enum Put {
    Taken,
    /// The writer is told.
    Refused,
    /// It is not what was put, and the writer is not told.
    Altered(Vec<u8>),
    /// It is not there, and the writer is not told.
    Lost,
}

type OnPut = Box<dyn FnMut(&str, &[u8]) -> Put + Send>;
type Named = Box<dyn Fn(&str) -> bool + Send>;

/// An object store that does what it should until it is told otherwise.
pub(super) struct FailingStore {
    inner: Arc<dyn ObjectStore>,
    on_put: Mutex<Option<OnPut>>,
    garbled: Mutex<Option<Named>>,
}

impl FailingStore {
    pub(super) fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self { inner, on_put: Mutex::default(), garbled: Mutex::default() }
    }

    /// From now on it does with what is put, by name and bytes, what `on_put` says.
    pub(super) fn on_put(&self, on_put: impl FnMut(&str, &[u8]) -> Put + Send + 'static) {
        *self.on_put.lock().unwrap() = Some(Box::new(on_put));
    }

    /// From now on it refuses what `refuses` says.
    pub(super) fn refuse(&self, refuses: impl Fn(&str, &[u8]) -> bool + Send + 'static) {
        self.on_put(move |name, bytes| if refuses(name, bytes) { Put::Refused } else { Put::Taken });
    }

    /// From now on objects with such names are read as garbage, and are as they were on the store.
    pub(super) fn garble(&self, garbled: impl Fn(&str) -> bool + Send + 'static) {
        *self.garbled.lock().unwrap() = Some(Box::new(garbled));
    }

    /// It does what it should again.
    pub(super) fn heal(&self) {
        *self.on_put.lock().unwrap() = None;
        *self.garbled.lock().unwrap() = None;
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
        let put = self.on_put.lock().unwrap().as_mut().map_or(Put::Taken, |on_put| on_put(location.as_ref(), &bytes));
        match put {
            Put::Taken => self.inner.put_opts(location, payload, options).await,
            Put::Refused => Err(object_store::Error::Generic { store: "failing store", source: format!("no {location} today").into() }),
            Put::Altered(bytes) => self.inner.put_opts(location, bytes.into(), options).await,
            Put::Lost => {
                let put = self.inner.put_opts(location, payload, options).await?;
                self.inner.delete(location).await?;
                Ok(put)
            }
        }
    }
    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }
    async fn get_opts(&self, location: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        if self.garbled.lock().unwrap().as_ref().is_some_and(|garbled| garbled(location.as_ref())) {
            let garbage = Path::from("garbage");
            self.inner.put(&garbage, vec![0x5a; 1 << 20].into()).await?;
            return self.inner.get_opts(&garbage, options).await;
        }
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
