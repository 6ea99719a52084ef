//! The decision of a repartition group: one object, created once, that says whether the group commits or aborts.
//!
//! ```text
//!   decide(commit) ─┐
//!                   ├─▶ PUT {table}/txn/{txn}.json, if absent ─▶ everybody reads what stands there
//!   decide(abort)  ─┘
//! ```
//!
//! Invariants:
//! - The object is the only commit point of a group: there is at most one, it is never changed, and it lives as long as
//!   the table. Whoever creates it first decides; whoever comes later is told what was decided.
//! - No answer but a clean success is believed without reading the object back. An outcome that is not known is an
//!   error, and asking again is harmless.
//! - What is decided names every region that was staged, with the version that staged it, so that no region can take
//!   another staging for the one that was decided on.
//!
//! The format is that of `docs/formats/txn.md`. Source: DESIGN section 8, step 4.

use bytes::Bytes;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::format::{self, Format};
use crate::id::{Generation, RegionId, Slot, TableId, TxnId};
use crate::log::Context;
use crate::slot::{DecodeError, NO_CRC, Once, create_once, unwrap, wrap};

/// What was decided of a repartition group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decided {
    /// The group's run.
    pub txn: TxnId,
    /// The table.
    pub table: TableId,
    /// The generation of the group's regions if it commits.
    pub commit: Generation,
    /// Their generation if it aborts.
    pub abort: Generation,
    /// Which of the two.
    pub verdict: Verdict,
}

/// How a group was decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It goes forward, and never back.
    Commit {
        /// Every region of the group with the version of its manifest that staged it, in order of region.
        stages: Vec<(RegionId, Slot)>,
    },
    /// It is as if it had not begun.
    Abort,
}

/// Why the bytes of a decision are none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TxnError {
    /// Damaged, or of a newer format.
    #[error(transparent)]
    Envelope(#[from] DecodeError),
    /// The body is not what it should be.
    #[error("the body cannot be read: {reason}")]
    Body {
        /// What is wrong with it.
        reason: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Header {
    format: u32,
    min_reader: u32,
    len: u64,
    crc32: String,
}

impl Decided {
    /// Whether it commits.
    #[must_use]
    pub fn commits(&self) -> bool {
        matches!(self.verdict, Verdict::Commit { .. })
    }

    /// The version that staged a region, if the group commits and the region is of it.
    #[must_use]
    pub fn stage_of(&self, region: RegionId) -> Option<Slot> {
        match &self.verdict {
            Verdict::Commit { stages } => stages.iter().find(|(of, _)| *of == region).map(|(_, slot)| *slot),
            Verdict::Abort => None,
        }
    }

    /// The bytes of the object.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut sorted = self.clone();
        if let Verdict::Commit { stages } = &mut sorted.verdict {
            stages.sort_unstable();
        }
        let mut body = serde_json::to_vec(&sorted).expect("ids and numbers always serialize");
        body.push(b'\n');
        let version = format::current(Format::Txn);
        let (format, min_reader, len) = (version.version, version.min_reader, body.len() as u64);
        wrap(&Header { format, min_reader, len, crc32: NO_CRC.to_owned() }, &body)
    }

    /// The decision in `bytes`.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn decode(bytes: &Bytes) -> Result<Self, TxnError> {
        let (_, body): (Header, Bytes) = unwrap(Format::Txn, bytes)?;
        let decided: Self = serde_json::from_slice(&body).map_err(|error| TxnError::Body { reason: error.to_string() })?;
        decided.check().map_err(|reason| TxnError::Body { reason })?;
        Ok(decided)
    }

    fn check(&self) -> Result<(), String> {
        if self.commit == self.abort {
            return Err(format!("generation {} is both that of a commit and that of an abort", self.commit));
        }
        let Verdict::Commit { stages } = &self.verdict else { return Ok(()) };
        if let Some((region, _)) = stages.iter().find(|(region, _)| region.table() != self.table) {
            return Err(format!("region {region} is not of table {}", self.table));
        }
        match stages.windows(2).find(|pair| pair[0].0 >= pair[1].0) {
            Some(pair) => Err(format!("region {} is named twice or out of order", pair[1].0)),
            None => Ok(()),
        }
    }
}

/// Decides a group as proposed, unless it was decided before; answers what is decided.
///
/// Idempotent, and safe against others who decide at the same time: all are told the same.
///
/// Cancel safe: it is then decided or not; ask again.
///
/// # Errors
/// [`Error::Unknown`] when the store does not say what was decided: ask again. [`Error::Body`] for a proposal that
/// cannot be, before anything is written, and for a decision that cannot be read.
pub async fn decide(context: &Context, proposal: Decided) -> Result<Decided, Error> {
    let path = context.root.txn(proposal.table, proposal.txn);
    let bytes = proposal.encode();
    // What is written is what can be read.
    let proposal = decode(&path, &proposal, &bytes)?;
    let outcome = create_once(&context.store, &path, bytes).await;
    let decided = match outcome {
        Once::Ours => proposal,
        Once::Theirs(found) => decode(&path, &proposal, &found)?,
        Once::Unknown(error) => return Err(error),
    };
    tracing::info!(txn = %decided.txn, table = %decided.table, commits = decided.commits(), "a repartition group is decided");
    Ok(decided)
}

/// What was decided of a group; `None` if nothing was yet.
///
/// # Errors
/// The store's failure; [`Error::Record`] and [`Error::Body`] for an object that cannot be read.
pub async fn read(context: &Context, table: TableId, txn: TxnId) -> Result<Option<Decided>, Error> {
    let path = context.root.txn(table, txn);
    let found = async { context.store.get(&path).await?.bytes().await };
    let bytes = match found.await {
        Ok(bytes) => bytes,
        Err(object_store::Error::NotFound { .. }) => return Ok(None),
        Err(source) => return Err(Error::store("read", &path, source)),
    };
    let decided = of_bytes(&path, &bytes)?;
    if (decided.table, decided.txn) == (table, txn) { Ok(Some(decided)) } else { Err(elsewhere(&path, &decided)) }
}

fn decode(path: &Path, wanted: &Decided, bytes: &Bytes) -> Result<Decided, Error> {
    let decided = of_bytes(path, bytes)?;
    if (decided.table, decided.txn) == (wanted.table, wanted.txn) { Ok(decided) } else { Err(elsewhere(path, &decided)) }
}

fn of_bytes(path: &Path, bytes: &Bytes) -> Result<Decided, Error> {
    let path = || path.to_string();
    Decided::decode(bytes).map_err(|error| match error {
        TxnError::Envelope(source) => Error::Record { path: path(), source },
        TxnError::Body { reason } => Error::Body { path: path(), reason },
    })
}

fn elsewhere(path: &Path, decided: &Decided) -> Error {
    let reason = format!("it is the decision of txn {} of table {}", decided.txn, decided.table);
    Error::Body { path: path.to_string(), reason }
}

#[cfg(test)]
mod tests;
