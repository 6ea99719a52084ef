//! How regions refuse work that may be tried again, and how long that is worth.

use std::time::Duration;

use tessera_engine::error::Error;
use tessera_manifest::error::ErrorClass;

use super::error::from_engine;
use super::limits;
use crate::error::{Code, ServerError};

/// How a region refused work that it surely did not begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// The region is not open here, or no more: it restarts, moved, or is gone.
    Absent,
    /// The route is of another generation than the region, or the region takes nothing for the moment.
    Stale,
}

impl Refusal {
    /// How the error refuses; `None` if nothing is won by trying again.
    #[must_use]
    pub fn of(error: &Error) -> Option<Self> {
        match error {
            Error::RegionNotFound { .. } | Error::Closed { .. } | Error::Fenced { .. } => Some(Self::Absent),
            Error::OpenFailed { source, .. } => Self::of(source),
            Error::SchemaBehind { .. } | Error::Staged { .. } => Some(Self::Stale),
            other if other.class() == ErrorClass::Refresh => Some(Self::Stale),
            _ => None,
        }
    }

    /// How long it is waited for without progress.
    #[must_use]
    pub fn wait_max(self) -> Duration {
        match self {
            Self::Absent => limits::REGION_WAIT_MAX,
            Self::Stale => limits::REPARTITION_WAIT_MAX,
        }
    }

    /// Of two refusals the one that is worth waiting for longer.
    #[must_use]
    pub fn longer(first: Option<(Self, ServerError)>, second: (Self, ServerError)) -> Option<(Self, ServerError)> {
        match first {
            Some(first) if first.0 >= second.0 => Some(first),
            _ => Some(second),
        }
    }
}

/// Work that was not done.
#[derive(Debug)]
pub struct Refused {
    /// How it was refused; `None` if nothing is won by trying again.
    pub refusal: Option<Refusal>,
    /// What to tell.
    pub error: ServerError,
}

impl Refused {
    /// What an error of a region says.
    #[must_use]
    pub fn of(error: &Error) -> Self {
        Self { refusal: Refusal::of(error), error: from_engine(error) }
    }

    /// An error that is not tried again.
    #[must_use]
    pub fn for_good(error: ServerError) -> Self {
        Self { refusal: None, error }
    }

    /// An error whose code says whether it may pass.
    #[must_use]
    pub fn coded(error: ServerError) -> Self {
        let refusal = (error.code == Code::RegionBusy).then_some(Refusal::Stale);
        Self { refusal, error }
    }
}
