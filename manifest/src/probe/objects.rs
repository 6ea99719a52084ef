//! The probe's objects: their names, and the requests about them, counted.
//!
//! Invariants:
//! - Names begin with a ulid of this probe, flat in one folder: what another probe has there is never touched, and a
//!   store that keeps empty folders keeps one.
//! - Every name that a create was sent for is remembered until it is deleted.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};

use super::ProbeError;
use crate::log::Context;

/// The objects of one probe.
#[derive(Debug)]
pub(super) struct Objects {
    store: Arc<dyn ObjectStore>,
    folder: Path,
    tag: String,
    requests: AtomicU64,
    written: Mutex<BTreeSet<Path>>,
}

/// What a LIST shows of this probe's objects.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shown {
    /// Their names within the folder.
    pub(super) names: BTreeSet<String>,
    /// Whether they came in the order of names.
    pub(super) ordered: bool,
}

impl Objects {
    /// None yet, under a fresh name.
    pub(super) fn new(context: &Context) -> Self {
        Self {
            store: Arc::clone(&context.store),
            folder: context.root.probe(),
            tag: context.env.ulid().to_string(),
            requests: AtomicU64::new(0),
            written: Mutex::default(),
        }
    }

    /// The folder that they are in.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// What is shown of the store.
    pub(super) fn store_name(&self) -> String {
        self.store.to_string()
    }

    /// Requests so far.
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// The name of an object: the kind, then what tells it from others of the kind. In the order of `number`.
    pub(super) fn name(&self, kind: &str, number: u32) -> String {
        format!("{}-{kind}-{number:06}", self.tag)
    }

    /// A name that sorts before all of a kind and after those of kinds before it.
    pub(super) fn before(&self, kind: &str) -> String {
        format!("{}-{kind}", self.tag)
    }

    /// The object of a name.
    pub(super) fn path(&self, name: &str) -> Path {
        self.folder.clone().join(name)
    }

    /// Creates an object unless there is one.
    pub(super) async fn create(&self, name: &str, bytes: Bytes) -> Result<(), object_store::Error> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let path = self.will_write(name);
        self.store.put_opts(&path, bytes.into(), options).await.map(|_| ())
    }

    /// Writes an object.
    pub(super) async fn write(&self, name: &str, bytes: Bytes) -> Result<(), ProbeError> {
        let path = self.will_write(name);
        self.store.put(&path, bytes.into()).await.map(|_| ()).map_err(|source| self.failed("write", &path, source))
    }

    /// The bytes of an object, if there is one.
    pub(super) async fn read(&self, name: &str) -> Result<Option<Bytes>, ProbeError> {
        self.count(1);
        let path = self.path(name);
        let read = async { self.store.get(&path).await?.bytes().await };
        match read.await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(self.failed("read", &path, source)),
        }
    }

    /// What a LIST of the folder, or of what is after a name in it, shows of this probe.
    pub(super) async fn list(&self, after: Option<&str>) -> Result<Shown, ProbeError> {
        self.count(1);
        let listed = match after {
            Some(name) => self.store.list_with_offset(Some(&self.folder), &self.path(name)),
            None => self.store.list(Some(&self.folder)),
        };
        let paths: Vec<Path> =
            listed.map_ok(|meta| meta.location).try_collect().await.map_err(|source| self.failed("list", &self.folder, source))?;
        let names = paths.iter().filter_map(Path::filename).filter(|name| name.starts_with(&self.tag)).map(str::to_owned);
        let names: Vec<String> = names.collect();
        let ordered = names.windows(2).all(|pair| pair[0] < pair[1]);
        Ok(Shown { names: names.into_iter().collect(), ordered })
    }

    /// Deletes an object.
    pub(super) async fn delete(&self, name: &str) -> Result<(), ProbeError> {
        self.count(1);
        let path = self.path(name);
        match self.store.delete(&path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => {
                self.written.lock().unwrap_or_else(PoisonError::into_inner).remove(&path);
                Ok(())
            }
            Err(source) => Err(self.failed("delete", &path, source)),
        }
    }

    /// Deletes what was written and not deleted yet; the number of failures.
    pub(super) async fn delete_all(&self) -> u32 {
        let paths = std::mem::take(&mut *self.written.lock().unwrap_or_else(PoisonError::into_inner));
        self.count(paths.len() as u64);
        let paths = futures::stream::iter(paths.into_iter().map(Ok)).boxed();
        let deleted = self.store.delete_stream(paths);
        deleted
            .fold(
                0,
                |failed, answer| async move { failed + u32::from(!matches!(answer, Ok(_) | Err(object_store::Error::NotFound { .. }))) },
            )
            .await
    }

    /// A failure of the store.
    pub(super) fn failed(&self, verb: &'static str, path: &Path, source: object_store::Error) -> ProbeError {
        ProbeError::Failed { store: self.store_name(), verb, path: path.to_string(), source: Box::new(source) }
    }

    fn will_write(&self, name: &str) -> Path {
        self.count(1);
        let path = self.path(name);
        self.written.lock().unwrap_or_else(PoisonError::into_inner).insert(path.clone());
        path
    }

    fn count(&self, requests: u64) {
        self.requests.fetch_add(requests, Ordering::Relaxed);
    }
}
