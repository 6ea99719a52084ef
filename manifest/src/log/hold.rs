//! Versions that this process still reads.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::id::Slot;

/// The versions of a region that are held, with how many hold each; a cheap handle. It outlives the manifest that it
/// came from, and [`Manifest::keep_holds`](super::Manifest::keep_holds) hands it to the next.
#[derive(Debug, Clone, Default)]
pub struct Holds(Arc<Mutex<BTreeMap<Slot, usize>>>);

/// Keeps a version readable while it lives. See [`Manifest::hold`](super::Manifest::hold).
#[derive(Debug)]
pub struct Hold {
    holds: Holds,
    version: Option<Slot>,
}

impl Holds {
    /// Keeps a version readable, whatever the floor does, while the hold lives. A version that the floor has passed
    /// before stays gone.
    #[must_use]
    pub fn hold(&self, version: Option<Slot>) -> Hold {
        if let Some(version) = version {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(version).or_default() += 1;
        }
        Hold { holds: self.clone(), version }
    }

    /// The oldest version that is held.
    pub(super) fn oldest(&self) -> Option<Slot> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).keys().next().copied()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let Some(version) = self.version else { return };
        let mut holds = self.holds.0.lock().unwrap_or_else(PoisonError::into_inner);
        match holds.get_mut(&version) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(holds.remove(&version)),
        }
    }
}
