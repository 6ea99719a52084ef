//! A store in memory whose reads wait as long as it is held.

use std::fmt;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload,
    PutResult,
};
use tokio::sync::watch;

/// What became of the reads of pages so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Reads {
    held: bool,
    /// They wait for the store to be released; who gives up does not any more.
    pub(super) waiting: usize,
    /// They were begun behind that.
    pub(super) begun: usize,
}

/// An object store of which pages are read when it is not held. Footers and all else are not kept back.
#[derive(Default)]
pub(super) struct HeldStore {
    inner: InMemory,
    reads: watch::Sender<Reads>,
}

impl HeldStore {
    pub(super) fn hold(&self) {
        self.reads.send_modify(|reads| reads.held = true);
    }

    pub(super) fn release(&self) {
        self.reads.send_modify(|reads| reads.held = false);
    }

    pub(super) fn reads(&self) -> Reads {
        *self.reads.borrow()
    }

    /// Waits until so many reads wait here, or more.
    pub(super) async fn is_waited_for(&self, reads: usize) {
        self.reads.subscribe().wait_for(|now| now.waiting >= reads).await.map(drop).unwrap();
    }
}

/// A read that waits.
struct Waiting<'a>(&'a watch::Sender<Reads>);

impl<'a> Waiting<'a> {
    fn among(reads: &'a watch::Sender<Reads>) -> Self {
        reads.send_modify(|reads| reads.waiting += 1);
        Self(reads)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|reads| reads.waiting -= 1);
    }
}

impl fmt::Debug for HeldStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("held store")
    }
}

impl fmt::Display for HeldStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("held store")
    }
}

#[async_trait]
impl ObjectStore for HeldStore {
    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> object_store::Result<Vec<Bytes>> {
        let waiting = Waiting::among(&self.reads);
        self.reads.subscribe().wait_for(|reads| !reads.held).await.map(drop).unwrap();
        drop(waiting);
        self.reads.send_modify(|reads| reads.begun += 1);
        self.inner.get_ranges(location, ranges).await
    }
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> object_store::Result<PutResult> {
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
