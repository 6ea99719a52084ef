//! Going back to an earlier version, by a new one.
//!
//! Invariants:
//! - Pure: the plan follows from the two states alone, and the state machine has the last word on it.
//! - After the planned edit readers see exactly the files that they saw at the earlier version, or the plan is refused
//!   with every reason there is.

use crate::action::Edit;
use crate::file::{FileRef, Listed};
use crate::id::{ColumnId, FileKey, Generation, TxnId};
use crate::state::RegionState;

/// Why a region cannot go back to a version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// A file of that version is gone, or may go at any time.
    #[error("file {file} of that version is gone: {why}")]
    FileGone {
        /// The file.
        file: FileKey,
        /// How it ended.
        why: &'static str,
    },
    /// A file of that version stands for other rows now.
    #[error("file {file} stands for other rows now than at that version")]
    OtherScope {
        /// The file.
        file: FileKey,
    },
    /// What is known of a file is of a type that a column has no more.
    #[error("the list of files holds values of column {column} for file {file}, and the column has another type now")]
    OtherType {
        /// The file.
        file: FileKey,
        /// The column.
        column: ColumnId,
    },
    /// The region was repartitioned since.
    #[error("the region was repartitioned since: it is in generation {now:?} and was in {then:?}")]
    OtherGeneration {
        /// Now.
        now: Option<Generation>,
        /// Then.
        then: Option<Generation>,
    },
    /// A repartition is going on.
    #[error("the region is staged for txn {txn}: wait until it is resolved")]
    Staged {
        /// The repartition.
        txn: TxnId,
    },
    /// There is no region any more.
    #[error("the region was dropped or retired")]
    Ended,
}

/// Everything that stands against going back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot go back: {}", .reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct RollbackError {
    /// The reasons; at least one.
    pub reasons: Vec<Refusal>,
}

/// The edit after which readers of the region, whose state is `now`, see the files that they saw at `then`.
///
/// Rows that are not in SSTs yet stay; flush before, to take them back as well.
///
/// # Errors
/// Every reason against it.
pub fn plan_rollback(now: &RegionState, then: &RegionState) -> Result<Edit, RollbackError> {
    let generation = |state: &RegionState| state.meta().map(|meta| meta.generation);
    let mut reasons = Vec::new();
    if now.is_dropped() || now.is_retired() {
        reasons.push(Refusal::Ended);
    }
    if let Some(staging) = now.staging() {
        reasons.push(Refusal::Staged { txn: staging.stage.txn });
    }
    if generation(now) != generation(then) {
        reasons.push(Refusal::OtherGeneration { now: generation(now), then: generation(then) });
    }
    let mut restore = Vec::new();
    for (key, Listed { file, .. }) in then.files().iter() {
        match now.files().get(&key) {
            Some(listed) if listed.file.scope == file.scope => {}
            Some(_) => reasons.push(Refusal::OtherScope { file: key }),
            None => match gone(now, key) {
                Some(why) => reasons.push(Refusal::FileGone { file: key, why }),
                None => {
                    reasons.extend(retyped(now, then, &file).map(|column| Refusal::OtherType { file: key, column }));
                    restore.push(key);
                }
            },
        }
    }
    let remove = now.files().keys().filter(|key| !then.files().contains_key(key)).collect();
    match generation(now) {
        Some(generation) if reasons.is_empty() => Ok(Edit { remove, restore, ..Edit::new(generation) }),
        _ => Err(RollbackError { reasons }),
    }
}

/// The columns of which a file's statistics, rule and scope hold values and that have another type now than they had then.
fn retyped<'a>(now: &'a RegionState, then: &'a RegionState, file: &'a FileRef) -> impl Iterator<Item = ColumnId> + 'a {
    let data_type = |state: &RegionState, column: ColumnId| Some(state.meta()?.schema.column(column)?.data_type);
    let named = file.valued_columns().into_iter();
    named.filter(move |column| data_type(now, *column).is_some_and(|new| data_type(then, *column) != Some(new)))
}

/// How a file ended, if it cannot come back.
fn gone(now: &RegionState, key: FileKey) -> Option<&'static str> {
    if now.doomed().contains_key(&key) {
        return Some("it is doomed");
    }
    match now.removed().get(&key) {
        None => Some("it was deleted"),
        Some(removed) if !now.is_retained(removed) => Some("it was removed below the floor"),
        Some(removed) if !now.is_restorable(removed) => Some("a repartition took it away"),
        Some(_) => None,
    }
}
