//! Opens the object store that a URL or path names.
//!
//! ```text
//!   text ──Location::parse──▶ Location ──open──▶ store + root ──probe──▶ fit to hold a cluster
//! ```
//!
//! Invariants:
//! - Exclusive creates are sent once; everything else is repeated by the client within limits.
//! - A local folder is written with fsync.
//! - No error, no `Debug` and no `Display` of what is made here holds a secret.
//!
//! Opening sends nothing: whether the store answers, and whether it keeps its promises, the
//! [probe](crate::probe) finds out.

mod error;
mod location;
mod options;
#[cfg(any(feature = "network", test))]
mod routed;
#[cfg(feature = "network")]
mod client;
#[cfg(feature = "aws")]
mod s3;
#[cfg(feature = "azure")]
mod azure;

use std::path::Path as FsPath;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;

use crate::paths::Root;

pub use error::OpenError;
pub use location::Location;
pub use options::Options;

/// An object store, and the cluster's folder on it.
#[derive(Debug, Clone)]
pub struct Opened {
    /// The store.
    pub store: Arc<dyn ObjectStore>,
    /// The folder.
    pub root: Root,
}

/// Opens the store that `text` names; see [`Location::parse`] for its forms. A local folder must exist.
///
/// # Errors
/// [`OpenError`]: what is wrong with the text, the options or the folder.
pub fn open(text: &str, options: &Options) -> Result<Opened, OpenError> {
    open_location(&Location::parse(text)?, options)
}

/// Opens the store at `location`.
///
/// # Errors
/// As [`open`].
pub fn open_location(location: &Location, options: &Options) -> Result<Opened, OpenError> {
    let store: Arc<dyn ObjectStore> = match location {
        Location::Local { folder } => open_local(folder)?,
        Location::Memory { .. } => Arc::new(InMemory::new()),
        Location::S3 { bucket, .. } => open_s3(location, bucket, options)?,
        Location::Azure { container, account, .. } => open_azure(location, container, account.as_deref(), options)?,
    };
    Ok(Opened { store, root: Root::new(location.prefix()) })
}

fn open_local(folder: &FsPath) -> Result<Arc<dyn ObjectStore>, OpenError> {
    let store = LocalFileSystem::new_with_prefix(folder)
        .map_err(|source| OpenError::Folder { folder: folder.to_owned(), source: Box::new(source) })?;
    Ok(Arc::new(store.with_fsync(true)))
}

#[cfg(feature = "aws")]
fn open_s3(location: &Location, bucket: &str, options: &Options) -> Result<Arc<dyn ObjectStore>, OpenError> {
    Ok(Arc::new(s3::open(location, bucket, options)?))
}

#[cfg(not(feature = "aws"))]
fn open_s3(location: &Location, _: &str, _: &Options) -> Result<Arc<dyn ObjectStore>, OpenError> {
    Err(OpenError::FeatureOff { location: location.to_string(), feature: "aws" })
}

#[cfg(feature = "azure")]
fn open_azure(location: &Location, container: &str, account: Option<&str>, options: &Options) -> Result<Arc<dyn ObjectStore>, OpenError> {
    Ok(Arc::new(azure::open(location, container, account, options)?))
}

#[cfg(not(feature = "azure"))]
fn open_azure(location: &Location, _: &str, _: Option<&str>, _: &Options) -> Result<Arc<dyn ObjectStore>, OpenError> {
    Err(OpenError::FeatureOff { location: location.to_string(), feature: "azure" })
}

#[cfg(test)]
mod tests;
