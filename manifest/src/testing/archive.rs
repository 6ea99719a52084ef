//! Everything that was ever written to a region's manifest, whatever retention deleted since, to compare with.

use std::collections::BTreeMap;

use bytes::Bytes;
use object_store::path::Path;

use super::sample::REGION;
use crate::action::Action;
use crate::body::Body;
use crate::checkpoint::SegmentDecoder;
use crate::id::{Epoch, Slot};
use crate::paths::Root;
use crate::slot::{Kind, Record};
use crate::state::{RegionState, Row, Segments};

/// The first object that ever stood under each name: what is put into a freed slot later is no part of the log.
#[derive(Debug, Clone, Default)]
pub(crate) struct Archive {
    objects: BTreeMap<Path, Bytes>,
    /// The replay from zero, as far as it was asked for.
    states: BTreeMap<Slot, RegionState>,
}

impl Archive {
    /// An object appears.
    pub(crate) fn created(&mut self, path: &Path, bytes: &Bytes) {
        self.objects.entry(path.clone()).or_insert_with(|| bytes.clone());
    }

    /// The record in `slot`.
    pub(crate) fn record(&self, slot: Slot) -> Option<Record> {
        let bytes = self.objects.get(&Root::default().manifest(REGION).path(slot))?;
        Some(Record::decode(slot, bytes).expect("actors write whole records"))
    }

    /// The states after each record of the log, from the first on, each epoch up to its first seal; by nothing but
    /// `apply`.
    pub(crate) fn states(&mut self) -> &BTreeMap<Slot, RegionState> {
        let mut state = self.states.last_key_value().map_or_else(|| RegionState::empty(REGION), |(_, state)| state.clone());
        let mut next =
            state.version().map_or(Slot::new(Epoch(1), 0), |version| if state.is_sealed() { version.next_epoch() } else { version.next() });
        while let Some(record) = self.record(next) {
            let body = Body::decode(&record.body).expect("actors write whole bodies");
            state = state.apply_record_with(next, &body.actions, &self.segments(&body.actions)).expect("actors write what can be");
            assert!(record.prev.is_none() || state.set_hash() == body.set_hash, "{next}: the set hash");
            self.states.insert(next, state.clone());
            next = if record.kind == Kind::Seal { next.next_epoch() } else { next.next() };
        }
        &self.states
    }

    /// The newest state; `None` before the first record.
    pub(crate) fn newest(&mut self) -> Option<RegionState> {
        self.states().last_key_value().map(|(_, state)| state.clone())
    }

    fn segments(&self, actions: &[Action]) -> Segments {
        let mut segments = Segments::new();
        for action in actions {
            let Action::RemapStaged(remap) = action else { continue };
            for segment in &remap.segments {
                let bytes = &self.objects[&Root::default().segment(REGION, segment.file)];
                let rows = SegmentDecoder::default().decode(segment, bytes).expect("actors write whole segments");
                let staged = |row| match row {
                    Row::Remapped(file) => file,
                    row => panic!("{row:?} in a remap"),
                };
                segments.insert(*segment, rows.into_iter().map(staged).collect());
            }
        }
        segments
    }
}
