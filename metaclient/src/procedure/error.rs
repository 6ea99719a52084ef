//! What can go wrong with procedures.

use std::any::Any;
use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tessera_manifest::error::ErrorClass;

use super::id::ProcedureId;
use super::life::Refused;
use crate::catalog::CatalogError;
use crate::kv::KvError;
use crate::values::ValueError;

/// Why a verb on a procedure was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum ProcedureError {
    /// The store refused or failed.
    #[error("the metadata store failed")]
    Kv {
        /// How.
        #[from]
        source: KvError,
    },
    /// A stored value cannot be read.
    #[error("stored metadata cannot be read")]
    Value {
        /// Which, and why.
        #[from]
        source: ValueError,
    },
    /// There is no such procedure, or its history was dropped.
    #[error("procedure '{id}' does not exist, or is over for so long that its history was dropped")]
    NotFound {
        /// Its id.
        id: ProcedureId,
    },
    /// Something else was submitted under this id.
    #[error("procedure id '{id}' is in use by another procedure, of kind '{kind}': choose another id")]
    IdInUse {
        /// The id.
        id: ProcedureId,
        /// The kind of the one that has it.
        kind: String,
    },
    /// The record leaves no room for what is added to it later.
    #[error("procedure '{id}' has {bytes} bytes, more than the {bytes_max} that the store takes: make it smaller")]
    TooLarge {
        /// Its id.
        id: ProcedureId,
        /// Its size.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The procedure is not in a phase where that can be done.
    #[error("procedure '{id}' cannot be {verb}: {reason}")]
    Refused {
        /// Its id.
        id: ProcedureId,
        /// What was asked: cancelled, retried.
        verb: &'static str,
        /// Why not.
        reason: Refused,
    },
    /// It cannot take the place of another one.
    #[error("procedure '{id}' cannot take the place of '{by}', which does not hold all the locks that it needs")]
    LocksNotHeld {
        /// Its id.
        id: ProcedureId,
        /// The other.
        by: ProcedureId,
    },
    /// Another runner took over.
    #[error("the runner of epoch {epoch} was fenced: another runner has taken over")]
    Fenced {
        /// The epoch that is over.
        epoch: u64,
    },
    /// Others changed the same keys over and over.
    #[error("'{what}' is changed by many at once: try again")]
    Contended {
        /// What was to be changed.
        what: String,
    },
}

impl ProcedureError {
    /// What the caller should do next.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Kv { source } => source.class(),
            Self::Value { source } => source.class(),
            Self::NotFound { .. } | Self::IdInUse { .. } | Self::TooLarge { .. } | Self::Refused { .. } | Self::LocksNotHeld { .. } => {
                ErrorClass::Invalid
            }
            Self::Fenced { .. } => ErrorClass::Fenced,
            Self::Contended { .. } => ErrorClass::Retry,
        }
    }
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// Another attempt may succeed.
    #[error("a step failed and may succeed later")]
    Retryable {
        /// The cause.
        source: Box<dyn Error + Send + Sync>,
    },
    /// No attempt can succeed.
    #[error("a step failed for good")]
    Fatal {
        /// The cause.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The runner lost its epoch: nothing was written, and nothing may be.
    #[error("the runner was fenced: another runner has taken over")]
    Fenced,
}

impl StepError {
    /// A failure that another attempt may mend.
    pub fn retryable(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Retryable { source: source.into() }
    }

    /// A failure for good.
    pub fn fatal(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Fatal { source: source.into() }
    }

    /// A failure of that class: what is unavailable or only needs another try may succeed later, all else is
    /// for good.
    pub fn of_class(class: ErrorClass, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        match class {
            ErrorClass::Retry | ErrorClass::Refresh | ErrorClass::Unavailable => Self::retryable(source),
            ErrorClass::Fenced | ErrorClass::Invalid | ErrorClass::Corrupt | ErrorClass::Bug => Self::fatal(source),
        }
    }
}

impl From<KvError> for StepError {
    fn from(error: KvError) -> Self {
        Self::of_class(error.class(), error)
    }
}

impl From<CatalogError> for StepError {
    fn from(error: CatalogError) -> Self {
        Self::of_class(error.class(), error)
    }
}

impl From<ValueError> for StepError {
    fn from(error: ValueError) -> Self {
        Self::of_class(error.class(), error)
    }
}

/// What a panic in the code of a procedure says.
pub(super) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    format!("the procedure panicked: {}", text.as_deref().unwrap_or("without a message"))
}

/// Runs code of a procedure; a panic in it becomes an error. What it borrows is thrown away afterwards.
pub(super) fn sure<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| panic_message(&*panic))
}

/// An error and its causes in one line.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
