//! Reading along with a region's manifest.

use super::{Context, Error, RegionId, RegionState, SlotStore, replay_record, slot_store};
use crate::id::{Epoch, Slot};
use crate::slot::{self, NoCheckpoints};

/// A reader that stays behind a region's writer, and writes nothing.
#[derive(Debug, Clone)]
pub struct Follower {
    store: SlotStore,
    slots: slot::Follower,
    state: RegionState,
}

impl Follower {
    /// Reads the newest state of the region and follows it from there.
    ///
    /// # Errors
    /// Those of [`load`](super::load).
    pub async fn open(context: &Context, region: RegionId) -> Result<Self, Error> {
        let store = slot_store(context, region);
        let loaded = slot::load(&store, &mut NoCheckpoints).await?;
        if loaded.is_empty() {
            return Err(Error::NotFound { path: store.path(Slot::new(Epoch(1), 0)).to_string() });
        }
        let state = super::replay(&store, region, &loaded.history)?;
        let slots = slot::Follower::after(store.clone(), &loaded);
        Ok(Self { store, slots, state })
    }

    /// The state after the last record that was read.
    #[must_use]
    pub fn state(&self) -> &RegionState {
        &self.state
    }

    /// Takes in the next record, if there is one; whether there was. One GET; see [`slot::Follower::poll`].
    ///
    /// # Errors
    /// [`Error::MissingRecord`] when retention has passed this follower, and damage of the record: open it anew.
    /// After a failure of the store the poll may be repeated.
    pub async fn poll(&mut self) -> Result<bool, Error> {
        let Some(record) = self.slots.poll().await? else { return Ok(false) };
        self.state = replay_record(&self.store, &self.state, &record)?;
        Ok(true)
    }
}
