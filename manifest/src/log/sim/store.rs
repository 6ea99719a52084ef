//! The store as one process sees it.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result,
};

use super::world::World;

/// What becomes of a create.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Done,
    LostResponse,
    SaysExists,
    NotDone,
    ExistsWithoutObject,
    Delayed,
    DoneTwice,
}

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct SimStore {
    world: World,
    process: usize,
    /// Whether the next LIST may be stale: the first one of an opener or reader, which is the only one that may be.
    stale: Arc<AtomicBool>,
}

impl SimStore {
    pub(super) fn new(world: World, process: usize) -> Self {
        Self { world, process, stale: Arc::new(AtomicBool::new(true)) }
    }

    async fn turn(&self) {
        self.world.turn(self.process, 4).await;
    }

    /// An answer may take any time.
    async fn answer(&self) {
        if self.world.chance(1, 6) {
            self.turn().await;
        }
    }

    /// Whether a request fails that changes nothing.
    fn fails(&self) -> bool {
        self.world.is_cut_off(self.process) || (!self.world.is_healthy() && self.world.chance(1, 60))
    }

    fn fate(&self) -> Fate {
        if self.world.is_cut_off(self.process) {
            return [Fate::LostResponse, Fate::NotDone, Fate::Delayed][self.world.below(3) as usize];
        }
        if self.world.is_healthy() {
            return Fate::Done;
        }
        match self.world.below(40) {
            0 => Fate::LostResponse,
            1 => Fate::SaysExists,
            2 => Fate::NotDone,
            3 => Fate::ExistsWithoutObject,
            4 | 5 => Fate::Delayed,
            6 => Fate::DoneTwice,
            _ => Fate::Done,
        }
    }

    async fn delete(&self, path: Path) -> Result<Path> {
        let pause = if self.world.is_stormy() { 40 } else { 4 };
        self.world.turn(self.process, pause).await;
        if self.fails() || (!self.world.is_healthy() && self.world.chance(1, 8)) {
            if self.world.chance(1, 2) {
                self.world.delete_later(&path);
            }
            return Err(lost());
        }
        self.world.delete(&path);
        self.world.note(self.process, format_args!("delete {path}"));
        self.answer().await;
        Ok(path)
    }
}

impl fmt::Display for SimStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimStore")
    }
}

fn lost() -> object_store::Error {
    object_store::Error::Generic { store: "SimStore", source: "connection reset".into() }
}

fn exists(path: &Path) -> object_store::Error {
    object_store::Error::AlreadyExists { path: path.to_string(), source: "it is there".into() }
}

fn not_implemented<T>(operation: &str) -> Result<T> {
    Err(object_store::Error::NotImplemented { operation: operation.into(), implementer: "SimStore".into() })
}

#[async_trait]
impl ObjectStore for SimStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, _: PutOptions) -> Result<PutResult> {
        self.turn().await;
        let bytes = Bytes::from(payload);
        let late = location.as_ref().ends_with(".checkpoint") && self.world.is_delayed_by_storm();
        let fate = if late { Fate::Delayed } else { self.fate() };
        if matches!(fate, Fate::Delayed | Fate::DoneTwice) {
            self.world.create_later(location, bytes.clone());
        }
        let created = !matches!(fate, Fate::NotDone | Fate::ExistsWithoutObject | Fate::Delayed) && self.world.create(location, bytes);
        self.world.note(self.process, format_args!("put {location}: {fate:?}, created: {created}"));
        self.answer().await;
        match fate {
            Fate::Done | Fate::DoneTwice if created => Ok(PutResult { e_tag: None, version: None, extensions: Default::default() }),
            Fate::NotDone | Fate::Delayed | Fate::LostResponse => Err(lost()),
            _ => Err(exists(location)),
        }
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        not_implemented("multipart")
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.turn().await;
        if self.fails() {
            return Err(lost());
        }
        let found = self.world.objects().get_opts(location, options).await;
        self.world.note(self.process, format_args!("get {location}: found: {}", found.is_ok()));
        self.answer().await;
        found
    }

    async fn get_ranges(&self, _: &Path, _: &[Range<u64>]) -> Result<Vec<Bytes>> {
        not_implemented("ranges")
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let delete = move |path: Result<Path>| {
            let store = store.clone();
            async move { store.delete(path?).await }
        };
        // As real stores do it: some at a time, in any order.
        locations.map(delete).buffer_unordered(3).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.list_with_offset(prefix, &Path::default())
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        let (store, prefix, offset) = (self.clone(), prefix.cloned().unwrap_or_default(), offset.clone());
        let listing = async move {
            store.turn().await;
            if store.fails() {
                return vec![Err(lost())];
            }
            let may_be_stale = store.stale.swap(false, Ordering::Relaxed) && !store.world.is_healthy();
            let stale = may_be_stale && store.world.chance(1, 3);
            let names = store.world.list(stale).into_iter().filter(|path| path.prefix_matches(&prefix) && *path > offset);
            let listed: Vec<Result<ObjectMeta>> = names.map(|path| Ok(meta(path))).collect();
            store.world.note(store.process, format_args!("list {prefix} after '{offset}', stale: {stale}: {}", listed.len()));
            store.answer().await;
            listed
        };
        futures::stream::once(listing).flat_map(futures::stream::iter).boxed()
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        not_implemented("delimiter")
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        not_implemented("copy")
    }
}

fn meta(location: Path) -> ObjectMeta {
    ObjectMeta { location, last_modified: chrono::DateTime::UNIX_EPOCH, size: 0, e_tag: None, version: None }
}
