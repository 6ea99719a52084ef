//! Counts requests to an object store, by component and kind.
//!
//! `tessera_store_requests_total{component, kind, outcome}`: `kind` is `put`, `get`, `list`, `delete` or `copy`; `outcome`
//! is `ok`, `missing`, `exists` or `error`. A delete of many objects counts each of them.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions,
    PutPayload, PutResult, Result,
};

/// A store whose requests are counted.
#[derive(Debug, Clone)]
pub struct Metered {
    inner: Arc<dyn ObjectStore>,
    component: &'static str,
}

impl Metered {
    /// The requests that `component` makes to `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn ObjectStore>, component: &'static str) -> Self {
        Self { inner, component }
    }

    fn count(&self, kind: &'static str, outcome: &'static str) {
        let labels = [("component", self.component), ("kind", kind), ("outcome", outcome)];
        metrics::counter!("tessera_store_requests_total", &labels).increment(1);
    }

    fn counted<T>(&self, kind: &'static str, result: Result<T>) -> Result<T> {
        self.count(kind, outcome(&result));
        result
    }
}

fn outcome<T>(result: &Result<T>) -> &'static str {
    match result {
        Ok(_) => "ok",
        Err(Error::NotFound { .. }) => "missing",
        Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => "exists",
        Err(_) => "error",
    }
}

impl fmt::Display for Metered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for Metered {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.counted("put", self.inner.put_opts(location, payload, opts).await)
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.counted("put", self.inner.put_multipart_opts(location, opts).await)
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.counted("get", self.inner.get_opts(location, options).await)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.counted("get", self.inner.get_ranges(location, ranges).await)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let metered = self.clone();
        self.inner.delete_stream(locations).map(move |deleted| metered.counted("delete", deleted)).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.count("list", "ok");
        self.inner.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.count("list", "ok");
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.counted("list", self.inner.list_with_delimiter(prefix).await)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.counted("copy", self.inner.copy_opts(from, to, options).await)
    }
}
