//! A decorator that sends exclusive creates to a client that never repeats a request, all else to one that does.
//!
//! Deletes are repeated here: the clients send them as a POST of many names, and repeat no POST whose connection broke,
//! as it does when a server closes one that was idle just then. One error then stands for all names of the request.
//!
//! Invariants:
//! - An exclusive create is sent once. A client that repeats it after a lost answer would meet its own object and
//!   say "exists"; who repeats a create must know whose bytes it may find, which only the slot log does.
//! - Neither `Debug` nor `Display` shows the clients, which hold keys.

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, RenameTargetMode, Result,
};

use crate::limits;

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
        let client = Arc::clone(&self.again);
        let delete = move |paths: Vec<Path>| {
            let client = Arc::clone(&client);
            async move { client.delete_stream(futures::stream::iter(paths.into_iter().map(Ok)).boxed()).collect().await }
        };
        let chunks = locations.try_chunks(limits::DELETES_AT_ONCE_MAX).map_err(|error| error.1);
        chunks
            .and_then(move |paths| delete_again(paths, delete.clone()).map(|answers| Ok(futures::stream::iter(answers))))
            .try_flatten()
            .boxed()
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

/// Deletes objects by requests that may be about several each, and repeats once what such a request left without an answer,
/// if its connection broke. The answers are in the order of the paths; those of the objects that two requests left without
/// one come last, and may be fewer.
pub(super) async fn delete_again<A>(paths: Vec<Path>, delete: impl Fn(Vec<Path>) -> A) -> Vec<Result<Path>>
where
    A: Future<Output = Vec<Result<Path>>>,
{
    let first = delete(paths.clone()).await;
    if !first.iter().any(|answer| answer.as_ref().is_err_and(is_broken)) {
        return first;
    }
    let gone: BTreeSet<Path> = first.into_iter().flatten().collect();
    let left: Vec<Path> = paths.iter().filter(|path| !gone.contains(*path)).cloned().collect();
    let asked = left.len();
    let second = delete(left).await;
    if second.len() != asked {
        return paths.into_iter().filter(|path| gone.contains(path)).map(Ok).chain(second).collect();
    }
    let mut second = second.into_iter();
    let answer_of = |path: Path| match gone.contains(&path) {
        true => Some(Ok(path)),
        // The request without an answer may have deleted what is not found now.
        false => second.next().map(|answer| if matches!(answer, Err(Error::NotFound { .. })) { Ok(path) } else { answer }),
    };
    paths.into_iter().filter_map(answer_of).collect()
}

/// Whether a request was sent and its connection broke: the client repeats no request then that it takes for one that must
/// not be done twice.
#[cfg(feature = "network")]
fn is_broken(error: &Error) -> bool {
    use object_store::client::{HttpError, HttpErrorKind};
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<HttpError>() {
            return matches!(error.kind(), HttpErrorKind::Interrupted | HttpErrorKind::Timeout);
        }
        cause = error.source();
    }
    false
}

/// Without a network there are no connections.
#[cfg(not(feature = "network"))]
fn is_broken(_: &Error) -> bool {
    false
}
