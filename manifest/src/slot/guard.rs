//! The protocol's guards, by name, so that the simulation can take one away and show that it is needed.
//!
//! Outside of tests every guard holds and the question costs nothing.

/// A rule of the protocol whose loss is known to break it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Guard {
    /// "Already exists" is never believed without reading the slot back.
    ReadBack,
    /// After sealing, LIST once more.
    ListAfterSeal,
    /// After meeting the seal of another opener, LIST once more.
    ListAfterFoundSeal,
    /// What is below a seal that was put ahead of a busy writer is filled or replayed.
    FillBelowAhead,
    /// A writer that met a conflict never writes again.
    FencedForEver,
    /// Seals are never deleted.
    KeepSeals,
    /// Opens are never deleted.
    KeepOpens,
}

/// Which guards hold: all of them, but for one that a test takes away.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Guards {
    #[cfg(test)]
    pub(super) without: Option<Guard>,
}

impl Guards {
    /// Whether `guard` is to be kept.
    #[cfg(test)]
    pub(super) fn hold(self, guard: Guard) -> bool {
        self.without != Some(guard)
    }

    /// Whether `guard` is to be kept.
    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "the same call as in tests, where the answer depends on it")]
    pub(super) const fn hold(self, _: Guard) -> bool {
        true
    }
}
