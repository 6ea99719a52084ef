//! How fast a store is, and how fast what lies under it would be.
//!
//! Each measurement first makes sure that the operation does what it should, then times every call. Rows are
//! data; how they are shown is the caller's affair. The raw peers do the same work without this crate between:
//! a redb file with durable commits, the client of etcd.

mod peer;
mod rows;
mod store;

#[cfg(feature = "etcd")]
pub use self::peer::raw_etcd;
pub use self::peer::raw_redb;
pub use self::rows::{Error, Options, Row, measure};
pub use self::store::bench;

#[cfg(test)]
mod tests;
