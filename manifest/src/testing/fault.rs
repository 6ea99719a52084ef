//! A store that fails by plan, and counts its requests.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};
use tokio::sync::oneshot;

/// What happens to one create.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// The object is written, and the answer is lost.
    LostResponse,
    /// The object is written, and the answer is "already exists", as after the client's own retry.
    SaysExists,
    /// Nothing is written, and the answer is an error.
    NotDone,
}

/// An in-memory store with a plan of faults for its next creates, and a count of its requests.
#[derive(Debug, Clone, Default)]
pub(crate) struct FaultStore {
    inner: Arc<InMemory>,
    plan: Arc<Mutex<VecDeque<Fault>>>,
    requests: Arc<Mutex<Vec<&'static str>>>,
    no_deletes: Arc<AtomicBool>,
    delayed: Arc<Mutex<Option<Vec<Path>>>>,
    late: Arc<Mutex<Vec<Path>>>,
    pause: Arc<Mutex<Option<oneshot::Receiver<()>>>>,
}

impl FaultStore {
    /// The next creates meet these faults, in order.
    pub(crate) fn plan(&self, faults: impl IntoIterator<Item = Fault>) {
        self.plan.lock().unwrap().extend(faults);
    }

    /// No further create meets a fault.
    pub(crate) fn heal(&self) {
        self.plan.lock().unwrap().clear();
    }

    /// Whether deletes fail from now on.
    pub(crate) fn fail_deletes(&self, fail: bool) {
        self.no_deletes.store(fail, Ordering::Relaxed);
    }

    /// Whether deletes are answered and done only when [`land_deletes`](Self::land_deletes) is called. Those that are
    /// still on their way when this is switched off stay so.
    pub(crate) fn delay_deletes(&self, delay: bool) {
        self.no_deletes.store(false, Ordering::Relaxed);
        let mut delayed = self.delayed.lock().unwrap();
        match delay {
            true => *delayed = Some(Vec::new()),
            false => self.late.lock().unwrap().extend(delayed.take().unwrap_or_default()),
        }
    }

    /// The delayed deletes arrive; how many there were.
    pub(crate) fn land_deletes(&self) -> usize {
        let late = std::mem::take(&mut *self.late.lock().unwrap());
        for path in &late {
            self.inner.delete(path).now_or_never().expect("the in-memory store answers at once").expect("it deletes");
        }
        late.len()
    }

    /// The next create waits until what this answers with is dropped.
    pub(crate) fn pause_next_put(&self) -> oneshot::Sender<()> {
        let (go_on, pause) = oneshot::channel();
        *self.pause.lock().unwrap() = Some(pause);
        go_on
    }

    /// The kinds of the requests since the last call.
    pub(crate) fn take_requests(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }

    fn count(&self, kind: &'static str) {
        self.requests.lock().unwrap().push(kind);
    }
}

impl fmt::Display for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FaultStore")
    }
}

fn lost() -> object_store::Error {
    object_store::Error::Generic { store: "FaultStore", source: "connection reset".into() }
}

#[async_trait]
impl ObjectStore for FaultStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.count("put");
        let pause = self.pause.lock().unwrap().take();
        if let Some(pause) = pause {
            let _ = pause.await;
        }
        let fault = self.plan.lock().unwrap().pop_front().unwrap_or(Fault::None);
        match fault {
            Fault::None => self.inner.put_opts(location, payload, opts).await,
            Fault::NotDone => Err(lost()),
            Fault::LostResponse => self.inner.put_opts(location, payload, opts).await.and(Err(lost())),
            Fault::SaysExists => {
                self.inner.put_opts(location, payload, opts).await?;
                Err(object_store::Error::AlreadyExists { path: location.to_string(), source: "again".into() })
            }
        }
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.count("get");
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.count("delete");
        if self.no_deletes.load(Ordering::Relaxed) {
            return locations.map(|_| Err(lost())).boxed();
        }
        let delayed = Arc::clone(&self.delayed);
        if delayed.lock().unwrap().is_none() {
            return self.inner.delete_stream(locations);
        }
        locations.inspect_ok(move |path| delayed.lock().unwrap().iter_mut().for_each(|late| late.push(path.clone()))).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.count("list");
        self.inner.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.count("list");
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
