//! What a repartition has staged in a region of this process.

use tessera_engine::engine::Engine;
use tessera_manifest::id::{Generation, RegionId, TxnId};

/// A region that is staged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staging {
    /// The transaction.
    pub txn: TxnId,
    /// The generation that it is to have.
    pub generation: Generation,
    /// When it was staged, in milliseconds since 1970; for people only.
    pub since_unix_ms: u64,
}

/// What is staged in a region; `None` if nothing is, or if the region is not open.
#[must_use]
pub fn staging(_engine: &Engine, _region: RegionId) -> Option<Staging> {
    None
}
