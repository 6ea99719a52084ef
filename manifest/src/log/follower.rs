//! Reading along with a region's manifest.

use super::replay::Replay;
use super::{Context, slot_store};
use crate::checkpoint::Source;
use crate::error::Error;
use crate::id::{Epoch, RegionId, Slot};
use crate::slot::{self, Record};
use crate::state::RegionState;

/// A reader that stays behind a region's writer, and writes nothing.
#[derive(Debug)]
pub struct Follower {
    slots: slot::Follower,
    replay: Replay,
    /// A record that was read and could not be applied yet, because the store failed to give what it names.
    pending: Option<Record>,
}

impl Follower {
    /// Reads the newest state of the region and follows it from there.
    ///
    /// # Errors
    /// Those of [`load`](super::load).
    pub async fn open(context: &Context, region: RegionId) -> Result<Self, Error> {
        let store = slot_store(context, region);
        let mut source = Source::new(context, region, None);
        let loaded = slot::load(&store, &mut source).await?;
        if loaded.is_empty() {
            return Err(Error::NotFound { path: store.path(Slot::new(Epoch(1), 0)).to_string() });
        }
        let mut replay = Replay::from(context, source.state());
        replay.records(&loaded.history).await?;
        replay.tail = super::replay::Tail::default();
        Ok(Self { slots: slot::Follower::after(store, &loaded), replay, pending: None })
    }

    /// The state after the last record that was read.
    #[must_use]
    pub fn state(&self) -> &RegionState {
        &self.replay.state
    }

    /// Takes in the next record, if there is one; whether there was. One GET; see [`slot::Follower::poll`].
    ///
    /// # Errors
    /// [`Error::MissingRecord`] when retention has passed this follower, and damage of the record: open it anew.
    /// After a failure of the store the poll may be repeated.
    pub async fn poll(&mut self) -> Result<bool, Error> {
        if self.pending.is_none() {
            self.pending = self.slots.poll().await?;
        }
        let Some(record) = &self.pending else { return Ok(false) };
        self.replay.record(record).await?;
        self.pending = None;
        self.replay.tail = super::replay::Tail::default();
        Ok(true)
    }
}
