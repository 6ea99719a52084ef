//! Versions that this process still reads.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::id::Slot;

/// The versions that are held, with how many hold each.
#[derive(Debug, Clone, Default)]
pub(super) struct Holds(Arc<Mutex<BTreeMap<Slot, usize>>>);

/// Keeps a version readable while it lives. See [`Manifest::hold`](super::Manifest::hold).
#[derive(Debug)]
pub struct Hold {
    holds: Holds,
    version: Option<Slot>,
}

impl Holds {
    pub(super) fn hold(&self, version: Option<Slot>) -> Hold {
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
