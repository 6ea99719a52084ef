//! The store that a command looks at.
//!
//! - [`open_store`] alone knows what kinds of stores there are.
//! - Opening a store for reading creates nothing, not even a folder.

use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};
use tessera_manifest::body::Body;
use tessera_manifest::env::Env;
use tessera_manifest::id::{RegionId, RegionNumber, Slot, TableId};
use tessera_manifest::log::Context;
use tessera_manifest::slot::SlotStore;
use tessera_manifest::store::{self, Location, OpenError, Options};

use super::Failure;
use crate::error::chain;
use crate::home::Home;

/// The folder of the object store in a data home.
const STORE_FOLDER: &str = "store";
/// The object that every store of a cluster has.
const CLUSTER_OBJECT: &str = "tessera.json";

/// A store and the data home that it belongs to, if it belongs to one.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) context: Context,
    home: Option<PathBuf>,
}

/// What the manifest folder of a region holds, with sizes.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    /// Records by slot, ascending.
    pub(crate) records: Vec<(Slot, u64)>,
    /// Checkpoint roots by version, ascending.
    pub(super) checkpoints: Vec<Slot>,
}

/// The store that `text` names; settings of network stores come from the environment.
fn open_store(text: &str) -> Result<Context, Failure> {
    let wrong = |error: OpenError| Failure::usage(chain(&error));
    let location = match Location::parse(text).map_err(wrong)? {
        Location::Local { folder } => Location::Local { folder: store_folder(&folder)? },
        other => other,
    };
    let opened = store::open_location(&location, &Options::from_environment()).map_err(wrong)?;
    Ok(Context::new(opened.store, opened.root, Env::system()))
}

/// The folder of the store that a data home or store is called by.
fn store_folder(folder: &FsPath) -> Result<PathBuf, Failure> {
    let text = folder.display();
    if !folder.is_dir() {
        return Err(Failure::usage(format!("'{text}' is not a folder: name a data home or the folder `store` in one")));
    }
    let inner = folder.join(STORE_FOLDER);
    let found = if inner.is_dir() { inner } else { folder.to_owned() };
    let is_store = found.join(CLUSTER_OBJECT).is_file() || has_table(&found);
    if !is_store {
        let text = format!("'{text}' is neither a data home nor a store: there is no {CLUSTER_OBJECT} and no table in {}", found.display());
        return Err(Failure::usage(text));
    }
    found.canonicalize().map_err(|error| Failure::usage(format!("cannot open '{text}': {error}")))
}

fn has_table(folder: &FsPath) -> bool {
    let names = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.into_iter().any(|name| name.to_str().and_then(id).is_some())
}

/// The data home whose lock guards the store.
fn home_of(text: &str) -> Option<PathBuf> {
    let Location::Local { folder } = Location::parse(text).ok()? else { return None };
    let store = store_folder(&folder).ok()?;
    let home = store.parent()?;
    let inside = store.file_name()? == STORE_FOLDER && (home.join("lock").is_file() || home.join("meta").is_dir());
    inside.then(|| home.to_owned())
}

/// An id as it stands in the name of a folder.
fn id(name: &str) -> Option<u32> {
    (name.len() == 10).then(|| name.parse().ok()).flatten()
}

impl Place {
    pub(crate) fn open(text: &str) -> Result<Self, Failure> {
        Ok(Self { context: open_store(text)?, home: home_of(text) })
    }

    /// The records and checkpoints of a region.
    pub(super) fn slots(&self, region: RegionId) -> SlotStore {
        SlotStore::new(Arc::clone(&self.context.store), self.context.root.manifest(region))
    }

    /// The data home that the store is in, if it is in one.
    pub(crate) fn home(&self) -> Option<&FsPath> {
        self.home.as_deref()
    }

    /// When a record was written, in milliseconds since 1970 by its writer's clock; `None` if it cannot be read any more.
    pub(crate) async fn time_of(&self, region: RegionId, slot: Slot) -> Option<u64> {
        let record = self.slots(region).read(slot).await.ok()??;
        Body::decode(&record.body).ok().map(|body| body.time_ms)
    }

    /// Takes the lock of the data home, if the store is in one, so that no server can start meanwhile.
    pub(crate) fn lock(&self) -> Result<Option<Home>, Failure> {
        let Some(home) = &self.home else { return Ok(None) };
        Home::open(home).map(Some).map_err(|error| {
            let message = error.message;
            Failure::failed(format!("the data home must not be in use while a record is written: {message}"))
        })
    }

    /// Every region that has a folder, ascending.
    pub(crate) async fn regions(&self) -> Result<Vec<RegionId>, Failure> {
        let mut regions = Vec::new();
        for table in self.folders(&self.root()).await? {
            for number in self.folders(&self.context.root.table(TableId(table))).await? {
                regions.push(RegionId::new(TableId(table), RegionNumber(number)));
            }
        }
        Ok(regions)
    }

    /// The folder of the cluster.
    fn root(&self) -> Path {
        let table = self.context.root.table(TableId(0));
        let parts: Vec<_> = table.parts().collect();
        parts.into_iter().rev().skip(1).rev().collect()
    }

    /// The folders in `folder` that are named by an id, ascending.
    async fn folders(&self, folder: &Path) -> Result<Vec<u32>, Failure> {
        let listed = self.context.store.list_with_delimiter(Some(folder)).await.map_err(|error| cannot_list(folder, &error))?;
        let mut ids: Vec<u32> = listed.common_prefixes.iter().filter_map(|path| id(path.filename()?)).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// What the manifest folder of a region holds.
    pub(crate) async fn objects(&self, region: RegionId) -> Result<Objects, Failure> {
        let layout = self.context.root.manifest(region);
        let listed = self.context.store.list(Some(&layout.folder));
        let listed: Vec<ObjectMeta> = listed.try_collect().await.map_err(|error| cannot_list(&layout.folder, &error))?;
        let mut objects = Objects::default();
        for object in listed {
            let Some(name) = object.location.filename() else { continue };
            let beside = object.location == layout.folder.clone().join(name);
            match (layout.parse(name), layout.parse_checkpoint(name)) {
                (Some(slot), _) if beside => objects.records.push((slot, object.size)),
                (_, Some(version)) if beside => objects.checkpoints.push(version),
                _ => {}
            }
        }
        objects.records.sort_unstable();
        objects.checkpoints.sort_unstable();
        Ok(objects)
    }
}

fn cannot_list(folder: &Path, error: &object_store::Error) -> Failure {
    Failure::failed(format!("cannot list '{folder}' on the object store: {}", chain(error)))
}
