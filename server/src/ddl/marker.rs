//! Drop markers: `{table:010}/drop/{ulid}.json`, the object that decides that a table is dropped.
//!
//! Format 1: one JSON object `{format, min_reader, crc32, drop: {table, database, name, unix_ms, regions}}`; the
//! CRC-32 (IEEE) is over the compact JSON text of `drop` with its fields in this order.
//!
//! Invariants:
//! - A marker is created once, with an exclusive put, and never deleted.
//! - A marker with a verdict (`{ulid}.verdict.json`) is no longer ours to act on.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use serde::{Deserialize, Serialize};
use tessera_manifest::id::{RegionId, TableId, parse_ulid};

use crate::error::{Code, ServerError};

/// The format that is written.
const FORMAT: u32 = 1;

/// What was dropped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drop {
    /// The table.
    pub table: TableId,
    /// The database that it was in.
    pub database: String,
    /// Its name.
    pub name: String,
    /// When, since 1970, by the clock of the process that dropped it.
    pub unix_ms: u64,
    /// Its regions.
    pub regions: Vec<RegionId>,
}

#[derive(Serialize, Deserialize)]
struct Envelope {
    format: u32,
    min_reader: u32,
    crc32: u32,
    drop: Drop,
}

/// The versions of a marker, whatever else is in it.
#[derive(Deserialize)]
struct Versions {
    format: u32,
    min_reader: u32,
}

/// The bytes of a marker.
///
/// # Errors
/// None in practice.
pub fn encode(drop: &Drop) -> Result<Vec<u8>, ServerError> {
    let envelope = Envelope { format: FORMAT, min_reader: FORMAT, crc32: checksum(drop)?, drop: drop.clone() };
    serde_json::to_vec(&envelope).map_err(|error| ServerError::new(Code::Internal, format!("a drop marker cannot be written: {error}")))
}

/// What a marker says; `name` is the object's, for messages.
///
/// # Errors
/// A newer format, or bytes that are damaged.
pub fn decode(name: &str, bytes: &[u8]) -> Result<Drop, ServerError> {
    let damaged = |why: String| ServerError::new(Code::StorageUnavailable, format!("drop marker {name} is damaged: {why}"));
    let versions: Versions = serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
    if versions.min_reader > FORMAT {
        let message = format!(
            "drop marker {name} has format {} and needs a reader of {}; this is {FORMAT}: use a newer version",
            versions.format, versions.min_reader
        );
        return Err(ServerError::new(Code::Unsupported, message));
    }
    let envelope: Envelope = serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
    let expected = checksum(&envelope.drop)?;
    if expected != envelope.crc32 {
        return Err(damaged(format!("its checksum is {:08x}, its content has {expected:08x}", envelope.crc32)));
    }
    Ok(envelope.drop)
}

fn checksum(drop: &Drop) -> Result<u32, ServerError> {
    let text =
        serde_json::to_vec(drop).map_err(|error| ServerError::new(Code::Internal, format!("a drop marker cannot be written: {error}")))?;
    Ok(crc32fast::hash(&text))
}

fn folder(table: TableId) -> Path {
    Path::from(format!("{:010}/drop", table.0))
}

/// Writes the marker of a drop under this name, a ulid. Doing it again after a failure, or a crash, is fine: the marker is
/// there once.
///
/// # Errors
/// When the store does not take it, or does not say so. The marker may be there then.
pub async fn write(store: &Arc<dyn ObjectStore>, ulid: &str, drop: &Drop) -> Result<(), ServerError> {
    let path = Path::from(format!("{:010}/drop/{ulid}.json", drop.table.0));
    let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
    match store.put_opts(&path, PutPayload::from(encode(drop)?), options).await {
        // The name was drawn for this drop: an object that is there already is ours, from an earlier attempt.
        Ok(_) | Err(object_store::Error::AlreadyExists { .. }) => Ok(()),
        Err(error) => {
            let what = format!("it is not known whether drop marker {path} was written; the drop is decided and the table closed");
            Err(unavailable(&what, &error))
        }
    }
}

/// The drop of a table that has no verdict yet, if there is one.
///
/// # Errors
/// When the store does not answer, or the marker is damaged.
pub async fn find(store: &Arc<dyn ObjectStore>, table: TableId) -> Result<Option<Drop>, ServerError> {
    match pending(store, table).await? {
        Some(path) => read(store, &path).await.map(Some),
        None => Ok(None),
    }
}

/// What the marker at `path` says.
///
/// # Errors
/// When the store does not answer, or the marker is damaged; the message names it.
pub async fn read(store: &Arc<dyn ObjectStore>, path: &Path) -> Result<Drop, ServerError> {
    let failed = |error: object_store::Error| unavailable(&format!("drop marker {path} cannot be read"), &error);
    let bytes = store.get(path).await.map_err(failed)?.bytes().await.map_err(failed)?;
    decode(path.as_ref(), &bytes)
}

/// The name of a table's first drop marker without a verdict, if there is one.
///
/// # Errors
/// When the store does not answer.
pub async fn pending(store: &Arc<dyn ObjectStore>, table: TableId) -> Result<Option<Path>, ServerError> {
    let prefix = folder(table);
    let objects: Vec<_> =
        store.list(Some(&prefix)).try_collect().await.map_err(|error| unavailable(&format!("{prefix} cannot be listed"), &error))?;
    let names: BTreeSet<String> = objects.iter().filter_map(|object| object.location.filename().map(str::to_owned)).collect();
    for name in &names {
        let Some(ulid) = name.strip_suffix(".json").filter(|ulid| parse_ulid(ulid).is_some()) else { continue };
        if names.contains(&format!("{ulid}.verdict.json")) {
            continue;
        }
        return Ok(Some(Path::from(format!("{prefix}/{name}"))));
    }
    Ok(None)
}

fn unavailable(what: &str, error: &object_store::Error) -> ServerError {
    ServerError::new(Code::StorageUnavailable, format!("{what}: {}", crate::error::chain(error)))
}
