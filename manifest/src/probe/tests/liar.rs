//! In-memory stores that break a promise, or keep it in odd words.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// What a store does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// Creates overwrite.
    IgnoresConditions,
    /// A create looks first and writes later, in two steps.
    LooksThenWrites,
    /// The last creator wins, and all but the first are told that it exists.
    KeepsTheLast,
    /// There is no create.
    HasNoCreate,
    /// What was looked for before it existed is not found at the next look either.
    RemembersMisses,
    /// A LIST shows what there was at the LIST before.
    ListsLate,
    /// A LIST goes on showing what was deleted.
    ListsGhosts,
    /// A LIST after a name begins one name too late.
    SkipsOne,
    /// A LIST after a name is a LIST of all.
    IgnoresOffset,
    /// The first create of a name is answered "exists", and nothing is written.
    ConflictsOnce,
    /// Each create is answered "exists", and nothing is written.
    OnlyConflicts,
    /// Creates are done, and their answers are lost.
    LosesAnswers,
    /// Creates end in errors, and nothing is written.
    Fails,
    /// Nobody may write.
    Forbids,
}

#[derive(Debug, Clone)]
pub(super) struct Liar {
    pub(super) inner: Arc<InMemory>,
    manner: Manner,
    /// Names that were met before, whatever that means to the manner.
    met: Arc<Mutex<BTreeSet<Path>>>,
    listed: Arc<Mutex<Vec<ObjectMeta>>>,
}

impl Liar {
    pub(super) fn new(manner: Manner) -> Self {
        Self { inner: Arc::default(), manner, met: Arc::default(), listed: Arc::default() }
    }

    fn meet(&self, path: &Path) -> bool {
        self.met.lock().unwrap().insert(path.clone())
    }

    async fn create(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let overwrite = PutOptions { mode: PutMode::Overwrite, ..options.clone() };
        let source = || "said so".into();
        let exists = || Error::AlreadyExists { path: path.to_string(), source: source() };
        let failed = || Error::Generic { store: "Liar", source: source() };
        match self.manner {
            Manner::IgnoresConditions => self.inner.put_opts(path, payload, overwrite).await,
            Manner::LooksThenWrites => {
                let free = self.inner.head(path).await.is_err();
                tokio::task::yield_now().await;
                if free { self.inner.put_opts(path, payload, overwrite).await } else { Err(exists()) }
            }
            Manner::KeepsTheLast => {
                let first = self.meet(path);
                let put = self.inner.put_opts(path, payload, overwrite).await;
                if first { put } else { Err(exists()) }
            }
            Manner::HasNoCreate => Err(Error::NotImplemented { operation: "create".into(), implementer: "Liar".into() }),
            Manner::ConflictsOnce if self.meet(path) => Err(exists()),
            Manner::OnlyConflicts => Err(exists()),
            Manner::LosesAnswers => self.inner.put_opts(path, payload, options).await.and(Err(failed())),
            Manner::Fails => Err(failed()),
            Manner::Forbids => Err(Error::PermissionDenied { path: path.to_string(), source: source() }),
            _ => self.inner.put_opts(path, payload, options).await,
        }
    }
}

impl fmt::Display for Liar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Liar({:?})", self.manner)
    }
}

#[async_trait]
impl ObjectStore for Liar {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        match options.mode {
            PutMode::Create => self.create(location, payload, options).await,
            PutMode::Overwrite => self.inner.put_opts(location, payload, options).await,
            PutMode::Update(_) => panic!("the probe makes no conditional update"),
        }
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let found = self.inner.get_opts(location, options).await;
        if self.manner != Manner::RemembersMisses {
            return found;
        }
        match found {
            Err(_) => drop(self.meet(location)),
            Ok(_) if self.met.lock().unwrap().remove(location) => {
                return Err(Error::NotFound { path: location.to_string(), source: "from a cache".into() });
            }
            Ok(_) => {}
        }
        self.inner.get(location).await
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (store, inner) = (self.clone(), self.inner.list(prefix));
        let all = async move {
            let now: Vec<ObjectMeta> = inner.map(Result::unwrap).collect().await;
            let mut before = store.listed.lock().unwrap();
            let shown = match store.manner {
                Manner::ListsLate => std::mem::replace(&mut *before, now),
                Manner::ListsGhosts => {
                    let known: BTreeSet<Path> = before.iter().map(|meta| meta.location.clone()).collect();
                    before.extend(now.into_iter().filter(|meta| !known.contains(&meta.location)));
                    before.clone()
                }
                _ => now,
            };
            shown.into_iter().map(Ok).collect::<Vec<_>>()
        };
        futures::stream::once(all).flat_map(futures::stream::iter).boxed()
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.manner {
            Manner::SkipsOne => self.inner.list_with_offset(prefix, offset).skip(1).boxed(),
            Manner::IgnoresOffset => self.inner.list(prefix),
            _ => self.inner.list_with_offset(prefix, offset),
        }
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
