//! A decorator that sends exclusive creates to a client that never repeats a request, all else to one that does.
//!
//! Invariants:
//! - An exclusive create is sent once. A client that repeats it after a lost answer would meet its own object and
//!   say "exists"; who repeats a create must know whose bytes it may find, which only the slot log does.
//! - Neither `Debug` nor `Display` shows the clients, which hold keys.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, RenameOptions, RenameTargetMode, Result,
};

/// Two clients of one store.
pub(super) struct Routed {
    /// What is shown of the store.
    pub(super) name: String,
    /// Repeats nothing.
    pub(super) once: Arc<dyn ObjectStore>,
    /// Repeats what failed.
    pub(super) again: Arc<dyn ObjectStore>,
}

impl fmt::Debug for Routed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Routed").field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Display for Routed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Routed {
    fn put_client(&self, mode: &PutMode) -> &Arc<dyn ObjectStore> {
        match mode {
            PutMode::Overwrite => &self.again,
            PutMode::Create | PutMode::Update(_) => &self.once,
        }
    }
}

#[async_trait]
impl ObjectStore for Routed {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.put_client(&opts.mode).put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.again.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.again.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.again.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.again.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.again.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.again.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.again.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let client = if options.mode == CopyMode::Create { &self.once } else { &self.again };
        client.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        let client = if options.target_mode == RenameTargetMode::Create { &self.once } else { &self.again };
        client.rename_opts(from, to, options).await
    }
}
