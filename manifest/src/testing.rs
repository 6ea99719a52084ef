//! A store that fails on request, for the tests of this crate.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result,
};

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
}

impl FaultStore {
    /// The next creates meet these faults, in order.
    pub(crate) fn plan(&self, faults: impl IntoIterator<Item = Fault>) {
        self.plan.lock().unwrap().extend(faults);
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
        self.inner.delete_stream(locations)
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

/// A source of time and ids that counts, so that tests repeat.
#[derive(Debug, Default)]
pub(crate) struct Counting(Mutex<u128>);

impl crate::env::Source for Counting {
    fn unix_ms(&self) -> u64 {
        1_700_000_000_000
    }

    fn random_u128(&self) -> u128 {
        let mut next = self.0.lock().unwrap();
        *next += 1;
        *next
    }
}
