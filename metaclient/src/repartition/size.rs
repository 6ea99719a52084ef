//! How large what is stored of a repartition can become.
//!
//! Invariant: nothing that is stored after the plan is larger than [`Data::bytes_max`] says, so that a repartition whose
//! record would not fit is refused before anything is begun. One that found out after its decision could neither go on
//! nor back.

use tessera_manifest::id::{Epoch, Generation, RegionId, Slot};

use super::group::{Cause, Event, Group, GroupStep, Times};
use super::outcome::Outcome;
use super::port::{Drained, RemapPreview, Staged, Verdict};
use super::state::{Data, Stage};
use crate::limits::{REPARTITION_TEXT_BYTES, REPARTITION_TEXTS_BYTES};

const WIDEST: Slot = Slot::new(Epoch(u32::MAX), u64::MAX);

/// The first `bytes_max` bytes of a text, or fewer: it ends with a whole character.
fn cut(text: &mut String, bytes_max: usize) {
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max));
    }
}

impl Event {
    /// The event with texts of at most `bytes_max` bytes; of notes, those that are not longer together.
    pub(super) fn bounded(mut self, bytes_max: usize) -> Self {
        match &mut self {
            Self::Failed(cause) | Self::Stalled { cause, .. } | Self::Decided { cause: Some(cause), .. } => {
                cut(&mut cause.message, bytes_max)
            }
            Self::Resolved { notes } | Self::Undone { notes } | Self::Finished { notes } => {
                let mut left = bytes_max / 2;
                for note in &mut *notes {
                    cut(note, left);
                    left -= note.len();
                }
                notes.retain(|note| !note.is_empty());
            }
            _ => {}
        }
        self
    }
}

impl Group {
    /// The group with all that may be stored of it, each part as large as it can be.
    fn fullest(&self, text_bytes: usize) -> Self {
        let regions: Vec<RegionId> = self.plan.regions().collect();
        // A quote takes two bytes in JSON. What takes more is rare in a message, and there is room for it elsewhere.
        let text = || "\"".repeat(text_bytes);
        let preview = |target| RemapPreview {
            target,
            files: u64::MAX,
            foreign_files: u64::MAX,
            bytes: u64::MAX,
            rows: u64::MAX,
            residual_files: u64::MAX,
        };
        let mut plan = self.plan.clone();
        plan.estimates = plan.targets.iter().map(|target| preview(target.region)).collect();
        Self {
            step: GroupStep::ResolveAbort,
            fenced: true,
            prepared: true,
            tries: u32::MAX,
            not_before_unix_ms: Some(u64::MAX),
            blocked: true,
            cause: Some(Cause { message: text(), code: Some(u32::MAX), region: regions.first().copied() }),
            created: plan.created().map(|target| Staged { region: target.region, version: WIDEST }).collect(),
            epochs: regions.iter().map(|region| (*region, WIDEST.epoch)).collect(),
            verdict: Some(Verdict::Commit { stages: regions.iter().map(|region| (*region, WIDEST)).collect() }),
            drained: plan.sources.iter().map(|source| widest_drained(source.region)).collect(),
            references: u64::MAX,
            notes: vec![text()],
            times: Times { fenced_unix_ms: Some(u64::MAX), decided_unix_ms: Some(u64::MAX), published_unix_ms: Some(u64::MAX) },
            commit: Generation::MAX,
            abort: Generation::MAX,
            txn: self.txn,
            plan,
        }
    }
}

fn widest_drained(region: RegionId) -> Drained {
    Drained { region, version: WIDEST, visible: tessera_manifest::set_hash::SetHash::EMPTY }
}

impl Data {
    /// Bytes of each text that is kept of a group: of a few groups all that there is to say, of many groups a little.
    pub(super) fn text_bytes(&self) -> usize {
        REPARTITION_TEXTS_BYTES
            .checked_div(self.groups.len())
            .unwrap_or(usize::MAX)
            .clamp(REPARTITION_TEXT_BYTES.0, REPARTITION_TEXT_BYTES.1)
    }

    /// The most bytes that the record of a procedure with this plan will have, but for those that every record has.
    /// `input` are those of the state that it was submitted with.
    pub(super) fn bytes_max(&self, input: usize) -> usize {
        let text_bytes = self.text_bytes();
        let groups = self.groups.iter().map(|group| group.fullest(text_bytes)).collect();
        let fullest = Self { stage: Stage::Allocate, groups, ..self.clone() };
        // What was aborted has no stages and a cause instead, which its result has too.
        let causes = self.groups.len() * (2 * text_bytes + 100);
        input + fullest.to_state().bytes.len() + Outcome::of(&fullest).to_json().len() + causes
    }
}
